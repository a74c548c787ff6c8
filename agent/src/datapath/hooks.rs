//! Which programs hang at which devices.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_loader::{Attached, Datapath, Error, Hook, Mode};

use super::devices::Device;
use crate::config::datapath::Acceleration;
use crate::problem::{Problem, Severity};
use crate::source::kube::chain;

/// A device that serves, or should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooked {
    pub index: u32,
    pub name: String,
    /// With what it came to.
    pub hooks: BTreeMap<Hook, Came>,
}

/// What hanging a program somewhere came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    Hangs {
        mode: Mode,
        /// What the kernel said to a better mode.
        fell_back: Option<String>,
    },
    /// Somebody else's XDP program is there, and stays; tc does the work.
    Occupied,
    /// It is tried again.
    Failed(String),
}

/// What hangs where, as far as this run knows.
#[derive(Debug, Default)]
pub struct Hooks {
    devices: BTreeMap<u32, Hooked>,
    others: Others,
}

/// What programs of other versions of the layouts left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Others {
    #[default]
    Unknown,
    /// Removed, or what stands in the way was said.
    SeenTo,
}

/// The hooks that a device is to have.
fn wanted(acceleration: Acceleration) -> &'static [Hook] {
    match acceleration {
        Acceleration::Disabled => &[Hook::Ingress, Hook::Egress],
        Acceleration::Native | Acceleration::BestEffort => &[Hook::Xdp, Hook::Ingress, Hook::Egress],
    }
}

impl Hooks {
    /// Hangs programs at these devices, and takes them off all others. What comes from pods has sums that are yet to be made,
    /// and is not for XDP.
    pub fn follow(
        &mut self,
        datapath: &mut Datapath,
        devices: &[&Device],
        pods: &[&Device],
        acceleration: Acceleration,
    ) {
        let serving = devices.iter().map(|device| (*device, acceleration));
        let leading = pods.iter().map(|device| (*device, Acceleration::Disabled));
        let devices: Vec<(&Device, Acceleration)> = serving.chain(leading).collect();
        let indices: BTreeSet<u32> = devices.iter().map(|(device, _)| device.index).collect();
        match datapath.detach_others(&indices) {
            Ok(taken) => {
                for taken in taken {
                    tracing::info!(program = taken.program, index = taken.index, "taken off a device");
                }
            }
            Err(error) => tracing::warn!(
                error = chain(&error),
                "programs may be left at devices that do not serve"
            ),
        }
        self.devices.retain(|index, _| indices.contains(index));
        for (device, acceleration) in devices {
            let hooked = self.devices.entry(device.index).or_insert_with(|| Hooked {
                index: device.index,
                name: device.name.clone(),
                hooks: BTreeMap::new(),
            });
            hooked.name.clone_from(&device.name);
            let wanted = wanted(acceleration);
            for hook in Hook::ALL.into_iter().filter(|hook| !wanted.contains(hook)) {
                // What an earlier run hung there is unknown to this one.
                if let Err(error) = datapath.detach(hook, &device.name, device.index) {
                    tracing::warn!(
                        error = chain(&error),
                        device = device.name,
                        "a program can not be taken off"
                    );
                }
                hooked.hooks.remove(&hook);
            }
            for hook in wanted {
                match hooked.hooks.get(hook) {
                    Some(Came::Hangs { .. } | Came::Occupied) => {}
                    None | Some(Came::Failed(_)) => {
                        let came = came(datapath.attach(*hook, &device.name, device.index));
                        hooked.hooks.insert(*hook, came);
                    }
                }
            }
        }
    }

    /// Removes what other versions of the layouts left, once everything hangs that is to hang: what is still in use has been
    /// taken over by then.
    pub fn see_to_others(&mut self, datapath: &Datapath) {
        if self.others == Others::SeenTo || self.has_failed() {
            return;
        }
        self.others = Others::SeenTo;
        match datapath.drop_other_versions() {
            Ok(dropped) => dropped.iter().for_each(|dropped| tracing::warn!("{dropped}")),
            Err(error) => tracing::warn!(
                error = chain(&error),
                "what another version of the layouts left can not be removed"
            ),
        }
    }

    pub fn devices(&self) -> Vec<Hooked> {
        self.devices.values().cloned().collect()
    }

    /// How XDP hangs, where it does.
    pub fn xdp(&self) -> BTreeMap<u32, Mode> {
        let hangs = |hooked: &Hooked| match hooked.hooks.get(&Hook::Xdp) {
            Some(Came::Hangs { mode, .. }) => Some((hooked.index, *mode)),
            Some(Came::Occupied | Came::Failed(_)) | None => None,
        };
        self.devices.values().filter_map(hangs).collect()
    }

    /// Whether something is to be tried again.
    pub fn has_failed(&self) -> bool {
        let mut all = self.devices.values().flat_map(|hooked| hooked.hooks.values());
        all.any(|came| matches!(came, Came::Failed(_)))
    }

    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for hooked in self.devices.values() {
            let device = &hooked.name;
            for (hook, came) in &hooked.hooks {
                match came {
                    Came::Failed(why) => problems.push(Problem::here(
                        Severity::Error,
                        "program-not-attached",
                        format!("{device}: {why}; it is tried again"),
                    )),
                    Came::Occupied => problems.push(Problem::here(
                        Severity::Warning,
                        "xdp-occupied",
                        format!("{device}: another XDP program is there and stays; packets are balanced after it, by tc"),
                    )),
                    Came::Hangs {
                        mode: Mode::Generic, ..
                    } => problems.push(Problem::here(
                        Severity::Warning,
                        "xdp-generic",
                        format!(
                            "{device}: its driver takes no XDP programs, so {} runs after the driver, which is slower \
                             than without it; set bpf-lb-acceleration to disabled, or leave the device out",
                            hook.program()
                        ),
                    )),
                    Came::Hangs {
                        mode: Mode::Native | Mode::Tcx | Mode::Filter,
                        ..
                    } => {}
                }
            }
        }
        problems
    }
}

fn came(attached: Result<Attached, Error>) -> Came {
    match attached {
        Ok(attached) => Came::Hangs {
            mode: attached.mode,
            fell_back: attached.fell_back,
        },
        Err(Error::Occupied { .. }) => Came::Occupied,
        Err(error) => Came::Failed(chain(&error)),
    }
}
