use margay_ipam::Family;
use margay_sync::message::{Bgp, Pool};

use super::*;

#[test]
fn a_pod_gets_an_address_of_each_family_of_the_usable_pools() {
    let mut pods = pods();
    let network = network(&["10.1.0.0/16", "fd00:1::/64"]);
    let record = admitted(admit(&mut pods, "c1", "", &known(""), Some(&network)));
    assert_eq!(record.addresses, ips(&["10.1.0.0", "fd00:1::"]));
    assert_eq!(record.link.len(), 14);
    assert!(record.link.starts_with("mgy"));
}

#[test]
fn addresses_of_the_pod_object_are_used_exactly() {
    let mut pods = pods();
    let mut endpoints = known("");
    for endpoint in endpoints.values_mut() {
        endpoint.addresses = ips(&["192.0.2.77"]);
    }
    let record = admitted(admit(&mut pods, "c1", "", &endpoints, None));
    assert_eq!(record.addresses, ips(&["192.0.2.77"]));
    pods.complete(&record.attachment);
    let outside = pods.outside(&["10.1.0.0/26".parse().unwrap()].into());
    assert_eq!(outside, ["192.0.2.77/32".parse().unwrap()].into());
}

#[test]
fn an_address_that_another_attachment_has_is_refused_by_name() {
    let mut pods = pods();
    let asking = Endpoint {
        addresses: ips(&["192.0.2.77"]),
        ..endpoint("")
    };
    let endpoints = ["front", "thief"].map(|name| (PodId::new("web", name), asking.clone()));
    let endpoints = endpoints.into();
    admitted(admit(&mut pods, "c1", "", &endpoints, None));
    let thief = pod("thief", "");
    let refused = pods.admit(&attachment("c2"), &thief, &endpoints, None, 0);
    let Admission::Wait(why) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(why.to_string(), "192.0.2.77 is in use by c1/eth0");
}

#[test]
fn what_is_missing_is_waited_for_and_nothing_is_held_back() {
    let mut pods = pods();
    let id = PodId::new("web", "front");
    let wait = |admission| match admission {
        Admission::Wait(wait) => wait,
        other @ (Admission::Admitted(_) | Admission::Replace(_)) => panic!("{other:?}"),
    };
    assert_eq!(
        wait(admit(&mut pods, "c1", "", &BTreeMap::new(), None)),
        Wait::Policy(id.clone())
    );
    assert_eq!(
        wait(admit(&mut pods, "c1", "", &known(""), None)),
        Wait::Network
    );
    assert_eq!(
        wait(admit(&mut pods, "c1", "", &known(""), Some(&network(&[])))),
        Wait::Source(NoSource::NoPool)
    );
    let other = Wait::OtherUid {
        pod: id,
        known: "u1".to_owned(),
        asked: "u2".to_owned(),
    };
    assert_eq!(
        wait(admit(&mut pods, "c1", "u2", &known("u1"), None)),
        other
    );
    // There is no block of the second pool's family.
    pods.set_blocks(&["10.1.0.0/26".parse().unwrap()].into(), &BTreeSet::new());
    let both = network(&["10.1.0.0/16", "fd00:1::/64"]);
    let no_block = Wait::Address(AssignError::NoBlock(Family::V6));
    assert_eq!(
        wait(admit(&mut pods, "c1", "", &known(""), Some(&both))),
        no_block
    );
    assert!(pods.allocator().holders().is_empty());
    let wanted = Source::new(Family::V6, ["fd00:1::/64".parse().unwrap()]);
    assert_eq!(pods.wants(Some(&both), 0), [wanted].into());
}

#[test]
fn a_pod_waits_for_a_block_of_its_namespaces_own_pool_and_uses_no_other() {
    let mut pods = pods();
    let mut network = network(&["10.1.0.0/16", "10.2.0.0/16"]);
    let mine = Source::new(Family::V4, ["10.2.0.0/16".parse().unwrap()]);
    network.pools[1].namespaces = Some(["web".to_owned()].into());
    let unknown = Admission::Wait(NoSource::Namespace("web".to_owned()).into());
    let asked = admit(&mut pods, "c1", "", &known(""), Some(&network));
    assert_eq!(asked, unknown);
    network.namespaces = ["web".to_owned()].into();
    let no_block = Admission::Wait(AssignError::NoBlock(Family::V4).into());
    let asked = admit(&mut pods, "c1", "", &known(""), Some(&network));
    assert_eq!(asked, no_block);
    assert_eq!(pods.wants(Some(&network), 0), [mine].into());
    let both = ["10.1.0.0/26", "10.2.0.0/26"].map(|block| block.parse().unwrap());
    pods.set_blocks(&both.into(), &BTreeSet::new());
    let record = admitted(admit(&mut pods, "c1", "", &known(""), Some(&network)));
    assert_eq!(record.addresses, ips(&["10.2.0.0"]));
    // What it is today changes nothing for who has an address.
    network.pools[1].namespaces = Some(BTreeSet::new());
    pods.complete(&record.attachment);
    assert_eq!(pods.attached()[0].addresses, ips(&["10.2.0.0"]));
}

