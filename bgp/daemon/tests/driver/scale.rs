//! A hundred real sessions at one reflector (RFC 4456).

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use margay_bgp::settings::{PeerRange, Reflection};
use margay_bgpd::{Asn, BgpId, Dial, Export, PeerSettings, Settings, State};

use crate::node::{Node, free_port, loopback, settings};

const CLIENTS: u8 = 100;

fn client_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 90, 0, number)
}

fn client(number: u8, port: u16) -> Settings {
    let mut reflector = PeerSettings::new(loopback(90).into(), Asn(64512));
    reflector.port = port;
    reflector.source = Some(client_address(number).into());
    let speaker = margay_bgp::Settings {
        peers: BTreeMap::from([("reflector".into(), reflector)]),
        announce: [format!("10.90.{number}.0/26").parse().unwrap()].into(),
        ..margay_bgp::Settings::new(Asn(64512), BgpId(client_address(number)))
    };
    Settings::new(speaker, Vec::new())
}

/// What a client is told: the prefix of each of the others, by that one.
async fn until_complete(node: &mut Node, own: u8, gone: Option<u8>) {
    let others = (1..=CLIENTS).filter(|other| *other != own && Some(*other) != gone);
    let routes: Vec<(String, String)> = others
        .map(|other| {
            let next_hop = client_address(other).to_string();
            (format!("10.90.{other}.0/26"), next_hop)
        })
        .collect();
    let routes: Vec<_> = routes
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    node.until_routes(&routes).await;
}

#[tokio::test]
async fn a_hundred_clients_hear_of_each_other_by_one_reflector() {
    let port = free_port().await;
    let mut hub = settings(90, 91, port);
    hub.speaker.peers.clear();
    hub.speaker.announce.clear();
    let range = PeerRange {
        prefix: "127.90.0.0/24".parse().unwrap(),
        asns: [Asn(64512)].into(),
        template: PeerSettings {
            dial: Dial::Passive,
            export: Export::All,
            reflection: Reflection::Client,
            ..PeerSettings::new("127.90.0.0".parse().unwrap(), Asn(64512))
        },
        limit: CLIENTS.into(),
    };
    hub.speaker.ranges.insert("clients".to_owned(), range);
    let mut hub = Node::start(hub);
    let mut clients: Vec<Node> = (1..=CLIENTS)
        .map(|number| Node::start(client(number, port)))
        .collect();
    hub.until("a hundred sessions", |status| {
        let up = |peer: &&_| -> bool {
            let peer: &margay_bgpd::PeerStatus = peer;
            peer.state == State::Established
        };
        status.peers.values().filter(up).count() == usize::from(CLIENTS)
    })
    .await;
    for (number, client) in (1..).zip(&mut clients) {
        until_complete(client, number, None).await;
    }
    // One leaves, and what it announced is gone everywhere.
    let mut last = clients.pop().unwrap();
    last.settings = None;
    (&mut last.task).await.unwrap();
    for (number, client) in (1..).zip(&mut clients) {
        until_complete(client, number, Some(CLIENTS)).await;
        let status = client.status.borrow();
        assert_eq!(status.peers["reflector"].sessions, 1);
    }
}
