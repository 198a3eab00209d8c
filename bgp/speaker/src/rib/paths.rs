//! The paths of one destination.

use super::store::AttrId;

/// Who told a path, by number: 0 is ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SourceId(pub(crate) u16);

impl SourceId {
    /// What our owner announces.
    pub(crate) const OWN: Self = Self(0);
}

/// One path, in sixteen octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathRecord {
    pub(crate) attrs: AttrId,
    /// The path identifier that its source gave it (RFC 7911); 0 without.
    pub(crate) id: u32,
    pub(crate) source: SourceId,
    /// The path identifier that we give it, from 1; unique in the destination.
    pub(crate) local: u16,
    pub(crate) freshness: Freshness,
}

/// Whether the session that told a path still stands behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// It does.
    Fresh,
    /// An answer to ROUTE-REFRESH has begun and has not come to it (RFC 7313 §4).
    Refreshing,
    /// The session is lost and may come back (RFC 4724 §4.2).
    Stale,
    /// It has been lost for long: the last choice (RFC 9494 §4).
    LongStale,
}

/// All paths of one destination: the selected ones first, the best of all at their head.
#[derive(Debug, Default)]
pub(super) enum Paths {
    #[default]
    None,
    One(PathRecord),
    Many(Box<Many>),
}

#[derive(Debug)]
pub(super) struct Many {
    pub(super) selected: usize,
    pub(super) paths: Vec<PathRecord>,
}

impl Paths {
    pub(super) fn all(&self) -> &[PathRecord] {
        match self {
            Self::None => &[],
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(many) => &many.paths,
        }
    }

    pub(super) fn selected(&self) -> &[PathRecord] {
        match self {
            Self::None => &[],
            Self::One(path) => std::slice::from_ref(path),
            Self::Many(many) => &many.paths[..many.selected],
        }
    }

    /// Puts a path in where that takes no decision: there is none yet, or only one of the same source and identifier.
    /// Says what it replaced; `Err` if it takes one.
    pub(super) fn put_alone(&mut self, mut path: PathRecord) -> Result<Option<PathRecord>, ()> {
        match self {
            Self::None => {
                *self = Self::One(path);
                Ok(None)
            }
            Self::One(known) if (known.source, known.id) == (path.source, path.id) => {
                path.local = known.local;
                Ok(Some(std::mem::replace(known, path)))
            }
            Self::One(_) | Self::Many(_) => Err(()),
        }
    }

    /// Has `change` change the row of paths, and `select` bring it in order; says whether the best is another.
    pub(super) fn change(
        &mut self,
        change: impl FnOnce(&mut Vec<PathRecord>),
        select: impl FnOnce(&mut [PathRecord]) -> usize,
    ) -> bool {
        let before = self.all().first().copied();
        let mut paths = match std::mem::take(self) {
            Self::None => Vec::new(),
            Self::One(path) => vec![path],
            Self::Many(many) => many.paths,
        };
        change(&mut paths);
        *self = match paths.as_slice() {
            [] => Self::None,
            [path] => Self::One(*path),
            _ => {
                let selected = select(&mut paths);
                Self::Many(Box::new(Many { selected, paths }))
            }
        };
        match (before, self.all().first()) {
            (Some(before), Some(after)) => before.differs(after),
            (None, None) => false,
            (Some(_), None) | (None, Some(_)) => true,
        }
    }
}

impl PathRecord {
    /// Whether peers would be told something else.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        let said = |path: &Self| {
            let long = path.freshness == Freshness::LongStale;
            (path.attrs, path.source, path.id, long)
        };
        said(self) != said(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_with_one_path_takes_sixteen_octets() {
        assert_eq!(size_of::<Paths>(), 16);
    }
}
