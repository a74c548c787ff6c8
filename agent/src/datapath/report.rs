//! What the task tells the loop, the API and the metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crds::cilium_node::FullMap;
use ebpf_abi::DropReason;
use ebpf_abi::config::{ANSWERED, Direction, FORGONE, FORWARDED, HELD, RELEASED, counter, drop_counter};
use ebpf_abi::maps;
use ebpf_datapath::image::MapImage;
use ebpf_datapath::{Limits, Socket};
use ebpf_loader::{Fill, MapFd, Support};

use super::frames::Out;
use super::hooks::Hooked;
use crate::problem::Problem;

/// So many Services that do not fit are named at the CiliumNode, which everybody may read.
const NAMED: usize = 128;

/// One look at the datapath. Replaced as a whole.
#[derive(Debug, Clone, Default)]
pub struct Report {
    pub state: State,
    /// Everything up to the letter of this number was looked at, with or without success.
    pub number: u64,
    /// Frontends as they were read back from the maps.
    pub served: Arc<BTreeSet<Socket>>,
    pub devices: Vec<Hooked>,
    /// Who forwards what leaves by a device, by its index.
    pub out: BTreeMap<u32, Out>,
    /// Devices that do not serve, and why not.
    pub unused: BTreeMap<String, super::devices::Unused>,
    pub problems: Vec<Problem>,
    pub features: Vec<(ebpf_loader::Feature, Support)>,
    pub counts: Counts,
    /// Services that do not fit, as of the last time that all was written; `None`: it never was.
    pub refused: Option<Arc<[FullMap]>>,
    /// By map that the agent fills.
    pub pressure: BTreeMap<&'static str, Pressure>,
    /// Of maps that programs fill, as of now.
    pub fills: Option<Arc<[Fill]>>,
    /// Elements written and removed since the start.
    pub writes: u64,
    /// Sockets ended because their backend went, as of now.
    pub ended: Arc<AtomicU64>,
    pub counters: Option<Arc<MapFd>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Off,
    /// Nothing was loaded yet.
    Starting,
    On,
    /// It is tried again; what is in the kernel goes on.
    Broken,
}

impl State {
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::On => "on",
            Self::Broken => "broken",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub services: usize,
    pub frontends: usize,
    pub backends: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    pub used: u32,
    pub entries: u32,
}

/// What the programs counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    pub direction: &'static str,
    /// `None`: it was forwarded.
    pub reason: Option<DropReason>,
    pub packets: u64,
    pub bytes: u64,
}

impl Report {
    /// Packets that the programs made themselves: echo replies, resets, ICMP errors.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.packets(ANSWERED)
    }

    /// Packets of flows that have no entry, because too many began at once.
    #[must_use]
    pub fn forgone(&self) -> u64 {
        self.packets(FORGONE)
    }

    /// Later fragments that came before their first and were kept, and those of them that went on after it.
    #[must_use]
    pub fn fragments(&self) -> (u64, u64) {
        (self.packets(HELD), self.packets(RELEASED))
    }

    /// How full all maps are, by name.
    #[must_use]
    pub fn pressures(&self) -> BTreeMap<&'static str, Pressure> {
        let fills = self.fills.iter().flat_map(|fills| fills.iter());
        let filled = fills.map(|fill| {
            let (used, entries) = (fill.used(), fill.entries);
            (fill.map, Pressure { used, entries })
        });
        self.pressure.clone().into_iter().chain(filled).collect()
    }

    /// What came in, and became this.
    fn packets(&self, what: u8) -> u64 {
        let place = counter(Direction::Ingress, what);
        let counted = self
            .counters
            .as_ref()
            .and_then(|counters| counters.counter(place).ok());
        counted.map_or(0, |counted| counted.packets)
    }

    /// The counters as they are now; those that stand at zero are left out.
    #[must_use]
    pub fn traffic(&self) -> Vec<Traffic> {
        let Some(counters) = &self.counters else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (direction, name) in [(Direction::Ingress, "INGRESS"), (Direction::Egress, "EGRESS")] {
            let forwarded = (None, counter(direction, FORWARDED));
            let dropped = DropReason::ALL
                .iter()
                .map(|reason| (Some(*reason), drop_counter(direction, *reason)));
            for (reason, place) in std::iter::once(forwarded).chain(dropped) {
                let Ok(counted) = counters.counter(place) else {
                    continue;
                };
                if counted.packets > 0 {
                    all.push(Traffic {
                        direction: name,
                        reason,
                        packets: counted.packets,
                        bytes: counted.bytes,
                    });
                }
            }
        }
        all
    }
}

