//! The thread that owns the node's side of the network: pods' host ends, and all our routes.
//!
//! Others order; it acts, watches what the kernel tells, and puts right what somebody else changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use margay_bgpd::RouteChange;
use margay_dataplane::ruleset::LINK_PREFIX;
use margay_netlink::{Batch, Connection, Event, LinkRef, Mac, Monitor};
use margay_sync::status::RouteStatus;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock;
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::routes::{PROTOCOL, Table};

/// How long to gather changes before looking at everything, if that is quick: a few times what it took last.
const GATHER: Duration = Duration::from_millis(3);
/// How long at most: what is ours is right again within a second.
const LONGEST_GATHER: Duration = Duration::from_millis(400);
/// How long until a route that the kernel refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A pod's link on the node.
#[derive(Clone, Debug)]
pub(crate) struct PodLink {
    /// Its name.
    pub(crate) name: String,
    /// Its index.
    pub(crate) index: u32,
    /// Hardware address of the pod's end.
    pub(crate) pod_mac: Mac,
    /// The pod's addresses.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Set up a pod's link, take it up, route the pod's addresses to it, and keep it so.
    Attach(PodLink, mpsc::Sender<Result<(), margay_netlink::Error>>),
    /// Attach a note to a link.
    Note(String, String),
    /// Forget a pod's link: it will be deleted.
    Detach(String, mpsc::Sender<()>),
    /// The node's own blocks, and aggregates that it announces.
    Blocks(BTreeSet<IpNet>, BTreeSet<IpNet>),
    /// The node's own addresses: pods get the MTU of the link that has the first.
    Node(Vec<IpAddr>),
    /// BGP's routes changed.
    Learned(Vec<RouteChange>),
    /// BGP has told everything.
    Sweep,
    /// Tell the routes.
    Show(mpsc::Sender<Vec<RouteStatus>>),
    /// End.
    Stop,
}

/// What was found changed by others, and put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repair {
    /// `link` or `route`.
    pub(crate) what: &'static str,
    /// Its name.
    pub(crate) name: String,
    /// From noticing to repaired.
    pub(crate) took: Duration,
}

/// What pods get while the node's link is not known.
const USUAL_MTU: u32 = 1500;

/// The handle to the thread.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    orders: Sender<Order>,
    mtu: Arc<AtomicU32>,
}

impl Host {
    /// Starts the thread. `links` are those of before a restart, blocks and aggregates are `own` as far as known;
    /// `repaired` hears of repairs.
    pub(crate) fn start(
        links: Vec<PodLink>,
        own: (BTreeSet<IpNet>, BTreeSet<IpNet>),
        routes: prometheus_client::metrics::gauge::Gauge,
        repaired: impl Fn(Repair) + Send + 'static,
    ) -> anyhow::Result<(Self, std::thread::JoinHandle<()>)> {
        let (orders, mail) = mailbox()?;
        // Opened before the first dump, so that nothing is missed.
        let monitor = Monitor::open()?;
        let connection = Connection::open()?;
        let mtu = Arc::new(AtomicU32::new(USUAL_MTU));
        let mut owner = Owner {
            addresses: Vec::new(),
            mtu: Arc::clone(&mtu),
            own_port: connection.port()?,
            connection,
            links: BTreeMap::new(),
            table: Table::default(),
            look_at: None,
            gather: GATHER,
            noticed: None,
            retry_at: None,
            refused: BTreeMap::new(),
            gauge: routes,
            repaired: Box::new(repaired),
        };
        owner.begin(links, own)?;
        let thread = std::thread::Builder::new()
            .name("host".to_owned())
            .spawn(move || owner.run(mail, monitor))?;
        Ok((Self { orders, mtu }, thread))
    }

    /// The largest packet for pods' links.
    pub(crate) fn mtu(&self) -> u32 {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Sends an order.
    pub(crate) fn order(&self, order: Order) {
        self.orders.send(order);
    }

    /// Sends an order and waits for its answer; `None` if the thread has ended.
    pub(crate) fn ask<T>(&self, order: impl FnOnce(mpsc::Sender<T>) -> Order) -> Option<T> {
        let (answer, answered) = mpsc::channel();
        self.orders.send(order(answer));
        answered.recv().ok()
    }
}

struct Owner {
    connection: Connection,
    own_port: u32,
    links: BTreeMap<String, PodLink>,
    table: Table,
    /// When to compare everything.
    look_at: Option<Instant>,
    gather: Duration,
    /// When the first of the changes came that we will look at.
    noticed: Option<Instant>,
    retry_at: Option<Instant>,
    /// Routes that the kernel refused, and why.
    refused: BTreeMap<IpNet, String>,
    /// The node's own.
    addresses: Vec<IpAddr>,
    mtu: Arc<AtomicU32>,
    gauge: prometheus_client::metrics::gauge::Gauge,
    repaired: Box<dyn Fn(Repair) + Send>,
}

impl Owner {
    /// Takes over what is there.
    fn begin(
        &mut self,
        links: Vec<PodLink>,
        (blocks, aggregates): (BTreeSet<IpNet>, BTreeSet<IpNet>),
    ) -> anyhow::Result<()> {
        self.table.set_own(blocks, aggregates);
        for link in links {
            let mut batch = Batch::new();
            prepare(&mut batch, &link);
            if let Err(error) = self.connection.run(batch) {
                tracing::warn!(link = link.name, %error, "a pod's link cannot be restored");
            }
            self.table.add_pod(&link.name, link.index, &link.addresses);
            self.links.insert(link.name.clone(), link);
        }
        let routes = self.connection.routes(PROTOCOL)?;
        self.table.adopt(routes);
        let all = self.table.prefixes();
        self.apply(&all);
        Ok(())
    }

