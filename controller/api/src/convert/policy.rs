//! `NetworkPolicy`, with the defaults of the API server
//! (`pkg/apis/networking/v1/defaults.go`: protocol TCP, `policyTypes` from the rules present).

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use margay_policy::model::{
    self, Action, NamespaceScope, PeerSelector, PodSelector, Policy, PolicyId, PolicyKind,
    PortSelector, Rule, Tier,
};

use super::pod::{number, protocol};
use super::{Warnings, block, label_selector};
use crate::names;

/// The position of every `NetworkPolicy` in its tier (DESIGN §3.1).
const ORDER: u32 = 1000;

/// The id of the policy `namespace`/`name`.
pub(super) fn id(namespace: &str, name: &str) -> PolicyId {
    PolicyId {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        kind: PolicyKind::NetworkPolicy,
    }
}

/// A `NetworkPolicy` (`networking.k8s.io/v1`).
pub fn network_policy(object: &NetworkPolicy, warnings: &mut Warnings) -> (PolicyId, Policy) {
    let id = id(
        object.metadata.namespace.as_deref().unwrap_or_default(),
        object.metadata.name.as_deref().unwrap_or_default(),
    );
    let absent = NetworkPolicySpec::default();
    let NetworkPolicySpec {
        pod_selector,
        policy_types,
        ingress,
        egress,
    } = object.spec.as_ref().unwrap_or(&absent);
    let subject = PodSelector {
        namespaces: NamespaceScope::Named(id.namespace.clone()),
        pods: subject(pod_selector.as_ref(), warnings),
    };
    let (ingress_rules, egress_rules) = (
        ingress.as_deref().unwrap_or_default(),
        egress.as_deref().unwrap_or_default(),
    );
    let (has_ingress, has_egress) = directions(
        policy_types.as_deref().unwrap_or_default(),
        !egress_rules.is_empty(),
        warnings,
    );
    // Rules that `policyTypes` leaves without effect are read all the same, for their warnings.
    let ingress: Vec<Rule> = (0_usize..)
        .zip(ingress_rules)
        .map(|(index, rule)| {
            let peers = Peers {
                list: rule.from.as_deref(),
                field: "from",
                namespace: &id.namespace,
            };
            peers.rule(
                rule.ports.as_deref(),
                &format!("spec.ingress[{index}]"),
                warnings,
            )
        })
        .collect();
    let egress: Vec<Rule> = (0_usize..)
        .zip(egress_rules)
        .map(|(index, rule)| {
            let peers = Peers {
                list: rule.to.as_deref(),
                field: "to",
                namespace: &id.namespace,
            };
            peers.rule(
                rule.ports.as_deref(),
                &format!("spec.egress[{index}]"),
                warnings,
            )
        })
        .collect();
    let (ingress, egress) = (has_ingress.then_some(ingress), has_egress.then_some(egress));
    let policy = Policy {
        tier: Tier::default_tier(),
        order: ORDER,
        subject,
        ingress,
        egress,
    };
    (id, policy)
}

fn subject(
    selector: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
    warnings: &mut Warnings,
) -> model::LabelSelector {
    let Some(selector) = selector else {
        return model::LabelSelector::default();
    };
    let mut own = Warnings::default();
    let selector = label_selector(selector, "spec.podSelector", &mut own);
    for warning in own.into_vec() {
        let warning = warning.trim_end_matches(": matches nothing").to_owned();
        warnings.0.push(format!("{warning}: pods that the rest selects are isolated, and this policy allows them nothing"));
    }
    selector
}

/// Which directions the policy covers.
fn directions(types: &[String], egress_rules: bool, warnings: &mut Warnings) -> (bool, bool) {
    if types.is_empty() {
        return (true, egress_rules);
    }
    let (mut ingress, mut egress) = (false, false);
    for (index, name) in types.iter().enumerate() {
        match name.as_str() {
            "Ingress" => ingress = true,
            "Egress" => egress = true,
            other => {
                (ingress, egress) = (true, true);
                warnings.push(
                    &format!("spec.policyTypes[{index}]"),
                    format!(
                        "`{other}` is none of Ingress, Egress: the policy covers both directions"
                    ),
                );
            }
        }
    }
    (ingress, egress)
}

/// The peers of one rule, and what is needed to read them.
struct Peers<'a> {
    list: Option<&'a [NetworkPolicyPeer]>,
    field: &'static str,
    namespace: &'a str,
}

