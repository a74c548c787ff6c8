//! `bpf(2)` itself, for what the library does not offer: batches, test runs, and values that are plain octets.
//!
//! Every command has a struct of its own here, with the layout of the kernel's `union bpf_attr`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
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
    ObjectGet = 7,
    TestRun = 10,
    Info = 15,
    LookupBatch = 24,
    UpdateBatch = 26,
    DeleteBatch = 27,
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

/// What a map says of itself.
pub(crate) fn info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    let mut by = InfoBy {
        fd: number(map),
        length: u32::try_from(size_of::<MapInfo>()).unwrap_or(0),
        info: std::ptr::from_mut(&mut info).addr() as u64,
    };
    bpf(Command::Info, &mut by)?;
    Ok(info)
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
