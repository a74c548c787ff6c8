//! What the loop last decided, for the API and the metrics to read without asking the loop.

use std::collections::BTreeMap;
use std::sync::Arc;

use bgp_speaker::types::Name;
use crds::cilium_node::FullMap;

use crate::config::Config;
use crate::datapath::report::Report;
use crate::plan::Desired;
use crate::problem::Problem;
use crate::report::Seen;
use crate::world::Observed;

/// One look at the loop's mind. Replaced as a whole.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Grows with every snapshot.
    pub number: u64,
    pub config: Config,
    pub desired: Arc<Desired>,
    /// Everything wrong now, from every source, in order.
    pub problems: Arc<[Problem]>,
    /// How many objects are in force.
    pub objects: usize,
    /// What this node looks like; a preview plans with it.
    pub observed: Arc<Observed>,
    /// Instances whose port can't be listened on, and why.
    pub listen_errors: BTreeMap<Name, String>,
    /// What the load balancer in the kernel told last.
    pub datapath: Arc<Report>,
    /// This node's `CiliumBGPNodeConfig`, if there is one: what its status says of the sessions.
    pub node_config: Option<Seen>,
    /// What this node's `CiliumNode`, if there is one, says that its load balancer has no room for.
    pub full_maps: Option<Vec<FullMap>>,
}
