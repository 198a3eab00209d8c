//! Rule lists in use, shared by the pods that have them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::canonical;
use crate::compile;
use crate::model::Direction;
use crate::node_policy::{AddressSetId, RuleList, RuleListId, ServiceSetId};
use crate::rules::PortName;
use crate::selector::Selection;

use super::idhash::IdMap;
use super::nodes::NodeIndex;

/// All that a rule list depends on; pods with equal keys have the same list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ListKey {
    pub(super) direction: Direction,
    /// Versions of the policies that select the pod and cover the direction, in order.
    pub(super) policies: Vec<(u64, Selection)>,
    /// What the named ports of their ingress rules are on the pod.
    pub(super) ports: BTreeMap<PortName, BTreeSet<u16>>,
}

/// The sets that a list uses.
#[derive(Debug)]
pub(super) struct Uses {
    pub(super) sets: BTreeSet<AddressSetId>,
    pub(super) services: BTreeSet<ServiceSetId>,
}

/// Rule lists by key and by id.
#[derive(Debug, Default)]
pub(super) struct Lists {
    keys: HashMap<Arc<ListKey>, Keyed>,
    by_id: IdMap<RuleListId, Listed>,
    /// Whether a node has a list, for those touched since the last flush; the first entry counts.
    touched: Vec<(NodeIndex, RuleListId, bool)>,
}

#[derive(Debug)]
struct Keyed {
    id: RuleListId,
    /// Pods with this key.
    pods: usize,
}

#[derive(Debug)]
struct Listed {
    list: RuleList,
    uses: Arc<Uses>,
    /// How many directions of pods of a node have the list.
    users: BTreeMap<NodeIndex, usize>,
}

impl Lists {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: RuleListId) -> Option<&RuleList> {
        self.by_id.get(&id).map(|listed| &listed.list)
    }

    /// Whether some pod has this key already.
    pub(super) fn knows(&self, key: &ListKey) -> bool {
        self.keys.contains_key(key)
    }

    /// One more pod of `node` has the list; `list` must be given unless the key is known.
    ///
    /// Returns what the list uses if the node had no use for it before.
    pub(super) fn acquire(
        &mut self,
        key: ListKey,
        list: Option<RuleList>,
        node: NodeIndex,
    ) -> (Arc<ListKey>, RuleListId, Option<Arc<Uses>>) {
        let (key, id) = if let Some((known, keyed)) = self.keys.get_key_value(&key) {
            (Arc::clone(known), keyed.id)
        } else {
            let list = list.expect("a key that is not known comes with its list");
            let id = canonical::rule_list_id(&list);
            let (sets, services) = compile::used([&list]);
            let uses = Arc::new(Uses { sets, services });
            self.by_id.entry(id).or_insert_with(|| Listed {
                list,
                uses,
                users: BTreeMap::new(),
            });
            let key = Arc::new(key);
            self.keys.insert(Arc::clone(&key), Keyed { id, pods: 0 });
            (key, id)
        };
        if let Some(keyed) = self.keys.get_mut(&key) {
            keyed.pods += 1;
        }
        let mut uses = None;
        if let Some(listed) = self.by_id.get_mut(&id) {
            let count = listed.users.entry(node).or_default();
            *count += 1;
            if *count == 1 {
                self.touched.push((node, id, false));
                uses = Some(Arc::clone(&listed.uses));
            }
        }
        (key, id, uses)
    }

    /// One pod of `node` less has the list. Returns what it used if the node has no use for it now.
    pub(super) fn release(&mut self, key: &ListKey, node: NodeIndex) -> Option<Arc<Uses>> {
        let keyed = self.keys.get_mut(key)?;
        let id = keyed.id;
        keyed.pods -= 1;
        if keyed.pods == 0 {
            self.keys.remove(key);
        }
        let listed = self.by_id.get_mut(&id)?;
        let count = listed.users.get_mut(&node)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        listed.users.remove(&node);
        self.touched.push((node, id, true));
        let uses = Arc::clone(&listed.uses);
        if listed.users.is_empty() {
            self.by_id.remove(&id);
        }
        Some(uses)
    }

    /// Tells which lists nodes use now (with the list) or no longer (without).
    pub(super) fn flush(&mut self, mut tell: impl FnMut(NodeIndex, RuleListId, Option<&RuleList>)) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_by_key(|(node, id, _)| (*node, *id));
        touched.dedup_by_key(|(node, id, _)| (*node, *id));
        for (node, id, had) in touched {
            let listed = self
                .by_id
                .get(&id)
                .filter(|listed| listed.users.contains_key(&node));
            if had != listed.is_some() {
                tell(node, id, listed.map(|listed| &listed.list));
            }
        }
    }
}
