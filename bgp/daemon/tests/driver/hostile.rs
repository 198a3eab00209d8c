//! Peers that are hostile or sick. Beside each there is a well one, whose routes must get through.

use std::time::Duration;

use margay_bgp::settings::Reflection;
use margay_bgp::wire::{self, MessageType};
use margay_bgpd::{Dial, Export, HoldTime, PeerSettings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::node::{
    Node, announcement, connect, established, free_port, loopback, message, raw_peer, settings,
};

/// A driver with a sick peer (`own` + 1, called `peer`) and a well one (`own` + 2), which is established.
struct Ward {
    node: Node,
    well: TcpStream,
    own: u8,
    port: u16,
    count: u8,
}

impl Ward {
    async fn new(own: u8) -> Self {
        let port = free_port().await;
        let mut settings = settings(own, own + 1, port);
        let peers = &mut settings.speaker.peers;
        let sick = peers.values_mut().next().unwrap();
        sick.dial = Dial::Passive;
        sick.export = Export::All;
        // So that it hears of the well one, as that of it.
        sick.reflection = Reflection::Client;
        sick.hold_time = HoldTime::from_secs(90);
        let well = PeerSettings {
            address: loopback(own + 2).into(),
            ..sick.clone()
        };
        peers.insert("well".into(), well);
        let mut node = Node::start(settings);
        let well = raw_peer(own + 2, own, port).await;
        node.until("the well one is established", |status| {
            let well = status.peers.get("well");
            well.is_some_and(|peer| peer.state == margay_bgpd::State::Established)
        })
        .await;
        let mut ward = Self {
            node,
            well,
            own,
            port,
            count: 0,
        };
        ward.all_is_well().await;
        ward
    }

    async fn sick(&self) -> TcpStream {
        connect(self.own + 1, self.own, self.port).await
    }

    async fn sick_but_established(&mut self) -> TcpStream {
        let peer = raw_peer(self.own + 1, self.own, self.port).await;
        self.node.until("established", established).await;
        peer
    }

    /// The well peer's session is the same as ever, and its next route gets through.
    async fn all_is_well(&mut self) {
        self.count += 1;
        self.well
            .write_all(&announcement(self.count, 0))
            .await
            .unwrap();
        let prefixes: Vec<String> = (1..=self.count)
            .map(|second| format!("10.{second}.0.0/24"))
            .collect();
        let routes: Vec<_> = prefixes
            .iter()
            .map(|prefix| (prefix.as_str(), "127.0.0.250"))
            .collect();
        self.node.until_routes(&routes).await;
        let status = self.node.status.borrow();
        assert_eq!(status.peers["well"].sessions, 1);
    }

    async fn until_reason(&mut self, text: &str) {
        self.node
            .until(text, |status| status.peers["peer"].reason.contains(text))
            .await;
    }
}

/// Everything that still comes.
async fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut octets).await;
    octets
}

#[tokio::test]
async fn headers_that_are_none_are_answered_and_told() {
    let mut ward = Ward::new(41).await;
    let header = |marker: u8, length: u16, kind: u8| {
        let mut octets = vec![marker; 16];
        octets.extend_from_slice(&length.to_be_bytes());
        octets.push(kind);
        octets
    };
    for (octets, answer, reason) in [
        (header(0xfe, 19, 4), [1, 1], "this is not BGP"),
        (header(0xff, 18, 4), [1, 2], "the peer sent"),
        (header(0xff, 4097, 2), [1, 2], "the peer sent"),
        (header(0xff, 65535, 1), [1, 2], "the peer sent"),
        (header(0xff, 19, 9), [1, 3], "the peer sent"),
        (vec![0; 1000], [1, 1], "this is not BGP"),
    ] {
        let mut peer = ward.sick().await;
        peer.write_all(&octets).await.unwrap();
        let said = rest(peer).await;
        let at = said
            .windows(3)
            .position(|three| three == [3, answer[0], answer[1]]);
        assert!(at.is_some(), "{octets:?}: {said:?}");
        ward.until_reason(reason).await;
        ward.all_is_well().await;
    }
}

#[tokio::test]
async fn a_message_that_breaks_off_is_told() {
    let mut ward = Ward::new(44).await;
    let mut peer = ward.sick_but_established().await;
    let whole = announcement(200, 0);
    peer.write_all(&whole[..30]).await.unwrap();
    drop(peer);
    ward.until_reason("connection lost").await;
    ward.all_is_well().await;
}

