//! What a message is about: for errors and for events.

use std::fmt;

use crate::error::DecodeError;
use crate::expr::{Expr, Verdict};
use crate::object::{Element, Family, TableId};
use crate::uapi;
use crate::wire::{Attr, Attrs, NF_HEADER, take_family};

/// What a message does to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What it does.
    pub verb: Verb,
    /// To what kind of object.
    pub kind: Kind,
    /// The table.
    pub table: TableId,
    /// Name of the chain or set; for a rule its chain's, for an element its set's, for a table its own.
    pub name: String,
    /// The part that matters: the element, or the expression of the rule; empty if unknown.
    pub part: String,
}

/// What a message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Adds, or changes.
    Add,
    /// Replaces a rule.
    Replace,
    /// Deletes; it must be there.
    Delete,
    /// Deletes if it is there.
    Destroy,
}

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A table.
    Table,
    /// A chain.
    Chain,
    /// A rule, or all rules of a chain.
    Rule,
    /// A set or map.
    Set,
    /// Elements of a set or map.
    Element,
}

impl Subject {
    /// What an nf_tables message is about; `None` if it is about something that this crate has no name for.
    ///
    /// # Errors
    /// [`DecodeError`] if the message is malformed.
    pub(crate) fn of(kind: u16, flags: u16, payload: &[u8]) -> Result<Option<Self>, DecodeError> {
        if kind >> 8 != uapi::NFNL_SUBSYS_NFTABLES {
            return Ok(None);
        }
        let (verb, kind) = match kind & 0xff {
            uapi::NFT_MSG_NEWTABLE => (Verb::Add, Kind::Table),
            uapi::NFT_MSG_DELTABLE => (Verb::Delete, Kind::Table),
            uapi::NFT_MSG_DESTROYTABLE => (Verb::Destroy, Kind::Table),
            uapi::NFT_MSG_NEWCHAIN => (Verb::Add, Kind::Chain),
            uapi::NFT_MSG_DELCHAIN => (Verb::Delete, Kind::Chain),
            uapi::NFT_MSG_DESTROYCHAIN => (Verb::Destroy, Kind::Chain),
            uapi::NFT_MSG_NEWRULE if flags & uapi::NLM_F_REPLACE != 0 => {
                (Verb::Replace, Kind::Rule)
            }
            uapi::NFT_MSG_NEWRULE => (Verb::Add, Kind::Rule),
            uapi::NFT_MSG_DELRULE => (Verb::Delete, Kind::Rule),
            uapi::NFT_MSG_DESTROYRULE => (Verb::Destroy, Kind::Rule),
            uapi::NFT_MSG_NEWSET => (Verb::Add, Kind::Set),
            uapi::NFT_MSG_DELSET => (Verb::Delete, Kind::Set),
            uapi::NFT_MSG_DESTROYSET => (Verb::Destroy, Kind::Set),
            uapi::NFT_MSG_NEWSETELEM => (Verb::Add, Kind::Element),
            uapi::NFT_MSG_DELSETELEM => (Verb::Delete, Kind::Element),
            uapi::NFT_MSG_DESTROYSETELEM => (Verb::Destroy, Kind::Element),
            _ => return Ok(None),
        };
        let (family, attrs) = take_family(payload)?;
        // In all these messages attribute 1 is the table's name.
        let table = attrs
            .need(uapi::NFTA_TABLE_NAME, "name of a table")?
            .text("name of a table")?;
        let name = match kind {
            Kind::Table => Some(uapi::NFTA_TABLE_NAME),
            Kind::Chain => Some(uapi::NFTA_CHAIN_NAME),
            Kind::Rule => Some(uapi::NFTA_RULE_CHAIN),
            Kind::Set => Some(uapi::NFTA_SET_NAME),
            Kind::Element => Some(uapi::NFTA_SET_ELEM_LIST_SET),
        };
        let name = name
            .and_then(|kind| attrs.find(kind).transpose())
            .transpose()?;
        Ok(Some(Self {
            verb,
            kind,
            table: TableId {
                family: Family(family),
                name: table.to_owned(),
            },
            name: name
                .map(|name| name.text("name"))
                .transpose()?
                .unwrap_or_default()
                .to_owned(),
            part: String::new(),
        }))
    }

    /// Adds the part at an offset of the message (from its header on), where the kernel found fault with it.
    pub(crate) fn with_part_at(mut self, payload: &[u8], offset: usize) -> Self {
        self.part = part_at(self.kind, payload, offset).unwrap_or_default();
        self
    }
}

/// The list element whose octets hold the offset, in words.
fn part_at(kind: Kind, payload: &[u8], offset: usize) -> Option<String> {
    let list = match kind {
        Kind::Rule => uapi::NFTA_RULE_EXPRESSIONS,
        Kind::Element => uapi::NFTA_SET_ELEM_LIST_ELEMENTS,
        Kind::Table | Kind::Chain | Kind::Set => return None,
    };
    let attrs = Attrs(payload.get(4..)?);
    let list = attrs.find(list).ok()??;
    // `offset` counts from the message's header, `at` will count from the list's first octet
    let begin = list.value.as_ptr().addr() - payload.as_ptr().addr();
    let at = offset.checked_sub(NF_HEADER - 4 + begin)?;
    let mut end = 0;
    for element in list.nested() {
        let element: Attr<'_> = element.ok()?;
        end += (element.value.len() + 4).next_multiple_of(4);
        if at < end {
            return match kind {
                Kind::Rule => Expr::decode(element.nested())
                    .ok()
                    .map(|expr| expression(&expr)),
                Kind::Element => Element::decode(element.nested())
                    .ok()
                    .map(|element| element_words(&element)),
                Kind::Table | Kind::Chain | Kind::Set => None,
            };
        }
    }
    None
}

fn expression(expr: &Expr) -> String {
    if let Expr::Verdict(verdict) = expr {
        verdict_words(verdict)
    } else if let Expr::Lookup { set, .. } | Expr::VerdictMap { map: set, .. } = expr {
        format!("lookup in @{set}")
    } else {
        expr.name().to_owned()
    }
}

fn verdict_words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

fn element_words(element: &Element) -> String {
    let verdict = element
        .verdict
        .as_ref()
        .map(|verdict| format!(" : {}", verdict_words(verdict)));
    format!("{:?}{}", element.key, verdict.unwrap_or_default())
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Destroy => "destroy",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Chain => "chain",
            Self::Rule => "rule",
            Self::Set => "set",
            Self::Element => "element",
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verb,
            kind,
            table,
            name,
            part,
        } = self;
        write!(f, "{verb} {kind}")?;
        match kind {
            Kind::Table => return write!(f, " {table}"),
            Kind::Chain | Kind::Set => write!(f, " {name}")?,
            Kind::Rule if part.is_empty() => write!(f, " of chain {name}")?,
            Kind::Rule => write!(f, " ({part}) of chain {name}")?,
            Kind::Element if part.is_empty() => write!(f, " of set {name}")?,
            Kind::Element => write!(f, " {part} of set {name}")?,
        }
        write!(f, " in table {table}")
    }
}
