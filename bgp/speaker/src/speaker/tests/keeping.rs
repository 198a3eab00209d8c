//! Routes that are kept as received while what can be used of them changes.

use super::scripted::Scripted;
use super::*;
use crate::filter::Filter;
use crate::settings::Switch;
use crate::wire::{Capability, PathAttrs};

const ROUTE: &str = "203.0.113.0/24";
const OTHER: &str = "198.51.100.0/24";
const ASKED: [&str; 2] = ["asks IPv4", "asks IPv6"];

/// The path of [`ROUTE`]: through our AS.
fn looped() -> PathAttrs {
    let mut attrs = PathAttrs::default();
    for asn in [65000, 65001] {
        attrs.as_path = attrs.as_path.prepended(Asn(asn));
    }
    attrs
}

fn tell(lab: &mut Scripted) {
    lab.announce_with(&looped(), &[ROUTE]);
    lab.announce(&[OTHER]);
}

/// What the importer refused is not among what was kept.
#[test]
fn our_own_as_is_allowed_or_not_for_routes_that_are_kept_too() {
    let mut lab = Scripted::new(|peer| peer.keep_received = Switch::On);
    lab.up(&[]);
    tell(&mut lab);
    assert_eq!(lab.has(), [OTHER]);
    lab.said();
    lab.set(|peer| peer.allow_own_as = 1);
    assert_eq!(lab.said()[..2], ASKED);
    tell(&mut lab);
    assert_eq!(lab.has(), [OTHER, ROUTE]);
    lab.set(|peer| peer.allow_own_as = 0);
    assert_eq!(lab.said()[..2], ASKED);
    tell(&mut lab);
    assert_eq!(lab.has(), [OTHER]);
    assert_eq!(lab.speaker.kept("p").len(), 1);
}

/// RFC 4456 §8: another cluster identifier, another loop.
#[test]
fn another_cluster_identifier_holds_for_routes_that_are_kept_too() {
    let mut lab = Scripted::new(|peer| {
        peer.keep_received = Switch::On;
        peer.asn = Asn(65000);
    });
    lab.dial();
    let mut open = Scripted::opening(&[]);
    open.my_as = 65000;
    for capability in &mut open.capabilities {
        if let Capability::FourOctetAs(asn) = capability {
            *asn = Asn(65000);
        }
    }
    lab.send(&open.encode());
    lab.send(&crate::wire::encode_keepalive());
    let attrs = PathAttrs {
        cluster_list: vec![BgpId([10, 9, 9, 9].into())],
        ..PathAttrs::default()
    };
    lab.announce_with(&attrs, &[ROUTE]);
    assert_eq!(lab.has(), [ROUTE]);
    lab.said();
    lab.change(|settings| settings.cluster_id = Some(BgpId([10, 9, 9, 9].into())));
    assert_eq!(lab.said()[..2], ASKED);
    lab.announce_with(&attrs, &[ROUTE]);
    assert!(lab.has().is_empty());
}

/// RFC 8212 §2: without filter nothing is used, although it was kept while there was one.
#[test]
fn a_filter_that_is_taken_away_leaves_nothing_where_one_is_needed() {
    let mut lab = Scripted::new(|peer| {
        peer.keep_received = Switch::On;
        peer.import_filter = Some(Filter::reject_all());
    })
    .begin(|settings| settings.ebgp_requires_policy = Switch::On);
    lab.up(&[]);
    lab.announce(&[OTHER]);
    assert!(lab.has().is_empty());
    lab.said();
    lab.set(|peer| peer.import_filter = None);
    assert_eq!(lab.said()[..2], ASKED);
    lab.announce(&[OTHER]);
    assert!(lab.has().is_empty());
    // The first filter finds nothing kept, and asks.
    lab.set(|peer| peer.import_filter = Some(Filter::accept_all()));
    assert_eq!(lab.said()[..2], ASKED);
    lab.announce(&[OTHER]);
    assert_eq!(lab.has(), [OTHER]);
    // From one to the other nobody is asked.
    lab.set(|peer| peer.import_filter = Some(Filter::reject_all()));
    assert_eq!((lab.said().len(), lab.has().len()), (0, 0));
    // What is no longer required is asked for again.
    lab.change(|settings| settings.ebgp_requires_policy = Switch::Off);
    assert_eq!(lab.said()[..2], ASKED);
}

/// A peer of a range is asked at once too.
#[test]
fn guests_are_asked_as_well() {
    let mut lab = Scripted::new(|_| {}).begin(|settings| {
        let template = settings.peers.remove("p").unwrap();
        let range = crate::settings::PeerRange {
            prefix: "192.0.2.0/24".parse().unwrap(),
            asns: BTreeSet::new(),
            template,
            limit: 1,
        };
        settings.ranges.insert("all".to_owned(), range);
    });
    lab.dial();
    lab.open(&[]);
    lab.send(&crate::wire::encode_keepalive());
    lab.said();
    lab.change(|settings| settings.ebgp_requires_policy = Switch::On);
    assert_eq!(lab.said()[..2], ASKED);
}
