//! The plugin and felix as a runtime sees them, in namespaces, with real packets.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::support::{Answer, Node, PODS, Sandbox, eventually};
use serde_json::{Value, json};

#[test]
fn every_verb_works_in_every_version_and_leaves_nothing() {
    let node = Node::start();
    let before = node.traces();
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let pod = Sandbox::new("fixed", &format!("c-{version}"));
        let config = node.config(version);
        let result = node.cni("ADD", &pod, &config).done();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(Answer::addresses(&result), ["172.31.7.7", "fd07::7"]);
        let family = result["ips"][1].get("version").cloned();
        assert_eq!(family, (version < "1.0.0").then(|| json!("6")), "{version}");

        let mut checked = config.clone();
        checked["prevResult"] = result;
        let check = node.cni("CHECK", &pod, &checked);
        if version == "0.3.1" {
            assert_eq!(check.refused().0, 1);
        } else {
            assert_eq!(check.done(), Value::Null);
        }
        let mut all = config.clone();
        all["cni.dev/valid-attachments"] =
            json!([{"containerID": pod.container, "ifname": "eth0"}]);
        for (verb, config) in [("STATUS", &config), ("GC", &all)] {
            let answer = node.cni(verb, &pod, config);
            if version == "1.1.0" {
                assert_eq!(answer.done(), Value::Null, "{verb}");
            } else {
                assert_eq!(answer.refused().0, 1, "{verb} {version}");
            }
        }
        assert_ne!(node.traces(), before, "GC left the valid attachment alone");
        let versions = node
            .cni("VERSION", &pod, &json!({"cniVersion": version}))
            .done();
        assert_eq!(
            versions["supportedVersions"],
            json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
        );
        assert_eq!(node.cni("DEL", &pod, &config).done(), Value::Null);
        assert_eq!(node.traces(), before, "{version}");
    }
}

#[test]
fn pods_reach_each_other_as_soon_as_add_returns() {
    let node = Node::start();
    let pods = PODS.map(|pod| Sandbox::new(pod, &format!("c-{pod}")));
    let addresses = pods
        .each_ref()
        .map(|pod| Answer::addresses(&node.add(pod).done()));
    for (to, addresses) in pods.iter().zip(&addresses) {
        for address in addresses {
            let address: IpAddr = address.parse().unwrap();
            let listener = listen(to, address);
            for from in pods.iter().filter(|from| from.pod != to.pod) {
                assert!(
                    connects(from, listener.local_addr().unwrap()),
                    "{} to {}",
                    from.pod,
                    to.pod
                );
            }
        }
    }
}

#[test]
fn a_repeated_add_replaces_and_an_old_del_leaves_the_new_one_alone() {
    let node = Node::start();
    let before = node.traces();
    let (first, second) = (Sandbox::new("fixed", "c1"), Sandbox::new("fixed", "c2"));
    node.add(&first).done();
    node.add(&first).done();
    node.add(&second).done();
    assert!(!first.ip("-o link").contains("eth0"), "the first is gone");
    node.del(&first).done();
    let listener = listen(&second, "172.31.7.7".parse().unwrap());
    let peer = Sandbox::new("front", "c3");
    node.add(&peer).done();
    assert!(connects(&peer, listener.local_addr().unwrap()));
    for pod in [&second, &second, &peer] {
        node.del(pod).done();
    }
    node.del(&Sandbox::new("back", "never-seen")).done();
    assert_eq!(node.traces(), before);
}

#[test]
fn refusals_have_the_code_of_the_specification_and_say_why() {
    let node = Node::start();
    let before = node.traces();
    let unknown = Sandbox::new("nobody", "c1");
    let (code, words) = node.add(&unknown).refused();
    assert_eq!(code, 11);
    assert!(
        words.contains("web/nobody") && words.contains("controller has not told"),
        "{words}"
    );
    assert!(!unknown.ip("-o link").contains("eth0"));

    let pod = Sandbox::new("front", "c2");
    let (code, words) = node
        .cni(
            "ADD",
            &pod,
            &json!({"cniVersion": "7.0.0", "name": "margay"}),
        )
        .refused();
    assert_eq!(code, 1, "{words}");
    let (code, words) = node.cni("ADD", &pod, &json!("nonsense")).refused();
    assert_eq!(code, 6, "{words}");
    pod.destroy();
    let (code, words) = node.add(&pod).refused();
    assert_eq!(code, 3, "{words}");
    let own = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c3"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_ARGS", "K8S_POD_NAMESPACE=web;K8S_POD_NAME=front"),
    ];
    let (code, words) = Answer::from(node.plugin(&own, &node.config("1.1.0"))).refused();
    assert_eq!(code, 4, "{words}");
    assert!(words.contains("the node's own"), "{words}");

    let missing = Sandbox::new("front", "c4");
    let mut config = node.config("1.1.0");
    config["prevResult"] = json!({"ips": []});
    assert_eq!(node.cni("CHECK", &missing, &config).refused().0, 3);
    assert_eq!(node.traces(), before);
}

