//! How large the maps are, by the settings and by the memory of the machine.
//!
//! The keys are Cilium's. Where its maps and ours differ, its number is taken for what it is meant to bound:
//!
//! ```text
//! bpf-lb-map-max                    all of the next six, where they are not given
//! bpf-lb-service-map-max            FRONTENDS, SETS; both families together LIVE_FRONTENDS; 16 for each SLOTS
//! bpf-lb-service-backend-map-max    BACKENDS
//! bpf-lb-affinity-map-max           AFFINITY, MEMBERS
//! bpf-lb-source-range-map-max       RANGES
//! bpf-lb-maglev-map-max             MAGLEV
//! bpf-ct-global-tcp-max, -any-max   FLOWS, their sum: connections and translations are one map here
//!                                   OPENING, a twenty-fourth of that
//! bpf-fragments-map-max             FRAGMENTS
//! ```
//!
//! What a connection needs is given by a share of the memory (`bpf-map-dynamic-size-ratio`) where no number is.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ebpf_abi::id::MAX_PLACES;
use ebpf_abi::maps::{self, Map};

/// What the settings say; `None` where they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapSizes {
    /// (`bpf-lb-map-max`)
    pub balancing: Option<u32>,
    /// (`bpf-lb-service-map-max`)
    pub services: Option<u32>,
    /// (`bpf-lb-service-backend-map-max`)
    pub backends: Option<u32>,
    /// (`bpf-lb-affinity-map-max`)
    pub affinity: Option<u32>,
    /// (`bpf-lb-source-range-map-max`)
    pub source_ranges: Option<u32>,
    /// (`bpf-lb-maglev-map-max`)
    pub maglev: Option<u32>,
    /// (`bpf-ct-global-tcp-max`)
    pub tcp: Option<u32>,
    /// (`bpf-ct-global-any-max`)
    pub any: Option<u32>,
    /// (`bpf-fragments-map-max`)
    pub fragments: Option<u32>,
    /// (`bpf-map-dynamic-size-ratio`)
    pub ratio: Ratio,
    /// Octets that the machine has.
    pub memory: u64,
}

/// A share of the memory; 0 = sizes do not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ratio {
    millionths: u32,
}

/// Not a number from 0 to 1 with at most six digits behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a share from 0 to 1, such as 0.0025")]
pub struct BadRatio;

/// A size that cannot be. The nearest one that can is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {asked}, which is not from {least} to {most}: {used} is used")]
pub struct BadSize {
    pub key: &'static str,
    pub asked: u32,
    pub least: u32,
    pub most: u32,
    pub used: u32,
}

/// The key that bounds a map, by name of the map; `None`: its size is fixed. `bpf-lb-map-max` does the same for those that
/// are the balancer's, where it is the only one.
#[must_use]
pub fn key(map: &str) -> Option<&'static str> {
    let of = |maps: &[Map]| maps.iter().any(|known| known.name == map);
    let all: [(&str, &[Map]); 4] = [
        (
            "bpf-lb-service-map-max",
            &[
                maps::FRONTENDS4,
                maps::FRONTENDS6,
                maps::SETS,
                maps::LIVE_FRONTENDS,
                maps::SLOTS,
            ],
        ),
        (
            "bpf-lb-service-backend-map-max",
            &[maps::BACKENDS4, maps::BACKENDS6],
        ),
        (
            "bpf-lb-affinity-map-max",
            &[maps::AFFINITY4, maps::AFFINITY6, maps::MEMBERS],
        ),
        ("bpf-lb-source-range-map-max", &[maps::RANGES4, maps::RANGES6]),
    ];
    all.into_iter().find(|(_, maps)| of(maps)).map(|(key, _)| key)
}

/// Bounds of every map.
const BOUNDS: RangeInclusive<u32> = 1 << 10..=1 << 24;

/// Ids have room for so many.
const PLACES: RangeInclusive<u32> = 1 << 10..=MAX_PLACES;

/// Members of all sets, for each frontend.
const SLOTS_EACH: u32 = 16;

/// Connections that open, as a part of all: small enough that a flood of them stays in the processor's cache.
const OPENING_SHARE: u32 = 24;

/// What Cilium shares a part of the memory among: entries by default, and octets of each.
const SHARED: [(u64, u64); 5] = [TCP, ANY, (524_288, 94), (524_288, 24), (262_144, 48)];
const TCP: (u64, u64) = (524_288, 94);
const ANY: (u64, u64) = (262_144, 94);

/// Fewer are not made, however little memory there is.
const LEAST_TCP: u32 = 131_072;
const LEAST_ANY: u32 = 65_536;

