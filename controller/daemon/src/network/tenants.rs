//! Which namespaces have pods where, and their labels: what pools of namespaces depend on.

use std::collections::{BTreeMap, BTreeSet};

use margay_policy::model::{Labels, NodeName};

/// Namespaces, and the nodes that have pods of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenants {
    /// Labels of those that have an object.
    namespaces: BTreeMap<String, Labels>,
    /// How many pods of each a node has, none left out, no node without any.
    nodes: BTreeMap<NodeName, BTreeMap<String, usize>>,
}

impl Tenants {
    /// A namespace has these labels now, or no object any more. The nodes that this concerns.
    pub fn namespace(&mut self, name: &str, labels: Option<&Labels>) -> BTreeSet<NodeName> {
        if self.namespaces.get(name) == labels {
            return BTreeSet::new();
        }
        match labels {
            Some(labels) => drop(self.namespaces.insert(name.to_owned(), labels.clone())),
            None => drop(self.namespaces.remove(name)),
        }
        let nodes = self.nodes.iter();
        let concerned = nodes.filter(|(_, pods)| pods.contains_key(name));
        concerned.map(|(node, _)| node.clone()).collect()
    }

    /// A pod of a namespace was on one node, if on any, and is on the other. The nodes that have other namespaces now.
    pub fn pod(
        &mut self,
        namespace: &str,
        before: Option<&NodeName>,
        now: Option<&NodeName>,
    ) -> BTreeSet<NodeName> {
        let mut concerned = BTreeSet::new();
        if before == now {
            return concerned;
        }
        if let Some(node) = before
            && let Some(pods) = self.nodes.get_mut(node)
            && let Some(count) = pods.get_mut(namespace)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                pods.remove(namespace);
                concerned.insert(node.clone());
            }
            if pods.is_empty() {
                self.nodes.remove(node);
            }
        }
        if let Some(node) = now {
            let pods = self.nodes.entry(node.clone()).or_default();
            let count = pods.entry(namespace.to_owned()).or_default();
            *count += 1;
            if *count == 1 {
                concerned.insert(node.clone());
            }
        }
        concerned
    }

    /// The namespaces that have an object, with their labels.
    pub fn known(&self) -> impl Iterator<Item = (&str, &Labels)> {
        let known = self.namespaces.iter();
        known.map(|(name, labels)| (name.as_str(), labels))
    }

    /// Those of them that have pods on a node.
    pub fn of_node(&self, node: &NodeName) -> impl Iterator<Item = (&str, &Labels)> {
        let names = self.nodes.get(node).into_iter().flatten();
        names.filter_map(|(name, _)| {
            let (name, labels) = self.namespaces.get_key_value(name)?;
            Some((name.as_str(), labels))
        })
    }

    /// How many entries there are.
    pub fn size(&self) -> usize {
        self.namespaces.len() + self.nodes.values().map(BTreeMap::len).sum::<usize>()
    }
}
