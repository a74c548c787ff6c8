//! Communities: from the spelling in a manifest to the numbers on the wire, keeping both.
//!
//! Standard (RFC 1997) as a decimal number or as two 16-bit halves, well-known ones by name (IANA
//! "BGP Well-known Communities"), large (RFC 8092) and extended (RFC 4360, 5668, 7153 and
//! draft-ietf-idr-link-bandwidth). The spelling is kept because route policies print it back.

use std::fmt;
use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// 0 to 65535 without leading zeros.
pub(crate) const U16_PATTERN: &str =
    "([0-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
/// 0 to 4294967295 without leading zeros.
pub(crate) const U32_PATTERN: &str = "([0-9]|[1-9][0-9]{1,8}|[1-3][0-9]{9}|4[01][0-9]{8}|42[0-8][0-9]{7}|429[0-3][0-9]{6}|4294[0-8][0-9]{5}|42949[0-5][0-9]{4}|429496[0-6][0-9]{3}|4294967[01][0-9]{2}|42949672[0-8][0-9]|429496729[0-5])";

/// A community that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum WellKnown {
    Internet,
    PlannedShut,
    AcceptOwn,
    RouteFilterTranslatedV4,
    RouteFilterV4,
    RouteFilterTranslatedV6,
    RouteFilterV6,
    LlgrStale,
    NoLlgr,
    Blackhole,
    NoExport,
    NoAdvertise,
    NoExportSubconfed,
    NoPeer,
}

impl WellKnown {
    pub const ALL: [Self; 14] = [
        Self::Internet,
        Self::PlannedShut,
        Self::AcceptOwn,
        Self::RouteFilterTranslatedV4,
        Self::RouteFilterV4,
        Self::RouteFilterTranslatedV6,
        Self::RouteFilterV6,
        Self::LlgrStale,
        Self::NoLlgr,
        Self::Blackhole,
        Self::NoExport,
        Self::NoAdvertise,
        Self::NoExportSubconfed,
        Self::NoPeer,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internet => "internet",
            Self::PlannedShut => "planned-shut",
            Self::AcceptOwn => "accept-own",
            Self::RouteFilterTranslatedV4 => "route-filter-translated-v4",
            Self::RouteFilterV4 => "route-filter-v4",
            Self::RouteFilterTranslatedV6 => "route-filter-translated-v6",
            Self::RouteFilterV6 => "route-filter-v6",
            Self::LlgrStale => "llgr-stale",
            Self::NoLlgr => "no-llgr",
            Self::Blackhole => "blackhole",
            Self::NoExport => "no-export",
            Self::NoAdvertise => "no-advertise",
            Self::NoExportSubconfed => "no-export-subconfed",
            Self::NoPeer => "no-peer",
        }
    }

    pub fn value(self) -> u32 {
        match self {
            Self::Internet => 0,
            Self::PlannedShut => 0xffff_0000,
            Self::AcceptOwn => 0xffff_0001,
            Self::RouteFilterTranslatedV4 => 0xffff_0002,
            Self::RouteFilterV4 => 0xffff_0003,
            Self::RouteFilterTranslatedV6 => 0xffff_0004,
            Self::RouteFilterV6 => 0xffff_0005,
            Self::LlgrStale => 0xffff_0006,
            Self::NoLlgr => 0xffff_0007,
            Self::Blackhole => 0xffff_029a,
            Self::NoExport => 0xffff_ff01,
            Self::NoAdvertise => 0xffff_ff02,
            Self::NoExportSubconfed => 0xffff_ff03,
            Self::NoPeer => 0xffff_ff04,
        }
    }

    pub fn from_value(value: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.value() == value)
    }
}

impl fmt::Display for WellKnown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a community could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommunityError {
    #[error(
        "{0:?} is not a standard community: write a number up to 4294967295 or two up to 65535, as 65000:100"
    )]
    Standard(String),
    #[error("{0:?} is not a large community: write three numbers up to 4294967295, as 65000:1:2")]
    Large(String),
    #[error(
        "{0:?} is not an extended community: write rt:65000:1, soo:10.0.0.1:7, link-bandwidth:65000:125000000 or 0x and sixteen hex digits"
    )]
    Extended(String),
}

/// A standard community: a number up to 4294967295, or `high:low`.
pub fn standard(text: &str) -> Result<u32, CommunityError> {
    let read = || match text.split_once(':') {
        None => decimal::<u32>(text),
        Some((high, low)) => Some((u32::from(decimal::<u16>(high)?) << 16) | u32::from(decimal::<u16>(low)?)),
    };
    read().ok_or_else(|| CommunityError::Standard(text.to_owned()))
}

/// A large community: global administrator and two local parts.
pub fn large(text: &str) -> Result<(u32, u32, u32), CommunityError> {
    let read = || {
        let mut parts = text.split(':');
        let all = (
            decimal(parts.next()?)?,
            decimal(parts.next()?)?,
            decimal(parts.next()?)?,
        );
        parts.next().is_none().then_some(all)
    };
    read().ok_or_else(|| CommunityError::Large(text.to_owned()))
}

