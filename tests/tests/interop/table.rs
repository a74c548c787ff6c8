//! The table of the suite: a row per peer and transport, a column per feature.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use lab::router::{Families, Kind};

/// A daemon and how we talk with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) families: Families,
}

impl Row {
    pub(crate) fn all() -> Vec<Self> {
        let mut rows = Vec::new();
        for kind in Kind::ALL {
            for families in [
                Families::Ipv4,
                Families::Ipv6,
                Families::Both,
                Families::Ipv4OverIpv6,
            ] {
                rows.push(Self { kind, families });
            }
        }
        rows
    }

    pub(crate) fn transport(self) -> &'static str {
        match self.families {
            Families::Ipv4 => "ipv4",
            Families::Ipv6 => "ipv6",
            Families::Both => "both",
            Families::Ipv4OverIpv6 => "ipv4-over-ipv6",
        }
    }
}

/// What is tested. The doc is what an `ok` claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    /// The session establishes.
    Session,
    /// Routes of each side arrive at the other, with the right next hop and AS path.
    Announce,
    /// They go away again.
    Withdraw,
    /// Standard, well-known, large and extended communities and the MED arrive as they were sent.
    Communities,
    /// So does the extended community of the link bandwidth.
    Bandwidth,
    /// ASNs over 65535 on both sides.
    Asn4,
    /// Our ROUTE-REFRESH makes the peer send again.
    RefreshAsked,
    /// The peer's ROUTE-REFRESH makes us send again.
    RefreshAnswered,
    /// A frozen peer is given up when the hold time is over, not before.
    PeerFrozen,
    /// The peer gives us up when we are frozen; afterwards all is well again.
    WeFrozen,
    /// A cable is pulled and put back.
    LinkDown,
    /// A link that fails out of both sides' sight: both give up when the hold time is over, and come back with it.
    LinkFar,
    /// Our restart: the peer keeps our routes, they are stale, then fresh; what we no longer have goes.
    OurRestart,
    /// The peer is killed and comes back: its routes stay, stale, then fresh; what it no longer has goes.
    PeerRestart,
    /// The peer is killed and does not come back: its routes go when its restart time is over.
    StaleTimer,
    /// TCP-MD5 on the connection we dial: a key on one side only, ours or theirs, keeps us out, a wrong one too; the
    /// right one lets us in.
    Md5Dialled,
    /// The same on the connection we accept.
    Md5Accepted,
    /// GTSM on the connection we dial: a TTL that is too small keeps the peer out.
    TtlDialled,
    /// The same on the connection we accept.
    TtlAccepted,
    /// Both sides dial at once, with our router ID below and above: one session is left, and it works.
    Collision,
    /// The peer restarts twenty times.
    Restarts,
    /// tshark finds nothing malformed in what we sent.
    Tshark,
}

impl Column {
    const ALL: [(Self, &'static str); 22] = [
        (Self::Session, "session"),
        (Self::Announce, "announce"),
        (Self::Withdraw, "withdraw"),
        (Self::Communities, "communities"),
        (Self::Bandwidth, "link-bandwidth"),
        (Self::Asn4, "asn4"),
        (Self::RefreshAsked, "refresh-asked"),
        (Self::RefreshAnswered, "refresh-answered"),
        (Self::PeerFrozen, "peer-frozen"),
        (Self::WeFrozen, "we-frozen"),
        (Self::LinkDown, "link-down"),
        (Self::LinkFar, "link-far"),
        (Self::OurRestart, "our-restart"),
        (Self::PeerRestart, "peer-restart"),
        (Self::StaleTimer, "stale-timer"),
        (Self::Md5Dialled, "md5-dialled"),
        (Self::Md5Accepted, "md5-accepted"),
        (Self::TtlDialled, "gtsm-dialled"),
        (Self::TtlAccepted, "gtsm-accepted"),
        (Self::Collision, "collision"),
        (Self::Restarts, "restart-x20"),
        (Self::Tshark, "tshark"),
    ];

    pub(crate) fn every() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().map(|(column, _)| column)
    }

