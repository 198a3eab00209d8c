//! Small numbers for nodes, so that what is counted per node is cheap to find and compare.

use std::collections::BTreeMap;

use crate::model::NodeName;

/// A node that has pods, or had some at the last flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeIndex(usize);

/// Names and numbers of nodes; a number is used again once its node has no pods.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    numbers: BTreeMap<NodeName, NodeIndex>,
    names: Vec<NodeName>,
    free: Vec<NodeIndex>,
}

impl Nodes {
    /// The number of a node that has one.
    pub(super) fn get(&self, name: &NodeName) -> Option<NodeIndex> {
        self.numbers.get(name).copied()
    }

    /// The number of a node.
    pub(super) fn number(&mut self, name: &NodeName) -> NodeIndex {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = if let Some(number) = self.free.pop() {
            self.names[number.0].clone_from(name);
            number
        } else {
            self.names.push(name.clone());
            NodeIndex(self.names.len() - 1)
        };
        self.numbers.insert(name.clone(), number);
        number
    }

    /// The name of a numbered node.
    pub(super) fn name(&self, number: NodeIndex) -> &NodeName {
        &self.names[number.0]
    }

    /// Forgets the nodes that are not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(NodeIndex) -> bool) {
        let free = &mut self.free;
        self.numbers.retain(|_, number| {
            let keep = keep(*number);
            if !keep {
                free.push(*number);
            }
            keep
        });
    }
}
