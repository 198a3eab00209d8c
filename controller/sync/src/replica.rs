//! felix' copy of its node's state.

use std::collections::BTreeSet;

use margay_policy::node_policy::{
    AddressSetId, Match, Peer, PolicyChange, RuleList, RuleListId, ServiceSetId,
};

use crate::diff::diff;
use crate::message::{Change, Message, NodeState, Revision};

/// What felix knows, kept up to date by the messages of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replica {
    state: NodeState,
    /// Where the state stands; `None` before anything was heard.
    revision: Option<Revision>,
    in_sync: bool,
}

/// A message that cannot be taken. The replica is as it was; the way on is a new stream from the
/// beginning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// Changes or a marker before any snapshot.
    #[error("the stream did not begin with a snapshot, and there is no state to change yet")]
    NoState,
    /// It counts in another run of the controller.
    #[error("the message belongs to run {theirs} of the controller, the state here to run {ours}")]
    OtherRun {
        /// The run of our state.
        ours: String,
        /// The run of the message.
        theirs: String,
    },
    /// Something was missed, or came twice.
    #[error("the message builds upon revision {theirs}, the state here is at revision {ours}")]
    Gap {
        /// Where we stand.
        ours: u64,
        /// Where the message begins.
        theirs: u64,
    },
    /// Revisions only go up.
    #[error("the message goes from revision {from} back to {to}")]
    Backwards {
        /// Where it begins.
        from: u64,
        /// Where it ends.
        to: u64,
    },
    /// Something refers to what is not there.
    #[error("{subject} refers to {object}, which the message did not bring and is not here")]
    Dangling {
        /// What refers.
        subject: String,
        /// To what.
        object: String,
    },
}

impl Replica {
    /// A replica that knows this already, from disk.
    pub fn resume(state: NodeState, revision: Revision) -> Self {
        Self {
            state,
            revision: Some(revision),
            in_sync: false,
        }
    }

    /// The state.
    pub fn state(&self) -> &NodeState {
        &self.state
    }

    /// Where the state stands: what to resume the stream at.
    pub fn revision(&self) -> Option<&Revision> {
        self.revision.as_ref()
    }

    /// Whether the stream said, since the last (re)connection, that nothing more is known.
    pub fn in_sync(&self) -> bool {
        self.in_sync
    }

    /// Notes that the stream is gone.
    pub fn disconnected(&mut self) {
        self.in_sync = false;
    }

    /// Takes one message and says what it changed: for a snapshot the difference to what was known.
    ///
    /// # Errors
    /// [`ReplicaError`]; nothing has changed then.
    pub fn handle(&mut self, message: Message) -> Result<Vec<Change>, ReplicaError> {
        match message {
            Message::Snapshot { revision, state } => {
                check_state(&state)?;
                let changes = diff(&self.state, &state);
                self.state = *state;
                self.revision = Some(revision);
                Ok(changes)
            }
            Message::Same { revision } => {
                if self.revision.is_none() {
                    return Err(ReplicaError::NoState);
                }
                self.revision = Some(revision);
                Ok(Vec::new())
            }
            Message::Delta {
                since,
                revision,
                changes,
            } => {
                self.check_place(&revision, since)?;
                if revision.count <= since {
                    return Err(ReplicaError::Backwards {
                        from: since,
                        to: revision.count,
                    });
                }
                self.check_changes(&changes)?;
                for change in &changes {
                    match change {
                        Change::Policy(change) => self.state.policy.apply(change),
                        Change::Network(network) => self.state.network.clone_from(network),
                    }
                }
                self.revision = Some(revision);
                Ok(changes)
            }
            Message::InSync { revision } => {
                self.check_place(&revision, revision.count)?;
                self.in_sync = true;
                Ok(Vec::new())
            }
        }
    }

    /// Whether a message that begins at `since` of `revision`'s run fits on what is here.
    fn check_place(&self, revision: &Revision, since: u64) -> Result<(), ReplicaError> {
        let ours = self.revision.as_ref().ok_or(ReplicaError::NoState)?;
        if ours.run != revision.run {
            return Err(ReplicaError::OtherRun {
                ours: ours.run.clone(),
                theirs: revision.run.clone(),
            });
        }
        if ours.count != since {
            return Err(ReplicaError::Gap {
                ours: ours.count,
                theirs: since,
            });
        }
        Ok(())
    }

