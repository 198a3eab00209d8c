//! Two drivers and hostile streams over loopback.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use margay_bgp::wire::{self, MessageType, Open, RestartState};
use margay_bgpd::{Asn, BgpId, Dial, HoldTime, PeerSettings, RouteChange, Settings, State, Status};
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
    let speaker = margay_bgp::Settings {
        peers: BTreeMap::from([("peer".into(), other)]),
        announce: [format!("10.{own}.0.0/26").parse().unwrap()].into(),
        ..margay_bgp::Settings::new(Asn(64512), BgpId(loopback(own)))
    };
    let listen = vec![SocketAddr::new(loopback(own).into(), port)];
    Settings::new(speaker, listen)
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

/// A peer made of octets: 127.0.0.`from`, which dials 127.0.0.`to` and gets as far as an established session.
async fn raw_peer(from: u8, to: u8, port: u16) -> TcpStream {
    let mut stream = connect(from, to, port).await;
    let open = Open::new(
        Asn(64512),
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
async fn message(stream: &mut TcpStream) -> (MessageType, Vec<u8>) {
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
fn announcement(second: u8, origin: u8) -> Vec<u8> {
    let mut message = vec![0xff; 16];
    message.extend_from_slice(&[0, 48, 2, 0, 0, 0, 21]);
    message.extend_from_slice(&[0x40, 1, 1, origin, 0x40, 2, 0]);
    message.extend_from_slice(&[0x40, 3, 4, 127, 0, 0, 250, 0x40, 5, 4, 0, 0, 0, 100]);
    message.extend_from_slice(&[24, 10, second, 0]);
    message
}

#[tokio::test]
async fn a_bad_update_costs_its_own_route_and_nothing_else() {
    let port = free_port().await;
    let mut settings = settings(23, 24, port);
    settings
        .speaker
        .peers
        .values_mut()
        .for_each(|peer| peer.dial = Dial::Passive);
    let mut one = Node::start(settings);
    let mut peer = raw_peer(24, 23, port).await;
    one.until("established", established).await;
    peer.write_all(&announcement(1, 0)).await.unwrap();
    peer.write_all(&announcement(2, 0)).await.unwrap();
    one.until_routes(&[
        ("10.1.0.0/24", "127.0.0.250"),
        ("10.2.0.0/24", "127.0.0.250"),
    ])
    .await;
    // ORIGIN 9, then a sentinel behind it.
    peer.write_all(&announcement(1, 9)).await.unwrap();
    peer.write_all(&announcement(3, 0)).await.unwrap();
    one.until_routes(&[
        ("10.2.0.0/24", "127.0.0.250"),
        ("10.3.0.0/24", "127.0.0.250"),
    ])
    .await;
    one.until("a note", |status| {
        let peer = &status.peers["peer"];
        peer.state == State::Established && peer.notes.iter().any(|note| note.contains("ORIGIN"))
    })
    .await;
    // Now something that leaves no choice: a prefix of 200 bits.
    let mut broken = announcement(4, 0);
    let at = broken.len() - 4;
    broken[at] = 200;
    peer.write_all(&broken).await.unwrap();
    loop {
        let (kind, body) = message(&mut peer).await;
        if kind == MessageType::Notification {
            assert_eq!(body, [3, 10]);
            break;
        }
    }
    one.until_routes(&[]).await;
    one.until("the reason", |status| reason(status).0.contains("200 bits"))
        .await;
}

#[tokio::test]
async fn a_thousand_strangers_do_not_disturb_a_session() {
    let port = free_port().await;
    let mut settings = settings(25, 26, port);
    settings
        .speaker
        .peers
        .values_mut()
        .for_each(|peer| peer.dial = Dial::Passive);
    let mut one = Node::start(settings);
    let mut peer = raw_peer(26, 25, port).await;
    one.until("established", established).await;
    for _ in 0..1000 {
        let mut stranger = connect(27, 25, port).await;
        let mut octets = Vec::new();
        // Closed or reset, whichever is quicker.
        let _ = stranger.read_to_end(&mut octets).await;
        assert!(octets.is_empty());
    }
    peer.write_all(&announcement(1, 0)).await.unwrap();
    one.until_routes(&[("10.1.0.0/24", "127.0.0.250")]).await;
    assert!(established(&one.status.borrow()));
}

/// Which of timer and stream is looked at first is chance in each driver, so there are many.
#[tokio::test]
async fn a_process_that_was_held_up_counts_what_came_meanwhile_before_what_ran_out() {
    let (streams, arriving) = std::sync::mpsc::channel::<std::net::TcpStream>();
    let alive = std::thread::spawn(move || {
        let mut peers = Vec::new();
        loop {
            match arriving.recv_timeout(Duration::from_millis(250)) {
                Ok(peer) => peers.push(peer),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return peers,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    for peer in &mut peers {
                        std::io::Write::write_all(peer, &wire::encode_keepalive()).unwrap();
                    }
                }
            }
        }
    });
    let mut nodes = Vec::new();
    for number in (100..130).step_by(2) {
        let port = free_port().await;
        let mut settings = settings(number, number + 1, port);
        for peer in settings.speaker.peers.values_mut() {
            peer.dial = Dial::Passive;
            peer.hold_time = HoldTime::from_secs(3);
        }
        let mut node = Node::start(settings);
        let peer = raw_peer(number + 1, number, port).await.into_std().unwrap();
        peer.set_nonblocking(false).unwrap();
        streams.send(peer).unwrap();
        node.until("established", established).await;
        nodes.push(node);
    }
    // The peers go on; this thread, on which the drivers run, does not, longer than the hold time.
    std::thread::sleep(Duration::from_secs(4));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    drop(streams);
    let mut peers = alive.join().unwrap();
    for (node, peer) in nodes.iter_mut().zip(&mut peers) {
        std::io::Write::write_all(peer, &announcement(1, 0)).unwrap();
        node.until_routes(&[("10.1.0.0/24", "127.0.0.250")]).await;
    }
}
