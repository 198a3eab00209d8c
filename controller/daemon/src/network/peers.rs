//! What a node's speaker is told: sessions with other nodes and with routers, and what is announced.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Secret;
use margay_api::v1::bgp::PasswordSource;
use margay_api::v1::bgppeer::{
    self, BgpPeerSpec, Export, LimitAction, NextHopMode, PrefixLimit, PrivateAs, SourceAddress,
};
use margay_policy::model::{LabelSelector, Labels, Node, NodeName};
use margay_sync::message::Family;
use margay_sync::message::bgp::{self, Bgp, BgpPeer, Details, Distance, Password};

use super::topology::{self, Pairs, Role};
use super::{Inputs, config, filters, selector, selects};

/// How many paths to a prefix nodes tell each other: a reflector must not hide the other ways.
const PATHS: u8 = 8;
/// The kernel's limit for a password, in octets.
const LONGEST_PASSWORD: usize = 80;

/// Passwords by Secret and key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, BTreeMap<String, String>>);

impl fmt::Debug for Secrets {
    /// Names alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Secrets {
    /// Takes what of a Secret can be passwords; whether that is news.
    pub fn put(&mut self, name: String, secret: &Secret) -> bool {
        let data = secret.data.iter().flatten();
        let texts = data.filter_map(|(key, octets)| {
            let text = std::str::from_utf8(&octets.0).ok()?;
            let text = text.trim_end_matches(['\r', '\n']);
            let fits = (1..=LONGEST_PASSWORD).contains(&text.len());
            fits.then(|| (key.clone(), text.to_owned()))
        });
        let texts: BTreeMap<_, _> = texts.collect();
        self.0.insert(name, texts.clone()) != Some(texts)
    }

    /// Forgets a Secret; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    fn password(&self, source: &PasswordSource) -> Password {
        if let Some(file) = &source.file {
            return Password::File(file.clone());
        }
        let Some(wanted) = &source.secret_key_ref else {
            return Password::Missing("it is not said where the password is".to_owned());
        };
        let (name, key) = (&wanted.name, &wanted.key);
        match self.0.get(name).map(|secret| secret.get(key)) {
            Some(Some(text)) => Password::Text(text.clone()),
            Some(None) => Password::Missing(format!(
                "the Secret {name} has no key `{key}` with 1 to {LONGEST_PASSWORD} octets of text"
            )),
            None => Password::Missing(format!(
                "there is no Secret {name} in Margay's own namespace"
            )),
        }
    }
}

/// What is the same for all nodes, worked out once.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    pairs: Pairs<'a>,
    /// Oldest first, so that a new object takes nothing away from one that works.
    objects: Vec<Object<'a>>,
    services: BTreeSet<IpNet>,
}

/// A `BGPPeer` with its selectors.
#[derive(Debug)]
struct Object<'a> {
    name: &'a str,
    spec: &'a BgpPeerSpec,
    nodes: Option<LabelSelector>,
    peers: Option<LabelSelector>,
}

impl Object<'_> {
    fn selects(&self, labels: &Labels) -> bool {
        selects(self.nodes.as_ref(), labels)
    }

    fn has_the_name_of_a_node(&self, inputs: &Inputs) -> bool {
        let node = self.name.strip_prefix("node-");
        node.is_some_and(|node| inputs.nodes.contains_key(&NodeName(node.to_owned())))
    }

    fn is_peer(&self, labels: &Labels) -> bool {
        self.peers.is_some() && selects(self.peers.as_ref(), labels)
    }
}

impl<'a> Plan<'a> {
    /// For these objects.
    pub fn of(inputs: &'a Inputs) -> Self {
        let mut objects: Vec<_> = inputs.peers.iter().collect();
        objects.sort_by_key(|(name, object)| {
            let born = object.metadata.creation_timestamp.as_ref();
            (born.map(|time| time.0), *name)
        });
        let objects = objects.into_iter().map(|(name, object)| Object {
            name,
            spec: &object.spec,
            nodes: object.spec.node_selector.as_ref().map(selector),
            peers: object.spec.peer_selector.as_ref().map(selector),
        });
        Self {
            pairs: Pairs::of(inputs),
            objects: objects.collect(),
            services: config::service_ranges(inputs),
        }
    }
}

