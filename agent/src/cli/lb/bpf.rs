//! `stentor bpf`: maps and programs as the kernel has them.

use std::fmt::Write as _;

use ebpf_abi::maps;
use ebpf_loader::{Error, Pinned, ProgramInfo, tables};
use serde::Serialize;

use super::super::args::Output;
use super::super::commands::{Done, Exit, print_one};
use super::super::tables::layout;
use super::args::{BpfCommand, BpfVerb, Maps};
use super::{failed, look, monitor};

const NONE: &str = "-";

/// A pinned map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MapRow {
    pub name: &'static str,
    pub kind: &'static str,
    pub id: u32,
    pub key_octets: u32,
    pub value_octets: u32,
    /// How many elements there may be.
    pub entries: u32,
    /// How many there are; arrays have all of theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<usize>,
}

/// A program at a device, or one that others go on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramRow {
    pub program: String,
    pub device: String,
    pub id: u32,
    /// Of the program's instructions, as the kernel computed it.
    pub tag: String,
    /// Instructions, as the kernel has rewritten them.
    pub instructions: u32,
    /// Instructions that the verifier walked.
    pub verified: u32,
    pub link: String,
}

pub(in super::super) fn run(command: &BpfCommand) -> Done {
    match command {
        BpfCommand::Maps(BpfVerb::List { maps, output }) => {
            show(maps, *output, map_rows, |rows| map_table(rows))
        }
        BpfCommand::Progs(BpfVerb::List { maps, output }) => {
            show(maps, *output, program_rows, |rows| program_table(rows))
        }
        BpfCommand::Events(args) => monitor::run(args, monitor::Form::Raw),
    }
}

fn show<T: Serialize>(
    maps: &Maps,
    output: Output,
    rows: impl Fn(&Pinned) -> Result<Vec<T>, Error>,
    table: impl Fn(&Vec<T>) -> String,
) -> Done {
    let found = look::pinned(maps).and_then(|pinned| rows(&pinned));
    let found = found.map_err(|error| failed(&error))?;
    print_one(&found, output, table)?;
    Ok(Exit::Good)
}

fn map_rows(pinned: &Pinned) -> Result<Vec<MapRow>, Error> {
    maps::ALL
        .iter()
        .map(|map| {
            let found = pinned.map(*map)?;
            Ok(MapRow {
                name: map.name,
                kind: kind(map.kind),
                id: tables::id(pinned, *map)?,
                key_octets: map.key_size,
                value_octets: map.value_size,
                entries: found.entries(),
                used: match map.kind {
                    maps::Kind::Hash | maps::Kind::LruHash | maps::Kind::PrefixTree => {
                        Some(tables::count(pinned, *map)?)
                    }
                    maps::Kind::Array
                    | maps::Kind::PerCpuArray
                    | maps::Kind::ArrayOfArrays
                    | maps::Kind::ArrayOfRings
                    | maps::Kind::SocketStorage => None,
                },
            })
        })
        .collect()
}

const fn kind(kind: maps::Kind) -> &'static str {
    match kind {
        maps::Kind::Array => "array",
        maps::Kind::PerCpuArray => "array per CPU",
        maps::Kind::Hash => "hash",
        maps::Kind::LruHash => "LRU hash",
        maps::Kind::PrefixTree => "prefix tree",
        maps::Kind::ArrayOfArrays => "array of arrays",
        maps::Kind::ArrayOfRings => "array of rings",
        maps::Kind::SocketStorage => "socket storage",
    }
}

/// Table of maps.
#[must_use]
pub fn map_table(rows: &[MapRow]) -> String {
    let mut text = String::from("MAP\tKIND\tID\tKEY OCTETS\tVALUE OCTETS\tENTRIES\tUSED\n");
    for row in rows {
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            row.name,
            row.kind,
            row.id,
            row.key_octets,
            row.value_octets,
            row.entries,
            row.used.map_or_else(|| NONE.to_owned(), |used| used.to_string()),
        );
    }
    layout(&text)
}

fn program_rows(pinned: &Pinned) -> Result<Vec<ProgramRow>, Error> {
    let row = |found: ProgramInfo| ProgramRow {
        device: if found.device == 0 {
            NONE.to_owned()
        } else {
            nix::net::if_::if_indextoname(found.device).map_or_else(
                |_| format!("#{}", found.device),
                |name| name.to_string_lossy().into_owned(),
            )
        },
        program: found.name,
        id: found.id,
        tag: found.tag,
        instructions: found.size.translated,
        verified: found.size.verified,
        link: found.link,
    };
    let all = pinned.programs()?.into_iter().chain(pinned.stages()?);
    Ok(all.map(row).collect())
}

/// Table of programs.
#[must_use]
pub fn program_table(rows: &[ProgramRow]) -> String {
    if rows.is_empty() {
        return "No programs are attached.\n".to_owned();
    }
    let mut text = String::from("PROGRAM\tDEVICE\tID\tTAG\tINSTRUCTIONS\tVERIFIED\tLINK\n");
    for row in rows {
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}",
            row.program, row.device, row.id, row.tag, row.instructions, row.verified, row.link,
        );
    }
    layout(&text)
}
