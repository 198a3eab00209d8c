//! What a packet pays on its way through a node: client – router – pod over veth, the router with the writer's ruleset or with no
//! rules at all. All topologies stand at once and are measured in turn, so that a busy moment hits each.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use margay_tests::lab::guard::Scratch;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::report::{Report, Row, now, percentile, time};

mod connections;
mod path;

use path::{Commits, Path, Rules};

/// Packets of a sample: as many as a socket holds, so that none is lost; and samples of each row.
const PACKETS: u32 = 200;
const ROUNDS: usize = 3_000;
/// What runs during commits.
const UNDER_COMMITS: u64 = 1_000_000;
const COMMITS: u32 = 50_000;

/// Nanoseconds per packet, connections per second, and packets lost.
///
/// # Errors
/// If the namespaces cannot be had, or nothing gets through.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let scratch = Scratch::new();
    let rules = [
        ("none", Rules::None),
        ("ct", Rules::Conntrack),
        (
            "few",
            Rules::Ours {
                pods: 10,
                policies: 1,
            },
        ),
        (
            "many",
            Rules::Ours {
                pods: 10_000,
                policies: 1,
            },
        ),
        (
            "five",
            Rules::Ours {
                pods: 1_000,
                policies: 5,
            },
        ),
    ];
    let mut paths = Vec::new();
    for (name, rules) in rules {
        paths.push(Path::create(&scratch, name, rules)?);
    }
    let [none, tracked, few, many, five] = &paths[..] else {
        unreachable!("five paths")
    };

    times(report, [none, tracked, few, many, five])?;

    rates(report, [none, tracked, many])?;
    let lost = lost_under_commits(five)?;
    report.add(Row {
        what: format!("packets lost of {UNDER_COMMITS} and more while {COMMITS} commits run"),
        ours: lost,
        peer: None,
        peer_name: String::new(),
        unit: "packets",
        reach: "0".to_owned(),
        reached: lost == 0.0,
    });
    Ok(())
}

/// Connections per second, beside no rules and beside conntrack alone.
fn rates(report: &mut Report, paths: [&Path; 3]) -> Result<()> {
    let [none, tracked, ours] = connections::rates(paths)?;
    for (peer_name, peer) in [("no rules", none), ("conntrack", tracked)] {
        report.add(Row {
            what: format!("connections per second, 10,000 pods, beside {peer_name}"),
            ours,
            peer: Some(peer),
            peer_name: peer_name.to_owned(),
            unit: "/s",
            reach: "≥ 0.85 ×".to_owned(),
            reached: ours >= 0.85 * peer,
        });
    }
    Ok(())
}

/// Nanoseconds per packet: first ones and established ones, beside no rules and beside conntrack alone.
fn times(report: &mut Report, paths: [&Path; 5]) -> Result<()> {
    let [base, tracked_new, few_new, many_new, five_new] = quartiles(paths, false)?;
    let first = [
        ("1 policy, 10 pods", few_new, 1.35),
        ("1 policy, 10,000 pods", many_new, 1.35),
        ("5 policies", five_new, 1.55),
    ];
    for (what, ours, limit) in first {
        report.add(row(
            &format!("first packet of a flow, conntrack included, {what}"),
            ours,
            base,
            limit,
        ));
    }
    report.add(Row {
        peer_name: "10 pods".to_owned(),
        reach: "within 5 %".to_owned(),
        reached: (many_new / few_new - 1.0).abs() <= 0.05,
        ..row(
            "first packet of a flow, 10,000 pods",
            many_new,
            few_new,
            1.05,
        )
    });
    let [
        base,
        tracked_established,
        few_established,
        many_established,
        five_established,
    ] = quartiles(paths, true)?;
    let established = [
        ("10 pods", few_established),
        ("10,000 pods", many_established),
        ("5 policies", five_established),
    ];
    for (what, ours) in established {
        report.add(row(
            &format!("established packet, {what}"),
            ours,
            base,
            1.15,
        ));
    }

    for (what, ours, tracked) in [
        (
            "first packet of a flow, 1 policy, beside conntrack alone",
            many_new,
            tracked_new,
        ),
        (
            "established packet, beside conntrack alone",
            many_established,
            tracked_established,
        ),
    ] {
        report.add(Row {
            peer_name: "conntrack".to_owned(),
            ..row(what, ours, tracked, 1.35)
        });
    }
    Ok(())
}

