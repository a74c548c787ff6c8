//! Path attributes as words: `[{Origin: i} {AsPath: 65001} {Nexthop: 10.0.0.1}]`.
//!
//! The input is what the API carries: each attribute with its flags, type and length octets. It comes from
//! another process, so every read is checked; what does not parse is shown as octets, never dropped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp_speaker::types::{Family, Prefix};

/// One attribute taken apart.
#[derive(Debug, Clone, Copy)]
struct Attribute<'a> {
    code: u8,
    value: &'a [u8],
}

/// The whole list, in the order given.
#[must_use]
pub fn list<'a>(attributes: impl IntoIterator<Item = &'a [u8]>) -> String {
    let texts: Vec<String> = attributes.into_iter().map(one).collect();
    format!("[{}]", texts.join(" "))
}

/// The first NEXT_HOP or MP_REACH_NLRI; 0.0.0.0 when there is neither.
#[must_use]
pub fn next_hop<'a>(attributes: impl IntoIterator<Item = &'a [u8]>) -> IpAddr {
    attributes
        .into_iter()
        .filter_map(split)
        .find_map(|attribute| match attribute.code {
            3 => Reader(attribute.value).v4().map(IpAddr::V4),
            14 => MpReach::read(attribute.value).map(|reach| reach.next_hop),
            _ => None,
        })
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

fn one(octets: &[u8]) -> String {
    let text = split(octets).and_then(|attribute| {
        let mut value = Reader(attribute.value);
        match attribute.code {
            1 => origin(&mut value),
            2 => as_path(&mut value, "AsPath"),
            3 => value.v4().map(|a| format!("{{Nexthop: {a}}}")),
            4 => value.u32().map(|n| format!("{{Med: {n}}}")),
            5 => value.u32().map(|n| format!("{{LocalPref: {n}}}")),
            6 => Some("{AtomicAggregate}".to_owned()),
            7 => aggregator(&mut value),
            8 => value
                .each(Reader::u32, community)
                .map(|c| format!("{{Communities: {}}}", c.join(", "))),
            9 => value.v4().map(|a| format!("{{Originator: {a}}}")),
            10 => value
                .each(Reader::v4, |a| a.to_string())
                .map(|ids| format!("{{ClusterList: [{}]}}", ids.join(" "))),
            14 => MpReach::read(attribute.value).map(|reach| reach.text()),
            15 => mp_unreach(&mut value),
            16 => value
                .each(Reader::octets::<8>, |c| format!("[{}]", ext_community(c)))
                .map(|c| format!("{{Extcomms: {}}}", c.join(", "))),
            17 => as_path(&mut value, "As4Path"),
            32 => value
                .each(Reader::large, |(a, b, c)| format!("{a}:{b}:{c}"))
                .map(|c| format!("{{LargeCommunity: [ {}]}}", c.join(", "))),
            _ => None,
        }
    });
    text.unwrap_or_else(|| unreadable(octets))
}

/// Flags, type, one or two octets of length, value.
fn split(octets: &[u8]) -> Option<Attribute<'_>> {
    let mut reader = Reader(octets);
    let flags = reader.u8()?;
    let code = reader.u8()?;
    let length = if flags & 0x10 == 0 {
        usize::from(reader.u8()?)
    } else {
        usize::from(reader.u16()?)
    };
    Some(Attribute {
        code,
        value: reader.take(length)?,
    })
}

fn unreadable(octets: &[u8]) -> String {
    let code = octets.get(1).map_or_else(|| "?".to_owned(), u8::to_string);
    let value: String = split(octets)
        .map_or(octets, |attribute| attribute.value)
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    format!("{{Attribute {code}: 0x{value}}}")
}

fn origin(value: &mut Reader<'_>) -> Option<String> {
    let word = match value.u8()? {
        0 => "i",
        1 => "e",
        _ => "?",
    };
    Some(format!("{{Origin: {word}}}"))
}

/// Segments carry 4-octet ASNs here, unless only 2-octet ones fit the length.
fn as_path(value: &mut Reader<'_>, name: &str) -> Option<String> {
    let octets = value.0;
    let segments = segments(Reader(octets), |r| r.u32())
        .or_else(|| segments(Reader(octets), |r| r.u16().map(u32::from)))?;
    Some(format!("{{{name}: {}}}", segments.join(" ")))
}

fn segments(mut value: Reader<'_>, asn: fn(&mut Reader<'_>) -> Option<u32>) -> Option<Vec<String>> {
    let mut out = Vec::new();
    while !value.0.is_empty() {
        let kind = value.u8()?;
        let count = value.u8()?;
        let asns: Vec<String> = (0..count)
            .map(|_| asn(&mut value).map(|n| n.to_string()))
            .collect::<Option<_>>()?;
        out.push(match kind {
            1 => format!("{{{}}}", asns.join(",")),
            2 => asns.join(" "),
            3 => format!("({})", asns.join(" ")),
            4 => format!("[{}]", asns.join(",")),
            _ => return None,
        });
    }
    Some(out)
}

