//! The BGP speaker's tokio driver, as a library and as a small daemon.
//!
//! An owner (felix, or the daemon) keeps the sender of a `watch` of [`Settings`] and changes it as it
//! likes; [`run`] brings sessions up, hands batches of [`RouteChange`]s over and keeps [`Status`] current.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tokio::sync::{mpsc, watch};

pub mod bfd;
pub mod config;
pub mod control;
pub mod metrics;
pub mod pages;

mod advertise;
mod clock;
mod connection;
mod driver;
mod kernel;
mod listener;
mod questions;
mod reach;
mod socket;
mod sys;
mod transport;
mod trouble;
mod unnumbered;

pub use bfd::{BfdSettings, BfdStatus};
pub use questions::{Question, Questions};
use transport::Signature;
pub use transport::{AoAlgorithm, AoKey, Password, PasswordError, Transport, Ttl};

pub use margay_bgp::{
    Asn, BgpId, Dial, Export, Family, HoldTime, NextHops, PeerName, PeerSettings, PeerStatus, State,
};

/// The best way to a prefix has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// The destination.
    pub prefix: IpNet,
    /// All equally good next hops (ECMP), also of the other family (RFC 8950); empty when the route is gone, or is our own
    /// announcement.
    pub next_hops: BTreeSet<IpAddr>,
    /// The numbers of the links that link-local ones are on.
    pub links: BTreeMap<IpAddr, u32>,
    /// Who told the best path; `None` when gone.
    pub peer: Option<PeerName>,
}

/// What the driver is told. A new value may come at any time: only what differs is touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What the speaker is. A peer with the address `::` whose transport has an interface is unnumbered: it is whoever is
    /// the router on that link.
    pub speaker: margay_bgp::Settings,
    /// Where to listen; may be empty. A place that is taken or not there yet is tried again.
    pub listen: Vec<SocketAddr>,
    /// How connections with peers are made, where that is not the usual way.
    pub transport: BTreeMap<PeerName, Transport>,
    /// The same for the speaker's ranges.
    pub range_transport: BTreeMap<String, Transport>,
}

impl Settings {
    /// Every peer with the usual transport.
    pub fn new(speaker: margay_bgp::Settings, listen: Vec<SocketAddr>) -> Self {
        Self {
            speaker,
            listen,
            transport: BTreeMap::new(),
            range_transport: BTreeMap::new(),
        }
    }

    /// How connections with `peer` are made: as its own settings say, else those of the narrowest range around it.
    pub(crate) fn transport(&self, peer: IpAddr) -> Transport {
        let mut peers = self.speaker.peers.iter();
        if let Some((name, _)) = peers.find(|(_, settings)| settings.address == peer) {
            return self.transport.get(name).cloned().unwrap_or_default();
        }
        let ranges = self.speaker.ranges.iter();
        let around = ranges.filter(|(_, range)| range.prefix.contains(&peer));
        let narrowest = around.max_by_key(|(_, range)| range.prefix.prefix_len());
        let transport = narrowest.and_then(|(name, _)| self.range_transport.get(name));
        transport.cloned().unwrap_or_default()
    }

    /// What all those sign with who may dial; TCP-AO only where the kernel has it.
    pub(crate) fn signatures(&self, has_ao: bool) -> BTreeMap<IpNet, Signature> {
        let peers = self.speaker.peers.iter().filter_map(|(name, peer)| {
            let signature = self.transport.get(name)?.signature()?;
            (!peer.address.is_unspecified()).then(|| (peer.address.into(), signature))
        });
        let ranges = self.speaker.ranges.iter().filter_map(|(name, range)| {
            Some((
                range.prefix.trunc(),
                self.range_transport.get(name)?.signature()?,
            ))
        });
        let possible = |signature: &Signature| match signature {
            Signature::Md5(_) => true,
            // Whoever dials from there is closed.
            Signature::Ao(_) => has_ao,
        };
        let all = ranges.chain(peers);
        all.filter(|(_, signature)| possible(signature)).collect()
    }
}

/// How things are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Every configured peer.
    pub peers: BTreeMap<PeerName, PeerStatus>,
    /// BFD of those peers that have it and were established once.
    pub bfd: BTreeMap<PeerName, BfdStatus>,
    /// Every place in [`Settings::listen`]; `Err` says in words why nothing listens there.
    pub listeners: BTreeMap<SocketAddr, Result<(), String>>,
}

/// Speaks BGP until the sender of `settings` is dropped; then every session is ended in order and the future
/// is ready within about a second, and peers drop our routes. Dropping the future instead ends everything
/// without a word: peers that know graceful restart keep our routes for the next process.
///
/// A `routes` receiver that is slow gets fewer, larger batches: the newest change of a prefix wins. Nothing
/// is withdrawn there when the speaker stops: the owner decides what becomes of its routes. Runs on a
/// current-thread runtime as well.
pub async fn run(
    settings: watch::Receiver<Settings>,
    routes: mpsc::Sender<Vec<RouteChange>>,
    status: watch::Sender<Status>,
) {
    let (_, questions) = Questions::new();
    run_with_questions(settings, routes, status, questions).await;
}

/// The same, and answers [`Questions`].
pub async fn run_with_questions(
    settings: watch::Receiver<Settings>,
    routes: mpsc::Sender<Vec<RouteChange>>,
    status: watch::Sender<Status>,
    questions: mpsc::Receiver<Question>,
) {
    driver::Driver::new(settings, routes, status, questions)
        .run()
        .await;
}
