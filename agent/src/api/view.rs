//! The JSON of `/v1/stentor/...`: what the command line shows, in camelCase.
//!
//! Times are seconds (or seconds since 1970 where the name ends in `At`); a reason is a stable name and a
//! sentence.

use serde::{Deserialize, Serialize};

/// A named refusal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// Stable, in kebab case.
    pub reason: String,
    pub message: String,
}

/// The whole of `stentor status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    pub version: String,
    pub node: String,
    pub pid: u32,
    pub uptime_seconds: u64,
    pub verdict: Verdict,
    /// What keeps the verdict from being green, most important first.
    pub because: Vec<Why>,
    pub bgp: BgpSummary,
    /// `None`: the load balancer is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datapath: Option<Datapath>,
    pub counts: Counts,
    pub features: Vec<Feature>,
    pub peers: Vec<Peer>,
    pub vips: Vec<Vip>,
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Everything that is wished for is so.
    Green,
    /// Something is not.
    NotGreen,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpSummary {
    pub enabled: bool,
    /// Which object configures this node.
    pub origin: String,
    pub instances: Vec<Instance>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    pub name: String,
    pub asn: u32,
    pub router_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// Why the port is not listened on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_error: Option<String>,
    pub local_routes: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub peers: usize,
    pub peers_established: usize,
    pub vips_desired: usize,
    pub vips_announced: usize,
    pub problems_error: usize,
    pub problems_warning: usize,
    pub objects: usize,
    pub discard_routes: usize,
}

/// The load balancer in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Datapath {
    /// `on`, `starting`, or `broken`: then the problems say why.
    pub state: String,
    pub services: usize,
    pub frontends: usize,
    pub backends: usize,
    /// Elements of maps, since the start.
    pub writes: u64,
    pub devices: Vec<DatapathDevice>,
    pub unused_devices: Vec<UnusedDevice>,
    pub maps: Vec<DatapathMap>,
    pub features: Vec<Feature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatapathDevice {
    pub name: String,
    pub hooks: Vec<DatapathHook>,
    /// Who forwards what leaves by it: `xdp`, `xdp-back` (XDP only what came in by it) or `tc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwards: Option<String>,
    /// Why not XDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forwards_why: Option<Why>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatapathHook {
    pub program: String,
    /// `native`, `generic`, `tcx` and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Why not in a better mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Why it does not hang there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A device that does not serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnusedDevice {
    pub name: String,
    #[serde(flatten)]
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatapathMap {
    pub name: String,
    pub used: u32,
    pub entries: u32,
}

/// Something the kernel may or may not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Feature {
    pub name: String,
    pub available: bool,
    /// What follows from its absence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A peer: configured, discovered, or a live dynamic neighbour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    pub instance: String,
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub local_asn: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_asn: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_router_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_address: Option<String>,
    pub state: String,
    /// Only of established sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<u64>,
    pub times_established: u64,
    /// Why it is not established, or why it last was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_down: Option<LastDown>,
    pub md5: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graceful_restart_seconds: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_seconds: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_seconds: Option<u64>,
    pub messages_received: u64,
    pub messages_sent: u64,
    pub families: Vec<PeerFamily>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastDown {
    #[serde(flatten)]
    pub why: Why,
    /// `None`: it never was up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_ago: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerFamily {
    /// `ipv4/unicast`
    pub family: String,
    pub negotiated: bool,
    pub received: u32,
    pub accepted: u32,
    pub advertised: u32,
    pub stale: u32,
    pub end_of_rib_received: bool,
    pub end_of_rib_sent: bool,
}

/// An address of a Service, from wish to router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vip {
    /// `namespace/name`
    pub service: String,
    /// `None`: desired, and none could be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `LoadBalancerIP`, `ClusterIP`, `ExternalIP`.
    pub kind: String,
    pub state: VipState,
    /// The pool that retains it (`blockRemoval`): no block has it any more. Only where agents give addresses; what an
    /// operator gave says so in the conditions of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained: Option<String>,
    /// Peers whose Adj-RIB-Out holds a prefix for it.
    pub announced: Vec<Announcement>,
    /// Peers it is meant for that do not have it, and why.
    pub missing: Vec<Missing>,
    /// Why it is announced to nobody.
    pub reasons: Vec<Why>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VipState {
    /// Every peer it is meant for has it.
    Announced,
    /// Some have it.
    Partly,
    /// It should be announced, and is not.
    NotAnnounced,
    /// Not announced from this node, as configured.
    NotWanted,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    pub prefix: String,
    pub instance: String,
    pub peer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Missing {
    #[serde(flatten)]
    pub announcement: Announcement,
    #[serde(flatten)]
    pub why: Why,
}

/// Something wrong in a file, in an object or on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `error` or `warning`.
    pub severity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// From 1; 0 = the whole file.
    pub line: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    pub field: String,
    #[serde(flatten)]
    pub why: Why,
}

/// One path of one table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    pub instance: String,
    pub prefix: String,
    /// Owner of an Adj-RIB, or whom it was learned from; `None`: originated here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_address: Option<String>,
    pub next_hop: String,
    pub age_seconds: u64,
    pub best: bool,
    pub stale: bool,
    pub origin: String,
    pub as_path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_preference: Option<u32>,
    pub communities: Vec<String>,
    pub large_communities: Vec<String>,
    pub extended_communities: Vec<String>,
    /// Why it is not best, or was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A route policy, with what Cilium's form of it has no place for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    pub router_asn: u32,
    pub name: String,
    /// `import` or `export`.
    pub r#type: String,
    pub statements: Vec<PolicyStatement>,
}

