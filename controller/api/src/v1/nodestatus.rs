//! `NodeStatus`: what a node's agent says of itself. Written by the controller alone.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// There is nothing to set.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema,
)]
#[kube(
    group = "margay.io",
    version = "v1alpha1",
    kind = "NodeStatus",
    plural = "nodestatuses",
    singular = "nodestatus",
    shortname = "nst",
    category = "margay",
    doc = "What the agent of a node says of itself. Written by margay-controller alone; named as the Node.",
    derive = "PartialEq",
    status = "NodeStatusStatus"
)]
pub struct NodeStatusSpec {}

/// Content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatusStatus {
    /// Whether the agent is connected to a controller: `Connected`, or `Away` with the reason in `agentReason`.
    #[schemars(schema_with = "schema::text")]
    pub agent: String,
    /// Why it is away.
    #[schemars(schema_with = "schema::text")]
    pub agent_reason: String,
    /// The agent's version.
    #[schemars(schema_with = "schema::text")]
    pub version: String,
    /// Whether the kernel has everything that the agent was told: `InStep`, or `Behind`.
    #[schemars(schema_with = "schema::text")]
    pub policy: String,
    /// The revision in the kernel, as `RUN/COUNT`.
    #[schemars(schema_with = "schema::text")]
    pub realised: String,
    /// Established sessions of all, as in 2/3.
    #[schemars(schema_with = "schema::text")]
    pub bgp: String,
    /// Attached pods.
    #[schemars(schema_with = "schema::count")]
    pub pods: u32,
    /// Repairs of what others changed, as far as the agent remembers.
    #[schemars(schema_with = "schema::count")]
    pub repairs: u32,
    /// Blocks and their use.
    pub blocks: Vec<BlockUse>,
    /// BGP sessions.
    pub sessions: Vec<Session>,
    /// The last repairs, newest last.
    pub drift: Vec<Repair>,
}

/// A block of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BlockUse {
    /// Its range.
    #[schemars(schema_with = "schema::text")]
    pub cidr: String,
    /// Addresses of it in use.
    #[schemars(schema_with = "schema::count")]
    pub used: u32,
}

/// A BGP session of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Session {
    /// The peer, for people.
    #[schemars(schema_with = "schema::text")]
    pub name: String,
    /// The peer's address.
    #[schemars(schema_with = "schema::text")]
    pub address: String,
    /// The peer's AS number.
    #[schemars(schema_with = "schema::count")]
    pub asn: u32,
    /// State of RFC 4271 §8.2.2.
    #[schemars(schema_with = "schema::text")]
    pub state: String,
    /// Why it is not established.
    #[schemars(schema_with = "schema::text")]
    pub reason: String,
    /// What to look at.
    #[schemars(schema_with = "schema::text")]
    pub hint: String,
    /// Prefixes accepted.
    #[schemars(schema_with = "schema::count")]
    pub received: u32,
    /// Prefixes announced.
    #[schemars(schema_with = "schema::count")]
    pub announced: u32,
}

/// Something of ours that somebody else changed and the agent repaired.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Repair {
    /// When, RFC 3339.
    #[schemars(schema_with = "schema::text")]
    pub at: String,
    /// What: table, chain, rule, set, route or link, and its name.
    #[schemars(schema_with = "schema::text")]
    pub what: String,
    /// Who, if the kernel told.
    #[schemars(schema_with = "schema::text")]
    pub by: String,
}
