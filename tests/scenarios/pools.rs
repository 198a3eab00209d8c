//! Pools of namespaces: whose pods get addresses of which, and what happens when that changes.

use std::net::IpAddr;

use ipnet::IpNet;
use margay_policy::model::PodId;
use margay_tests::lab::cluster::Lab;
use margay_tests::lab::prober::{Protocol, Shot};
use serde_json::{Value, json};

use crate::support::{gets_through, pod, raise, together};

const ANY: &str = "10.61.0.0/16";
const ANY_V6: &str = "fd00:61::/64";
/// Four addresses, one block.
const BANKS: &str = "10.62.0.0/30";

#[test]
fn pods_get_addresses_of_the_pools_of_their_namespace_and_keep_them() {
    let _others = together();
    let mut lab = raise(
        2,
        [
            pool("any", ANY, None),
            pool("any-v6", ANY_V6, None),
            pool("bank", BANKS, Some("bank")),
            bank("bank"),
            pod("web", "n1"),
            pod("far", "n2"),
            teller("first"),
        ],
    );
    let first = PodId::new("bank", "first");
    let (web, far) = (PodId::new("x", "web"), PodId::new("x", "far"));
    for (id, pool) in [(&web, ANY), (&far, ANY), (&first, BANKS)] {
        has_address_of(&lab, id, pool);
        has_address_of(&lab, id, ANY_V6);
    }
    for from in [&web, &far] {
        assert!(reaches(&mut lab, from, &first), "{from}");
    }

    // Another label: who comes gets of the others, who is there keeps what it has.
    lab.apply(bank("none")).unwrap();
    start(&mut lab, "second").unwrap();
    has_address_of(&lab, &PodId::new("bank", "second"), ANY);
    lab.kill_felix("n1").unwrap();
    lab.start_felix("n1").unwrap();
    lab.settle().unwrap();
    has_address_of(&lab, &first, BANKS);
    assert!(reaches(&mut lab, &far, &first));

    // And back: the pool has three addresses left, and then no others are taken instead.
    lab.apply(bank("bank")).unwrap();
    for name in ["third", "fourth", "fifth"] {
        start(&mut lab, name).unwrap();
        has_address_of(&lab, &PodId::new("bank", name), BANKS);
    }
    let refused = start(&mut lab, "sixth").unwrap_err();
    let words = format!("{refused:#}");
    assert!(
        words.contains(&format!("all IPv4 blocks of {BANKS} are claimed")),
        "{words}"
    );
    // Nobody else feels it.
    lab.apply(pod("late", "n1")).unwrap();
    lab.start_pods(&[PodId::new("x", "late")]).unwrap();
    has_address_of(&lab, &PodId::new("x", "late"), ANY);
}

fn pool(name: &str, cidr: &str, team: Option<&str>) -> Value {
    let mut spec = json!({"cidr": cidr});
    if let Some(team) = team {
        spec["namespaceSelector"] = json!({"matchLabels": {"team": team}});
        spec["blockSize"] = json!(30);
    }
    json!({
        "apiVersion": "margay.io/v1alpha1", "kind": "IPPool",
        "metadata": {"name": name}, "spec": spec,
    })
}

fn bank(team: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "bank", "labels": {"team": team}},
    })
}

/// A pod of the namespace `bank`, on n1.
fn teller(name: &str) -> Value {
    let mut document = pod(name, "n1");
    document["metadata"]["namespace"] = json!("bank");
    document
}

fn start(lab: &mut Lab, name: &str) -> anyhow::Result<()> {
    lab.wait_read()?;
    lab.apply(teller(name))?;
    lab.start_pods(&[PodId::new("bank", name)])
}

fn has_address_of(lab: &Lab, id: &PodId, pool: &str) {
    let pool: IpNet = pool.parse().unwrap();
    let addresses = &lab.pod(id).unwrap().addresses;
    let of_family = |address: &&IpAddr| address.is_ipv4() == pool.addr().is_ipv4();
    let of_family: Vec<&IpAddr> = addresses.iter().filter(of_family).collect();
    assert_eq!(of_family.len(), 1, "{id} has {addresses:?}");
    assert!(
        pool.contains(of_family[0]),
        "{id} has {addresses:?}, not of {pool}"
    );
}

fn reaches(lab: &mut Lab, from: &PodId, to: &PodId) -> bool {
    let shot = Shot {
        netns: lab.pod_netns(from).unwrap(),
        source: lab.pod(from).unwrap().address(true),
        destination: lab.pod(to).unwrap().address(true).unwrap(),
        protocol: Protocol::Tcp,
        port: 80,
    };
    gets_through(lab, shot)
}
