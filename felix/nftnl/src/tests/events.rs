//! Changes as they happen.

use std::time::Duration;

use crate::{Batch, Event, Events, Kind, Socket, Verb};

use super::scratch::{in_netns, nft, table, world};

const SOON: Option<Duration> = Some(Duration::from_secs(10));

/// All events up to the next commit.
fn commit_of(events: &mut Events) -> (Vec<Event>, Event) {
    let mut changes = Vec::new();
    loop {
        let event = events
            .next(SOON)
            .unwrap()
            .expect("the kernel tells at once");
        if matches!(event, Event::Committed { .. }) {
            return (changes, event);
        }
        changes.push(event);
    }
}

#[test]
fn a_commit_is_reported_with_its_changes_its_generation_and_its_process() {
    in_netns(|| {
        let mut events = Events::open().unwrap();
        assert_eq!(events.next(Some(Duration::ZERO)).unwrap(), None);

        let mut socket = Socket::open().unwrap();
        socket.commit(world().batch()).unwrap();
        let (changes, committed) = commit_of(&mut events);
        let Event::Committed {
            generation,
            portid,
            process,
        } = committed
        else {
            unreachable!()
        };
        assert_eq!(generation, socket.generation().unwrap());
        assert_eq!(portid, socket.portid());
        assert_eq!(process.pid.cast_signed(), nix::unistd::gettid().as_raw());
        assert!(
            changes
                .iter()
                .all(|event| matches!(event, Event::Changed { portid: by, .. } if *by == portid))
        );
        let rules = |event: &&Event| matches!(event, Event::Changed { subject, .. } if subject.kind == Kind::Rule);
        assert_eq!(changes.iter().filter(rules).count(), world().rules.len());

        nft(&[
            "delete",
            "element",
            "inet",
            "scratch",
            "from_pod",
            "{ 10.0.0.1 }",
        ])
        .unwrap();
        let (changes, committed) = commit_of(&mut events);
        let [Event::Changed { subject, portid }] = &changes[..] else {
            panic!("{changes:?}")
        };
        assert_eq!((subject.verb, subject.kind), (Verb::Delete, Kind::Element));
        assert_eq!(
            (&subject.table, subject.name.as_str()),
            (&table(), "from_pod")
        );
        assert_ne!(*portid, socket.portid());
        let Event::Committed { process, .. } = committed else {
            unreachable!()
        };
        assert_eq!(process.name, "nft");
    });
}

#[test]
fn lost_events_are_reported_as_lost() {
    in_netns(|| {
        let mut events = Events::open().unwrap();
        let mut socket = Socket::open().unwrap();
        socket.commit(world().batch()).unwrap();
        let mut lost = false;
        for _ in 0..200 {
            for _ in 0..200 {
                let mut batch = Batch::new(table(), None);
                batch.add_chain(&super::scratch::plain("again"));
                batch.delete_chain("again");
                socket.commit(batch).unwrap();
            }
            // Taking one leaves the rest to pile up.
            lost |= events.next(SOON).unwrap() == Some(Event::Lost);
            if lost {
                return;
            }
        }
        panic!("the queue is bounded, so something must be lost");
    });
}
