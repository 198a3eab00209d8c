//! The CNI plugin as a runtime calls it: every verb and version, at the worst moments; nothing is left behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use margay_tests::lab::clock::{Deadline, wait};
use margay_tests::lab::cluster::Lab;
use margay_tests::lab::cni::{self, Request};
use margay_tests::lab::netns::{self, Netns};
use margay_tests::lab::process;
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::snapshot;
use crate::support::{id, pod, raise, together};

/// Every version that must work.
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

#[test]
fn every_verb_works_in_every_version() {
    let _others = together();
    let lab = raise(1, []);
    let before = snapshot::at_rest(&lab, "n1");
    for (number, version) in VERSIONS.into_iter().enumerate() {
        let sandbox = Sandbox::new(&lab, &format!("v{number}"));
        let mut request = sandbox.request(&lab, "n1", version);
        let versions = request.call("VERSION").unwrap();
        assert!(
            versions["supportedVersions"]
                .as_array()
                .unwrap()
                .contains(&version.into()),
            "{versions}"
        );
        let result = request.call("ADD").unwrap();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(cni::addresses(&result).unwrap().len(), 2, "{result}");
        if version != "0.3.1" {
            request.config["prevResult"] = result;
            assert_eq!(request.call("CHECK").unwrap(), Value::Null, "{version}");
        }
        if version == "1.1.0" {
            assert_eq!(request.call("STATUS").unwrap(), Value::Null);
            request.config["cni.dev/valid-attachments"] =
                json!([{"containerID": request.container, "ifname": request.interface}]);
            assert_eq!(request.call("GC").unwrap(), Value::Null);
            assert_eq!(
                request.call("CHECK").unwrap(),
                Value::Null,
                "GC keeps what is valid"
            );
        }
        assert_eq!(request.call("DEL").unwrap(), Value::Null, "{version}");
        let refusal = refused(&request, "FROBNICATE");
        assert!(refusal["code"].is_number(), "{refusal}");
    }
    snapshot::wait_same(&lab, "n1", &before);
}

#[test]
fn repeated_and_unknown_requests_leave_nothing() {
    let _others = together();
    let lab = raise(1, []);
    let before = snapshot::at_rest(&lab, "n1");
    let sandbox = Sandbox::new(&lab, "twice");
    let request = sandbox.request(&lab, "n1", "1.1.0");
    let first = request.call("ADD").unwrap();
    let once = snapshot::of(&lab, "n1").len();
    let second = request.call("ADD").unwrap();
    assert_eq!(
        cni::addresses(&second).unwrap().len(),
        2,
        "{first} {second}"
    );
    wait("a repeated ADD replaces", Duration::from_secs(10), || {
        let twice = snapshot::of(&lab, "n1").len();
        if twice == once {
            Ok(())
        } else {
            Err(format!("{once} lines, then {twice}"))
        }
    })
    .unwrap();
    for _ in 0..2 {
        request.call("DEL").unwrap();
    }
    let mut unknown = request.clone();
    unknown.container = "f".repeat(64);
    unknown.netns = None;
    unknown.call("DEL").unwrap();
    unknown.netns = Some("/run/netns/there-is-none".into());
    unknown.call("DEL").unwrap();
    snapshot::wait_same(&lab, "n1", &before);
}

#[test]
fn garbage_collection_detaches_what_is_not_listed() {
    let _others = together();
    let lab = raise(1, []);
    let before = snapshot::at_rest(&lab, "n1");
    let sandboxes = ["keep", "lost"].map(|name| Sandbox::new(&lab, name));
    let [keep, lost] = &sandboxes
        .each_ref()
        .map(|sandbox| sandbox.request(&lab, "n1", "1.1.0"));
    keep.call("ADD").unwrap();
    let with_one = snapshot::of(&lab, "n1");
    lost.call("ADD").unwrap();
    let mut request = keep.clone();
    request.config["cni.dev/valid-attachments"] =
        json!([{"containerID": keep.container, "ifname": keep.interface}]);
    request.call("GC").unwrap();
    snapshot::wait_same(&lab, "n1", &with_one);
    keep.call("DEL").unwrap();
    snapshot::wait_same(&lab, "n1", &before);
}

