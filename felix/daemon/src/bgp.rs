//! What the BGP speaker is told, and what becomes of its routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use margay_bgp::Settings as Speaker;
use margay_bgp::settings::Deferral;
use margay_bgpd::{
    Asn, BgpId, NextHops, PeerName, Questions, RouteChange, Settings, State, Status,
};
use margay_policy::model::NodeName;
use margay_sync::message::bgp;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::host::Order;
use crate::view::View;

mod convert;
mod passwords;
mod transition;

use passwords::Passwords;
use transition::{Transition, Why};

/// How long routes of before a restart are kept for peers that do not come back.
pub(crate) const GRACE: Duration = Duration::from_secs(90);
/// How often to look at what a topology that goes still waits for.
const TRANSITION: Duration = Duration::from_millis(500);
/// How often to read files with passwords.
const FILES: Duration = Duration::from_secs(2);

/// Makes settings for the speaker, and knows what was made before.
#[derive(Debug)]
pub(crate) struct Steering {
    node: NodeName,
    passwords: Passwords,
    transition: Transition,
    used: Settings,
    /// How nodes pair, as the controller said last.
    topology: String,
    /// Sessions with other nodes, those of before included.
    nodes: BTreeSet<PeerName>,
}

impl Steering {
    /// Of a process that begins; `view` is what it knows already.
    pub(crate) fn new(node: NodeName, view: &View) -> Self {
        let mut steering = Self {
            used: idle(&node),
            node,
            passwords: Passwords::default(),
            transition: Transition::default(),
            topology: topology(view),
            nodes: BTreeSet::new(),
        };
        steering.used = steering.wanted(view);
        steering
    }

    /// The settings in use.
    pub(crate) fn used(&self) -> &Settings {
        &self.used
    }

    /// The settings to use from now on.
    fn next(&mut self, view: &View, status: &Status, now: Instant) -> &Settings {
        let wanted = self.wanted(view);
        let established = status
            .peers
            .iter()
            .filter(|(_, peer)| peer.state == State::Established)
            .map(|(name, _)| name.clone())
            .collect();
        let topology = topology(view);
        let why = if std::mem::replace(&mut self.topology, topology.clone()) == topology {
            Why::Other
        } else {
            Why::Topology
        };
        let used = &self.used;
        self.used = self
            .transition
            .settings(used, wanted, why, &self.nodes, &established, now);
        self.nodes
            .retain(|name| self.used.speaker.peers.contains_key(name));
        &self.used
    }

    /// What is known of the node, as settings; nothing to do before that.
    fn wanted(&mut self, view: &View) -> Settings {
        let Some(network) = &view.network else {
            return idle(&self.node);
        };
        let bgp = &network.bgp;
        let v4 = network.addresses.iter().find_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        let v6 = network.addresses.iter().find_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        let speaking = bgp.asn != 0 && !bgp.peers.is_empty();
        let listen = network
            .addresses
            .iter()
            .filter(|_| speaking)
            .map(|address| SocketAddr::new(*address, bgp.port));
        let blocks = view.blocks.keys().chain(&view.outside);
        let announce: BTreeSet<IpNet> = blocks.chain(&bgp.services).copied().collect();
        let mut peers = BTreeMap::new();
        let mut transport = BTreeMap::new();
        self.passwords.retain(|name| {
            bgp.peers.contains_key(name) || self.used.speaker.peers.contains_key(name)
        });
        for (name, peer) in &bgp.peers {
            let key = PeerName::from(name.as_str());
            if peer.node.is_some() {
                self.nodes.insert(key.clone());
            }
            let password = peer.details.password.as_ref();
            let password = self
                .passwords
                .of(name, password, |path| std::fs::read_to_string(path));
            let (settings, way) = convert::peer(peer, &network.addresses, password);
            peers.insert(key.clone(), settings);
            transport.insert(key, way);
        }
        let id = v4.unwrap_or_else(|| identifier(&self.node));
        // Who keeps a reflector's routes over its restart is told of them once all are there again. A node's own are
        // there from the start.
        let passes_on = |peer: &bgp::BgpPeer| peer.details.export != bgp::Export::Own;
        let deferral = bgp.peers.values().any(passes_on).then_some(Deferral::USUAL);
        let speaker = Speaker {
            next_hops: NextHops { v4, v6 },
            peers,
            announcements: convert::announcements(&announce, bgp),
            aggregates: convert::aggregates(bgp),
            announce,
            cluster_id: bgp.cluster_id.map(BgpId),
            deferral,
            ..Speaker::new(Asn(bgp.asn), BgpId(id))
        };
        Settings {
            transport,
            ..Settings::new(speaker, listen.collect())
        }
    }
}

fn topology(view: &View) -> String {
    let network = view.network.as_ref();
    network.map_or_else(String::new, |network| network.bgp.topology.clone())
}

fn idle(node: &NodeName) -> Settings {
    Settings::new(Speaker::new(Asn(0), BgpId(identifier(node))), Vec::new())
}

/// An identifier for a node without IPv4 address: a hash of its name, never zero.
fn identifier(node: &NodeName) -> Ipv4Addr {
    let hash: [u8; 32] = Sha256::digest(&node.0).into();
    let [a, b, c, d, ..] = hash;
    Ipv4Addr::new(a.max(1), b, c, d)
}

/// Keeps the speaker's settings up to date.
pub(crate) async fn steer(
    mut steering: Steering,
    mut view: watch::Receiver<Arc<View>>,
    status: watch::Receiver<Status>,
    speaker: watch::Sender<Settings>,
    questions: Questions,
) {
    loop {
        let seen = Arc::clone(&view.borrow_and_update());
        let peers = status.borrow().clone();
        let settings = steering.next(&seen, &peers, clock::now()).clone();
        speaker.send_if_modified(|old| {
            let changed = *old != settings;
            if changed {
                *old = settings;
            }
            changed
        });
        let files = seen
            .network
            .iter()
            .flat_map(|network| network.bgp.peers.values());
        let mut passwords = files.filter_map(|peer| peer.details.password.as_ref());
        let again = if !steering.transition.is_over() {
            Some(TRANSITION)
        } else if passwords.any(|password| matches!(password, bgp::Password::File(_))) {
            Some(FILES)
        } else {
            None
        };
        let pause = async {
            match again {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = view.changed() => if changed.is_err() {
                return;
            },
            () = pause => {
                let leaving = steering.transition.leaving();
                if leaving.is_empty() {
                    continue;
                }
                let ask = move |speaker: &margay_bgp::Speaker| transition::needed(speaker, &leaving);
                if let Some(needed) = questions.ask(ask).await {
                    steering.transition.note(&needed, clock::now());
                }
            }
        }
    }
}

/// Hands the speaker's routes on to the kernel; and once every peer has told everything, or has had `grace`, gives up
/// those of before our start that nobody told of again.
pub(crate) async fn hand_on(
    mut routes: mpsc::Receiver<Vec<RouteChange>>,
    mut status: watch::Receiver<Status>,
    grace: Duration,
    mut order: impl FnMut(Order),
) {
    let mut grace = std::pin::pin!(tokio::time::sleep(grace));
    let mut sweeping = true;
    loop {
        tokio::select! {
            biased;
            changes = routes.recv() => match changes {
                Some(changes) => order(Order::Learned(changes)),
                None => return,
            },
            () = &mut grace, if sweeping => {
                sweeping = false;
                order(Order::Sweep);
            }
            changed = status.changed(), if sweeping => {
                if changed.is_err() {
                    sweeping = false;
                } else if told_everything(&status.borrow_and_update()) {
                    sweeping = false;
                    order(Order::Sweep);
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