/// The speaker's settings of a node.
pub(super) fn bgp(inputs: &Inputs, plan: &Plan<'_>, name: &NodeName, node: &Node) -> Bgp {
    let config = &inputs.config.bgp;
    let aggregates = config.aggregates.iter().map(|aggregate| {
        let (standard, large) = filters::split(&aggregate.communities);
        let suppress = aggregate.suppress;
        (
            aggregate.cidr,
            bgp::Aggregate {
                suppress,
                standard,
                large,
            },
        )
    });
    let communities = config.announcements.iter().map(|announcement| {
        let (standard, large) = filters::split(&announcement.communities);
        bgp::Communities {
            within: announcement.cidr,
            standard,
            large,
        }
    });
    Bgp {
        asn: config.asn,
        port: config.port,
        cluster_id: topology::cluster_id(&node.labels).unwrap_or_default(),
        topology: plan.pairs.to_string(),
        peers: peers(inputs, plan, name, node),
        communities: communities.collect(),
        aggregates: aggregates.collect(),
        services: plan.services.clone(),
    }
}

/// The peers of a node.
fn peers(
    inputs: &Inputs,
    plan: &Plan<'_>,
    name: &NodeName,
    node: &Node,
) -> BTreeMap<String, BgpPeer> {
    let mut peers = BTreeMap::new();
    for (other, (role, object)) in others(inputs, plan, name, node) {
        let Some(there) = inputs.nodes.get(other) else {
            continue;
        };
        if let Some(address) = topology::meet((name, node), (other, there)) {
            let mut peer = match object {
                Some(object) => described(inputs, object, address),
                None => usual(inputs, address),
            };
            between_nodes(&mut peer, other, role, inputs);
            // If both only waited, nobody would dial.
            peer.details.passive &= object.is_some_and(|object| !object.selects(&there.labels));
            peers.insert(format!("node-{other}"), peer);
        }
    }
    for (object, address) in routers(inputs, plan, name, node, &mut |_, _| {}) {
        // It takes the place of a session between nodes.
        peers.retain(|_, other| other.address != address || address.is_unspecified());
        peers.insert(object.name.to_owned(), described(inputs, object, address));
    }
    peers
}

/// The objects with an address that a node speaks with; `problem` is told which are in each other's way.
fn routers<'p>(
    inputs: &Inputs,
    plan: &'p Plan<'_>,
    name: &NodeName,
    node: &Node,
    problem: &mut impl FnMut(&str, String),
) -> Vec<(&'p Object<'p>, IpAddr)> {
    let mut routers: Vec<(&Object<'_>, IpAddr)> = Vec::new();
    for object in &plan.objects {
        let address = match (object.spec.peer_address, &object.spec.interface) {
            (Some(address), _) => address,
            // Whoever is the router there.
            (None, Some(_)) if object.peers.is_none() => Ipv6Addr::UNSPECIFIED.into(),
            (None, _) => continue,
        };
        if node.addresses.contains(&address) || !object.selects(&node.labels) {
            continue;
        }
        let at_one_place = |other: &Object<'_>| {
            !address.is_unspecified() || other.spec.interface == object.spec.interface
        };
        let mut older = routers
            .iter()
            .filter(|(older, other)| *other == address && at_one_place(older));
        if let Some((older, _)) = older.next() {
            problem(
                object.name,
                format!(
                    "spec.peerAddress: on node {name}, {address} is the peer of BGPPeer {} already, which stays: a node has one session with an address; change nodeSelector of one, or delete it",
                    older.name
                ),
            );
        } else if object.has_the_name_of_a_node(inputs) {
            problem(
                object.name,
                "metadata.name: sessions between nodes have such names: give the object another one"
                    .to_owned(),
            );
        } else {
            routers.push((object, address));
        }
    }
    routers
}

/// The nodes that a node speaks with, what they are to it, and the object that says more of it.
fn others<'a, 'p>(
    inputs: &'a Inputs,
    plan: &'p Plan<'a>,
    name: &NodeName,
    node: &Node,
) -> BTreeMap<&'a NodeName, (Role, Option<&'p Object<'a>>)> {
    let wanted = plan.pairs.others(inputs, name).into_iter();
    let mut others: BTreeMap<_, _> = wanted.map(|(other, role)| (other, (role, None))).collect();
    for object in plan.objects.iter().filter(|object| object.peers.is_some()) {
        let (selected, is_peer) = (object.selects(&node.labels), object.is_peer(&node.labels));
        for (other, there) in &inputs.nodes {
            let meant = (selected && object.is_peer(&there.labels))
                || (is_peer && object.selects(&there.labels));
            if other == name || !meant {
                continue;
            }
            let role = topology::role(&node.labels, &there.labels);
            let entry = others.entry(other).or_insert((role, None));
            entry.1.get_or_insert(object);
        }
    }
    others
}

