//! Random worlds and a model of the kernel, for tests.

use std::net::IpAddr;

use ipnet::IpNet;
use margay_policy::model::{Action, Direction, PodId, PolicyId, PolicyKind, Protocol, TierEnd};
use margay_policy::node_policy::{
    AddressSetId, Endpoint, Match, NodePolicy, Origin, Peer, PolicyChange, PortRange, Ports, Rule,
    RuleList, RuleListId, Service, ServiceSetId, TierRules,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::local::{Attachment, Local, Nat};
use crate::ruleset::{CtDirection, CtState, HookPoint};
use crate::sim::{Connection, Packet};

pub(crate) mod kernel;

/// Addresses that pods may have.
pub(crate) fn pod_addresses() -> Vec<IpAddr> {
    addresses(&[
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.130",
        "fd00::1",
        "fd00::2",
        "fd00::3",
        "fd00::4",
    ])
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    let parsed = texts.iter().map(|text| text.parse());
    parsed
        .collect::<Result<_, _>>()
        .expect("the texts here are addresses")
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    let mut all = pod_addresses();
    all.extend(addresses(&["192.0.2.1", "10.0.9.9", "2001:db8::1"]));
    select(all)
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![Protocol::Tcp, Protocol::Udp])
}

fn cidrs() -> impl Strategy<Value = Vec<IpNet>> {
    let nets = [
        "10.0.0.0/25",
        "10.0.0.128/25",
        "10.0.9.0/24",
        "192.0.2.0/24",
        "192.0.2.128/25",
        "198.51.100.0/24",
        "203.0.113.7/32",
        "fd00::/64",
        "2001:db8::/32",
    ];
    let prefix = |text: &str| -> IpNet { text.parse().expect("the texts here are prefixes") };
    let nets: Vec<IpNet> = nets.into_iter().map(prefix).collect();
    let count = nets.len();
    prop_oneof![
        8 => subsequence(nets, 0..=count),
        1 => Just(vec![prefix("0.0.0.0/0")]),
        1 => Just(vec![prefix("::/0")]),
    ]
}

fn ports() -> impl Strategy<Value = Ports> {
    let range = (
        protocol(),
        select(vec![(0, u16::MAX), (80, 80), (80, 90), (8080, 8081)]),
    )
        .prop_map(|(protocol, (first, last))| PortRange {
            protocol,
            first,
            last,
        });
    prop_oneof![2 => Just(Ports::Any), 3 => vec(range, 0..3).prop_map(Ports::Ranges)]
}

fn matches() -> impl Strategy<Value = Match> {
    let peer = prop_oneof![
        2 => Just(Peer::Any),
        5 => (0..4u128).prop_map(|id| Peer::Set(AddressSetId(id))),
        2 => cidrs().prop_map(Peer::Cidrs),
    ];
    prop_oneof![
        6 => (peer, ports()).prop_map(|(peer, ports)| Match::Traffic { peer, ports }),
        3 => (0..2u128).prop_map(|id| Match::Service(ServiceSetId(id))),
    ]
}

fn list(direction: Direction) -> impl Strategy<Value = RuleList> {
    let tier = || {
        let action =
            prop_oneof![8 => Just(Action::Allow), 1 => Just(Action::Deny), 1 => Just(Action::Pass)];
        (
            vec((matches(), action), 0..4),
            select(vec![TierEnd::Deny, TierEnd::Deny, TierEnd::NextTier]),
        )
    };
    prop_oneof![3 => Just(1), 1 => 1..4usize]
        .prop_flat_map(move |tiers| vec(tier(), tiers))
        .prop_map(move |tiers| RuleList {
            direction,
            tiers: tiers
                .into_iter()
                .enumerate()
                .map(|(index, (rules, end))| TierRules {
                    name: format!("t{index}"),
                    rules: rules
                        .into_iter()
                        .enumerate()
                        .map(|(rule, (matches, action))| Rule {
                            matches,
                            action,
                            origin: origin(direction, rule),
                        })
                        .collect(),
                    end,
                })
                .collect(),
        })
}

pub(crate) fn origin(direction: Direction, rule: usize) -> Origin {
    let policy = PolicyId {
        name: "p".into(),
        namespace: "ns".into(),
        kind: PolicyKind::NetworkPolicy,
    };
    Origin {
        policy,
        direction,
        rule,
    }
}

