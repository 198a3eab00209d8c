use std::sync::Arc;

use margay_bgpd::Family;
use margay_sync::message::{Bgp, BgpPeer, NodeNetwork};

use super::*;

#[test]
fn a_node_announces_its_blocks_and_what_lies_outside_of_them() {
    let settings = settings(&view(&["192.0.2.1", "2001:db8::1"]));
    let speaker = &settings.speaker;
    assert_eq!(speaker.bgp_id, BgpId(Ipv4Addr::new(192, 0, 2, 1)));
    let announced: Vec<String> = speaker.announce.iter().map(ToString::to_string).collect();
    assert_eq!(announced, ["10.1.0.0/26", "10.9.9.9/32"]);
    let listen: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["192.0.2.1:1179", "[2001:db8::1]:1179"]);
    let peer = &speaker.peers["node-n2"];
    assert_eq!(peer.source, Some("192.0.2.1".parse().unwrap()));
    assert_eq!((peer.port, peer.hold_time.as_secs()), (1179, 30));
}

#[test]
fn a_node_without_ipv4_has_an_identifier_all_the_same() {
    let id = |name: &str| {
        let steering = Steering::new(NodeName(name.to_owned()), &view(&["2001:db8::1"]));
        steering.used().speaker.bgp_id
    };
    assert_ne!(id("n1"), id("n2"));
    assert_ne!(id("n1").0.octets()[0], 0);
}

#[test]
fn before_anything_is_known_nobody_is_spoken_to() {
    let settings = settings(&View::default());
    assert!(settings.speaker.peers.is_empty() && settings.listen.is_empty());
}

#[test]
fn communities_of_announcements_and_aggregates_come_along() {
    let mut view = view(&["192.0.2.1"]);
    let bgp = &mut Arc::make_mut(view.network.as_mut().unwrap()).bgp;
    bgp.services = ["10.96.0.0/12".parse().unwrap()].into();
    bgp.communities = vec![bgp::Communities {
        within: "10.1.0.0/16".parse().unwrap(),
        standard: [7].into(),
        large: [[1, 2, 3]].into(),
    }];
    bgp.aggregates = [("10.0.0.0/8".parse().unwrap(), bgp::Aggregate::default())].into();
    let speaker = settings(&view).speaker;
    assert!(speaker.announce.contains(&"10.96.0.0/12".parse().unwrap()));
    let announcements: Vec<_> = speaker.announcements.into_iter().collect();
    assert_eq!(announcements.len(), 1);
    let (prefix, announcement) = &announcements[0];
    assert_eq!(prefix.to_string(), "10.1.0.0/26");
    assert_eq!(announcement.details.communities, [7].into());
    assert_eq!(announcement.details.large_communities, [[1, 2, 3]].into());
    assert_eq!(speaker.aggregates.len(), 1);
}

#[test]
fn a_peer_that_is_to_have_a_password_does_not_go_without() {
    let mut view = view(&["192.0.2.1"]);
    let password = |view: &mut View, password| {
        let peers = &mut Arc::make_mut(view.network.as_mut().unwrap()).bgp.peers;
        let peer = peers.get_mut("node-n2").unwrap();
        peer.details.password = Some(password);
    };
    password(
        &mut view,
        bgp::Password::Missing("there is no Secret".to_owned()),
    );
    let mut steering = Steering::new(NodeName("n1".to_owned()), &view);
    let (status, now) = (Status::default(), clock::now());
    let shut_down = |settings: &Settings| settings.speaker.peers["node-n2"].shut_down.clone();
    assert!(
        shut_down(steering.next(&view, &status, now))
            .unwrap()
            .contains("there is no Secret")
    );
    password(&mut view, bgp::Password::Text("one".to_owned()));
    let with = steering.next(&view, &status, now).clone();
    assert_eq!(shut_down(&with), None);
    // Lost again: what runs goes on.
    password(
        &mut view,
        bgp::Password::Missing("there is no Secret".to_owned()),
    );
    assert_eq!(*steering.next(&view, &status, now), with);
    password(&mut view, bgp::Password::File("/nowhere/at/all".to_owned()));
    assert_eq!(*steering.next(&view, &status, now), with);
}

