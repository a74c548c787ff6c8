//! Arrays that user space reads and writes in place: no call for an element, and a word is replaced by one store.

use std::io;
use std::os::fd::AsRawFd as _;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ebpf_abi::plain::{Plain, from_octets, octets};

use crate::{Error, MapFd};

/// The elements of an array of the kernel.
#[derive(Debug)]
pub(crate) struct Mapped {
    start: NonNull<u8>,
    length: usize,
    /// From one element to the next: the kernel lets each begin at a multiple of eight.
    stride: usize,
    value_size: usize,
    entries: u32,
}

// SAFETY: the memory is the kernel's and stays where it is until this is dropped; it is reached through atomics only.
#[expect(unsafe_code, reason = "a pointer to memory that all processors share anyway")]
unsafe impl Send for Mapped {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "as above")]
unsafe impl Sync for Mapped {}

impl Mapped {
    /// The map must be an array that allows it (`BPF_F_MMAPABLE`).
    pub(crate) fn new(map: &MapFd) -> Result<Self, Error> {
        let (value_size, entries) = (map.map().value_size, map.entries());
        Self::of(map.fd().as_raw_fd(), value_size, entries).map_err(|source| Error::Access {
            map: map.map().name,
            call: "mmap",
            source,
        })
    }

    /// The same for one that was just made.
    pub(crate) fn of(fd: i32, value_size: u32, entries: u32) -> io::Result<Self> {
        let value_size = usize::try_from(value_size).map_err(io::Error::other)?;
        let stride = value_size.next_multiple_of(8);
        let length = stride * usize::try_from(entries).map_err(io::Error::other)?;
        // SAFETY: a new mapping at a place of the kernel's choice.
        #[expect(unsafe_code, reason = "the library maps no arrays")]
        let start = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, fd, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self {
            start,
            length,
            stride,
            value_size,
            entries,
        })
    }

    pub(crate) fn entries(&self) -> u32 {
        self.entries
    }

    /// An element; `None` beyond the end.
    pub(crate) fn load<V: Plain>(&self, place: u32) -> Option<V> {
        let words = self.words(place)?;
        let mut value = [0; 64];
        let (parts, _) = value.as_chunks_mut::<4>();
        for (part, word) in parts.iter_mut().zip(words) {
            *part = word.load(Ordering::Acquire).to_ne_bytes();
        }
        from_octets(value.get(..self.value_size)?)
    }

    /// Writes an element word by word, the first one last: it is what says whether the others count. `None` beyond the
    /// end.
    pub(crate) fn store<V: Plain>(&self, place: u32, value: &V) -> Option<()> {
        let words = self.words(place)?;
        let (parts, _) = octets(value).as_chunks::<4>();
        for (part, word) in parts.iter().zip(words).rev() {
            word.store(u32::from_ne_bytes(*part), Ordering::Release);
        }
        (parts.len() == words.len()).then_some(())
    }

    /// The first word of an element alone.
    pub(crate) fn store_first(&self, place: u32, value: u32) -> Option<()> {
        self.words(place)?.first()?.store(value, Ordering::Release);
        Some(())
    }

    /// An element of eight octets, by one store.
    pub(crate) fn store_long(&self, place: u32, value: u64) -> Option<()> {
        self.long(place)?.store(value, Ordering::Release);
        Some(())
    }

    /// An element of eight octets, by one load.
    pub(crate) fn load_long(&self, place: u32) -> Option<u64> {
        Some(self.long(place)?.load(Ordering::Acquire))
    }

    fn long(&self, place: u32) -> Option<&AtomicU64> {
        let at = self.at(place).filter(|_| self.value_size == 8)?;
        // SAFETY: `at` lies in the mapping, which lives as long as the borrow, and at a multiple of eight in whole pages.
        #[expect(unsafe_code, reason = "the mapping is not a slice of Rust's")]
        Some(unsafe { self.start.add(at).cast::<AtomicU64>().as_ref() })
    }

    fn words(&self, place: u32) -> Option<&[AtomicU32]> {
        let at = self.at(place)?;
        // SAFETY: as above; an element has so many words, and nothing but atomics ever refers to them.
        #[expect(unsafe_code, reason = "as above")]
        Some(unsafe {
            std::slice::from_raw_parts(
                self.start.add(at).cast::<AtomicU32>().as_ptr(),
                self.value_size / 4,
            )
        })
    }

    fn at(&self, place: u32) -> Option<usize> {
        let place = usize::try_from(place).ok().filter(|_| place < self.entries)?;
        Some(place * self.stride)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nothing borrows from this any more.
        #[expect(unsafe_code, reason = "see `of`")]
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.length);
        }
    }
}
