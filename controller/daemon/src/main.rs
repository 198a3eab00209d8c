//! The controller: sources, index, sync server, IPAM, status.

fn main() {}
