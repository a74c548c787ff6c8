//! Graceful restart (RFC 4724) in both roles.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use lab::router::Feature;
use lab::until;
use stentor_tests::subject::Order;

use crate::bed::{Bed, Plan, SOON, fresh, same};
use crate::table::{Column, Row, Sheet};

/// Seconds; longer than any restart here takes.
const RESTART_TIME: u16 = 60;

/// Fills the columns of graceful restart, and `Tshark`.
pub(crate) fn graceful(row: Row) -> Result<()> {
    let mut sheet = Sheet::new(row);
    let mut bed = Bed::new(
        row,
        Plan {
            graceful: Some(RESTART_TIME),
            ..Plan::PLAIN
        },
    )?;
    bed.up()?;
    let lacks = row.kind.lacks(Feature::GracefulHelper);
    sheet.cell(Column::OurRestart, lacks, || {
        our_restart(&mut bed, |bed| {
            bed.subject.take().context("our speaker does not run")?.kill();
            Ok(())
        })?;
        // Once more, and this time in good order.
        our_restart(&mut bed, |bed| {
            let subject = bed.subject.take().context("our speaker does not run")?;
            subject.end(&Order::EndForRestart)
        })
    });
    let lacks = row.kind.lacks(Feature::GracefulRestarter);
    sheet.cell(Column::PeerRestart, lacks, || peer_restart(&mut bed));
    sheet.cell(Column::StaleTimer, lacks, || stale_timer(&mut bed));
    sheet.cell(Column::Tshark, None, || bed.judge());
    sheet.finish()
}

fn our_restart(bed: &mut Bed, stop: impl FnOnce(&mut Bed) -> Result<()>) -> Result<()> {
    bed.exchange()?;
    let all = bed.our_prefixes();
    stop(bed)?;
    bed.router_receives("our routes, all stale", |seen| {
        same(seen, &all) && seen.iter().all(|route| route.stale)
    })?;
    // The one that goes is not announced any more when we are back.
    let goes = bed.wish.routes.pop().context("no routes")?.prefix;
    let stay: Vec<IpNet> = all.iter().copied().filter(|prefix| *prefix != goes).collect();
    bed.start_again()?;
    // From here until all is fresh, no route that stays may be missing at any look.
    let found = until(SOON, "our routes, fresh again", || {
        let seen = bed.router.received(bed.ours).map_err(|error| error.to_string())?;
        if let Some(missing) = stay
            .iter()
            .find(|stays| !seen.iter().any(|route| route.prefix == **stays))
        {
            return Ok(Err(format!(
                "{missing} was withdrawn during the restart: {seen:?}"
            )));
        }
        match fresh(&seen, &stay) {
            true => Ok(Ok(())),
            false => Err(format!("{seen:?}\n{}", bed.router_log())),
        }
    })?;
    if let Err(flap) = found {
        bail!(flap);
    }
    bed.router.established(bed.ours, SOON)?;
    Ok(())
}

fn peer_restart(bed: &mut Bed) -> Result<()> {
    let theirs = bed.theirs;
    bed.exchange()?;
    let all = bed.their_prefixes();
    let since = bed.subject()?.now();
    bed.router.kill();
    let (_, _, after) = bed.subject()?.loses(theirs, since, SOON)?;
    bed.we_receive("their routes, all stale", |seen| {
        same(seen, &all) && seen.iter().all(|route| route.stale)
    })?;
    let goes = *all.last().context("no routes")?;
    let stay: Vec<IpNet> = all.iter().copied().filter(|prefix| *prefix != goes).collect();
    bed.router.withdraw(goes)?;
    bed.router.run()?;
    bed.establishes(after)?;
    bed.we_receive("their routes, fresh again", |seen| fresh(seen, &stay))?;
    let ours = bed.our_prefixes();
    bed.router_receives("our routes", |seen| fresh(seen, &ours))?;
    Ok(())
}

fn stale_timer(bed: &mut Bed) -> Result<()> {
    let theirs = bed.theirs;
    let short = Duration::from_secs(3);
    let since = bed.subject()?.now();
    bed.router.kill();
    bed.their_side().graceful_restart = Some(3);
    bed.router.run()?;
    bed.establishes(since)?;
    bed.exchange()?;
    let all = bed.their_prefixes();
    let since = bed.subject()?.now();
    bed.router.kill();
    let (lost, _, _) = bed.subject()?.loses(theirs, since, SOON)?;
    // Who looks late sees that they are gone; whether they went too early is asked below.
    bed.we_receive("their routes, all stale", |seen| {
        seen.is_empty() || (same(seen, &all) && seen.iter().all(|route| route.stale))
    })?;
    bed.we_receive("no routes any more", <[_]>::is_empty)?;
    let kept = Instant::now().saturating_duration_since(lost);
    // How much longer is up to the machine, within what was waited for.
    ensure!(
        kept + Duration::from_millis(500) > short,
        "stale routes were kept for {kept:?}, the restart time is {short:?}"
    );
    Ok(())
}
