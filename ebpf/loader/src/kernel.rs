//! `bpf(2)` itself, for what the library does not offer: batches, test runs, and values that are plain octets.
//!
//! Every command has a struct of its own here, with the layout of the kernel's `union bpf_attr`.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Commands of `bpf(2)`.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Command {
    MapCreate = 0,
    Lookup = 1,
    Update = 2,
    Delete = 3,
    NextKey = 4,
    ProgramLoad = 5,
    ObjectPin = 6,
    ObjectGet = 7,
    ProgAttach = 8,
    ProgDetach = 9,
    TestRun = 10,
    ProgramById = 13,
    MapById = 14,
    Info = 15,
    LookupBatch = 24,
    UpdateBatch = 26,
    DeleteBatch = 27,
    LinkCreate = 28,
    LinkUpdate = 29,
    IterCreate = 33,
    LinkDetach = 34,
}

/// Of `BPF_MAP_CREATE`, as far as it is used.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Create {
    pub(crate) kind: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) entries: u32,
    pub(crate) flags: u32,
    /// What the maps in an array of maps are like.
    pub(crate) inner: u32,
}

/// Of the commands on one element.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) map: u32,
    pub(crate) pad: u32,
    pub(crate) key: u64,
    /// Or the next key.
    pub(crate) value: u64,
    pub(crate) flags: u64,
}

/// Of the commands on many elements.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) keys: u64,
    pub(crate) values: u64,
    pub(crate) count: u32,
    pub(crate) map: u32,
    pub(crate) element_flags: u64,
    pub(crate) flags: u64,
}

/// Of `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Debug, Default)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Of `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
#[derive(Debug, Default)]
struct ProgramLoad {
    kind: u32,
    instructions: u32,
    at: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
}

/// Of `BPF_MAP_GET_FD_BY_ID`.
#[repr(C)]
#[derive(Debug, Default)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

/// Of `BPF_LINK_CREATE`, with nothing said about the order.
#[repr(C)]
#[derive(Debug, Default)]
struct LinkCreate {
    program: u32,
    device: u32,
    place: u32,
    flags: u32,
    order: [u64; 2],
}

/// Of `BPF_LINK_UPDATE`.
#[repr(C)]
#[derive(Debug, Default)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

/// The beginning of `struct bpf_link_info` of XDP and TCX.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct LinkInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) program: u32,
    pub(crate) pad: u32,
    /// 0 once the device is gone.
    pub(crate) device: u32,
    pub(crate) place: u32,
    rest: [u64; 2],
}

/// Of `BPF_PROG_TEST_RUN`, as far as it is used.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct TestRun {
    pub(crate) program: u32,
    pub(crate) verdict: u32,
    pub(crate) input_size: u32,
    pub(crate) output_size: u32,
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) repeat: u32,
    pub(crate) duration: u32,
    pub(crate) context_in: [u64; 3],
    pub(crate) flags: u32,
    pub(crate) processor: u32,
    pub(crate) batch: u32,
    pub(crate) pad: u32,
}

/// Of `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Debug, Default)]
struct InfoBy {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct MapInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) entries: u32,
    pub(crate) flags: u32,
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Debug, Default)]
struct ProgramId {
    kind: u32,
    id: u32,
}

/// `BPF_F_INNER_MAP`: may have another length than the template.
pub(crate) const INNER_MAP: u32 = 1 << 12;

/// `BPF_F_MMAPABLE`: user space reads and writes it in place.
pub(crate) const MMAPABLE: u32 = 1 << 10;

const ARRAY: u32 = 2;
const ARRAY_OF_MAPS: u32 = 12;

/// Of `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProgAttach {
    pub(crate) target: u32,
    pub(crate) program: u32,
    pub(crate) attach_type: u32,
    pub(crate) flags: u32,
    pub(crate) replaced: u32,
}

/// `struct bpf_link_info` of a link to a cgroup.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct CgroupLinkInfo {
    pub(crate) kind: u32,
    pub(crate) id: u32,
    pub(crate) program: u32,
    pub(crate) pad: u32,
    /// 0 once the cgroup is gone.
    pub(crate) cgroup: u64,
    pub(crate) attach_type: u32,
    pub(crate) pad_end: u32,
}

/// One command.
pub(crate) fn bpf<T>(command: Command, attributes: &mut T) -> io::Result<u32> {
    let size = libc::c_ulong::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: the attributes are a struct of the kernel's layout and live until the call returns; every address in them
    // was taken from a slice that the caller holds, with its true length.
    #[expect(unsafe_code, reason = "the one system call of this crate")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32,
            std::ptr::from_mut(attributes),
            size,
        )
    };
    u32::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// The same for commands that answer with a descriptor.
pub(crate) fn bpf_fd<T>(command: Command, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us alone.
    #[expect(unsafe_code, reason = "see above")]
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What is pinned at a path.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf_fd(
        Command::ObjectGet,
        &mut Object {
            path: address(path.as_bytes_with_nul()),
            ..Object::default()
        },
    )
}

/// A new array that no program knows yet.
pub(crate) fn array(value_size: u32, entries: u32, flags: u32) -> io::Result<OwnedFd> {
    bpf_fd(
        Command::MapCreate,
        &mut Create {
            kind: ARRAY,
            key_size: 4,
            value_size,
            entries,
            flags,
            ..Create::default()
        },
    )
}