/// A peer as `NetworkConfig` has all of them.
fn usual(inputs: &Inputs, address: IpAddr) -> BgpPeer {
    let config = &inputs.config.bgp;
    let mut peer = BgpPeer {
        hold_time: config.hold_time,
        ..BgpPeer::new(address, config.asn)
    };
    peer.details.restart.time = config.restart_time;
    peer
}

/// What sessions between nodes have in common.
fn between_nodes(peer: &mut BgpPeer, other: &NodeName, role: Role, inputs: &Inputs) {
    let config = &inputs.config.bgp;
    peer.port = config.port;
    peer.asn = config.asn;
    peer.node = Some(other.clone());
    let details = &mut peer.details;
    // In any topology, so that a switch needs no new session.
    details.add_path = bgp::AddPath {
        receive: true,
        send: PATHS,
    };
    details.reflector_client = role == Role::Client;
    if role != Role::Ordinary && details.export == bgp::Export::Own {
        details.export = bgp::Export::Internal;
    }
    if details.password.is_none() {
        let source = config.password.as_ref();
        details.password = source.map(|source| inputs.secrets.password(source));
    }
    details.bfd = details.bfd.or(config.bfd.map(bfd));
}

fn bfd(bfd: margay_api::v1::bgp::Bfd) -> bgp::Bfd {
    bgp::Bfd {
        interval: bfd.interval_milliseconds,
        multiplier: bfd.multiplier,
    }
}

/// A peer as an object describes it.
fn described(inputs: &Inputs, object: &Object<'_>, address: IpAddr) -> BgpPeer {
    let usual = usual(inputs, address);
    let BgpPeerSpec {
        node_selector: _,
        peer_address: _,
        peer_selector: _,
        peer_asn,
        port,
        interface,
        source_address,
        password,
        hold_time,
        passive,
        families,
        export,
        next_hop_mode,
        filters: names,
        reflector_client,
        multihop,
        ttl_security,
        bfd: watched,
        local_as,
        allow_own_as,
        as_override,
        private_as,
        add_path,
        graceful_restart,
        prefix_limits,
        shutdown,
        graceful_shutdown,
    } = object.spec.clone();
    let asn = peer_asn.unwrap_or(usual.asn);
    let (import, export_rules) = filters::rules(&inputs.filters, &names);
    let restart = graceful_restart.unwrap_or_default();
    let limits = prefix_limits.unwrap_or_default();
    let details = Details {
        source: match source_address {
            SourceAddress::UseNodeIp => bgp::Source::Node,
            SourceAddress::None => bgp::Source::Any,
        },
        interface,
        password: password.map(|source| inputs.secrets.password(&source)),
        passive,
        families: families.into_iter().map(filters::family).collect(),
        export: match export {
            Export::Own => bgp::Export::Own,
            Export::All => bgp::Export::All,
        },
        next_hop: match next_hop_mode {
            NextHopMode::Auto => bgp::NextHop::Auto,
            NextHopMode::Own => bgp::NextHop::Own,
            NextHopMode::Keep => bgp::NextHop::Keep,
        },
        // Reflection is a matter of one AS.
        reflector_client: reflector_client && asn == usual.asn,
        distance: match (multihop, ttl_security) {
            (_, Some(hops)) => Distance::Security(hops),
            (Some(hops), None) => Distance::Hops(hops),
            (None, None) => Distance::Any,
        },
        bfd: watched.map(bfd),
        local_as: local_as
            .map(|bgppeer::LocalAs { asn, hide_real }| bgp::LocalAs { asn, hide_real }),
        allow_own_as,
        as_override,
        private_as: match private_as {
            PrivateAs::Keep => bgp::PrivateAs::Keep,
            PrivateAs::Remove => bgp::PrivateAs::Remove,
            PrivateAs::Replace => bgp::PrivateAs::Replace,
        },
        add_path: add_path
            .map(|bgppeer::AddPath { receive, send }| bgp::AddPath { receive, send })
            .unwrap_or_default(),
        restart: bgp::Restart {
            enabled: restart.enabled,
            time: restart.time_seconds.unwrap_or(usual.details.restart.time),
            notification: restart.notification,
            long_lived: restart.long_lived_seconds,
        },
        limits: [(Family::V4, limits.v4), (Family::V6, limits.v6)]
            .into_iter()
            .filter_map(|(family, found)| Some((family, limit(found?))))
            .collect(),
        import,
        export_rules,
        shutdown,
        graceful_shutdown,
    };
    BgpPeer {
        address,
        port: port.unwrap_or(usual.port),
        asn,
        hold_time: hold_time.unwrap_or(usual.hold_time),
        node: None,
        details,
    }
}

