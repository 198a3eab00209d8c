use super::*;
use crate::rib::Neighbour;
use crate::types::BgpId;
use crate::wire::{Announced, Context, MessageType, Update, take_frame};

fn rib(communities: &[u32]) -> LocRib {
    let mut rib = LocRib::default();
    let path = Path {
        source: Source::Peer(Arc::new(Neighbour {
            name: "from".into(),
            kind: PeerKind::Ebgp,
            address: [192, 0, 2, 2].into(),
            bgp_id: BgpId([192, 0, 2, 2].into()),
        })),
        attrs: Arc::new(PathAttrs {
            communities: communities.to_vec(),
            med: Some(5),
            as_path: crate::wire::AsPath::default().prepended(Asn(65000)),
            ..PathAttrs::default()
        }),
        next_hop: [192, 0, 2, 2].into(),
    };
    rib.insert("198.51.100.0/24".parse().unwrap(), path);
    rib
}

fn exporter(kind: PeerKind, export: Export) -> Exporter {
    Exporter {
        peer: "to".into(),
        kind,
        asn: Asn(64512),
        export,
        as_width: AsWidth::Four,
        next_hops: BTreeMap::from([(Family::Ipv4, [192, 0, 2, 1].into())]),
    }
}

/// The attributes with which the one route is told, if it is.
fn told(rib: &LocRib, exporter: &Exporter) -> Option<PathAttrs> {
    let mut out = AdjRibOut::start(rib, &[Family::Ipv4].into());
    let message = out.next_message(rib, exporter)?;
    let frame = take_frame(&mut message.as_slice()).unwrap().unwrap();
    assert_eq!(frame.kind, MessageType::Update);
    let context = Context {
        as_width: AsWidth::Four,
        peer: PeerKind::Ibgp,
    };
    match Update::decode(frame.body, context).unwrap().announced {
        Announced::Routes(attrs) => Some(attrs),
        Announced::Nothing | Announced::Unusable(_) => None,
    }
}

#[test]
fn well_known_communities_keep_routes_in() {
    let rows = [
        (&[][..], true, true),
        (&[0xffff_ff01], false, true),
        (&[0xffff_ff02], false, false),
        (&[0xffff_ff03], false, true),
        (&[0xfde8_0001, 0xffff_ff02], false, false),
    ];
    for (communities, ebgp, ibgp) in rows {
        let rib = rib(communities);
        for (kind, expected) in [(PeerKind::Ebgp, ebgp), (PeerKind::Ibgp, ibgp)] {
            let told = told(&rib, &exporter(kind, Export::All)).is_some();
            assert_eq!(told, expected, "{communities:x?} {kind:?}");
        }
    }
}

#[test]
fn what_others_told_is_passed_on_only_where_asked_for() {
    assert_eq!(
        told(&rib(&[]), &exporter(PeerKind::Ebgp, Export::Own)),
        None
    );
}

#[test]
fn a_med_stays_with_the_next_as() {
    let rib = rib(&[]);
    let outside = told(&rib, &exporter(PeerKind::Ebgp, Export::All)).unwrap();
    assert_eq!((outside.med, outside.local_pref), (None, None));
    let inside = told(&rib, &exporter(PeerKind::Ibgp, Export::All)).unwrap();
    assert_eq!((inside.med, inside.local_pref), (Some(5), Some(100)));
}

#[test]
fn a_peer_is_told_once() {
    let rib = rib(&[]);
    let exporter = exporter(PeerKind::Ebgp, Export::All);
    let mut out = AdjRibOut::start(&rib, &[Family::Ipv4].into());
    let mut messages = 0;
    while out.next_message(&rib, &exporter).is_some() {
        messages += 1;
    }
    assert_eq!(messages, 2, "the route and the end");
    out.touch_all(&rib);
    assert_eq!(out.next_message(&rib, &exporter), None);
    assert!(out.is_idle());
}
