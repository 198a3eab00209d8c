//! Who reaches whom: every pod and the host beyond, both families, expected beside seen.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use margay_policy::flow::{End, Family, Flow, Transport};
use margay_policy::model::Protocol;
use margay_policy::verdict::Evaluator;
use margay_tests::lab::cluster::Lab;
use margay_tests::lab::probe::Answer;
use margay_tests::lab::prober::Effort;

use crate::words::show_line;

/// All flows, and the verdicts of the last look.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    ends: Vec<Participant>,
    /// From, to (indices), protocol, port, family → expected and seen.
    cells: BTreeMap<Cell, Option<(bool, bool)>>,
}

#[derive(Clone, Debug)]
struct Participant {
    name: String,
    /// IPv4 and IPv6.
    ends: [End; 2],
    ports: Vec<(Transport, u16)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cell {
    from: usize,
    to: usize,
    transport: Transport,
    port: u16,
    family: Family,
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Matrix {
    /// Everything that could be tried in this lab.
    pub(super) fn new(lab: &Lab) -> Self {
        let cluster = lab.cluster();
        let mut ends: Vec<Participant> = lab
            .pods()
            .map(|(id, _)| {
                let mut ports: Vec<(Transport, u16)> = cluster.pods[id]
                    .ports
                    .iter()
                    .map(|port| (Transport::Port(port.protocol), port.number))
                    .collect();
                ports.push((Transport::Icmp, 0));
                Participant {
                    name: id.to_string(),
                    ends: [End::Pod(id.clone()), End::Pod(id.clone())],
                    ports,
                }
            })
            .collect();
        let externals = &lab.topology().externals;
        let of = |v4: bool| {
            externals
                .iter()
                .find(|address| address.is_ipv4() == v4)
                .copied()
        };
        if let (Some(v4), Some(v6)) = (of(true), of(false)) {
            let ports = vec![(Transport::Port(Protocol::Tcp), 443), (Transport::Icmp, 0)];
            let name = "the host beyond".to_owned();
            ends.push(Participant {
                name,
                ends: [End::Address(v4), End::Address(v6)],
                ports,
            });
        }
        let mut cells = BTreeMap::new();
        for from in 0..ends.len() {
            for to in (0..ends.len()).filter(|to| *to != from) {
                for &(transport, port) in &ends[to].ports {
                    for family in FAMILIES {
                        cells.insert(
                            Cell {
                                from,
                                to,
                                transport,
                                port,
                                family,
                            },
                            None,
                        );
                    }
                }
            }
        }
        Self { ends, cells }
    }

    /// Judges and tries everything.
    pub(super) fn look(&mut self, lab: &mut Lab) -> Result<()> {
        let flows: Vec<Flow> = self.cells.keys().map(|cell| self.flow(*cell)).collect();
        let answers = lab.probe(&flows, Effort::default())?;
        let cluster = lab.cluster();
        let evaluator = Evaluator::new(&cluster);
        for ((seen, flow), answer) in self.cells.values_mut().zip(&flows).zip(answers) {
            let expected = evaluator.verdict(flow)?.allow;
            *seen = match answer {
                Answer::Allow => Some((expected, true)),
                Answer::Deny(_) => Some((expected, false)),
                Answer::Skipped(_) => None,
            };
        }
        Ok(())
    }

    /// How many flows were seen otherwise than expected.
    pub(super) fn differences(&self) -> usize {
        self.cells
            .values()
            .filter(|seen| seen.is_none_or(|(expected, seen)| expected != seen))
            .count()
    }

    /// One sentence.
    pub(super) fn summary(&self) -> String {
        let allowed = self
            .cells
            .values()
            .filter(|seen| seen.is_some_and(|(_, seen)| seen))
            .count();
        format!(
            "{} flows tried, {allowed} got through, {} not as expected",
            self.cells.len(),
            self.differences()
        )
    }

    /// The first port of everyone as a table, and every difference at any port as a line.
    pub(super) fn show(&self) -> Result<()> {
        show_line(
            "  Each cell: IPv4 expected and seen, IPv6 expected and seen; ✓ reaches, · does not, ! differs.",
        )?;
        let mut header = String::new();
        for number in 1..=self.ends.len() {
            let _ = write!(header, "{number:<7}");
        }
        show_line(&format!("  {:<38}{header}", "from \\ to"))?;
        for (from, participant) in self.ends.iter().enumerate() {
            let mut line = String::new();
            for (to, other) in self.ends.iter().enumerate() {
                let mut cell = String::new();
                if let (true, Some(&(transport, port))) = (from != to, other.ports.first()) {
                    for family in FAMILIES {
                        match self
                            .cells
                            .get(&Cell {
                                from,
                                to,
                                transport,
                                port,
                                family,
                            })
                            .copied()
                            .flatten()
                        {
                            Some((expected, seen)) => {
                                cell.extend([mark(expected), mark(seen)]);
                                cell.push(if expected == seen { ' ' } else { '!' });
                            }
                            None => cell.push_str("?? "),
                        }
                    }
                }
                let _ = write!(line, "{cell:<7}");
            }
            let port = participant
                .ports
                .first()
                .map(|(transport, port)| format!("{transport} {port}"));
            let name = format!(
                "{:>2} {} ({})",
                from + 1,
                participant.name,
                port.unwrap_or_default()
            );
            show_line(&format!("  {name:<38}{}", line.trim_end()))?;
        }
        for (cell, seen) in &self.cells {
            if let Some((expected, seen)) = seen.filter(|(expected, seen)| expected != seen) {
                show_line(&format!(
                    "  ! {}: expected {}, seen {}",
                    self.flow(*cell),
                    word(expected),
                    word(seen)
                ))?;
            }
        }
        Ok(())
    }

    /// What is seen otherwise than before.
    pub(super) fn show_changes(&self, before: &Self) -> Result<()> {
        let mut changes: BTreeMap<String, (bool, Vec<&str>)> = BTreeMap::new();
        for (cell, seen) in &self.cells {
            let (Some((_, was)), Some((_, is))) =
                (before.cells.get(cell).copied().flatten(), *seen)
            else {
                continue;
            };
            if was != is {
                let (from, to) = (&self.ends[cell.from].name, &self.ends[cell.to].name);
                let what = format!("{from} → {to} {} {}", cell.transport, cell.port);
                let family = if cell.family == Family::V4 {
                    "IPv4"
                } else {
                    "IPv6"
                };
                changes
                    .entry(what)
                    .or_insert((is, Vec::new()))
                    .1
                    .push(family);
            }
        }
        for (what, (is, families)) in &changes {
            show_line(&format!(
                "  {what}, {}: {} → {}",
                families.join(" and "),
                word(!is),
                word(*is)
            ))?;
        }
        if changes.is_empty() {
            show_line("  nothing changed")?;
        }
        Ok(())
    }

    fn flow(&self, cell: Cell) -> Flow {
        let end =
            |index: usize| self.ends[index].ends[usize::from(cell.family == Family::V6)].clone();
        Flow {
            from: end(cell.from),
            to: end(cell.to),
            protocol: cell.transport,
            port: cell.port,
            family: cell.family,
        }
    }
}

fn mark(reaches: bool) -> char {
    if reaches { '✓' } else { '·' }
}

fn word(reaches: bool) -> &'static str {
    if reaches { "reaches" } else { "does not reach" }
}
