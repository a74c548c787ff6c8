//! `stentor lb`, `stentor bpf` and `stentor monitor`: the load balancer as the kernel has it, read from the pinned maps. So
//! it works at night too, when no agent runs; one that runs adds the names of Services.

pub mod args;
pub mod bpf;
pub mod frame;
pub mod look;
pub mod monitor;
pub mod print;
pub mod rows;
pub mod trace;
pub mod walk;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;

use ebpf_abi::maps::Maps as _;
use ebpf_abi::model::Model;
use ebpf_abi::{V4, V6};
use ebpf_loader::tables::{self, Pins};
use ebpf_loader::{Error, Pinned};
use serde::Serialize;

use super::commands::{Done, Exit, Failure, print_one};
use args::{LbCommand, ListArgs, Verb};
use look::Look;

pub(super) fn run(command: &LbCommand) -> Done {
    match command {
        LbCommand::Services(Verb::List(args)) => list(args, print::services, |look, _| {
            let rows4 = rows::services(&look.v4, &look.names, &args.filter);
            let mut all = rows::services(&look.v6, &look.names, &args.filter);
            all.extend(rows4);
            all.sort_by(|a, b| (&a.service, a.number, &a.frontend).cmp(&(&b.service, b.number, &b.frontend)));
            Ok(all)
        }),
        LbCommand::Backends(Verb::List(args)) => list(args, print::backends, |look, _| {
            let mut all = rows::backends(&look.v4, &look.names, &args.filter);
            all.extend(rows::backends(&look.v6, &look.names, &args.filter));
            Ok(all)
        }),
        LbCommand::Maglev(Verb::List(args)) => list(args, print::shares, |look, pinned| {
            let mut all = shares(&look.v4, look, args, pinned)?;
            all.extend(shares(&look.v6, look, args, pinned)?);
            Ok(all)
        }),
        LbCommand::Ct(Verb::List(args)) => list(args, print::tracks, |look, pinned| {
            let (flows4, flows6) = (pinned.flows::<V4>()?.all()?, pinned.flows::<V6>()?.all()?);
            let mut all = rows::tracks(&look.v4, &look.names, &args.filter, look.now, &flows4);
            all.extend(rows::tracks(
                &look.v6,
                &look.names,
                &args.filter,
                look.now,
                &flows6,
            ));
            Ok(all)
        }),
        LbCommand::Nat(Verb::List(args)) => list(args, print::translations, |look, pinned| {
            let (flows4, flows6) = (pinned.flows::<V4>()?.all()?, pinned.flows::<V6>()?.all()?);
            let mut all = rows::translations(&look.v4, &look.names, &args.filter, look.now, &flows4);
            all.extend(rows::translations(
                &look.v6,
                &look.names,
                &args.filter,
                look.now,
                &flows6,
            ));
            Ok(all)
        }),
        LbCommand::Affinity(Verb::List(args)) => list(args, print::stays, |look, pinned| {
            let (four, six) = (pinned.map(V4::AFFINITY)?.all()?, pinned.map(V6::AFFINITY)?.all()?);
            let mut all = rows::stays(&look.v4, &look.names, &args.filter, look.now, &four);
            all.extend(rows::stays(&look.v6, &look.names, &args.filter, look.now, &six));
            Ok(all)
        }),
        LbCommand::Trace(args) => trace::run(args),
    }
}

fn list<T: Serialize>(
    args: &ListArgs,
    table: impl Fn(&[T]) -> String,
    rows: impl Fn(&Look, &Pinned) -> Result<Vec<T>, Error>,
) -> Done {
    let read = || {
        let pinned = look::pinned(&args.maps)?;
        rows(&Look::read(&pinned, &args.at)?, &pinned)
    };
    let found = read().map_err(|error| failed(&error))?;
    print_one(&found, args.output, |rows| table(rows))?;
    Ok(Exit::Good)
}

fn shares<A: Pins>(
    model: &Model<A>,
    look: &Look,
    args: &ListArgs,
    pinned: &Pinned,
) -> Result<Vec<rows::Share>, Error> {
    let mut found = BTreeMap::new();
    for set in rows::tabled(model, &look.names, &args.filter).into_keys() {
        found.insert(set, tables::table(pinned, set, model.config.maglev_size)?);
    }
    Ok(rows::shares(model, &look.names, &args.filter, &found))
}

/// All of what went wrong, and what to do about it.
pub(super) fn failed(error: &Error) -> Failure {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let _ = write!(text, ": {deeper}");
        cause = deeper.source();
    }
    if !nix::unistd::geteuid().is_root() {
        text.push_str(" (this needs root: use sudo)");
    }
    Failure::problem(text)
}

#[cfg(test)]
mod tests;