#[test]
fn a_plugin_killed_at_any_step_leaves_nothing_after_del() {
    let _others = together();
    let lab = raise(1, []);
    let before = snapshot::at_rest(&lab, "n1");
    for step in 0..24 {
        let sandbox = Sandbox::new(&lab, &format!("k{step}"));
        let request = sandbox.request(&lab, "n1", "1.1.0");
        let mut child = request.start("ADD").unwrap();
        pass(Duration::from_micros(250) * step);
        process::kill(child.id());
        child.wait().unwrap();
        request.call("DEL").unwrap();
    }
    snapshot::wait_same(&lab, "n1", &before);
}

#[test]
fn felix_killed_at_any_step_leaves_nothing_after_del() {
    let _others = together();
    let mut lab = raise(1, []);
    let before = snapshot::at_rest(&lab, "n1");
    for step in 0..16 {
        let sandbox = Sandbox::new(&lab, &format!("f{step}"));
        let request = sandbox.request(&lab, "n1", "1.1.0");
        let child = request.start("ADD").unwrap();
        pass(Duration::from_micros(400) * step);
        lab.kill_felix("n1").unwrap();
        child.wait_with_output().unwrap();
        // Sometimes the runtime gives up while felix is still away.
        if step % 2 == 0 {
            request.call("DEL").unwrap();
        }
        lab.start_felix("n1").unwrap();
        lab.wait_ready().unwrap();
        request.call("DEL").unwrap();
    }
    snapshot::wait_same(&lab, "n1", &before);
}

#[test]
fn a_hundred_and_ten_adds_at_once_all_succeed() {
    let _others = together();
    let lab = raise(1, []);
    let before = snapshot::at_rest(&lab, "n1");
    let sandboxes: Vec<Sandbox> = (0..110)
        .map(|number| Sandbox::new(&lab, &format!("m{number}")))
        .collect();
    let requests: Vec<Request> = sandboxes
        .iter()
        .map(|sandbox| sandbox.request(&lab, "n1", "1.1.0"))
        .collect();
    let children: Vec<_> = requests
        .iter()
        .map(|request| request.start("ADD").unwrap())
        .collect();
    let mut addresses = std::collections::BTreeSet::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        );
        addresses.extend(cni::addresses(&serde_json::from_slice(&output.stdout).unwrap()).unwrap());
    }
    assert_eq!(addresses.len(), 220, "every pod has its own two addresses");
    let children: Vec<_> = requests
        .iter()
        .map(|request| request.start("DEL").unwrap())
        .collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    // Blocks that the pods needed stay claimed: their blackholes are not left over.
    wait(
        "nothing but blocks is left",
        Duration::from_secs(15),
        || {
            let after = snapshot::of(&lab, "n1");
            let left: Vec<&String> = after
                .difference(&before)
                .filter(|line| !line.contains("blackhole") && !line.contains("block"))
                .collect();
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:#?}"))
            }
        },
    )
    .unwrap();
}

#[test]
fn a_full_disk_is_refused_and_leaves_nothing() {
    let _others = together();
    let mut lab = raise(1, []);
    lab.kill_felix("n1").unwrap();
    let state = lab.node_folder("n1").join("state");
    mount(
        Some("tmpfs"),
        &state,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=256k"),
    )
    .unwrap();
    lab.start_felix("n1").unwrap();
    lab.wait_ready().unwrap();
    let before = snapshot::at_rest(&lab, "n1");
    let filler = state.join("filler");
    fill(&filler);
    let sandbox = Sandbox::new(&lab, "full");
    let request = sandbox.request(&lab, "n1", "1.1.0");
    let refusal = refused(&request, "ADD");
    assert!(refusal["msg"].as_str().unwrap().len() > 10, "{refusal}");
    assert!(refusal.to_string().contains("space"), "{refusal}");
    fs::remove_file(&filler).unwrap();
    request.call("DEL").unwrap();
    snapshot::wait_same(&lab, "n1", &before);
    request.call("ADD").unwrap();
    request.call("DEL").unwrap();
    snapshot::wait_same(&lab, "n1", &before);
}

