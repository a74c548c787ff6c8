//! Plain sessions: routes there and back, refresh, hold timers, a pulled cable.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::router::{Ext, Feature, Origination, Seen};
use lab::{LinkState, until};
use stentor_tests::subject::Order;

use crate::bed::{Bed, Plan, SOON, fresh};
use crate::table::{Column, Row, Sheet};

const OUR_ASN: u32 = 4_200_000_001;
const THEIR_ASN: u32 = 4_200_000_002;

/// Seconds; the shortest there is.
const HOLD: u16 = 3;

const TARGET: Ext = Ext::RouteTarget {
    asn: 65001,
    number: 70_000,
};
const ORIGIN: Ext = Ext::RouteOrigin {
    asn: 65001,
    number: 7,
};
/// 8 and 16 Mbit/s: whole numbers in every daemon's units.
const BANDWIDTH: Ext = Ext::LinkBandwidth {
    asn: 65001,
    bytes_per_second: 1_000_000,
};

/// Fills the columns from `Session` to `LinkFar`, and `Tshark`.
pub(crate) fn plain(row: Row) -> Result<()> {
    let mut sheet = Sheet::new(row);
    let mut bed = Bed::new(
        row,
        Plan {
            our_asn: OUR_ASN,
            their_asn: THEIR_ASN,
            hold: HOLD,
            ..Plan::PLAIN
        },
    )?;
    sheet.cell(Column::Session, None, || bed.up());
    sheet.cell(Column::Announce, None, || announce(&mut bed));
    sheet.cell(Column::Asn4, None, || asn4(&mut bed));
    sheet.cell(Column::Communities, None, || communities(&mut bed));
    let lacks = row.kind.lacks(Feature::Show(BANDWIDTH));
    sheet.cell(Column::Bandwidth, lacks, || bandwidth(&mut bed));
    sheet.cell(
        Column::RefreshAsked,
        row.kind.lacks(Feature::AnswerRefresh),
        || refresh_asked(&mut bed),
    );
    sheet.cell(
        Column::RefreshAnswered,
        row.kind.lacks(Feature::AskRefresh),
        || refresh_answered(&mut bed),
    );
    sheet.cell(Column::PeerFrozen, None, || peer_frozen(&mut bed));
    sheet.cell(Column::WeFrozen, None, || we_frozen(&mut bed));
    sheet.cell(Column::LinkDown, None, || link_down(&mut bed));
    sheet.cell(Column::LinkFar, None, || link_far(&mut bed));
    sheet.cell(Column::Withdraw, None, || withdraw(&mut bed));
    sheet.cell(Column::Tshark, None, || bed.judge());
    sheet.finish()
}

fn announce(bed: &mut Bed) -> Result<()> {
    bed.exchange()?;
    let ours = bed.router.received(bed.ours)?;
    check(bed, bed.ours, OUR_ASN, &ours)?;
    let theirs = bed.theirs;
    let received = bed.subject()?.received(theirs)?;
    check(bed, theirs, THEIR_ASN, &received)
}

fn check(bed: &Bed, side: std::net::IpAddr, asn: u32, routes: &[Seen]) -> Result<()> {
    ensure!(!routes.is_empty(), "no routes from {side}");
    for route in routes {
        let hop = bed.next_hop(side, route.prefix);
        ensure!(route.next_hop == Some(hop), "next hop is not {hop}: {route:?}");
        ensure!(route.as_path == [asn], "AS path is not {asn}: {route:?}");
    }
    Ok(())
}

/// Both ASNs need four octets, and `check` has seen them in the paths; here, that the OPENs said so.
fn asn4(bed: &mut Bed) -> Result<()> {
    let capture = bed.capture.as_ref().context("no capture")?;
    for (asn, who) in [(OUR_ASN, "we"), (THEIR_ASN, "they")] {
        let opens = capture.count(&format!("bgp.cap.4as == {asn} && bgp.open.myas == 23456"))?;
        ensure!(opens > 0, "{who} sent no OPEN with AS_TRANS and {asn}");
    }
    Ok(())
}

