//! Programs that hang at devices, found by their pinned links: what they are, and what they would do to a packet.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use ebpf_abi::plain::octets;

use crate::kernel::{self, Command, Element, address, address_mut, bpf, bpf_fd, number};
use crate::pinned::Pinned;
use crate::run::{Ran, Size, once};
use crate::{Error, Hook, stages};

/// A program at a device, or a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    pub name: String,
    /// The file of the link; of a stage, that of its array, and where it is in there.
    pub link: String,
    pub id: u32,
    pub tag: String,
    pub size: Size,
    /// Index of the device; 0 if the device is gone, and for a stage.
    pub device: u32,
}

/// Words of `struct bpf_prog_info` as far as they are read.
const WORDS: usize = 58;
/// Words of `struct bpf_link_info`.
const LINK: usize = 16;

impl Pinned {
    /// Programs that hang somewhere, by the names of their links.
    pub fn programs(&self) -> Result<Vec<ProgramInfo>, Error> {
        let mut found = Vec::new();
        for link in self.links()? {
            let failed = |call| {
                let link = link.clone();
                move |source| Error::Link { link, call, source }
            };
            let fd = kernel::open(&self.folder().join("links").join(&link)).map_err(failed("BPF_OBJ_GET"))?;
            // A filter is not a link: there the program itself is pinned, under the device's number.
            let (program, device) = if let Some(rest) = link.strip_suffix("-filter") {
                let device = rest.rsplit('-').next().and_then(|text| text.parse().ok());
                (fd, device.unwrap_or(0))
            } else {
                let words: [u32; LINK] = info(fd.as_fd()).map_err(failed("BPF_OBJ_GET_INFO_BY_FD"))?;
                let [_, _, program, _, device, ..] = words;
                let Ok(program) = by_id(program) else { continue };
                (program, device)
            };
            let words: [u32; WORDS] = info(program.as_fd()).map_err(failed("BPF_OBJ_GET_INFO_BY_FD"))?;
            found.push(describe(link, device, &words));
        }
        Ok(found)
    }

    /// Programs that others go on with, by the names of their arrays and their places there.
    pub fn stages(&self) -> Result<Vec<ProgramInfo>, Error> {
        let folder = self.folder().join(stages::FOLDER);
        let failed = |source| Error::Folder {
            path: folder.clone(),
            source,
        };
        let mut arrays = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            arrays.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        arrays.sort();
        let mut found = Vec::new();
        for array in arrays {
            let map = kernel::open(&folder.join(&array)).map_err(failed)?;
            for index in 0..kernel::info(map.as_fd()).map_err(failed)?.entries {
                let mut program = 0_u32.to_ne_bytes();
                let mut element = Element {
                    map: number(map.as_fd()),
                    key: address(octets(&index)),
                    value: address_mut(&mut program),
                    ..Element::default()
                };
                // It may be gone by now, as may the program.
                if bpf(Command::Lookup, &mut element).is_err() {
                    continue;
                }
                let Ok(program) = by_id(u32::from_ne_bytes(program)) else {
                    continue;
                };
                let words: [u32; WORDS] = info(program.as_fd()).map_err(failed)?;
                found.push(describe(format!("{array}[{index}]"), 0, &words));
            }
        }
        Ok(found)
    }

    /// Runs an attached program once on a packet, as if it came in by a device. What it writes to maps is written.
    pub fn run(&self, program: &ProgramInfo, hook: Hook, packet: &[u8]) -> Result<Ran, Error> {
        let failed = |source| Error::Run {
            program: hook.program(),
            source,
        };
        let fd = by_id(program.id).map_err(failed)?;
        // A packet of tc says where it came in: `ifindex` and `ingress_ifindex` of `struct __sk_buff`.
        let mut skb = [0_u32; 48];
        for place in [9, 10] {
            if let Some(word) = skb.get_mut(place) {
                *word = program.device;
            }
        }
        let context: &[u32] = match hook {
            // XDP lets nobody choose the device of another namespace's queue.
            Hook::Xdp => &[],
            Hook::Ingress | Hook::Egress => &skb,
        };
        once(fd.as_fd(), packet, context).map_err(failed)
    }
}

fn by_id(id: u32) -> io::Result<OwnedFd> {
    // Number, the next one, flags.
    bpf_fd(Command::ProgramById, &mut [id, 0, 0])
}

/// What the kernel says of it, in words.
fn info<const N: usize>(fd: BorrowedFd<'_>) -> io::Result<[u32; N]> {
    // The kernel writes long words: they must lie where they may.
    let mut words = [0_u64; 32];
    let length = u32::try_from(N * 4).unwrap_or(0);
    kernel::info_words(fd, &mut words, length)?;
    let mut halves = words.iter().flat_map(|word| {
        let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
        [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
    });
    Ok([(); N].map(|()| halves.next().unwrap_or(0)))
}

fn describe(link: String, device: u32, words: &[u32; WORDS]) -> ProgramInfo {
    let word = |place: usize| words.get(place).copied().unwrap_or(0);
    let octets =
        |from: usize, count: usize| (from..from + count).flat_map(move |place| word(place).to_ne_bytes());
    let name: Vec<u8> = octets(16, 4).take_while(|octet| *octet != 0).collect();
    ProgramInfo {
        name: String::from_utf8_lossy(&name).into_owned(),
        link,
        id: word(1),
        tag: octets(2, 2).map(|octet| format!("{octet:02x}")).collect(),
        size: Size {
            translated: word(5) / 8,
            verified: word(54),
        },
        device,
    }
}
