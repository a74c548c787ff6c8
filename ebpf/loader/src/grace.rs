//! Waiting until no program runs that read what was there before.
//!
//! The kernel promises it to whoever replaces an element of an array of maps: the call returns after an RCU grace period,
//! so that user space can look at the old map in peace (Linux 5.0, `maybe_wait_bpf_programs`). `membarrier(2)` waits too,
//! but not on machines with one processor or with `nohz_full`. A grace period takes some milliseconds and no work.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use ebpf_abi::plain::octets;

use crate::Error;
use crate::kernel::{Command, Element, address, array, array_of_maps, bpf, number};

/// An array of maps that no program reads.
#[derive(Debug)]
pub(crate) struct Grace {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl Grace {
    pub(crate) fn new() -> Result<Self, Error> {
        let failed = |source| Error::Access {
            map: "of grace periods",
            call: "BPF_MAP_CREATE",
            source,
        };
        let inner = array(4, 1, 0).map_err(failed)?;
        let outer = array_of_maps(inner.as_fd(), 1).map_err(failed)?;
        Ok(Self { outer, inner })
    }

    pub(crate) fn wait(&self) -> io::Result<()> {
        let (key, value) = (0_u32, number(self.inner.as_fd()));
        let mut element = Element {
            map: number(self.outer.as_fd()),
            key: address(octets(&key)),
            value: address(octets(&value)),
            ..Element::default()
        };
        bpf(Command::Update, &mut element).map(drop)
    }
}
