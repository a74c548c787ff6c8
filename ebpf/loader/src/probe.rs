//! What this kernel offers, by trying it: a table for people, and for the choice of what falls back.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::programs::{ProgramType, SchedClassifier, TcAttachType};
use aya::sys::{BpfHelper, is_helper_supported};

use crate::kernel::{Batch, Command, INNER_MAP, address, array, bpf, number};

/// Something a kernel may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Type information of the kernel; without it nothing loads.
    Btf,
    /// Links for tc programs, which are replaced without a gap.
    Tcx,
    /// Thousands of elements per call.
    Batch,
    /// A clock that costs next to nothing.
    CoarseClock,
    /// Maglev tables of any length.
    InnerMaps,
}

/// Whether the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    Used,
    /// What the kernel said.
    Missing(String),
}

impl Feature {
    pub const ALL: [Self; 5] = [
        Self::Btf,
        Self::Tcx,
        Self::Batch,
        Self::CoarseClock,
        Self::InnerMaps,
    ];

    /// What it is called in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Btf => "btf",
            Self::Tcx => "tcx",
            Self::Batch => "map-batch",
            Self::CoarseClock => "coarse-clock",
            Self::InnerMaps => "inner-map-sizes",
        }
    }

    /// Since when kernels have it.
    pub const fn since(self) -> &'static str {
        match self {
            Self::Btf => "5.2",
            Self::Tcx => "6.6",
            Self::Batch => "5.6",
            Self::CoarseClock => "5.11",
            Self::InnerMaps => "5.10",
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
            .map_err(|error| error.to_string()),
        Feature::Tcx => SchedClassifier::query_tcx("lo", TcAttachType::Ingress)
            .map(drop)
            .map_err(|error| error.to_string()),
        Feature::Batch => batch(),
        Feature::CoarseClock => coarse_clock(),
        Feature::InnerMaps => array(4, 1, INNER_MAP)
            .map(drop)
            .map_err(|error| error.to_string()),
    };
    match answer {
        Ok(()) => Support::Used,
        Err(said) => Support::Missing(said),
    }
}

fn coarse_clock() -> Result<(), String> {
    let helper = BpfHelper::BPF_FUNC_ktime_get_coarse_ns;
    match is_helper_supported(ProgramType::SchedClassifier, helper) {
        Ok(true) => Ok(()),
        Ok(false) => Err("the verifier does not know bpf_ktime_get_coarse_ns".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn batch() -> Result<(), String> {
    let map = array(4, 1, 0).map_err(|error| error.to_string())?;
    let (key, value) = ([0_u32], [1_u32]);
    let mut batch = Batch {
        keys: address(&key),
        values: address(&value),
        count: 1,
        map: number(map.as_fd()),
        ..Batch::default()
    };
    bpf(Command::UpdateBatch, &mut batch)
        .map(drop)
        .map_err(|error| error.to_string())
}
