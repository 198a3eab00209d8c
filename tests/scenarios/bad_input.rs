//! Bad input is refused with its place, changes nothing else, and ends nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use margay_sync::status::{Link, NodeStatus, ObjectsPage};
use margay_tests::lab::clock::wait;
use margay_tests::lab::cluster::Lab;
use margay_tests::lab::prober::Protocol;

use crate::snapshot;
use crate::support::{gets_through, id, only_from, pod, raise, shot, together};

const PATIENCE: Duration = Duration::from_secs(20);

/// Documents that are no objects, and what must be said of each.
const REFUSED: &[(&str, &str, usize)] = &[
    ("tab.yaml", "apiVersion: v1\nkind: Pod\n\tmetadata: {}\n", 2),
    (
        "type.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: t, namespace: x}\nspec: {nodeName: [1]}\n",
        4,
    ),
    (
        "name.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: Not_A_Name}\n",
        1,
    ),
    (
        "half.yaml",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: h, namespace: x}\nspec:\n  podSelector: {matchLabels: {a: b\n",
        0,
    ),
];

/// A policy whose values are absurd: accepted, and closed.
const ABSURD: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: absurd, namespace: x}
spec:
  podSelector: {matchLabels: {app: server}}
  surprise: true
  ingress:
  - from:
    - ipBlock: {cidr: 999.0.0.0/99}
    - ipBlock: {cidr: 10.0.0.0/8, except: [not-a-block]}
";

#[test]
fn broken_documents_are_named_by_file_and_line_and_the_rest_stays_in_force() {
    let _others = together();
    let documents = [
        pod("friend", "n1"),
        pod("stranger", "n1"),
        pod("server", "n1"),
        only_from("some", "server", &["friend"]),
    ];
    let mut lab = raise(1, documents);
    for (file, text, _) in REFUSED {
        fs::write(lab.world_folder().join(file), text).unwrap();
    }
    // The policy's own file breaks: what was accepted of it stays.
    fs::write(
        lab.world_folder().join("NetworkPolicy.x.some.yaml"),
        "apiVersion: networking.k8s.io/v1\nkind: [",
    )
    .unwrap();
    lab.wait_read().unwrap();
    let page: ObjectsPage = lab.ask_controller("/objects").unwrap();
    for (file, _, line) in REFUSED {
        let found = page.refused.iter().find(|refused| refused.file == *file);
        let refused = found.unwrap_or_else(|| panic!("{file} is not refused: {:?}", page.refused));
        assert!(refused.line == *line || *line == 0, "{refused:?}");
        assert!(refused.reason.len() > 5, "{refused:?}");
    }
    for restarted in [false, true] {
        if restarted {
            lab.kill_controller().unwrap();
            lab.start_controller().unwrap();
            lab.wait_ready().unwrap();
        }
        for (from, through) in [("friend", true), ("stranger", false)] {
            let shot = shot(&lab, from, "server", Protocol::Tcp);
            assert_eq!(
                gets_through(&mut lab, shot),
                through,
                "{from}, restarted: {restarted}"
            );
        }
    }
}

#[test]
fn absurd_values_and_unknown_fields_are_reported_and_fail_closed() {
    let _others = together();
    let mut lab = raise(
        1,
        [pod("client", "n1"), pod("server", "n1"), pod("other", "n1")],
    );
    fs::write(lab.world_folder().join("absurd.yaml"), ABSURD).unwrap();
    lab.settle().unwrap();
    let page: ObjectsPage = lab.ask_controller("/objects").unwrap();
    let object = page
        .objects
        .iter()
        .find(|object| object.name == "absurd")
        .unwrap();
    for word in ["surprise", "999.0.0.0/99", "not-a-block"] {
        assert!(
            object.problems.iter().any(|problem| problem.contains(word)),
            "{:?} does not say {word}",
            object.problems
        );
    }
    for (to, through) in [("server", false), ("other", true)] {
        let shot = shot(&lab, "client", to, Protocol::Tcp);
        assert_eq!(gets_through(&mut lab, shot), through, "to {to}");
    }
}