#[tokio::test]
async fn updates_may_come_octet_by_octet() {
    let mut ward = Ward::new(47).await;
    let mut peer = ward.sick_but_established().await;
    for octet in announcement(200, 0) {
        peer.write_all(&[octet]).await.unwrap();
        peer.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    ward.node
        .until_routes(&[
            ("10.1.0.0/24", "127.0.0.250"),
            ("10.200.0.0/24", "127.0.0.250"),
        ])
        .await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_does_not_keep_the_peer_out() {
    let mut ward = Ward::new(50).await;
    let silent = ward.sick().await;
    let _established = ward.sick_but_established().await;
    ward.all_is_well().await;
    drop(silent);
    ward.all_is_well().await;
    assert!(established(&ward.node.status.borrow()));
}

#[tokio::test]
async fn a_flood_of_connections_and_opens_disturbs_nobody() {
    let mut ward = Ward::new(53).await;
    let open = wire::Open::new(
        margay_bgpd::Asn(64512),
        HoldTime::from_secs(90),
        margay_bgpd::BgpId(loopback(54)),
        &margay_bgpd::Family::ALL.into(),
        wire::RestartState::Running,
    )
    .encode();
    let mut held = Vec::new();
    for number in 0..1000 {
        let mut peer = ward.sick().await;
        // One that is closed already takes nothing.
        let _ = peer.write_all(&open).await;
        if number % 10 == 0 {
            held.push(peer);
        }
    }
    ward.all_is_well().await;
    drop(held);
    let mut peer = ward.sick_but_established().await;
    peer.write_all(&announcement(200, 0)).await.unwrap();
    ward.node
        .until_routes(&[
            ("10.1.0.0/24", "127.0.0.250"),
            ("10.2.0.0/24", "127.0.0.250"),
            ("10.200.0.0/24", "127.0.0.250"),
        ])
        .await;
}

#[tokio::test]
async fn a_peer_that_comes_and_goes_leaves_nothing_behind() {
    let mut ward = Ward::new(56).await;
    for _ in 0..50 {
        let mut peer = ward.sick_but_established().await;
        let goodbye = wire::Notification::cease(wire::notification::Cease::AdministrativeReset, "");
        // At once: what its kernel still holds back goes with the reset that unread octets make of the end.
        let last = [announcement(200, 0), goodbye.encode()].concat();
        peer.write_all(&last).await.unwrap();
        drop(peer);
        ward.node.until("down", |status| !established(status)).await;
    }
    ward.all_is_well().await;
}

/// Resident memory of this process, in octets.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[tokio::test]
async fn a_peer_that_stops_reading_costs_a_bounded_amount_of_memory() {
    let mut ward = Ward::new(59).await;
    let mut deaf = ward.sick_but_established().await;
    // Every prefix changes again and again; what the deaf one has not been told is not heaped up.
    let mut before = 0;
    for round in 0..60_u8 {
        let mut octets = Vec::new();
        for second in 0..=255_u8 {
            let mut message = announcement(second, round % 3);
            message.truncate(message.len() - 4);
            for third in 0..=255 {
                message.extend_from_slice(&[24, 11, second, third]);
            }
            let length = u16::try_from(message.len()).unwrap();
            message[16..18].copy_from_slice(&length.to_be_bytes());
            octets.extend_from_slice(&message);
        }
        ward.well.write_all(&octets).await.unwrap();
        let mut alive = wire::encode_keepalive();
        alive.extend_from_slice(&wire::encode_keepalive());
        ward.well.write_all(&alive).await.unwrap();
        // The owner of the routes takes what there is.
        while let Ok(changes) =
            tokio::time::timeout(Duration::from_millis(20), ward.node.routes.recv()).await
        {
            assert!(changes.is_some());
        }
        if round == 10 {
            before = memory();
        }
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{} MiB more", grown >> 20);
    assert!(established(&ward.node.status.borrow()));
    // The well one's next route gets through meanwhile.
    ward.well.write_all(&announcement(201, 0)).await.unwrap();
    ward.node.until_prefix("10.201.0.0/24").await;
    assert_eq!(ward.node.status.borrow().peers["well"].sessions, 1);
    // And once the deaf one reads again it hears all of it, the last thing too, in the same session.
    let mut last = Vec::new();
    while !last.windows(4).any(|four| four == [24, 10, 201, 0]) {
        let keep = last.len().saturating_sub(3);
        last.drain(..keep);
        let more = deaf.read_buf(&mut last);
        let more = tokio::time::timeout(Duration::from_secs(20), more).await;
        assert!(more.unwrap().unwrap() > 0);
    }
    assert_eq!(ward.node.status.borrow().peers["peer"].sessions, 1);
}

#[tokio::test]
async fn a_second_connection_of_an_established_peer_is_refused_and_the_session_stays() {
    let mut ward = Ward::new(62).await;
    let mut peer = ward.sick_but_established().await;
    for _ in 0..20 {
        let _ = rest(ward.sick().await).await;
    }
    peer.write_all(&wire::encode_keepalive()).await.unwrap();
    ward.all_is_well().await;
    assert!(established(&ward.node.status.borrow()));
    let (kind, _) = message(&mut peer).await;
    assert_ne!(kind, MessageType::Notification);
}

/// RFC 5492 §4: what is not known is ignored, and what stands several times counts once.
#[tokio::test]
async fn a_soup_of_capabilities_is_taken_as_far_as_it_makes_sense() {
    let mut ward = Ward::new(65).await;
    let mut open = wire::Open::new(
        margay_bgpd::Asn(64512),
        HoldTime::from_secs(90),
        margay_bgpd::BgpId(loopback(66)),
        &margay_bgpd::Family::ALL.into(),
        wire::RestartState::Running,
    );
    let known = open.capabilities.clone();
    for number in 0..700_u16 {
        let [high, low] = number.to_be_bytes();
        open.capabilities.push(match number % 3 {
            0 => wire::Capability::Other {
                code: 100 + low % 100,
                value: vec![low; usize::from(high)],
            },
            1 => wire::Capability::Multiprotocol {
                afi: number,
                safi: low,
            },
            _ => known[usize::from(number) % known.len()].clone(),
        });
    }
    let mut peer = ward.sick().await;
    let octets = open.encode();
    assert!(octets.len() > 3000, "longer than RFC 4271 has room for");
    peer.write_all(&octets).await.unwrap();
    peer.write_all(&wire::encode_keepalive()).await.unwrap();
    ward.node.until("established", established).await;
    peer.write_all(&announcement(200, 0)).await.unwrap();
    ward.node
        .until_routes(&[
            ("10.1.0.0/24", "127.0.0.250"),
            ("10.200.0.0/24", "127.0.0.250"),
        ])
        .await;
}