    pub(crate) fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(column, _)| *column == self);
        found.map_or("?", |(_, name)| name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cell {
    Ok,
    NotSupported(String),
    Failed,
}

static CELLS: Mutex<BTreeMap<(Row, Column), Cell>> = Mutex::new(BTreeMap::new());

fn record(row: Row, column: Column, cell: Cell) {
    let mut cells = CELLS.lock().unwrap_or_else(PoisonError::into_inner);
    let old = cells.get(&(row, column));
    // A column that several tests fill (tshark) is only as good as its worst.
    if old != Some(&Cell::Failed) {
        cells.insert((row, column), cell);
    }
}

/// A test with so many failures is broken as a whole: each further one would only wait for its deadlines.
const PATIENCE: usize = 2;

/// The cells one test fills in, and what went wrong.
#[derive(Debug)]
pub(crate) struct Sheet {
    row: Row,
    failures: Vec<String>,
}

impl Sheet {
    pub(crate) fn new(row: Row) -> Self {
        Self {
            row,
            failures: Vec::new(),
        }
    }

    /// Fills a cell: with why the peer lacks the feature, or with what `work` finds.
    pub(crate) fn cell(
        &mut self,
        column: Column,
        lacks: Option<&'static str>,
        work: impl FnOnce() -> Result<()>,
    ) {
        if let Some(why) = lacks {
            return self.lacks(column, why);
        }
        if self.failures.len() >= PATIENCE {
            record(self.row, column, Cell::Failed);
            self.failures
                .push(format!("{}: not tried after the others", column.name()));
            return;
        }
        match work() {
            Ok(()) => record(self.row, column, Cell::Ok),
            Err(error) => {
                record(self.row, column, Cell::Failed);
                let failure = format!("{}: {error:#}", column.name());
                eprintln!("{} {} {failure}", self.row.kind, self.row.transport());
                self.failures.push(failure);
            }
        }
    }

    pub(crate) fn lacks(&mut self, column: Column, why: &str) {
        record(self.row, column, Cell::NotSupported(why.to_owned()));
    }

    pub(crate) fn finish(self) -> Result<()> {
        if !self.failures.is_empty() {
            bail!("{}", self.failures.join("\n\n"));
        }
        Ok(())
    }
}

/// The rows of which anything was tested; nothing where there are none. Each feature's name stands upright over
/// its column.
pub(crate) fn render() -> String {
    let cells = CELLS.lock().unwrap_or_else(PoisonError::into_inner);
    if cells.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    let height = Column::ALL.iter().map(|(_, name)| name.len()).max().unwrap_or(0);
    for line in 0..height {
        _ = write!(text, "{:24}", "");
        for (_, name) in Column::ALL {
            let letter = name
                .chars()
                .nth((line + name.len()).wrapping_sub(height))
                .unwrap_or(' ');
            _ = write!(text, "  {letter}   ");
        }
        text = text.trim_end().to_owned() + "\n";
    }
    let mut notes: Vec<String> = Vec::new();
    let tested = |row: &Row| cells.keys().any(|(filled, _)| filled == row);
    for row in Row::all().into_iter().filter(tested) {
        _ = write!(text, "{:9}{:15}", row.kind.name(), row.transport());
        for (column, _) in Column::ALL {
            let word = match cells.get(&(row, column)) {
                None => "  .".to_owned(),
                Some(Cell::Ok) => "  ok".to_owned(),
                Some(Cell::Failed) => "FAILED".to_owned(),
                Some(Cell::NotSupported(why)) => {
                    let note = format!("not supported by {}: {why}", row.kind);
                    let known = notes.iter().position(|known| *known == note);
                    let number = known.unwrap_or_else(|| {
                        notes.push(note);
                        notes.len() - 1
                    });
                    format!("  ({})", number + 1)
                }
            };
            _ = write!(text, "{word:6}");
        }
        text = text.trim_end().to_owned() + "\n";
    }
    for (number, note) in notes.iter().enumerate() {
        _ = writeln!(text, "({}) {note}", number + 1);
    }
    text + ". = not run\n"
}
