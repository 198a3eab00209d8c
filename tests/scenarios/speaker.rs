//! `margayctl bgp` with a margay-bgpd: two of them on one host, with a session between them.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use margay_tests::lab::clock::wait;
use margay_tests::lab::process::{self, program};
use margay_tests::lab::settle::PATIENCE;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::together;

/// A running margay-bgpd; killed when dropped.
struct Speaker {
    socket: PathBuf,
    child: Child,
}

impl Speaker {
    fn start(folder: &Path, name: &str, config: &str) -> Self {
        let socket = folder.join(format!("{name}.sock"));
        let file = folder.join(format!("{name}.toml"));
        std::fs::write(&file, format!("control = {socket:?}\n{config}")).unwrap();
        let mut command = Command::new(program("margay-bgpd").unwrap());
        let child = command.arg("--config").arg(&file).spawn().unwrap();
        Self { socket, child }
    }

    fn ask(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        ask(&self.socket, arguments)
    }

    fn text(&self, arguments: &[&str]) -> String {
        let (status, text, complaint) = self.ask(arguments);
        assert_eq!(status, Some(0), "{arguments:?}: {text}{complaint}");
        text
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(&[arguments, &["-o", "json"]].concat())).unwrap()
    }

    fn until(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        wait(what, PATIENCE, || {
            let (_, text, complaint) = self.ask(&["status", "-o", "json"]);
            let page: Value = serde_json::from_str(&text).unwrap_or_default();
            if condition(&page) {
                Ok(())
            } else {
                Err(format!("{text}{complaint}"))
            }
        })
        .unwrap();
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The words of the line that has this one.
fn words<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let mut lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let found = lines.find(|words| words.contains(&word));
    found.unwrap_or_else(|| panic!("no {word} in: {text}"))
}

fn pair(folder: &Path) -> [Speaker; 2] {
    let place: SocketAddr = TcpListener::bind("127.45.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let tor = format!(
        "asn = 65000\nrouter-id = \"192.0.2.254\"\nlisten = [\"{place}\"]\nannounce = [\"198.51.100.0/24\"]\n\
         [announcements.\"203.0.113.0/24\"]\ncommunities = [\"65000:7\"]\nlarge-communities = [\"65000:1:2\"]\nmed = 5\n\
         [peers.node]\naddress = \"127.45.0.2\"\nasn = 64512\npassive = true\nfamilies = [\"IPv4\"]\n"
    );
    let node = format!(
        "asn = 64512\nrouter-id = \"192.0.2.1\"\nlisten = []\nannounce = [\"10.0.0.0/26\"]\n\
         [peers.tor]\naddress = \"127.45.0.1\"\nasn = 65000\nport = {}\nsource = \"127.45.0.2\"\nfamilies = [\"IPv4\"]\n\
         hold-time = 30\nimport-filter = \"prefer\"\n\
         [filters.prefer]\ndefault = \"accept\"\nrules = [{{ set = {{ local-pref = 200 }} }}]\n",
        place.port()
    );
    [
        Speaker::start(folder, "tor", &tor),
        Speaker::start(folder, "node", &node),
    ]
}

#[test]
fn margayctl_shows_what_a_margay_bgpd_knows() {
    let _others = together();
    let folder = tempfile::tempdir().unwrap();
    let [tor, node] = pair(folder.path());
    node.until("two routes here and one there", |page| {
        let peer = &page["peers"]["tor"];
        peer["received"] == 2 && peer["announced"] == 1 && peer["end_of_rib"] == json!(["IPv4"])
    });

    let text = node.text(&["status"]);
    let row = words(&text, "tor");
    assert_eq!(row[..4], ["tor", "127.45.0.1", "65000", "Established"]);
    assert_eq!(row[5..], ["2", "1", "IPv4", "-"], "{text}");

    let text = node.text(&["routes"]);
    let row = words(&text, "203.0.113.0/24");
    let best = "* 203.0.113.0/24 127.45.0.1 tor 65000 200 5 65000:7 65000:1:2 -";
    assert_eq!(row.join(" "), best, "{text}");
    let row = words(&text, "10.0.0.0/26");
    assert_eq!(row[..2], ["*", "10.0.0.0/26"], "{text}");
    let all = node.json(&["routes"]);
    assert_eq!(all.as_array().unwrap().len(), 3, "{all}");
    // Of an address, of a prefix.
    for wanted in ["203.0.113.77", "203.0.113.0/24"] {
        let text = node.text(&["routes", wanted]);
        assert_eq!(words(&text, "203.0.113.0/24").join(" "), best);
        let found = node.json(&["routes", wanted]);
        let path = &found["paths"][0];
        assert_eq!(found["next_hops"], json!(["127.45.0.1"]));
        assert_eq!(path["local_pref"], 200);
        assert_eq!(path["communities"], json!(["65000:7"]));
        assert_eq!(path["large_communities"], json!(["65000:1:2"]));
    }
    let text = node.text(&["routes", "--received", "tor"]);
    assert_eq!(words(&text, "198.51.100.0/24")[3], "tor", "{text}");
    assert!(!text.contains("10.0.0.0/26"), "{text}");
    let text = node.text(&["routes", "--advertised", "tor"]);
    assert_eq!(
        words(&text, "10.0.0.0/26")[..3],
        ["10.0.0.0/26", "127.45.0.2", "-"]
    );
    let told = node.json(&["routes", "--advertised", "tor"]);
    assert_eq!(told.as_array().unwrap().len(), 1, "{told}");
    assert_eq!(told[0]["as_path"], "64512");

    one_session(&node);
    what_is_not_there_is_told(&node);
    why_it_is_down(tor, &node);
}