impl MapSizes {
    /// Entries of the maps that settings can change, by name, and what is wrong with the settings.
    pub fn entries(&self) -> (BTreeMap<&'static str, u32>, Vec<BadSize>) {
        let mut bad = Vec::new();
        let mut bound = |key, asked: u32, bounds: RangeInclusive<u32>| {
            let used = asked.clamp(*bounds.start(), *bounds.end());
            if used != asked {
                let (least, most) = bounds.into_inner();
                bad.push(BadSize {
                    key,
                    asked,
                    least,
                    most,
                    used,
                });
            }
            used
        };
        let mut or_all = |key, own: Option<u32>, map: Map, bounds| match (own, self.balancing) {
            (Some(own), _) => bound(key, own, bounds),
            (None, Some(all)) => bound("bpf-lb-map-max", all, bounds),
            (None, None) => map.entries,
        };
        // A frontend of each family has a place, and places are what ids have room for.
        let half = 1 << 10..=MAX_PLACES / 2;
        let services = or_all("bpf-lb-service-map-max", self.services, maps::FRONTENDS4, half);
        let backends = or_all(
            "bpf-lb-service-backend-map-max",
            self.backends,
            maps::BACKENDS4,
            PLACES,
        );
        let affinity = or_all("bpf-lb-affinity-map-max", self.affinity, maps::AFFINITY4, BOUNDS);
        let ranges = or_all(
            "bpf-lb-source-range-map-max",
            self.source_ranges,
            maps::RANGES4,
            BOUNDS,
        );
        let maglev = or_all("bpf-lb-maglev-map-max", self.maglev, maps::MAGLEV, PLACES);
        let mut own = |key, own: Option<u32>, otherwise: u32| match own {
            Some(own) => bound(key, own, BOUNDS),
            None => otherwise,
        };
        let tcp = own("bpf-ct-global-tcp-max", self.tcp, self.share(TCP, LEAST_TCP));
        let any = own("bpf-ct-global-any-max", self.any, self.share(ANY, LEAST_ANY));
        let fragments = own("bpf-fragments-map-max", self.fragments, maps::FRAGMENTS4.entries);
        let flows = tcp.saturating_add(any).min(*BOUNDS.end());
        let opening = (flows / OPENING_SHARE).max(*BOUNDS.start());
        let slots = services.saturating_mul(SLOTS_EACH).min(*BOUNDS.end());
        // One of all the bad ones is enough.
        bad.dedup_by_key(|bad| bad.key);
        let entries = [
            (services, &[maps::FRONTENDS4, maps::FRONTENDS6, maps::SETS][..]),
            (services * 2, &[maps::LIVE_FRONTENDS]),
            (slots, &[maps::SLOTS]),
            (backends, &[maps::BACKENDS4, maps::BACKENDS6]),
            (affinity, &[maps::AFFINITY4, maps::AFFINITY6, maps::MEMBERS]),
            (ranges, &[maps::RANGES4, maps::RANGES6]),
            (maglev, &[maps::MAGLEV]),
            (flows, &[maps::FLOWS4, maps::FLOWS6]),
            (opening, &[maps::OPENING4, maps::OPENING6]),
            (fragments, &[maps::FRAGMENTS4, maps::FRAGMENTS6]),
        ];
        let entries = entries
            .into_iter()
            .flat_map(|(entries, maps)| maps.iter().map(move |map| (map.name, entries)));
        (entries.collect(), bad)
    }

    /// Entries of one of those that share the memory.
    fn share(&self, (entries, _): (u64, u64), least: u32) -> u32 {
        if self.ratio == Ratio::default() || self.memory == 0 {
            return u32::try_from(entries).unwrap_or(u32::MAX);
        }
        let room = u128::from(self.memory) * u128::from(self.ratio.millionths) / 1_000_000;
        let all: u64 = SHARED.iter().map(|(entries, octets)| entries * octets).sum();
        let share = u128::from(entries) * room / u128::from(all);
        u32::try_from(share)
            .unwrap_or(u32::MAX)
            .clamp(least, *BOUNDS.end())
    }
}

impl FromStr for Ratio {
    type Err = BadRatio;