/// A statement: what matches (empty: everything) is accepted with these attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyStatement {
    pub peers: Vec<String>,
    /// `10.0.0.0/24`, or `10.0.0.0/16 le 24` with a range of lengths.
    pub prefixes: Vec<String>,
    pub communities: Vec<String>,
    pub large_communities: Vec<String>,
    pub extended_communities: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_preference: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_path_prepend: Option<u8>,
}

/// What would happen if a folder were applied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanDiff {
    pub sessions: Vec<SessionChange>,
    pub prefixes: Vec<PrefixChange>,
    pub vips: Vec<VipChange>,
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionChange {
    pub instance: String,
    pub peer: String,
    pub effect: SessionEffect,
    /// The fields that differ, and other causes.
    pub because: Vec<String>,
}

/// From harmless to harmful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SessionEffect {
    /// New.
    Added,
    /// Policies are evaluated again; the session stays.
    PolicyRefresh,
    /// Routes are exchanged again; the session stays.
    SoftReset,
    /// The session goes down and comes back.
    HardReset,
    /// Gone.
    Removed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PrefixChange {
    pub instance: String,
    pub peer: String,
    pub prefix: String,
    pub effect: PrefixEffect,
    /// Attributes before and after, where they changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PrefixEffect {
    Added,
    Changed,
    Withdrawn,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VipChange {
    pub service: String,
    pub before: Vec<String>,
    pub after: Vec<String>,
}

/// Something that happened, newest last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub number: u64,
    /// Seconds since 1970.
    pub at: u64,
    /// Stable, in kebab case.
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    pub message: String,
}

/// Asks for a reset or a refresh; without a peer every peer of the instance is meant, without an instance
/// every instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerOrder {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// RFC 9003 text of a reset.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Of a refresh.
    #[serde(default)]
    pub direction: Direction,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    In,
    Out,
    #[default]
    Both,
}

/// Whom an order reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ordered {
    /// `instance/peer`
    pub peers: Vec<String>,
}

/// A number that grows with every change; `?after=N` waits for a greater one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Generation {
    pub generation: u64,
}

/// Files of a folder, for `stentor bgp plan`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bundle {
    pub files: Vec<BundleFile>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BundleFile {
    pub path: String,
    pub text: String,
}

impl std::fmt::Debug for BundleFile {
    /// Never the text: it may hold a Secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BundleFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl From<&crate::problem::Problem> for Problem {
    fn from(problem: &crate::problem::Problem) -> Self {
        Self {
            severity: problem.severity.to_string(),
            file: problem.file.as_ref().map(|file| file.display().to_string()),
            line: problem.line,
            object: problem.object.as_ref().map(ToString::to_string),
            field: problem.field.clone(),
            why: Why {
                reason: problem.reason.to_owned(),
                message: problem.message.clone(),
            },
        }
    }
}
