//! The same planner for one change at a time: what an endpoint costs does not grow with the number of services.
//!
//! ```text
//!  Change --handle--> objects touched --step--> [Op, Op, ...] --loader--> maps
//!                                                  each one --applied--> image
//! ```
//!
//! [`plan`](crate::services::plan), [`build`](crate::image::build) and [`diff`](crate::diff::diff) stay the definition: the
//! steps are the very ones they lead to. All of it is computed whole
//!
//! - at the start, and after other settings,
//! - after a step that was not carried out to its end,
//! - while something does not fit: who gets room depends on everybody,
//! - while the numbers of two services collide, or nodes share their addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crds::Stowed;
use crds::k8s_openapi::api::core::v1::{Node, Pod, Service};
use crds::k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::diff::{Op, apply, diff};
use crate::image::{self, MapImage, build};
use crate::names::ServiceName;
use crate::problem::Problem;
use crate::services::{self, Plan};
use crate::settings::{Settings, ThisNode};

/// An object that is there, or is not any more. Names are those of the objects themselves.
#[derive(Clone, Debug)]
pub enum Change {
    Service(Stowed<Service>),
    ServiceGone(ServiceName),
    Slice(Stowed<EndpointSlice>),
    SliceGone(ServiceName),
    Pod(Arc<Pod>),
    PodGone(ServiceName),
    Node(Arc<Node>),
    NodeGone(String),
    /// All addresses that this agent gives to a Service.
    Granted(ServiceName, BTreeSet<IpAddr>),
}

/// What to do, and what does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub extent: Extent,
    pub ops: Vec<Op>,
    /// As in [`image::Built::refused`].
    pub refused: Vec<Problem>,
}

/// How much was computed anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Changed,
    Whole,
}

/// Knows all objects, and what the maps hold.
#[derive(Debug)]
pub struct Incremental {
    services: services::Keyed,
    node: ThisNode,
    settings: Settings,
    image: MapImage,
    /// `None`: the next step is computed whole.
    keyed: Option<image::Keyed>,
    /// Operations of the last step that were not carried out yet.
    pending: usize,
}

impl Incremental {
    /// `image` is what was read back from the maps.
    pub fn new(image: MapImage, node: ThisNode, settings: Settings) -> Self {
        Self {
            services: services::Keyed::default(),
            node,
            settings,
            image,
            keyed: None,
            pending: 0,
        }
    }

    /// Takes a change; several may come before a step.
    pub fn handle(&mut self, change: Change) {
        self.services.handle(change);
    }

    /// Another self, or other settings.
    pub fn configure(&mut self, node: ThisNode, settings: Settings) {
        (self.node, self.settings) = (node, settings);
        self.services.touch_all();
        self.keyed = None;
    }

    /// The way from what the maps hold to what they should. Every operation that was carried out must be told by
    /// [`Self::applied`], in order: the image then has what [`MapImage::fill`] needs for an [`Op::WriteTable`] that comes
    /// next.
    pub fn step(&mut self) -> Step {
        let changed = self.services.update(&self.node, &self.settings);
        let keyed = self.keyed.take().filter(|_| self.pending == 0);
        let done = keyed.and_then(|keyed| keyed.step(&changed, &self.services, &self.image, &self.settings));
        let step = match done {
            Some((ops, keyed)) => {
                self.keyed = keyed;
                Step {
                    extent: Extent::Changed,
                    ops,
                    refused: Vec::new(),
                }
            }
            None => self.whole(),
        };
        self.pending = step.ops.len();
        step
    }

    fn whole(&mut self) -> Step {
        let plan = self.services.plan();
        let built = build(&plan, &self.image, &self.node, &self.settings);
        if built.refused.is_empty() {
            self.keyed = image::Keyed::of(&plan, &built.image, &self.node, &self.settings);
        }
        Step {
            extent: Extent::Whole,
            ops: diff(&self.image, &built.image),
            refused: built.refused,
        }
    }

    /// The maps were changed so.
    pub fn applied(&mut self, op: &Op) {
        apply(op, &mut self.image);
        self.pending = self.pending.saturating_sub(1);
    }

    /// What the maps hold.
    pub fn image(&self) -> &MapImage {
        &self.image
    }

    /// What users asked for and do not get, as of the last step, but for what does not fit.
    pub fn problems(&self) -> Vec<Problem> {
        self.services.problems()
    }

    /// How many services have frontends, as of the last step.
    pub fn services(&self) -> usize {
        self.services.count()
    }

    /// What is served, as of the last step; and the problems.
    pub fn plan(&self) -> Plan {
        self.services.plan()
    }
}
