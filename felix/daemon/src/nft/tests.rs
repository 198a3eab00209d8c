//! The writer against a real kernel, each test in a network namespace of its own. They need root and the program `nft`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use margay_dataplane::diff::diff;
use margay_dataplane::local::{Attachment, MAX_TIERS, Nat};
use margay_nftnl::{Socket, TableId};
use margay_policy::model::{Action, Direction, PodId, PolicyId, PolicyKind, Protocol, TierEnd};
use margay_policy::node_policy::{
    AddressSetId, Endpoint, Match, NodePolicy, Origin, Peer, PolicyChange, PortRange, Ports, Rule,
    RuleList, RuleListId, TierRules,
};
use nix::sched::{CloneFlags, unshare};

use super::{
    Beginning, Change, Found, Nft, NftError, Ownership, Report, Settings, What, read, start,
};

mod encode;
mod rooms;

fn in_netns(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn nft(args: &[&str]) -> Result<String, String> {
    let output = Command::new("nft").args(args).output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// The tables, without their flags and who owns them.
fn listing() -> String {
    let listing = nft(&["list", "ruleset"]).unwrap();
    let mut text = String::new();
    let mut lines = listing.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("\tflags ") {
            lines.next(); // an empty one
            continue;
        }
        let line = line.split(" # progname").next().unwrap_or(line);
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[expect(clippy::disallowed_methods, reason = "the tests' clock")]
fn now() -> Instant {
    Instant::now()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

struct Running {
    nft: Nft,
    reports: mpsc::Receiver<Report>,
}

impl Running {
    fn start(ownership: Ownership, beginning: Beginning) -> Self {
        let (sender, reports) = mpsc::channel();
        let settings = Settings {
            table: "margay".into(),
            ownership,
            now,
        };
        let nft = start(settings, beginning, move |report| {
            sender.send(report).unwrap_or(());
        })
        .unwrap();
        Self { nft, reports }
    }

    fn report(&self) -> Report {
        self.reports
            .recv_timeout(Duration::from_secs(10))
            .expect("a report comes")
    }

    fn apply(&self, change: Change) -> Result<(), NftError> {
        block_on(self.nft.apply(change))
    }

    /// What the planner wants but the kernel does not have, and the other way round.
    fn difference(&self) -> usize {
        let ruleset = block_on(self.nft.ask(|planner| planner.ruleset().clone())).unwrap();
        let actual = read::read(&mut Socket::open().unwrap(), &TableId::inet("margay"))
            .unwrap()
            .actual;
        diff(&actual, &ruleset).len()
    }

    /// Ends the writer, and waits until its socket is closed.
    fn end(self) {
        let Self { nft, reports } = self;
        drop(nft);
        while reports.recv().is_ok() {}
    }
}

fn pod(name: &str) -> PodId {
    PodId {
        namespace: "shop".into(),
        name: name.into(),
    }
}

fn addresses(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter()
        .map(|address| address.parse().unwrap())
        .collect()
}

fn attachment(link: &str, list: &[&str]) -> Attachment {
    Attachment {
        link: link.into(),
        addresses: addresses(list),
    }
}

/// Two pods: `web` may be reached at TCP 80 by two addresses and a block, and talks to anybody; `db` may talk to one of
/// these addresses, and may be reached by anybody.
fn beginning() -> Beginning {
    let rule = |policy: &str, direction, peer, ports| Rule {
        matches: Match::Traffic { peer, ports },
        action: Action::Allow,
        origin: Origin {
            policy: PolicyId {
                name: policy.into(),
                namespace: "shop".into(),
                kind: PolicyKind::NetworkPolicy,
            },
            direction,
            rule: 0,
        },
    };
    let blocks = [
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/25",
        "203.0.113.128/26",
        "233.252.0.0/24",
    ];
    let http = Ports::Ranges(vec![PortRange {
        protocol: Protocol::Tcp,
        first: 80,
        last: 80,
    }]);
    let list = RuleList {
        direction: Direction::Ingress,
        tiers: vec![TierRules {
            name: "default".into(),
            rules: vec![
                rule("web", Direction::Ingress, Peer::Set(AddressSetId(7)), http),
                rule(
                    "web",
                    Direction::Ingress,
                    Peer::Cidrs(blocks.iter().map(|block| block.parse().unwrap()).collect()),
                    Ports::Any,
                ),
            ],
            end: TierEnd::Deny,
        }],
    };
    let egress = RuleList {
        direction: Direction::Egress,
        tiers: vec![TierRules {
            name: "default".into(),
            rules: vec![rule(
                "db",
                Direction::Egress,
                Peer::Set(AddressSetId(7)),
                Ports::Any,
            )],
            end: TierEnd::Deny,
        }],
    };
    let endpoint = |ingress, egress| Endpoint {
        uid: String::new(),
        addresses: BTreeSet::new(),
        ingress,
        egress,
    };
    let policy = NodePolicy {
        endpoints: BTreeMap::from([
            (pod("web"), endpoint(Some(RuleListId(1)), None)),
            (pod("db"), endpoint(None, Some(RuleListId(2)))),
        ]),
        rule_lists: BTreeMap::from([(RuleListId(1), list), (RuleListId(2), egress)]),
        address_sets: BTreeMap::from([(
            AddressSetId(7),
            addresses(&["10.1.0.9", "10.1.0.8", "fd00::9"]),
        )]),
        service_sets: BTreeMap::new(),
    };
    let pool: BTreeSet<_> = ["10.1.0.0/16".parse().unwrap()].into();
    Beginning {
        policy,
        attachments: BTreeMap::from([
            (
                pod("web"),
                attachment("mgy00000000001", &["10.1.0.1", "fd00::1"]),
            ),
            (
                pod("db"),
                attachment("mgy00000000002", &["10.1.0.2", "fd00::2"]),
            ),
        ]),
        nat: Nat {
            sources: pool.clone(),
            pools: pool,
            services: ["10.96.0.0/12".parse().unwrap()].into(),
        },
    }
}

fn member(last: u8) -> Change {
    Change::Policy(vec![PolicyChange::PatchAddressSet {
        id: AddressSetId(7),
        add: addresses(&[&format!("10.1.1.{last}")]),
        remove: BTreeSet::new(),
    }])
}

fn started(report: Report) -> (bool, usize, Ownership) {
    let Report::Started {
        adopted,
        operations,
        ownership,
    } = report
    else {
        panic!("{report:?}");
    };
    (adopted, operations, ownership)
}

/// The first report that is no failure.
fn started_at_last(running: &Running) -> (bool, usize, Ownership) {
    loop {
        let report = running.report();
        if !matches!(report, Report::Failed { .. }) {
            return started(report);
        }
    }
}

fn repaired(running: &Running) -> (Vec<Found>, String) {
    let report = running.report();
    let Report::Repaired { found, by, took } = report else {
        panic!("{report:?}");
    };
    assert!(took < Duration::from_secs(10));
    (found, by)
}

#[test]
fn a_node_policy_becomes_a_table_that_nft_can_list() {
    in_netns(|| {
        let running = Running::start(Ownership::Shared, beginning());
        assert!(!started(running.report()).0);
        let listing = listing();
        assert_eq!(listing, include_str!("tests/listing.nft"), "{listing}");
        assert_eq!(running.difference(), 0);
    });
}

#[test]
fn the_kernel_takes_lists_of_as_many_tiers_as_are_allowed() {
    in_netns(|| {
        let mut beginning = beginning();
        for list in beginning.policy.rule_lists.values_mut() {
            let tier = TierRules {
                end: TierEnd::NextTier,
                ..list.tiers[0].clone()
            };
            list.tiers = vec![tier; MAX_TIERS];
        }
        let running = Running::start(Ownership::Shared, beginning);
        assert!(started(running.report()).1 > 2 * MAX_TIERS);
    });
}

#[test]
fn changes_are_in_the_kernel_when_apply_returns() {
    in_netns(|| {
        let running = Running::start(Ownership::Exclusive, beginning());
        running.apply(member(1)).unwrap();
        assert!(listing().contains("::7 . 10.1.1.1"));
        running.apply(Change::Detach(pod("web"))).unwrap();
        assert!(!listing().contains("mgy00000000001"));
        assert_eq!(running.difference(), 0);
        running
            .apply(Change::Attach(
                pod("web"),
                attachment("mgy00000000003", &["10.1.0.3"]),
            ))
            .unwrap();
        assert!(listing().contains("mgy00000000003"));
        running.apply(Change::Replace(Box::default())).unwrap();
        running.apply(Change::Nat(Nat::default())).unwrap();
        assert!(!listing().contains("masquerade"));
        assert_eq!(running.difference(), 0);
    });
}

#[test]
fn a_restart_finds_nothing_to_do() {
    for ownership in [Ownership::Exclusive, Ownership::Shared] {
        in_netns(move || {
            let running = Running::start(ownership, beginning());
            let (adopted, operations, _) = started(running.report());
            assert!(!adopted && operations > 0);
            let before = listing();
            running.end();
            assert_eq!(listing(), before, "the table outlives the writer");
            let running = Running::start(ownership, beginning());
            assert_eq!(started(running.report()), (true, 0, ownership));
            assert_eq!(listing(), before);
        });
    }
}

#[test]
fn a_change_during_the_absence_is_made_and_all_connections_are_judged_again() {
    in_netns(|| {
        let running = Running::start(Ownership::Shared, beginning());
        let epoch = |running: &Running| {
            block_on(running.nft.ask(|planner| planner.local().epochs.current())).unwrap()
        };
        let before = epoch(&running);
        running.end();
        nft(&[
            "delete",
            "element",
            "inet",
            "margay",
            "to_pod4",
            "{ 10.1.0.1 }",
        ])
        .unwrap();
        let running = Running::start(Ownership::Shared, beginning());
        let (adopted, operations, _) = started(running.report());
        assert!(adopted && operations > 0);
        assert!(epoch(&running) > before);
        assert_eq!(running.difference(), 0);
    });
}

#[test]
fn what_others_change_is_repaired_and_reported() {
    in_netns(|| {
        let running = Running::start(Ownership::Shared, beginning());
        started(running.report());
        let cases: [(&[&str], What, &str); 9] = [
            (&["flush", "ruleset"], What::Table, "inet margay"),
            (
                &["delete", "table", "inet", "margay"],
                What::Table,
                "inet margay",
            ),
            (
                &[
                    "delete",
                    "element",
                    "inet",
                    "margay",
                    "to_pod4",
                    "{ 10.1.0.1 }",
                ],
                What::Set,
                "to_pod4",
            ),
            (
                &[
                    "add",
                    "element",
                    "inet",
                    "margay",
                    "members4",
                    "{ ::7 . 10.9.9.9 }",
                ],
                What::Set,
                "members4",
            ),
            (
                &["flush", "set", "inet", "margay", "pod_source4"],
                What::Set,
                "pod_source4",
            ),
            (
                &["flush", "chain", "inet", "margay", "forward"],
                What::Rule,
                "forward",
            ),
            (
                &["insert", "rule", "inet", "margay", "forward", "accept"],
                What::Rule,
                "forward",
            ),
            (
                &["add", "chain", "inet", "margay", "stranger"],
                What::Chain,
                "stranger",
            ),
            (
                &["add", "table", "inet", "margay", "{ flags dormant; }"],
                What::Table,
                "inet margay",
            ),
        ];
        for (args, what, name) in cases {
            nft(args).unwrap();
            let (found, by) = repaired(&running);
            assert!(
                found.contains(&Found {
                    what,
                    name: name.into()
                }),
                "{args:?}: {found:?}"
            );
            assert!(by.starts_with("nft (pid "), "{by}");
            assert_eq!(running.difference(), 0, "{args:?}");
        }
        let table = Socket::open()
            .unwrap()
            .table(&TableId::inet("margay"))
            .unwrap()
            .unwrap();
        assert_eq!(table.flags.0, 0, "awake again");
    });
}

#[test]
fn a_change_that_meets_a_changed_table_is_made_all_the_same() {
    in_netns(|| {
        let running = Running::start(Ownership::Shared, beginning());
        started(running.report());
        for last in 1..=20 {
            nft(&["delete", "table", "inet", "margay"]).unwrap();
            running.apply(member(last)).unwrap();
            let (found, _) = repaired(&running);
            assert!(
                found.iter().any(|found| found.what == What::Table),
                "{found:?}"
            );
            assert_eq!(running.difference(), 0);
        }
    });
}

#[test]
fn changes_of_other_tables_are_nobodys_business() {
    in_netns(|| {
        let running = Running::start(Ownership::Shared, beginning());
        started(running.report());
        nft(&["add", "table", "inet", "other"]).unwrap();
        nft(&["add", "chain", "inet", "other", "forward"]).unwrap();
        running.apply(member(1)).unwrap();
        nft(&["flush", "set", "inet", "margay", "members4"]).unwrap();
        let (found, _) = repaired(&running);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(nft(&["list", "table", "inet", "other"]).is_ok());
    });
}

#[test]
fn an_owned_table_cannot_be_changed_by_others() {
    in_netns(|| {
        let running = Running::start(Ownership::Exclusive, beginning());
        assert_eq!(started(running.report()).2, Ownership::Exclusive);
        let before = listing();
        nft(&["flush", "ruleset"]).unwrap();
        assert!(nft(&["delete", "table", "inet", "margay"]).is_err());
        assert!(
            nft(&[
                "delete",
                "element",
                "inet",
                "margay",
                "to_pod4",
                "{ 10.1.0.1 }"
            ])
            .is_err()
        );
        assert_eq!(listing(), before);
    });
}

#[test]
fn a_plain_table_becomes_an_owned_one_in_one_step() {
    in_netns(|| {
        let running = Running::start(Ownership::Shared, beginning());
        started(running.report());
        running.end();
        let running = Running::start(Ownership::Exclusive, beginning());
        assert_eq!(started(running.report()).2, Ownership::Exclusive);
        assert!(nft(&["delete", "table", "inet", "margay"]).is_err());
        assert_eq!(running.difference(), 0);
    });
}

#[test]
fn while_another_owns_the_table_the_writer_says_so_and_waits() {
    in_netns(|| {
        let first = Running::start(Ownership::Exclusive, beginning());
        started(first.report());
        let second = Running::start(Ownership::Exclusive, beginning());
        let Report::Failed { reason, .. } = second.report() else {
            panic!("it cannot start")
        };
        assert!(
            reason.contains("another process owns the table"),
            "{reason}"
        );
        first.end();
        let started = started_at_last(&second);
        assert_eq!(started, (true, 0, Ownership::Exclusive));
    });
}

/// Tells the process that is to be killed that it is meant.
const TO_BE_KILLED: &str = "MARGAY_TEST_WRITER_TO_BE_KILLED";

#[test]
fn a_killed_writer_leaves_its_table_to_the_next() {
    use std::io::{BufRead as _, BufReader};
    if std::env::var_os(TO_BE_KILLED).is_some() {
        // The process below, in its parent's namespace.
        let running = Running::start(Ownership::Exclusive, beginning());
        started(running.report());
        println!("started");
        loop {
            std::thread::park();
        }
    }
    in_netns(|| {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "nft::tests::a_killed_writer_leaves_its_table_to_the_next",
            ])
            .env(TO_BE_KILLED, "")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("started")));
        child.kill().unwrap();
        child.wait().unwrap();
        let before = listing();
        let running = Running::start(Ownership::Exclusive, beginning());
        let started = started_at_last(&running); // the kernel closes the old socket a little later
        assert_eq!(started, (true, 0, Ownership::Exclusive));
        assert_eq!(listing(), before);
        assert!(nft(&["delete", "table", "inet", "margay"]).is_err());
    });
}

#[test]
fn a_hundred_changes_at_once_are_all_made() {
    in_netns(|| {
        let running = Running::start(Ownership::Exclusive, beginning());
        let threads: Vec<_> = (0..100)
            .map(|i| {
                let nft = running.nft.clone();
                std::thread::spawn(move || {
                    let name = format!("pod{i}");
                    let endpoint = Endpoint {
                        uid: String::new(),
                        addresses: BTreeSet::new(),
                        ingress: None,
                        egress: None,
                    };
                    let known = PolicyChange::PutEndpoint {
                        pod: pod(&name),
                        endpoint,
                    };
                    block_on(nft.apply(Change::Policy(vec![known]))).unwrap();
                    let at = attachment(&format!("mgy{i:011}"), &[&format!("10.1.2.{i}")]);
                    block_on(nft.apply(Change::Attach(pod(&name), at))).unwrap();
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(running.difference(), 0);
        let ours = block_on(running.nft.ask(|planner| planner.local().attachments.len())).unwrap();
        assert_eq!(ours, 102);
    });
}