#[test]
fn wrong_requests_are_refused_in_words() {
    let _others = together();
    let lab = raise(1, []);
    let before = snapshot::at_rest(&lab, "n1");
    let sandbox = Sandbox::new(&lab, "wrong");
    let good = sandbox.request(&lab, "n1", "1.1.0");
    let with = |edit: &dyn Fn(&mut Request)| {
        let mut request = good.clone();
        edit(&mut request);
        request
    };
    for (request, code, word) in [
        (
            with(&|request| request.config["cniVersion"] = "9.9.9".into()),
            1,
            "9.9.9",
        ),
        (with(&|request| request.config = json!("no object")), 6, ""),
        (
            with(&|request| request.config["socket"] = "/run/nobody.sock".into()),
            11,
            "nobody.sock",
        ),
        (
            with(&|request| request.container = String::new()),
            4,
            "CNI_CONTAINERID",
        ),
        (
            with(&|request| request.interface = "a/b".into()),
            4,
            "CNI_IFNAME",
        ),
        (with(&|request| request.netns = None), 4, "CNI_NETNS"),
        (
            with(&|request| request.netns = Some("/run/netns/there-is-none".into())),
            3,
            "there-is-none",
        ),
    ] {
        let refusal = refused(&request, "ADD");
        assert_eq!(refusal["code"], code, "{refusal}");
        assert!(
            refusal.to_string().contains(word),
            "{refusal} does not say {word}"
        );
    }
    snapshot::wait_same(&lab, "n1", &before);
}

/// The error object of a request that must fail.
fn refused(request: &Request, verb: &str) -> Value {
    let output = request.run(verb).unwrap();
    assert!(!output.status.success(), "{verb} succeeded");
    let refusal: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{verb}: {error}: {} {}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    });
    assert!(
        refusal["msg"].as_str().is_some_and(|text| !text.is_empty()),
        "{refusal}"
    );
    refusal
}

/// A pod's namespace without a pod of the lab.
struct Sandbox {
    netns: Netns,
    name: String,
}

impl Sandbox {
    /// A namespace, and a pod object for it on node n1.
    fn new(lab: &Lab, name: &str) -> Self {
        let netns = Netns::create(&lab.netns_name(name)).unwrap();
        margay_tests::lab::objects::write_pod(&lab.world_folder(), &pod(name, "n1")).unwrap();
        Self {
            netns,
            name: name.to_owned(),
        }
    }

    fn request(&self, lab: &Lab, node: &str, version: &str) -> Request {
        let folder = lab.node_folder(node);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Request {
            container: format!("{:0<64}", self.name),
            netns: Some(self.netns.path()),
            interface: "eth0".to_owned(),
            pod: id(&self.name),
            uid: format!("x.{}", self.name),
            config: cni::config(
                version,
                &text(&folder.join("cni.sock")),
                &text(&folder.join("state")),
            ),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        netns::delete(self.netns.name()).unwrap();
    }
}

/// Lets some microseconds go by, without giving the processor away.
fn pass(time: Duration) {
    let until = Deadline::after(time);
    while !until.is_over() {
        std::hint::spin_loop();
    }
}

/// Writes until there is no space left.
fn fill(path: &Path) {
    let block = vec![0; 4096];
    let mut octets = Vec::new();
    while fs::write(path, &octets).is_ok() {
        octets.extend_from_slice(&block);
    }
    // What is left of the last try must not free space.
    octets.truncate(octets.len() - block.len());
    fs::write(path, &octets).unwrap();
}
