//! Connections: deleting those of an address, clearing bits of their marks.

use std::net::{IpAddr, UdpSocket};

use crate::conntrack::Conntrack;
use crate::{Batch, CtKey, Expr, Register, Rule, TableFlags};

use super::scratch::{base, commit, in_netns, table};

/// A namespace with loopback up in which every new connection gets this mark; connections to `addresses`.
fn connections(mark: u32, addresses: &[&str]) {
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .unwrap();
    assert!(up.success());
    let mut batch = Batch::new(table(), None);
    batch.add_table(TableFlags::default());
    batch.add_chain(&base("output", 3, 0, "filter"));
    let to = Register::FIRST;
    let exprs = vec![
        Expr::Immediate {
            to,
            value: mark.to_ne_bytes().into(),
        },
        Expr::SetCtMark { from: to },
        Expr::Ct {
            key: CtKey::State,
            to,
        },
    ];
    batch.add_rule("output", &Rule::new(exprs, ""));
    commit(batch);
    connect(addresses);
}

fn connect(addresses: &[&str]) {
    for address in addresses {
        let address: IpAddr = address.parse().unwrap();
        let from = if address.is_ipv4() {
            "127.0.0.1:4000"
        } else {
            "[::1]:4000"
        };
        let socket = UdpSocket::bind(from).unwrap();
        socket.send_to(b"x", (address, 4001)).unwrap();
    }
}

fn addresses(list: &[&str]) -> std::collections::BTreeSet<IpAddr> {
    list.iter()
        .map(|address| address.parse().unwrap())
        .collect()
}

#[test]
fn only_connections_of_the_address_are_deleted_in_both_families() {
    in_netns(|| {
        connections(0, &["127.0.0.2", "127.0.0.3", "::1"]);
        let mut conntrack = Conntrack::open().unwrap();
        assert_eq!(conntrack.delete(&addresses(&["127.0.0.9"])).unwrap(), 0);
        assert_eq!(conntrack.delete(&addresses(&["127.0.0.2"])).unwrap(), 1);
        assert_eq!(conntrack.delete(&addresses(&["127.0.0.2"])).unwrap(), 0);
        assert_eq!(
            conntrack.delete(&addresses(&["::1", "127.0.0.3"])).unwrap(),
            2
        );
    });
}

#[test]
fn only_the_masked_bits_of_marks_in_the_range_are_cleared() {
    in_netns(|| {
        connections(0x0050_0001, &["127.0.0.2", "::1"]);
        let mut conntrack = Conntrack::open().unwrap();
        let mask = 0xfff0_0000;
        assert_eq!(
            conntrack
                .clear_marks(mask, 0x0060_0000..=0xfff0_0000)
                .unwrap(),
            0
        );
        assert_eq!(
            conntrack
                .clear_marks(mask, 0x0010_0000..=0x0050_0000)
                .unwrap(),
            2
        );
        assert_eq!(
            conntrack.clear_marks(mask, 0..=u32::MAX).unwrap(),
            0,
            "they are clear"
        );
        assert_eq!(
            conntrack.clear_marks(u32::MAX, 1..=1).unwrap(),
            2,
            "the bits of others stayed"
        );
    });
}

#[test]
fn more_connections_than_are_asked_for_at_once_are_all_deleted() {
    in_netns(|| {
        connections(0, &[]);
        let many: Vec<String> = (0..600)
            .map(|i| format!("127.1.{}.{}", i / 200, i % 200 + 1))
            .collect();
        connect(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let mut conntrack = Conntrack::open().unwrap();
        assert_eq!(conntrack.delete(&addresses(&["127.0.0.1"])).unwrap(), 600);
        assert_eq!(conntrack.delete(&addresses(&["127.0.0.1"])).unwrap(), 0);
    });
}
