//! The maps as a place where images are kept: what is planned is carried out, and what is there is read back.
//!
//! ```text
//!   Incremental --step--> [Op, Op, Op, ...] --lots of one kind--> maps
//!        ^                                        |
//!        +------------- applied, one by one ------+        maps --read--> MapImage, for the next start
//! ```
//!
//! Neighbouring steps of one kind are one call. Arrays are written in place, without any call. [`Op::Wait`] is a grace
//! period of the kernel: see [`crate::grace`]. When a step fails, the steps before it were told as applied, and nothing behind it
//! was done: the planner begins there.

mod failure;
mod read;
mod tables;
mod write;

use ebpf_abi::maps::{self, Map};
use ebpf_datapath::diff::{Op, apply};
use ebpf_datapath::image::MapImage;
use ebpf_datapath::incremental::{Extent, Incremental};
use ebpf_datapath::{Limits, Problem};

pub use self::failure::Failure;
use self::tables::Known;
pub(crate) use self::tables::inner;
use crate::grace::Grace;
use crate::mapped::Mapped;
use crate::{Datapath, Error, MapFd};

/// All maps that the planner writes.
#[derive(Debug)]
pub struct Store {
    config: MapFd,
    nodes: MapFd,
    frontends4: MapFd,
    frontends6: MapFd,
    members: MapFd,
    ranges4: MapFd,
    ranges6: MapFd,
    maglev: MapFd,
    filter: Mapped,
    live: Mapped,
    sets: Mapped,
    slots: Mapped,
    backends4: Mapped,
    backends6: Mapped,
    grace: Grace,
    known: Known,
}

/// What a step of the planner came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How much was planned anew.
    pub extent: Extent,
    /// Services that do not fit; as in [`ebpf_datapath::image::Built::refused`].
    pub refused: Vec<Problem>,
    pub done: Done,
}

/// What was done to the maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Steps but for waits. Nothing was written if it is zero.
    pub writes: usize,
    pub waits: usize,
    /// Backends that went. What flows remember of them is to be swept: [`crate::Sweeper`].
    pub deaths: usize,
}

impl Store {
    /// Over the maps of these programs.
    pub fn open(datapath: &Datapath) -> Result<Self, Error> {
        let open = |map: Map| datapath.map(map);
        let mapped = |map: Map| Mapped::new(&open(map)?);
        Ok(Self {
            config: open(maps::CONFIG)?,
            nodes: open(maps::NODES)?,
            frontends4: open(maps::FRONTENDS4)?,
            frontends6: open(maps::FRONTENDS6)?,
            members: open(maps::MEMBERS)?,
            ranges4: open(maps::RANGES4)?,
            ranges6: open(maps::RANGES6)?,
            maglev: open(maps::MAGLEV)?,
            filter: mapped(maps::FILTER)?,
            live: mapped(maps::LIVE_FRONTENDS)?,
            sets: mapped(maps::SETS)?,
            slots: mapped(maps::SLOTS)?,
            backends4: mapped(maps::BACKENDS4)?,
            backends6: mapped(maps::BACKENDS6)?,
            grace: Grace::new()?,
            known: Known::new(),
        })
    }

    /// How much fits, for the planner's settings.
    pub fn limits(&self) -> Limits {
        Limits {
            frontends: self.frontends4.entries().min(self.frontends6.entries()),
            places: self.live.entries(),
            sets: self.sets.entries().min(self.maglev.entries()),
            slots: self.slots.entries(),
            backends: self.backends4.entries().min(self.backends6.entries()),
            members: self.members.entries(),
            ranges: self.ranges4.entries().min(self.ranges6.entries()),
            nodes: self.nodes.entries(),
        }
    }

    /// Plans, and carries out what was planned. After a failure call it again, later: it goes on from what was applied.
    ///
    /// Room that comes free with one step is there for what did not fit beside it.
    pub fn carry_out(&mut self, planner: &mut Incremental) -> Result<Report, Failure> {
        let mut report = self.carry_out_once(planner)?;
        let mut writes = report.done.writes;
        while !report.refused.is_empty() && writes > 0 {
            let next = self.carry_out_once(planner)?;
            writes = next.done.writes;
            report.refused = next.refused;
            report.done.waits += next.done.waits;
            report.done.writes += writes;
            report.done.deaths += next.done.deaths;
        }
        Ok(report)
    }

    fn carry_out_once(&mut self, planner: &mut Incremental) -> Result<Report, Failure> {
        let step = planner.step();
        let done = self.perform(&step.ops, planner, Incremental::image, Incremental::applied)?;
        Ok(Report {
            extent: step.extent,
            refused: step.refused,
            done,
        })
    }

    /// Carries out steps from this image, which is what the maps hold. What was done is done in it too.
    pub fn apply(&mut self, ops: &[Op], image: &mut MapImage) -> Result<Done, Failure> {
        self.perform(ops, image, |image| image, |image, op| apply(op, image))
    }

    fn perform<T>(
        &mut self,
        ops: &[Op],
        told: &mut T,
        image: fn(&T) -> &MapImage,
        applied: fn(&mut T, &Op),
    ) -> Result<Done, Failure> {
        let mut all = Done::default();
        let mut rest = ops;
        while let Some(lot) = write::lot(rest) {
            let result = self.write(lot, image(told));
            let done = result
                .as_ref()
                .map_or_else(|stopped| stopped.done, |()| lot.len());
            for op in lot.iter().take(done) {
                applied(told, op);
                all.waits += usize::from(*op == Op::Wait);
                all.writes += usize::from(*op != Op::Wait);
                all.deaths += usize::from(write::is_death(op));
            }
            if let (Err(stopped), Some(op)) = (result, lot.get(done)) {
                return Err(self.failure(op, stopped));
            }
            rest = rest.get(lot.len()..).unwrap_or_default();
        }
        Ok(all)
    }
}
