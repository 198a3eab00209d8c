use std::net::IpAddr;

use margay_policy::model::{Action, TierEnd};
use margay_policy::node_policy::{
    Match as PolicyMatch, Origin, Peer, Ports, Rule as PolicyRule, RuleList, TierRules,
};

use super::*;
use crate::epochs::{Touched, mark};
use crate::local::MAX_TIERS;
use crate::ruleset::{CtDirection, CtState, HookPoint};
use crate::sim::{Outcome, Packet, run};
use crate::testing::{attach, endpoint, first_packet, kernel, origin};

fn allow_all(direction: Direction, tiers: usize) -> RuleList {
    let origin: Origin = origin(direction, 0);
    let matches = PolicyMatch::Traffic {
        peer: Peer::Any,
        ports: Ports::Any,
    };
    let rule = PolicyRule {
        matches,
        action: Action::Pass,
        origin,
    };
    let tier = TierRules {
        name: "t".to_owned(),
        rules: vec![rule],
        end: TierEnd::Deny,
    };
    RuleList {
        direction,
        tiers: vec![tier; tiers],
    }
}

/// Two pods, 10.0.0.1 on `mgy0` and 10.0.0.2 on `mgy1`, each with both lists.
fn two_pods(ingress: &RuleList, egress: &RuleList) -> (NodePolicy, Local) {
    let mut policy = NodePolicy::default();
    let mut local = Local::default();
    policy.rule_lists.insert(RuleListId(1), ingress.clone());
    policy.rule_lists.insert(RuleListId(2), egress.clone());
    for (number, address) in ["10.0.0.1", "10.0.0.2"].into_iter().enumerate() {
        let pod = PodId::new("ns", format!("p{number}"));
        policy
            .endpoints
            .insert(pod.clone(), endpoint(Some(1), Some(2)));
        attach(&mut local, &pod, &format!("mgy{number}"), &[address]);
    }
    (policy, local)
}

fn connects(policy: &NodePolicy, local: &Local) -> bool {
    let ruleset = lower(policy, local);
    kernel::load(&ruleset).unwrap();
    run(
        &ruleset,
        &first_packet(("mgy0", "10.0.0.1"), ("mgy1", "10.0.0.2")),
    )
    .accepted
}

/// The packet that answers the first one, and nothing was stamped yet.
fn answer(client: (&str, &str), server: (&str, &str)) -> Packet {
    let mut packet = first_packet(client, server);
    std::mem::swap(&mut packet.in_link, &mut packet.out_link);
    std::mem::swap(&mut packet.source, &mut packet.destination);
    let connection = packet.connection.as_mut().unwrap();
    connection.state = CtState::Established;
    connection.direction = CtDirection::Reply;
    packet
}

#[test]
fn a_client_must_be_a_known_pod_of_its_link_in_both_directions() {
    let mut policy = NodePolicy::default();
    let mut local = Local::default();
    for (pod, link, addresses) in [
        ("known", "mgy0", ["10.0.0.1", "fd00::1"]),
        ("unknown", "mgy1", ["10.0.0.2", "fd00::2"]),
    ] {
        attach(&mut local, &PodId::new("ns", pod), link, &addresses);
    }
    policy
        .endpoints
        .insert(PodId::new("ns", "known"), endpoint(None, None));
    let ruleset = lower(&policy, &local);
    let mut bare = ruleset.clone();
    for family in Family::BOTH {
        let map = bare.sets.get_mut(names::from_pod(family)).unwrap();
        map.elements.clear();
    }
    for (known, unknown, nobody, far) in [
        ("10.0.0.1", "10.0.0.2", "10.0.0.3", "192.0.2.1"),
        ("fd00::1", "fd00::2", "fd00::3", "2001:db8::1"),
    ] {
        let passes = |ruleset: &Ruleset, client| {
            let first = first_packet(client, ("eth0", far));
            let answer = answer(client, ("eth0", far));
            [first, answer].map(|packet| run(ruleset, &packet).accepted)
        };
        assert_eq!(passes(&ruleset, ("mgy0", known)), [true, true]);
        for client in [("mgy1", unknown), ("mgy0", nobody), ("mgy1", known)] {
            assert_eq!(passes(&ruleset, client), [false, false], "{client:?}");
            assert_eq!(passes(&bare, client), [false, false], "{client:?}");
        }
    }
}