fn pod() -> impl Strategy<Value = PodId> {
    (0..4).prop_map(|number| PodId::new("ns", format!("p{number}")))
}

/// Ids 0–3 are ingress lists, 4–7 egress lists.
fn list_id(direction: Direction) -> impl Strategy<Value = RuleListId> {
    let first = match direction {
        Direction::Ingress => 0,
        Direction::Egress => 4,
    };
    (first..first + 4u128).prop_map(RuleListId)
}

/// A change of policy; ids are reused with other content, more than a controller ever would.
pub(crate) fn policy_change() -> impl Strategy<Value = PolicyChange> {
    let service = || {
        (any_address(), protocol(), select(vec![80, 8080])).prop_map(|(address, protocol, port)| {
            Service {
                address,
                protocol,
                port,
            }
        })
    };
    let put_list = |direction| {
        (list_id(direction), list(direction))
            .prop_map(|(id, list)| PolicyChange::PutRuleList { id, list })
    };
    let side = |direction| prop_oneof![1 => Just(None), 20 => list_id(direction).prop_map(Some), 1 => Just(Some(RuleListId(3)))];
    prop_oneof![
        8 => ((0..4u128), btree_set(any_address(), 0..3), btree_set(any_address(), 0..3)).prop_map(
            |(id, add, remove)| PolicyChange::PatchAddressSet { id: AddressSetId(id), add, remove }
        ),
        1 => (0..6u128).prop_map(|id| PolicyChange::DeleteAddressSet { id: AddressSetId(id) }),
        4 => ((0..2u128), btree_set(service(), 0..8), btree_set(service(), 0..8)).prop_map(
            |(id, add, remove)| PolicyChange::PatchServiceSet { id: ServiceSetId(id), add, remove }
        ),
        1 => (0..2u128).prop_map(|id| PolicyChange::DeleteServiceSet { id: ServiceSetId(id) }),
        2 => put_list(Direction::Ingress),
        2 => put_list(Direction::Egress),
        1 => (0..8u128).prop_map(|id| PolicyChange::DeleteRuleList { id: RuleListId(id) }),
        4 => (pod(), side(Direction::Ingress), side(Direction::Egress)).prop_map(
            |(pod, ingress, egress)| {
                let endpoint =
                    Endpoint { uid: String::new(), addresses: [].into(), ingress, egress };
                PolicyChange::PutEndpoint { pod, endpoint }
            }
        ),
        1 => pod().prop_map(|pod| PolicyChange::DeleteEndpoint { pod }),
    ]
}

/// Something that happens to a node.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Policy(Vec<PolicyChange>),
    Attach(PodId, Attachment),
    Detach(PodId),
    Nat(Nat),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let attachment =
        (0..5, btree_set(select(pod_addresses()), 0..3)).prop_map(|(link, addresses)| Attachment {
            link: format!("mgy{link}"),
            addresses,
        });
    let nets = || {
        let nets = ["10.0.0.0/24", "10.0.0.0/16", "10.2.0.0/16", "fd00::/56"];
        let nets: Vec<IpNet> = nets
            .iter()
            .map(|net| net.parse().expect("written above"))
            .collect();
        btree_set(select(nets), 0..3)
    };
    prop_oneof![
        4 => policy_change().prop_map(|change| Step::Policy(vec![change])),
        2 => vec(policy_change(), 1..5).prop_map(Step::Policy),
        3 => (pod(), attachment).prop_map(|(pod, attachment)| Step::Attach(pod, attachment)),
        1 => pod().prop_map(Step::Detach),
        1 => (nets(), nets(), nets()).prop_map(|(sources, pools, services)| Step::Nat(Nat { sources, pools, services })),
    ]
}

/// A node's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) policy: NodePolicy,
    pub(crate) local: Local,
}

impl State {
    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Policy(changes) => {
                for change in changes {
                    self.policy.apply(change);
                }
            }
            Step::Attach(pod, attachment) => {
                self.local
                    .attachments
                    .insert(pod.clone(), attachment.clone());
            }
            Step::Detach(pod) => drop(self.local.attachments.remove(pod)),
            Step::Nat(nat) => self.local.nat = nat.clone(),
        }
    }
}

