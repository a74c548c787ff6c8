//! What lies in sockets, all of it: a program of the kind that is asked for what it sees (`iter/bpf_sk_storage_map`, Linux
//! 5.9) goes through `SOCKET_PEERS`, of all sockets in all network namespaces, and tells their cookies. It costs as much as
//! there are sockets with a value, however many others there are.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::Btf;
use aya_obj::btf::BtfKind;
use ebpf_abi::plain::from_octets;
use ebpf_abi::socket::Peer;

use crate::kernel::{Command, address, bpf_fd, number};
use crate::probe::Instruction;

/// The program, with its map.
#[derive(Debug)]
pub(crate) struct Peers {
    link: OwnedFd,
}

/// A cookie, and the value behind it.
const RECORD: usize = 8 + size_of::<Peer>();

/// `BPF_PROG_TYPE_TRACING`, `BPF_TRACE_ITER`.
const TRACING: u32 = 26;
const ITERATOR: u32 = 28;

/// Of `BPF_PROG_LOAD`, to the end of what is used.
#[repr(C)]
#[derive(Debug, Default)]
struct Load {
    kind: u32,
    instructions: u32,
    at: u64,
    license: u64,
    log: [u64; 2],
    kernel: u32,
    flags: u32,
    name: [u64; 2],
    device: u32,
    attach_type: u32,
    types: [u32; 9],
    /// Number of the function in the kernel's type information whose arguments the program gets.
    function: u32,
    object: u32,
    relocations: u32,
}

/// Of `BPF_LINK_CREATE` for iterators.
#[repr(C)]
#[derive(Debug, Default)]
struct Link {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    about: u64,
    about_size: u32,
    pad: u32,
}

/// Of `BPF_ITER_CREATE`.
#[repr(C)]
#[derive(Debug, Default)]
struct Iterate {
    link: u32,
    flags: u32,
}

impl Peers {
    /// For this map, whose values are [`Peer`]s in sockets.
    pub(crate) fn open(map: BorrowedFd<'_>) -> io::Result<Self> {
        let btf = Btf::from_sys_fs().map_err(io::Error::other)?;
        let function = btf
            .id_by_type_name_kind("bpf_iter_bpf_sk_storage_map", BtfKind::Func)
            .map_err(io::Error::other)?;
        let instructions = program();
        let license = c"GPL".to_bytes_with_nul();
        let mut load = Load {
            kind: TRACING,
            instructions: u32::try_from(instructions.len()).map_err(io::Error::other)?,
            at: address(&instructions),
            license: address(license),
            attach_type: ITERATOR,
            function,
            ..Load::default()
        };
        let program = bpf_fd(Command::ProgramLoad, &mut load)?;
        let about = [number(map), 0, 0, 0];
        let mut link = Link {
            program: number(program.as_fd()),
            attach_type: ITERATOR,
            about: address(&about),
            about_size: u32::try_from(size_of_val(&about)).map_err(io::Error::other)?,
            ..Link::default()
        };
        let link = bpf_fd(Command::LinkCreate, &mut link)?;
        Ok(Self { link })
    }

    /// Cookies of sockets, and what lies in them.
    pub(crate) fn all(&self) -> io::Result<Vec<(u64, Peer)>> {
        let mut iterate = Iterate {
            link: number(self.link.as_fd()),
            flags: 0,
        };
        let iterator = bpf_fd(Command::IterCreate, &mut iterate)?;
        let mut octets = Vec::new();
        File::from(iterator).read_to_end(&mut octets)?;
        let records = octets.chunks_exact(RECORD);
        Ok(records.filter_map(read).collect())
    }
}

fn read(record: &[u8]) -> Option<(u64, Peer)> {
    let (cookie, peer) = record.split_first_chunk::<8>()?;
    Some((u64::from_ne_bytes(*cookie), from_octets(peer)?))
}

/// ```text
///   cookie = bpf_get_socket_cookie(ctx->sk)
///   bpf_seq_write(ctx->meta->seq, { cookie, *ctx->value }, RECORD)
/// ```
///
/// The last call has neither socket nor value.
fn program() -> Vec<Instruction> {
    /// Fields of `struct bpf_iter__bpf_sk_storage_map`.
    const SOCKET: i16 = 16;
    const VALUE: i16 = 24;
    const COOKIE: i32 = 46;
    const WRITE: i32 = 127;
    const WORDS: i16 = 6;
    /// Where the record is on the stack.
    const TOP: i16 = -8 * (WORDS + 1);
    const { assert!(size_of::<Peer>() == 48) };
    let (context, socket, value, stack) = (6, 7, 8, 10);
    let body = [copy(1, socket), call(COOKIE), store(stack, TOP, 0)];
    let words = (0..WORDS).flat_map(|word| [load(0, value, 8 * word), store(stack, TOP + 8 * (word + 1), 0)]);
    let write = [
        load(1, context, 0),
        load(1, 1, 0),
        copy(2, stack),
        add(2, i32::from(TOP)),
        set(3, -i32::from(TOP)),
        call(WRITE),
    ];
    let body: Vec<Instruction> = body.into_iter().chain(words).chain(write).collect();
    let over = i16::try_from(body.len()).unwrap_or(0);
    let begin = [
        copy(context, 1),
        load(socket, context, SOCKET),
        load(value, context, VALUE),
        skip_if_zero(socket, over + 1),
        skip_if_zero(value, over),
    ];
    let end = [set(0, 0), Instruction::new(0x95, 0, 0, 0)];
    begin.into_iter().chain(body).chain(end).collect()
}

fn copy(to: u8, from: u8) -> Instruction {
    Instruction::new(0xbf, to | from << 4, 0, 0)
}

fn load(to: u8, from: u8, at: i16) -> Instruction {
    Instruction::new(0x79, to | from << 4, at, 0)
}

fn store(to: u8, at: i16, from: u8) -> Instruction {
    Instruction::new(0x7b, to | from << 4, at, 0)
}

fn set(to: u8, number: i32) -> Instruction {
    Instruction::new(0xb7, to, 0, number)
}

fn add(to: u8, number: i32) -> Instruction {
    Instruction::new(0x07, to, 0, number)
}

fn skip_if_zero(register: u8, over: i16) -> Instruction {
    Instruction::new(0x15, register, over, 0)
}

fn call(function: i32) -> Instruction {
    Instruction::new(0x85, 0, 0, function)
}
