//! Start gap: a pod that sends from the first moment its link exists gets nothing forbidden out or in.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use margay_tests::lab::cluster::Lab;
use margay_tests::lab::netns::Netns;
use serde_json::json;

use crate::support::{id, pod, pod_at, policy, raise, together};

/// Pods that may talk with nobody, and as many that may: the latter prove that the packets would arrive.
const ISOLATED: u8 = 100;
const FREE: u8 = 10;
/// Between two calls of a pod while it is new, of the target, and of a pod that is not new any more.
const OFTEN: Duration = Duration::from_micros(200);
const SELDOM: Duration = Duration::from_millis(20);
const RARELY: Duration = Duration::from_millis(200);
/// How many calls that the kernel took make a pod old.
const OLD: usize = 400;

#[test]
fn not_one_forbidden_packet_passes_over_a_hundred_starts() {
    let _others = together();
    let nobody = policy(
        "nobody",
        json!({"podSelector": {"matchLabels": {"gap": "closed"}}, "policyTypes": ["Ingress", "Egress"]}),
    );
    let mut lab = raise(2, [pod("target", "n2"), nobody]);
    let names = apply_pods(&mut lab);
    lab.wait_read().unwrap();

    let over = Arc::new(AtomicBool::new(false));
    let target = lab.pod(&id("target")).unwrap().clone();
    let target_netns = lab.pod_netns(&id("target")).unwrap();
    let arrived = Arc::new(Mutex::new(
        std::collections::BTreeMap::<IpAddr, usize>::new(),
    ));
    let heard = Arc::new(Counters::default());
    let mut threads = Vec::new();
    for to in &target.addresses {
        threads.push(sink(&target_netns, SocketAddr::new(*to, 4000), &over, {
            let arrived = Arc::clone(&arrived);
            move |from| *arrived.lock().unwrap().entry(from).or_default() += 1
        }));
    }
    // The target calls every pod all the time, from before it exists.
    for v4 in [true, false] {
        let to: Vec<SocketAddr> = (0..names.len())
            .map(|number| SocketAddr::new(address(number)[usize::from(!v4)].parse().unwrap(), 4000))
            .collect();
        threads.push(caller(&target_netns, to, SELDOM, SELDOM, &over));
    }
    let inside = Mutex::new(Vec::new());
    let ids: Vec<_> = names.iter().map(|(name, _)| id(name)).collect();
    lab.start_pods_watched(&ids, |pod, netns| {
        let netns = Arc::new(Netns::open(netns.name()).unwrap());
        let to = target
            .addresses
            .iter()
            .map(|address| SocketAddr::new(*address, 4000))
            .collect();
        let heard = Arc::clone(&heard);
        let closed = pod.name.starts_with("closed");
        let mut inside = inside.lock().unwrap();
        inside.push(caller(&netns, to, OFTEN, RARELY, &over));
        let any = SocketAddr::from(([0u16; 8], 4000));
        inside.push(sink(&netns, any, &over, move |_| {
            let counter = if closed { &heard.closed } else { &heard.free };
            counter.fetch_add(1, Ordering::Relaxed);
        }));
    })
    .unwrap();
    lab.settle().unwrap();
    margay_tests::lab::clock::wait(
        "the free pods hear and are heard",
        Duration::from_secs(20),
        || {
            let count = arrived.lock().unwrap().len();
            let wanted = usize::from(FREE) * 2;
            let heard = heard.free.load(Ordering::Relaxed);
            if count >= wanted && heard >= wanted {
                Ok(())
            } else {
                Err(format!("{count} senders arrived, {heard} heard"))
            }
        },
    )
    .unwrap();
    over.store(true, Ordering::Relaxed);
    for thread in threads.into_iter().chain(inside.into_inner().unwrap()) {
        thread.join().unwrap();
    }
    let arrived = arrived.lock().unwrap();
    for (number, (name, closed)) in names.iter().enumerate().filter(|(_, (_, closed))| *closed) {
        assert!(closed);
        for address in address(number) {
            assert_eq!(
                arrived.get(&address.parse().unwrap()),
                None,
                "packets of {name} got out"
            );
        }
    }
    assert_eq!(
        heard.closed.load(Ordering::Relaxed),
        0,
        "packets got into isolated pods"
    );
}

/// Pod objects on node n1; their names, and whether they are isolated.
fn apply_pods(lab: &mut Lab) -> Vec<(String, bool)> {
    let closed = (0..ISOLATED).map(|number| (format!("closed-{number}"), true));
    let names: Vec<(String, bool)> = closed
        .chain((0..FREE).map(|number| (format!("free-{number}"), false)))
        .collect();
    for (number, (name, closed)) in names.iter().enumerate() {
        let addresses = address(number);
        let mut document = pod_at(name, "n1", &[&addresses[0], &addresses[1]]);
        document["metadata"]["labels"]["gap"] = if *closed {
            "closed".into()
        } else {
            "free".into()
        };
        lab.apply(document).unwrap();
    }
    names
}

/// The addresses of a pod by its number.
fn address(number: usize) -> [String; 2] {
    [
        format!("10.9.1.{}", number + 1),
        format!("fd00:9:1::{:x}", number + 1),
    ]
}

#[derive(Default)]
struct Counters {
    closed: AtomicUsize,
    free: AtomicUsize,
}

/// Sends to all of these, again and again, whether there is a route yet or not.
fn caller(
    netns: &Netns,
    to: Vec<SocketAddr>,
    while_new: Duration,
    afterwards: Duration,
    over: &Arc<AtomicBool>,
) -> thread::JoinHandle<()> {
    let (netns, over) = (Netns::open(netns.name()).unwrap(), Arc::clone(over));
    thread::spawn(move || {
        netns.enter().unwrap();
        let (v4, v6) = (
            UdpSocket::bind("0.0.0.0:0").unwrap(),
            UdpSocket::bind("[::]:0").unwrap(),
        );
        let mut taken = 0;
        while !over.load(Ordering::Relaxed) {
            for to in &to {
                let socket = if to.is_ipv4() { &v4 } else { &v6 };
                // There is no route yet, or the policy says no at once.
                taken += usize::from(socket.send_to(b"gap", to).is_ok());
            }
            // A pod that is not new any more leaves the processors to others. It never stops: the kernel may
            // have taken all of its first calls while one family had no neighbour yet.
            thread::park_timeout(if taken < OLD { while_new } else { afterwards });
        }
    })
}

/// Tells of every datagram that arrives.
fn sink(
    netns: &Netns,
    at: SocketAddr,
    over: &Arc<AtomicBool>,
    arrived: impl Fn(IpAddr) + Send + 'static,
) -> thread::JoinHandle<()> {
    let (netns, over) = (Netns::open(netns.name()).unwrap(), Arc::clone(over));
    thread::spawn(move || {
        netns.enter().unwrap();
        let socket = UdpSocket::bind(at).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let mut buffer = [0; 16];
        while !over.load(Ordering::Relaxed) {
            if let Ok((_, from)) = socket.recv_from(&mut buffer) {
                arrived(from.ip().to_canonical());
            }
        }
    })
}