/// `families` of one peer, and those that it has told everything of.
fn one_peer(state: State, families: &[Family], told: &[Family]) -> Status {
    let settings = settings(&view(&["192.0.2.1"])).speaker;
    let mut peers = margay_bgp::Speaker::new(settings, 1, clock::now()).status();
    for peer in peers.values_mut() {
        peer.state = state;
        peer.families = families.iter().copied().collect();
        peer.end_of_rib = told.iter().copied().collect();
    }
    Status {
        peers,
        ..Status::default()
    }
}

#[test]
fn everything_is_told_when_every_peer_is_up_and_each_family_has_ended() {
    let (both, one) = (&Family::ALL[..], &[Family::Ipv4][..]);
    assert!(told_everything(&one_peer(State::Established, both, both)));
    assert!(told_everything(&one_peer(State::Established, one, both)));
    assert!(!told_everything(&one_peer(State::Established, both, one)));
    assert!(!told_everything(&one_peer(State::Established, &[], &[])));
    assert!(!told_everything(&one_peer(State::Active, both, both)));
    assert!(
        !told_everything(&Status::default()),
        "settings are on their way"
    );
    let mut two = one_peer(State::Established, both, both);
    let down = one_peer(State::OpenConfirm, both, both).peers;
    two.peers
        .extend(down.into_values().map(|peer| ("down".into(), peer)));
    assert!(!told_everything(&two));
}

#[tokio::test]
async fn what_was_before_the_start_is_given_up_once_and_behind_the_routes() {
    let (routes, to_hand_on) = mpsc::channel(4);
    let (publish, status) = watch::channel(Status::default());
    let (orders, mut heard) = mpsc::unbounded_channel();
    let order = move |order| drop(orders.send(order));
    let task = tokio::spawn(hand_on(to_hand_on, status, GRACE, order));
    routes.send(Vec::new()).await.unwrap();
    assert!(matches!(heard.recv().await, Some(Order::Learned(_))));
    let all = one_peer(State::Established, &Family::ALL, &Family::ALL);
    publish.send(one_peer(State::Active, &[], &[])).unwrap();
    // The routes of a peer that has told everything come first, whichever is looked at first.
    routes.send(Vec::new()).await.unwrap();
    publish.send(all.clone()).unwrap();
    assert!(matches!(heard.recv().await, Some(Order::Learned(_))));
    assert!(matches!(heard.recv().await, Some(Order::Sweep)));
    publish.send(all).unwrap();
    routes.send(Vec::new()).await.unwrap();
    assert!(matches!(heard.recv().await, Some(Order::Learned(_))));
    drop(routes);
    task.await.unwrap();
    assert!(heard.recv().await.is_none(), "once");
}

#[tokio::test]
async fn a_peer_that_does_not_come_back_is_waited_for_no_longer_than_the_grace() {
    let (routes, to_hand_on) = mpsc::channel(4);
    let (_publish, status) = watch::channel(one_peer(State::Active, &[], &[]));
    let (orders, mut heard) = mpsc::unbounded_channel();
    let order = move |order| drop(orders.send(order));
    let task = tokio::spawn(hand_on(to_hand_on, status, Duration::ZERO, order));
    assert!(matches!(heard.recv().await, Some(Order::Sweep)));
    drop(routes);
    task.await.unwrap();
    assert!(heard.recv().await.is_none(), "once");
}

fn settings(view: &View) -> Settings {
    Steering::new(NodeName("n1".to_owned()), view)
        .used()
        .clone()
}

fn view(addresses: &[&str]) -> View {
    let peer = BgpPeer {
        port: 1179,
        hold_time: 30,
        node: Some(NodeName("n2".to_owned())),
        ..BgpPeer::new("192.0.2.2".parse().unwrap(), 64512)
    };
    View {
        network: Some(Arc::new(NodeNetwork {
            node: NodeName("n1".to_owned()),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            pools: vec![],
            namespaces: BTreeSet::new(),
            blocks: BTreeSet::new(),
            bgp: Bgp {
                asn: 64512,
                port: 1179,
                peers: [("node-n2".to_owned(), peer)].into(),
                ..Bgp::default()
            },
        })),
        blocks: [("10.1.0.0/26".parse().unwrap(), 3)].into(),
        outside: ["10.9.9.9/32".parse().unwrap()].into(),
        ..View::default()
    }
}
