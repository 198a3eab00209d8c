//! `BGPFilter`: which routes pass between nodes and peers, and how they are changed on the way.

use ipnet::IpNet;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bgp::{AsPathPattern, Community};
use super::bgppeer::Family;
use super::schema;

/// Content. The first rule that accepts or rejects a route decides; what no rule of a peer's filters decides is
/// accepted.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "margay.io",
    version = "v1alpha1",
    kind = "BGPFilter",
    root = "BgpFilter",
    plural = "bgpfilters",
    shortname = "bgpf",
    category = "margay",
    doc = "Which routes pass between nodes and the BGPPeers that name this filter, and how they are changed on the way.",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpFilterSpec {
    /// Of routes that come from the peer, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64))]
    pub import: Vec<FilterRule>,
    /// Of routes that go to the peer, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64))]
    pub export: Vec<FilterRule>,
}

/// A rule. A route meets it if everything that it says matches; one that says nothing matches every route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterRule {
    /// The prefix is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64))]
    pub prefixes: Vec<PrefixMatch>,
    /// The prefix is none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 64))]
    pub not_prefixes: Vec<PrefixMatch>,
    /// The route is of this family.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::family")]
    pub family: Option<Family>,
    /// Where it comes from: `Own`, `Aggregate`, `EBGP`, `IBGP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::route_source")]
    pub source: Option<RouteSource>,
    /// It has one of these communities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::communities")]
    pub communities: Vec<Community>,
    /// Its `AS_PATH` fits, whole: `* 65000`, `64512-65534 ?`, and an empty text for an empty path.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::as_path")]
    pub as_path: Option<AsPathPattern>,
    /// Its next hop is in one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::cidrs")]
    pub next_hops: Vec<IpNet>,
    /// Its `LOCAL_PREF` (100 if none) is in this range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Range>,
    /// Its MED (0 if none) is in this range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub med: Option<Range>,
    /// What is changed of a route that meets the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<SetAttributes>,
    /// What then: `Accept`, `Reject`, or `Continue` with the next rule.
    #[schemars(schema_with = "schema::filter_action")]
    pub action: FilterAction,
}

/// Prefixes inside a prefix, by length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrefixMatch {
    /// It; without lengths exactly this one.
    #[schemars(schema_with = "schema::cidr")]
    pub cidr: IpNet,
    /// The shortest length; with it and no `le`, up to single addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::length")]
    pub ge: Option<u8>,
    /// The longest length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::length")]
    pub le: Option<u8>,
}

impl PrefixMatch {
    /// The shortest and the longest length that match.
    pub fn lengths(&self) -> (u8, u8) {
        let own = self.cidr.prefix_len();
        let longest = if self.ge.is_some() {
            self.cidr.max_prefix_len()
        } else {
            own
        };
        (self.ge.unwrap_or(own), self.le.unwrap_or(longest))
    }
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteSource {
    /// The node announces it itself.
    Own,
    /// An aggregate of the node.
    Aggregate,
    /// A peer of another AS.
    #[serde(rename = "EBGP")]
    External,
    /// A peer of our AS.
    #[serde(rename = "IBGP")]
    Internal,
}

/// Numbers from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Range {
    /// The least.
    #[schemars(schema_with = "schema::attribute")]
    pub min: u32,
    /// The greatest.
    #[schemars(schema_with = "schema::attribute")]
    pub max: u32,
}

impl Default for Range {
    fn default() -> Self {
        Self {
            min: 0,
            max: u32::MAX,
        }
    }
}

/// What is changed of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SetAttributes {
    /// `LOCAL_PREF`: the greater, the more preferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::attribute")]
    pub priority: Option<u32>,
    /// MED: the smaller, the more preferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::attribute")]
    pub med: Option<u32>,
    /// Our AS number stands so many times more in front of `AS_PATH`.
    #[serde(rename = "prependAS", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::prepend")]
    pub prepend_as: Option<u8>,
    /// The next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::router_address")]
    pub next_hop: Option<std::net::IpAddr>,
    /// Communities to take out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::communities")]
    pub remove_communities: Vec<Community>,
    /// Communities to add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::communities")]
    pub add_communities: Vec<Community>,
}

/// What becomes of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FilterAction {
    /// It passes.
    #[default]
    Accept,
    /// It does not.
    Reject,
    /// The next rule decides.
    Continue,
}

impl BgpFilterSpec {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The field and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (direction, rules) in [("import", &self.import), ("export", &self.export)] {
            for (number, rule) in rules.iter().enumerate() {
                rule.check(&format!("spec.{direction}[{number}]"))?;
            }
        }
        Ok(())
    }
}

impl FilterRule {
    fn check(&self, path: &str) -> Result<(), String> {
        for (field, list) in [
            ("prefixes", &self.prefixes),
            ("notPrefixes", &self.not_prefixes),
        ] {
            for (number, prefix) in list.iter().enumerate() {
                let (least, most) = prefix.lengths();
                let (own, longest) = (prefix.cidr.prefix_len(), prefix.cidr.max_prefix_len());
                if prefix.cidr.trunc() != prefix.cidr {
                    return Err(format!(
                        "{path}.{field}[{number}].cidr: {} has host bits set; write {}",
                        prefix.cidr,
                        prefix.cidr.trunc()
                    ));
                }
                if !(own <= least && least <= most && most <= longest) {
                    return Err(format!(
                        "{path}.{field}[{number}]: nothing inside {} has a length of {least} to {most}; allowed are {own} to {longest}, ge not above le",
                        prefix.cidr
                    ));
                }
            }
        }
        let ranges = [("priority", self.priority), ("med", self.med)];
        for (field, range) in ranges {
            if range.is_some_and(|range| range.min > range.max) {
                return Err(format!("{path}.{field}: min is above max"));
            }
        }
        let times = self.set.as_ref().and_then(|set| set.prepend_as);
        if times.is_some_and(|times| !(1..=25).contains(&times)) {
            return Err(format!("{path}.set.prependAS: use 1 to 25"));
        }
        Ok(())
    }
}
