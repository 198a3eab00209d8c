//! Hearing of changes that others make to our table.

use std::collections::BTreeSet;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use margay_nftnl::{Error, Event, Events, Kind, Process, Subject, TableId};

use super::{Command, Found, What};

/// How long it may take until the thread notices that nobody listens to it any more.
const LINGER: Duration = Duration::from_secs(1);

/// The thread listens while this lives.
pub(super) struct Watch {
    _alive: Arc<()>,
}

/// Tells the writer of each commit of others that changed the table.
///
/// # Errors
/// [`Error::Socket`].
pub(super) fn watch(
    table: &TableId,
    ours: u32,
    now: fn() -> Instant,
    writer: Sender<Command>,
) -> Result<Watch, Error> {
    let mut events = Events::open()?;
    let alive = Arc::new(());
    let weak = Arc::downgrade(&alive);
    let table = table.clone();
    let spawned = std::thread::Builder::new()
        .name("nft-watch".to_owned())
        .spawn(move || listen(&mut events, &table, ours, now, &writer, &weak));
    if let Err(error) = spawned {
        tracing::error!(%error, "no thread to watch nf_tables");
    }
    Ok(Watch { _alive: alive })
}

fn listen(
    events: &mut Events,
    table: &TableId,
    ours: u32,
    now: fn() -> Instant,
    writer: &Sender<Command>,
    alive: &Weak<()>,
) {
    let mut touched = BTreeSet::new();
    while alive.strong_count() > 0 {
        let by = match events.next(Some(LINGER)) {
            Ok(None) => continue,
            Ok(Some(Event::Changed { subject, portid })) => {
                if portid != ours && subject.table == *table {
                    touched.insert(found(subject));
                }
                continue;
            }
            Ok(Some(Event::Committed {
                process, portid, ..
            })) => {
                if touched.is_empty() || portid == ours {
                    continue;
                }
                let Process { pid, name } = process;
                if pid == 0 {
                    String::new()
                } else {
                    format!("{name} (pid {pid})")
                }
            }
            // Nobody knows what was in them.
            Ok(Some(Event::Lost)) => String::new(),
            Err(error @ Error::Decode { .. }) => {
                tracing::warn!(%error, "a change of nf_tables cannot be read");
                String::new()
            }
            Err(error) => {
                tracing::error!(%error, "changes of nf_tables by others are not noticed any more");
                return;
            }
        };
        let touched = std::mem::take(&mut touched).into_iter().collect();
        if writer
            .send(Command::Drifted {
                touched,
                by,
                noticed: now(),
            })
            .is_err()
        {
            return;
        }
    }
}

fn found(subject: Subject) -> Found {
    let what = match subject.kind {
        Kind::Table => What::Table,
        Kind::Chain => What::Chain,
        Kind::Rule => What::Rule,
        Kind::Set | Kind::Element => What::Set,
    };
    let name = match what {
        What::Table => subject.table.to_string(),
        What::Chain | What::Rule | What::Set => subject.name,
    };
    Found { what, name }
}