fn communities(bed: &mut Bed) -> Result<()> {
    // NO_EXPORT and BLACKHOLE from us. From them GRACEFUL_SHUTDOWN: daemons do not send NO_EXPORT routes.
    let ours = [(65001, 1), (65535, 65281), (65535, 666)];
    let theirs = [(65002, 1), (65535, 0)];
    let their_ext = match bed.kind().lacks(Feature::Originate(ORIGIN)) {
        Some(_) => vec![TARGET],
        None => vec![TARGET, ORIGIN],
    };
    let carrying = |prefix, communities: &[(u16, u16)], ext: &[Ext]| Origination {
        prefix,
        communities: communities.to_vec(),
        large: vec![(OUR_ASN, 1, 2), (OUR_ASN, u32::MAX, 0)],
        ext: ext.to_vec(),
        med: Some(77),
    };
    let is_as_sent = |seen: &[Seen], communities: &[(u16, u16)], ext: &[Ext], count: usize| {
        seen.len() == count
            && seen.iter().all(|route| {
                route.communities == communities.iter().copied().collect()
                    && route.large == BTreeSet::from([(OUR_ASN, 1, 2), (OUR_ASN, u32::MAX, 0)])
                    && route.ext == ext.iter().copied().collect()
                    && route.med == Some(77)
            })
    };
    let (our_prefixes, their_prefixes) = (bed.our_prefixes(), bed.their_prefixes());
    bed.wish.routes = our_prefixes
        .iter()
        .map(|prefix| carrying(*prefix, &ours, &[TARGET, ORIGIN]))
        .collect();
    bed.configure()?;
    for prefix in &their_prefixes {
        bed.router.announce(carrying(*prefix, &theirs, &their_ext))?;
    }
    bed.router_receives("our communities", |seen| {
        is_as_sent(seen, &ours, &[TARGET, ORIGIN], our_prefixes.len())
    })?;
    bed.we_receive("their communities", |seen| {
        is_as_sent(seen, &theirs, &their_ext, their_prefixes.len())
    })?;
    Ok(())
}

fn bandwidth(bed: &mut Bed) -> Result<()> {
    let carrying = |prefix, ext| Origination {
        ext: vec![ext],
        ..Origination::plain(prefix)
    };
    let only = |seen: &[Seen], ext: Ext| {
        !seen.is_empty() && seen.iter().all(|route| route.ext == BTreeSet::from([ext]))
    };
    let our_prefixes = bed.our_prefixes();
    bed.wish.routes = our_prefixes
        .iter()
        .map(|prefix| carrying(*prefix, BANDWIDTH))
        .collect();
    bed.configure()?;
    bed.router_receives("our link bandwidth", |seen| only(seen, BANDWIDTH))?;
    // From them as they have it: some can only do the transitive kind, some none.
    let Ext::LinkBandwidth { bytes_per_second, .. } = BANDWIDTH else {
        unreachable!("it is one")
    };
    // FRR fills in its own AS, which as a two-octet one is AS_TRANS.
    let asn = 23456;
    let transitive = Ext::TransitiveLinkBandwidth {
        asn,
        bytes_per_second,
    };
    let kinds = [
        Ext::LinkBandwidth {
            asn,
            bytes_per_second,
        },
        transitive,
    ];
    for kind in kinds {
        if bed.kind().lacks(Feature::Originate(kind)).is_none() {
            for prefix in bed.their_prefixes() {
                bed.router.announce(carrying(prefix, kind))?;
            }
            bed.we_receive("their link bandwidth", |seen| only(seen, kind))?;
        }
    }
    Ok(())
}

/// Counts messages of a type, from one side.
fn sent(bed: &Bed, side: std::net::IpAddr, kind: u8) -> Result<usize> {
    let source = if side.is_ipv4() { "ip.src" } else { "ipv6.src" };
    let capture = bed.capture.as_ref().context("no capture")?;
    capture.count(&format!("{source} == {side} && bgp.type == {kind}"))
}

const UPDATE: u8 = 2;
const ROUTE_REFRESH: u8 = 5;

/// `asker` was made to ask: it sends ROUTE-REFRESH, and the other side UPDATE.
fn refreshes(
    bed: &mut Bed,
    asker: std::net::IpAddr,
    answerer: std::net::IpAddr,
    ask: impl FnOnce(&mut Bed) -> Result<()>,
) -> Result<()> {
    let before = (sent(bed, asker, ROUTE_REFRESH)?, sent(bed, answerer, UPDATE)?);
    ask(bed)?;
    until(SOON, "a refresh on the wire", || {
        let now = sent(bed, asker, ROUTE_REFRESH)
            .and_then(|asked| Ok((asked, sent(bed, answerer, UPDATE)?)))
            .map_err(|error| error.to_string())?;
        match now.0 > before.0 && now.1 > before.1 {
            true => Ok(()),
            false => Err(format!("ROUTE-REFRESH, UPDATE: {before:?}, now {now:?}")),
        }
    })?;
    // And nothing was lost by it.
    let (ours, theirs) = (bed.our_prefixes(), bed.their_prefixes());
    bed.both_have(&ours, &theirs)
}

fn refresh_asked(bed: &mut Bed) -> Result<()> {
    let (ours, theirs) = (bed.ours, bed.theirs);
    bed.exchange()?;
    refreshes(bed, ours, theirs, |bed| bed.subject()?.done(&Order::AskRefresh))
}

