//! Drivers over loopback, and peers that are only octets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use margay_bgp::wire::{self, MessageType, Open, RestartState};
use margay_bgpd::{Asn, BgpId, HoldTime, PeerSettings, RouteChange, Settings, State, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A driver under test.
pub(crate) struct Node {
    pub(crate) settings: Option<watch::Sender<Settings>>,
    pub(crate) status: watch::Receiver<Status>,
    pub(crate) routes: mpsc::Receiver<Vec<RouteChange>>,
    pub(crate) table: BTreeMap<ipnet::IpNet, BTreeSet<IpAddr>>,
    pub(crate) task: JoinHandle<()>,
}

impl Node {
    pub(crate) fn start(settings: Settings) -> Self {
        let (settings, receiver) = watch::channel(settings);
        let (sender, routes) = mpsc::channel(1);
        let (publisher, status) = watch::channel(Status::default());
        Self {
            settings: Some(settings),
            status,
            routes,
            table: BTreeMap::new(),
            task: tokio::spawn(margay_bgpd::run(receiver, sender, publisher)),
        }
    }

    pub(crate) async fn until(&mut self, what: &str, condition: impl Fn(&Status) -> bool) {
        let wait = self.status.wait_for(|status| condition(status));
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        let met = waited.is_ok_and(|status| status.is_ok());
        assert!(
            met,
            "waited in vain for: {what}; {:?}",
            self.status.borrow()
        );
    }

    /// Takes route changes in until the table is this one.
    pub(crate) async fn until_routes(&mut self, expected: &[(&str, &str)]) {
        let expected: BTreeMap<_, BTreeSet<IpAddr>> = expected
            .iter()
            .map(|(prefix, hop)| (prefix.parse().unwrap(), [hop.parse().unwrap()].into()))
            .collect();
        while self.table != expected {
            let next = tokio::time::timeout(Duration::from_secs(20), self.routes.recv()).await;
            let Ok(Some(changes)) = next else {
                panic!("waited in vain for {expected:?}, have {:?}", self.table);
            };
            for change in changes {
                if change.next_hops.is_empty() {
                    self.table.remove(&change.prefix);
                } else {
                    self.table.insert(change.prefix, change.next_hops);
                }
            }
        }
    }

    /// Takes route changes in until one of them is this prefix, which has a next hop then.
    pub(crate) async fn until_prefix(&mut self, prefix: &str) {
        let prefix: ipnet::IpNet = prefix.parse().unwrap();
        loop {
            let next = tokio::time::timeout(Duration::from_secs(20), self.routes.recv()).await;
            let Ok(Some(changes)) = next else {
                panic!("waited in vain for {prefix:?}");
            };
            let mut changes = changes.into_iter();
            if changes.any(|change| change.prefix == prefix && !change.next_hops.is_empty()) {
                return;
            }
        }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Settings)) {
        self.settings.as_ref().unwrap().send_modify(change);
    }
}

pub(crate) fn loopback(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

/// A port that was free a moment ago at both addresses.
pub(crate) async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

pub(crate) fn settings(own: u8, peer: u8, port: u16) -> Settings {
    let mut other = PeerSettings::new(loopback(peer).into(), Asn(64512));
    other.port = port;
    other.source = Some(loopback(own).into());
    other.hold_time = HoldTime::from_secs(9);
    let speaker = margay_bgp::Settings {
        peers: BTreeMap::from([("peer".into(), other)]),
        announce: [format!("10.{own}.0.0/26").parse().unwrap()].into(),
        ..margay_bgp::Settings::new(Asn(64512), BgpId(loopback(own)))
    };
    let listen = vec![SocketAddr::new(loopback(own).into(), port)];
    Settings::new(speaker, listen)
}

pub(crate) fn established(status: &Status) -> bool {
    let peer = status.peers.get("peer");
    peer.is_some_and(|peer| peer.state == State::Established)
}

/// The reason and hint of the one peer.
pub(crate) fn reason(status: &Status) -> (&str, &str) {
    let peer = status.peers.get("peer");
    peer.map_or(("", ""), |peer| (&peer.reason, &peer.hint))
}

pub(crate) async fn connect(from: u8, to: u8, port: u16) -> TcpStream {
    for _ in 0..200 {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::new(loopback(from).into(), 0))
            .unwrap();
        match socket.connect((loopback(to), port).into()).await {
            Ok(stream) => return stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    panic!("nothing listens");
}

/// A peer made of octets: 127.0.0.`from`, which dials 127.0.0.`to` and gets as far as an established session.
pub(crate) async fn raw_peer(from: u8, to: u8, port: u16) -> TcpStream {
    raw_peer_of(64512, from, to, port).await
}

/// The same, in another AS.
pub(crate) async fn raw_peer_of(asn: u32, from: u8, to: u8, port: u16) -> TcpStream {
    let mut stream = connect(from, to, port).await;
    let open = Open::new(
        Asn(asn),
        HoldTime::from_secs(90),
        BgpId(loopback(from)),
        &margay_bgpd::Family::ALL.into(),
        RestartState::Running,
    );
    // Byte by byte, as the network may deliver it.
    for octet in open.encode() {
        stream.write_all(&[octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    stream.write_all(&wire::encode_keepalive()).await.unwrap();
    assert_eq!(message(&mut stream).await.0, MessageType::Open);
    assert_eq!(message(&mut stream).await.0, MessageType::Keepalive);
    stream
}

/// The next message.
pub(crate) async fn message(stream: &mut TcpStream) -> (MessageType, Vec<u8>) {
    let mut header = [0; 19];
    stream.read_exact(&mut header).await.unwrap();
    let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
    let mut octets = header.to_vec();
    octets.resize(length, 0);
    stream.read_exact(&mut octets[19..]).await.unwrap();
    let frame = wire::take_frame(&mut octets.as_slice()).unwrap().unwrap();
    (frame.kind, frame.body.to_vec())
}

/// Announces 10.`second`.0.0/24, with this ORIGIN.
pub(crate) fn announcement(second: u8, origin: u8) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&[0, 48, 2, 0, 0, 0, 21]);
    message.extend_from_slice(&[0x40, 1, 1, origin, 0x40, 2, 0]);
    message.extend_from_slice(&[0x40, 3, 4, 127, 0, 0, 250, 0x40, 5, 4, 0, 0, 0, 100]);
    message.extend_from_slice(&[24, 10, second, 0]);
    message
}
