//! The malformed UPDATEs of the speaker's tests through a real session, each with a sentinel behind it.

#[path = "../../../speaker/tests/rfc7606/cases.rs"]
mod cases;

use cases::{CASES, Case, Fate, ROUTE, SENTINEL, update};
use margay_bgp::wire::MessageType;
use margay_bgpd::{Asn, Dial, HoldTime};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::node::{Node, established, free_port, message, raw_peer_of, settings};

const PREFIX: &str = "198.51.100.0/24";
const BEHIND: &str = "203.0.113.0/24";
const NEXT_HOP: [u8; 4] = [127, 0, 0, 250];

struct Lab {
    node: Node,
    peer: TcpStream,
    asn: u32,
    own: u8,
    port: u16,
}

impl Lab {
    async fn new(asn: u32, own: u8) -> Self {
        let port = free_port().await;
        let mut settings = settings(own, own + 1, port);
        for peer in settings.speaker.peers.values_mut() {
            peer.dial = Dial::Passive;
            peer.asn = Asn(asn);
            peer.hold_time = HoldTime::from_secs(90);
        }
        let mut node = Node::start(settings);
        let peer = raw_peer_of(asn, own + 1, own, port).await;
        node.until("established", established).await;
        Self {
            node,
            peer,
            asn,
            own,
            port,
        }
    }

    async fn send(&mut self, attribute: &str, nlri: &[u8]) {
        let internal = self.asn == 64512;
        let octets = update(attribute, nlri, NEXT_HOP, self.asn, internal);
        self.peer.write_all(&octets).await.unwrap();
    }

    /// Withdraws everything.
    async fn withdraw(&mut self) {
        let withdrawn = [ROUTE, SENTINEL].concat();
        let mut octets = vec![0xff; 16];
        octets.extend_from_slice(&[0, 23 + 8, 2, 0, 8]);
        octets.extend_from_slice(&withdrawn);
        octets.extend_from_slice(&[0, 0]);
        self.peer.write_all(&octets).await.unwrap();
        self.node.until_routes(&[]).await;
    }

    async fn try_case(&mut self, case: &Case) {
        let fate = if self.asn == 64512 {
            case.ibgp
        } else {
            case.ebgp
        };
        eprintln!("{} in AS {}: {fate:?}", case.name, self.asn);
        // A good route first, so that a withdrawal shows; ORIGIN again is no change.
        self.send("40 01 01 00", &ROUTE).await;
        self.node.until_routes(&[(PREFIX, "127.0.0.250")]).await;
        self.send(case.attribute, &ROUTE).await;
        if let Fate::Reset(subcode) = fate {
            loop {
                let (kind, body) = message(&mut self.peer).await;
                if kind == MessageType::Notification {
                    assert_eq!(body[..2], [3, subcode], "{}", case.name);
                    break;
                }
            }
            self.node.until_routes(&[]).await;
            self.peer = raw_peer_of(self.asn, self.own + 1, self.own, self.port).await;
            self.node.until("established", established).await;
            return;
        }
        self.send("40 01 01 00", &SENTINEL).await;
        let kept = match fate {
            Fate::Fine | Fate::Discard => &[(PREFIX, "127.0.0.250"), (BEHIND, "127.0.0.250")][..],
            Fate::Withdraw | Fate::Reset(_) => &[(BEHIND, "127.0.0.250")],
        };
        self.node.until_routes(kept).await;
        self.withdraw().await;
    }
}

async fn all_cases(asn: u32, own: u8) {
    let mut lab = Lab::new(asn, own).await;
    for case in CASES {
        // Between two speakers of one host a loopback address is a host's.
        if case.name != "NEXT_HOP 127.0.0.1" {
            lab.try_case(case).await;
        }
    }
    assert!(established(&lab.node.status.borrow()));
}

#[tokio::test]
async fn every_malformed_update_of_an_external_peer_costs_what_rfc_7606_says() {
    all_cases(65000, 31).await;
}

#[tokio::test]
async fn every_malformed_update_of_an_internal_peer_costs_what_rfc_7606_says() {
    all_cases(64512, 33).await;
}