    fn run(mut self, mut mail: Receiver<Order>, mut monitor: Monitor) {
        loop {
            self.wait(&mail, &monitor);
            for order in mail.take() {
                if matches!(order, Order::Stop) {
                    return;
                }
                self.obey(order);
            }
            match monitor.events() {
                Ok(events) => events.into_iter().for_each(|event| self.hear(event)),
                Err(error) => {
                    tracing::warn!(%error, "changes of links and routes cannot be read");
                    self.look_soon();
                }
            }
            let now = clock::now();
            if self.retry_at.is_some_and(|at| at <= now) {
                self.retry_at = None;
                let refused = self.refused.keys().copied().collect();
                self.apply(&refused);
            }
            if self.look_at.is_some_and(|at| at <= now) {
                self.look();
            }
        }
    }

    fn wait(&self, mail: &Receiver<Order>, monitor: &Monitor) {
        let next = [self.look_at, self.retry_at].into_iter().flatten().min();
        let timeout = match next {
            None => PollTimeout::NONE,
            Some(at) => {
                // Rounded up, so as not to wake just before.
                let left = at.saturating_duration_since(clock::now()) + Duration::from_micros(999);
                PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut sources = [
            PollFd::new(mail.as_fd(), PollFlags::POLLIN),
            PollFd::new(monitor.as_fd(), PollFlags::POLLIN),
        ];
        // An interrupted wait is a short one.
        let _ = poll(&mut sources, timeout);
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Attach(link, answer) => {
                let done = self.attach(link);
                let _ = answer.send(done);
            }
            Order::Detach(name, answer) => {
                self.links.remove(&name);
                let prefixes = self.table.remove_link(&name);
                self.apply(&prefixes);
                let _ = answer.send(());
            }
            Order::Note(name, note) => {
                let mut batch = Batch::new();
                batch.set_alias(&LinkRef::Name(name), &note);
                if let Err(error) = self.connection.run(batch) {
                    tracing::warn!(%error, "a link has no note of its attachment");
                }
            }
            Order::Blocks(blocks, aggregates) => {
                let prefixes = self.table.set_own(blocks, aggregates);
                self.apply(&prefixes);
            }
            Order::Node(addresses) => {
                if self.addresses != addresses {
                    self.addresses = addresses;
                    self.measure();
                }
            }
            Order::Learned(changes) => {
                let prefixes = self.table.learn(changes);
                self.apply(&prefixes);
            }
            Order::Sweep => {
                let prefixes = self.table.sweep();
                self.apply(&prefixes);
            }
            Order::Show(answer) => {
                let _ = answer.send(self.table.show());
            }
            Order::Stop => {}
        }
    }

    fn attach(&mut self, link: PodLink) -> Result<(), margay_netlink::Error> {
        let prefixes = self.table.add_pod(&link.name, link.index, &link.addresses);
        let operations = self.table.operations(&prefixes);
        let mut batch = Batch::new();
        prepare(&mut batch, &link);
        for route in &operations.put {
            batch.put_route(route);
        }
        match self.connection.run(batch) {
            Ok(_) => {
                for route in operations.put {
                    self.table.done(route);
                }
                self.links.insert(link.name.clone(), link);
                self.count();
                Ok(())
            }
            Err(error) => {
                let prefixes = self.table.remove_link(&link.name);
                self.apply(&prefixes);
                Err(error)
            }
        }
    }

    /// Brings the kernel to what we want for these destinations.
    fn apply(&mut self, prefixes: &BTreeSet<IpNet>) {
        let operations = self.table.operations(prefixes);
        for prefix in prefixes {
            self.refused.remove(prefix);
        }
        let mut batch = Batch::new();
        for route in &operations.delete {
            batch.delete_route(route);
        }
        for route in &operations.put {
            batch.put_route(route);
        }
        if batch.is_empty() {
            return;
        }
        let failures: BTreeMap<usize, _> = match self.connection.run_each(batch) {
            Ok(failures) => failures.into_iter().collect(),
            Err(error) => {
                tracing::warn!(%error, "it is unknown which routes the kernel has");
                self.look_soon();
                return;
            }
        };
        let deletes = operations.delete.len();
        for (index, route) in operations.delete.iter().enumerate() {
            match failures.get(&index) {
                None => self.table.gone(route),
                Some(error) => {
                    tracing::warn!(prefix = %route.prefix, %error, "a route cannot be deleted");
                    self.refused.insert(route.prefix, error.to_string());
                }
            }
        }
        for (index, route) in operations.put.into_iter().enumerate() {
            match failures.get(&(deletes + index)) {
                None => self.table.done(route),
                Some(error) => {
                    tracing::warn!(prefix = %route.prefix, %error, "a route cannot be set now");
                    self.refused.insert(route.prefix, error.to_string());
                }
            }
        }
        if !self.refused.is_empty() {
            self.retry_at.get_or_insert(clock::now() + RETRY);
        }
        self.count();
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Lost => self.look_soon(),
            Event::Route {
                prefix,
                protocol,
                port,
            } => {
                let ours = protocol == PROTOCOL || self.table.concerns(&prefix);
                if port != self.own_port && ours {
                    self.look_soon();
                }
            }
            // Routes through a link that goes down vanish without a word; those that could not be set may be possible
            // when one comes up.
            Event::Link(link) => {
                let look = if link.name.starts_with(LINK_PREFIX) {
                    // One that we do not know is being made.
                    !link.up && self.links.contains_key(&link.name)
                } else {
                    !link.loopback
                };
                if look {
                    self.look_soon();
                }
            }
            Event::LinkGone(link) => {
                if self
                    .links
                    .get(&link.name)
                    .is_some_and(|known| known.index == link.index)
                {
                    tracing::info!(link = link.name, "a pod's link is gone before its DEL");
                    self.links.remove(&link.name);
                    self.table.remove_link(&link.name);
                    self.look_soon();
                } else if !link.name.starts_with(LINK_PREFIX) {
                    self.look_soon();
                }
            }
        }
    }

