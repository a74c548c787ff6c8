//! What this kernel offers, by trying it: a table for people, and for the choice of what falls back.
//!
//! Two columns are not the kernel's but a device's: whether XDP runs in its driver, and whether programs hang by links. What
//! [`Datapath::attach`](crate::Datapath::attach) came to says it.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::programs::{ProgramType, SchedClassifier, TcAttachType};
use aya::sys::{BpfHelper, is_helper_supported, is_program_supported};

use crate::diag::Diag;
use crate::kernel::{
    self, Batch, Command, Create, INNER_MAP, MMAPABLE, address, array, array_of_maps, bpf, bpf_fd, number,
};

/// Something a kernel may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Type information of the kernel.
    Btf,
    /// Programs before the stack.
    Xdp,
    /// Links for tc programs, which are replaced without a gap.
    Tcx,
    /// Programs at the calls of sockets.
    CgroupHooks,
    /// Thousands of elements per call.
    Batch,
    /// Arrays that are written in place.
    MappedArrays,
    /// Maps that forget what was not used for longest.
    Lru,
    /// Maglev tables of any length, each replaced at once.
    InnerMaps,
    /// A queue of events to user space.
    RingBuffer,
    /// A clock that costs next to nothing.
    CoarseClock,
    /// Leaving by another device, its neighbour looked up on the way.
    RedirectNeighbour,
    /// Checksums that network cards summed up stay right when addresses of IPv6 change.
    ChecksumIpv6,
    /// Sockets are ended from outside.
    SocketAbort,
}

/// Whether the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    Used,
    /// What the kernel said.
    Missing(String),
}

/// What happens where it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// The programs do not load.
    Nothing,
    /// Something else does it, or it is left out.
    Instead(&'static str),
}

impl Feature {
    pub const ALL: [Self; 13] = [
        Self::Btf,
        Self::Xdp,
        Self::Tcx,
        Self::CgroupHooks,
        Self::Batch,
        Self::MappedArrays,
        Self::Lru,
        Self::InnerMaps,
        Self::RingBuffer,
        Self::CoarseClock,
        Self::RedirectNeighbour,
        Self::ChecksumIpv6,
        Self::SocketAbort,
    ];

    /// What it is called in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Btf => "btf",
            Self::Xdp => "xdp",
            Self::Tcx => "tcx",
            Self::CgroupHooks => "cgroup-hooks",
            Self::Batch => "map-batch",
            Self::MappedArrays => "mapped-arrays",
            Self::Lru => "lru-maps",
            Self::InnerMaps => "map-in-map",
            Self::RingBuffer => "ring-buffer",
            Self::CoarseClock => "coarse-clock",
            Self::RedirectNeighbour => "redirect-neigh",
            Self::ChecksumIpv6 => "ipv6-checksum-flag",
            Self::SocketAbort => "socket-abort",
        }
    }

    /// Since when kernels have it.
    pub const fn since(self) -> &'static str {
        match self {
            Self::Btf => "5.2",
            Self::Xdp => "5.9",
            Self::Tcx => "6.6",
            Self::CgroupHooks => "5.8",
            Self::Batch => "5.6",
            Self::MappedArrays => "5.5",
            Self::Lru => "4.10",
            Self::InnerMaps => "5.10",
            Self::RingBuffer => "5.8",
            Self::CoarseClock => "5.11",
            Self::RedirectNeighbour => "5.10",
            Self::ChecksumIpv6 => "6.16",
            Self::SocketAbort => "5.9",
        }
    }

    /// What falls back, and to what.
    pub const fn without(self) -> Without {
        match self {
            Self::Xdp => Without::Instead("packets are balanced by tc"),
            Self::Tcx => Without::Instead("programs hang as filters of clsact"),
            Self::CgroupHooks => Without::Instead("what pods send is balanced packet by packet"),
            Self::Batch => Without::Instead("maps are written element by element"),
            Self::RingBuffer => Without::Instead("there are counters, and no events"),
            Self::ChecksumIpv6 => {
                Without::Instead("checksums of IPv6 are kept right by one more call of the kernel")
            }
            Self::SocketAbort => Without::Instead("sockets wait for a backend that went, until they give up"),
            Self::Btf
            | Self::MappedArrays
            | Self::Lru
            | Self::InnerMaps
            | Self::CoarseClock
            | Self::RedirectNeighbour => Without::Nothing,
        }
    }
}

/// How programs tell the kernel that addresses of IPv6 changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// By [`Feature::ChecksumIpv6`].
    Told,
    /// Without: it takes one more call.
    Untold,
}

impl Sums {
    pub(crate) fn of_kernel() -> Self {
        match support(Feature::ChecksumIpv6) {
            Support::Used => Self::Told,
            Support::Missing(_) => Self::Untold,
        }
    }

