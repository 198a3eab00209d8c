//! felix tells whether it lives, whether it is ready, and what it does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use margay_tests::lab::clock::wait;
use margay_tests::lab::cluster::{Lab, Options, Table};
use margay_tests::lab::prober::Protocol;
use margay_tests::lab::settle::PATIENCE;

use crate::snapshot::nft;
use crate::support::{gets_through, only_from, pod, raise_with, shot, together};

#[test]
fn readiness_is_about_felix_itself_and_metrics_say_what_it_does() {
    let _others = together();
    let documents = [
        pod("a", "n1"),
        pod("b", "n1"),
        only_from("closed", "b", &[]),
    ];
    let options = Options {
        table: Table::Shared,
        ..Options::default()
    };
    let mut lab = raise_with(1, documents, options);
    assert_eq!(page(&lab, "n1", "/livez"), Ok((200, "ok\n".to_owned())));
    assert_eq!(page(&lab, "n1", "/readyz"), Ok((200, "ok\n".to_owned())));
    let known = metrics(&lab);
    for (name, expected) in [
        ("margay_felix_attachments", 2.0),
        ("margay_felix_controller_up", 1.0),
        ("margay_felix_bgp_sessions{state=\"Established\"}", 1.0),
    ] {
        assert_eq!(known.get(name), Some(&expected), "{name}");
    }
    let [received, realised] = ["received", "realised"]
        .map(|which| known[format!("margay_felix_revision_{which}").as_str()]);
    assert!(received > 0.0 && received.to_bits() == realised.to_bits());
    for name in [
        "routes",
        "chains",
        "rules",
        "elements",
        "apply_seconds_count",
        "apply_seconds_sum",
    ] {
        assert!(
            known[format!("margay_felix_{name}").as_str()] > 0.0,
            "{name}"
        );
    }
    let memory = known["margay_felix_resident_octets"];
    assert!((1e6..1e9).contains(&memory), "{memory}");
    let of_peers = known
        .keys()
        .filter(|name| name.contains("{peer=\"router\""));
    assert!(of_peers.count() > 5, "{:?}", known.keys());

    // What others do not do is no reason to be not ready.
    lab.kill_controller().unwrap();
    lab.kill_bird().unwrap();
    wait("felix has lost both", PATIENCE, || {
        let known = metrics(&lab);
        let up = known["margay_felix_controller_up"];
        let sessions = known.get("margay_felix_bgp_sessions{state=\"Established\"}");
        if up + sessions.unwrap_or(&0.0) == 0.0 {
            Ok(())
        } else {
            Err(format!("{up} {sessions:?}"))
        }
    })
    .unwrap();
    assert_eq!(page(&lab, "n1", "/readyz"), Ok((200, "ok\n".to_owned())));

    // Somebody else has the table: felix lives, says what is wrong, and is ready as soon as it can be.
    lab.kill_felix("n1").unwrap();
    nft(&lab, "n1", "delete table inet margay").unwrap();
    let thief = || {
        let mut nft = Command::new("nft");
        nft.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null());
        Ok(nft.spawn()?)
    };
    let mut thief = lab.node("n1").unwrap().run(thief).unwrap();
    let mut orders = thief.stdin.take().unwrap();
    orders
        .write_all(b"add table inet margay { flags owner; }\n")
        .unwrap();
    wait("the table is another's", PATIENCE, || {
        nft(&lab, "n1", "list table inet margay").map(drop)
    })
    .unwrap();
    lab.start_felix("n1").unwrap();
    wait("felix says why it is not ready", PATIENCE, || {
        match page(&lab, "n1", "/readyz")? {
            (503, why) if why.contains("not permitted") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
    assert_eq!(page(&lab, "n1", "/livez"), Ok((200, "ok\n".to_owned())));
    assert_eq!(
        metrics(&lab)["margay_felix_attachments"].to_bits(),
        2_f64.to_bits()
    );
    drop(orders);
    thief.wait().unwrap();
    wait("felix is ready", PATIENCE, || {
        match page(&lab, "n1", "/readyz")? {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
    assert!(metrics(&lab)["margay_felix_rules"] > 0.0);
    let forbidden = shot(&lab, "a", "b", Protocol::Tcp);
    assert!(!gets_through(&mut lab, forbidden));
    lab.start_controller().unwrap();
}

/// Status and body of a page of felix' health.
pub(crate) fn page(lab: &Lab, node: &str, page: &str) -> Result<(u16, String), String> {
    let ask = || {
        let mut stream = TcpStream::connect("127.0.0.1:9099")?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {page} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = lab.node(node).unwrap().run(ask);
    let answer = answer.map_err(|error| format!("{page}: {error:#}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("this is no HTTP")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.ok_or(head)?, body.to_owned()))
}

/// Values by name and labels, of a page that is as Prometheus wants it: every sample belongs to a family that was declared
/// before it, nothing stands twice, and the end is marked.
fn metrics(lab: &Lab) -> BTreeMap<String, f64> {
    let (code, text) = page(lab, "n1", "/metrics").unwrap();
    assert_eq!(code, 200, "{text}");
    let lines = text.strip_suffix("# EOF\n").expect("an end").lines();
    let (mut families, mut values) = (BTreeSet::new(), BTreeMap::new());
    for line in lines {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("TYPE"), Some(name), Some("counter" | "gauge" | "histogram")) => {
                    assert!(families.insert(name.to_owned()), "twice: {line}");
                }
                (Some("HELP" | "UNIT"), Some(name), Some(_)) => {
                    assert!(!name.is_empty(), "{line}");
                }
                _ => panic!("not understood: {line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let plain = name.split('{').next().unwrap_or_default();
        let endings = ["", "_total", "_bucket", "_count", "_sum"];
        let family = endings
            .iter()
            .filter_map(|ending| plain.strip_suffix(ending));
        assert!(
            family.into_iter().any(|name| families.contains(name)),
            "of no family: {line}"
        );
        assert_eq!(name.contains('{'), name.ends_with("\"}"), "{line}");
        let value: f64 = value
            .parse()
            .unwrap_or_else(|_| panic!("no number: {line}"));
        assert!(
            values.insert(name.to_owned(), value).is_none(),
            "twice: {line}"
        );
    }
    values
}
