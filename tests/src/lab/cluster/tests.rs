use super::super::netns::names;
use super::super::prober::{Effort, Protocol, Seen, Shot};
use super::super::topology::NodeSpec;
use super::*;

#[test]
fn everyone_on_the_fabric_reaches_everyone_and_bird_hears_of_no_one() {
    let specs = [
        NodeSpec {
            name: "n1".into(),
            internal: vec!["192.168.0.1".parse().unwrap()],
            external: Vec::new(),
        },
        NodeSpec {
            name: "n2".into(),
            internal: vec!["fd00:77::2".parse().unwrap(), "10.77.0.2".parse().unwrap()],
            external: vec!["203.0.113.2".parse().unwrap()],
        },
    ];
    let externals = BTreeSet::from(["8.8.8.8".parse().unwrap(), "2600::1".parse().unwrap()]);
    let topology = Topology::new(&specs, &externals, &BTreeSet::new()).unwrap();
    let record = Record {
        topology,
        asn: 64512,
        bgp_port: 179,
        pods: BTreeMap::new(),
        pod_count: 0,
    };
    let mut lab = Lab::fabric(Scratch::new(), record, Objects::default()).unwrap();
    let prober = Prober::start().unwrap();
    let mut shots = Vec::new();
    for (from, to) in [("n1", "n2"), ("n2", "n1")] {
        let node = lab.topology().node(to).unwrap();
        let router = lab.topology().router.iter().map(ipnet::IpNet::addr);
        let targets = node
            .addresses
            .iter()
            .chain(&node.extra)
            .copied()
            .chain([IpAddr::from(CONTROLLER)]);
        // A node speaks with the router over its own subnet's address.
        let own = &lab.topology().node(from).unwrap().addresses;
        let reachable = router.filter(|address| {
            own.iter()
                .any(|a| lab.topology().router_for(*a) == Some(*address))
        });
        for destination in targets.chain(reachable) {
            let netns = lab.node(from).unwrap();
            shots.push(Shot {
                netns,
                source: None,
                destination,
                protocol: Protocol::Icmp,
                port: 0,
            });
        }
    }
    assert!(shots.len() > 8);
    let wanted = vec![Seen::Through; shots.len()];
    assert_eq!(
        prober.shoot(shots.clone(), Effort::default()).unwrap(),
        wanted,
        "{shots:?}"
    );
    lab.start_bird(Dialling::Both).unwrap();
    wait(
        "BIRD routes to the host beyond",
        Duration::from_secs(20),
        || {
            let text = lab.bird("show route").map_err(|error| error.to_string())?;
            if text.contains("8.8.8.8/32") && text.contains("2600::1/128") {
                Ok(())
            } else {
                Err(text)
            }
        },
    )
    .unwrap();
    let shot = |destination: &str| Shot {
        netns: lab.router(),
        source: None,
        destination: destination.parse().unwrap(),
        protocol: Protocol::Udp,
        port: 4,
    };
    wait(
        "the router's kernel has the routes",
        Duration::from_secs(20),
        || {
            let seen = prober
                .shoot(vec![shot("8.8.8.8"), shot("2600::1")], Effort::default())
                .unwrap();
            if seen == [Seen::Through, Seen::Through] {
                Ok(())
            } else {
                Err(format!("{seen:?}"))
            }
        },
    )
    .unwrap();
    let prefix = lab.scratch.netns_name("");
    drop((lab, prober));
    assert!(names(&prefix).unwrap().is_empty());
}
