//! Drivers over loopback: with each other, and with peers that are hostile or sick.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]

mod hostile;
mod node;
mod rfc7606;
mod scale;
mod sockets;

use std::net::SocketAddr;
use std::time::Duration;

use margay_bgp::wire::{self, MessageType};
use margay_bgpd::{Dial, HoldTime, State};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use node::{
    Node, announcement, connect, established, free_port, loopback, message, raw_peer, reason,
    settings,
};

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
    one.until("when it is dialled again", |status| {
        let peer = &status.peers["peer"];
        peer.dial_at.is_some() && peer.hold_until.is_none()
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

/// A node that waits for its peer, the peer's end of their session, and the node's port.
async fn beside_raw_peer(own: u8, peer: u8) -> (Node, TcpStream, u16) {
    let port = free_port().await;
    let mut settings = settings(own, peer, port);
    settings
        .speaker
        .peers
        .values_mut()
        .for_each(|peer| peer.dial = Dial::Passive);
    let mut node = Node::start(settings);
    let stream = raw_peer(peer, own, port).await;
    node.until("established", established).await;
    (node, stream, port)
}

#[tokio::test]
async fn a_bad_update_costs_its_own_route_and_nothing_else() {
    let (mut one, mut peer, _) = beside_raw_peer(23, 24).await;
    one.until("the hold timer", |status| {
        let peer = &status.peers["peer"];
        let most = peer.since + peer.hold_time.unwrap().duration().unwrap();
        peer.hold_until.is_some_and(|until| until >= most) && peer.dial_at.is_none()
    })
    .await;
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
    let (mut one, mut peer, port) = beside_raw_peer(25, 26).await;
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