#[test]
fn check_says_what_is_broken() {
    let node = Node::start();
    let pod = Sandbox::new("front", "c1");
    let mut config = node.config("1.1.0");
    config["prevResult"] = node.add(&pod).done();
    node.cni("CHECK", &pod, &config).done();
    pod.ip("route del default");
    let (code, words) = node.cni("CHECK", &pod, &config).refused();
    assert_eq!(code, 100);
    assert!(words.contains("lost its route to 0.0.0.0/0"), "{words}");
    pod.ip("link set eth0 down");
    assert!(
        node.cni("CHECK", &pod, &config)
            .refused()
            .1
            .contains("eth0 is down")
    );
}

#[test]
fn garbage_on_the_socket_is_answered_and_changes_nothing() {
    let node = Node::start();
    let before = node.traces();
    for garbage in [
        &b""[..],
        b"\0\xff\xfe",
        b"{\"verb\":\"ADD\"}",
        b"{\"verb\":\"FLY\"}",
        &vec![b'['; 100_000],
    ] {
        let mut stream = UnixStream::connect(node.socket()).unwrap();
        stream.write_all(garbage).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["refused"]["code"], 6, "{answer}");
    }
    assert_eq!(node.traces(), before);
    let pod = Sandbox::new("front", "c1");
    node.add(&pod).done();
}

#[test]
fn without_felix_pods_run_on_and_del_is_made_up_for_later() {
    let mut node = Node::start();
    let before = node.traces();
    let (front, back) = (Sandbox::new("front", "c1"), Sandbox::new("back", "c2"));
    node.add(&front).done();
    let address: IpAddr = Answer::addresses(&node.add(&back).done())[0]
        .parse()
        .unwrap();
    let listener = listen(&back, address);
    node.kill_felix();
    assert!(connects(&front, listener.local_addr().unwrap()));
    let late = Sandbox::new("fixed", "c3");
    let (code, words) = node.add(&late).refused();
    assert_eq!(code, 11);
    assert!(words.contains("felix is not running"), "{words}");
    assert_eq!(
        node.cni("STATUS", &late, &node.config("1.1.0")).refused().0,
        50
    );
    node.del(&front).done();
    assert!(
        !front.ip("-o link").contains("eth0"),
        "the link goes at once"
    );
    assert!(node.state().join("tombstones/c1@eth0.json").exists());

    node.start_felix();
    assert!(
        connects_from(&node, listener.local_addr().unwrap()),
        "the other pod was never touched"
    );
    node.del(&back).done();
    assert_eq!(node.traces(), before);
}

#[test]
fn a_felix_that_is_told_to_stop_leaves_the_kernel_as_it_is() {
    let mut node = Node::start();
    let pod = Sandbox::new("front", "c1");
    let address: IpAddr = Answer::addresses(&node.add(&pod).done())[0]
        .parse()
        .unwrap();
    let before = node.traces();
    node.stop_felix();
    let listener = listen(&pod, address);
    assert!(connects_from(&node, listener.local_addr().unwrap()));
    node.start_felix();
    assert_eq!(node.traces(), before);
}

#[test]
fn after_a_crash_what_is_half_made_is_removed_and_what_is_complete_stays() {
    let mut node = Node::start();
    let (kept, lost) = (Sandbox::new("front", "c1"), Sandbox::new("back", "c2"));
    let addresses = Answer::addresses(&node.add(&kept).done());
    let lost_link = node.add(&lost).done()["interfaces"][0]["name"].clone();
    node.kill_felix();
    // A link that nobody recorded; a record whose link is gone; a record that was half written.
    node.ip("link add mgy00000000000 type veth peer name mgy00000000001");
    lost.destroy();
    eventually("the namespace and its link are gone", || {
        !node.ip("-o link").contains(lost_link.as_str().unwrap())
    });
    std::fs::write(node.state().join("attachments/c9@eth0.json"), "{\"attach").unwrap();
    node.start_felix();
    assert!(!node.ip("-o link").contains("mgy0000000000"));
    let status = node.get("/status");
    let pods: Vec<&String> = status["pods"].as_object().unwrap().keys().collect();
    assert_eq!(pods, ["web/front"]);
    assert_eq!(status["blocks"]["10.244.1.0/26"], 1);
    let listener = listen(&kept, addresses[1].parse().unwrap());
    let again = Sandbox::new("back", "c3");
    node.add(&again).done();
    assert!(connects(&again, listener.local_addr().unwrap()));
    assert_eq!(
        std::fs::read_dir(node.state().join("attachments"))
            .unwrap()
            .count(),
        2
    );
}

