//! The writer's thread.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use margay_dataplane::epochs::Epochs;
use margay_dataplane::local::Local;
use margay_dataplane::plan::{Plan, Planner};
use margay_dataplane::rooms::Rooms;
use margay_nftnl as nft;
use margay_nftnl::{Batch, Socket, TableId};
use tokio::sync::oneshot;

use super::read::read;
use super::repair::repair;
use super::{
    Beginning, Change, Command, Found, NftError, Ownership, Report, Settings, commit, drift,
};

/// Changes that go into one batch if they wait together.
const TOGETHER: usize = 64;
/// Waits between attempts grow from the first to the last.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LAST_WAIT: Duration = Duration::from_secs(2);

type Done = oneshot::Sender<Result<(), NftError>>;

struct Writer<'a> {
    table: TableId,
    now: fn() -> Instant,
    ownership: Ownership,
    socket: Socket,
    planner: Planner,
    report: &'a dyn Fn(Report),
    /// Whether the table may not be what the planner says, and when to try again.
    broken: Option<Broken>,
    /// Whether a change of ours failed and the table was repaired since the last news of a change by others.
    repaired_unseen: bool,
}

#[derive(Clone, Copy)]
struct Broken {
    wait: Duration,
    again_at: Instant,
}

/// Whether the thread goes on.
enum Next {
    GoOn,
    End,
}