fn aggregator(value: &mut Reader<'_>) -> Option<String> {
    let asn = if value.0.len() == 6 {
        u32::from(value.u16()?)
    } else {
        value.u32()?
    };
    let address = value.v4()?;
    Some(format!("{{Aggregate: {{AS: {asn}, Address: {address}}}}}"))
}

/// A standard community: its well-known name, or two halves.
#[must_use]
pub fn community(value: u32) -> String {
    let name = match value {
        0x0000_0000 => "internet",
        0xffff_0000 => "planned-shut",
        0xffff_0001 => "accept-own",
        0xffff_0006 => "llgr-stale",
        0xffff_0007 => "no-llgr",
        0xffff_029a => "blackhole",
        0xffff_ff01 => "no-export",
        0xffff_ff02 => "no-advertise",
        0xffff_ff03 => "no-export-subconfed",
        0xffff_ff04 => "no-peer",
        _ => return format!("{}:{}", value >> 16, value & 0xffff),
    };
    name.to_owned()
}

/// An extended community (RFC 4360): route targets and origins as `a:b`, link bandwidth in octets a
/// second, the rest as octets.
#[must_use]
pub fn ext_community(octets: [u8; 8]) -> String {
    let [kind, sub, a, b, c, d, e, f] = octets;
    let (half, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([e, f]));
    let word = u32::from_be_bytes([a, b, c, d]);
    let last = u32::from_be_bytes([c, d, e, f]);
    match (kind & 0xbf, sub) {
        (0x00, 0x02 | 0x03) => format!("{half}:{last}"),
        (0x01, 0x02 | 0x03) => format!("{}:{low}", Ipv4Addr::from_bits(word)),
        (0x02, 0x02 | 0x03) => format!("{word}:{low}"),
        (0x00, 0x04) => format!("link-bandwidth: {half}:{}", f32::from_bits(last)),
        _ => octets.iter().map(|octet| format!("{octet:02x}")).collect(),
    }
}

struct MpReach {
    family: Family,
    next_hop: IpAddr,
    prefixes: Vec<Prefix>,
}

impl MpReach {
    fn read(value: &[u8]) -> Option<Self> {
        let mut reader = Reader(value);
        let family = reader.family()?;
        let length = reader.u8()?;
        let mut hop = Reader(reader.take(usize::from(length))?);
        let next_hop = match length {
            4 => IpAddr::V4(hop.v4()?),
            // With a link-local address behind the global one: 32 octets.
            16 | 32 => IpAddr::V6(hop.v6()?),
            _ => return None,
        };
        let _reserved = reader.u8()?;
        Some(Self {
            family,
            next_hop,
            prefixes: reader.prefixes(family)?,
        })
    }

    fn text(&self) -> String {
        format!(
            "{{MpReach({}): {{Nexthop: {}, NLRIs: [{}]}}}}",
            dashed(self.family),
            self.next_hop,
            join(&self.prefixes)
        )
    }
}

fn mp_unreach(value: &mut Reader<'_>) -> Option<String> {
    let family = value.family()?;
    let prefixes = value.prefixes(family)?;
    Some(if prefixes.is_empty() {
        format!("{{MpUnreach({}): End-of-Rib}}", dashed(family))
    } else {
        format!(
            "{{MpUnreach({}): {{NLRIs: [{}]}}}}",
            dashed(family),
            join(&prefixes)
        )
    })
}

/// `ipv4-unicast`.
#[must_use]
pub fn dashed(family: Family) -> String {
    family.to_string().replace('/', "-")
}

