//! What changes while the daemon runs, without a signal: its file, the files that it names, where it answers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Daemon, program};

/// A daemon, and a folder for its files and its log.
struct Home {
    folder: TempDir,
    daemon: Option<Daemon>,
}

impl Home {
    fn new(config: impl Fn(&Home) -> String, files: &[(&str, &str)]) -> Self {
        let mut home = Self {
            folder: tempfile::tempdir().unwrap(),
            daemon: None,
        };
        for (name, text) in files {
            home.write(name, text);
        }
        home.write("bgpd.toml", &config(&home));
        let log = File::create(home.path("log")).unwrap();
        let mut command = program(&home.path("bgpd.toml"));
        home.daemon = Some(Daemon(command.stderr(log).spawn().unwrap()));
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Never half of it.
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("next"), text).unwrap();
        std::fs::rename(self.path("next"), self.path(name)).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    fn ask(&self, socket: &str, page: &str) -> Option<Value> {
        let mut stream = UnixStream::connect(self.path(socket)).ok()?;
        write!(stream, "GET {page} HTTP/1.1\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }

    /// The prefixes of its table.
    fn prefixes(&self) -> Vec<String> {
        let routes = self.ask("control", "/bgp/routes").unwrap_or_default();
        let routes = routes.as_array().into_iter().flatten();
        routes
            .filter_map(|route| Some(route["prefix"].as_str()?.to_owned()))
            .collect()
    }

    fn until_logged(&self, texts: &[&str]) {
        until(
            || texts.iter().all(|text| self.log().contains(text)),
            || format!("{texts:?}: {}", self.log()),
        );
    }

    fn until_peer(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        let peer = || {
            self.ask("control", "/bgp")
                .map(|page| page["peers"]["p"].clone())
        };
        until(
            || peer().is_some_and(|peer| condition(&peer)),
            || format!("{what}: {:?}; {}", peer(), self.log()),
        );
    }
}

fn until(mut condition: impl FnMut() -> bool, what: impl Fn() -> String) {
    for _ in 0..2400 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("waited in vain for {}", what());
}

/// A place where nothing listens.
fn free(address: &str) -> SocketAddr {
    let listener = TcpListener::bind(format!("{address}:0")).unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn a_file_that_changes_is_read_and_one_that_cannot_be_used_changes_nothing() {
    let config = |home: &Home, more: &str| {
        let control = home.path("control");
        format!(
            "asn = 64512\nrouter-id = \"192.0.2.1\"\nlisten = []\ncontrol = {control:?}\n{more}"
        )
    };
    let announcing = |prefix: &str| format!("announce = [\"{prefix}\"]\n");
    let home = Home::new(|home| config(home, &announcing("10.0.0.0/26")), &[]);
    let until_announced = |prefix: &str| {
        until(
            || home.prefixes() == [prefix],
            || format!("{prefix}: {:?}", home.prefixes()),
        );
    };
    until_announced("10.0.0.0/26");
    home.write("bgpd.toml", &config(&home, &announcing("10.0.1.0/26")));
    until_announced("10.0.1.0/26");
    let bad = "[peers.p]\naddress = \"192.0.2.2\"\nasn = 1\nhold-time = 2\n";
    let bad = config(&home, &(announcing("10.0.2.0/26") + bad));
    home.write("bgpd.toml", &bad);
    // File, line, what is allowed, and the line with its field.
    home.until_logged(&[
        "bgpd.toml:9: a hold time is 0 (none) or 3 to 65535 seconds, in `hold-time = 2`",
    ]);
    assert_eq!(home.prefixes(), ["10.0.1.0/26"]);
    let page = home.ask("control", "/bgp").unwrap();
    assert_eq!(page["peers"], serde_json::json!({}));
    home.write("bgpd.toml", &config(&home, &announcing("10.0.3.0/26")));
    until_announced("10.0.3.0/26");
}

/// Two daemons on one host with a session between them, each with a password in a file; the first has metrics.
fn pair(addresses: [&str; 2], keys: [&str; 2]) -> ([Home; 2], SocketAddr) {
    let place = free(addresses[0]);
    let metrics = free(addresses[0]);
    let config = |home: &Home, own: usize| {
        let control = home.path("control");
        let control = control.display();
        let other = addresses[1 - own];
        let start = format!(
            "asn = {}\nrouter-id = \"{}\"\nannounce = [\"10.{own}.0.0/26\"]\ncontrol = \"{control}\"\n",
            64512 + own,
            addresses[own],
        );
        let peer = format!(
            "[peers.p]\naddress = \"{other}\"\nasn = {}\nfamilies = [\"IPv4\"]\npassword-file = \"key\"\n",
            64512 + 1 - own
        );
        match own {
            0 => format!(
                "{start}listen = [\"{place}\"]\nmetrics = \"{metrics}\"\n{peer}passive = true\n"
            ),
            _ => format!(
                "{start}listen = []\n{peer}port = {}\nsource = \"{}\"\n",
                place.port(),
                addresses[own]
            ),
        }
    };
    let homes = [0, 1].map(|own| Home::new(|home| config(home, own), &[("key", keys[own])]));
    (homes, metrics)
}

#[test]
fn a_password_file_that_changes_is_read() {
    let ([_one, other], _) = pair(["127.43.0.1", "127.43.0.2"], ["right", "wrong"]);
    other.until_peer("another password", |peer| {
        peer["hint"].to_string().contains("password")
    });
    other.write("key", "right");
    other.until_peer("established", |peer| peer["state"] == "Established");
}

#[test]
fn what_prometheus_is_told_is_what_it_reads() {
    let ([one, _other], metrics) = pair(["127.43.0.3", "127.43.0.4"], ["same", "same"]);
    one.until_peer("a route", |peer| peer["received"] == 1);
    let labels = "{peer=\"p\",address=\"127.43.0.4\",asn=\"64513\"}";
    let mut found = BTreeMap::new();
    until(
        || {
            found = scrape(metrics).unwrap();
            found.get(&format!("margay_bgp_peer_updates_sent_total{labels}")) >= Some(&1.0)
        },
        || "an UPDATE sent".to_owned(),
    );
    for (name, value) in [
        ("margay_bgp_peer_established", 1.0),
        ("margay_bgp_peer_sessions_total", 1.0),
        ("margay_bgp_peer_received_routes", 1.0),
        ("margay_bgp_peer_announced_routes", 1.0),
        ("margay_bgp_peer_bad_updates", 0.0),
    ] {
        assert_eq!(
            found.get(&format!("{name}{labels}")),
            Some(&value),
            "{found:?}"
        );
    }
    for name in [
        "margay_bgp_peer_updates_received_total",
        "margay_bgp_peer_received_bytes_total",
        "margay_bgp_peer_sent_bytes_total",
    ] {
        assert!(found[&format!("{name}{labels}")] > 0.0, "{found:?}");
    }
    let elsewhere = ask_http(metrics, "/").unwrap();
    assert!(elsewhere.starts_with("HTTP/1.1 404 "), "{elsewhere}");
}

#[test]
fn where_it_answers_may_change_and_stays_as_it_was_if_that_cannot_be() {
    let first = free("127.43.0.5");
    let other = TcpListener::bind("127.43.0.5:0").unwrap();
    let taken = other.local_addr().unwrap();
    let config = |home: &Home, control: Option<&str>, metrics: Option<SocketAddr>| {
        let control = control.map(|name| format!("control = {:?}\n", home.path(name)));
        let metrics = metrics.map(|place| format!("metrics = \"{place}\"\n"));
        let start = "asn = 64512\nrouter-id = \"192.0.2.1\"\nlisten = []\n".to_owned();
        start + &control.unwrap_or_default() + &metrics.unwrap_or_default()
    };
    let home = Home::new(|home| config(home, Some("one"), None), &[]);
    let answers = |socket: &str| home.ask(socket, "/bgp").is_some();
    until(|| answers("one"), || "the first socket".to_owned());
    home.write("bgpd.toml", &config(&home, Some("two"), Some(first)));
    until(
        || answers("two") && scrape(first).is_some() && !home.path("one").exists(),
        || format!("both elsewhere: {}", home.log()),
    );
    home.write(
        "bgpd.toml",
        &config(&home, Some("nowhere/three"), Some(taken)),
    );
    home.until_logged(&[
        "bgpd.toml: still at `control` = ",
        "nowhere/three: No such file",
        &format!("bgpd.toml: still at `metrics` = {first}"),
        &format!("`metrics` = {taken}: Address already in use"),
    ]);
    assert!(answers("two") && scrape(first).is_some(), "{}", home.log());
    home.write("bgpd.toml", &config(&home, None, None));
    until(
        || !home.path("two").exists() && scrape(first).is_none(),
        || format!("nowhere: {}", home.log()),
    );
}

fn ask_http(place: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(place).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Each line with its value, as far as it is what Prometheus' text format says: a known name with known labels and a number.
fn scrape(place: SocketAddr) -> Option<BTreeMap<String, f64>> {
    let answer = ask_http(place, "/metrics")?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert!(body.ends_with('\n'), "{body}");
    let mut kinds = BTreeMap::new();
    let mut found = BTreeMap::new();
    for line in body.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(matches!(kind, "counter" | "gauge"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert_eq!(kinds.insert(name, kind), None, "{line}");
        } else if !line.starts_with("# HELP ") {
            let (what, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = what.split_once('{').unwrap();
            assert!(kinds.contains_key(name), "{line}");
            let labels = labels.strip_suffix('}').unwrap();
            let names: Vec<_> = labels
                .split(',')
                .map(|label| label.split_once("=\"").unwrap().0)
                .collect();
            assert_eq!(names, ["peer", "address", "asn"], "{line}");
            let before = found.insert(what.to_owned(), value.parse().unwrap());
            assert_eq!(before, None, "{line}");
        }
    }
    Some(found)
}
