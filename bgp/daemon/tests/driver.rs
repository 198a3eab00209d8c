//! Two drivers and hostile streams over loopback.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use margay_bgpd::{
    Asn, BgpId, HoldTime, NextHops, PeerSettings, RouteChange, Settings, State, Status,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A driver under test.
struct Node {
    settings: Option<watch::Sender<Settings>>,
    status: watch::Receiver<Status>,
    routes: mpsc::Receiver<Vec<RouteChange>>,
    table: BTreeMap<ipnet::IpNet, BTreeSet<IpAddr>>,
    task: JoinHandle<()>,
}

impl Node {
    fn start(settings: Settings) -> Self {
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

    async fn until(&mut self, what: &str, condition: impl Fn(&Status) -> bool) {
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
    async fn until_routes(&mut self, expected: &[(&str, &str)]) {
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

    fn change(&self, change: impl FnOnce(&mut Settings)) {
        self.settings.as_ref().unwrap().send_modify(change);
    }
}

fn loopback(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

/// A port that was free a moment ago at both addresses.
async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

fn settings(own: u8, peer: u8, port: u16) -> Settings {
    let mut other = PeerSettings::new(loopback(peer).into(), Asn(64512));
    other.port = port;
    other.source = Some(loopback(own).into());
    other.hold_time = HoldTime::from_secs(9);
    Settings {
        speaker: margay_bgp::Settings {
            asn: Asn(64512),
            bgp_id: BgpId(loopback(own)),
            next_hops: NextHops::default(),
            peers: BTreeMap::from([("peer".into(), other)]),
            announce: [format!("10.{own}.0.0/26").parse().unwrap()].into(),
        },
        listen: vec![SocketAddr::new(loopback(own).into(), port)],
    }
}

fn established(status: &Status) -> bool {
    let peer = status.peers.get("peer");
    peer.is_some_and(|peer| peer.state == State::Established)
}

/// The reason and hint of the one peer.
fn reason(status: &Status) -> (&str, &str) {
    let peer = status.peers.get("peer");
    peer.map_or(("", ""), |peer| (&peer.reason, &peer.hint))
}

#[tokio::test]
async fn two_drivers_exchange_routes_and_part_in_order() {
    let port = free_port().await;
    let mut one = Node::start(settings(11, 12, port));
    let mut other = Node::start(settings(12, 11, port));
    one.until("established", established).await;
    one.until_routes(&[("10.12.0.0/26", "127.0.0.12")]).await;
    other.until_routes(&[("10.11.0.0/26", "127.0.0.11")]).await;

    other.change(|settings| {
        settings
            .speaker
            .announce
            .insert("10.12.1.0/26".parse().unwrap());
    });
    let both = [
        ("10.12.0.0/26", "127.0.0.12"),
        ("10.12.1.0/26", "127.0.0.12"),
    ];
    one.until_routes(&both).await;

    other.settings = None;
    (&mut other.task).await.unwrap();
    one.until_routes(&[]).await;
    one.until("the peer's last words", |status| {
        reason(status).0.contains("this speaker is shutting down")
    })
    .await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_dialling_works_all_the_same() {
    let port = free_port().await;
    let taken = TcpListener::bind((loopback(13), port)).await.unwrap();
    let mut one = Node::start(settings(13, 14, port));
    let place = SocketAddr::new(loopback(13).into(), port);
    one.until("a reason", |status| {
        let listener = status.listeners.get(&place);
        matches!(listener, Some(Err(reason)) if reason.contains("does a BGP daemon run here?"))
    })
    .await;
    let mut other = settings(14, 13, port);
    other
        .speaker
        .peers
        .values_mut()
        .for_each(|peer| peer.port = port);
    let _other = Node::start(other);
    one.until("established", established).await;
    drop(taken);
    one.until("listening", |status| {
        status.listeners.get(&place) == Some(&Ok(()))
    })
    .await;
}

#[tokio::test]
async fn a_refused_dial_is_told_in_words() {
    let port = free_port().await;
    let mut one = Node::start(settings(15, 16, port));
    one.until("refused", |status| {
        let (reason, hint) = reason(status);
        reason == "cannot connect: connection refused" && !hint.is_empty()
    })
    .await;
    one.change(|settings| {
        let peer = settings.speaker.peers.values_mut().next().unwrap();
        peer.source = Some("192.0.2.1".parse().unwrap());
    });
    one.until("no such source", |status| {
        reason(status).0.contains("not an address of this node")
    })
    .await;
}

async fn connect(from: u8, to: u8, port: u16) -> TcpStream {
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

#[tokio::test]
async fn garbage_is_answered_by_a_notification_and_then_the_end() {
    let port = free_port().await;
    let mut one = Node::start(settings(17, 18, port));
    let mut stream = connect(18, 17, port).await;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).await.unwrap();
    // Our OPEN, then NOTIFICATION 1/1.
    let notification = &octets[octets.len() - 21..];
    assert_eq!(notification[16..], [0, 21, 3, 1, 1]);
    one.until("a reason", |status| {
        reason(status).0.contains("this is not BGP")
    })
    .await;
}

#[tokio::test]
async fn a_stranger_is_closed_without_a_word() {
    let port = free_port().await;
    let _one = Node::start(settings(19, 20, port));
    let mut stream = connect(21, 19, port).await;
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).await.unwrap();
    assert!(octets.is_empty());
}