#[test]
fn a_lost_journal_is_rebuilt_from_the_kernel() {
    let mut node = Node::start();
    let before = node.traces();
    let pod = Sandbox::new("fixed", "c1");
    let link = node.add(&pod).done()["interfaces"][0]["name"].clone();
    eventually("the link carries its note", || {
        let show = format!("-d link show {}", link.as_str().unwrap());
        node.ip(&show).contains("web/fixed")
    });
    let attached = node.traces();
    node.kill_felix();
    std::fs::remove_dir_all(node.state().join("attachments")).unwrap();
    node.start_felix();
    assert_eq!(node.traces(), attached);
    let listener = listen(&pod, "172.31.7.7".parse().unwrap());
    assert!(connects_from(&node, listener.local_addr().unwrap()));
    node.del(&pod).done();
    assert_eq!(node.traces(), before);
}

#[test]
fn without_snapshot_and_controller_running_pods_keep_what_they_have() {
    let mut node = Node::start();
    let (front, back) = (Sandbox::new("front", "c1"), Sandbox::new("back", "c2"));
    node.add(&front).done();
    let address = Answer::addresses(&node.add(&back).done())[0]
        .parse()
        .unwrap();
    let listener = listen(&back, address);
    node.kill_felix();
    std::fs::remove_file(node.state().join("stream.jsonl")).unwrap();
    node.launch_felix();
    eventually("felix knows that it knows nothing", || {
        node.log()
            .contains("the kernel stays as it is until the controller tells")
    });
    assert!(connects(&front, listener.local_addr().unwrap()));
    let (code, _) = node.add(&Sandbox::new("fixed", "c3")).refused();
    assert_eq!(code, 11);
    node.stop_felix();
    assert!(connects(&front, listener.local_addr().unwrap()));
}

#[test]
fn gc_detaches_what_the_runtime_does_not_know() {
    let node = Node::start();
    let before = node.traces();
    let (front, back) = (Sandbox::new("front", "c1"), Sandbox::new("back", "c2"));
    node.add(&front).done();
    let alone = node.traces();
    node.add(&back).done();
    let mut config = node.config("1.1.0");
    config["cni.dev/valid-attachments"] = json!([{"containerID": "c1", "ifname": "eth0"}]);
    node.cni("GC", &front, &config).done();
    assert_eq!(node.traces(), alone);
    config["cni.dev/valid-attachments"] = json!([]);
    node.cni("GC", &front, &config).done();
    assert_eq!(node.traces(), before);
}

#[test]
fn what_others_break_is_put_right_and_reported() {
    let node = Node::start();
    let pod = Sandbox::new("front", "c1");
    let result = node.add(&pod).done();
    let link = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
    let address = Answer::addresses(&result)[0].clone();
    let whole = node.traces();
    let breaks = [
        format!("route del {address}"),
        "route del blackhole 10.244.1.0/26".to_owned(),
        "-6 route flush proto 180".to_owned(),
        format!("route replace {address} dev lo metric 180"),
        format!("link set {link} down"),
        format!("link set {link} down"),
    ];
    for (count, broken) in breaks.iter().enumerate() {
        node.ip(broken);
        eventually(broken, || {
            let drift = node.get("/drift");
            drift.as_array().is_some_and(|drift| drift.len() > count) && node.traces() == whole
        });
    }
    let drift = node.get("/drift");
    let drift = drift.as_array().unwrap();
    assert!(
        drift
            .iter()
            .any(|drift| drift["what"] == "route" && drift["name"] == "10.244.1.0/26")
    );
    assert!(
        drift
            .iter()
            .any(|drift| drift["what"] == "link" && drift["name"] == link.as_str())
    );
}

#[test]
fn felix_has_two_capabilities_and_keeps_no_namespace() {
    let node = Node::start();
    let pod = Sandbox::new("front", "c1");
    node.add(&pod).done();
    node.del(&pod).done();
    let status = std::fs::read_to_string(node.proc().join("status")).unwrap();
    // CAP_NET_BIND_SERVICE is bit 10, CAP_NET_ADMIN bit 12.
    for line in [
        "CapPrm:\t0000000000001400",
        "CapEff:\t0000000000001400",
        "CapBnd:\t0000000000001400",
    ] {
        assert!(status.contains(line), "{status}");
    }
    for entry in std::fs::read_dir(node.proc().join("fd")).unwrap() {
        // Those of a request end with it.
        let target = std::fs::read_link(entry.unwrap().path()).unwrap_or_default();
        assert!(!target.to_string_lossy().starts_with("net:"), "{target:?}");
    }
}

fn listen(pod: &Sandbox, address: IpAddr) -> TcpListener {
    pod.inside(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap())
}

/// Whether a connection comes about: at once, or not at all.
fn connects(from: &Sandbox, to: SocketAddr) -> bool {
    from.inside(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)).is_ok())
}

/// The same from the node itself.
fn connects_from(node: &Node, to: SocketAddr) -> bool {
    node.inside(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)).is_ok())
}
