//! Speakers on one virtual clock, joined by wires that delay, stall and break.

use super::*;
use crate::rib::Reach;

/// A neighbour.
const NEAR: Reach = Reach::Via {
    metric: 0,
    gateways: BTreeSet::new(),
};

/// A network of speakers. Node `i` is called `ni` and has the addresses 192.0.2.i+1 and `2001:db8::i+1`.
pub(super) struct Net {
    now: Instant,
    nodes: Vec<Node>,
    /// When which speaker wants to be called.
    due: BTreeSet<(Instant, usize)>,
    /// What will be delivered, in order.
    queue: BTreeMap<(Instant, u64), (usize, Delivery)>,
    sequence: u64,
    ends: BTreeMap<(usize, ConnectionId), End>,
    cuts: BTreeSet<(usize, usize)>,
    random: Jitter,
    accepted: u64,
    /// The family of the nodes' addresses.
    family: Family,
}

struct Node {
    address: IpAddr,
    settings: Settings,
    speaker: Speaker,
    /// When the speaker wants to be called.
    due: Option<Instant>,
    routes: BTreeMap<IpNet, BTreeSet<IpAddr>>,
    /// Who told the best path.
    best: BTreeMap<IpNet, Option<PeerName>>,
    resets: usize,
    /// UPDATEs sent.
    updates: usize,
    /// What was said of bad UPDATEs.
    complaints: Vec<String>,
    /// The messages that this was about, and those that ended sessions.
    bad: Vec<Vec<u8>>,
    changes: usize,
    /// How often a route was taken away.
    losses: usize,
    /// How next hops are reached, where that is asked for.
    ways: BTreeMap<IpAddr, Reach>,
    /// What is asked for.
    tracked: BTreeSet<IpAddr>,
    /// Why established sessions ended, or what came after.
    reasons: Vec<String>,
}

/// One end of a connection: where what it sends goes.
struct End {
    to: (usize, ConnectionId),
    /// When the last thing sent arrives: nothing overtakes it.
    last: Instant,
    /// What a cut holds up.
    stalled: Vec<Delivery>,
}

#[derive(Clone, Debug)]
enum Delivery {
    Accepted(ConnectionId, usize),
    Connected(ConnectionId),
    Octets(ConnectionId, Arc<[u8]>),
    Closed(ConnectionId, Failure),
    Sent(ConnectionId, usize),
}

/// The IPv4 address of a node, which is its identifier too.
pub(super) fn four(node: usize) -> std::net::Ipv4Addr {
    let node = u32::try_from(node + 1).unwrap();
    std::net::Ipv4Addr::from_bits(0xc000_0200 + node)
}