/// A node with policy and pods: all pods have an address of each family and lists, to which then some
/// things happen.
pub(crate) fn state() -> impl Strategy<Value = State> {
    let lists = (
        vec(list(Direction::Ingress), 4),
        vec(list(Direction::Egress), 4),
    );
    let sets = vec(btree_set(any_address(), 0..8), 4);
    let sides = vec((list_id(Direction::Ingress), list_id(Direction::Egress)), 4);
    (lists, sets, sides, vec(step(), 0..6)).prop_map(|((ingress, egress), sets, sides, steps)| {
        let mut state = State::default();
        let lists = ingress.into_iter().chain(egress).zip(0..);
        state.policy.rule_lists = lists.map(|(list, id)| (RuleListId(id), list)).collect();
        let sets = sets.into_iter().zip(0..);
        state.policy.address_sets = sets
            .map(|(members, id)| (AddressSetId(id), members))
            .collect();
        for (number, (ingress, egress)) in sides.into_iter().enumerate() {
            let pod = PodId::new("ns", format!("p{number}"));
            let (ingress, egress) = (Some(ingress), Some(egress));
            let endpoint = Endpoint {
                uid: String::new(),
                addresses: [].into(),
                ingress,
                egress,
            };
            state.policy.endpoints.insert(pod.clone(), endpoint);
            let addresses = [pod_addresses()[number], pod_addresses()[4 + number]].into();
            let attachment = Attachment {
                link: format!("mgy{number}"),
                addresses,
            };
            state.local.attachments.insert(pod, attachment);
        }
        for step in &steps {
            state.apply(step);
        }
        state
    })
}

/// An endpoint with these lists.
pub(crate) fn endpoint(ingress: Option<u128>, egress: Option<u128>) -> Endpoint {
    Endpoint {
        uid: String::new(),
        addresses: [].into(),
        ingress: ingress.map(RuleListId),
        egress: egress.map(RuleListId),
    }
}

/// Gives a pod a link.
pub(crate) fn attach(local: &mut Local, pod: &PodId, link: &str, addresses: &[&str]) {
    let addresses = self::addresses(addresses).into_iter().collect();
    let attachment = Attachment {
        link: link.to_owned(),
        addresses,
    };
    local.attachments.insert(pod.clone(), attachment);
}

/// The first packet of a TCP connection to port 80, forwarded from a link and address to another.
pub(crate) fn first_packet(client: (&str, &str), server: (&str, &str)) -> Packet {
    let address = |text: &str| text.parse().expect("tests name addresses");
    Packet {
        hook: HookPoint::Forward,
        in_link: Some(client.0.to_owned()),
        out_link: Some(server.0.to_owned()),
        source: address(client.1),
        destination: address(server.1),
        protocol: 6,
        icmp_type: None,
        connection: Some(Connection {
            state: CtState::New,
            direction: CtDirection::Original,
            client: address(client.1),
            server: address(server.1),
            server_port: 80,
            mark: 0,
        }),
    }
}

/// A packet of an established connection, without a mark.
pub(crate) fn packet() -> impl Strategy<Value = Packet> {
    let link = || select(vec!["mgy0", "mgy1", "mgy2", "mgy3", "eth0"]);
    let direction = select(vec![CtDirection::Original, CtDirection::Reply]);
    let hook = select(vec![
        HookPoint::Forward,
        HookPoint::Forward,
        HookPoint::Input,
    ]);
    let traffic = (select(vec![6, 17, 1]), select(vec![80, 85, 8080, 443]));
    (
        hook,
        link(),
        link(),
        any_address(),
        any_address(),
        direction,
        traffic,
    )
        .prop_filter("one family", |(_, _, _, client, server, ..)| {
            client.is_ipv4() == server.is_ipv4()
        })
        .prop_map(
            |(hook, in_link, out_link, client, server, direction, (protocol, server_port))| {
                let (source, destination) = match direction {
                    CtDirection::Original => (client, server),
                    CtDirection::Reply => (server, client),
                };
                Packet {
                    hook,
                    in_link: Some(in_link.to_owned()),
                    out_link: (hook == HookPoint::Forward).then(|| out_link.to_owned()),
                    source,
                    destination,
                    protocol,
                    icmp_type: (protocol == 1).then_some(8),
                    connection: Some(Connection {
                        state: CtState::Established,
                        direction,
                        client,
                        server,
                        server_port,
                        mark: 0,
                    }),
                }
            },
        )
}
