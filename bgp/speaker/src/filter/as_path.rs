//! Patterns over `AS_PATH`.

use std::fmt;
use std::str::FromStr;

use crate::types::Asn;
use crate::wire::AsPath;

/// A pattern that a whole `AS_PATH` fits, or not; the numbers of all segments in a row.
///
/// As text: `* 65000 ? 64512-65534` is anything, then 65000, then one number, then one of a range. `^`-free:
/// a pattern without `*` at an end is anchored there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsPathPattern(pub Vec<AsToken>);

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsToken {
    /// `*`: any numbers, also none.
    Any,
    /// One number from the first to the second.
    Range(Asn, Asn),
}

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no part of an AS path pattern: *, ?, a number, or a range like 64512-65534")]
pub struct PatternError(pub String);

impl FromStr for AsPathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let token = |word: &str| {
            let error = || PatternError(word.to_owned());
            let number = |text: &str| text.parse().map(Asn).map_err(|_| error());
            match word {
                "*" => Ok(AsToken::Any),
                "?" => Ok(AsToken::Range(Asn(0), Asn(u32::MAX))),
                word => match word.split_once('-') {
                    Some((low, high)) => Ok(AsToken::Range(number(low)?, number(high)?)),
                    None => number(word).map(|asn| AsToken::Range(asn, asn)),
                },
            }
        };
        text.split_whitespace()
            .map(token)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for AsPathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, token) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            match token {
                AsToken::Any => f.write_str("*")?,
                AsToken::Range(Asn(0), Asn(u32::MAX)) => f.write_str("?")?,
                AsToken::Range(low, high) if low == high => write!(f, "{low}")?,
                AsToken::Range(low, high) => write!(f, "{low}-{high}")?,
            }
        }
        Ok(())
    }
}

impl AsPathPattern {
    /// Whether the whole path fits.
    pub fn matches(&self, path: &AsPath) -> bool {
        let asns: Vec<Asn> = path
            .0
            .iter()
            .flat_map(|segment| segment.asns.iter().copied())
            .collect();
        fits(&self.0, &asns)
    }
}

/// Greedy with one place to come back to, so that no pattern takes more than tokens times numbers.
fn fits(tokens: &[AsToken], asns: &[Asn]) -> bool {
    let (mut token, mut asn) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while asn < asns.len() {
        match tokens.get(token) {
            Some(AsToken::Any) => {
                back = Some((token + 1, asn));
                token += 1;
            }
            Some(AsToken::Range(low, high)) if (low..=high).contains(&&asns[asn]) => {
                token += 1;
                asn += 1;
            }
            Some(AsToken::Range(..)) | None => match &mut back {
                Some((after, from)) => {
                    *from += 1;
                    (token, asn) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    tokens[token..].iter().all(|token| *token == AsToken::Any)
}
