//! Running a program on a packet without a network: `BPF_PROG_TEST_RUN`.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use aya::programs::{ProgramError, ProgramFd};

use crate::kernel::{Command, TestRun, address, address_mut, bpf, number};
use crate::{Datapath, Error, Hook};

/// Room for what a program puts before a packet.
const HEADROOM: usize = 256;

/// What a program made of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// In the words of the hook.
    pub verdict: u32,
    pub packet: Vec<u8>,
    /// Of one run.
    pub took: Duration,
}

/// How large a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Instructions as the kernel has rewritten them.
    pub translated: u32,
    /// Instructions that the verifier walked, over all branches.
    pub verified: u32,
}

impl Datapath {
    /// Runs the program of a hook once.
    pub fn run(&self, hook: Hook, packet: &[u8]) -> Result<Ran, Error> {
        let program = hook.program();
        let failed = |source| Error::Run { program, source };
        let fd = self.program_fd(hook)?;
        once(fd.as_fd(), packet, &[]).map_err(failed)
    }

    /// How large the program of a hook is.
    pub fn size(&self, hook: Hook) -> Result<Size, Error> {
        self.size_of(hook.program())
    }

    pub(crate) fn size_of(&self, name: &'static str) -> Result<Size, Error> {
        let program = self.ebpf.program(name).ok_or(Error::NoProgram(name))?;
        let info = program.info().map_err(|source| refused(name, source))?;
        Ok(Size {
            // The kernel counts octets, eight for each instruction.
            translated: info.size_translated().unwrap_or(0) / 8,
            verified: info.verified_instruction_count().unwrap_or(0),
        })
    }

    /// The program of a hook, to be called by programs of a benchmark.
    pub fn program_fd(&self, hook: Hook) -> Result<&ProgramFd, Error> {
        let name = hook.program();
        let program = self.ebpf.program(name).ok_or(Error::NoProgram(name))?;
        program.fd().map_err(|source| refused(name, source))
    }
}

fn refused(program: &'static str, source: ProgramError) -> Error {
    Error::Refused {
        program,
        source: Box::new(source),
    }
}

/// One run of any program. The context is what the packet is said to be, as the kernel's struct for the hook has it; empty:
/// what the kernel makes up.
pub(crate) fn once(program: BorrowedFd<'_>, packet: &[u8], context: &[u32]) -> io::Result<Ran> {
    let mut output = vec![0; packet.len() + HEADROOM];
    let mut run = TestRun {
        program: number(program),
        input_size: length(packet.len())?,
        output_size: length(output.len())?,
        input: address(packet),
        output: address_mut(&mut output),
        repeat: 1,
        ..TestRun::default()
    };
    if !context.is_empty() {
        // The size is the lower half of the first word.
        let size = length(size_of_val(context))?;
        run.context_in = [u64::from(size), address(context), 0];
    }
    bpf(Command::TestRun, &mut run)?;
    output.truncate(run.output_size as usize);
    Ok(Ran {
        verdict: run.verdict,
        packet: output,
        took: Duration::from_nanos(run.duration.into()),
    })
}

fn length(octets: usize) -> io::Result<u32> {
    u32::try_from(octets).map_err(io::Error::other)
}