impl Peers<'_> {
    fn rule(
        &self,
        ports: Option<&[NetworkPolicyPort]>,
        path: &str,
        warnings: &mut Warnings,
    ) -> Rule {
        // An absent list and an empty one mean the same: anyone, everything.
        let peers = self.list.filter(|list| !list.is_empty()).map(|list| {
            let peers = list.iter().enumerate();
            peers
                .map(|(index, item)| {
                    self.peer(item, &format!("{path}.{}[{index}]", self.field), warnings)
                })
                .collect()
        });
        let ports = ports.filter(|list| !list.is_empty()).map(|list| {
            let ports = list.iter().enumerate();
            ports
                .map(|(index, item)| port(item, &format!("{path}.ports[{index}]"), warnings))
                .collect()
        });
        Rule {
            action: Action::Allow,
            peers,
            ports,
        }
    }

    fn peer(&self, peer: &NetworkPolicyPeer, path: &str, warnings: &mut Warnings) -> PeerSelector {
        let NetworkPolicyPeer {
            ip_block,
            namespace_selector,
            pod_selector,
        } = peer;
        let unusable = |field: &str, reason: String, warnings: &mut Warnings| {
            warnings.push(
                &format!("{path}{field}"),
                format!("{reason}: this peer matches nothing"),
            );
            PeerSelector::Unusable(reason)
        };
        match (ip_block, namespace_selector, pod_selector) {
            (None, None, None) => unusable(
                "",
                "a peer needs one of podSelector, namespaceSelector, ipBlock".to_owned(),
                warnings,
            ),
            (Some(block), None, None) => match cidr(block) {
                Ok(peer) => peer,
                Err((field, reason)) => unusable(&format!(".ipBlock.{field}"), reason, warnings),
            },
            (Some(_), _, _) => unusable(
                "",
                "ipBlock cannot stand beside a selector; write two peers".to_owned(),
                warnings,
            ),
            (None, namespaces, pods) => {
                let mut own = Warnings::default();
                let namespaces = match namespaces {
                    Some(selector) => NamespaceScope::Matching(label_selector(
                        selector,
                        &format!("{path}.namespaceSelector"),
                        &mut own,
                    )),
                    None => NamespaceScope::Named(self.namespace.to_owned()),
                };
                let pods = pods
                    .as_ref()
                    .map(|selector| {
                        label_selector(selector, &format!("{path}.podSelector"), &mut own)
                    })
                    .unwrap_or_default();
                let reasons = own.into_vec();
                match reasons.first() {
                    None => PeerSelector::Pods(PodSelector { namespaces, pods }),
                    Some(first) => {
                        let first = first.clone();
                        warnings.0.extend(reasons);
                        PeerSelector::Unusable(first)
                    }
                }
            }
        }
    }
}

fn cidr(block_: &IPBlock) -> Result<PeerSelector, (String, String)> {
    let cidr = block(&block_.cidr).map_err(|reason| ("cidr".to_owned(), reason))?;
    let mut except = Vec::new();
    for (index, text) in block_.except.iter().flatten().enumerate() {
        let field = || format!("except[{index}]");
        let hole = block(text).map_err(|reason| (field(), reason))?;
        if !cidr.contains(&hole) {
            return Err((field(), format!("{text} is not inside {}", block_.cidr)));
        }
        except.push(hole);
    }
    Ok(PeerSelector::Cidr { cidr, except })
}

fn port(port: &NetworkPolicyPort, path: &str, warnings: &mut Warnings) -> PortSelector {
    match port_selector(port) {
        Ok(selector) => selector,
        Err((field, reason)) => {
            warnings.push(
                &format!("{path}.{field}"),
                format!("{reason}: this entry matches nothing"),
            );
            PortSelector::Unusable(reason)
        }
    }
}

fn port_selector(port: &NetworkPolicyPort) -> Result<PortSelector, (&'static str, String)> {
    let NetworkPolicyPort {
        end_port,
        port,
        protocol: name,
    } = port;
    let protocol = protocol(name.as_deref()).map_err(|reason| ("protocol", reason))?;
    let in_range = |field, value: i32| {
        number(value).ok_or_else(|| (field, format!("{value} is not a port (1 to 65535)")))
    };
    match (port, end_port) {
        (None, None) => Ok(PortSelector::Protocol(protocol)),
        (Some(IntOrString::Int(first)), None) => {
            let first = in_range("port", *first)?;
            Ok(PortSelector::Range(protocol, first, first))
        }
        (Some(IntOrString::Int(first)), Some(last)) => {
            let (first, last) = (in_range("port", *first)?, in_range("endPort", *last)?);
            if last < first {
                return Err(("endPort", format!("{last} is below port {first}")));
            }
            Ok(PortSelector::Range(protocol, first, last))
        }
        (Some(IntOrString::String(name)), None) => match names::port(name) {
            Ok(()) => Ok(PortSelector::Named(protocol, name.clone())),
            Err(reason) => Err(("port", format!("`{name}`: {reason}"))),
        },
        (Some(IntOrString::String(_)), Some(_)) => Err((
            "endPort",
            "a range needs a number in port, not a name".to_owned(),
        )),
        (None, Some(_)) => Err(("endPort", "needs port, the first of the range".to_owned())),
    }
}