    /// Walks through the changes in order: what they refer to must be there by then.
    fn check_changes(&self, changes: &[Change]) -> Result<(), ReplicaError> {
        let mut known = Known::default();
        for change in changes {
            let Change::Policy(change) = change else {
                continue;
            };
            match change {
                PolicyChange::PatchAddressSet { id, .. } => known.address_sets.put(*id),
                PolicyChange::DeleteAddressSet { id } => known.address_sets.delete(*id),
                PolicyChange::PatchServiceSet { id, .. } => known.service_sets.put(*id),
                PolicyChange::DeleteServiceSet { id } => known.service_sets.delete(*id),
                PolicyChange::PutRuleList { id, list } => {
                    self.check_list(&known, *id, list)?;
                    known.rule_lists.put(*id);
                }
                PolicyChange::DeleteRuleList { id } => known.rule_lists.delete(*id),
                PolicyChange::PutEndpoint { pod, endpoint } => {
                    for list in [endpoint.ingress, endpoint.egress].into_iter().flatten() {
                        let here = self.state.policy.rule_lists.contains_key(&list);
                        if !known.rule_lists.has(list, here) {
                            return Err(dangling(
                                format!("pod {pod}"),
                                format!("rule list {list}"),
                            ));
                        }
                    }
                }
                PolicyChange::DeleteEndpoint { .. } => {}
            }
        }
        Ok(())
    }

    fn check_list(
        &self,
        known: &Known,
        id: RuleListId,
        list: &RuleList,
    ) -> Result<(), ReplicaError> {
        let policy = &self.state.policy;
        for reference in references(list) {
            let there = match reference {
                Reference::AddressSet(set) => known
                    .address_sets
                    .has(set, policy.address_sets.contains_key(&set)),
                Reference::ServiceSet(set) => known
                    .service_sets
                    .has(set, policy.service_sets.contains_key(&set)),
            };
            if !there {
                return Err(dangling(format!("rule list {id}"), reference.to_string()));
            }
        }
        Ok(())
    }
}

/// Whether every reference inside a state holds.
fn check_state(state: &NodeState) -> Result<(), ReplicaError> {
    let all = diff(&NodeState::default(), state);
    Replica::default().check_changes(&all)
}

/// A set that a rule list uses.
#[derive(Clone, Copy)]
enum Reference {
    AddressSet(AddressSetId),
    ServiceSet(ServiceSetId),
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AddressSet(id) => write!(f, "address set {id}"),
            Self::ServiceSet(id) => write!(f, "service set {id}"),
        }
    }
}

fn references(list: &RuleList) -> impl Iterator<Item = Reference> {
    let rules = list.tiers.iter().flat_map(|tier| &tier.rules);
    rules.filter_map(|rule| match &rule.matches {
        Match::Service(id) => Some(Reference::ServiceSet(*id)),
        Match::Traffic {
            peer: Peer::Set(id),
            ..
        } => Some(Reference::AddressSet(*id)),
        Match::Traffic {
            peer: Peer::Any | Peer::Cidrs(_),
            ..
        } => None,
    })
}

fn dangling(subject: String, object: String) -> ReplicaError {
    ReplicaError::Dangling { subject, object }
}

/// What the changes so far made and removed, on top of the state.
#[derive(Default)]
struct Known {
    address_sets: Overlay<AddressSetId>,
    service_sets: Overlay<ServiceSetId>,
    rule_lists: Overlay<RuleListId>,
}

struct Overlay<K> {
    made: BTreeSet<K>,
    gone: BTreeSet<K>,
}

impl<K> Default for Overlay<K> {
    fn default() -> Self {
        Self {
            made: BTreeSet::new(),
            gone: BTreeSet::new(),
        }
    }
}

impl<K: Ord + Copy> Overlay<K> {
    fn put(&mut self, id: K) {
        self.gone.remove(&id);
        self.made.insert(id);
    }

    fn delete(&mut self, id: K) {
        self.made.remove(&id);
        self.gone.insert(id);
    }

    fn has(&self, id: K, in_state: bool) -> bool {
        self.made.contains(&id) || (in_state && !self.gone.contains(&id))
    }
}

#[cfg(test)]
mod tests;
