//! What serving costs end to end, beside others who do the same: `cargo xtask bench lb throughput`. Needs root.
//!
//! ```text
//!   client  --veth--  router  --veth--  far, three backends          one such triple for each way
//!      \____________________________/
//!        only answers of direct return
//! ```
//!
//! The router routes plainly, or it is a load balancer: nftables as kube-proxy uses it (a verdict map), nftables rule after
//! rule (what iptables amounts to), IPVS where the kernel has it, and Stentor, its real agent with its real programs. All
//! triples stand at the same time, and each round goes through all of them before the next: what the machine does meanwhile
//! happens to all. Everything runs on one processor, so what each packet costs anywhere adds up, and nobody hides work on
//! another one.
//!
//! Every end of a cable behaves like a network card: checksums are made before, no packet is longer than 1500 octets, and who
//! receives puts segments together again (GRO). So XDP, which gets along with nothing else, is not held against packets of
//! 64 kB that no cable carries.
//!
//! *Datagrams* of 64 octets come from a socket of packets; the far node counts those with the right address, port and payload
//! and drops them. The figure has everything in it: sender, two cables, router, the far node's reception. What the router
//! does more than plain routing is the difference. *Requests* and *streams* are real connections whose every octet is
//! checked, and every answer names its backend.
//!
//! `STENTOR_BENCH_WAYS=XDP,map` tries only ways whose names contain one of these words, and plain routing.
//!
//! On a machine that is busy, `chrt -r 5 cargo xtask bench lb throughput` keeps others from being measured too.

mod bed;
mod datagrams;
mod figures;
mod objects;
mod peers;
mod raw;
mod streams;
mod way;

use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::bed::Bed;
use crate::way::{Absent, Way};

fn main() -> ExitCode {
    // It takes minutes.
    if !env::args().any(|word| word == "throughput") {
        println!("throughput: skipped; `cargo xtask bench lb` runs it");
        return ExitCode::SUCCESS;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("throughput: skipped: namespaces and kernel programs need root");
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throughput: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    println!("load before: {}", load()?);
    let mut beds = Vec::new();
    let only = env::var("STENTOR_BENCH_WAYS").unwrap_or_default();
    let asked = |way: &Way| *way == Way::Plain || only.split(',').any(|word| way.title().contains(word));
    for way in Way::all().into_iter().filter(asked) {
        match Absent::of(way) {
            None => beds.push(Bed::new(way).with_context(|| way.title())?),
            Some(absent) => println!("without {}: {absent}", way.title()),
        }
    }
    // All agents begin at once: with so many services that takes a moment.
    for bed in &mut beds {
        bed.wait_for_router()?;
    }
    // Agents run where they like, all that is measured on one processor.
    let mut processors = CpuSet::new();
    processors.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &processors).context("one processor for all")?;
    datagrams::table(&beds)?;
    for bed in &mut beds {
        bed.serve().with_context(|| bed.way.title())?;
    }
    streams::tables(&beds)?;
    println!("load after: {}", load()?);
    Ok(())
}

fn load() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg").context("the load")?;
    Ok(text.trim().to_owned())
}