#[test]
fn a_server_must_be_a_known_pod_in_both_directions() {
    let mut policy = NodePolicy::default();
    let mut local = Local::default();
    for (pod, link, address) in [
        ("known", "mgy0", "10.0.0.1"),
        ("unknown", "mgy1", "10.0.0.2"),
    ] {
        attach(&mut local, &PodId::new("ns", pod), link, &[address]);
    }
    policy
        .endpoints
        .insert(PodId::new("ns", "known"), endpoint(None, None));
    let ruleset = lower(&policy, &local);
    let passes = |server| {
        let first = first_packet(("eth0", "192.0.2.1"), server);
        let answer = answer(("eth0", "192.0.2.1"), server);
        [first, answer].map(|packet| run(&ruleset, &packet).accepted)
    };
    assert_eq!(passes(("mgy0", "10.0.0.1")), [true, true]);
    assert_eq!(passes(("mgy1", "10.0.0.2")), [false, false]);
    assert_eq!(passes(("mgy1", "10.0.0.3")), [false, false]);
}

/// A stamp is for the whole connection, so whoever gets one must have been judged by every list of it: also when a packet
/// with a pod's address takes a way that is not the pod's.
#[test]
fn a_pods_address_is_judged_whatever_link_the_packet_takes() {
    let deny = |direction| RuleList {
        direction,
        tiers: vec![TierRules {
            name: "t".to_owned(),
            rules: Vec::new(),
            end: TierEnd::Deny,
        }],
    };
    let (mut policy, mut local) = two_pods(&deny(Direction::Ingress), &deny(Direction::Egress));
    let open_pod = PodId::new("ns", "open");
    attach(&mut local, &open_pod, "mgy9", &["10.0.0.9"]);
    policy.endpoints.insert(open_pod, endpoint(None, None));
    let ruleset = lower(&policy, &local);
    let passes = |client, server| {
        let packets = [first_packet(client, server), answer(client, server)];
        packets.map(|packet| run(&ruleset, &packet).accepted)
    };
    let (far, pod) = ("192.0.2.1", "10.0.0.1");
    let open = ("mgy9", "10.0.0.9");
    assert_eq!(passes(("eth0", pod), ("eth1", far)), [true, true]);
    assert_eq!(passes(("eth0", pod), open), [false, false]);
    assert_eq!(passes(open, ("eth0", pod)), [false, false]);
}

#[test]
fn an_untouched_connection_gets_the_new_epoch_without_being_judged() {
    let (policy, mut local) = two_pods(
        &allow_all(Direction::Ingress, 1),
        &allow_all(Direction::Egress, 1),
    );
    let mut packet = first_packet(("mgy0", "10.0.0.1"), ("mgy1", "10.0.0.2"));
    let connection = packet.connection.as_mut().unwrap();
    connection.state = CtState::Established;
    connection.mark = mark(local.epochs.current());
    let other = Touched::Addresses(["10.0.0.3".parse().unwrap()].into());
    local.epochs.bump(&other);
    let outcome = run(&lower(&policy, &local), &packet);
    assert!(outcome.accepted);
    assert_eq!(outcome.mark, mark(local.epochs.current()));
    let judged = |outcome: &Outcome| {
        outcome
            .trace
            .iter()
            .any(|(chain, _)| chain == names::CLIENT)
    };
    assert!(!judged(&outcome), "{:?}", outcome.trace);
    local
        .epochs
        .bump(&Touched::Addresses(["10.0.0.2".parse().unwrap()].into()));
    assert!(judged(&run(&lower(&policy, &local), &packet)));
}

