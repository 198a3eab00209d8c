//! Which pools a pod's addresses come from.

use std::collections::BTreeSet;

use margay_ipam::{Family, Source};

use super::{NodeNetwork, Pool};

/// Why a pod gets its addresses of no pool. All of it may change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSource {
    /// Which pools select the namespace is not known.
    #[error(
        "the controller has not told of the namespace {0}, so it is not known which IPPools select it"
    )]
    Namespace(String),
    /// There are pools for the namespace, but not here.
    #[error(
        "of the {family} pools that select the namespace {namespace} none is enabled and meant for this node, and it uses no others: look at these IPPool objects"
    )]
    Closed {
        /// The pod's namespace.
        namespace: String,
        /// The family.
        family: Family,
    },
    /// No pool is meant for this node and a namespace that no pool selects.
    #[error("no enabled pool is meant for this node: look at the IPPool objects")]
    NoPool,
}

impl NodeNetwork {
    /// Where a pod of `namespace` gets its addresses, one of each source.
    ///
    /// Each family is looked at alone. If there are pools that select the namespace, it is these and no others, also
    /// when none of them has or may give an address; if there are none, it is the pools that are for any namespace.
    ///
    /// # Errors
    /// [`NoSource`]: then the pod has to wait.
    pub fn sources(&self, namespace: &str) -> Result<BTreeSet<Source>, NoSource> {
        let by_namespace = self.pools.iter().any(|pool| pool.namespaces.is_some());
        if by_namespace && !self.namespaces.contains(namespace) {
            return Err(NoSource::Namespace(namespace.to_owned()));
        }
        let mut sources = BTreeSet::new();
        for family in Family::BOTH {
            let selecting = self.source(family, |pool| {
                let namespaces = pool.namespaces.as_ref();
                namespaces.is_some_and(|namespaces| namespaces.contains(namespace))
            });
            match selecting {
                Some(source) if source.pools().is_empty() => {
                    return Err(NoSource::Closed {
                        namespace: namespace.to_owned(),
                        family,
                    });
                }
                Some(source) => drop(sources.insert(source)),
                None => sources.extend(self.general(family)),
            }
        }
        if sources.is_empty() {
            return Err(NoSource::NoPool);
        }
        Ok(sources)
    }

    /// Every source that a pod of this node may have, and those for namespaces that no pool selects.
    pub fn all_sources(&self) -> BTreeSet<Source> {
        let namespaces = self.namespaces.iter();
        let mut sources: BTreeSet<Source> = namespaces
            .filter_map(|namespace| self.sources(namespace).ok())
            .flatten()
            .collect();
        sources.extend(
            Family::BOTH
                .into_iter()
                .filter_map(|family| self.general(family)),
        );
        sources
    }

    /// The usable pools that are for any namespace; `None` if there is none.
    fn general(&self, family: Family) -> Option<Source> {
        let source = self.source(family, |pool| pool.namespaces.is_none());
        source.filter(|source| !source.pools().is_empty())
    }

    /// The usable ones among these pools; `None` if there are none of these at all.
    fn source(&self, family: Family, of_these: impl Fn(&Pool) -> bool) -> Option<Source> {
        let these = self.pools.iter();
        let mut these = these
            .filter(|pool| Family::of_net(pool.cidr) == family && of_these(pool))
            .peekable();
        these.peek()?;
        let usable = these.filter(|pool| pool.usable).map(|pool| pool.cidr);
        Some(Source::new(family, usable))
    }
}

#[cfg(test)]
mod tests;