/// Works until it is told to end.
pub(super) fn run(
    settings: &Settings,
    beginning: Beginning,
    commands: &Receiver<Command>,
    sender: Sender<Command>,
    report: &dyn Fn(Report),
) {
    let mut wait = FIRST_WAIT;
    let mut later = Vec::new();
    let (mut writer, started) = loop {
        match Writer::begin(settings, &beginning, report) {
            Ok(begun) => break begun,
            Err(error) => (report)(Report::Failed {
                reason: error.to_string(),
                again_in: wait,
            }),
        }
        let again_at = (settings.now)() + wait;
        // What is asked meanwhile waits, but an end does not.
        while let Some(left) = again_at.checked_duration_since((settings.now)()) {
            match commands.recv_timeout(left) {
                Ok(Command::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(command) => later.push(command),
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        wait = (wait * 2).min(LAST_WAIT);
    };
    drop(beginning);
    let mut watch = None;
    if writer.ownership == Ownership::Shared {
        match drift::watch(&writer.table, writer.socket.portid(), settings.now, sender) {
            Ok(started) => watch = Some(started),
            Err(error) => {
                tracing::error!(%error, "changes of nf_tables by others will not be noticed");
            }
        }
        // Somebody may have changed the table before anybody listened.
        writer.try_repair(Vec::new(), "", (settings.now)());
    }
    (report)(started);
    if let Next::End = writer.take(later) {
        return;
    }
    while let Next::GoOn = writer.step(commands) {}
    drop(watch);
}

impl<'a> Writer<'a> {
    /// Reads the table, plans, and writes the difference; the report of it is for when others are listened to.
    fn begin(
        settings: &Settings,
        beginning: &Beginning,
        report: &'a dyn Fn(Report),
    ) -> Result<(Self, Report), nft::Error> {
        let table = TableId::inet(&settings.table);
        let mut socket = Socket::open()?;
        let reading = read(&mut socket, &table)?;
        let adopted = reading.table.is_some();
        let (epochs, sweep) = Epochs::adopt(&reading.actual);
        let Beginning {
            policy,
            attachments,
            nat,
        } = beginning.clone();
        let mut planner = Planner::new(
            policy,
            Local {
                attachments,
                nat,
                epochs,
                rooms: Rooms::adopt(&reading.actual),
            },
        );
        let done = repair(
            &mut socket,
            &table,
            &mut planner,
            settings.ownership,
            Some(reading),
            sweep,
        )?;
        let started = Report::Started {
            adopted,
            operations: done.operations,
            ownership: done.ownership,
        };
        let writer = Self {
            table,
            now: settings.now,
            ownership: done.ownership,
            socket,
            planner,
            report,
            broken: None,
            repaired_unseen: false,
        };
        Ok((writer, started))
    }

    /// Waits for commands and does them.
    fn step(&mut self, commands: &Receiver<Command>) -> Next {
        let first = match self.broken {
            None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(Broken { again_at, .. }) => {
                commands.recv_timeout(again_at.saturating_duration_since((self.now)()))
            }
        };
        match first {
            Ok(first) => {
                let more = commands.try_iter().take(TOGETHER - 1);
                let together = std::iter::once(first).chain(more).collect();
                self.take(together)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.try_repair(Vec::new(), "", (self.now)());
                Next::GoOn
            }
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }

    fn take(&mut self, commands: Vec<Command>) -> Next {
        let mut plans = Vec::new();
        let mut waiting = Vec::new();
        for command in commands {
            match command {
                Command::Change { change, done } => {
                    plans.push(self.plan(change));
                    waiting.push(done);
                }
                Command::Ask(look) => {
                    self.write(std::mem::take(&mut plans), std::mem::take(&mut waiting));
                    look(&self.planner);
                }
                Command::Drifted {
                    touched,
                    by,
                    noticed,
                } => {
                    self.write(std::mem::take(&mut plans), std::mem::take(&mut waiting));
                    self.try_repair(touched, &by, noticed);
                }
                Command::End => {
                    self.write(plans, waiting);
                    return Next::End;
                }
            }
        }
        self.write(plans, waiting);
        Next::GoOn
    }

    fn plan(&mut self, change: Change) -> Plan {
        match change {
            Change::Policy(changes) => self.planner.apply(&changes),
            Change::Replace(policy) => self.planner.replace(*policy),
            Change::Attach(pod, attachment) => self.planner.attach(&pod, attachment),
            Change::Detach(pod) => self.planner.detach(&pod),
            Change::Nat(nat) => self.planner.set_nat(nat),
        }
    }

    /// Writes planned changes, and tells those who wait for them.
    fn write(&mut self, plans: Vec<Plan>, waiting: Vec<Done>) {
        if waiting.is_empty() {
            return;
        }
        let result = self.commit(plans);
        for done in waiting {
            // Whoever waited may have given up.
            let _ = done.send(result.clone().map_err(NftError::Refused));
        }
    }

    fn commit(&mut self, plans: Vec<Plan>) -> Result<(), nft::Error> {
        if self.broken.is_none() {
            match self.commit_plans(&plans) {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!(%error, "a batch failed; reading the table"),
            }
        }
        // A sweep may be due still; sweeping twice is harmless, forgetting it is not.
        let sweeps = plans
            .iter()
            .filter_map(|plan| plan.sweep)
            .try_for_each(commit::sweep);
        match sweeps.and_then(|()| self.repair()) {
            Ok(_) => {
                self.repaired_unseen = true;
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                Err(error)
            }
        }
    }

    fn commit_plans(&mut self, plans: &[Plan]) -> Result<(), nft::Error> {
        plans
            .iter()
            .filter_map(|plan| plan.sweep)
            .try_for_each(commit::sweep)?;
        let mut batch = Batch::new(self.table.clone(), None);
        for Plan {
            sweep: _,
            operations,
        } in plans
        {
            commit::encode(operations, &mut batch);
        }
        self.socket.commit(batch)
    }

    /// Reads the table, makes it what it should be, and reports what was found; or `touched`, if that has been repaired already,
    /// because a change of ours met it before the news came.
    fn try_repair(&mut self, touched: Vec<Found>, by: &str, noticed: Instant) {
        let repaired_before = std::mem::take(&mut self.repaired_unseen);
        match self.repair() {
            Ok(found) => {
                let found = if found.is_empty() && repaired_before {
                    touched
                } else {
                    found
                };
                if !found.is_empty() {
                    let took = (self.now)().saturating_duration_since(noticed);
                    (self.report)(Report::Repaired {
                        found,
                        by: by.to_owned(),
                        took,
                    });
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn repair(&mut self) -> Result<Vec<Found>, nft::Error> {
        let done = repair(
            &mut self.socket,
            &self.table,
            &mut self.planner,
            self.ownership,
            None,
            None,
        )?;
        self.broken = None;
        Ok(done.found)
    }

    fn failed(&mut self, error: &nft::Error) {
        let wait = self
            .broken
            .map_or(FIRST_WAIT, |broken| (broken.wait * 2).min(LAST_WAIT));
        self.broken = Some(Broken {
            wait,
            again_at: (self.now)() + wait,
        });
        (self.report)(Report::Failed {
            reason: error.to_string(),
            again_in: wait,
        });
    }
}
