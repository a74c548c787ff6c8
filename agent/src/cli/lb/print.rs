//! Tables of `stentor lb`.

use std::fmt::Write as _;

use super::super::tables::layout;
use super::rows::{BackendRow, Service, Share, Stay, Track, Translation};

const NONE: &str = "-";
/// So many backends stand in a line; `-o json` has all.
const SHOWN: usize = 3;

#[must_use]
pub fn services(rows: &[Service]) -> String {
    if rows.is_empty() {
        return "No services.\n".to_owned();
    }
    let mut text = String::from(
        "SERVICE\tFRONTEND\tTYPE\tEXTERNAL POLICY\tSELECTION\tFORWARDING\tAFFINITY\tSOURCES\tBACKENDS\n",
    );
    for row in rows {
        let affinity = match row.affinity_seconds {
            0 => NONE.to_owned(),
            seconds => format!("{seconds}s"),
        };
        let sources = match (row.routable, row.source_ranges, row.deny_ranges) {
            (false, ..) => "inside only".to_owned(),
            (true, None, _) => "all".to_owned(),
            (true, Some(count), false) => format!("{count} allowed"),
            (true, Some(count), true) => format!("{count} denied"),
        };
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{affinity}\t{sources}\t{}",
            name(row.service.as_deref(), row.number),
            row.frontend,
            row.kind,
            row.external_policy,
            row.selection,
            row.forwarding,
            serving(row),
        );
    }
    layout(&text)
}

fn serving(row: &Service) -> String {
    let mut text = if row.backends.is_empty() {
        "none".to_owned()
    } else {
        few(&row.backends)
    };
    if !row.draining.is_empty() {
        let _ = write!(text, "; draining: {}", few(&row.draining));
    }
    if let Some(inner) = &row.inner_backends {
        let inner = if inner.is_empty() {
            "none".to_owned()
        } else {
            few(inner)
        };
        let _ = write!(text, "; from inside: {inner}");
    }
    text
}

fn few(list: &[String]) -> String {
    let shown = list.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match list.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[must_use]
pub fn backends(rows: &[BackendRow]) -> String {
    if rows.is_empty() {
        return "No backends.\n".to_owned();
    }
    let mut text = String::from("ID\tBACKEND\tSTATE\tWHERE\tSERVICES\n");
    for row in rows {
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}",
            row.id,
            row.backend,
            row.state,
            if row.local { "this node" } else { "elsewhere" },
            if row.services.is_empty() {
                NONE.to_owned()
            } else {
                few(&row.services)
            },
        );
    }
    layout(&text)
}

#[must_use]
pub fn shares(rows: &[Share]) -> String {
    if rows.is_empty() {
        return "No Maglev tables.\n".to_owned();
    }
    let mut text = String::from("SET\tSERVICES\tSIZE\tBACKEND\tPLACES\tSHARE\n");
    for row in rows {
        // In thousandths, so that nothing is rounded by the machine.
        let share = row.places.saturating_mul(1000).checked_div(row.size).unwrap_or(0);
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}.{} %",
            row.set,
            few(&row.services),
            row.size,
            row.backend,
            row.places,
            share / 10,
            share % 10,
        );
    }
    layout(&text)
}

#[must_use]
pub fn tracks(rows: &[Track]) -> String {
    if rows.is_empty() {
        return "No connections.\n".to_owned();
    }
    let mut text =
        String::from("SERVICE\tWAY\tSOURCE\tDESTINATION\tBECOMES\tSTATE\tLEFT\tFORWARDING\tBACKEND\n");
    for row in rows {
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{} -> {}\t{}\t{}\t{}\t{}",
            row.service.as_deref().unwrap_or(NONE),
            row.way,
            row.source,
            row.destination,
            row.new_source,
            row.new_destination,
            row.state,
            left(row.expires_seconds),
            row.forwarding,
            row.backend,
        );
    }
    layout(&text)
}

#[must_use]
pub fn translations(rows: &[Translation]) -> String {
    if rows.is_empty() {
        return "No connection has its source translated.\n".to_owned();
    }
    let mut text = String::from("SERVICE\tCLIENT\tFRONTEND\tSOURCE INSTEAD\tBACKEND\tLEFT\n");
    for row in rows {
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}",
            row.service.as_deref().unwrap_or(NONE),
            row.client,
            row.frontend,
            row.source,
            row.backend,
            left(row.expires_seconds),
        );
    }
    layout(&text)
}

#[must_use]
pub fn stays(rows: &[Stay]) -> String {
    if rows.is_empty() {
        return "No client stays with its backend.\n".to_owned();
    }
    let mut text = String::from("SERVICE\tCLIENT\tBACKEND\tIDLE\tLEFT\n");
    for row in rows {
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}s\t{}",
            name(row.service.as_deref(), row.number),
            row.client,
            row.backend,
            row.idle_seconds,
            left(row.left_seconds),
        );
    }
    layout(&text)
}

fn name(name: Option<&str>, number: u32) -> String {
    name.map_or_else(|| format!("#{number}"), str::to_owned)
}

fn left(seconds: u32) -> String {
    match seconds {
        0 => "over".to_owned(),
        seconds => format!("{seconds}s"),
    }
}
