//! Takes the kernel programs in, where `cargo xtask build` has made them.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// `cargo xtask build` writes it, in the target folder, only when it has other content.
const MADE: &str = "bpf/stentor-bpf.embedded";

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let into = out.join("stentor-bpf");
    // The outermost: a build for a named target has a folder of its own in there, with the same mark.
    let Some(target) = out
        .ancestors()
        .filter(|folder| folder.join("CACHEDIR.TAG").is_file())
        .last()
    else {
        // Somebody else's way to build.
        return fs::write(into, []);
    };
    let made = target.join(MADE);
    if !made.is_file() {
        // Cargo looks at a file that is missing again each time, and builds anew each time.
        fs::create_dir_all(made.parent().unwrap_or(Path::new(".")))?;
        fs::write(&made, [])?;
    }
    println!("cargo::rerun-if-changed={}", made.display());
    fs::copy(&made, into).map(drop)
}
