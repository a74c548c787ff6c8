//! The arrays of stages: filled before programs hang anywhere, and kept for as long as any program may come to them.
//!
//! ```text
//! load      a new array for each hook, full, pinned as stages/ARRAY-ID
//! attach    link by link, filter by filter: some have the programs of now, others those of before, each with its own array
//! all done  the arrays of before are unpinned; the kernel empties them
//! ```
//!
//! Whatever ends the agent in between, the next one finds pins that are not its own, and removes them once everything that
//! hangs is its own. Until then too many are kept, never too few.

use std::fs;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::PathBuf;

use aya::maps::Map;
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use ebpf_abi::plain::octets;
use ebpf_abi::stage::Stage;

use crate::attach::{Mode, read_name};
use crate::grace::Grace;
use crate::kernel::{self, Command, Element, address, bpf, number};
use crate::run::Size;
use crate::{Datapath, Error};

/// The folder of the pins, beside those of maps and links.
pub(crate) const FOLDER: &str = "stages";

impl Datapath {
    /// Loads the programs of all stages, and fills and pins their arrays.
    pub(crate) fn load_stages(&mut self) -> Result<(), Error> {
        for stage in Stage::all() {
            self.load_stage(stage)?;
        }
        for stage in Stage::all() {
            let (array, program) = (self.stages(stage.array())?, self.program(stage.program())?);
            let (index, value) = (stage.index(), number(program));
            let mut element = Element {
                map: number(array),
                key: address(octets(&index)),
                value: address(octets(&value)),
                ..Element::default()
            };
            bpf(Command::Update, &mut element).map_err(|source| Error::Access {
                map: stage.array(),
                call: "BPF_MAP_UPDATE_ELEM",
                source,
            })?;
        }
        for array in Stage::ARRAYS {
            let (map, pin) = (self.stages(array)?, self.stages_pin(array)?);
            // No other map has the number, so whoever left a pin of this name is gone, and its map with it.
            let pinned = kernel::unpin(&pin).and_then(|()| kernel::pin(map, &pin));
            pinned.map_err(|source| Error::Folder { path: pin, source })?;
        }
        Ok(())
    }

    /// How large the program of a stage is.
    pub fn stage_size(&self, stage: Stage) -> Result<Size, Error> {
        self.size_of(stage.program())
    }

    /// Unpins the arrays of earlier starts, if all that hangs is of this one.
    pub(crate) fn drop_old_stages(&self) -> Result<(), Error> {
        let folder = self.folder().join(FOLDER);
        let failed = |source| Error::Folder {
            path: folder.clone(),
            source,
        };
        let own = Stage::ARRAYS.map(|array| self.stages_pin(array));
        let [first, second] = own;
        let own = [first?, second?];
        let mut old = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if !own.contains(&path) {
                old.push(path);
            }
        }
        if old.is_empty() || !self.all_are_of_now()? {
            return Ok(());
        }
        // A packet may be half-way through a program that hung a moment ago.
        Grace::new()?.wait().map_err(failed)?;
        old.iter()
            .try_for_each(|path| kernel::unpin(path))
            .map_err(failed)
    }

    /// Whether every link and every filter that is pinned has a program of this start.
    fn all_are_of_now(&self) -> Result<bool, Error> {
        let links = self.folder().join("links");
        let failed = |source| Error::Folder {
            path: links.clone(),
            source,
        };
        for entry in fs::read_dir(&links).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some((hook, index)) = entry.file_name().to_str().and_then(read_name) else {
                continue;
            };
            let hangs = kernel::open(&entry.path()).and_then(|pin| {
                if entry
                    .file_name()
                    .to_string_lossy()
                    .ends_with(Mode::Filter.suffix())
                {
                    // A device that is gone took its filters along.
                    return match kernel::device_name(index) {
                        Ok(_) => kernel::program_id(pin.as_fd()).map(Some),
                        Err(_) => Ok(None),
                    };
                }
                let link = kernel::link_info(pin.as_fd())?;
                Ok((link.device != 0).then_some(link.program))
            });
            let hangs = hangs.map_err(|source| Error::Folder {
                path: entry.path(),
                source,
            })?;
            let ours = kernel::program_id(self.program_fd(hook)?.as_fd()).map_err(failed)?;
            if hangs.is_some_and(|program| program != ours) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn load_stage(&mut self, stage: Stage) -> Result<(), Error> {
        let name = stage.program();
        let program = self.ebpf.program_mut(name).ok_or(Error::NoProgram(name))?;
        let loaded: Result<(), ProgramError> = match stage {
            Stage::Xdp(_) => <&mut Xdp>::try_from(program).and_then(Xdp::load),
            Stage::Tc(_) => <&mut SchedClassifier>::try_from(program).and_then(SchedClassifier::load),
        };
        loaded.map_err(|source| Error::Refused {
            program: name,
            source: Box::new(source),
        })
    }

    fn stages(&self, name: &'static str) -> Result<BorrowedFd<'_>, Error> {
        match self.ebpf.map(name) {
            Some(Map::ProgramArray(array)) => Ok(array.fd().as_fd()),
            _ => Err(Error::NoStages(name)),
        }
    }

    fn program(&self, name: &'static str) -> Result<BorrowedFd<'_>, Error> {
        let program = self.ebpf.program(name).ok_or(Error::NoProgram(name))?;
        let fd = program.fd().map_err(|source| Error::Refused {
            program: name,
            source: Box::new(source),
        })?;
        Ok(fd.as_fd())
    }

    /// Named after the number of the map, which no other map has while it lives.
    fn stages_pin(&self, array: &'static str) -> Result<PathBuf, Error> {
        let info = kernel::info(self.stages(array)?).map_err(|source| Error::Access {
            map: array,
            call: "BPF_OBJ_GET_INFO_BY_FD",
            source,
        })?;
        Ok(self.folder().join(FOLDER).join(format!("{array}-{}", info.id)))
    }
}
