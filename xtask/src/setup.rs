//! `cargo xtask setup`: brings a machine to where everything else works.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::step;

/// A package and how to see that it is there.
struct Need {
    package: &'static str,
    /// One file or program of it.
    has: &'static str,
    why: &'static str,
}

const fn need(package: &'static str, has: &'static str, why: &'static str) -> Need {
    Need { package, has, why }
}

/// Debian's names. All of it is used by `cargo xtask test` or `cargo xtask lab`.
const NEEDS: [Need; 16] = [
    need("gcc", "cc", "links Rust programs"),
    need("g++", "c++", "builds the fuzzer"),
    need("libc6-dev", "/usr/include/stdio.h", "links Rust programs"),
    need("iproute2", "ip", "links, addresses and routes of labs"),
    need("util-linux", "nsenter", "enters namespaces"),
    need("procps", "sysctl", "kernel settings of nodes"),
    need("hostname", "hostname", "names nodes"),
    need("iputils-ping", "ping", "reachability in labs"),
    need("curl", "curl", "talks to services in labs"),
    need(
        "frr",
        "/usr/lib/frr/bgpd",
        "router of the labs, peer of the interop tests",
    ),
    need("bird2", "bird", "peer of the interop tests"),
    need("gobgpd", "gobgpd", "peer of the interop tests"),
    need("openbgpd", "bgpctl", "peer of the interop tests"),
    need("exabgp", "exabgp", "peer of the interop tests"),
    need("tcpdump", "tcpdump", "captures of the interop tests"),
    need("tshark", "tshark", "judges the captures"),
];

/// systemd units that the packages bring; the labs start their own daemons.
const UNITS: [(&str, &str); 5] = [
    ("frr", "frr"),
    ("bird2", "bird"),
    ("gobgpd", "gobgpd"),
    ("openbgpd", "openbgpd"),
    ("exabgp", "exabgp"),
];

/// While this file exists and says 101, no package starts a daemon (Debian policy, invoke-rc.d).
const POLICY: &str = "/usr/sbin/policy-rc.d";

const CARGO_DENY: &str = "0.20.2";

pub(crate) fn run() -> Result<()> {
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| step::find(need.has).is_none())
        .collect();
    let present: Vec<&str> = NEEDS
        .iter()
        .filter(|need| step::find(need.has).is_some())
        .map(|need| need.package)
        .collect();
    println!(
        "setup: present: {}",
        if present.is_empty() {
            "nothing".into()
        } else {
            present.join(" ")
        }
    );
    if !missing.is_empty() {
        for need in &missing {
            println!("setup: missing: {} ({})", need.package, need.why);
        }
        install(&missing)?;
    }
    cargo_deny()?;
    if !nix_is_root() {
        println!("setup: note: labs and interop tests need root");
    }
    println!("setup: done");
    Ok(())
}

fn install(missing: &[&Need]) -> Result<()> {
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_debian(&release) || step::find("apt-get").is_none() {
        let name = value_of(&release, "PRETTY_NAME").unwrap_or("this machine");
        bail!(
            "{name} is not a system this knows how to install on; please install what Debian calls: {}",
            packages.join(" ")
        );
    }
    if !nix_is_root() {
        bail!(
            "installing needs root; run as root: apt-get install {}",
            packages.join(" ")
        );
    }
    println!("setup: installing: {}", packages.join(" "));
    let quiet = NoDaemons::new()?;
    step::run(apt().arg("update").arg("-qq"))?;
    step::run(
        apt()
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&packages),
    )?;
    drop(quiet);
    if Path::new("/run/systemd/system").exists() {
        for (_, unit) in UNITS.iter().filter(|(package, _)| packages.contains(package)) {
            println!("setup: disabling the unit {unit}: labs start their own");
            // A unit that the package does not ship after all is no reason to stop.
            if let Err(error) = step::run(Command::new("systemctl").args(["disable", "--now", unit])) {
                println!("setup: {error:#}");
            }
        }
    }
    for need in missing {
        step::find(need.has)
            .with_context(|| format!("{} is installed but {} is missing", need.package, need.has))?;
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Keeps packages from starting their daemons, as long as it lives. Leaves a policy of the machine's owner alone.
struct NoDaemons {
    ours: bool,
}

impl NoDaemons {
    fn new() -> Result<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            fs::write(POLICY, "#!/bin/sh\nexit 101\n").with_context(|| format!("write {POLICY}"))?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoDaemons {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("setup: please remove {POLICY}: {error}");
        }
    }
}

fn cargo_deny() -> Result<()> {
    let there = step::capture(step::cargo().args(["deny", "--version"]))?;
    if there.status.success() {
        println!(
            "setup: present: {}",
            String::from_utf8_lossy(&there.stdout).trim()
        );
        return Ok(());
    }
    println!("setup: installing: cargo-deny {CARGO_DENY}, from source, a few minutes");
    let start = Instant::now();
    // Its own profile asks for fat link-time optimisation: minutes more, for a program that runs a second.
    step::run(
        step::cargo()
            .args([
                "install",
                "--quiet",
                "--locked",
                "cargo-deny",
                "--version",
                CARGO_DENY,
            ])
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    )?;
    println!("setup: cargo-deny took {}", step::seconds(start));
    Ok(())
}

/// Debian itself and what calls itself like it.
fn is_debian(release: &str) -> bool {
    let named =
        |key| value_of(release, key).is_some_and(|value| value.split(' ').any(|word| word == "debian"));
    named("ID") || named("ID_LIKE")
}

fn value_of<'a>(release: &'a str, key: &str) -> Option<&'a str> {
    let lines = release.lines().filter_map(|line| line.split_once('='));
    lines
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| value.trim_matches('"'))
        .next()
}

fn nix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_its_children_are_known_and_others_are_not() {
        assert!(is_debian("ID=debian\n"));
        assert!(is_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=fedora\n"));
        assert!(!is_debian(""));
    }
}
