//! The speaker against real BGP daemons, in network namespaces. Needs root and the daemons, see `cargo xtask
//! setup`.
//!
//! Each test is a bed of two nodes, named `daemon::transport::what`; each fills some cells of one table, which
//! is printed at the end: `ok`, `FAILED`, or a note that says what the daemon lacks. Arguments are those of any
//! test program: `cargo test --test interop -- bird::ipv4`.

mod abuse;
mod bed;
mod churn;
mod exchange;
mod graceful;
mod secure;
mod table;

use std::process::ExitCode;

use anyhow::Result;
use lab::router::{Families, Feature};
use libtest_mimic::{Arguments, Trial};

use crate::table::{Column, Row, Sheet};

/// Tests spend most of their time waiting for timers, so more run at once than there are cores.
const THREADS: usize = 6;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(THREADS));
    let mut trials = Vec::new();
    for row in Row::all() {
        trials.extend(trials_of(row));
    }
    for (name, work) in [
        (
            "a_flood_from_one_peer_delays_no_other",
            abuse::flood as fn() -> Result<()>,
        ),
        ("a_peer_that_takes_nothing_delays_no_other", abuse::stall),
        (
            "five_hundred_half_open_connections_delay_nobody",
            abuse::half_open,
        ),
        ("garbage_in_any_state_gets_the_answer_of_the_rfc", abuse::garbage),
        ("an_open_one_octet_at_a_time_delays_nobody", abuse::slow_open),
    ] {
        let name = format!("abuse::{name}");
        trials.push(Trial::test(name, move || {
            work().map_err(|error| format!("{error:#}").into())
        }));
    }
    let listing = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if !listing {
        println!("\n{}", table::render());
    }
    conclusion.exit_code()
}

fn trials_of(row: Row) -> Vec<Trial> {
    let trial = |name: &str, work: fn(Row) -> Result<()>| {
        let name = format!("{}::{}::{name}", row.kind.name().to_lowercase(), row.transport());
        Trial::test(name, move || {
            work(row).map_err(|error| format!("{error:#}").into())
        })
    };
    if row.families == Families::Ipv4OverIpv6 && row.kind.lacks(Feature::Ipv4OverIpv6).is_some() {
        return vec![trial("is_not_supported", |row| {
            let mut sheet = Sheet::new(row);
            let why = row.kind.lacks(Feature::Ipv4OverIpv6).unwrap_or_default();
            for column in Column::every() {
                sheet.lacks(column, why);
            }
            sheet.finish()
        })];
    }
    vec![
        trial("routes_go_both_ways_and_silence_is_noticed", exchange::plain),
        trial("routes_outlive_restarts_of_either_side", graceful::graceful),
        trial("keys_and_ttl_guard_the_dialled_connection", secure::dialled),
        trial("keys_and_ttl_guard_the_accepted_connection", secure::accepted),
        trial("one_connection_survives_a_collision", churn::collisions),
        trial("twenty_restarts_of_the_peer_are_survived", churn::restarts),
    ]
}
