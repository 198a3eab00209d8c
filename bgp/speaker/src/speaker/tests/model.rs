//! Random networks on one virtual clock: links are cut and joined, speakers killed and started, policies and prefixes
//! changed, messages delayed. When all is quiet, every table is what a naive computation over the whole network says:
//! no stale route, nothing that was not told.
//!
//! `MARGAY_MODEL_RUNS` says how many networks are tried, from which seed `MARGAY_MODEL_SEED` on.

use super::*;
use crate::filter::{Change, Condition, Decision, Filter, PrefixMatch, Rule};
use crate::jitter::Jitter;
use crate::settings::Reflection;
use crate::wire::{Origin, PathAttrs};

/// One link's policy, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Open,
    /// Prefixes with an odd third octet stay out.
    Half,
    /// What comes in is worth less, of equally long paths. (A lower `LOCAL_PREF` would make networks with several
    /// stable solutions, RFC 4264; a worse ORIGIN goes along with the path and cannot.)
    Worse,
    /// What goes out is longer.
    Longer,
}

/// What the network is meant to be; the model's only input.
struct World {
    asns: Vec<u32>,
    /// Whom the node reflects for.
    reflects: Vec<bool>,
    links: BTreeMap<(usize, usize), (Policy, bool)>,
    announced: Vec<BTreeSet<u8>>,
    alive: Vec<bool>,
}

/// A path as the model sees it: its ORIGIN, AS numbers, who began it inside this AS, through how many reflectors, from whom,
/// and whether that one is in this AS.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    incomplete: bool,
    asns: Vec<u32>,
    originator: Option<usize>,
    clusters: Vec<usize>,
    from: usize,
    internal: bool,
    hop: usize,
}

impl World {
    fn random(random: &mut Jitter) -> Self {
        let mut below = |n: u64| usize::try_from(random.next() % n).unwrap();
        let size = 2 + below(11);
        let systems = 1 + below(4);
        let numbers: Vec<u32> = (0..size)
            .map(|_| 65001 + u32::try_from(below(systems as u64)).unwrap())
            .collect();
        let mut links = BTreeMap::new();
        for node in 1..size {
            links.insert((below(node as u64), node), (Policy::Open, true));
        }
        for _ in 0..below(size as u64 * 2) {
            let (one, other) = (below(size as u64), below(size as u64));
            if one != other {
                links.insert((one.min(other), one.max(other)), (Policy::Open, true));
            }
        }
        Self {
            reflects: (0..size).map(|_| below(2) == 0).collect(),
            asns: numbers,
            links,
            announced: (0..size)
                .map(|node| [u8::try_from(node).unwrap()].into())
                .collect(),
            alive: vec![true; size],
        }
    }

    fn size(&self) -> usize {
        self.asns.len()
    }

