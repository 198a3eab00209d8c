//! What scenarios share: small worlds, shots between pods, and who may run beside whom.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use margay_policy::model::PodId;
use margay_tests::lab::cluster::{Lab, Options};
use margay_tests::lab::prober::{Effort, Protocol, Seen, Shot};
use serde_json::{Value, json};

use crate::capabilities;

static MACHINE: RwLock<()> = RwLock::new(());

/// For scenarios that ask how soon something happens: nothing else runs meanwhile.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// For scenarios that only ask what happens: several may run.
pub(crate) fn together() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// A line that is shown also when the test succeeds.
pub(crate) fn tell(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}

/// The folder of the checked-in worlds.
pub(crate) fn worlds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("worlds")
}

/// Nodes `n1`… with both families, namespace `x`, and these objects; pods run, everything is settled.
pub(crate) fn raise(nodes: u8, documents: impl IntoIterator<Item = Value>) -> Lab {
    raise_with(nodes, documents, Options::default())
}

/// As [`raise`], with options (their objects count too).
pub(crate) fn raise_with(
    nodes: u8,
    documents: impl IntoIterator<Item = Value>,
    mut options: Options,
) -> Lab {
    for document in base(nodes).into_iter().chain(documents) {
        options.objects.add(document).unwrap();
    }
    let mut lab = Lab::up(options).unwrap();
    lab.start_pods(&lab.wanted_pods()).unwrap();
    lab.settle().unwrap();
    capabilities::check(&lab);
    lab
}

fn base(nodes: u8) -> Vec<Value> {
    let mut documents: Vec<Value> = (1..=nodes)
        .map(|number| {
            let addresses = [
                format!("192.168.0.{number}"),
                format!("fd00:192:168::{number}"),
            ];
            let addresses =
                addresses.map(|address| json!({"type": "InternalIP", "address": address}));
            json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{number}")},
                "status": {"addresses": addresses},
            })
        })
        .collect();
    documents.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x", "labels": {"name": "x"}}}));
    documents
}

/// Pod `x/NAME` on a node, with the label `app: NAME`, listening on TCP and UDP port 80.
pub(crate) fn pod(name: &str, node: &str) -> Value {
    let ports = ["TCP", "UDP"].map(|protocol| json!({"containerPort": 80, "protocol": protocol}));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "x", "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "none", "ports": ports}]},
    })
}

/// The same with addresses of its own.
pub(crate) fn pod_at(name: &str, node: &str, addresses: &[&str]) -> Value {
    let ips: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"ip": address}))
        .collect();
    let mut document = pod(name, node);
    document["status"] = json!({"podIPs": ips});
    document
}

/// Policy `x/NAME` with a spec.
pub(crate) fn policy(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "x"}, "spec": spec,
    })
}

/// Policy `x/NAME`: only pods labelled `app: FROM` (none without) reach pods labelled `app: TO`.
pub(crate) fn only_from(name: &str, to: &str, from: &[&str]) -> Value {
    let peers: Vec<Value> = from
        .iter()
        .map(|from| json!({"podSelector": {"matchLabels": {"app": from}}}))
        .collect();
    let ingress = if peers.is_empty() {
        json!([])
    } else {
        json!([{"from": peers}])
    };
    policy(
        name,
        json!({"podSelector": {"matchLabels": {"app": to}}, "policyTypes": ["Ingress"], "ingress": ingress}),
    )
}

/// The pod `x/NAME`.
pub(crate) fn id(name: &str) -> PodId {
    PodId::new("x", name)
}

/// From one pod of `x` to port 80 of another, over IPv4.
pub(crate) fn shot(lab: &Lab, from: &str, to: &str, protocol: Protocol) -> Shot {
    shot_over(lab, from, to, protocol, true)
}

/// The same over either family.
pub(crate) fn shot_over(lab: &Lab, from: &str, to: &str, protocol: Protocol, v4: bool) -> Shot {
    Shot {
        netns: lab.pod_netns(&id(from)).unwrap(),
        source: lab.pod(&id(from)).unwrap().address(v4),
        destination: lab.pod(&id(to)).unwrap().address(v4).unwrap(),
        protocol,
        port: if protocol == Protocol::Icmp { 0 } else { 80 },
    }
}

/// Whether one shot gets through.
pub(crate) fn gets_through(lab: &mut Lab, shot: Shot) -> bool {
    match &lab
        .prober()
        .unwrap()
        .shoot(vec![shot], Effort::default())
        .unwrap()[..]
    {
        [Seen::Through] => true,
        [Seen::Silence] => false,
        other => panic!("no verdict: {other:?}"),
    }
}