    /// `IPV6_SUMS` of the programs.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Told => 1,
            Self::Untold => 0,
        }
    }
}

/// Tries all of them. Needs the right to load programs.
pub fn probe() -> Vec<(Feature, Support)> {
    Feature::ALL.map(|feature| (feature, support(feature))).into()
}

fn support(feature: Feature) -> Support {
    let answer = match feature {
        Feature::Btf => fs::metadata(Path::new("/sys/kernel/btf/vmlinux"))
            .map(drop)
            .map_err(words),
        Feature::Xdp => program(ProgramType::Xdp),
        Feature::Tcx => SchedClassifier::query_tcx("lo", TcAttachType::Ingress)
            .map(drop)
            .map_err(|error| error.to_string()),
        Feature::CgroupHooks => program(ProgramType::CgroupSockAddr),
        Feature::Batch => batch().map_err(words),
        Feature::MappedArrays => array(8, 1, MMAPABLE).map(drop).map_err(words),
        Feature::Lru => lru().map_err(words),
        Feature::InnerMaps => inner_maps().map_err(words),
        Feature::RingBuffer => helper(BpfHelper::BPF_FUNC_ringbuf_output),
        Feature::CoarseClock => helper(BpfHelper::BPF_FUNC_ktime_get_coarse_ns),
        Feature::RedirectNeighbour => helper(BpfHelper::BPF_FUNC_redirect_neigh),
        Feature::ChecksumIpv6 => checksum_ipv6().map_err(words),
        Feature::SocketAbort => Diag::try_out().map_err(words),
    };
    match answer {
        Ok(()) => Support::Used,
        Err(said) => Support::Missing(said),
    }
}

fn program(kind: ProgramType) -> Result<(), String> {
    match is_program_supported(kind) {
        Ok(true) => Ok(()),
        Ok(false) => Err("the kernel does not know this type of program".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn helper(helper: BpfHelper) -> Result<(), String> {
    match is_helper_supported(ProgramType::SchedClassifier, helper) {
        Ok(true) => Ok(()),
        Ok(false) => Err("the verifier does not know this function".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn batch() -> io::Result<()> {
    let map = array(4, 1, 0)?;
    let (key, value) = ([0_u32], [1_u32]);
    let mut batch = Batch {
        keys: address(&key),
        values: address(&value),
        count: 1,
        map: number(map.as_fd()),
        ..Batch::default()
    };
    bpf(Command::UpdateBatch, &mut batch).map(drop)
}

fn lru() -> io::Result<()> {
    const LRU_HASH: u32 = 9;
    let mut create = Create {
        kind: LRU_HASH,
        key_size: 4,
        value_size: 4,
        entries: 1,
        ..Create::default()
    };
    bpf_fd(Command::MapCreate, &mut create).map(drop)
}

fn inner_maps() -> io::Result<()> {
    let inner = array(8, 1, INNER_MAP | MMAPABLE)?;
    array_of_maps(inner.as_fd(), 1).map(drop)
}

/// Asks the function itself: it refuses flags that it does not know.
fn checksum_ipv6() -> io::Result<()> {
    const SCHED_CLS: u32 = 3;
    /// `BPF_F_PSEUDO_HDR | BPF_F_IPV6 | 4`: an addend of four octets.
    const FLAGS: i32 = 0x10 | 0x80 | 4;
    const CHECKSUM: i32 = 16;
    /// `bpf_l4_csum_replace`.
    const REPLACE: i32 = 11;
    let load = |register: u8, value: i32| Instruction::new(0xb7, register, 0, value);
    let program = [
        load(2, CHECKSUM),
        load(3, 0),
        load(4, 1),
        load(5, FLAGS),
        Instruction::new(0x85, 0, 0, REPLACE),
        Instruction::new(0x95, 0, 0, 0),
    ];
    let answer = kernel::try_out(SCHED_CLS, &program, &[0; 64])?;
    match i32::from_ne_bytes(answer.to_ne_bytes()) {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

impl Instruction {
    pub(crate) const fn new(code: u8, registers: u8, offset: i16, value: i32) -> Self {
        Self {
            code,
            registers,
            offset,
            value,
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands behind map_err")]
fn words(error: io::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_listed_once_and_says_what_is_done_without_it() {
        let mut names: Vec<_> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Feature::ALL.len());
        for feature in Feature::ALL {
            if let Without::Instead(words) = feature.without() {
                assert!(!words.is_empty());
            }
        }
    }

    #[test]
    fn what_a_kernel_has_is_found_and_what_it_lacks_has_a_reason() {
        for (feature, support) in probe() {
            if let Support::Missing(why) = support {
                assert!(!why.is_empty(), "{}", feature.name());
            }
        }
    }
}