impl Net {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: epoch(),
            nodes: Vec::new(),
            due: BTreeSet::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            ends: BTreeMap::new(),
            cuts: BTreeSet::new(),
            random: Jitter::new(seed),
            accepted: 0,
            family: Family::Ipv4,
        }
    }

    /// Nodes with IPv6 addresses alone, and no next hop of the other family.
    pub(super) fn six(seed: u64) -> Self {
        Self {
            family: Family::Ipv6,
            ..Self::new(seed)
        }
    }

    pub(super) fn address_of(&self, node: usize) -> IpAddr {
        match self.family {
            Family::Ipv4 => four(node).into(),
            Family::Ipv6 => address(&format!("2001:db8::{:x}", node + 1)),
        }
    }

    /// `count` nodes of AS 64512, each a peer of each; all start at once.
    pub(super) fn mesh(count: usize, seed: u64) -> Self {
        let mut net = Self::new(seed);
        for node in 0..count {
            net.add_mesh_node(node);
        }
        for node in 0..count {
            for other in 0..node {
                net.peer(node, other);
            }
        }
        net
    }

    /// A node with a block of each family.
    pub(super) fn add_mesh_node(&mut self, node: usize) {
        let blocks = [
            format!("10.{}.{}.0/26", node % 256, node / 256),
            format!("fd00:{node}::/122"),
        ];
        let blocks: Vec<_> = blocks.iter().map(String::as_str).collect();
        assert_eq!(self.add(64512, &blocks), node);
    }

    /// A router with 203.0.`node`.0/24.
    pub(super) fn add_router(&mut self, asn: u32) -> usize {
        let prefix = format!("203.0.{}.0/24", self.nodes.len());
        self.add(asn, &[&prefix])
    }

    fn add(&mut self, asn: u32, announce: &[&str]) -> usize {
        let node = self.nodes.len();
        let id = four(node);
        let settings = Settings {
            next_hops: NextHops {
                v4: None,
                v6: (self.family == Family::Ipv4)
                    .then(|| format!("2001:db8::{:x}", node + 1).parse().unwrap()),
            },
            announce: prefixes(announce),
            ..Settings::new(Asn(asn), BgpId(id))
        };
        self.nodes.push(Node {
            address: self.address_of(node),
            speaker: Speaker::new(settings.clone(), self.random.next(), self.now),
            settings,
            routes: BTreeMap::new(),
            best: BTreeMap::new(),
            due: None,
            resets: 0,
            updates: 0,
            complaints: Vec::new(),
            bad: Vec::new(),
            changes: 0,
            losses: 0,
            ways: BTreeMap::new(),
            tracked: BTreeSet::new(),
            reasons: Vec::new(),
        });
        self.act(node);
        node
    }

    /// Makes each of the first `count` nodes a peer of each, all at once.
    pub(super) fn mesh_all(&mut self, count: usize) {
        for node in 0..count {
            let others = (0..count).filter(|other| *other != node);
            let peers: Vec<_> = others
                .map(|other| {
                    let peer = PeerSettings::new(self.address_of(other), Asn(64512));
                    (PeerName::from(format!("n{other}")), peer)
                })
                .collect();
            self.change(node, |settings| settings.peers.extend(peers));
        }
    }

    /// Makes two nodes peers, with a hold time of 9 s.
    pub(super) fn peer(&mut self, one: usize, other: usize) {
        for (node, peer) in [(one, other), (other, one)] {
            let asn = self.nodes[peer].settings.asn;
            let mut settings = PeerSettings::new(self.address_of(peer), asn);
            settings.hold_time = HoldTime::from_secs(9);
            self.change(node, |own| {
                own.peers.insert(format!("n{peer}").into(), settings);
            });
        }
    }

    /// Changes what a node is told of a peer.
    pub(super) fn set(&mut self, node: usize, peer: usize, set: impl FnOnce(&mut PeerSettings)) {
        self.change(node, |settings| {
            let name: PeerName = format!("n{peer}").into();
            set(settings.peers.get_mut(&name).unwrap());
        });
    }

    /// Has a node pass on whatever it knows.
    pub(super) fn transit(&mut self, node: usize) {
        self.change(node, |settings| {
            for peer in settings.peers.values_mut() {
                peer.export = Export::All;
            }
        });
    }

    /// Changes a node's settings.
    pub(super) fn change(&mut self, node: usize, change: impl FnOnce(&mut Settings)) {
        change(&mut self.nodes[node].settings);
        let settings = self.nodes[node].settings.clone();
        self.event(node, Event::Settings(settings));
    }

    pub(super) fn announce(&mut self, node: usize, list: &[&str]) {
        self.nodes[node].settings.announce = prefixes(list);
        self.event(node, Event::Announce(prefixes(list)));
    }

    /// Kills a node's process and starts it anew, with nothing remembered.
    pub(super) fn restart(&mut self, node: usize) {
        self.kill(node);
        self.start(node);
    }

    /// The node's process is started, with other prefixes.
    pub(super) fn start_announcing(&mut self, node: usize, list: &[&str]) {
        self.nodes[node].settings.announce = prefixes(list);
        self.start(node);
    }

    pub(super) fn start(&mut self, node: usize) {
        let settings = self.nodes[node].settings.clone();
        self.nodes[node].speaker = Speaker::new(settings, self.random.next(), self.now);
        self.act(node);
    }

    /// Kills a node's process: its kernel closes the connections, and refuses others.
    pub(super) fn kill(&mut self, node: usize) {
        let ids: Vec<_> = self
            .ends
            .keys()
            .filter(|(of, _)| *of == node)
            .copied()
            .collect();
        for end in ids {
            self.finish(end, Failure::Reset);
        }
        self.bury(node);
    }

    /// A node's host fails: nobody hears of it, and what they send goes nowhere.
    pub(super) fn vanish(&mut self, node: usize) {
        self.ends
            .retain(|(of, _), end| *of != node && end.to.0 != node);
        self.bury(node);
    }

    fn bury(&mut self, node: usize) {
        let settings = Settings {
            peers: BTreeMap::new(),
            ..self.nodes[node].settings.clone()
        };
        self.nodes[node].routes.clear();
        self.nodes[node].best.clear();
        self.nodes[node].speaker = Speaker::new(settings, self.random.next(), self.now);
        self.act(node);
    }

    pub(super) fn shut_down(&mut self, node: usize) {
        self.nodes[node].speaker.shut_down(self.now);
        self.act(node);
    }

    pub(super) fn cut(&mut self, one: usize, other: usize) {
        self.cuts.insert((one.min(other), one.max(other)));
    }

    /// Joins a cut link again: what was held up arrives.
    pub(super) fn join(&mut self, one: usize, other: usize) {
        self.cuts.remove(&(one.min(other), one.max(other)));
        let stalled: Vec<_> = self
            .ends
            .iter_mut()
            .filter(|((from, _), end)| {
                (*from, end.to.0) == (one, other) || (*from, end.to.0) == (other, one)
            })
            .map(|(end, state)| (*end, std::mem::take(&mut state.stalled)))
            .collect();
        for (end, deliveries) in stalled {
            for delivery in deliveries {
                self.send(end, delivery);
            }
        }
    }

    /// Whether nothing is on its way between two nodes.
    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.cuts.contains(&(one.min(other), one.max(other)))
    }

    /// All clocks go on and nobody acts: a machine that was asleep.
    pub(super) fn sleep(&mut self, time: Duration) {
        self.now += time;
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.next_time().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            while let Some(((due, _), (node, delivery))) = self.pop_due() {
                assert!(due <= self.now);
                self.deliver(node, delivery);
            }
            let mut turns = 0;
            while let Some((due, node)) = self.due.first().copied()
                && due <= self.now
            {
                turns += 1;
                assert!(turns < 10 * self.nodes.len(), "a timer that does not move");
                self.nodes[node].speaker.handle_timeout(self.now);
                self.act(node);
            }
        }
        self.now = end;
    }

    fn next_time(&self) -> Option<Instant> {
        let timer = self.due.first().map(|(due, _)| *due);
        let delivery = self.queue.keys().next().map(|(at, _)| *at);
        let next = timer.into_iter().chain(delivery).min();
        next.map(|at| at.max(self.now))
    }

    fn pop_due(&mut self) -> Option<((Instant, u64), (usize, Delivery))> {
        let first = self.queue.first_entry()?;
        (first.key().0 <= self.now).then(|| first.remove_entry())
    }

    fn deliver(&mut self, node: usize, delivery: Delivery) {
        match delivery {
            Delivery::Accepted(connection, from) => {
                let event = Event::Accepted {
                    connection,
                    local: self.nodes[node].address,
                    remote: self.address_of(from),
                };
                self.event(node, event);
            }
            Delivery::Connected(connection) => {
                let local = self.nodes[node].address;
                self.event(node, Event::Connected { connection, local });
            }
            Delivery::Octets(connection, octets) => {
                // In pieces, as TCP may deliver them.
                let pieces = 1 + usize::try_from(self.random.next() % 3).unwrap();
                for octets in octets.chunks(octets.len().div_ceil(pieces)) {
                    self.event(node, Event::Received { connection, octets });
                }
            }
            Delivery::Closed(connection, why) => {
                self.event(node, Event::Closed { connection, why });
            }
            Delivery::Sent(connection, octets) => {
                self.event(node, Event::Sent { connection, octets });
            }
        }
    }

    fn event(&mut self, node: usize, event: Event<'_>) {
        self.nodes[node].speaker.handle_event(event, self.now);
        self.act(node);
    }

    fn act(&mut self, node: usize) {
        while let Some(action) = self.nodes[node].speaker.poll_action() {
            match action {
                Action::Connect { connection, to, .. } => self.dial(node, connection, to.ip()),
                Action::Send { connection, octets } => {
                    let end = (node, connection);
                    self.nodes[node].updates += count_updates(&octets);
                    let Some(to) = self.ends.get(&end).map(|end| end.to) else {
                        continue;
                    };
                    self.send(end, Delivery::Octets(to.1, octets));
                }
                Action::Close { connection } => self.finish((node, connection), Failure::Closed),
                Action::Route(change) => {
                    self.nodes[node].changes += 1;
                    let Node {
                        routes,
                        best,
                        losses,
                        ..
                    } = &mut self.nodes[node];
                    let before = best.insert(change.prefix, change.peer.clone());
                    assert_ne!(
                        (
                            routes.get(&change.prefix).cloned().unwrap_or_default(),
                            before.unwrap_or_default()
                        ),
                        (change.next_hops.clone(), change.peer),
                        "a change that changes nothing"
                    );
                    if change.next_hops.is_empty() {
                        routes.remove(&change.prefix);
                        *losses += 1;
                    } else {
                        routes.insert(change.prefix, change.next_hops);
                    }
                }
                Action::StateChanged { from, reason, .. } => {
                    let established = from == State::Established;
                    self.nodes[node].resets += usize::from(established);
                    let reasons = &mut self.nodes[node].reasons;
                    reasons.extend(reason.filter(|_| established));
                }
                Action::TrackNextHop(address) => {
                    let ways = &mut self.nodes[node].ways;
                    let way = ways.entry(address).or_insert(NEAR).clone();
                    let reach = BTreeMap::from([(address, way)]);
                    let now = self.now;
                    self.nodes[node].tracked.insert(address);
                    self.nodes[node]
                        .speaker
                        .handle_event(Event::NextHops(reach), now);
                }
                Action::ForgetNextHop(address) => {
                    assert!(self.nodes[node].tracked.remove(&address), "not tracked");
                }
                Action::BadUpdate { error, octets, .. } => {
                    self.nodes[node].complaints.push(error);
                    self.nodes[node].bad.push(octets);
                }
                Action::BadMessage { octets, .. } => self.nodes[node].bad.push(octets),
                Action::Stranger { .. } => {}
            }
        }
        let due = self.nodes[node].speaker.poll_timeout();
        let before = std::mem::replace(&mut self.nodes[node].due, due);
        if before != due {
            if let Some(before) = before {
                self.due.remove(&(before, node));
            }
            self.due.extend(due.map(|due| (due, node)));
        }
    }

    fn dial(&mut self, node: usize, connection: ConnectionId, to: IpAddr) {
        let Some(other) = self.nodes.iter().position(|other| other.address == to) else {
            let delivery = Delivery::Closed(connection, Failure::Unreachable);
            self.later(node, self.now, delivery);
            return;
        };
        if self.is_cut(node, other) {
            return;
        }
        let accepted = ConnectionId::Accepted(self.accepted);
        self.accepted += 1;
        let (from, to) = ((node, connection), (other, accepted));
        for (end, to) in [(from, to), (to, from)] {
            let end_state = End {
                to,
                last: self.now,
                stalled: Vec::new(),
            };
            self.ends.insert(end, end_state);
        }
        self.send(from, Delivery::Accepted(accepted, node));
        self.send(to, Delivery::Connected(connection));
    }

    /// Sends over a connection; a cut link holds it up.
    fn send(&mut self, end: (usize, ConnectionId), delivery: Delivery) {
        let delay = Duration::from_micros(100 + self.random.next() % 3000);
        let Some(to) = self.ends.get(&end).map(|end| end.to) else {
            return;
        };
        let cut = self.is_cut(end.0, to.0);
        let state = self.ends.get_mut(&end).unwrap();
        if cut {
            state.stalled.push(delivery);
            return;
        }
        state.last = (self.now + delay).max(state.last);
        let at = state.last;
        if let Delivery::Octets(_, octets) = &delivery {
            let sent = Delivery::Sent(end.1, octets.len());
            self.later(end.0, self.now, sent);
        }
        self.later(to.0, at, delivery);
    }

    fn finish(&mut self, end: (usize, ConnectionId), why: Failure) {
        let Some(to) = self.ends.get(&end).map(|end| end.to) else {
            return;
        };
        self.send(end, Delivery::Closed(to.1, why));
        if !self.is_cut(end.0, to.0) {
            self.ends.remove(&end);
        }
    }

    fn later(&mut self, node: usize, at: Instant, delivery: Delivery) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (node, delivery));
    }

    /// Has a node ask its one peer for all routes of a family.
    pub(super) fn ask_again(&mut self, node: usize, family: Family) {
        let message = crate::wire::encode_route_refresh(family);
        self.inject(node, MessageType::RouteRefresh, &message[19..]);
    }

    /// Has a node send its one peer a message that its speaker would not.
    pub(super) fn inject(&mut self, node: usize, kind: MessageType, body: &[u8]) {
        let mut peers = self.nodes[node].speaker.peers.values();
        let connection = peers
            .find_map(|peer| Some(peer.session.established()?.0))
            .unwrap();
        let octets = crate::wire::frame(kind, |message| message.extend_from_slice(body));
        let to = self.ends[&(node, connection)].to;
        let at = self.now;
        self.later(to.0, at, Delivery::Octets(to.1, octets.into()));
    }

    /// The way of a node to a next hop becomes this one.
    pub(super) fn set_way(&mut self, node: usize, next_hop: &str, reach: Reach) {
        let next_hop = address(next_hop);
        self.nodes[node].ways.insert(next_hop, reach.clone());
        if self.nodes[node].tracked.contains(&next_hop) {
            self.event(node, Event::NextHops([(next_hop, reach)].into()));
        }
    }

    /// The next hops whose ways a node asks for.
    pub(super) fn tracked(&self, node: usize) -> &BTreeSet<IpAddr> {
        &self.nodes[node].tracked
    }

    /// A node's BFD loses a peer that it has seen up until so long ago.
    pub(super) fn bfd_down(&mut self, node: usize, peer: &str, ago: Duration) {
        let seen_up = self.now.checked_sub(ago).unwrap();
        let peer = &peer.into();
        self.event(node, Event::BfdDown { peer, seen_up });
    }

    /// How many UPDATEs a node has sent.
    pub(super) fn updates(&self, node: usize) -> usize {
        self.nodes[node].updates
    }

    /// Messages of others that a node had something to say of.
    pub(super) fn bad(&self, node: usize) -> &[Vec<u8>] {
        &self.nodes[node].bad
    }

    /// What a node's log has of bad UPDATEs.
    pub(super) fn complaints(&self, node: usize) -> &[String] {
        &self.nodes[node].complaints
    }

    pub(super) fn routes(&self, node: usize) -> &BTreeMap<IpNet, BTreeSet<IpAddr>> {
        &self.nodes[node].routes
    }

    pub(super) fn speaker(&self, node: usize) -> &Speaker {
        &self.nodes[node].speaker
    }

    /// The best path that a node has.
    pub(super) fn best(&self, node: usize, prefix: &str) -> Option<PathView> {
        let destination = self.speaker(node).destination(&prefix.parse().unwrap())?;
        destination.paths.into_iter().next()
    }

    pub(super) fn state(&self, node: usize, peer: &str) -> State {
        self.status(node)[peer].state
    }

    pub(super) fn status(&self, node: usize) -> BTreeMap<PeerName, PeerStatus> {
        self.nodes[node].speaker.status()
    }

    /// Why the node's last established session that ended did so.
    pub(super) fn last_end(&self, node: usize) -> &str {
        self.nodes[node].reasons.last().map_or("", String::as_str)
    }

    /// How often an established session of the node ended.
    pub(super) fn resets(&self, node: usize) -> usize {
        self.nodes[node].resets
    }

    /// How often a node's owner was told that a route is gone.
    pub(super) fn losses(&self, node: usize) -> usize {
        self.nodes[node].losses
    }

    /// How often the node's routes changed.
    pub(super) fn changes(&self, node: usize) -> usize {
        self.nodes[node].changes
    }

    /// What every node's routes must be when everything is quiet: each other node's prefixes by that node,
    /// if the link between them is whole.
    pub(super) fn expected_in_mesh(&self, node: usize) -> BTreeMap<IpNet, BTreeSet<IpAddr>> {
        let mut routes: BTreeMap<IpNet, BTreeSet<IpAddr>> = BTreeMap::new();
        let own = &self.nodes[node].settings.announce;
        for (other, state) in self.nodes.iter().enumerate() {
            if other == node || self.is_cut(node, other) {
                continue;
            }
            for prefix in state.settings.announce.difference(own) {
                let next_hop = match prefix {
                    IpNet::V4(_) => Some(state.address),
                    IpNet::V6(_) => state.settings.next_hops.v6.map(IpAddr::V6),
                };
                routes.entry(*prefix).or_default().extend(next_hop);
            }
        }
        routes
    }

    pub(super) fn random(&mut self, below: usize) -> usize {
        usize::try_from(self.random.next() % u64::try_from(below).unwrap()).unwrap()
    }
}

/// How many of the messages in a row are UPDATEs.
fn count_updates(mut octets: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(Some(frame)) = crate::wire::take_frame_of(&mut octets, 65535) {
        count += usize::from(frame.kind == MessageType::Update);
    }
    count
}

/// Some moment; the tests' clocks start there.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise; it is never read again"
)]
pub(super) fn epoch() -> Instant {
    Instant::now()
}
