//! How large the programs are. They are read on every packet and walked by every verifier: growth must be seen.

use std::fmt::Write as _;
use std::{env, fs};

use ebpf_abi::stage::Stage;
use ebpf_loader::{Hook, SocketHook};

use crate::rig::rig;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kernel/sizes.txt");

/// Other compilers and kernels come to slightly other counts: those are held against a tenth more.
#[test]
fn programs_are_as_large_as_the_golden_file_says() {
    let Some(mut rig) = rig() else { return };
    let release = nix::sys::utsname::uname()
        .expect("uname")
        .release()
        .to_string_lossy()
        .into_owned();
    let kernel: Vec<&str> = release.split('.').take(2).collect();
    let mut text = format!(
        "# kernel {}; program, instructions translated, instructions verified\n",
        kernel.join(".")
    );
    let mut sizes = Vec::new();
    for hook in Hook::ALL {
        sizes.push((hook.program(), rig.datapath.size(hook).expect("a size")));
    }
    for stage in Stage::all() {
        sizes.push((stage.program(), rig.datapath.stage_size(stage).expect("a size")));
    }
    for hook in SocketHook::ALL {
        sizes.push((hook.program(), rig.datapath.socket_size(hook).expect("a size")));
    }
    for (program, size) in &sizes {
        let _ = writeln!(text, "{program} {} {}", size.translated, size.verified);
    }
    if env::var_os("UPDATE").is_some() {
        fs::write(GOLDEN, text).expect("the golden file");
        return;
    }
    let golden = fs::read_to_string(GOLDEN).expect("the golden file");
    for (program, size) in sizes {
        let line = golden
            .lines()
            .find(|line| line.split(' ').next() == Some(program))
            .expect("a line");
        let numbers: Vec<u32> = line
            .split(' ')
            .skip(1)
            .map(|word| word.parse().expect("a number"))
            .collect();
        for (golden, now) in numbers.iter().zip([size.translated, size.verified]) {
            assert!(
                now <= golden + golden / 10,
                "{line}: now {now} (UPDATE=1 accepts):\n{text}"
            );
        }
    }
}
