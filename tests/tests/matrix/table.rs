//! The one table that says what was run, and why the rest was not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::cells::{Note, Row};
use crate::mode::Mode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    /// So many questions had the outcome that they must have.
    Met(usize),
    Failed(usize),
    Empty(Note),
}

static TABLE: Mutex<BTreeMap<Row, BTreeMap<Mode, Cell>>> = Mutex::new(BTreeMap::new());

pub(crate) fn fill(row: Row, mode: Mode, cell: Cell) {
    let mut table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    table.entry(row).or_default().insert(mode, cell);
}

/// Nothing, if no mode was run.
pub(crate) fn render() -> String {
    let table = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    let modes: BTreeSet<Mode> = table.values().flat_map(BTreeMap::keys).copied().collect();
    if modes.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "Questions that had the outcome they must have: both families, TCP (64 kB both ways, MTU 1500) and UDP, both \
         traffic policies.\n-: not run. [n]: there is nothing to ask, see below. XDP serves backends of its own node and \
         leaves the others to tc.\n\n",
    );
    let _ = write!(text, "{:12} {:12} {:13}", "client", "backend", "frontend");
    for mode in &modes {
        let _ = write!(text, " {:>14}", mode.name());
    }
    text.push('\n');
    let mut notes = BTreeSet::new();
    for (row, cells) in table.iter() {
        let (asker, place, what) = (row.asker.name(), row.place.name(), row.what.name());
        let _ = write!(text, "{asker:12} {place:12} {what:13}");
        for mode in &modes {
            let cell = match cells.get(mode) {
                Some(Cell::Met(count)) => count.to_string(),
                Some(Cell::Failed(count)) => format!("FAILED {count}"),
                Some(Cell::Empty(note)) => {
                    notes.insert(*note);
                    format!("[{}]", note.number())
                }
                None => "-".to_owned(),
            };
            let _ = write!(text, " {cell:>14}");
        }
        text.push('\n');
    }
    for note in notes {
        let _ = write!(text, "\n[{}] {}", note.number(), note.text());
    }
    text
}
