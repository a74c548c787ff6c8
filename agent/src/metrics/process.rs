//! What the kernel counts of this process.

use std::fs;

use super::exposition::{Kind, Page};

/// Unit of the times in `/proc/self/stat`: fixed by the kernel's interface.
const TICKS_PER_SECOND: f64 = 100.0;

/// What can't be read is left out.
pub(crate) fn write(page: &mut Page) {
    if let Some(bytes) = resident_bytes() {
        page.family(
            "process_resident_memory_bytes",
            Kind::Gauge,
            "Resident memory size in bytes.",
        );
        page.sample(&[], bytes);
    }
    if let Some(seconds) = cpu_seconds() {
        page.family(
            "process_cpu_seconds_total",
            Kind::Counter,
            "Total user and system CPU time spent in seconds.",
        );
        page.sample(&[], seconds);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        page.family(
            "process_open_fds",
            Kind::Gauge,
            "Number of open file descriptors.",
        );
        page.sample(&[], descriptors.count());
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Fields 14 and 15; the name in field 2 may hold blanks, so counting starts behind it.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}
