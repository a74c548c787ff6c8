//! An agent of another build: it does what the one under test does, with other instructions in the kernel.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use stentor::datapath::programs;
use tempfile::TempDir;

use crate::agent::program;

/// Instructions take so many octets.
const INSTRUCTION: usize = 8;
/// Loads a constant of 64 bits, whose second half takes the place of another instruction.
const LONG: u8 = 0x18;
/// `if a == b` and `if a != b` over two registers: whichever comes first.
const COMPARISONS: [u8; 2] = [0x1d, 0x5d];
/// A section of instructions.
const EXECUTABLE: u64 = 4;

/// A copy of the agent whose programs compare the other way round, once in each section of instructions. It is gone with the
/// folder.
pub(crate) fn another() -> Result<(TempDir, PathBuf)> {
    let built = program()?;
    let elf = programs::elf()?;
    let mut octets = fs::read(&built).with_context(|| format!("read {}", built.display()))?;
    let at = find(&octets, elf).context("the agent was built with the programs that these tests have")?;
    let place = octets
        .get_mut(at..at + elf.len())
        .context("the programs end early")?;
    ensure!(turn_comparisons(place)? > 0, "no program compares two registers");
    let folder = tempfile::tempdir_in(built.parent().unwrap_or(Path::new("/")))?;
    let copy = folder.path().join("stentor");
    fs::write(&copy, &octets)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    Ok((folder, copy))
}

/// The programs are aligned, in memory and so in the file.
fn find(octets: &[u8], elf: &[u8]) -> Option<usize> {
    let mut places = (0..octets.len()).step_by(INSTRUCTION);
    places.find(|at| octets.get(*at..).is_some_and(|rest| rest.starts_with(elf)))
}

/// How many were turned round.
fn turn_comparisons(elf: &mut [u8]) -> Result<usize> {
    let table = number(elf, 0x28, 8)?;
    let (length, count) = (number(elf, 0x3a, 2)?, number(elf, 0x3c, 2)?);
    let mut turned = 0;
    for header in (0..count).map(|n| table + n * length) {
        let flags = number(elf, header + 8, 8)?;
        let (start, size) = (number(elf, header + 24, 8)?, number(elf, header + 32, 8)?);
        if u64::try_from(flags)? & EXECUTABLE == 0 {
            continue;
        }
        let section = elf.get_mut(start..start + size).context("a section ends early")?;
        let mut instructions = section.chunks_exact_mut(INSTRUCTION);
        while let Some(instruction) = instructions.next() {
            match instruction {
                [LONG, ..] => drop(instructions.next()),
                [operation, registers, ..]
                    if COMPARISONS.contains(operation) && *registers >> 4 != *registers & 15 =>
                {
                    *registers = registers.rotate_left(4);
                    turned += 1;
                    break;
                }
                _ => {}
            }
        }
    }
    Ok(turned)
}

fn number(elf: &[u8], at: usize, length: usize) -> Result<usize> {
    let octets = elf.get(at..at + length).context("a header ends early")?;
    let number = octets
        .iter()
        .rev()
        .fold(0_u64, |sum, octet| sum << 8 | u64::from(*octet));
    Ok(usize::try_from(number)?)
}
