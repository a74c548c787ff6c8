//! The capabilities of a session as `cilium-dbg bgp peers --capabilities` prints them.
//!
//! Per peer the union of what both sides put in their OPEN, by code. Lines are indented with tabs; the
//! caller lays them out.

use std::fmt::Write as _;

use bgp_speaker::types::Family;

use super::attrs::dashed;

/// A capability TLV taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Capability {
    code: u8,
    value: Vec<u8>,
}

/// The text below `Neighbor capabilities:`. `Err` counts the capabilities that could not be read, beside
/// the text of those that could.
///
/// # Errors
/// One line per capability whose octets are no TLV.
pub fn text(local: &[Vec<u8>], remote: &[Vec<u8>]) -> (String, Vec<String>) {
    let mut unreadable = Vec::new();
    let mut read = |side: &str, octets: &[Vec<u8>]| -> Vec<Capability> {
        octets
            .iter()
            .filter_map(|one| {
                let capability = split(one);
                if capability.is_none() {
                    unreadable.push(format!("{side} capability {one:02x?} can not be read"));
                }
                capability
            })
            .collect()
    };
    let (local, remote) = (read("local", local), read("remote", remote));

    let mut keys: Vec<(u8, Vec<u8>)> = local.iter().chain(&remote).map(key).collect();
    keys.sort();
    keys.dedup();
    let mut out = String::new();
    if keys.is_empty() {
        out.push_str("No capabilities found\n");
    }
    let mut headed = false;
    for wanted in keys {
        let ours = local.iter().find(|c| key(c) == wanted);
        let theirs = remote.iter().find(|c| key(c) == wanted);
        let support = match (ours, theirs) {
            (Some(_), Some(_)) => "advertised and received",
            (Some(_), None) => "advertised",
            (None, _) => "received",
        };
        let (code, value) = &wanted;
        if *code == 1 {
            if !headed {
                out.push_str("\tmultiprotocol:\n");
                headed = true;
            }
            let _ = writeln!(out, "\t\t{}: {support}", family_of(value));
            continue;
        }
        let _ = writeln!(out, "\t{}: {support}", name(*code));
        for (side, capability) in [("local", ours), ("remote", theirs)] {
            if let Some(capability) = capability {
                let _ = writeln!(out, "\t\t{side}:");
                out.push_str(&detail(capability));
            }
        }
    }
    (out, unreadable)
}

fn split(octets: &[u8]) -> Option<Capability> {
    let (&[code, length], value) = octets.split_first_chunk::<2>()?;
    (usize::from(length) == value.len()).then(|| Capability {
        code,
        value: value.to_vec(),
    })
}

/// Multiprotocol is one capability per family; every other code is one.
fn key(capability: &Capability) -> (u8, Vec<u8>) {
    let value = if capability.code == 1 {
        capability.value.clone()
    } else {
        Vec::new()
    };
    (capability.code, value)
}

fn name(code: u8) -> String {
    match code {
        1 => "multiprotocol",
        2 => "route-refresh",
        4 => "carrying-label-info",
        5 => "extended-nexthop",
        64 => "graceful-restart",
        65 => "4-octet-as",
        69 => "add-path",
        70 => "enhanced-route-refresh",
        71 => "long-lived-graceful-restart",
        73 => "fqdn",
        75 => "software-version",
        128 => "cisco-route-refresh",
        other => return format!("UnknownCapability({other})"),
    }
    .to_owned()
}

fn family_of(value: &[u8]) -> String {
    match value {
        [a, b, _, safi] => dashed(Family {
            afi: u16::from_be_bytes([*a, *b]),
            safi: *safi,
        }),
        _ => "unknown".to_owned(),
    }
}

/// The lines below `local:` or `remote:`.
fn detail(capability: &Capability) -> String {
    let value = capability.value.as_slice();
    match capability.code {
        64 => graceful_restart(value),
        71 => long_lived(value),
        5 => extended_next_hop(value),
        69 => value
            .chunks_exact(4)
            .map(|tuple| match tuple {
                [a, b, safi, mode] => {
                    let family = dashed(Family {
                        afi: u16::from_be_bytes([*a, *b]),
                        safi: *safi,
                    });
                    let mode = match mode {
                        1 => "receive",
                        2 => "send",
                        3 => "receive/send",
                        _ => "unknown",
                    };
                    format!("\t\t\t{family}: {mode}\n")
                }
                _ => String::new(),
            })
            .collect(),
        73 => {
            let (host, rest) = pascal(value);
            let (domain, _) = pascal(rest);
            let mut out = String::new();
            if !host.is_empty() {
                let _ = writeln!(out, "\t\t\tname: {host}");
            }
            if !domain.is_empty() {
                let _ = writeln!(out, "\t\t\tdomain: {domain}");
            }
            out
        }
        75 => format!("\t\t\t{}\n", pascal(value).0),
        code => format!("\t\t\t{}\n", name(code)),
    }
}