#[test]
fn another_add_for_a_pod_replaces_the_first() {
    let mut pods = pods();
    let network = network(&["10.1.0.0/16"]);
    let first = admitted(admit(&mut pods, "c1", "", &known(""), Some(&network)));
    for container in ["c1", "c2"] {
        let again = admit(&mut pods, container, "", &known(""), Some(&network));
        assert_eq!(
            again,
            Admission::Replace(first.attachment.clone()),
            "{container}"
        );
    }
    pods.complete(&first.attachment);
    assert_eq!(shown(&mut pods), ["c1"]);
    pods.leave(&first.attachment);
    assert_eq!(shown(&mut pods), [""; 0]);
    let second = admitted(admit(&mut pods, "c2", "", &known(""), Some(&network)));
    assert_ne!(
        first.addresses, second.addresses,
        "the old one's are not free yet"
    );
    pods.release(&first.attachment, 100);
    assert_eq!(pods.entries().count(), 1);
    assert_eq!(
        pods.get(&second.attachment).map(|entry| entry.stage),
        Some(Stage::Making)
    );
    assert_eq!(shown(&mut pods), [""; 0]);
    pods.complete(&second.attachment);
    assert_eq!(shown(&mut pods), ["c2"]);
    pods.release(&second.attachment, 100);
    assert_eq!(shown(&mut pods), [""; 0]);
}

#[test]
fn after_a_restart_what_is_attached_keeps_its_addresses_and_the_rest_is_free() {
    let mut before = pods();
    let network = network(&["10.1.0.0/16"]);
    let kept = admitted(admit(&mut before, "c1", "", &known(""), Some(&network)));
    let mut endpoints = known("");
    endpoints.insert(PodId::new("web", "back"), endpoint(""));
    let lost = admitted(before.admit(
        &attachment("c2"),
        &pod("back", ""),
        &endpoints,
        Some(&network),
        0,
    ));
    let mut after = Pods::new(before.allocator().clone());
    after.restore(vec![kept.clone()], 1000);
    let holders: BTreeSet<IpAddr> = after.allocator().holders().keys().copied().collect();
    assert_eq!(holders, kept.addresses);
    assert!(holders.is_disjoint(&lost.addresses));
    assert_eq!(
        after.get(&kept.attachment).map(|entry| entry.stage),
        Some(Stage::Attached)
    );
    assert_eq!(shown(&mut after), ["c1"]);
}

/// Containers of complete attachments.
fn shown(pods: &mut Pods) -> Vec<String> {
    let attached = pods.attached();
    let containers = attached.iter().map(|record| &record.attachment.container);
    containers.cloned().collect()
}

fn pods() -> Pods {
    let mut pods = Pods::new(Allocator::new(COOL_DOWN));
    pods.set_blocks(
        &[
            "10.1.0.0/26".parse().unwrap(),
            "fd00:1::/122".parse().unwrap(),
        ]
        .into(),
        &BTreeSet::new(),
    );
    pods
}

fn admit(
    pods: &mut Pods,
    container: &str,
    uid: &str,
    endpoints: &BTreeMap<PodId, Endpoint>,
    network: Option<&NodeNetwork>,
) -> Admission {
    pods.admit(
        &attachment(container),
        &pod("front", uid),
        endpoints,
        network,
        0,
    )
}

fn admitted(admission: Admission) -> Record {
    match admission {
        Admission::Admitted(record) => record,
        other @ (Admission::Replace(_) | Admission::Wait(_)) => panic!("{other:?}"),
    }
}

fn attachment(container: &str) -> Attachment {
    Attachment {
        container: container.to_owned(),
        interface: "eth0".to_owned(),
    }
}

fn pod(name: &str, uid: &str) -> Pod {
    Pod {
        namespace: "web".to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
    }
}

fn known(uid: &str) -> BTreeMap<PodId, Endpoint> {
    [(PodId::new("web", "front"), endpoint(uid))].into()
}

fn endpoint(uid: &str) -> Endpoint {
    Endpoint {
        uid: uid.to_owned(),
        addresses: BTreeSet::new(),
        ingress: None,
        egress: None,
    }
}

fn network(pools: &[&str]) -> NodeNetwork {
    let pool = |cidr: &&str| Pool {
        cidr: cidr.parse().unwrap(),
        nat_outgoing: false,
        usable: true,
        subnet: false,
        namespaces: None,
    };
    NodeNetwork {
        node: margay_policy::model::NodeName("n1".to_owned()),
        addresses: vec![],
        pools: pools.iter().map(pool).collect(),
        namespaces: BTreeSet::new(),
        blocks: BTreeSet::new(),
        bgp: Bgp::default(),
    }
}

fn ips(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}
