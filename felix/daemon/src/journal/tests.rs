use super::*;

#[test]
fn a_note_gives_the_record_back_for_its_own_link_only() {
    let record = record("front");
    let note = record.note().unwrap();
    let rebuilt = Record::rebuild(&record.link, &note, record.addresses.clone());
    assert_eq!(rebuilt, Some(record.clone()));
    let other = Record::rebuild("mgy00000000000", &note, record.addresses.clone());
    assert_eq!(other, None);
    assert_eq!(Record::rebuild(&record.link, &note, BTreeSet::new()), None);
    assert_eq!(
        Record::rebuild(&record.link, "uplink", record.addresses.clone()),
        None
    );
}

#[test]
fn names_that_are_too_long_for_a_link_have_no_note() {
    assert_eq!(record(&"x".repeat(250)).note(), None);
}

#[test]
fn what_is_written_counts_when_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    let record = record("front");
    journal.write(&record).unwrap();
    assert_eq!(journal.records().unwrap(), []);
    journal.keep(&record).unwrap();
    assert_eq!(journal.records().unwrap(), std::slice::from_ref(&record));
    journal.write(&record).unwrap();
    journal.remove(&record.attachment).unwrap();
    assert_eq!(journal.records().unwrap(), []);
    let left = std::fs::read_dir(folder.path().join("attachments")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn tombstones_and_damaged_files_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(folder.path()).unwrap();
    let tombstone = Tombstone {
        attachment: record("front").attachment,
    };
    let path = folder.path().join("tombstones").join(tombstone.file_name());
    std::fs::write(&path, serde_json::to_vec(&tombstone).unwrap()).unwrap();
    std::fs::write(folder.path().join("tombstones/x@y.json"), "{").unwrap();
    std::fs::write(folder.path().join("tombstones/.half.1"), "{").unwrap();
    assert_eq!(
        journal.tombstones().unwrap(),
        [(path, tombstone.attachment.clone())]
    );
    assert!(!folder.path().join("tombstones/x@y.json").exists());
    journal.remove_tombstone(&tombstone).unwrap();
    assert_eq!(journal.tombstones().unwrap(), []);
}

fn record(pod: &str) -> Record {
    let attachment = Attachment {
        container: "c1".to_owned(),
        interface: "eth0".to_owned(),
    };
    Record {
        link: names::link(&attachment),
        attachment,
        pod: PodId::new("web", pod),
        uid: "u1".to_owned(),
        addresses: ["10.1.2.3".parse().unwrap()].into(),
    }
}