fn refresh_answered(bed: &mut Bed) -> Result<()> {
    let (ours, theirs) = (bed.ours, bed.theirs);
    refreshes(bed, theirs, ours, |bed| Ok(bed.router.ask_refresh(ours)?))
}

fn peer_frozen(bed: &mut Bed) -> Result<()> {
    let theirs = bed.theirs;
    let since = bed.subject()?.now();
    let frozen = Instant::now();
    bed.router.freeze()?;
    let lost = bed.subject()?.loses(theirs, since, SOON);
    bed.router.thaw()?;
    let (at, why, after) = lost?;
    // What it said last was at most a keepalive interval before it froze. How late is up to the machine, within
    // what was waited for.
    let silence = at.saturating_duration_since(frozen);
    let hold = Duration::from_secs(u64::from(HOLD));
    let early = hold - Duration::from_millis(1500);
    ensure!(
        silence >= early,
        "gave up after {silence:?}, hold time is {hold:?}"
    );
    ensure!(
        why.contains("hold timer expired"),
        "lost for another reason: {why}"
    );
    bed.establishes(after)?;
    let (ours, theirs) = (bed.our_prefixes(), bed.their_prefixes());
    bed.both_have(&ours, &theirs)
}

fn we_frozen(bed: &mut Bed) -> Result<()> {
    let theirs = bed.theirs;
    let since = bed.subject()?.now();
    bed.subject()?.freeze()?;
    let lost = bed.router_loses(SOON);
    bed.subject()?.thaw()?;
    lost?;
    let (_, _, after) = bed.subject()?.loses(theirs, since, SOON)?;
    bed.establishes(after)?;
    let (ours, theirs) = (bed.our_prefixes(), bed.their_prefixes());
    bed.both_have(&ours, &theirs)
}

/// The news of it, which an agent has from netlink, ends the session at once.
fn link_down(bed: &mut Bed) -> Result<()> {
    let theirs = bed.theirs;
    let since = bed.subject()?.now();
    bed.their_node.set_link("eth0", LinkState::Down)?;
    bed.subject()?.done(&Order::LinkDown {
        interface: "eth0".into(),
        peers: vec![theirs],
    })?;
    let lost = bed.subject()?.loses(theirs, since, SOON);
    let router_lost = bed.router_loses(SOON);
    bed.their_node.set_link("eth0", LinkState::Up)?;
    let (_, why, after) = lost?;
    router_lost?;
    ensure!(
        why == "interface eth0 went down",
        "lost for another reason: {why}"
    );
    bed.establishes(after)?;
    let (ours, theirs) = (bed.our_prefixes(), bed.their_prefixes());
    bed.both_have(&ours, &theirs)
}

/// Nothing that either side sends arrives, and no interface tells of it.
const SWALLOW: &str = "nft -f - <<'END'
table inet far {
  chain in { type filter hook input priority 0; policy drop; }
  chain out { type filter hook output priority 0; policy drop; }
}
END";

fn link_far(bed: &mut Bed) -> Result<()> {
    let theirs = bed.theirs;
    let since = bed.subject()?.now();
    bed.our_node.sh(SWALLOW)?;
    let lost = bed.subject()?.loses(theirs, since, SOON);
    let router_lost = bed.router_loses(SOON);
    bed.our_node.sh("nft delete table inet far")?;
    let (_, why, after) = lost?;
    router_lost?;
    ensure!(
        why.contains("hold timer expired"),
        "lost for another reason: {why}"
    );
    bed.establishes(after)?;
    let (ours, theirs) = (bed.our_prefixes(), bed.their_prefixes());
    bed.both_have(&ours, &theirs)
}

fn withdraw(bed: &mut Bed) -> Result<()> {
    let (mut ours, mut theirs) = (bed.our_prefixes(), bed.their_prefixes());
    // One goes, the other stays; then that one goes too.
    for family_is_v6 in [false, true] {
        let goes = |prefix: &ipnet::IpNet| prefix.addr().is_ipv6() == family_is_v6;
        while let Some(position) = ours.iter().position(goes) {
            let prefix = ours.remove(position);
            bed.wish.routes.retain(|route| route.prefix != prefix);
            bed.configure()?;
            bed.router_receives("one route less of ours", |seen| fresh(seen, &ours))?;
        }
        while let Some(position) = theirs.iter().position(goes) {
            let prefix = theirs.remove(position);
            bed.router.withdraw(prefix)?;
            bed.we_receive("one route less of theirs", |seen| fresh(seen, &theirs))?;
        }
    }
    Ok(())
}
