//! What goes wrong when a step is carried out, in words that say what to do.

use std::io;

use ebpf_datapath::diff::Op;

use super::Store;

/// A step that could not be carried out. Everything before it was, nothing behind it was.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The planner leaves what does not fit out, so another one writes there, or it was told other sizes.
    #[error(
        "the map {map} is full with {entries} entries, {op} does not fit: give it more (`{key}`); entries of others are to be removed"
    )]
    Full {
        map: &'static str,
        op: &'static str,
        entries: u32,
        key: &'static str,
    },
    #[error(
        "the map {map} ends at {entries}, {op} is beyond: give it more (`{key}`), or let the planner know its size"
    )]
    Beyond {
        map: &'static str,
        op: &'static str,
        entries: u32,
        key: &'static str,
    },
    #[error(
        "no memory in the kernel for {op} in the map {map}: raise the limit of the agent's memory; it is tried again"
    )]
    NoMemory {
        map: &'static str,
        op: &'static str,
        source: io::Error,
    },
    #[error("the kernel forbids {op} in the map {map} ({call}): the agent needs CAP_BPF or CAP_SYS_ADMIN")]
    Forbidden {
        map: &'static str,
        op: &'static str,
        call: &'static str,
        source: io::Error,
    },
    #[error("{op} in the map {map} failed ({call}): it is tried again")]
    Other {
        map: &'static str,
        op: &'static str,
        call: &'static str,
        source: io::Error,
    },
}

impl Failure {
    /// The map it happened at.
    pub fn map(&self) -> &'static str {
        match self {
            Self::Full { map, .. }
            | Self::Beyond { map, .. }
            | Self::NoMemory { map, .. }
            | Self::Forbidden { map, .. }
            | Self::Other { map, .. } => map,
        }
    }
}

/// What stopped a lot of steps.
#[derive(Debug)]
pub(super) enum Cause {
    Beyond,
    Refused { call: &'static str, source: io::Error },
}

impl Store {
    pub(super) fn failure(&self, op: &Op, stopped: super::write::Stopped) -> Failure {
        let (map, name) = describe(op);
        let key = key(map);
        match stopped.cause {
            Cause::Beyond => Failure::Beyond {
                map,
                op: name,
                entries: self.entries(op),
                key,
            },
            Cause::Refused { call, source } => match source.raw_os_error() {
                Some(libc::E2BIG | libc::ENOSPC) => Failure::Full {
                    map,
                    op: name,
                    entries: self.entries(op),
                    key,
                },
                Some(libc::ENOMEM) => Failure::NoMemory {
                    map,
                    op: name,
                    source,
                },
                Some(libc::EPERM | libc::EACCES) => Failure::Forbidden {
                    map,
                    op: name,
                    call,
                    source,
                },
                _ => Failure::Other {
                    map,
                    op: name,
                    call,
                    source,
                },
            },
        }
    }

    fn entries(&self, op: &Op) -> u32 {
        match op {
            Op::WriteConfig(_) => self.config.entries(),
            Op::WriteFilter { .. } => self.filter.entries(),
            Op::WriteNode { .. } => self.nodes.entries(),
            Op::WriteBackend4 { .. } => self.backends4.entries(),
            Op::WriteBackend6 { .. } => self.backends6.entries(),
            Op::AddRange4(_) | Op::RemoveRange4(_) => self.ranges4.entries(),
            Op::AddRange6(_) | Op::RemoveRange6(_) => self.ranges6.entries(),
            Op::WriteSlots { .. } | Op::ForgetSlots { .. } => self.slots.entries(),
            Op::WriteTable { .. } | Op::RemoveTable { .. } => self.maglev.entries(),
            Op::AddMember(_) | Op::RemoveMember(_) => self.members.entries(),
            Op::WriteSet { .. } | Op::RemoveSet { .. } => self.sets.entries(),
            Op::WriteLive { .. } => self.live.entries(),
            Op::WriteFrontend4 { .. } | Op::RemoveFrontend4(_) => self.frontends4.entries(),
            Op::WriteFrontend6 { .. } | Op::RemoveFrontend6(_) => self.frontends6.entries(),
            Op::Wait => 1,
        }
    }
}

/// The map of a step, and what the step is called.
fn describe(op: &Op) -> (&'static str, &'static str) {
    match op {
        Op::WriteConfig(_) => ("CONFIG", "writing the settings"),
        Op::WriteFilter { .. } => ("FILTER", "writing a word"),
        Op::WriteNode { .. } => ("NODES", "writing a node"),
        Op::WriteBackend4 { .. } => ("BACKENDS4", "writing a backend"),
        Op::WriteBackend6 { .. } => ("BACKENDS6", "writing a backend"),
        Op::AddRange4(_) => ("RANGES4", "adding a range"),
        Op::AddRange6(_) => ("RANGES6", "adding a range"),
        Op::RemoveRange4(_) => ("RANGES4", "removing a range"),
        Op::RemoveRange6(_) => ("RANGES6", "removing a range"),
        Op::WriteSlots { .. } | Op::ForgetSlots { .. } => ("SLOTS", "writing the members of a set"),
        Op::WriteTable { .. } => ("MAGLEV", "writing a table"),
        Op::RemoveTable { .. } => ("MAGLEV", "removing a table"),
        Op::AddMember(_) => ("MEMBERS", "adding a member"),
        Op::RemoveMember(_) => ("MEMBERS", "removing a member"),
        Op::WriteSet { .. } | Op::RemoveSet { .. } => ("SETS", "writing a set"),
        Op::WriteLive { .. } => ("LIVE_FRONTENDS", "writing the id of a frontend"),
        Op::WriteFrontend4 { .. } => ("FRONTENDS4", "writing a frontend"),
        Op::WriteFrontend6 { .. } => ("FRONTENDS6", "writing a frontend"),
        Op::RemoveFrontend4(_) => ("FRONTENDS4", "removing a frontend"),
        Op::RemoveFrontend6(_) => ("FRONTENDS6", "removing a frontend"),
        Op::Wait => ("of grace periods", "waiting for programs that run"),
    }
}

/// The setting that says how large a map is.
fn key(map: &str) -> &'static str {
    match map {
        "BACKENDS4" | "BACKENDS6" => "bpf-lb-service-backend-map-max",
        "MEMBERS" => "bpf-lb-affinity-map-max",
        "MAGLEV" => "bpf-lb-maglev-map-max",
        "RANGES4" | "RANGES6" => "bpf-lb-source-range-map-max",
        _ => "bpf-lb-map-max",
    }
}
