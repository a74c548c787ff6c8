//! What building the kernel programs needs: a compiler with a core library for BPF, and a linker that is LLVM.

use anyhow::Result;

use super::{Found, From, Need, Part, cargo_install};
use crate::{ebpf, step};

const BPF_LINKER: &str = "0.13.0";
/// The LLVM that Debian's compiler is built with; the linker must be able to read what the compiler writes.
const LLVM: &str = "22";

pub(super) const PART: Part = Part {
    name: "ebpf",
    needs: &[
        Need {
            what: "rustc-web",
            why: "compiles kernel programs",
            found: Found::Asked(ebpf::has_compiler),
            from: From::Debian,
        },
        Need {
            what: "libstd-rust-web-dev-bpf",
            why: "the core library of kernel programs",
            found: Found::Asked(ebpf::has_compiler),
            from: From::Debian,
        },
        Need {
            what: "llvm-22-dev",
            why: "builds the linker of kernel programs",
            found: Found::Asked(has_linker_or_llvm),
            from: From::Debian,
        },
        Need {
            what: "libpolly-22-dev",
            why: "builds the linker of kernel programs",
            found: Found::Asked(has_linker_or_llvm),
            from: From::Debian,
        },
        Need {
            what: "bpf-linker",
            why: "links kernel programs; from source, a few minutes",
            found: Found::Asked(has_linker),
            from: From::Made(bpf_linker),
        },
    ],
};

fn has_linker() -> bool {
    let Some(linker) = ebpf::linker() else {
        return false;
    };
    let asked = step::capture(std::process::Command::new(linker).arg("--version"));
    asked.is_ok_and(|asked| {
        asked.status.success() && String::from_utf8_lossy(&asked.stdout).contains(BPF_LINKER)
    })
}

fn has_linker_or_llvm() -> bool {
    has_linker() || step::find(&format!("/usr/lib/llvm-{LLVM}/lib/libPolly.a")).is_some()
}

fn bpf_linker() -> Result<()> {
    step::run(
        cargo_install()
            .args(["--force", "bpf-linker"])
            .args(["--version", BPF_LINKER, "--no-default-features"])
            .args(["--features", &format!("llvm-{LLVM}")])
            .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}")),
    )
}