    fn look_soon(&mut self) {
        let now = clock::now();
        self.noticed.get_or_insert(now);
        self.look_at.get_or_insert(now + self.gather);
    }

    /// Compares everything with the kernel and puts it right.
    fn look(&mut self) {
        self.look_at = None;
        let begun = clock::now();
        let noticed = self.noticed.take().unwrap_or_else(clock::now);
        let mut repairs = Vec::new();
        match self.connection.links() {
            Ok(links) => {
                let there: BTreeMap<&str, _> = links.iter().map(|l| (l.name.as_str(), l)).collect();
                let down = self.links.values().filter(|link| {
                    there
                        .get(link.name.as_str())
                        .is_some_and(|there| there.index == link.index && !there.up)
                });
                for link in down.cloned().collect::<Vec<_>>() {
                    let mut batch = Batch::new();
                    prepare(&mut batch, &link);
                    match self.connection.run(batch) {
                        Ok(_) => repairs.push(("link", link.name)),
                        Err(error) => {
                            tracing::warn!(link = link.name, %error, "a pod's link cannot be taken up");
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "links cannot be read"),
        }
        self.measure();
        match self.connection.routes(PROTOCOL) {
            Ok(routes) => {
                let differ = self.table.observe(routes);
                let wanted: BTreeSet<IpNet> = self.table.prefixes();
                self.apply(&wanted);
                let differ = differ.into_iter().filter(|prefix| wanted.contains(prefix));
                repairs.extend(differ.map(|prefix| ("route", prefix.to_string())));
            }
            Err(error) => tracing::warn!(%error, "routes cannot be read"),
        }
        let now = clock::now();
        self.gather = (now.saturating_duration_since(begun) * 4).clamp(GATHER, LONGEST_GATHER);
        let took = now.saturating_duration_since(noticed);
        for (what, name) in repairs {
            tracing::warn!(
                what,
                name,
                "somebody changed what is ours; it is as before again"
            );
            (self.repaired)(Repair { what, name, took });
        }
    }

    /// Finds the MTU of the link that has the node's first address.
    fn measure(&mut self) {
        let Some(own) = self.addresses.first() else {
            return;
        };
        let found = (|| {
            let addresses = self.connection.addresses()?;
            let Some((index, _)) = addresses.iter().find(|(_, address)| address == own) else {
                return Ok(None);
            };
            self.connection.link(&LinkRef::Index(*index))
        })();
        match found {
            // The loopback link's is no measure for what travels.
            Ok(Some(link)) if !link.loopback && link.mtu > 0 => {
                self.mtu.store(link.mtu, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err::<_, margay_netlink::Error>(error) => {
                tracing::warn!(%error, "the MTU of the node's link is unknown");
            }
        }
    }

    fn count(&self) {
        self.gauge
            .set(self.table.len().try_into().unwrap_or(i64::MAX));
    }
}

/// A link's settings, up, and the pod as its only neighbours.
fn prepare(batch: &mut Batch, link: &PodLink) {
    let index = LinkRef::Index(link.index);
    batch.set_router_port(&index);
    batch.set_up(&index);
    for address in &link.addresses {
        batch.put_neighbour(link.index, *address, link.pod_mac);
    }
}
