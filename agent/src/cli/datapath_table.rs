//! The part of `stentor status` about the load balancer in the kernel.

use std::fmt::Write as _;

use crate::api::view::{Datapath, DatapathHook};
use crate::datapath::frames::Unfit;

/// Maps that are at least so full are shown, in percent.
const NOTABLE: u64 = 50;

pub(super) fn lines(datapath: Option<&Datapath>) -> String {
    let Some(datapath) = datapath else {
        return "Load balancer off (kube-proxy-replacement is false): addresses are only announced\n"
            .to_owned();
    };
    let mut text = format!(
        "Load balancer {}: {} services, {} frontends, {} backends in the kernel; {} map writes\n",
        datapath.state, datapath.services, datapath.frontends, datapath.backends, datapath.writes
    );
    for device in &datapath.devices {
        let hooks: Vec<String> = device.hooks.iter().map(hook).collect();
        let _ = writeln!(text, "  device {}: {}", device.name, hooks.join(", "));
        // Without XDP nobody asks why it does not forward.
        if let (Some(by), Some(why)) = (&device.forwards, &device.forwards_why)
            && why.reason != Unfit::NoXdp.name()
        {
            let who = match by.as_str() {
                "xdp-back" => "tc, but for what XDP sends back where it came from",
                other => other,
            };
            let _ = writeln!(
                text,
                "    forwards to other nodes by {who}: {} ({})",
                why.message, why.reason
            );
        }
    }
    for device in &datapath.unused_devices {
        if device.name != "lo" {
            let _ = writeln!(
                text,
                "  device {} does not serve: {}",
                device.name, device.why.message
            );
        }
    }
    for map in &datapath.maps {
        let percent = u64::from(map.used) * 100 / u64::from(map.entries.max(1));
        if percent >= NOTABLE {
            let _ = writeln!(
                text,
                "  map {}: {} of {} entries ({percent} %)",
                map.name, map.used, map.entries
            );
        }
    }
    for feature in datapath.features.iter().filter(|feature| !feature.available) {
        let note = feature.note.as_deref().unwrap_or_default();
        let _ = writeln!(text, "  kernel without {}: {note}", feature.name);
    }
    text
}

fn hook(hook: &DatapathHook) -> String {
    match (&hook.mode, &hook.error) {
        (Some(mode), _) => {
            let note = hook
                .note
                .as_ref()
                .map_or_else(String::new, |note| format!(", because {note}"));
            format!("{} ({mode}{note})", hook.program)
        }
        (None, Some(error)) => format!("{} FAILED: {error}", hook.program),
        (None, None) => hook.program.clone(),
    }
}