#[test]
fn a_kernel_that_remembers_nothing_walks_each_list_once_for_each_hook_that_needs_it() {
    let mut policy = NodePolicy::default();
    let mut local = Local::default();
    for number in 0..20u8 {
        let pod = PodId::new("ns", format!("p{number}"));
        let (ingress, egress) = (2 * u128::from(number), 2 * u128::from(number) + 1);
        for (id, direction) in [(ingress, Direction::Ingress), (egress, Direction::Egress)] {
            policy
                .rule_lists
                .insert(RuleListId(id), allow_all(direction, 2));
        }
        policy
            .endpoints
            .insert(pod.clone(), endpoint(Some(ingress), Some(egress)));
        let address = format!("10.0.0.{number}");
        attach(&mut local, &pod, &format!("mgy{number}"), &[&address]);
    }
    let walks = kernel::walks(&lower(&policy, &local));
    let lists: Vec<_> = walks
        .iter()
        .filter(|(name, _)| name.ends_with("-0"))
        .collect();
    assert_eq!(lists.len(), 40);
    // `input` has clients' lists only.
    let hooks = |name: &str| if name.starts_with('e') { 2 } else { 1 };
    let once = lists.iter().all(|(name, walks)| **walks == hooks(name));
    assert!(once, "{lists:?}");
}

#[test]
fn the_deepest_lists_still_load_and_deeper_ones_close_the_pod() {
    let list = |direction, tiers| allow_all(direction, tiers);
    let (egress, ingress) = (
        list(Direction::Egress, MAX_TIERS),
        list(Direction::Ingress, MAX_TIERS),
    );
    let (policy, local) = two_pods(&ingress, &egress);
    assert!(connects(&policy, &local));
    let (policy, local) = two_pods(&list(Direction::Ingress, MAX_TIERS + 1), &egress);
    assert!(!connects(&policy, &local));
    let (policy, local) = two_pods(&ingress, &list(Direction::Egress, MAX_TIERS + 1));
    assert!(!connects(&policy, &local));
}

#[test]
fn a_list_that_nobody_sent_closes_its_direction_only() {
    let list = |direction| allow_all(direction, 1);
    let (mut policy, local) = two_pods(&list(Direction::Ingress), &list(Direction::Egress));
    assert!(connects(&policy, &local));
    policy
        .endpoints
        .insert(PodId::new("ns", "p1"), endpoint(Some(1), Some(9)));
    assert!(
        connects(&policy, &local),
        "the server's egress does not matter"
    );
    policy
        .endpoints
        .insert(PodId::new("ns", "p1"), endpoint(Some(9), Some(2)));
    assert!(!connects(&policy, &local));
    policy
        .endpoints
        .insert(PodId::new("ns", "p1"), endpoint(Some(2), Some(2)));
    assert!(!connects(&policy, &local), "an egress list for ingress");
    policy
        .endpoints
        .insert(PodId::new("ns", "p1"), endpoint(None, None));
    for egress in [9, 1] {
        policy
            .endpoints
            .insert(PodId::new("ns", "p0"), endpoint(None, Some(egress)));
        assert!(!connects(&policy, &local), "egress list {egress}");
    }
}

#[test]
fn an_address_that_two_pods_claim_is_cut_off() {
    let mut policy = NodePolicy::default();
    let mut local = Local::default();
    for (pod, link, address) in [("p0", "mgy0", "10.0.0.1"), ("p1", "mgy1", "10.0.0.2")] {
        policy
            .endpoints
            .insert(PodId::new("ns", pod), endpoint(None, None));
        attach(&mut local, &PodId::new("ns", pod), link, &[address]);
    }
    assert!(connects(&policy, &local));
    policy
        .endpoints
        .insert(PodId::new("ns", "thief"), endpoint(None, None));
    attach(
        &mut local,
        &PodId::new("ns", "thief"),
        "mgy2",
        &["10.0.0.2"],
    );
    assert!(!connects(&policy, &local));
}