/// A new array of maps like this one.
pub(crate) fn array_of_maps(template: BorrowedFd<'_>, entries: u32) -> io::Result<OwnedFd> {
    bpf_fd(
        Command::MapCreate,
        &mut Create {
            kind: ARRAY_OF_MAPS,
            key_size: 4,
            value_size: 4,
            entries,
            inner: number(template),
            ..Create::default()
        },
    )
}

/// The map with this number, which is what an array of maps tells of its elements.
pub(crate) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut by = ById {
        id,
        ..ById::default()
    };
    bpf_fd(Command::MapById, &mut by)
}

/// Keeps what this descriptor is of, until the file at this path is removed.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut object = Object {
        path: address(path.as_bytes_with_nul()),
        fd: number(fd),
        ..Object::default()
    };
    bpf(Command::ObjectPin, &mut object).map(drop)
}

/// Keeps it no more; it may be gone already.
pub(crate) fn unpin(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Hangs a program at a place (`enum bpf_attach_type`) of a device, behind those that are there. It hangs as long as
/// the link is open or pinned.
pub(crate) fn link(program: BorrowedFd<'_>, device: u32, place: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut create = LinkCreate {
        program: number(program),
        device,
        place,
        flags,
        ..LinkCreate::default()
    };
    bpf_fd(Command::LinkCreate, &mut create)
}

/// Replaces the program behind a link at once.
pub(crate) fn relink(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut update = LinkUpdate {
        link: number(link),
        program: number(program),
        ..LinkUpdate::default()
    };
    bpf(Command::LinkUpdate, &mut update).map(drop)
}

/// Loads a program of these instructions, and runs it on a packet; what it returned.
pub(crate) fn try_out<T>(kind: u32, instructions: &[T], packet: &[u8]) -> io::Result<u32> {
    let license = c"GPL".to_bytes_with_nul();
    let mut load = ProgramLoad {
        kind,
        instructions: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        at: address(instructions),
        license: address(license),
        ..ProgramLoad::default()
    };
    let program = bpf_fd(Command::ProgramLoad, &mut load)?;
    let mut run = TestRun {
        program: number(program.as_fd()),
        input_size: u32::try_from(packet.len()).map_err(io::Error::other)?,
        input: address(packet),
        repeat: 1,
        ..TestRun::default()
    };
    bpf(Command::TestRun, &mut run)?;
    Ok(run.verdict)
}

/// Takes a program off at once. When the last file of a link is removed, the kernel does so too, but some time later.
pub(crate) fn unlink(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut detach = number(link);
    bpf(Command::LinkDetach, &mut detach).map(drop)
}

/// What a map says of itself.
pub(crate) fn info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    info_of(map)
}

/// What a link to a cgroup says of itself.
pub(crate) fn cgroup_link_info(link: BorrowedFd<'_>) -> io::Result<CgroupLinkInfo> {
    info_of(link)
}

/// What a link says of itself.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    info_of(link)
}

/// The number of a program.
pub(crate) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    info_of::<ProgramId>(program).map(|info| info.id)
}

fn info_of<T: Default>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = T::default();
    let mut by = InfoBy {
        fd: number(fd),
        length: u32::try_from(size_of::<T>()).unwrap_or(0),
        info: std::ptr::from_mut(&mut info).addr() as u64,
    };
    bpf(Command::Info, &mut by)?;
    Ok(info)
}

/// Seconds of the clock that programs read.
pub(crate) fn clock() -> u32 {
    let mut now = std::mem::MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the answer is written before it is read.
    #[expect(unsafe_code, reason = "the library has no such clock")]
    let seconds = unsafe {
        if libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, now.as_mut_ptr()) != 0 {
            return 0;
        }
        now.assume_init().tv_sec
    };
    u32::try_from(seconds).unwrap_or(0)
}

/// What a device of this namespace is called.
pub(crate) fn device_name(index: u32) -> io::Result<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the kernel's names, with their zero, have room in so many octets.
    #[expect(unsafe_code, reason = "the library has no if_indextoname")]
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return Err(io::Error::last_os_error());
    }
    let name = CStr::from_bytes_until_nul(&name).map_err(io::Error::other)?;
    Ok(name.to_string_lossy().into_owned())
}

/// What something says of itself, as the kernel lays it out, cut off after so many octets.
pub(crate) fn info_words(fd: BorrowedFd<'_>, words: &mut [u64; 32], length: u32) -> io::Result<()> {
    let mut by = InfoBy {
        fd: number(fd),
        length,
        info: address_mut(words),
    };
    bpf(Command::Info, &mut by).map(drop)
}

/// Whether a folder is on a BPF file system.
pub(crate) fn is_bpffs(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path ends with a zero, and the answer is written before it is read.
    #[expect(unsafe_code, reason = "the library has no statfs")]
    let kind = unsafe {
        if libc::statfs(path.as_ptr(), answer.as_mut_ptr()) != 0 {
            return false;
        }
        answer.assume_init().f_type
    };
    kind == libc::BPF_FS_MAGIC
}

/// A descriptor as the kernel's structs have it.
pub(crate) fn number(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).unwrap_or(u32::MAX)
}

/// An address as the kernel's structs have it.
pub(crate) fn address<T>(values: &[T]) -> u64 {
    values.as_ptr().addr() as u64
}

/// The same of what the kernel writes to.
pub(crate) fn address_mut<T>(values: &mut [T]) -> u64 {
    values.as_mut_ptr().addr() as u64
}
