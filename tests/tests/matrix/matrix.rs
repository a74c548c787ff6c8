//! One mode after the other: all askers ask at once, and everything is judged. A pod whose sockets are out of reach asks
//! last, when the near node's agent was told of its device.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::bed::{Bed, Spot};
use crate::cells::{Asker, Case, What, cases};
use crate::mode::Mode;
use crate::plan::{APART_DEVICE, objects};
use crate::table::{self, Cell};
use crate::words::{Manner, Order, Outcome, Report};

pub(crate) fn run(mode: Mode) -> Result<()> {
    let mut bed = Bed::new()?;
    let mut faults = Vec::new();
    let mut config = mode.config();
    bed.start(&config, &objects())?;
    ask(&bed, mode, &Asker::USUAL, &mut faults)?;
    look(&mut bed, mode, &mut faults)?;
    config.insert("bpf-lb-container-devices", APART_DEVICE);
    bed.near.begin(&config, &objects())?;
    ask(&bed, mode, &[Asker::Apart], &mut faults)?;
    if faults.is_empty() {
        return Ok(());
    }
    for node in bed.nodes() {
        let name = node.site.name();
        println!("--- agent of {name}\n{}", node.agent()?.log());
    }
    let count = faults.len();
    faults.truncate(60);
    bail!("{count} faults\n{}", faults.join("\n"));
}

/// All of them at once.
fn ask(bed: &Bed, mode: Mode, askers: &[Asker], faults: &mut Vec<String>) -> Result<()> {
    let asked: Vec<(Asker, Vec<Case>)> = askers
        .iter()
        .map(|&asker| {
            let (cases, notes) = cases(mode, asker);
            for (row, note) in notes {
                table::fill(row, mode, Cell::Empty(note));
            }
            (asker, cases)
        })
        .collect();
    for (asker, cases) in &asked {
        let questions = cases.iter().map(|case| case.question.clone()).collect();
        spot(bed, *asker).say(&Order::Ask(questions))?;
    }
    for (asker, cases) in &asked {
        let Report::Outcomes(outcomes) = spot(bed, *asker).hear()? else {
            bail!("outcomes come of questions");
        };
        ensure!(outcomes.len() == cases.len(), "each question has an outcome");
        judge(mode, cases, &outcomes, faults);
    }
    Ok(())
}

/// Whether `stentor lb ct list` on the near node knows the connections of the client, and how they go on.
fn look(bed: &mut Bed, mode: Mode, faults: &mut Vec<String>) -> Result<()> {
    let list = bed.near.agent()?.lb("ct")?;
    let list = list.as_array().context("a list of connections")?;
    let mut found = BTreeSet::new();
    for case in cases(mode, Asker::External).0 {
        let Some((protocol, forwarding)) = case.listed(mode) else {
            continue;
        };
        let to = format!("{}/{protocol}", case.question.to);
        let is_clients = |row: &&Value| {
            let source = row["source"].as_str().and_then(|text| text.split_once('/'));
            let source = source.and_then(|(source, _)| source.parse::<SocketAddr>().ok());
            let from = source.is_some_and(|source| case.is_asked_by(source.ip()));
            from && row["way"] == "forward" && row["destination"] == *to
        };
        for row in list.iter().filter(is_clients) {
            found.insert((protocol, case.question.to.is_ipv4()));
            if row["forwarding"] != forwarding {
                faults.push(format!("{}: wanted {forwarding}, listed {row}", mode.name()));
            }
        }
    }
    ensure!(
        found.len() == 4,
        "{}: of both protocols and families: {found:?}",
        mode.name()
    );
    Ok(())
}

fn spot(bed: &Bed, asker: Asker) -> &Spot {
    match asker {
        Asker::External => &bed.client,
        Asker::NearHost => &bed.near.host,
        Asker::FarHost => &bed.far.host,
        Asker::Pod => &bed.caller,
        Asker::Apart => &bed.apart,
    }
}

fn judge(mode: Mode, cases: &[Case], outcomes: &[Outcome], faults: &mut Vec<String>) {
    let mut rows: BTreeMap<_, (usize, usize)> = BTreeMap::new();
    let mut fault = |case: &Case, outcome: &dyn std::fmt::Debug| {
        let row = case.row;
        faults.push(format!(
            "{} {} to {} ({} {}) {:?}: wanted {:?}, came {outcome:?}",
            mode.name(),
            row.asker.name(),
            case.question.to,
            row.what.name(),
            row.place.name(),
            case.question.manner,
            case.wanted,
        ));
    };
    for (case, outcome) in cases.iter().zip(outcomes) {
        let (met, failed) = rows.entry(case.row).or_default();
        if case.is_met(outcome) {
            *met += 1;
        } else {
            *failed += 1;
            fault(case, outcome);
        }
    }
    // A way has one end: what is long enough arrives, and everything shorter was told so.
    let mut ways: BTreeMap<_, Vec<(&Case, &Outcome)>> = BTreeMap::new();
    for (case, outcome) in cases.iter().zip(outcomes) {
        if let Manner::Probe(_) = case.question.manner {
            ways.entry((case.row, case.question.to))
                .or_default()
                .push((case, outcome));
        }
    }
    for way in ways.values() {
        let arrived = |(_, outcome): &&(&Case, &Outcome)| matches!(outcome, Outcome::Answered(_));
        let short = way.iter().take_while(|probe| !arrived(probe)).count();
        let all: Vec<&Outcome> = way.iter().map(|(_, outcome)| *outcome).collect();
        if let Some((case, _)) = way.first()
            && (short == way.len() || !way.iter().skip(short).all(|probe| arrived(&probe)))
        {
            if let Some((_, failed)) = rows.get_mut(&case.row) {
                *failed += 1;
            }
            fault(case, &all);
        }
    }
    for (row, (met, failed)) in rows {
        let cell = match (failed, row.what) {
            (0, What::Flows(_) | What::Fragments | What::Probes | What::Ping) => Cell::Met(met),
            (failed, _) => Cell::Failed(failed),
        };
        table::fill(row, mode, cell);
    }
}