fn one_session(node: &Speaker) {
    let text = node.text(&["peer", "tor"]);
    for line in [
        "address 127.45.0.1",
        "AS 65000",
        "identifier 192.0.2.254",
        "our address 127.45.0.2",
        "hold time 30",
        "families IPv4",
        "End-of-RIB IPv4",
        "sessions so far 1",
        "routes received 2",
        "routes announced 1",
        "bad UPDATEs 0",
        "BFD -",
    ] {
        let found = text.lines().any(|found| {
            let words: Vec<_> = found.split_whitespace().collect();
            words.join(" ") == line
        });
        assert!(found, "{line}: {text}");
    }
    assert!(text.contains("four-octet AS numbers"), "{text}");
    assert!(text.contains("Established for "), "{text}");
    let peer = node.json(&["peer", "tor"]);
    assert_eq!(peer["state"], "Established");
    let left = peer["hold_left_seconds"].as_u64().unwrap();
    assert!((1..=30).contains(&left), "{peer}");
    assert_eq!(words(&text, "timer").len(), 3, "{text}");
    // Two sets of attributes and End-of-RIB came, one and End-of-RIB went.
    assert_eq!(
        (
            &peer["traffic"]["updates_in"],
            &peer["traffic"]["updates_out"]
        ),
        (&json!(3), &json!(2)),
        "{peer}"
    );
    let rows = words(&text, "UPDATEs");
    assert_eq!(rows[3..], ["3,", "2"], "{text}");
}

fn what_is_not_there_is_told(node: &Speaker) {
    let (status, _, complaint) = node.ask(&["peer", "tok"]);
    assert_eq!(status, Some(2));
    assert!(
        complaint.contains("there is no peer `tok`") && complaint.contains("tor"),
        "{complaint}"
    );
    let (status, _, complaint) = node.ask(&["routes", "192.0.2.99"]);
    assert_eq!(status, Some(1));
    assert!(complaint.contains("no route to 192.0.2.99"), "{complaint}");
}

fn why_it_is_down(tor: Speaker, node: &Speaker) {
    process::signal(tor.child.id(), Signal::SIGTERM);
    node.until("down", |page| {
        page["peers"]["tor"]["state"] != "Established"
    });
    drop(tor);
    node.until("refused", |page| {
        let reason = page["peers"]["tor"]["reason"].to_string();
        reason.contains("connection refused")
    });
    let page = node.json(&["status"]);
    let (reason, hint) = (
        &page["peers"]["tor"]["reason"],
        &page["peers"]["tor"]["hint"],
    );
    let (reason, hint) = (reason.as_str().unwrap(), hint.as_str().unwrap());
    // The peer's last words are told beside the reason of now.
    assert!(reason.contains("shutting down"), "{reason}");
    assert!(!hint.is_empty());
    let text = node.text(&["status"]);
    assert!(text.contains(reason), "{text}");
    assert!(text.contains(&format!("tor: {hint}")), "{text}");
    let nobody = node.socket.with_file_name("nobody.sock");
    let (status, _, complaint) = ask(&nobody, &["status"]);
    assert_eq!(status, Some(1));
    assert!(complaint.contains("margay-bgpd"), "{complaint}");
}

/// Exit status, stdout and stderr of `margayctl bgp …`.
fn ask(socket: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(program("margayctl").unwrap())
        .arg("bgp")
        .args(arguments)
        .arg("--socket")
        .arg(socket)
        .output()
        .unwrap();
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}