    fn neighbours(&self, node: usize) -> impl Iterator<Item = (usize, Policy)> + '_ {
        self.links
            .iter()
            .filter_map(move |((a, b), (policy, whole))| {
                let other = if *a == node {
                    *b
                } else if *b == node {
                    *a
                } else {
                    return None;
                };
                (*whole && self.alive[other] && self.alive[node]).then_some((other, *policy))
            })
    }

    /// Whether `reflector` treats `other` as its client.
    fn is_client(&self, reflector: usize, other: usize) -> bool {
        self.reflects[reflector] && !self.reflects[other]
    }

    /// What `from` tells `to`, given its best way.
    fn told(
        &self,
        from: usize,
        to: usize,
        policy: Policy,
        best: Option<&Way>,
        n: u8,
    ) -> Option<Way> {
        let mut way = match best {
            _ if self.announced[from].contains(&n) => Way {
                incomplete: false,
                asns: Vec::new(),
                originator: None,
                clusters: Vec::new(),
                from,
                internal: false,
                hop: from,
            },
            Some(best) if best.from != to => best.clone(),
            Some(_) | None => return None,
        };
        let own = self.announced[from].contains(&n);
        let internal = self.asns[from] == self.asns[to];
        if internal {
            if way.internal && !own {
                if !self.is_client(from, way.from) && !self.is_client(from, to) {
                    return None;
                }
                way.originator.get_or_insert(way.from);
                way.clusters.insert(0, from);
            } else {
                way.hop = from;
            }
            if way.originator == Some(to) || way.clusters.contains(&to) || way.hop == to {
                return None;
            }
        } else {
            if policy == Policy::Longer {
                way.asns.insert(0, self.asns[from]);
            }
            way.asns.insert(0, self.asns[from]);
            (way.originator, way.clusters, way.hop) = (None, Vec::new(), from);
        }
        if internal && policy == Policy::Longer {
            way.asns.insert(0, self.asns[from]);
        }
        if way.asns.contains(&self.asns[to]) || (policy == Policy::Half && n % 2 == 1) {
            return None;
        }
        if policy == Policy::Worse {
            way.incomplete = true;
        }
        (way.from, way.internal) = (from, internal);
        Some(way)
    }

    /// The selected ways of a node, the best first.
    fn select(mut ways: Vec<Way>) -> Vec<Way> {
        let rank = |way: &Way| (way.asns.len(), way.incomplete, way.internal);
        let Some(best) = ways.iter().map(rank).min() else {
            return ways;
        };
        ways.retain(|way| rank(way) == best);
        ways.sort_by_key(|way| {
            (
                way.originator.unwrap_or(way.from),
                way.clusters.len(),
                way.from,
            )
        });
        ways
    }

    /// Every node's ways to one prefix, by going round until nothing changes; `None` if that never ends (policies may
    /// dispute for ever, RFC 4264).
    fn solve(&self, n: u8) -> Option<Vec<Vec<Way>>> {
        let mut best: Vec<Vec<Way>> = vec![Vec::new(); self.size()];
        for _ in 0..60 {
            let mut changed = false;
            for node in 0..self.size() {
                let ways = self.neighbours(node).filter_map(|(other, policy)| {
                    self.told(other, node, policy, best[other].first(), n)
                });
                let selected = Self::select(ways.collect());
                changed |= selected != best[node];
                best[node] = selected;
            }
            if !changed {
                return Some(best);
            }
        }
        None
    }

    /// Puts the policy of a link into a node's settings of a peer.
    fn settings(&self, net: &mut Net, node: usize, peer: usize, policy: Policy) {
        let client = self.is_client(node, peer);
        net.set(node, peer, |settings| {
            settings.export = Export::All;
            settings.reflection = if client {
                Reflection::Client
            } else {
                Reflection::Ordinary
            };
            let rule = |when, change: Vec<Change>, then| Filter {
                rules: vec![Rule {
                    when,
                    changes: change,
                    then,
                }],
                default: Decision::Accept,
            };
            let odd = (0..128)
                .map(|k| PrefixMatch::exact(prefix(2 * k + 1)))
                .collect();
            let (import, export) = match policy {
                Policy::Open => (None, None),
                Policy::Half => {
                    let reject = Some(Decision::Reject);
                    (
                        Some(rule(vec![Condition::Prefix(odd)], Vec::new(), reject)),
                        None,
                    )
                }
                Policy::Worse => (
                    Some(rule(
                        Vec::new(),
                        vec![Change::Origin(Origin::Incomplete)],
                        None,
                    )),
                    None,
                ),
                Policy::Longer => {
                    let prepend = Change::Prepend {
                        asn: None,
                        times: 1,
                    };
                    (None, Some(rule(Vec::new(), vec![prepend], None)))
                }
            };
            (settings.import_filter, settings.export_filter) = (import, export);
        });
    }
}

fn prefix(n: u8) -> IpNet {
    format!("10.0.{n}.0/24").parse().unwrap()
}

