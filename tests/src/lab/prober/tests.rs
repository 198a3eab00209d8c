use super::super::guard::Scratch;
use super::super::ip;
use super::*;

const TRIES: &[Duration] = &[Duration::from_millis(100), Duration::from_millis(200)];

/// Two namespaces on one cable; `b` drops what comes to port 99 and echo requests of 10.0.0.9.
fn pair() -> (Scratch, Arc<Netns>, Arc<Netns>) {
    let scratch = Scratch::new();
    let a = Arc::new(scratch.netns("a").unwrap());
    let b = Arc::new(scratch.netns("b").unwrap());
    let commands = |addresses: [&str; 3], link: &[String]| -> Vec<String> {
        let mut commands = link.to_vec();
        commands.extend(["link set lo up".to_owned(), "link set eth0 up".to_owned()]);
        commands.extend(addresses.iter().map(|a| format!("addr add {a} dev eth0")));
        commands
    };
    let cable = format!("link add eth0 type veth peer name eth0 netns {}", b.name());
    ip::batch(
        a.name(),
        &commands(["10.0.0.1/24", "10.0.0.9/24", "fd00::1/64 nodad"], &[cable]),
    )
    .unwrap();
    ip::batch(
        b.name(),
        &commands(["10.0.0.2/24", "10.0.0.3/24", "fd00::2/64 nodad"], &[]),
    )
    .unwrap();
    let rules = "add table inet t; add chain inet t c { type filter hook input priority 0; }; \
        add rule inet t c th dport 99 drop; add rule inet t c ip saddr 10.0.0.9 icmp type echo-request drop";
    b.run(|| {
        let output = std::process::Command::new("nft").arg(rules).output()?;
        anyhow::ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    })
    .unwrap();
    (scratch, a, b)
}

#[test]
fn open_and_closed_ports_are_through_and_dropped_ones_are_silent() {
    let (_scratch, a, b) = pair();
    let prober = Prober::start().unwrap();
    let addresses: BTreeSet<IpAddr> = ["10.0.0.2", "fd00::2"].map(|a| a.parse().unwrap()).into();
    let ports = BTreeSet::from([(Protocol::Tcp, 80), (Protocol::Udp, 53)]);
    prober
        .listen(Listener {
            netns: Arc::clone(&b),
            addresses,
            ports,
        })
        .unwrap();
    let mut shots = Vec::new();
    let mut expected = Vec::new();
    for destination in ["10.0.0.2", "fd00::2"] {
        for (protocol, port, seen) in [
            (Protocol::Tcp, 80, Seen::Through),
            (Protocol::Tcp, 81, Seen::Through),
            (Protocol::Tcp, 99, Seen::Silence),
            (Protocol::Udp, 53, Seen::Through),
            (Protocol::Udp, 54, Seen::Through),
            (Protocol::Udp, 99, Seen::Silence),
            (Protocol::Icmp, 0, Seen::Through),
        ] {
            shots.push(shot(&a, None, destination, protocol, port));
            expected.push(seen);
        }
    }
    shots.push(shot(&a, Some("10.0.0.9"), "10.0.0.2", Protocol::Icmp, 0));
    expected.push(Seen::Silence);
    assert_eq!(
        prober
            .shoot(
                shots,
                Effort {
                    at_once: 100,
                    tries: TRIES
                }
            )
            .unwrap(),
        expected
    );
}

#[test]
fn an_unreachable_network_is_a_failure_and_no_verdict() {
    let (_scratch, a, _b) = pair();
    let prober = Prober::start().unwrap();
    let shots = vec![shot(&a, None, "192.0.2.1", Protocol::Tcp, 80)];
    let seen = prober
        .shoot(
            shots,
            Effort {
                at_once: 1,
                tries: TRIES,
            },
        )
        .unwrap();
    assert!(
        matches!(&seen[..], [Seen::Failed(reason)] if reason.contains("unreachable")),
        "{seen:?}"
    );
}

#[test]
fn a_closed_listener_leaves_its_port_free() {
    let (_scratch, _a, b) = pair();
    let prober = Prober::start().unwrap();
    let addresses = BTreeSet::from(["10.0.0.2".parse().unwrap()]);
    let ports = BTreeSet::from([(Protocol::Tcp, 80), (Protocol::Udp, 80)]);
    let listener = Listener {
        netns: b,
        addresses,
        ports,
    };
    let id = prober.listen(listener.clone()).unwrap();
    assert!(prober.listen(listener.clone()).is_err());
    prober.close(id).unwrap();
    prober.listen(listener).unwrap();
}

fn shot(
    netns: &Arc<Netns>,
    source: Option<&str>,
    destination: &str,
    protocol: Protocol,
    port: u16,
) -> Shot {
    Shot {
        netns: Arc::clone(netns),
        source: source.map(|address| address.parse().unwrap()),
        destination: destination.parse().unwrap(),
        protocol,
        port,
    }
}