/// What does not fit, by map: the first [`NAMED`] Services by name, and how many more.
pub(super) fn full_maps(refused: &[ebpf_datapath::Problem]) -> Arc<[FullMap]> {
    let of = refused.iter().filter_map(|problem| match problem {
        ebpf_datapath::Problem::MapFull {
            service, map, limit, ..
        } => Some(((service, *map), *limit)),
        _ => None,
    });
    let mut full: BTreeMap<&str, FullMap> = BTreeMap::new();
    // By Service: each has its share of those that are named.
    let sorted: BTreeMap<_, _> = of.collect();
    for (number, ((service, map), limit)) in sorted.into_iter().enumerate() {
        let told = full.entry(map).or_insert_with(|| FullMap {
            map: map.to_owned(),
            limit: i64::from(limit),
            ..FullMap::default()
        });
        if number < NAMED {
            told.services.push(service.to_string());
        } else {
            *told.more.get_or_insert(0) += 1;
        }
    }
    full.into_values().collect()
}

/// How full the maps are that the agent fills.
pub(super) fn pressure(image: &MapImage, limits: &Limits) -> BTreeMap<&'static str, Pressure> {
    let slots: usize = image.slots.values().map(|run| run.len()).sum();
    [
        (maps::BACKENDS4, image.backends4.len(), limits.backends),
        (maps::BACKENDS6, image.backends6.len(), limits.backends),
        (maps::FRONTENDS4, image.frontends4.len(), limits.frontends),
        (maps::FRONTENDS6, image.frontends6.len(), limits.frontends),
        (maps::MEMBERS, image.members.len(), limits.members),
        (maps::RANGES4, image.ranges4.len(), limits.ranges),
        (maps::RANGES6, image.ranges6.len(), limits.ranges),
        (maps::SETS, image.sets.len(), limits.sets),
        (maps::SLOTS, slots, limits.slots),
        (maps::NODES, image.nodes.len(), limits.nodes),
    ]
    .into_iter()
    .map(|(map, used, entries)| {
        let used = u32::try_from(used).unwrap_or(u32::MAX);
        (map.name, Pressure { used, entries })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use ebpf_datapath::{Problem, ServiceName};

    use super::*;

    fn full(name: &str, map: &'static str) -> Problem {
        Problem::MapFull {
            service: ServiceName {
                namespace: "ns".into(),
                name: name.into(),
            },
            map,
            used: 1000,
            needed: 30,
            limit: 1024,
        }
    }

    #[test]
    fn what_does_not_fit_is_told_by_map_and_of_many_services_the_number() {
        let nodes = Problem::NodesFull {
            node: "n".to_owned(),
            limit: 1,
        };
        assert_eq!(full_maps(&[nodes]).len(), 0);
        let names: Vec<String> = (0..NAMED + 3).map(|number| format!("s{number:04}")).collect();
        let mut refused: Vec<Problem> = names.iter().map(|name| full(name, "SETS")).collect();
        refused.insert(5, full("a", "FRONTENDS4"));
        let told = full_maps(&refused);
        let [frontends, sets] = &*told else {
            panic!("{told:?}");
        };
        assert_eq!(
            (frontends.services.as_slice(), frontends.more),
            (&["ns/a".to_owned()][..], None)
        );
        assert_eq!(
            (sets.map.as_str(), sets.limit, sets.more),
            ("SETS", 1024, Some(4))
        );
        assert_eq!(sets.services.len(), NAMED - 1);
        assert_eq!(sets.services[0], "ns/s0000");
        refused.reverse();
        assert_eq!(full_maps(&refused), told);
    }
}
