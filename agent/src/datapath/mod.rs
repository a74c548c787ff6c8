//! The load balancer in the kernel, run from here.
//!
//! ```text
//!   World --objects--> mailbox --> task: planner --steps--> maps
//!         --wish-----^    |            |      \--programs--> devices
//!                         |            v
//!   loop <--report--------+-- what is served, what is not and why
//! ```
//!
//! The task is a thread of its own, because calls to the kernel block. It takes what changed since it last looked, so a
//! burst is one step. What fails is a named problem, and is tried again, later each time; what is in the maps goes on
//! serving meanwhile, as it does when the agent ends in whatever way.

pub mod devices;
pub mod frames;
pub mod hooks;
pub mod mailbox;
pub mod objects;
pub mod orphans;
pub mod programs;
pub mod report;
pub mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crds::{Kind, ObjectRef};
use ebpf_datapath::Socket;

use self::devices::Device;
use crate::config::datapath::Datapath as Config;
use crate::problem::{Problem, Severity};
use crate::source::kube::chain;

/// Everything the task goes by, but for the objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    pub config: Config,
    pub node: Me,
    pub devices: Arc<[Device]>,
}

/// This node, as the objects tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Me {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// Of its Node and its CiliumNode.
    pub addresses: BTreeSet<IpAddr>,
    /// Those of all other Nodes.
    pub others: BTreeSet<IpAddr>,
}

/// Which frontends packets are served at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Served {
    /// Not by us: the load balancer is off, and whoever else proxies is not asked.
    #[default]
    ByOthers,
    /// By the maps, as they were read back.
    Here(Arc<BTreeSet<Socket>>),
}

/// What goes wrong between here and the kernel, with its causes.
fn trouble(reason: &'static str, error: &dyn std::error::Error) -> Box<Problem> {
    Box::new(Problem::here(
        Severity::Error,
        reason,
        format!(
            "the load balancer in the kernel: {}; it is tried again",
            chain(error)
        ),
    ))
}

impl From<&ebpf_datapath::Problem> for Problem {
    fn from(problem: &ebpf_datapath::Problem) -> Self {
        use ebpf_datapath::Problem as P;
        let severity = match problem {
            P::UnknownAnnotationValue { .. }
            | P::UnknownAnnotation { .. }
            | P::AnnotationNotEnabled { .. }
            | P::NoClusterMesh { .. }
            | P::DuplicatePort { .. }
            | P::NoPorts { .. }
            | P::BadAffinityTimeout { .. } => Severity::Warning,
            P::BadPort { .. }
            | P::UnknownProtocol { .. }
            | P::BadAddress { .. }
            | P::BadEndpoint { .. }
            | P::TooManyEndpoints { .. }
            | P::BadSourceRange { .. }
            | P::BadNodeSelector { .. }
            | P::NoNodeAddress { .. }
            | P::Taken { .. }
            | P::ForeignAddress { .. }
            | P::HostPortInNodePortRange { .. }
            | P::SctpPortDiffers { .. }
            | P::MapFull { .. }
            | P::NodesFull { .. }
            | P::NoUnderlay { .. } => Severity::Error,
        };
        let of = |name: &ebpf_datapath::ServiceName| {
            ObjectRef::namespaced(Kind::Service, name.namespace.as_str(), name.name.as_str())
        };
        Self {
            object: problem.service().map(of),
            ..Self::here(severity, problem.reason(), problem.to_string())
        }
    }
}
