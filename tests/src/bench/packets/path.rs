//! Client, router and pod as namespaces, and what the router judges by.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use margay_dataplane::diff::{Actual, Operation, diff};
use margay_dataplane::local::Local;
use margay_dataplane::names;
use margay_dataplane::plan::Planner;
use margay_dataplane::ruleset::{Family, KeyValue};
use margay_felix::nft::commit;
use margay_nftnl::{
    BaseChain, Batch, Chain, CtKey, DefaultVerdict, Expr, Register, Rule, Socket, TableFlags,
    TableId, Verdict,
};
use margay_policy::node_policy::NodePolicy;
use margay_tests::lab::guard::Scratch;
use margay_tests::lab::{ip, netns::Netns};

use crate::nft::shape::Shape;

/// A port that the last rule of the last policy permits.
pub(crate) const UDP_PORT: u16 = 53;
/// A port that the first rule of the last policy permits.
pub(crate) const TCP_PORT: u16 = 80;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 2);

/// What the router has.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rules {
    /// Nothing.
    None,
    /// A rule that only has the kernel track connections.
    Conntrack,
    /// The writer's ruleset.
    Ours {
        /// Pods on the node, each with a policy.
        pods: u32,
        /// Policies of the pod at the end of the path, of three rules each; the last one permits.
        policies: u32,
    },
}

/// A path from a client outside to a pod.
pub(crate) struct Path {
    client: Netns,
    router: Netns,
    pod: Netns,
    rules: Rules,
}

impl Path {
    /// Makes the namespaces, links and rules.
    ///
    /// # Errors
    /// If `ip` or the kernel says no.
    pub(crate) fn create(scratch: &Scratch, name: &str, rules: Rules) -> Result<Self> {
        let netns = |part: &str| scratch.netns(&format!("{name}{part}"));
        let path = Self {
            client: netns("c")?,
            router: netns("r")?,
            pod: netns("p")?,
            rules,
        };
        let (pod, link) = (Shape::address(0), Shape::attachment(0).link);
        let (client, router) = (path.client.name(), path.router.name());
        let commands = [
            format!("link add up0 type veth peer name eth0 netns {client}"),
            format!(
                "link add {link} type veth peer name eth0 netns {}",
                path.pod.name()
            ),
            "address add 10.200.0.1/24 dev up0".to_owned(),
            format!("address add 169.254.1.1/32 dev {link}"),
            "link set up0 up".to_owned(),
            format!("link set {link} up"),
            format!("route add {pod}/32 dev {link}"),
        ];
        ip::batch(router, &commands)?;
        ip::batch(
            client,
            &[
                "address add 10.200.0.2/24 dev eth0",
                "link set eth0 up",
                "route add default via 10.200.0.1",
            ]
            .map(str::to_owned),
        )?;
        let commands = [
            format!("address add {pod}/32 dev eth0"),
            "link set eth0 up".to_owned(),
            "route add 169.254.1.1 dev eth0 scope link".to_owned(),
            "route add default via 169.254.1.1".to_owned(),
        ];
        ip::batch(path.pod.name(), &commands)?;
        path.router.set(&[("net/ipv4/ip_forward", "1")])?;
        match rules {
            Rules::None => {}
            Rules::Conntrack => path.router.run(track)?,
            Rules::Ours { .. } => path.router.run(|| Commits::begin(&path)?.install())?,
        }
        Ok(path)
    }

    pub(crate) fn client(&self) -> &Netns {
        &self.client
    }

    pub(crate) fn router(&self) -> &Netns {
        &self.router
    }

    pub(crate) fn pod(&self) -> &Netns {
        &self.pod
    }

    /// The pod's address, on every path the same.
    pub(crate) fn pod_address() -> Ipv4Addr {
        Shape::address(0)
    }

    fn shape(&self) -> Shape {
        let policies = match self.rules {
            Rules::None | Rules::Conntrack => 1,
            Rules::Ours { pods, .. } => pods,
        };
        Shape {
            policies,
            members: 10,
        }
    }

    /// Every pod has its own policy, but the first has several.
    fn policy(&self) -> NodePolicy {
        let shape = self.shape();
        let mut policy = shape.policy();
        if let Rules::Ours { policies, .. } = self.rules {
            let list = policy
                .rule_lists
                .get_mut(&Shape::list_id(0))
                .expect("the first pod has a list");
            let own = std::mem::take(&mut list.tiers[0].rules);
            for other in 1..policies {
                list.tiers[0]
                    .rules
                    .extend(Shape::list(other, TCP_PORT).tiers.remove(0).rules);
            }
            list.tiers[0].rules.extend(own);
            policy
                .address_sets
                .entry(Shape::set(0))
                .or_default()
                .insert(IpAddr::V4(CLIENT));
        }
        policy
    }
}

/// Has connections tracked in the namespace of this thread.
fn track() -> Result<()> {
    let base = BaseChain {
        hook: 2,
        priority: 0,
        chain_type: "filter".to_owned(),
        default_verdict: DefaultVerdict::Accept,
    };
    let load = Expr::Ct {
        key: CtKey::State,
        to: Register::FIRST,
    };
    let mut batch = Batch::new(TableId::inet("peer"), None);
    batch.add_table(TableFlags::default());
    batch.add_chain(&Chain {
        name: "forward".to_owned(),
        base: Some(base),
    });
    batch.add_rule(
        "forward",
        &Rule::new(vec![load, Expr::Verdict(Verdict::Accept)], ""),
    );
    Ok(Socket::open()?.commit(batch)?)
}

/// Commits to a path's router, in whose namespace it must be made.
pub(crate) struct Commits {
    socket: Socket,
    planner: Planner,
}

impl Commits {
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        let attachments = path.shape().attachments();
        let planner = Planner::new(
            path.policy(),
            Local {
                attachments,
                ..Local::default()
            },
        );
        Ok(Self {
            socket: Socket::open()?,
            planner,
        })
    }

    fn install(&mut self) -> Result<()> {
        let operations = diff(&Actual::default(), self.planner.ruleset());
        let mut batch = Batch::new(TableId::inet("margay"), None);
        batch.add_table(TableFlags::default());
        commit::encode(&operations, &mut batch);
        Ok(self.socket.commit(batch)?)
    }

    /// One commit: mostly an element that comes or goes, now and then a new epoch, or all connections judged again.
    pub(crate) fn one(&mut self, i: u32) -> Result<()> {
        let id = Shape::set(0);
        let stranger = Shape::stranger(i / 2);
        let operations = if i % 1000 == 999 {
            self.planner.rejudge().operations
        } else if i % 100 >= 98 {
            let (one, none) = (BTreeSet::from([Shape::stranger(0)]), BTreeSet::new());
            let (add, remove) = if i.is_multiple_of(2) {
                (one, none)
            } else {
                (none, one)
            };
            let patch =
                margay_policy::node_policy::PolicyChange::PatchAddressSet { id, add, remove };
            self.planner.apply(&[patch]).operations
        } else {
            let set = names::members(Family::V4).to_owned();
            let key = vec![KeyValue::Id(0), KeyValue::Address(stranger)];
            vec![if i.is_multiple_of(2) {
                Operation::AddElements {
                    set,
                    elements: vec![(key, None)],
                }
            } else {
                Operation::DeleteElements {
                    set,
                    keys: vec![key],
                }
            }]
        };
        let mut batch = Batch::new(TableId::inet("margay"), None);
        commit::encode(&operations, &mut batch);
        Ok(self.socket.commit(batch)?)
    }
}
