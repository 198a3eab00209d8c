//! nf_tables: the writer's batches beside `nft -f -`, which gets a ruleset of the same shape in the words it has: every pod
//! has a policy of its own with three rules, and every policy a set of addresses.

use anyhow::Result;
use margay_dataplane::diff::{Actual, Operation, diff};
use margay_dataplane::local::{Attachment, Local};
use margay_dataplane::names;
use margay_dataplane::plan::Planner;
use margay_dataplane::ruleset::{Family, KeyValue};
use margay_felix::nft::commit;
use margay_nftnl::{Batch, Socket, TableFlags, TableId};
use margay_policy::node_policy::{AddressSetId, PolicyChange, RuleListId};
use margay_tests::lab::guard::Scratch;
use margay_tests::lab::netns::Netns;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::report::{Report, Row, ms, percentile, time};

mod memory;
mod peer;
pub(crate) mod shape;

use peer::Nft;
use shape::Shape;

/// Elements, pods, policies and whole rulesets.
///
/// # Errors
/// If a namespace cannot be had, or the kernel or `nft` refuses something.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let small = Shape {
        policies: 1_000,
        members: 100,
    };
    let large = Shape {
        policies: 10_000,
        members: 10,
    };
    install(report, small, 3, (260.0, 2.0))?;
    install(report, large, 1, (1_000.0, 7.0))?;
    deltas(report, small, true)?;
    deltas(report, large, false)
}

/// Our ruleset of a shape in a namespace of its own.
struct Ours {
    socket: Socket,
    planner: Planner,
}

fn table() -> TableId {
    TableId::inet("margay")
}

fn planner(shape: Shape) -> Planner {
    let attachments = shape.attachments();
    Planner::new(
        shape.policy(),
        Local {
            attachments,
            ..Local::default()
        },
    )
}

impl Ours {
    fn install(shape: Shape) -> Result<Self> {
        let mut ours = Self {
            socket: Socket::open()?,
            planner: planner(shape),
        };
        let operations = diff(&Actual::default(), ours.planner.ruleset());
        let mut batch = Batch::new(table(), None);
        batch.add_table(TableFlags::default());
        commit::encode(&operations, &mut batch);
        ours.socket.commit(batch)?;
        Ok(ours)
    }

    fn commit(&mut self, operations: &[Operation]) -> Result<()> {
        let mut batch = Batch::new(table(), None);
        commit::encode(operations, &mut batch);
        Ok(self.socket.commit(batch)?)
    }

    /// Plans changes of policy and writes them.
    fn apply(&mut self, changes: &[PolicyChange]) -> Result<()> {
        let plan = self.planner.apply(changes);
        self.commit(&plan.operations)
    }
}

/// Whole rulesets, from operations or text to the kernel's answer.
fn install(
    report: &mut Report,
    shape: Shape,
    rounds: u32,
    (limit, ratio): (f64, f64),
) -> Result<()> {
    let text = peer::ruleset(shape);
    let operations = diff(&Actual::default(), planner(shape).ruleset());
    let (mut ours, mut theirs, mut transient) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let scratch = Scratch::new();
        let (took, grown) = scratch.netns("ours")?.run(|| {
            let mut socket = Socket::open()?;
            let memory = memory::Peak::start()?;
            let (took, octets) = time(|| -> Result<usize> {
                let mut batch = Batch::new(table(), None);
                batch.add_table(TableFlags::default());
                commit::encode(&operations, &mut batch);
                let octets = batch.octets();
                socket.commit(batch)?;
                Ok(octets)
            });
            Ok((took, memory.grown()? / f64::from(u32::try_from(octets?)?)))
        })?;
        ours.push(took);
        transient.push(grown);
        theirs.push(scratch.netns("peer")?.run(|| {
            let (took, done) = time(|| Nft::feed(&text));
            done.map(|()| took)
        })?);
    }
    let (ours, theirs) = (percentile(&mut ours, 50), percentile(&mut theirs, 50));
    let what = format!(
        "install of {} policies × {} members",
        shape.policies, shape.members
    );
    report.add(row(&what, ours, theirs, (limit, ratio)));
    transient.sort_by(f64::total_cmp);
    let median = transient[transient.len() / 2];
    report.add(Row {
        what: format!("{what}: transient memory, in batches"),
        ours: median,
        peer: None,
        peer_name: String::new(),
        unit: "×",
        reach: "≤ 2.5 ×".to_owned(),
        reached: median <= 2.5,
    });
    Ok(())
}

/// A row in milliseconds, with a limit and how many times faster than the peer it is to be.
fn row(what: &str, ours: Duration, theirs: Duration, (limit, ratio): (f64, f64)) -> Row {
    let (ours, theirs) = (ms(ours), ms(theirs));
    Row {
        what: what.to_owned(),
        ours,
        peer: Some(theirs),
        peer_name: "nft -f -".to_owned(),
        unit: "ms",
        reach: format!("≤ {limit} ms, ≥ {ratio} × faster"),
        reached: ours <= limit && theirs / ours >= ratio,
    }
}

