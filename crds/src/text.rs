//! Addresses, prefixes and the patterns that describe them, as they are written in manifests.
//!
//! The schema patterns are those of Cilium's CRDs, built from parts so that a person can read them.
//! What the patterns let through and the program cannot use as written (white space around an
//! address, a zone, host bits) is parsed here, once, and reported by the rules.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use schemars::{Schema, SchemaGenerator, json_schema};

/// An address as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenAddress<'a> {
    pub address: IpAddr,
    /// The part after `%`, which only IPv6 addresses may carry.
    pub zone: Option<&'a str>,
    /// White space stood around the address.
    pub padded: bool,
}

/// Reads an address as the CRD pattern allows it: with white space around it and with a zone.
pub fn parse_address(text: &str) -> Option<WrittenAddress<'_>> {
    let trimmed = text.trim_matches(is_pattern_space);
    let padded = trimmed.len() != text.len();
    if let Some((address, zone)) = trimmed.split_once('%') {
        let address = IpAddr::V6(address.parse::<Ipv6Addr>().ok()?);
        return (!zone.is_empty()).then_some(WrittenAddress {
            address,
            zone: Some(zone),
            padded,
        });
    }
    Some(WrittenAddress {
        address: trimmed.parse().ok()?,
        zone: None,
        padded,
    })
}

/// A prefix as somebody wrote it: host bits may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrittenPrefix {
    /// With the host bits cleared.
    pub prefix: IpNet,
    /// The address before the slash had bits set beyond the mask.
    pub host_bits: bool,
}

/// Reads `address/length` as Go's `net.ParseCIDR` does: no white space, no zone, no leading zeros
/// in IPv4 octets.
pub fn parse_prefix(text: &str) -> Option<WrittenPrefix> {
    let (address, length) = text.split_once('/')?;
    if length.is_empty() || length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let length: u8 = length.parse().ok()?;
    let net = match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(v4) => IpNet::V4(Ipv4Net::new(v4, length).ok()?),
        IpAddr::V6(v6) => IpNet::V6(Ipv6Net::new(v6, length).ok()?),
    };
    let prefix = net.trunc();
    Some(WrittenPrefix {
        prefix,
        host_bits: prefix.addr() != net.addr(),
    })
}

/// Reads a router ID or another dotted quad.
pub fn parse_ipv4(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok()
}

/// `\s` of RE2, the dialect the API server matches patterns with.
fn is_pattern_space(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{c}' | '\r' | ' ')
}

/// The pattern of `peerAddress` and `localAddress`: an IPv4 address or any textual form of an IPv6
/// address, a zone, and white space around them.
pub fn ip_pattern() -> String {
    const OCTET: &str = "([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])";
    const TAIL: &str = r"((25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3})";
    let v4 = format!(r"({OCTET}\.){{3}}{OCTET}");
    let v6 = ipv6_pattern(TAIL);
    format!(r"((^\s*({v4})\s*$)|(^\s*({v6})(%.+)?\s*$))")
}

/// Every place of `::` in an IPv6 address has its alternative. `tail` is the pattern of a dotted quad at its end.
pub(crate) fn ipv6_pattern(tail: &str) -> String {
    const H: &str = "[0-9A-Fa-f]{1,4}";
    [
        format!("(({H}:){{7}}({H}|:))"),
        format!("(({H}:){{6}}(:{H}|{tail}|:))"),
        format!("(({H}:){{5}}(((:{H}){{1,2}})|:{tail}|:))"),
        format!("(({H}:){{4}}(((:{H}){{1,3}})|((:{H})?:{tail})|:))"),
        format!("(({H}:){{3}}(((:{H}){{1,4}})|((:{H}){{0,2}}:{tail})|:))"),
        format!("(({H}:){{2}}(((:{H}){{1,5}})|((:{H}){{0,3}}:{tail})|:))"),
        format!("(({H}:){{1}}(((:{H}){{1,6}})|((:{H}){{0,4}}:{tail})|:))"),
        format!("(:(((:{H}){{1,7}})|((:{H}){{0,5}}:{tail})|:))"),
    ]
    .join("|")
}

pub(crate) fn ip_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": ip_pattern() })
}

pub(crate) fn cidr_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "cidr" })
}

pub(crate) fn cidrs_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "string", "format": "cidr" } })
}

/// Any whole number, whatever its width.
pub(crate) fn integer_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer" })
}

/// A whole number of things.
pub(crate) fn count_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 0 })
}

pub(crate) fn ipv4_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "ipv4" })
}

/// What a program would print for this address: the shortest form.
pub fn plain(text: &str) -> Cow<'_, str> {
    match parse_address(text) {
        Some(written) => Cow::Owned(written.address.to_string()),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_what_was_written_around_them() {
        assert_eq!(
            parse_address(" fe80::1%eth0 "),
            Some(WrittenAddress {
                address: "fe80::1".parse().unwrap(),
                zone: Some("eth0"),
                padded: true
            })
        );
        assert_eq!(parse_address("10.0.0.1%eth0"), None);
        assert_eq!(parse_address("fe80::1%"), None);
    }

    #[test]
    fn host_bits_are_seen_and_cleared() {
        let written = parse_prefix("10.0.0.7/24").unwrap();
        assert!(written.host_bits);
        assert_eq!(written.prefix.to_string(), "10.0.0.0/24");
        assert!(!parse_prefix("fd00::/64").unwrap().host_bits);
        assert_eq!(parse_prefix("10.0.0.0"), None);
        assert_eq!(parse_prefix("10.0.0.0/33"), None);
        assert_eq!(parse_prefix("10.0.0.0/+8"), None);
    }
}
