//! What the crate says to a real kernel and hears from it, each test in a network namespace of its own. They need
//! root and the programs `nft` and `ip`.

mod conntrack;
mod errors;
mod events;
mod listing;
mod mutation;
mod oracle;
mod roundtrip;
mod scratch;
mod tables;