fn row(what: &str, ours: f64, base: f64, limit: f64) -> Row {
    Row {
        what: what.to_owned(),
        ours,
        peer: Some(base),
        peer_name: "no rules".to_owned(),
        unit: "ns",
        reach: format!("≤ {limit} ×"),
        reached: ours <= limit * base,
    }
}

/// A flow through a path: the client's socket, connected, and the pod's.
struct Flow {
    client: UdpSocket,
    pod: UdpSocket,
}

impl Flow {
    fn open(path: &Path, answered: bool) -> Result<Self> {
        let to = SocketAddrV4::new(Path::pod_address(), path::UDP_PORT);
        let pod = path
            .pod()
            .run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, path::UDP_PORT))?))?;
        let client = path.client().run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(to)?;
            Ok(socket)
        })?;
        let flow = Self { client, pod };
        // The first brings neighbours up, and the connection's entry.
        flow.client.send(&[0; 18])?;
        flow.pod.set_read_timeout(Some(Duration::from_secs(5)))?;
        let (_, from) = flow
            .pod
            .recv_from(&mut [0; 64])
            .context("nothing gets through the ruleset")?;
        if answered {
            flow.client.set_read_timeout(Some(Duration::from_secs(5)))?;
            flow.pod.send_to(&[0; 18], from)?;
            flow.client
                .recv(&mut [0; 64])
                .context("no answer gets through the ruleset")?;
        }
        flow.pod.set_nonblocking(true)?;
        Ok(flow)
    }

    /// Packets the whole way: from the client's process to the pod's, which takes each.
    fn pass(&self, packets: u32) -> Result<()> {
        self.send(packets)?;
        let taken = self.take()?;
        anyhow::ensure!(
            taken == u64::from(packets),
            "{taken} of {packets} packets arrived"
        );
        Ok(())
    }

    fn send(&self, packets: u32) -> Result<()> {
        for _ in 0..packets {
            self.client.send(&[0; 18])?;
        }
        Ok(())
    }

    /// How many packets are there, taken away.
    fn take(&self) -> Result<u64> {
        let mut buffer = [0; 64];
        let mut taken = 0;
        loop {
            match self.pod.recv(&mut buffer) {
                Ok(_) => taken += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(taken),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Nanoseconds per packet of each path: the lower quartile of samples taken in turn, which other work on the machine
/// touches less than the median.
fn quartiles<const N: usize>(paths: [&Path; N], answered: bool) -> Result<[f64; N]> {
    let mut cpu = CpuSet::new();
    cpu.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &cpu)?;
    let mut flows = Vec::new();
    for path in paths {
        let flow = Flow::open(path, answered)?;
        flow.pass(PACKETS)?; // warm
        flows.push((flow, Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (flow, samples) in &mut flows {
            let (took, passed) = time(|| flow.pass(PACKETS));
            passed?;
            samples.push(took);
        }
    }
    let mut everywhere = CpuSet::new();
    for core in 0..std::thread::available_parallelism()?.get() {
        everywhere.set(core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &everywhere)?;
    let mut results = [0.0; N];
    for (result, (_, mut samples)) in results.iter_mut().zip(flows) {
        *result = percentile(&mut samples, 25).as_secs_f64() * 1e9 / f64::from(PACKETS);
    }
    Ok(results)
}

/// Packets that do not arrive while the writer commits as fast as it can.
fn lost_under_commits(path: &Path) -> Result<f64> {
    let flow = Flow::open(path, true)?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let commits = scope.spawn(|| {
            let result = path.router().run(|| {
                let mut commits = Commits::begin(path)?;
                (0..COMMITS).try_for_each(|i| commits.one(i))
            });
            done.store(true, Ordering::Relaxed);
            result
        });
        let (mut sent, mut taken) = (0_u64, 0_u64);
        let begun = now();
        while sent < UNDER_COMMITS || !done.load(Ordering::Relaxed) {
            flow.send(32)?;
            sent += 32;
            taken += flow.take()?;
            if now().duration_since(begun) > Duration::from_mins(5) {
                break;
            }
        }
        // The last ones may still be on another core's queue.
        let late = now();
        while taken < sent && now().duration_since(late) < Duration::from_secs(1) {
            taken += flow.take()?;
        }
        commits.join().expect("commits do not panic")?;
        #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
        Ok((sent - taken) as f64)
    })
}