#[test]
fn garbage_on_the_sockets_is_refused_and_ends_nothing() {
    let _others = together();
    let lab = raise(1, [pod("a", "n1")]);
    let before = snapshot::at_rest(&lab, "n1");
    let pid = lab.felix_pid("n1").unwrap();
    for garbage in [
        &b""[..],
        b"\0\0\0\0",
        b"{",
        b"[1,2,3]",
        b"{\"verb\":\"ADD\"}",
        &[0xff; 10_000],
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        for socket in ["cni.sock", "felix.sock"] {
            let mut stream = UnixStream::connect(lab.node_folder("n1").join(socket)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // The other side may hang up before it has read everything.
            let _hung_up = stream
                .write_all(garbage)
                .and_then(|()| stream.shutdown(Shutdown::Write));
            let mut answer = Vec::new();
            let _reset = stream.read_to_end(&mut answer);
            if socket == "cni.sock" && garbage == b"{\"verb\":\"ADD\"}" {
                assert!(
                    !answer.is_empty(),
                    "a call that cannot be understood is answered"
                );
            }
        }
    }
    lab.wait_ready().unwrap();
    assert_eq!(lab.felix_pid("n1").unwrap(), pid);
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    snapshot::wait_same(&lab, "n1", &before);
}

#[test]
fn a_wrong_token_is_refused_and_the_reason_shown() {
    let _others = together();
    let mut lab = raise(2, [pod("a", "n1"), pod("b", "n2")]);
    // n2's felix comes with n1's token: good for its node only.
    let token = lab.node_folder("n2").join("token");
    let own = fs::read(&token).unwrap();
    for wrong in [
        fs::read(lab.node_folder("n1").join("token")).unwrap(),
        b"nonsense".to_vec(),
    ] {
        fs::write(&token, wrong).unwrap();
        lab.kill_felix("n2").unwrap();
        lab.start_felix("n2").unwrap();
        wait("felix says that its token is refused", PATIENCE, || {
            let reason = down(&lab, "n2")?;
            if reason.contains("token") {
                Ok(())
            } else {
                Err(reason)
            }
        })
        .unwrap();
        let across = shot(&lab, "a", "b", Protocol::Tcp);
        assert!(gets_through(&mut lab, across), "what was in force stays");
    }
    fs::write(&token, own).unwrap();
    lab.kill_felix("n2").unwrap();
    lab.start_felix("n2").unwrap();
    lab.wait_ready().unwrap();
}

/// As with a projected token: kubelet puts the next one into the file, and a while later the one before is no good.
#[test]
fn a_token_that_ends_is_read_anew_and_nothing_is_lost() {
    let _others = together();
    let documents = [
        pod("a", "n1"),
        pod("b", "n2"),
        only_from("some", "b", &["a", "c"]),
    ];
    let mut lab = raise(2, documents);
    let (file, accepted) = (
        lab.node_folder("n1").join("token"),
        lab.folder().join("tokens"),
    );
    let old = fs::read_to_string(&file).unwrap();
    fs::write(&file, "next").unwrap();
    let both = fs::read_to_string(&accepted).unwrap();
    fs::write(&accepted, both.replace(old.trim(), "next")).unwrap();
    // What n1 says next is refused on the connection that it has; n2 hears of the pod only if n1 says it again.
    lab.apply(pod("c", "n1")).unwrap();
    lab.start_pods(&[id("c")]).unwrap();
    lab.settle().unwrap();
    for from in ["a", "c"] {
        let shot = shot(&lab, from, "b", Protocol::Tcp);
        assert!(gets_through(&mut lab, shot), "from {from}");
    }
}

#[test]
fn a_stream_of_garbage_is_refused_and_the_reason_shown() {
    let _others = together();
    let mut lab = raise(
        1,
        [
            pod("a", "n1"),
            pod("b", "n1"),
            only_from("closed", "b", &[]),
        ],
    );
    lab.kill_controller().unwrap();
    let server = lab
        .controller_netns()
        .run(|| Ok(TcpListener::bind(margay_tests::lab::cluster::SYNC_ADDRESS)?))
        .unwrap();
    server.set_nonblocking(true).unwrap();
    let mut answers = 0;
    wait(
        "felix says that the stream is not understood",
        PATIENCE,
        || {
            if let Ok((mut stream, _)) = server.accept() {
                let _hung_up = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"type\":\"snap");
                answers += 1;
            }
            let reason = down(&lab, "n1")?;
            if answers > 1 && !reason.is_empty() {
                Ok(())
            } else {
                Err(format!("{answers} answers: {reason}"))
            }
        },
    )
    .unwrap();
    drop(server);
    let closed = shot(&lab, "a", "b", Protocol::Tcp);
    assert!(!gets_through(&mut lab, closed), "what was in force stays");
    lab.start_controller().unwrap();
    lab.wait_ready().unwrap();
    lab.stop_pods(&[id("a")]).unwrap();
}

/// Why a node's stream is down.
fn down(lab: &Lab, node: &str) -> Result<String, String> {
    let status: NodeStatus = lab
        .ask_felix(node, "/status")
        .map_err(|error| format!("{error:#}"))?;
    match status.controller {
        Link::Down { reason } => Ok(reason),
        other @ (Link::Unknown | Link::Up) => Err(format!("the stream is {other:?}")),
    }
}
