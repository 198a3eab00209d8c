//! The world of the demo, which `up` takes too when it is given none.

use std::collections::BTreeSet;
use std::net::IpAddr;

use margay_tests::lab::objects::Objects;

/// The files, as they stand in `tests/worlds/demo`.
const FILES: &[(&str, &str)] = &[
    (
        "cluster.yaml",
        include_str!("../../../worlds/demo/cluster.yaml"),
    ),
    ("pods.yaml", include_str!("../../../worlds/demo/pods.yaml")),
    (
        "policies/default-deny.yaml",
        include_str!("../../../worlds/demo/policies/default-deny.yaml"),
    ),
    (
        "policies/dns.yaml",
        include_str!("../../../worlds/demo/policies/dns.yaml"),
    ),
    (
        "policies/shop.yaml",
        include_str!("../../../worlds/demo/policies/shop.yaml"),
    ),
    (
        "policies/monitoring.yaml",
        include_str!("../../../worlds/demo/policies/monitoring.yaml"),
    ),
];

/// A shop on three nodes.
pub(crate) fn shop() -> Objects {
    let mut objects = Objects::default();
    for (file, text) in FILES {
        objects.add_text(file, text);
    }
    objects
}

/// Addresses of the host beyond the router.
pub(crate) fn externals() -> BTreeSet<IpAddr> {
    [
        IpAddr::from([203, 0, 113, 10]),
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10]),
    ]
    .into()
}
