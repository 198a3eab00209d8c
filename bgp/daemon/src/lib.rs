//! The BGP speaker's tokio driver, as a library and as a small daemon.
//!
//! An owner (felix, or the daemon) keeps the sender of a `watch` of [`Settings`] and changes it as it
//! likes; [`run`] brings sessions up, hands batches of [`RouteChange`]s over and keeps [`Status`] current.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::sync::{mpsc, watch};

pub mod config;
pub mod control;

mod clock;
mod connection;
mod driver;
mod listener;
mod socket;

pub use margay_bgp::{
    Asn, BgpId, Dial, Export, Family, HoldTime, NextHops, PeerName, PeerSettings, PeerStatus,
    RouteChange, State,
};

/// What the driver is told. A new value may come at any time: only what differs is touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What the speaker is.
    pub speaker: margay_bgp::Settings,
    /// Where to listen; may be empty. A place that is taken or not there yet is tried again.
    pub listen: Vec<SocketAddr>,
}

/// How things are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Every configured peer.
    pub peers: BTreeMap<PeerName, PeerStatus>,
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
    driver::Driver::new(settings, routes, status).run().await;
}
