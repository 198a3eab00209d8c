//! Against the real kernel, in namespaces that live as long as the test's threads.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;

use margay_netlink::link::answered_link;
use margay_netlink::{
    Batch, Connection, Event, LinkRef, Mac, Monitor, NextHop, Route, RouteKind, Veth,
};
use nix::sched::{CloneFlags, unshare};

const HOST: Mac = Mac([0xee; 6]);
const POD: Mac = Mac([2, 0, 0, 0, 0, 7]);

/// Runs `body` with a connection into a fresh namespace (where it runs) and one into another, with that other's
/// descriptor.
fn in_namespaces(body: impl FnOnce(Connection, Connection, File) + Send + 'static) {
    let pod = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let namespace = File::open("/proc/thread-self/ns/net").unwrap();
        (Connection::open().unwrap(), namespace)
    });
    let (pod, namespace) = pod.join().unwrap();
    let host = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        body(Connection::open().unwrap(), pod, namespace);
    });
    host.join().unwrap();
}

fn veth<'a>(name: &'a str, namespace: &'a File) -> Veth<'a> {
    Veth {
        name,
        mac: HOST,
        peer_name: "eth0",
        peer_mac: POD,
        peer_namespace: namespace.as_fd(),
        mtu: 1400,
    }
}

fn route(prefix: &str, kind: RouteKind) -> Route {
    Route {
        prefix: prefix.parse().unwrap(),
        protocol: 180,
        metric: None,
        kind,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn links_that_go_together_are_gone_and_others_stay() {
    in_namespaces(|mut host, _pod, namespace| {
        let names = ["mgy1", "mgy2", "mgy3"];
        for (number, name) in names.into_iter().enumerate() {
            let inside = format!("eth{number}");
            let mut batch = Batch::new();
            batch.create_veth(&Veth {
                peer_name: &inside,
                ..veth(name, &namespace)
            });
            host.run(batch).unwrap();
        }
        let going = ["mgy1", "mgy3", "mgy9"].map(|name| LinkRef::Name(name.to_owned()));
        // The second time there is none of them any more.
        for _ in 0..2 {
            let mut batch = Batch::new();
            batch.delete_links(&going, 7);
            assert!(host.run_each(batch).unwrap().is_empty());
            let left = host.links().unwrap();
            let left: Vec<_> = left.iter().filter(|link| !link.loopback).collect();
            assert_eq!(left.len(), 1, "{left:?}");
            assert_eq!(left[0].name, "mgy2");
        }
        let mut alone = Batch::new();
        alone.delete_links(&going[..1], 7);
        alone.delete_links(&[LinkRef::Name("mgy2".to_owned())], 7);
        assert!(host.run_each(alone).unwrap().is_empty());
        assert!(host.links().unwrap().iter().all(|link| link.loopback));
    });
}

#[test]
fn a_pair_of_links_is_made_across_namespaces_and_deleted() {
    in_namespaces(|mut host, mut pod, namespace| {
        let name = LinkRef::Name("mgy0123456789a".to_owned());
        let mut batch = Batch::new();
        batch.create_veth(&veth("mgy0123456789a", &namespace));
        batch.get_link(&name);
        let here = answered_link(&host.run(batch).unwrap()).unwrap();
        assert_eq!((here.mac, here.mtu, here.up), (Some(HOST), 1400, false));
        let there = pod
            .link(&LinkRef::Index(here.peer.unwrap()))
            .unwrap()
            .unwrap();
        assert_eq!(
            (there.name.as_str(), there.mac, there.mtu),
            ("eth0", Some(POD), 1400)
        );
        let shown = std::process::Command::new("ip")
            .args(["-d", "link", "show", "mgy0123456789a"])
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("numtxqueues 1 numrxqueues 1 "), "{shown}");

        let mut again = Batch::new();
        again.create_veth(&veth("mgy0123456789a", &namespace));
        let refusal = host.run(again).unwrap_err().to_string();
        assert!(
            refusal
                .starts_with("cannot create the link mgy0123456789a: it exists already (EEXIST)"),
            "{refusal}"
        );

        let mut batch = Batch::new();
        batch.delete_link(&name);
        batch.delete_link(&name);
        host.run(batch).unwrap();
        assert_eq!(host.link(&name).unwrap(), None);
        assert_eq!(pod.link(&LinkRef::Name("eth0".to_owned())).unwrap(), None);
    });
}

#[test]
fn both_ends_get_addresses_routes_and_neighbours() {
    in_namespaces(|mut host, mut pod, namespace| {
        let mut batch = Batch::new();
        batch.create_veth(&veth("mgy1", &namespace));
        let host_end = LinkRef::Name("mgy1".to_owned());
        batch.set_router_port(&host_end);
        batch.set_up(&host_end);
        batch.get_link(&host_end);
        let here = answered_link(&host.run(batch).unwrap()).unwrap();
        let link = here.peer.unwrap();

        let mut batch = Batch::new();
        batch.set_up(&LinkRef::Name("lo".to_owned()));
        batch.set_up(&LinkRef::Index(link));
        for (own, gateway, all) in [
            ("10.1.2.3", "169.254.1.1", "0.0.0.0/0"),
            ("fd00::1:2:3", "fe80::1", "::/0"),
        ] {
            batch.add_address(link, address(own));
            batch.put_neighbour(link, address(gateway), HOST);
            batch.put_route(&route(
                &format!("{gateway}/{}", if gateway.contains(':') { 128 } else { 32 }),
                RouteKind::Unicast([NextHop::on(link)].into()),
            ));
            let hop = NextHop {
                via: Some(address(gateway)),
                link: Some(link),
                onlink: false,
            };
            batch.put_route(&route(all, RouteKind::Unicast([hop].into())));
        }
        pod.run(batch).unwrap();
        let found: BTreeSet<IpAddr> = pod
            .addresses()
            .unwrap()
            .into_iter()
            .map(|(_, address)| address)
            .collect();
        assert!(
            found.contains(&address("10.1.2.3")) && found.contains(&address("fd00::1:2:3")),
            "{found:?}"
        );
        assert_eq!(pod.routes(180).unwrap().len(), 4);

        let mut batch = Batch::new();
        for own in ["10.1.2.3/32", "fd00::1:2:3/128"] {
            let own: ipnet::IpNet = own.parse().unwrap();
            batch.put_neighbour(here.index, own.addr(), POD);
            batch.put_route(&route(
                &own.to_string(),
                RouteKind::Unicast([NextHop::on(here.index)].into()),
            ));
        }
        host.run(batch).unwrap();
        // Nobody's stack but the kernel's: an echo through the pair would need raw sockets, a route look-up tells enough.
        assert_eq!(host.routes(180).unwrap().len(), 2);
        assert!(
            host.addresses().unwrap().is_empty(),
            "the host end gets no address"
        );
    });
}

#[test]
fn routes_read_back_are_those_written_also_with_several_next_hops() {
    in_namespaces(|mut host, _, namespace| {
        let mut batch = Batch::new();
        batch.create_veth(&veth("mgy1", &namespace));
        let end = LinkRef::Name("mgy1".to_owned());
        batch.set_up(&LinkRef::Name("lo".to_owned()));
        batch.set_up(&end);
        batch.get_link(&end);
        let link = answered_link(&host.run(batch).unwrap()).unwrap().index;
        let hops = |list: &[&str]| {
            let hops = list.iter().map(|hop| NextHop {
                via: Some(address(hop)),
                link: Some(link),
                onlink: true,
            });
            RouteKind::Unicast(hops.collect())
        };
        let mut wanted = vec![
            route("10.9.0.0/26", RouteKind::Blackhole),
            route("10.9.1.0/26", hops(&["192.0.2.1"])),
            route("10.9.2.0/26", hops(&["192.0.2.1", "192.0.2.2"])),
            route("fd00:9::/122", RouteKind::Blackhole),
            route("fd00:9:1::/122", hops(&["2001:db8::1"])),
            route("fd00:9:2::/122", hops(&["2001:db8::1", "2001:db8::2"])),
        ];
        let put = |host: &mut Connection, wanted: &[Route]| {
            let mut batch = Batch::new();
            for route in wanted {
                batch.put_route(route);
            }
            host.run(batch).unwrap();
            let mut found = host.routes(180).unwrap();
            for route in &mut found {
                // IPv6 blackholes stand on the loopback link; that is nothing anybody chose.
                route.metric = None;
            }
            found.sort_by_key(|route| route.prefix);
            found
        };
        assert_eq!(put(&mut host, &wanted), wanted);
        // Each becomes another kind.
        wanted[0].kind = hops(&["192.0.2.1"]);
        wanted[1].kind = hops(&["192.0.2.3", "192.0.2.4"]);
        wanted[2].kind = RouteKind::Blackhole;
        wanted[3].kind = hops(&["2001:db8::1", "2001:db8::2"]);
        wanted[4].kind = RouteKind::Blackhole;
        wanted[5].kind = hops(&["2001:db8::3"]);
        assert_eq!(put(&mut host, &wanted), wanted);
        let mut batch = Batch::new();
        for route in &wanted {
            batch.delete_route(route);
            batch.delete_route(route);
        }
        host.run(batch).unwrap();
        assert_eq!(host.routes(180).unwrap(), []);
    });
}

#[test]
fn a_refused_message_is_named_and_the_others_are_worked_off() {
    in_namespaces(|mut host, _, _| {
        let unreachable = RouteKind::Unicast([NextHop::via(address("192.0.2.1"))].into());
        let mut batch = Batch::new();
        batch.put_route(&route("10.1.0.0/26", RouteKind::Blackhole));
        batch.put_route(&route("10.2.0.0/26", unreachable));
        batch.put_route(&route("10.3.0.0/26", RouteKind::Blackhole));
        let failures = host.run_each(batch).unwrap();
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].0, 1);
        let text = failures[0].1.to_string();
        assert!(text.starts_with("cannot set the route to 10.2.0.0/26: the next hop is not on a network of this node (ENETUNREACH)"), "{text}");
        assert_eq!(host.routes(180).unwrap().len(), 2);
    });
}

