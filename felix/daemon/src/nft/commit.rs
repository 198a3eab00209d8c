//! Operations of the dataplane as a batch, and marks of connections.

use margay_dataplane::diff::Operation;
use margay_dataplane::epochs::{Sweep, mark};
use margay_dataplane::ruleset::EPOCH_MASK;
use margay_nftnl as nft;
use margay_nftnl::Batch;
use margay_nftnl::conntrack::Conntrack;

use super::encode;

/// Appends operations to a batch.
pub fn encode(operations: &[Operation], batch: &mut Batch) {
    for operation in operations {
        match operation {
            Operation::FlushChain { chain } => batch.flush_chain(chain),
            Operation::DeleteElements { set, keys } => {
                batch.delete_elements(set, keys.iter().flat_map(|key| encode::element(key, None)));
            }
            Operation::DeleteSet { set } => batch.delete_set(set),
            Operation::DeleteChain { chain } => batch.delete_chain(chain),
            Operation::AddSet {
                set,
                key,
                kind,
                room,
            } => batch.add_set(&encode::set(set, key, *kind, *room)),
            Operation::AddChain { chain, hook } => batch.add_chain(&encode::chain(chain, *hook)),
            Operation::AddRule { chain, rule } => batch.add_rule(chain, &encode::rule(rule)),
            Operation::AddElements { set, elements } => {
                let elements = elements
                    .iter()
                    .flat_map(|(key, verdict)| encode::element(key, verdict.as_ref()));
                batch.add_elements(set, elements);
            }
        }
    }
}

/// Clears the epochs of connections that a plan says; it goes before the plan's batch.
pub(super) fn sweep(sweep: Sweep) -> Result<(), nft::Error> {
    let cleared =
        Conntrack::open()?.clear_marks(EPOCH_MASK, mark(sweep.first)..=mark(sweep.last))?;
    tracing::debug!(
        first = sweep.first,
        last = sweep.last,
        cleared,
        "epochs of connections cleared"
    );
    Ok(())
}