#[test]
fn a_pod_sends_with_its_own_addresses_only() {
    let mut policy = NodePolicy::default();
    let mut local = Local::default();
    for (pod, link, addresses) in [
        ("p0", "mgy0", ["10.0.0.1", "fd00::1"]),
        ("p1", "mgy1", ["10.0.0.2", "fd00::2"]),
    ] {
        policy
            .endpoints
            .insert(PodId::new("ns", pod), endpoint(None, None));
        attach(&mut local, &PodId::new("ns", pod), link, &addresses);
    }
    attach(
        &mut local,
        &PodId::new("ns", "unknown"),
        "mgy2",
        &["10.0.0.3"],
    );
    let ruleset = lower(&policy, &local);
    let enters = |link: &str, source: &str, icmp6: Option<u8>| {
        let source: IpAddr = source.parse().unwrap();
        let packet = Packet {
            hook: HookPoint::Prerouting,
            in_link: Some(link.to_owned()),
            out_link: None,
            source,
            destination: source,
            protocol: if icmp6.is_some() { 58 } else { 6 },
            icmp_type: icmp6,
            connection: None,
        };
        run(&ruleset, &packet).accepted
    };
    assert!(enters("mgy0", "10.0.0.1", None) && enters("mgy0", "fd00::1", None));
    assert!(!enters("mgy0", "10.0.0.2", None) && !enters("mgy0", "fd00::2", None));
    assert!(!enters("mgy2", "10.0.0.3", None), "its policy is unknown");
    assert!(enters("eth0", "10.0.0.1", None), "not from a pod");
    assert!(enters("mgy0", "::", Some(135)) && enters("mgy2", "fe80::1", Some(136)));
    assert!(!enters("mgy0", "fe80::1", None) && !enters("mgy0", "fe80::1", Some(128)));
    assert!(
        !enters("mgy0", "fd00::2", Some(136)),
        "an advertisement with another's address"
    );
    assert!(!enters("mgy0", "fe80::1", Some(134)), "a pod is no router");
}

#[test]
fn only_families_in_use_have_chains_and_only_sets_in_use_have_members() {
    let mut list = allow_all(Direction::Ingress, 1);
    let set = AddressSetId(7);
    list.tiers[0].rules[0].matches = PolicyMatch::Traffic {
        peer: Peer::Set(set),
        ports: Ports::Any,
    };
    let (mut policy, local) = two_pods(&list, &allow_all(Direction::Egress, 1));
    for id in [set, AddressSetId(8)] {
        policy.address_sets.insert(
            id,
            ["10.0.0.9", "fd00::9"].map(|a| a.parse().unwrap()).into(),
        );
    }
    let ruleset = lower(&policy, &local);
    let members = |family| {
        ruleset.sets[names::members(family)]
            .elements
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        members(Family::V4),
        [member_key(set, "10.0.0.9".parse().unwrap())]
    );
    assert_eq!(members(Family::V6), Vec::<Key>::new());
    let class = |family| names::class_chain(Direction::Ingress, family, RuleListId(1), 0);
    assert!(ruleset.chains.contains_key(&class(Family::V4)));
    assert!(!ruleset.chains.contains_key(&class(Family::V6)));
}

#[test]
fn replies_to_the_node_pass_and_a_pods_connections_to_the_node_are_judged() {
    let deny = RuleList {
        direction: Direction::Egress,
        tiers: vec![TierRules {
            name: "t".to_owned(),
            rules: Vec::new(),
            end: TierEnd::Deny,
        }],
    };
    let (policy, local) = two_pods(&allow_all(Direction::Ingress, 1), &deny);
    let ruleset = lower(&policy, &local);
    let mut packet = first_packet(("mgy0", "10.0.0.1"), ("", "192.168.0.1"));
    packet.hook = HookPoint::Input;
    packet.out_link = None;
    assert!(!run(&ruleset, &packet).accepted);
    let connection = packet.connection.as_mut().unwrap();
    std::mem::swap(&mut connection.client, &mut connection.server);
    connection.direction = CtDirection::Reply;
    assert!(run(&ruleset, &packet).accepted);
}
