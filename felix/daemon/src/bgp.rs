//! What the BGP speaker is told, and what becomes of its routes.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use margay_bgp::Settings as Speaker;
use margay_bgpd::{
    Asn, BgpId, HoldTime, NextHops, PeerSettings, RouteChange, Settings, State, Status,
};
use margay_policy::model::NodeName;
use margay_sync::message::{Bgp, BgpPeer};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};

use crate::host::{Host, Order};
use crate::view::View;

/// How long routes of before a restart are kept for peers that do not come back.
const GRACE: Duration = Duration::from_secs(90);

/// The speaker's settings for what is known of the node; nothing to do before that.
pub(crate) fn settings(node: &NodeName, view: &View) -> Settings {
    let Some(network) = &view.network else {
        return idle(node);
    };
    let Bgp { asn, port, peers } = &network.bgp;
    let v4 = network.addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let v6 = network.addresses.iter().find_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    });
    let speaking = *asn != 0 && !peers.is_empty();
    let listen = network
        .addresses
        .iter()
        .filter(|_| speaking)
        .map(|address| SocketAddr::new(*address, *port));
    let speaker = Speaker {
        next_hops: NextHops { v4, v6 },
        peers: peers
            .iter()
            .map(|(name, peer)| {
                (
                    name.as_str().into(),
                    peer_settings(peer, &network.addresses),
                )
            })
            .collect(),
        announce: view.blocks.keys().chain(&view.outside).copied().collect(),
        ..Speaker::new(Asn(*asn), BgpId(v4.unwrap_or_else(|| identifier(node))))
    };
    Settings::new(speaker, listen.collect())
}

fn idle(node: &NodeName) -> Settings {
    Settings::new(Speaker::new(Asn(0), BgpId(identifier(node))), Vec::new())
}

fn peer_settings(peer: &BgpPeer, own: &[IpAddr]) -> PeerSettings {
    let BgpPeer {
        address,
        port,
        asn,
        hold_time,
    } = peer;
    // The peer knows us by the address that is in our Node object, so dial from that.
    let source = own.iter().find(|own| own.is_ipv4() == address.is_ipv4());
    PeerSettings {
        port: *port,
        hold_time: HoldTime::from_secs(*hold_time),
        source: source.copied(),
        ..PeerSettings::new(*address, Asn(*asn))
    }
}

/// An identifier for a node without IPv4 address: a hash of its name, never zero.
fn identifier(node: &NodeName) -> Ipv4Addr {
    let hash: [u8; 32] = Sha256::digest(&node.0).into();
    let [a, b, c, d, ..] = hash;
    Ipv4Addr::new(a.max(1), b, c, d)
}

/// Keeps the speaker's settings up to date.
pub(crate) async fn steer(
    node: NodeName,
    mut view: watch::Receiver<Arc<View>>,
    speaker: watch::Sender<Settings>,
) {
    loop {
        let settings = settings(&node, &view.borrow_and_update());
        speaker.send_if_modified(|old| {
            let changed = *old != settings;
            if changed {
                *old = settings;
            }
            changed
        });
        if view.changed().await.is_err() {
            return;
        }
    }
}

/// Hands the speaker's routes on to the kernel; and once every peer has told everything, or has had time enough, gives up
/// those of before our start that nobody told of again.
pub(crate) async fn hand_on(
    mut routes: mpsc::Receiver<Vec<RouteChange>>,
    mut status: watch::Receiver<Status>,
    host: Host,
) {
    let mut grace = std::pin::pin!(tokio::time::sleep(GRACE));
    let mut sweeping = true;
    loop {
        tokio::select! {
            biased;
            changes = routes.recv() => match changes {
                Some(changes) => host.order(Order::Learned(changes)),
                None => return,
            },
            () = &mut grace, if sweeping => {
                sweeping = false;
                host.order(Order::Sweep);
            }
            changed = status.changed(), if sweeping => {
                if changed.is_err() {
                    sweeping = false;
                } else if told_everything(&status.borrow_and_update()) {
                    sweeping = false;
                    host.order(Order::Sweep);
                }
            }
        }
    }
}

/// Whether every peer is up and has sent all it had.
fn told_everything(status: &Status) -> bool {
    !status.peers.is_empty()
        && status.peers.values().all(|peer| {
            peer.state == State::Established
                && !peer.families.is_empty()
                && peer.families.is_subset(&peer.end_of_rib)
        })
}

/// Sessions by state, for metrics.
pub(crate) fn sessions(status: &Status) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for peer in status.peers.values() {
        *counts.entry(peer.state.to_string()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
