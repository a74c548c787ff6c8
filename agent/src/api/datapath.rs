//! The load balancer in the kernel, for `stentor status`.

use ebpf_loader::Support;

use super::snapshot::Snapshot;
use super::view::{Datapath, DatapathDevice, DatapathHook, DatapathMap, Feature, UnusedDevice, Why};
use crate::config::datapath::Switch;
use crate::datapath::hooks::Came;

/// `None`: it is off.
#[must_use]
pub fn datapath(snapshot: &Snapshot) -> Option<Datapath> {
    if snapshot.config.datapath.switch == Switch::Off {
        return None;
    }
    let report = &snapshot.datapath;
    let devices = report.devices.iter().map(|device| DatapathDevice {
        name: device.name.clone(),
        hooks: device
            .hooks
            .iter()
            .map(|(hook, came)| {
                let (mode, note, error) = match came {
                    Came::Hangs { mode, fell_back } => {
                        (Some(mode.name().to_owned()), fell_back.clone(), None)
                    }
                    Came::Occupied => (
                        None,
                        None,
                        Some("another XDP program is there and stays".to_owned()),
                    ),
                    Came::Failed(why) => (None, None, Some(why.clone())),
                };
                DatapathHook {
                    program: hook.program().to_owned(),
                    mode,
                    note,
                    error,
                }
            })
            .collect(),
        forwards: report.out.get(&device.index).map(|out| out.name().to_owned()),
        forwards_why: report
            .out
            .get(&device.index)
            .and_then(|out| out.unfit())
            .map(|why| Why {
                reason: why.name().to_owned(),
                message: why.to_string(),
            }),
    });
    let unused = report.unused.iter().map(|(name, why)| UnusedDevice {
        name: name.clone(),
        why: Why {
            reason: why.name().to_owned(),
            message: why.to_string(),
        },
    });
    let maps = report
        .pressures()
        .into_iter()
        .map(|(name, pressure)| DatapathMap {
            name: name.to_owned(),
            used: pressure.used,
            entries: pressure.entries,
        });
    let features = report.features.iter().map(|(feature, support)| Feature {
        name: feature.name().to_owned(),
        available: *support == Support::Used,
        note: match support {
            Support::Used => None,
            Support::Missing(said) => Some(format!("kernels since {} have it: {said}", feature.since())),
        },
    });
    Some(Datapath {
        state: report.state.as_str().to_owned(),
        services: report.counts.services,
        frontends: report.counts.frontends,
        backends: report.counts.backends,
        writes: report.writes,
        devices: devices.collect(),
        unused_devices: unused.collect(),
        maps: maps.collect(),
        features: features.collect(),
    })
}
