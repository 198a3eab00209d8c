use margay_policy::model::PodId;
use margay_policy::node_policy::{Endpoint, PolicyChange};
use margay_sync::frame::encode;
use margay_sync::message::{Change, NodeState, Revision};

use super::*;

fn revision(count: u64) -> Revision {
    let run = "run".to_owned();
    Revision { run, count }
}

fn snapshot(count: u64) -> Message {
    let (revision, state) = (revision(count), Box::new(NodeState::default()));
    Message::Snapshot { revision, state }
}

/// Brings a pod of its own.
fn delta(since: u64) -> Message {
    let endpoint = Endpoint {
        uid: String::new(),
        addresses: [].into(),
        ingress: None,
        egress: None,
    };
    let pod = PodId::new("web", format!("pod-{since}"));
    Message::Delta {
        since,
        revision: revision(since + 1),
        changes: vec![Change::Policy(PolicyChange::PutEndpoint { pod, endpoint })],
    }
}

fn known(messages: &[Message]) -> Replica {
    let mut replica = Replica::default();
    for message in messages {
        replica.handle(message.clone()).unwrap();
    }
    replica
}

#[test]
fn what_was_added_is_known_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream.jsonl");
    let mut kept = Kept::new(path.clone(), Saver::start().unwrap());
    assert!(!kept.add(&encode(&delta(1))), "there is no snapshot yet");
    kept.replace(&encode(&snapshot(1)));
    assert_eq!(load(&path), Some(known(&[snapshot(1)])));
    assert!(kept.add(&encode(&delta(1))));
    assert_eq!(load(&path), Some(known(&[snapshot(1), delta(1)])));
    assert!(kept.add(&encode(&delta(2))));
    assert_eq!(load(&path), Some(known(&[snapshot(1), delta(1), delta(2)])));
    kept.replace(&encode(&snapshot(7)));
    assert_eq!(load(&path), Some(known(&[snapshot(7)])));
}

#[test]
fn a_line_that_was_cut_short_was_never_told_and_does_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream.jsonl");
    let whole = [encode(&snapshot(1)), encode(&delta(1))].concat();
    let last = encode(&delta(2));
    for length in 0..last.len() {
        std::fs::write(&path, [&whole, &last[..length]].concat()).unwrap();
        assert_eq!(load(&path), Some(known(&[snapshot(1), delta(1)])));
    }
}

#[test]
fn a_file_that_makes_no_sense_is_nothing_rather_than_the_past() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream.jsonl");
    assert_eq!(load(&path), None, "no file");
    let (first, second) = (encode(&snapshot(1)), encode(&delta(1)));
    let gap = encode(&delta(5));
    let damaged: [&[u8]; 3] = [b"\0\0\0\n", b"{}\n", &gap];
    for line in damaged {
        std::fs::write(&path, [&first, line, &second].concat()).unwrap();
        assert_eq!(load(&path), None, "{}", String::from_utf8_lossy(line));
    }
    for nothing in [b"".as_slice(), &first[..20], &second] {
        std::fs::write(&path, nothing).unwrap();
        assert_eq!(load(&path), None);
    }
}

#[test]
fn the_file_asks_to_be_replaced_when_messages_outweigh_the_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream.jsonl");
    let mut kept = Kept::new(path, Saver::start().unwrap());
    kept.replace(&encode(&snapshot(0)));
    let mut added = 0;
    for count in 0.. {
        if kept.is_full() {
            break;
        }
        let line = encode(&delta(count));
        added += line.len();
        assert!(kept.add(&line));
    }
    assert!((LEAST_ROOM..2 * LEAST_ROOM).contains(&added), "{added}");
    kept.replace(&encode(&snapshot(9)));
    assert!(!kept.is_full());
}

#[test]
fn what_cannot_be_written_leaves_no_past_behind_and_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stream.jsonl");
    let mut kept = Kept::new(path.clone(), Saver::start().unwrap());
    kept.replace(&encode(&snapshot(1)));
    // A folder stands where the file is written first.
    std::fs::create_dir(folder.path().join("stream.jsonl.new")).unwrap();
    kept.replace(&encode(&snapshot(2)));
    assert_eq!(load(&path), None);
    assert!(kept.retry_at().is_some());
    assert!(!kept.add(&encode(&delta(2))));
    std::fs::remove_dir(folder.path().join("stream.jsonl.new")).unwrap();
    kept.replace(&encode(&snapshot(3)));
    assert_eq!(load(&path), Some(known(&[snapshot(3)])));
    assert!(kept.retry_at().is_none());
}