fn limit(limit: PrefixLimit) -> bgp::Limit {
    let PrefixLimit {
        max,
        warn_percent,
        action,
        restart_after_seconds,
    } = limit;
    bgp::Limit {
        max,
        warn_percent,
        action: match action {
            LimitAction::Warn => bgp::LimitAction::Warn,
            LimitAction::Block => bgp::LimitAction::Block,
            LimitAction::TearDown => bgp::LimitAction::TearDown(restart_after_seconds),
        },
    }
}

/// What is wrong with BGP's objects, by kind and name.
pub(super) fn problems(inputs: &Inputs) -> BTreeSet<(&'static str, String, String)> {
    let plan = Plan::of(inputs);
    let mut problems = BTreeSet::new();
    let mut tell = |kind, name: &str, note: String| {
        problems.insert((kind, name.to_owned(), note));
    };
    for object in &plan.objects {
        object_problems(inputs, object, &mut |note| {
            tell("BGPPeer", object.name, note);
        });
    }
    if let Some(password) = &inputs.config.bgp.password
        && let Password::Missing(why) = inputs.secrets.password(password)
    {
        tell(
            "NetworkConfig",
            "default",
            format!(
                "spec.bgp.password: {why}: sessions between nodes that run go on, others do not begin"
            ),
        );
    }
    for (name, node) in &inputs.nodes {
        if let Err(text) = topology::cluster_id(&node.labels) {
            tell(
                "Node",
                &name.0,
                format!(
                    "label {}: `{text}` is no cluster id: write one as in 10.0.0.1, or `true`; the node's own identifier is used",
                    topology::REFLECTOR
                ),
            );
        }
        let mut contradicts = |object: &str, note| tell("BGPPeer", object, note);
        routers(inputs, &plan, name, node, &mut contradicts);
    }
    problems
}

fn object_problems(inputs: &Inputs, object: &Object<'_>, tell: &mut impl FnMut(String)) {
    for name in &object.spec.filters {
        if !inputs.filters.contains_key(name) {
            tell(format!(
                "spec.filters: there is no BGPFilter `{name}`: until there is, no route passes in either direction"
            ));
        }
    }
    if let Some(password) = &object.spec.password
        && let Password::Missing(why) = inputs.secrets.password(password)
    {
        tell(format!(
            "spec.password: {why}: a session that runs goes on, others do not begin"
        ));
    }
    let nodes = &inputs.nodes;
    if !nodes.is_empty() && !nodes.values().any(|node| object.selects(&node.labels)) {
        tell("spec.nodeSelector selects no node, so nobody speaks with this peer: compare it with `kubectl get nodes --show-labels`".to_owned());
    }
    if object.peers.is_some()
        && !nodes.is_empty()
        && !nodes.values().any(|node| object.is_peer(&node.labels))
    {
        tell("spec.peerSelector selects no node, so there is nobody to speak with: compare it with `kubectl get nodes --show-labels`".to_owned());
    }
    let other_as = object
        .spec
        .peer_asn
        .is_some_and(|asn| asn != inputs.config.bgp.asn);
    if object.spec.reflector_client && other_as {
        tell("spec.reflectorClient means nothing to a peer of another AS (RFC 4456)".to_owned());
    }
    if object.peers.is_some() && other_as {
        tell("spec.peerASN: the peers are nodes, which have the AS number of NetworkConfig: leave it out".to_owned());
    }
}
