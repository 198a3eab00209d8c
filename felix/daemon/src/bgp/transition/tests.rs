use margay_bgpd::{Asn, BgpId, Export};

use super::*;

#[test]
fn a_session_goes_once_its_prefixes_have_another_way() {
    let begun = crate::clock::now();
    let seconds = Duration::from_secs;
    let (mesh, reflected) = (settings(&["a", "b"]), settings(&["a"]));
    let mut transition = Transition::default();
    let up = names(&["a", "b"]);
    let mut at = |after: u64, needed: Option<&[&str]>, used: &Settings| {
        let now = begun + seconds(after);
        if let Some(needed) = needed {
            transition.note(&names(needed), now);
        }
        transition.settings(used, reflected.clone(), Why::Topology, &up, &up, now)
    };
    let kept = at(0, None, &mesh);
    assert_eq!(kept, mesh, "nothing is broken before the rest is made");
    assert_eq!(
        at(1, Some(&["b"]), &kept),
        mesh,
        "some prefix has no other way"
    );
    assert_eq!(
        at(30, Some(&[]), &kept),
        mesh,
        "the other end needs another way, too"
    );
    assert_eq!(at(31, Some(&[]), &kept), mesh);
    assert_eq!(at(32, Some(&[]), &kept), reflected);
    assert!(transition.is_over());
}

#[test]
fn nothing_is_kept_for_ever_nor_what_was_down_nor_a_routers_session() {
    let now = crate::clock::now();
    let (mesh, reflected) = (settings(&["a", "b"]), settings(&["a"]));
    let both = names(&["a", "b"]);
    let mut transition = Transition::default();
    let down = transition.settings(
        &mesh,
        reflected.clone(),
        Why::Topology,
        &both,
        &names(&["a"]),
        now,
    );
    assert_eq!(down, reflected);
    let router = transition.settings(
        &mesh,
        reflected.clone(),
        Why::Topology,
        &names(&["a"]),
        &both,
        now,
    );
    assert_eq!(router, reflected);
    let kept = transition.settings(&mesh, reflected.clone(), Why::Topology, &both, &both, now);
    assert_eq!(kept, mesh);
    transition.note(&names(&["b"]), now + LONGEST);
    let over = transition.settings(
        &kept,
        reflected.clone(),
        Why::Topology,
        &both,
        &both,
        now + LONGEST,
    );
    assert_eq!(over, reflected);
}

#[test]
fn a_node_that_is_gone_is_gone() {
    let now = crate::clock::now();
    let (mesh, without) = (settings(&["a", "b"]), settings(&["a"]));
    let both = names(&["a", "b"]);
    let mut transition = Transition::default();
    let settings = transition.settings(&mesh, without.clone(), Why::Other, &both, &both, now);
    assert_eq!(settings, without);
}

#[test]
fn a_session_that_is_wanted_again_is_an_ordinary_one() {
    let now = crate::clock::now();
    let (mesh, reflected) = (settings(&["a", "b"]), settings(&["a"]));
    let both = names(&["a", "b"]);
    let mut transition = Transition::default();
    let kept = transition.settings(&mesh, reflected, Why::Topology, &both, &both, now);
    assert_eq!(
        transition.settings(&kept, mesh.clone(), Why::Topology, &both, &both, now),
        mesh
    );
    assert!(transition.is_over());
}

#[test]
fn a_reflector_goes_on_for_a_while() {
    let begun = crate::clock::now();
    let mesh = settings(&["a"]);
    let mut reflecting = mesh.clone();
    for peer in reflecting.speaker.peers.values_mut() {
        peer.reflection = Reflection::Client;
        peer.export = Export::All;
    }
    let all = names(&["a"]);
    let mut transition = Transition::default();
    let begins = transition.settings(&mesh, reflecting.clone(), Why::Topology, &all, &all, begun);
    assert_eq!(begins, reflecting, "at once");
    let kept = transition.settings(&reflecting, mesh.clone(), Why::Topology, &all, &all, begun);
    assert_eq!(kept, reflecting);
    let later = begun + REFLECTS / 2;
    assert_eq!(
        transition.settings(&kept, mesh.clone(), Why::Topology, &all, &all, later),
        reflecting
    );
    let later = begun + REFLECTS;
    assert_eq!(
        transition.settings(&kept, mesh.clone(), Why::Topology, &all, &all, later),
        mesh
    );
    assert!(transition.is_over());
}

fn settings(peers: &[&str]) -> Settings {
    let mut speaker = margay_bgp::Settings::new(Asn(64512), BgpId([192, 0, 2, 1].into()));
    let mut transport = std::collections::BTreeMap::new();
    for (name, number) in peers.iter().zip(2..) {
        let name = PeerName::from(*name);
        let peer = PeerSettings::new([192, 0, 2, number].into(), Asn(64512));
        speaker.peers.insert(name.clone(), peer);
        transport.insert(name, Transport::default());
    }
    Settings {
        transport,
        ..Settings::new(speaker, vec![])
    }
}

fn names(names: &[&str]) -> BTreeSet<PeerName> {
    names.iter().map(|name| PeerName::from(*name)).collect()
}