fn join(prefixes: &[Prefix]) -> String {
    prefixes
        .iter()
        .map(Prefix::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Takes checked reads off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn octets<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.octets().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.octets().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.octets().map(u32::from_be_bytes)
    }

    fn v4(&mut self) -> Option<Ipv4Addr> {
        self.octets::<4>().map(Ipv4Addr::from)
    }

    fn v6(&mut self) -> Option<Ipv6Addr> {
        self.octets::<16>().map(Ipv6Addr::from)
    }

    fn large(&mut self) -> Option<(u32, u32, u32)> {
        Some((self.u32()?, self.u32()?, self.u32()?))
    }

    fn family(&mut self) -> Option<Family> {
        Some(Family {
            afi: self.u16()?,
            safi: self.u8()?,
        })
    }

    /// Reads to the end; `None` unless it comes out even.
    fn each<T>(
        &mut self,
        read: fn(&mut Self) -> Option<T>,
        text: impl Fn(T) -> String,
    ) -> Option<Vec<String>> {
        let mut out = Vec::new();
        while !self.0.is_empty() {
            out.push(text(read(self)?));
        }
        Some(out)
    }

    fn prefixes(&mut self, family: Family) -> Option<Vec<Prefix>> {
        let mut out = Vec::new();
        while !self.0.is_empty() {
            let len = self.u8()?;
            let octets = self.take(usize::from(len).div_ceil(8))?;
            let addr = if family.afi == 1 {
                let mut all = [0_u8; 4];
                all.get_mut(..octets.len())?.copy_from_slice(octets);
                IpAddr::from(all)
            } else {
                let mut all = [0_u8; 16];
                all.get_mut(..octets.len())?.copy_from_slice(octets);
                IpAddr::from(all)
            };
            out.push(Prefix::new(addr, len).ok()?);
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(octets: &[u8]) -> String {
        one(octets)
    }

    #[test]
    fn every_attribute_reads_as_the_compatible_tools_print_it() {
        let cases: &[(&[u8], &str)] = &[
            (&[0x40, 1, 1, 0], "{Origin: i}"),
            (&[0x40, 1, 1, 1], "{Origin: e}"),
            (&[0x40, 1, 1, 2], "{Origin: ?}"),
            (&[0x40, 2, 0], "{AsPath: }"),
            (
                &[0x40, 2, 10, 2, 2, 0, 0, 0xfd, 0xe9, 0, 0, 0xfd, 0xea],
                "{AsPath: 65001 65002}",
            ),
            (
                &[0x40, 2, 16, 2, 1, 0, 0, 0xfd, 0xe9, 1, 2, 0, 0, 0, 1, 0, 0, 0, 2],
                "{AsPath: 65001 {1,2}}",
            ),
            (&[0x40, 2, 4, 2, 1, 0xfd, 0xe9], "{AsPath: 65001}"),
            (&[0x40, 3, 4, 10, 0, 0, 1], "{Nexthop: 10.0.0.1}"),
            (&[0x80, 4, 4, 0, 0, 0, 10], "{Med: 10}"),
            (&[0x40, 5, 4, 0, 0, 0, 100], "{LocalPref: 100}"),
            (&[0x40, 6, 0], "{AtomicAggregate}"),
            (
                &[0xc0, 7, 8, 0, 0, 0xfd, 0xe9, 10, 0, 0, 1],
                "{Aggregate: {AS: 65001, Address: 10.0.0.1}}",
            ),
            (
                &[0xc0, 8, 8, 0xfd, 0xe8, 0, 99, 0xff, 0xff, 0xff, 1],
                "{Communities: 65000:99, no-export}",
            ),
            (&[0x80, 9, 4, 10, 0, 0, 9], "{Originator: 10.0.0.9}"),
            (
                &[0x80, 10, 8, 1, 1, 1, 1, 2, 2, 2, 2],
                "{ClusterList: [1.1.1.1 2.2.2.2]}",
            ),
            (&[0x80, 15, 3, 0, 1, 1], "{MpUnreach(ipv4-unicast): End-of-Rib}"),
            (
                &[
                    0xc0, 16, 16, 0, 2, 0xfd, 0xe8, 0, 0, 0, 7, 1, 3, 10, 0, 0, 1, 0, 5,
                ],
                "{Extcomms: [65000:7], [10.0.0.1:5]}",
            ),
            (
                &[
                    0xc0, 32, 24, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6,
                ],
                "{LargeCommunity: [ 1:2:3, 4:5:6]}",
            ),
            (&[0xc0, 99, 2, 0xab, 0xcd], "{Attribute 99: 0xabcd}"),
        ];
        for (octets, expected) in cases {
            assert_eq!(text(octets), *expected);
        }
    }

    #[test]
    fn mp_reach_shows_family_next_hop_and_prefixes() {
        let mut value = vec![0, 2, 1, 16];
        value.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        value.extend([0, 64, 0xfd, 0x00, 0x00, 0x01, 0, 0, 0, 0]);
        let mut octets = vec![0x90, 14, 0, u8::try_from(value.len()).unwrap()];
        octets.extend(value);
        assert_eq!(
            text(&octets),
            "{MpReach(ipv6-unicast): {Nexthop: fd00::1, NLRIs: [fd00:1::/64]}}"
        );
        assert_eq!(
            next_hop([octets.as_slice()]),
            "fd00::1".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn without_a_next_hop_the_column_says_0_0_0_0() {
        assert_eq!(next_hop([[0x40_u8, 1, 1, 0].as_slice()]).to_string(), "0.0.0.0");
    }

    #[test]
    fn cut_attributes_are_shown_as_octets_at_every_length() {
        let whole: &[u8] = &[0xc0, 7, 8, 0, 0, 0xfd, 0xe9, 10, 0, 0, 1];
        for length in 0..whole.len() {
            assert!(text(&whole[..length]).starts_with("{Attribute "), "{length}");
        }
    }
}
