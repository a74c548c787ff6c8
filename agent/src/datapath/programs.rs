//! The kernel programs, inside this binary: `cargo xtask build` makes them first, and the build script of this crate takes
//! them in. Whoever builds the agent alone gets one that says what is missing.

/// ELF files are read in place, and their headers are aligned.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static ELF: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/stentor-bpf")));

/// Nothing was built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this stentor was built without the kernel programs: `cargo xtask build` builds both (a mere `cargo build` takes in \
     what `cargo xtask build` made last)"
)]
pub struct NotBuiltIn;

/// The programs.
///
/// # Errors
/// [`NotBuiltIn`]
pub fn elf() -> Result<&'static [u8], NotBuiltIn> {
    if ELF.0.is_empty() {
        return Err(NotBuiltIn);
    }
    Ok(&ELF.0)
}
