//! Passwords, ranges and identifiers, between two drivers.

use margay_bgp::settings::PeerRange;
use margay_bgpd::{
    AoAlgorithm, AoKey, Asn, Dial, Password, PeerSettings, Settings, Transport, Ttl,
};

use tokio::io::AsyncReadExt as _;

use crate::node::{Node, connect, established, free_port, loopback, reason, settings};

fn transport(password: &str) -> Transport {
    Transport {
        password: Some(Password::try_from(password.to_owned()).unwrap()),
        ..Transport::default()
    }
}

fn with_password(mut settings: Settings, password: &str) -> Settings {
    settings
        .transport
        .insert("peer".into(), transport(password));
    settings
}

#[tokio::test]
async fn a_password_changes_while_the_session_goes_on() {
    let port = free_port().await;
    let mut one = Node::start(with_password(settings(71, 72, port), "first"));
    let mut other = Node::start(with_password(settings(72, 71, port), "first"));
    one.until("established", established).await;
    other.until("established", established).await;
    for password in ["second", "third"] {
        for node in [&one, &other] {
            node.change(|settings| {
                settings
                    .transport
                    .insert("peer".into(), transport(password));
            });
        }
        let prefix = format!("10.72.{}.0/26", password.len());
        other.change(|settings| {
            settings.speaker.announce = [prefix.parse().unwrap()].into();
        });
        one.until_routes(&[(&prefix, "127.0.0.72")]).await;
    }
    assert_eq!(one.status.borrow().peers["peer"].sessions, 1);
    // And the listeners have it too: a new session comes up.
    for node in [&one, &other] {
        node.change(|settings| settings.speaker.asn = Asn(64513));
        node.change(|settings| {
            for peer in settings.speaker.peers.values_mut() {
                peer.asn = Asn(64513);
            }
        });
    }
    one.until("another session", |status| {
        status
            .peers
            .get("peer")
            .is_some_and(|peer| peer.asn == Asn(64513))
            && established(status)
    })
    .await;
}

fn with_tcp_ao(mut settings: Settings) -> Settings {
    let transport = Transport {
        ao: Some(AoKey {
            key: Password::try_from("in the rack".to_owned()).unwrap(),
            send_id: 7,
            receive_id: 7,
            algorithm: AoAlgorithm::HmacSha1,
        }),
        ..Transport::default()
    };
    settings.transport.insert("peer".into(), transport);
    settings
}

/// RFC 5925: who does not sign does not get in, whether the kernel has it or not; and where it has, those who agree do.
#[tokio::test]
async fn with_tcp_ao_there_is_a_session_that_is_signed_or_none() {
    let port = free_port().await;
    let mut one = Node::start(with_tcp_ao(settings(85, 86, port)));
    let mut unsigned = Node::start(settings(86, 85, port));
    let is_lacking = |status: &margay_bgpd::Status| {
        reason(status)
            .0
            .starts_with("this kernel has no TCP-AO (RFC 5925)")
    };
    one.until("the reason and a hint", |status| {
        let (reason, hint) = reason(status);
        (is_lacking(status) || reason.contains("no answer")) && !hint.is_empty()
    })
    .await;
    unsigned
        .until("down", |status| !reason(status).0.is_empty())
        .await;
    if is_lacking(&one.status.borrow()) {
        // Its dials are taken and closed without a word.
        let mut stranger = connect(86, 85, port).await;
        let mut said = Vec::new();
        let _ = stranger.read_to_end(&mut said).await;
        assert!(said.is_empty());
    } else {
        let mut here = Node::start(with_tcp_ao(settings(87, 88, port)));
        let _there = Node::start(with_tcp_ao(settings(88, 87, port)));
        here.until("established", established).await;
    }
    for node in [one, unsigned] {
        assert_eq!(node.status.borrow().peers["peer"].sessions, 0);
    }
}

#[tokio::test]
async fn a_range_has_a_password_for_all_its_peers() {
    let port = free_port().await;
    let mut hub = settings(73, 74, port);
    hub.speaker.peers.clear();
    let range = PeerRange {
        prefix: "127.73.0.0/16".parse().unwrap(),
        asns: [Asn(64512)].into(),
        template: PeerSettings {
            dial: Dial::Passive,
            ..PeerSettings::new("127.73.0.0".parse().unwrap(), Asn(64512))
        },
        limit: 10,
    };
    hub.speaker.ranges.insert("nodes".to_owned(), range);
    hub.range_transport
        .insert("nodes".to_owned(), transport("of the range"));
    let mut hub = Node::start(hub);
    let mut nodes = Vec::new();
    for last in [1, 2] {
        let mut settings = with_password(settings(74 + last, 73, port), "of the range");
        settings.listen.clear();
        for peer in settings.speaker.peers.values_mut() {
            peer.source = Some([127, 73, 0, last].into());
        }
        nodes.push(Node::start(settings));
    }
    hub.until("both are there", |status| {
        let peers = status.peers.values();
        peers
            .filter(|peer| peer.state == margay_bgpd::State::Established)
            .count()
            == 2
    })
    .await;
    let status = hub.status.borrow();
    for peer in status.peers.values() {
        assert_eq!(peer.range.as_deref(), Some("nodes"));
    }
}

#[tokio::test]
async fn ttl_security_works_on_both_sides_of_a_loopback() {
    let port = free_port().await;
    let security = |mut settings: Settings| {
        let transport = Transport {
            ttl: Ttl::Security(std::num::NonZeroU8::MIN),
            ..Transport::default()
        };
        settings.transport.insert("peer".into(), transport);
        settings
    };
    let mut one = Node::start(security(settings(81, 82, port)));
    let mut other = Node::start(security(settings(82, 81, port)));
    one.until("established", established).await;
    one.until_routes(&[("10.82.0.0/26", "127.0.0.82")]).await;
    other.until_routes(&[("10.81.0.0/26", "127.0.0.81")]).await;
}

#[tokio::test]
async fn two_speakers_with_one_identifier_are_told_so() {
    let port = free_port().await;
    let mut one = Node::start(settings(83, 84, port));
    let mut twin = settings(84, 83, port);
    twin.speaker.bgp_id = margay_bgpd::BgpId(loopback(83));
    let mut twin = Node::start(twin);
    for node in [&mut one, &mut twin] {
        node.until("the same identifier", |status| {
            let Some(peer) = status.peers.get("peer") else {
                return false;
            };
            // Who sees it first tells the other (RFC 4271 §6.2).
            (peer
                .reason
                .contains("both sides have the BGP identifier 127.0.0.83")
                || peer.hint.contains("our BGP identifier"))
                && !peer.hint.is_empty()
        })
        .await;
    }
}