#[test]
fn many_routes_go_in_and_out() {
    in_namespaces(|mut host, _, _| {
        let routes: Vec<Route> = (0..5000_u32)
            .map(|n| {
                route(
                    &format!("10.{}.{}.0/24", n >> 8, n & 255),
                    RouteKind::Blackhole,
                )
            })
            .collect();
        let mut batch = Batch::new();
        for route in &routes {
            batch.put_route(route);
        }
        host.run(batch).unwrap();
        assert_eq!(host.routes(180).unwrap().len(), routes.len());
        let mut batch = Batch::new();
        for route in &routes {
            batch.delete_route(route);
        }
        host.run(batch).unwrap();
        assert_eq!(host.routes(180).unwrap().len(), 0);
    });
}

#[test]
fn the_monitor_tells_of_links_and_routes_and_who_changed_them() {
    in_namespaces(|mut host, _, namespace| {
        let mut monitor = Monitor::open().unwrap();
        let mut batch = Batch::new();
        batch.create_veth(&veth("mgy1", &namespace));
        batch.put_route(&route("10.1.0.0/26", RouteKind::Blackhole));
        batch.delete_link(&LinkRef::Name("mgy1".to_owned()));
        host.run(batch).unwrap();
        let port = host.port().unwrap();
        let events = monitor.events().unwrap();
        assert!(
            events
                .iter()
                .any(|event| matches!(event, Event::Link(link) if link.name == "mgy1"))
        );
        assert!(
            events
                .iter()
                .any(|event| matches!(event, Event::LinkGone(link) if link.name == "mgy1"))
        );
        let prefix = "10.1.0.0/26".parse().unwrap();
        assert!(
            events.contains(&Event::Route {
                prefix,
                protocol: 180,
                port
            }),
            "{events:?}"
        );
    });
}
