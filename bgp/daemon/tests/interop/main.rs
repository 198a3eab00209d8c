//! Interoperation with BIRD 2, FRR 8 and GoBGP 3 in network namespaces (needs root and `ip`).
//!
//! Every feature is tried with every peer. A peer that is not installed is skipped and counted; what a peer cannot do
//! is told with the evidence. `cargo test -p margay-bgpd --test interop TEXT` runs what has the text in its name.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its helpers too")]
#![expect(clippy::print_stdout, reason = "this is the runner of these tests")]

mod bird;
mod details;
mod features;
mod frr;
mod gobgp;
mod runner;
mod session;
mod world;

fn main() -> std::process::ExitCode {
    runner::main()
}
