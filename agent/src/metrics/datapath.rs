//! The load balancer in the kernel: what it dropped and forwarded, and how full its maps are. Names are Cilium's.

use std::sync::atomic::Ordering;

use super::exposition::{Kind, Page};
use crate::api::snapshot::Snapshot;
use crate::config::datapath::Switch;
use crate::datapath::report::{State, Traffic};

pub(super) fn write(page: &mut Page, snapshot: &Snapshot) {
    if snapshot.config.datapath.switch == Switch::Off {
        return;
    }
    let report = &snapshot.datapath;
    page.family(
        "stentor_datapath_up",
        Kind::Gauge,
        "1 when the load balancer in the kernel is as it should be",
    );
    page.sample(&[], u64::from(report.state == State::On));
    page.family(
        "stentor_datapath_writes_total",
        Kind::Counter,
        "Elements of maps written and removed since the start",
    );
    page.sample(&[], report.writes);
    page.family(
        "stentor_datapath_sockets_ended_total",
        Kind::Counter,
        "Sockets ended because their backend went",
    );
    page.sample(&[], report.ended.load(Ordering::Relaxed));
    page.family(
        "stentor_datapath_answers_total",
        Kind::Counter,
        "Echo replies, resets and ICMP errors that the programs made",
    );
    page.sample(&[], report.answers());
    page.family(
        "stentor_datapath_forgone_packets_total",
        Kind::Counter,
        "Packets of flows by direct return that went on without an entry, because too many began at once",
    );
    page.sample(&[], report.forgone());
    let (held, released) = report.fragments();
    for (name, help, packets) in [
        (
            "stentor_datapath_fragments_held_total",
            "Fragments that came before the first of their datagram, and were kept",
            held,
        ),
        (
            "stentor_datapath_fragments_released_total",
            "Those of them whose first came in time",
            released,
        ),
    ] {
        page.family(name, Kind::Counter, help);
        page.sample(&[], packets);
    }
    page.family(
        "cilium_bpf_map_pressure",
        Kind::Gauge,
        "Fill percentage of map, as a number from 0 to 1",
    );
    for (map, pressure) in report.pressures() {
        let share = f64::from(pressure.used) / f64::from(pressure.entries.max(1));
        page.sample(&[("map_name", map)], share);
    }
    for (name, help, value) in [
        (
            "stentor_datapath_services",
            "Services with frontends in the maps",
            report.counts.services,
        ),
        (
            "stentor_datapath_frontends",
            "Frontends in the maps",
            report.counts.frontends,
        ),
        (
            "stentor_datapath_backends",
            "Backends in the maps",
            report.counts.backends,
        ),
    ] {
        page.family(name, Kind::Gauge, help);
        page.sample(&[], super::as_u64(value));
    }
    traffic(page, &report.traffic());
}

fn traffic(page: &mut Page, traffic: &[Traffic]) {
    type Pick = fn(&Traffic) -> u64;
    let forwarded: [(&str, &str, Pick); 2] = [
        ("cilium_forward_count_total", "Total forwarded packets", |one| {
            one.packets
        }),
        ("cilium_forward_bytes_total", "Total forwarded bytes", |one| {
            one.bytes
        }),
    ];
    for (name, help, pick) in forwarded {
        page.family(name, Kind::Counter, help);
        for one in traffic.iter().filter(|one| one.reason.is_none()) {
            page.sample(&[("direction", one.direction)], pick(one));
        }
    }
    let dropped: [(&str, &str, Pick); 2] = [
        ("cilium_drop_count_total", "Total dropped packets", |one| {
            one.packets
        }),
        ("cilium_drop_bytes_total", "Total dropped bytes", |one| one.bytes),
    ];
    for (name, help, pick) in dropped {
        page.family(name, Kind::Counter, help);
        for one in traffic {
            if let Some(reason) = one.reason {
                page.sample(
                    &[("direction", one.direction), ("reason", reason.text())],
                    pick(one),
                );
            }
        }
    }
}