/// The block begins with one space before its tabs, as the tool that is imitated prints it.
fn graceful_restart(value: &[u8]) -> String {
    let Some((&[a, b], tuples)) = value.split_first_chunk::<2>() else {
        return String::new();
    };
    let flags = a >> 4;
    let time = u16::from_be_bytes([a & 0x0f, b]);
    let mut parts = Vec::new();
    if !tuples.is_empty() {
        parts.push(format!("restart time: {time} sec"));
    }
    if flags & 0x08 != 0 {
        parts.push("restart flag set".to_owned());
    }
    if flags & 0x04 != 0 {
        parts.push("notification flag set".to_owned());
    }
    let mut out = String::from(" ");
    if !parts.is_empty() {
        let _ = writeln!(out, "\t\t\t{}", parts.join(", "));
    }
    for tuple in tuples.chunks_exact(4) {
        if let [a, b, safi, flags] = tuple {
            let family = dashed(Family {
                afi: u16::from_be_bytes([*a, *b]),
                safi: *safi,
            });
            let _ = writeln!(out, "\t\t\t{family}{}", forward(*flags));
        }
    }
    block(out)
}

fn long_lived(value: &[u8]) -> String {
    let mut out = String::from(" ");
    for tuple in value.chunks_exact(7) {
        if let [a, b, safi, flags, t1, t2, t3] = tuple {
            let family = dashed(Family {
                afi: u16::from_be_bytes([*a, *b]),
                safi: *safi,
            });
            let time = u32::from_be_bytes([0, *t1, *t2, *t3]);
            let _ = writeln!(out, "\t\t\t{family}, restart time {time} sec{}", forward(*flags));
        }
    }
    block(out)
}

fn extended_next_hop(value: &[u8]) -> String {
    let mut out = String::from(" ");
    for tuple in value.chunks_exact(6) {
        if let [a, b, _, safi, h1, h2] = tuple {
            let family = dashed(Family {
                afi: u16::from_be_bytes([*a, *b]),
                safi: *safi,
            });
            let hop = match u16::from_be_bytes([*h1, *h2]) {
                1 => "ipv4",
                2 => "ipv6",
                _ => "unknown",
            };
            let _ = writeln!(out, "\t\t\tnlri: {family}, nexthop: {hop}");
        }
    }
    block(out)
}

fn forward(flags: u8) -> &'static str {
    if flags & 0x80 != 0 {
        ", forward flag set"
    } else {
        ""
    }
}

/// A lone space is no block.
fn block(out: String) -> String {
    if out == " " { String::new() } else { out }
}

/// A length octet and so many octets of text.
fn pascal(value: &[u8]) -> (String, &[u8]) {
    let Some((&length, rest)) = value.split_first() else {
        return (String::new(), &[]);
    };
    let (text, rest) = rest.split_at_checked(usize::from(length)).unwrap_or((rest, &[]));
    // A terminal must not be steered by what a peer calls itself.
    let text = String::from_utf8_lossy(text).replace(char::is_control, "\u{fffd}");
    (text, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn union_is_ordered_by_code_with_details_per_side() {
        let local = vec![
            vec![2, 0],
            vec![1, 4, 0, 1, 0, 1],
            vec![64, 6, 0xc0, 120, 0, 1, 1, 0x80],
            vec![73, 7, 5, b'n', b'o', b'd', b'e', b'1', 0],
        ];
        let remote = vec![
            vec![1, 4, 0, 1, 0, 1],
            vec![1, 4, 0, 2, 0, 1],
            vec![2, 0],
            vec![9, 0],
        ];
        let (out, unreadable) = text(&local, &remote);
        assert_eq!(
            out,
            "\tmultiprotocol:\n\
             \t\tipv4-unicast: advertised and received\n\
             \t\tipv6-unicast: received\n\
             \troute-refresh: advertised and received\n\
             \t\tlocal:\n\
             \t\t\troute-refresh\n\
             \t\tremote:\n\
             \t\t\troute-refresh\n\
             \tUnknownCapability(9): received\n\
             \t\tremote:\n\
             \t\t\tUnknownCapability(9)\n\
             \tgraceful-restart: advertised\n\
             \t\tlocal:\n \
             \t\t\trestart time: 120 sec, restart flag set, notification flag set\n\
             \t\t\tipv4-unicast, forward flag set\n\
             \tfqdn: advertised\n\
             \t\tlocal:\n\
             \t\t\tname: node1\n"
        );
        assert!(unreadable.is_empty());
    }

    #[test]
    fn none_at_all_says_so() {
        assert_eq!(text(&[], &[]).0, "No capabilities found\n");
    }

    #[test]
    fn a_capability_that_can_not_be_read_is_named_and_the_rest_is_printed() {
        let (out, unreadable) = text(&[vec![2, 5], vec![65, 4, 0, 0, 0xfd, 0xe9]], &[]);
        assert_eq!(out, "\t4-octet-as: advertised\n\t\tlocal:\n\t\t\t4-octet-as\n");
        assert_eq!(unreadable.len(), 1);
    }
}
