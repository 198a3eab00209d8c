use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use margay_bgp::Traffic;
use margay_bgp::bfd;

use super::*;
use crate::clock::now;
use crate::{Asn, BfdStatus};

#[test]
fn what_bfd_sees_is_told_of_those_it_watches() {
    let peers = ["watched", "lost", "other"].map(|name| (name.into(), peer(65000)));
    let status = Status {
        peers: peers.into(),
        bfd: [
            ("watched".into(), bfd(bfd::State::Up)),
            ("lost".into(), bfd(bfd::State::Down)),
            // Just removed from the settings.
            ("gone".into(), bfd(bfd::State::Up)),
        ]
        .into(),
        listeners: BTreeMap::new(),
    };
    let text = text(&status);
    let (_, bfd) = text.split_once("# TYPE margay_bgp_peer_bfd_up ").unwrap();
    assert_eq!(
        bfd,
        "gauge\n\
         margay_bgp_peer_bfd_up{peer=\"lost\",address=\"192.0.2.2\",asn=\"65000\"} 0\n\
         margay_bgp_peer_bfd_up{peer=\"watched\",address=\"192.0.2.2\",asn=\"65000\"} 1\n"
    );
    let sent = "\nmargay_bgp_peer_updates_sent_total{peer=\"other\",address=\"192.0.2.2\",asn=\"65000\"} 7\n";
    assert!(text.contains(sent), "{text}");
}

#[test]
fn names_cannot_break_the_format() {
    let status = Status {
        peers: [("a\"b\\c\nd".into(), peer(1))].into(),
        ..Status::default()
    };
    let text = text(&status);
    assert!(text.contains("{peer=\"a\\\"b\\\\c\\nd\","), "{text}");
    assert!(!text.contains("bfd"), "nobody is watched");
}

fn bfd(state: bfd::State) -> BfdStatus {
    BfdStatus {
        state,
        remote_state: state,
        diagnostic: bfd::Diagnostic::NONE,
        interval: Some(Duration::from_millis(50)),
        detection_time: None,
        problem: String::new(),
    }
}

fn peer(asn: u32) -> PeerStatus {
    PeerStatus {
        address: "192.0.2.2".parse().unwrap(),
        asn: Asn(asn),
        state: State::Established,
        since: now(),
        reason: String::new(),
        hint: String::new(),
        notes: Vec::new(),
        received: 0,
        announced: 0,
        families: BTreeSet::new(),
        end_of_rib: BTreeSet::new(),
        hold_time: None,
        hold_until: None,
        dial_at: None,
        local_address: None,
        bgp_id: None,
        range: None,
        capabilities: BTreeSet::new(),
        paths_in: BTreeSet::new(),
        paths_out: BTreeSet::new(),
        received_by_family: BTreeMap::new(),
        traffic: Traffic {
            updates_out: 7,
            ..Traffic::default()
        },
        sessions: 1,
        errors: 0,
        refused: 0,
    }
}
