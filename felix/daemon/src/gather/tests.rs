use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use super::{Gatherer, Outcome};

#[test]
fn what_is_ordered_meanwhile_is_done_together() {
    let (go, wait) = mpsc::channel();
    let (begun, begins) = mpsc::channel();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let gatherer = Gatherer::start("test", Duration::ZERO, {
        let seen = Arc::clone(&seen);
        move |what: Vec<u32>| {
            begun.send(()).unwrap();
            wait.recv().unwrap();
            seen.lock().unwrap().push(what.clone());
            what.iter().sum::<u32>()
        }
    })
    .unwrap();
    let first = gatherer.order(1);
    begins.recv().unwrap();
    let others = [gatherer.order(2), gatherer.order(3)];
    go.send(()).unwrap();
    go.send(()).unwrap();
    assert_eq!(first.wait(), Some(1));
    for other in others {
        assert_eq!(other.wait(), Some(5));
    }
    assert_eq!(*seen.lock().unwrap(), [vec![1], vec![2, 3]]);
}

#[test]
fn a_thread_that_died_answers_nobody() {
    let gatherer =
        Gatherer::<(), ()>::start("test", Duration::ZERO, |_| panic!("as it may happen")).unwrap();
    assert_eq!(gatherer.order(()).wait(), None);
    assert_eq!(Outcome::known(7).wait(), Some(7));
}
