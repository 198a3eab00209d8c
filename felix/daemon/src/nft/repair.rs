//! Bringing the table to what it should be, whatever it is.

use std::collections::BTreeSet;
use std::fmt;

use margay_dataplane::diff::{Actual, Operation, diff};
use margay_dataplane::epochs::Sweep;
use margay_dataplane::plan::Planner;
use margay_nftnl as nft;
use margay_nftnl::{Batch, Socket, TableFlags, TableId};
use nix::errno::Errno;

use super::read::{Reading, read};
use super::{Ownership, commit};

/// Something that was not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// What.
    pub what: What,
    /// Its name; a rule's is its chain's.
    pub name: String,
}

/// Kinds of things in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The table itself.
    Table,
    /// A chain.
    Chain,
    /// Rules of a chain.
    Rule,
    /// A set or map, or elements of it.
    Set,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Table => "table",
            Self::Chain => "chain",
            Self::Rule => "rule",
            Self::Set => "set",
        })
    }
}

/// Our flags where others are kept out.
const OURS: TableFlags = TableFlags::OWNER.with(TableFlags::PERSIST);

/// What a repair did.
#[derive(Clone, Debug)]
pub(super) struct Repair {
    /// What was not as it should be; empty if all was.
    pub(super) found: Vec<Found>,
    /// How many operations it took.
    pub(super) operations: usize,
    /// Whether others are kept out now.
    pub(super) ownership: Ownership,
}

/// What must happen to the table itself.
enum TableChange {
    /// Nothing.
    Keep,
    /// It gets these flags; it may not be there.
    Put(TableFlags),
    /// It cannot become ours: it is made anew, in the same batch.
    Remake(TableFlags),
}

/// Makes the table what the planner says, in one batch for the generation of `reading`, or one read anew if that is `None` or stale.
///
/// If something was not as it should be, connections may have been judged by it, and all are judged again; unless there is a
/// `sweep`, which goes before the batch.
///
/// # Errors
/// [`nft::Error`]; then nothing changed, but for what was swept.
pub(super) fn repair(
    socket: &mut Socket,
    table: &TableId,
    planner: &mut Planner,
    mut ownership: Ownership,
    reading: Option<Reading>,
    mut sweep: Option<Sweep>,
) -> Result<Repair, nft::Error> {
    let mut reading = match reading {
        Some(reading) => reading,
        None => read(socket, table)?,
    };
    // Where all epochs are swept, all is judged again anyway.
    let mut judge_again = sweep.is_none();
    loop {
        let change = table_change(reading.table.as_ref(), ownership, socket.portid());
        let actual = match change {
            TableChange::Keep | TableChange::Put(_) => reading.actual,
            TableChange::Remake(_) => Actual::default(),
        };
        let mut operations = diff(&actual, planner.ruleset());
        let found = found(table, reading.table.as_ref(), &operations);
        if !operations.is_empty() && judge_again {
            sweep = planner.rejudge().sweep;
            operations = diff(&actual, planner.ruleset());
            judge_again = false;
        }
        if let Some(sweep) = sweep {
            commit::sweep(sweep)?;
        }
        let mut batch = Batch::new(table.clone(), Some(reading.generation));
        match change {
            TableChange::Keep => {}
            TableChange::Put(flags) => batch.add_table(flags),
            TableChange::Remake(flags) => {
                batch.delete_table();
                batch.add_table(flags);
            }
        }
        commit::encode(&operations, &mut batch);
        match socket.commit(batch) {
            Ok(()) => {
                return Ok(Repair {
                    found,
                    operations: operations.len(),
                    ownership,
                });
            }
            Err(nft::Error::Stale) => {}
            Err(error) if ownership == Ownership::Exclusive && cannot_own(&error) => {
                tracing::info!(%error, "this kernel cannot give the table an owner: others can change it");
                ownership = Ownership::Shared;
            }
            Err(error) => return Err(error),
        }
        reading = read(socket, table)?;
    }
}

fn table_change(table: Option<&nft::Table>, ownership: Ownership, portid: u32) -> TableChange {
    let Some(table) = table else {
        return TableChange::Put(match ownership {
            Ownership::Exclusive => OURS,
            Ownership::Shared => TableFlags::default(),
        });
    };
    match ownership {
        Ownership::Exclusive if table.flags == OURS && table.owner == Some(portid) => {
            TableChange::Keep
        }
        // Without an owner it can be adopted; with one the kernel refuses, and says so.
        Ownership::Exclusive if table.flags.has(TableFlags::PERSIST) => TableChange::Put(OURS),
        Ownership::Exclusive if table.owner.is_some() => TableChange::Put(OURS),
        Ownership::Exclusive => TableChange::Remake(OURS),
        Ownership::Shared if table.flags.has(TableFlags::DORMANT) => {
            TableChange::Put(TableFlags(table.flags.0 & !TableFlags::DORMANT.0))
        }
        Ownership::Shared => TableChange::Keep,
    }
}

/// Whether the kernel knows no owners, or no tables that outlive them.
fn cannot_own(error: &nft::Error) -> bool {
    let unknown = |errno| matches!(errno, Errno::EOPNOTSUPP | Errno::EINVAL);
    let of_table = |subject: &nft::Subject| subject.kind == nft::Kind::Table;
    matches!(error, nft::Error::Refused { subject, errno, .. } if of_table(subject) && unknown(*errno))
}

/// What the operations that repair say was wrong.
fn found(id: &TableId, table: Option<&nft::Table>, operations: &[Operation]) -> Vec<Found> {
    let itself = || Found {
        what: What::Table,
        name: id.to_string(),
    };
    let Some(table) = table else {
        return vec![itself()];
    };
    let mut found = BTreeSet::new();
    if table.flags.has(TableFlags::DORMANT) {
        found.insert(itself());
    }
    let mut note = |what, name: &String| {
        found.insert(Found {
            what,
            name: name.clone(),
        })
    };
    for operation in operations {
        match operation {
            Operation::FlushChain { chain } | Operation::AddRule { chain, .. } => {
                note(What::Rule, chain)
            }
            Operation::DeleteChain { chain } | Operation::AddChain { chain, .. } => {
                note(What::Chain, chain)
            }
            Operation::DeleteElements { set, .. }
            | Operation::AddElements { set, .. }
            | Operation::DeleteSet { set }
            | Operation::AddSet { set, .. } => note(What::Set, set),
        };
    }
    let chains: BTreeSet<String> = found
        .iter()
        .filter(|found| found.what == What::Chain)
        .map(|found| found.name.clone())
        .collect();
    found
        .into_iter()
        .filter(|found| found.what != What::Rule || !chains.contains(&found.name))
        .collect()
}
