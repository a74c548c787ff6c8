//! Collisions and restarts, again and again.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::router::{Dials, Feature, Session};
use lab::until;
use stentor_tests::subject::Moment;

use crate::bed::{Bed, Plan, SOON};
use crate::table::{Column, Row, Sheet};

/// Fills the columns `Collision` and `Tshark`.
pub(crate) fn collisions(row: Row) -> Result<()> {
    let mut sheet = Sheet::new(row);
    // The higher router ID's connection wins (RFC 4271 6.8); theirs is 10.9.0.2.
    for our_router_id in [[10, 9, 0, 1], [10, 9, 0, 3]] {
        let plan = Plan {
            our_router_id,
            they: Dials::Yes,
            ..Plan::PLAIN
        };
        let mut bed = Bed::new(row, plan)?;
        sheet.cell(Column::Collision, None, || {
            (0..3).try_for_each(|_| collide(&mut bed))
        });
        if let Some(why) = row.kind.lacks(Feature::SecondConnection) {
            sheet.lacks(Column::Collision, why);
        }
        sheet.cell(Column::Tshark, None, || bed.judge());
    }
    sheet.finish()
}

/// Segments with data are dropped until both sides have dialled: both connections wait for their OPENs, which
/// then arrive all at once. With a daemon that does not dial any more once it has accepted, both just dial.
fn collide(bed: &mut Bed) -> Result<()> {
    match bed.kind().lacks(Feature::SecondConnection) {
        None => {
            // If theirs comes first we do not dial, and it is no collision: once more.
            let mut both = Ok(());
            for _ in 0..10 {
                drop(bed.subject.take());
                accepts(bed)?;
                bed.our_node.sh(DROP_DATA)?;
                bed.start()?;
                both = wait_for(bed, 2, SHORT);
                // Also before the next try: the end of a connection waits behind its data.
                bed.our_node.sh("nft delete table inet collision")?;
                if both.is_ok() {
                    break;
                }
            }
            both?;
        }
        Some(_) => bed.start()?,
    }
    bed.establishes(Moment::BEGINNING)?;
    bed.exchange()?;
    wait_for(bed, 1, SOON)?;
    bed.subject.take().context("our speaker does not run")?.kill();
    bed.router_loses(SOON)
}

/// Waits until the daemon has got over the last session. Until then it turns us away, each time we wait longer before
/// we dial again, and turn it away for as long.
fn accepts(bed: &Bed) -> Result<()> {
    let found = until(SOON, "the daemon to dial", || {
        match bed.router.session(bed.ours) {
            Ok(Session::Down(state)) if state.starts_with("Connect") || state.starts_with("Active") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    Ok(found?)
}

const DROP_DATA: &str = "nft -f - <<'END'
table inet collision {
  chain in { type filter hook input priority 0; tcp flags & psh == psh drop; }
  chain out { type filter hook output priority 0; tcp flags & psh == psh drop; }
}
END";

/// A daemon dials a second after it was refused.
const SHORT: Duration = Duration::from_secs(10);

fn wait_for(bed: &Bed, count: usize, limit: Duration) -> Result<()> {
    let found = until(limit, format!("{count} connections"), || {
        let connections = connections(bed).map_err(|error| error.to_string())?;
        match connections.lines().count() == count {
            true => Ok(()),
            false => Err(connections),
        }
    });
    Ok(found?)
}

fn connections(bed: &Bed) -> Result<String> {
    let ss = [
        "ss",
        "-Htn",
        "state",
        "established",
        "( sport = 179 or dport = 179 )",
    ];
    Ok(bed.our_node.exec(&ss)?)
}

/// Fills the columns `Restarts` and `Tshark`.
pub(crate) fn restarts(row: Row) -> Result<()> {
    let mut sheet = Sheet::new(row);
    let mut bed = Bed::new(row, Plan::PLAIN)?;
    bed.up()?;
    bed.exchange()?;
    let (ours, theirs) = (bed.our_prefixes(), bed.their_prefixes());
    sheet.cell(Column::Restarts, None, || {
        for round in 1..=20 {
            let since = bed.subject()?.now();
            bed.router.kill();
            bed.router.run()?;
            bed.establishes(since)
                .and_then(|()| bed.both_have(&ours, &theirs))
                .with_context(|| format!("restart {round}"))?;
        }
        Ok(())
    });
    sheet.cell(Column::Tshark, None, || bed.judge());
    sheet.finish()
}
