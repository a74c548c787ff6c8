//! What `cargo xtask test` needs beyond labs: the other BGP daemons, what judges captures, and the licence check.

use anyhow::Result;

use super::{Found, From, Need, Part, cargo_install, daemon, package};
use crate::step;

const CARGO_DENY: &str = "0.20.2";

pub(super) const PART: Part = Part {
    name: "test",
    needs: &[
        package("g++", "c++", "builds the fuzzer"),
        daemon("bird2", "bird", "bird", "peer of the interop tests"),
        daemon("gobgpd", "gobgpd", "gobgpd", "peer of the interop tests"),
        daemon("openbgpd", "bgpctl", "openbgpd", "peer of the interop tests"),
        daemon("exabgp", "exabgp", "exabgp", "peer of the interop tests"),
        package("bpftool", "bpftool", "says which kernel programs hang where"),
        package(
            "ethtool",
            "ethtool",
            "makes cables of the traffic tests behave like copper",
        ),
        package("faketime", "faketime", "sets the clock of programs under test"),
        package("tcpdump", "tcpdump", "captures of the interop tests"),
        package("tshark", "tshark", "judges the captures"),
        Need {
            what: "cargo-deny",
            why: "judges licences, bans, sources and advisories; from source, a few minutes",
            found: Found::Asked(has_cargo_deny),
            from: From::Made(cargo_deny),
        },
    ],
};

fn has_cargo_deny() -> bool {
    step::capture(step::cargo().args(["deny", "--version"])).is_ok_and(|asked| asked.status.success())
}

fn cargo_deny() -> Result<()> {
    step::run(cargo_install().args(["cargo-deny", "--version", CARGO_DENY]))
}