/// One network and its fate.
fn run(seed: u64) -> Looked {
    let mut random = Jitter::new(seed);
    let mut world = World::random(&mut random);
    let mut net = Net::new(seed);
    for asn in world.asns.clone() {
        net.add_router(asn);
    }
    let links: Vec<(usize, usize)> = world.links.keys().copied().collect();
    for (a, b) in &links {
        net.peer(*a, *b);
        world.settings(&mut net, *a, *b, Policy::Open);
        world.settings(&mut net, *b, *a, Policy::Open);
    }
    for node in 0..world.size() {
        tell(&mut net, &world, node);
    }
    for _ in 0..random.next() % 12 {
        let mut below =
            |n: usize| usize::try_from(random.next() % u64::try_from(n).unwrap()).unwrap();
        let (a, b) = links[below(links.len())];
        let node = below(world.size());
        match below(8) {
            0 | 1 => {
                let link = world.links.get_mut(&(a, b)).unwrap();
                link.1 = !link.1;
                if link.1 {
                    net.join(a, b);
                } else {
                    net.cut(a, b);
                }
            }
            2 => {
                world.alive[node] = !world.alive[node];
                if world.alive[node] {
                    net.start(node);
                } else {
                    net.kill(node);
                }
            }
            3 if world.alive[node] => net.restart(node),
            4 | 5 => {
                let all = [Policy::Open, Policy::Half, Policy::Worse, Policy::Longer];
                let policy = all[below(all.len())];
                world.links.get_mut(&(a, b)).unwrap().0 = policy;
                for (node, peer) in [(a, b), (b, a)] {
                    if world.alive[node] {
                        world.settings(&mut net, node, peer, policy);
                    } else {
                        world.alive[node] = true;
                        net.start(node);
                        world.settings(&mut net, node, peer, policy);
                    }
                }
            }
            _ if world.alive[node] => {
                let n = u8::try_from(below(16)).unwrap();
                if !world.announced[node].remove(&n) {
                    world.announced[node].insert(n);
                }
                tell(&mut net, &world, node);
            }
            _ => {}
        }
        let pause = u64::try_from(below(3000)).unwrap();
        net.run_for(Duration::from_millis(pause));
    }
    // The hold time, then the restart time of whoever did not come back, then dials.
    net.run_for(seconds(150));
    let mut looked = Looked::default();
    for n in 0..16 {
        let Some(solution) = world.solve(n) else {
            looked.skipped += 1;
            continue;
        };
        looked.compared += 1;
        for (node, ways) in solution.iter().enumerate() {
            if world.alive[node] {
                let own = world.announced[node].contains(&n);
                let expected: &[Way] = if own { &[] } else { ways };
                compare(&net, node, n, expected, &|| {
                    format!(
                        "seed {seed}: node {node} to {}, of AS {:?}, links {:?}",
                        prefix(n),
                        world.asns,
                        world.links
                    )
                });
            }
        }
    }
    looked
}

/// How many prefixes of a network were compared, and of how many the naive computation has no end.
#[derive(Default)]
struct Looked {
    compared: usize,
    skipped: usize,
}

/// What a node has for a prefix: what the owner was told, and the selected paths with their attributes, the best one
/// first.
fn compare(net: &Net, node: usize, n: u8, expected: &[Way], what: &dyn Fn() -> String) {
    let hops: BTreeSet<IpAddr> = expected.iter().map(|way| net.address_of(way.hop)).collect();
    let routes = net.routes(node).get(&prefix(n)).cloned();
    assert_eq!(routes.unwrap_or_default(), hops, "{}", what());
    let destination = net.speaker(node).destination(&prefix(n));
    let paths = destination.map(|destination| destination.paths);
    let selected = paths.into_iter().flatten().filter(|path| path.selected);
    let found: Vec<_> = selected
        .filter_map(|path| {
            let PathAttrs {
                origin,
                as_path,
                originator_id,
                cluster_list,
                ..
            } = path.attrs;
            let asns: Vec<u32> = as_path
                .0
                .iter()
                .flat_map(|s| &s.asns)
                .map(|a| a.0)
                .collect();
            // None of our own.
            let peer = path.peer?;
            let hop = path.next_hop.address();
            Some((peer, hop, origin, asns, originator_id, cluster_list))
        })
        .collect();
    let id = |node: usize| BgpId(net::four(node));
    let expected: Vec<_> = expected
        .iter()
        .map(|way| {
            let origin = if way.incomplete {
                Origin::Incomplete
            } else {
                Origin::Igp
            };
            (
                PeerName::from(format!("n{}", way.from)),
                net.address_of(way.hop),
                origin,
                way.asns.clone(),
                way.originator.map(id),
                way.clusters.iter().copied().map(id).collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(found, expected, "{}", what());
}

fn tell(net: &mut Net, world: &World, node: usize) {
    let own: Vec<String> = world.announced[node]
        .iter()
        .map(|n| prefix(*n).to_string())
        .collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    net.announce(node, &own);
}

#[test]
fn random_networks_settle_on_what_a_naive_computation_says() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (runs, seed) = (
        number("MARGAY_MODEL_RUNS", 25),
        number("MARGAY_MODEL_SEED", 0),
    );
    println!("{runs} networks from seed {seed}");
    let mut all = Looked::default();
    for seed in seed..seed + runs {
        let Looked { compared, skipped } = run(seed);
        all.compared += compared;
        all.skipped += skipped;
    }
    let Looked { compared, skipped } = all;
    println!("{compared} prefixes compared; policies dispute for ever over {skipped} others");
    assert!(skipped * 20 <= compared, "{skipped} of {compared}");
}
