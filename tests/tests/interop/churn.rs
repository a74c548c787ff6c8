//! Collisions and restarts, again and again.

use anyhow::{Context, Result, ensure};
use lab::router::Dials;
use stentor_tests::subject::{Happening, Moment};

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
        sheet.cell(Column::Tshark, None, || bed.judge());
    }
    sheet.finish()
}

/// The daemon is stopped while it listens. Our connection waits in its backlog with our OPEN, and when it wakes,
/// it finds that it is high time to dial.
fn collide(bed: &mut Bed) -> Result<()> {
    let theirs = bed.theirs;
    bed.router.freeze()?;
    let dialled =
        bed.start().and_then(|()| {
            let subject = bed.subject()?;
            subject.happens("OpenSent", Moment::BEGINNING, SOON, |event| {
            matches!(event, Happening::State { peer, to, .. } if *peer == theirs && to == "OpenSent")
        })
        });
    bed.router.thaw()?;
    dialled?;
    bed.establishes(Moment::BEGINNING)?;
    bed.exchange()?;
    let connections = bed.our_node.exec(&[
        "ss",
        "-Htn",
        "state",
        "established",
        "( sport = 179 or dport = 179 )",
    ])?;
    ensure!(
        connections.lines().count() == 1,
        "not one connection:\n{connections}"
    );
    bed.subject.take().context("our speaker does not run")?.kill();
    bed.router_loses(SOON)
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