/// Changes of a standing ruleset.
fn deltas(report: &mut Report, shape: Shape, all: bool) -> Result<()> {
    let scratch = Scratch::new();
    let ours = scratch.netns("ours")?;
    let peer = scratch.netns("peer")?;
    peer.run(|| Nft::feed(&peer::ruleset(shape)))?;
    let [mut element, mut added, mut removed, mut pod, mut replaced] =
        ours.run(|| our_deltas(shape))?;
    let of = format!(
        "at {} policies, {} members",
        shape.policies,
        shape.policies * shape.members
    );

    let mut their_element = their(&peer, 30, |i| peer::element(shape, i))?;
    let their_element = percentile(&mut their_element, 50);
    let reach = if all { (0.04, 300.0) } else { (0.5, 200.0) };
    report.add(row(
        &format!("one set element, p50, {of}"),
        percentile(&mut element, 50),
        their_element,
        reach,
    ));
    let reach = if all { (1.0, 15.0) } else { (30.0, 1.0) };
    for (what, samples) in [
        ("member added", &mut added),
        ("member removed with a new epoch", &mut removed),
    ] {
        let what = format!("{what}, planned and written, p50, {of}");
        report.add(row(&what, percentile(samples, 50), their_element, reach));
    }
    let mut their_pod = their(&peer, 20, |i| peer::pod(shape, i))?;
    report.add(row(
        &format!("a pod with a policy added, p50, {of}"),
        percentile(&mut pod, 50),
        percentile(&mut their_pod, 50),
        reach,
    ));
    let mut their_policy = their(&peer, 20, |i| peer::replace(shape, i))?;
    report.add(row(
        &format!("a policy replaced, p50, {of}"),
        percentile(&mut replaced, 50),
        percentile(&mut their_policy, 50),
        reach,
    ));
    Ok(())
}

fn their(netns: &Netns, rounds: u32, text: impl Fn(u32) -> String + Sync) -> Result<Vec<Duration>> {
    netns.run(|| {
        (0..rounds)
            .map(|i| {
                let text = text(i);
                let (took, done) = time(|| Nft::feed(&text));
                done.map(|()| took)
            })
            .collect()
    })
}

/// Samples of: one element by itself, a member added, a member removed, a pod added, a policy replaced.
fn our_deltas(shape: Shape) -> Result<[Vec<Duration>; 5]> {
    let mut ours = Ours::install(shape)?;
    let set = names::members(Family::V4).to_owned();
    let mut element = Vec::new();
    for i in 0..2_000 {
        let key = vec![
            KeyValue::Id(Shape::set(i % shape.policies).0),
            KeyValue::Address(Shape::stranger(i)),
        ];
        let add = Operation::AddElements {
            set: set.clone(),
            elements: vec![(key.clone(), None)],
        };
        let delete = Operation::DeleteElements {
            set: set.clone(),
            keys: vec![key],
        };
        for operation in [add, delete] {
            let (took, done) = time(|| ours.commit(&[operation]));
            done?;
            element.push(took);
        }
    }
    let (mut added, mut removed, mut pods, mut replaced) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for i in 0..200 {
        let patch = |id: AddressSetId, add: BTreeSet<_>, remove: BTreeSet<_>| {
            PolicyChange::PatchAddressSet { id, add, remove }
        };
        let (id, member) = (Shape::set(i), BTreeSet::from([Shape::stranger(i)]));
        let (took, done) = time(|| ours.apply(&[patch(id, member.clone(), BTreeSet::new())]));
        done?;
        added.push(took);
        let (took, done) = time(|| ours.apply(&[patch(id, BTreeSet::new(), member)]));
        done?;
        removed.push(took);
    }
    for i in 0..100 {
        let new = shape.policies + i;
        let changes = shape.pod_changes(new);
        let attachment: Attachment = Shape::attachment(new);
        let (took, done) = time(|| {
            let mut operations = ours.planner.apply(&changes).operations;
            operations.extend(ours.planner.attach(&Shape::pod(new), attachment).operations);
            ours.commit(&operations)
        });
        done?;
        pods.push(took);
    }
    for i in 0..100 {
        let new = RuleListId(u128::from(u32::MAX) + u128::from(i));
        let changes = [
            PolicyChange::PutRuleList {
                id: new,
                list: Shape::list(i, 8080),
            },
            PolicyChange::PutEndpoint {
                pod: Shape::pod(i),
                endpoint: Shape::endpoint(new),
            },
            PolicyChange::DeleteRuleList {
                id: Shape::list_id(i),
            },
        ];
        let (took, done) = time(|| ours.apply(&changes));
        done?;
        replaced.push(took);
    }
    Ok([element, added, removed, pods, replaced])
}