    fn from_str(text: &str) -> Result<Self, BadRatio> {
        let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
        let number = |text: &str| match text {
            "" => Ok(0),
            text if text.bytes().all(|octet| octet.is_ascii_digit()) => {
                text.parse::<u32>().map_err(|_| BadRatio)
            }
            _ => Err(BadRatio),
        };
        if text.is_empty() || text == "." || digits.len() > 6 {
            return Err(BadRatio);
        }
        let millionths = number(&format!("{digits:0<6}"))?;
        match number(whole)? {
            0 => Ok(Self { millionths }),
            1 if millionths == 0 => Ok(Self {
                millionths: 1_000_000,
            }),
            _ => Err(BadRatio),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn entries(sizes: &MapSizes, map: Map) -> u32 {
        let (entries, bad) = sizes.entries();
        assert_eq!(bad, []);
        entries[map.name]
    }

    #[test]
    fn a_map_that_a_service_may_not_fit_into_is_sized_by_the_key_that_is_named() {
        let sized = |balancing: u32| {
            let sizes = MapSizes {
                balancing: Some(balancing),
                ..MapSizes::default()
            };
            sizes.entries().0
        };
        let (small, large) = (sized(2048), sized(4096));
        for map in small.keys() {
            let grows = small[map] != large[map];
            assert_eq!(key(map).is_some() || *map == maps::MAGLEV.name, grows, "{map}");
        }
        let one = MapSizes {
            services: Some(2048),
            ..MapSizes::default()
        };
        let default = MapSizes::default().entries().0;
        for (map, entries) in one.entries().0 {
            let own = key(map) == Some("bpf-lb-service-map-max");
            assert_eq!(own, entries != default[map], "{map}");
        }
        assert_eq!(key("NODES"), None);
    }

    #[test]
    fn without_settings_the_table_of_maps_holds() {
        let (entries, bad) = MapSizes::default().entries();
        assert_eq!(bad, []);
        for map in maps::ALL {
            let flows = map.name.starts_with("FLOWS");
            if let Some(entries) = entries.get(map.name).filter(|_| !flows) {
                assert_eq!(*entries, map.entries, "{}", map.name);
            }
        }
    }

    #[test]
    fn connections_get_the_share_of_the_memory_that_cilium_gives_them() {
        let with = |memory| MapSizes {
            ratio: "0.0025".parse().expect("a share"),
            memory: memory * GIB,
            ..MapSizes::default()
        };
        for (memory, tcp) in [(30, 284_560), (60, 569_120), (120, 1_138_240), (240, 2_276_480)] {
            assert_eq!(
                with(memory).share(TCP, LEAST_TCP).abs_diff(tcp) * 1000 / tcp,
                0,
                "{memory}"
            );
        }
        assert_eq!(with(2).share(TCP, LEAST_TCP), LEAST_TCP);
        assert_eq!(entries(&with(2), maps::FLOWS6), LEAST_TCP + LEAST_ANY);
    }

    #[test]
    fn numbers_win_over_the_share_and_their_own_key_over_the_one_for_all() {
        let sizes = MapSizes {
            balancing: Some(2048),
            backends: Some(4096),
            tcp: Some(10_000),
            any: Some(5000),
            ratio: "0.1".parse().expect("a share"),
            memory: 64 * GIB,
            ..MapSizes::default()
        };
        assert_eq!(entries(&sizes, maps::FRONTENDS6), 2048);
        assert_eq!(entries(&sizes, maps::LIVE_FRONTENDS), 4096);
        assert_eq!(entries(&sizes, maps::SLOTS), 32_768);
        assert_eq!(entries(&sizes, maps::BACKENDS4), 4096);
        assert_eq!(entries(&sizes, maps::FLOWS4), 15_000);
    }

    #[test]
    fn a_size_that_cannot_be_is_named_and_the_nearest_is_used() {
        let sizes = MapSizes {
            balancing: Some(5),
            tcp: Some(u32::MAX),
            ..MapSizes::default()
        };
        let (entries, bad) = sizes.entries();
        let keys: Vec<_> = bad.iter().map(|bad| (bad.key, bad.used)).collect();
        assert_eq!(
            keys,
            [("bpf-lb-map-max", 1024), ("bpf-ct-global-tcp-max", 1 << 24)]
        );
        assert_eq!(entries["BACKENDS4"], 1024);
        assert_eq!(entries["FLOWS4"], 1 << 24);
    }

    #[test]
    fn a_share_is_read_as_it_is_written() {
        let millionths = |text: &str| text.parse::<Ratio>().map(|ratio| ratio.millionths);
        assert_eq!(millionths("0.0025"), Ok(2500));
        assert_eq!(millionths("0"), Ok(0));
        assert_eq!(millionths("1.0"), Ok(1_000_000));
        assert_eq!(millionths(".5"), Ok(500_000));
        for bad in ["", ".", "1.5", "-0.1", "0.00000001", "+1", "a", "2"] {
            assert_eq!(millionths(bad), Err(BadRatio), "{bad}");
        }
    }
}