/// An extended community, as its eight octets.
///
/// `rt` and `soo` (sub-types 2 and 3) take an AS of two octets with a 32-bit number, or an AS of
/// four octets or an IPv4 address with a 16-bit number; an AS up to 65535 makes the two-octet form
/// unless it is written with an L, as `65000L`. `link-bandwidth` (type 0x40,
/// sub-type 4, non-transitive) takes an AS and bytes per second, carried as a float of 32 bits.
pub fn extended(text: &str) -> Result<[u8; 8], CommunityError> {
    read_extended(text).ok_or_else(|| CommunityError::Extended(text.to_owned()))
}

fn read_extended(text: &str) -> Option<[u8; 8]> {
    if let Some(hex) = text.strip_prefix("0x") {
        let digits = hex.len() == 16 && hex.bytes().all(|b| b.is_ascii_hexdigit());
        return digits
            .then(|| u64::from_str_radix(hex, 16).ok())
            .flatten()
            .map(u64::to_be_bytes);
    }
    let (kind, rest) = text.split_once(':')?;
    let (administrator, number) = rest.split_once(':')?;
    match kind {
        "rt" => two_part(0x02, administrator, number),
        "soo" => two_part(0x03, administrator, number),
        "link-bandwidth" => {
            let bytes_per_second: u64 = decimal(number)?;
            let [a, b] = decimal::<u16>(administrator)?.to_be_bytes();
            #[expect(
                clippy::as_conversions,
                reason = "the wire carries a float; nearest is what is wanted"
            )]
            let [c, d, e, f] = (bytes_per_second as f32).to_be_bytes();
            Some([0x40, 0x04, a, b, c, d, e, f])
        }
        _ => None,
    }
}

/// RFC 4360 3.1 and 3.2, RFC 5668 2: the type octet says which kind of administrator it is.
fn two_part(sub_type: u8, administrator: &str, number: &str) -> Option<[u8; 8]> {
    if let Ok(address) = administrator.parse::<Ipv4Addr>() {
        let [a, b, c, d] = address.octets();
        let [e, f] = decimal::<u16>(number)?.to_be_bytes();
        return Some([0x01, sub_type, a, b, c, d, e, f]);
    }
    let four_octets = administrator.strip_suffix('L');
    if let (None, Some(asn)) = (four_octets, decimal::<u16>(administrator)) {
        let [a, b] = asn.to_be_bytes();
        let [c, d, e, f] = decimal::<u32>(number)?.to_be_bytes();
        return Some([0x00, sub_type, a, b, c, d, e, f]);
    }
    let [a, b, c, d] = decimal::<u32>(four_octets.unwrap_or(administrator))?.to_be_bytes();
    let [e, f] = decimal::<u16>(number)?.to_be_bytes();
    Some([0x02, sub_type, a, b, c, d, e, f])
}

/// Digits only, no sign, no leading zero.
fn decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_communities_have_two_spellings() {
        assert_eq!(standard("65000:100"), Ok(65000 << 16 | 100));
        assert_eq!(standard("4294967295"), Ok(u32::MAX));
        assert_eq!(standard("0:0"), Ok(0));
        for bad in [
            "",
            "-1",
            "+1",
            "01",
            "65536:1",
            "1:2:3",
            "4294967296",
            " 1",
            "no-export",
            ":",
            "1:",
        ] {
            assert_eq!(standard(bad), Err(CommunityError::Standard(bad.to_owned())));
        }
    }

    #[test]
    fn large_communities_have_three_numbers() {
        assert_eq!(large("64496:4294967295:2"), Ok((64496, u32::MAX, 2)));
        for bad in ["1:2", "1:2:3:4", "1:2:03", "1:2:4294967296", "a:b:c"] {
            assert!(large(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn extended_communities_choose_the_type_by_the_administrator() {
        assert_eq!(extended("rt:65000:100"), Ok([0, 2, 0xfd, 0xe8, 0, 0, 0, 100]));
        assert_eq!(extended("soo:10.0.0.1:7"), Ok([1, 3, 10, 0, 0, 1, 0, 7]));
        assert_eq!(extended("rt:4200000000:7"), Ok([2, 2, 0xfa, 0x56, 0xea, 0, 0, 7]));
        assert_eq!(extended("rt:65000L:7"), Ok([2, 2, 0, 0, 0xfd, 0xe8, 0, 7]));
        let [c, d, e, f] = 125_000_000f32.to_be_bytes();
        assert_eq!(
            extended("link-bandwidth:65000:125000000"),
            Ok([0x40, 4, 0xfd, 0xe8, c, d, e, f])
        );
        assert_eq!(
            extended("0x0002fde800000064"),
            Ok([0, 2, 0xfd, 0xe8, 0, 0, 0, 100])
        );
        for bad in [
            "rt:1",
            "rt:1:2:3",
            "rt:4200000000:65536",
            "color:1:2",
            "0x+002fde800000064",
            "0xé00000000000000",
        ] {
            assert!(extended(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_numbers_agree_both_ways() {
        for known in WellKnown::ALL {
            assert_eq!(WellKnown::from_value(known.value()), Some(known));
            assert_eq!(serde_json::to_value(known).unwrap(), known.as_str());
        }
    }
}
