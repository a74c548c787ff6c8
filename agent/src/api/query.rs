//! Query parameters, checked as the OpenAPI runtime of the imitated agent checks them.

use std::net::IpAddr;

use bgp_speaker::speaker::Table;
use bgp_speaker::types::Family;
use serde::Serialize;

/// The body of a 422.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    pub code: u16,
    pub message: String,
}

/// What `/v1/bgp/routes` is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routes {
    pub table: Table,
    pub family: Family,
    pub router_asn: Option<u32>,
    pub neighbor: Option<IpAddr>,
}

/// Why well-formed parameters make no sense together: a 500, with these texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("unknown AFI {0}")]
    UnknownAfi(String),
    #[error("unknown SAFI {0}")]
    UnknownSafi(String),
    #[error("invalid neighbor address: ParseAddr({0:?}): unable to parse IP")]
    BadNeighbor(String),
    #[error("neighbor is unnecessary for loc-rib table type")]
    NeighborOfLocRib,
    #[error("virtual router with ASN {0} does not exist")]
    UnknownRouter(i64),
    #[error("multiple virtual routers configured, router ASN must be specified")]
    ManyRouters,
    #[error("neighbor {0} does not exist")]
    UnknownNeighbor(IpAddr),
}

/// Either kind of refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    Invalid(Invalid),
    Refused(Refusal),
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The parameters of a query string by name.
#[must_use]
pub fn parameters(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

/// The first parameter of this name, unless it is empty.
#[must_use]
pub fn one<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters
        .iter()
        .find(|(n, _)| n == name)
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
}

/// # Errors
/// [`Error`]; an unknown ASN or neighbour is found later, when the speaker is asked.
pub fn routes(query: &str) -> Result<Routes, Error> {
    let all = parameters(query);
    let afi = required(&all, "afi")?;
    let neighbor = one(&all, "neighbor");
    let router_asn = router_asn(&all)?;
    let safi = required(&all, "safi")?;
    let table = match required(&all, "table_type")? {
        "loc-rib" => Table::LocRib,
        "adj-rib-in" => Table::AdjRibIn,
        "adj-rib-out" => Table::AdjRibOut,
        _ => {
            return Err(Error::Invalid(Invalid {
                code: 606,
                message: "table_type in query should be one of [loc-rib adj-rib-in adj-rib-out]".to_owned(),
            }));
        }
    };
    let family = family(afi, safi)?;
    let neighbor = neighbor
        .map(|text| {
            text.parse::<IpAddr>()
                .map_err(|_| Refusal::BadNeighbor(text.to_owned()))
        })
        .transpose()?;
    if table == Table::LocRib && neighbor.is_some() {
        return Err(Refusal::NeighborOfLocRib.into());
    }
    Ok(Routes {
        table,
        family,
        router_asn,
        neighbor,
    })
}

/// # Errors
/// [`Invalid`] for what is no number; [`Refusal::UnknownRouter`] for one that can't be an ASN.
pub fn router_asn(all: &[(String, String)]) -> Result<Option<u32>, Error> {
    let Some(text) = one(all, "router_asn") else {
        return Ok(None);
    };
    let number: i64 = text.parse().map_err(|_| Invalid {
        code: 601,
        message: format!("router_asn in query must be of type int64: {text:?}"),
    })?;
    match u32::try_from(number) {
        Ok(asn) => Ok(Some(asn)),
        Err(_) => Err(Refusal::UnknownRouter(number).into()),
    }
}

fn required<'a>(all: &'a [(String, String)], name: &str) -> Result<&'a str, Invalid> {
    one(all, name).ok_or_else(|| Invalid {
        code: 602,
        message: format!("{name} in query is required"),
    })
}

/// # Errors
/// [`Refusal`] for words that name no family.
pub fn family(afi: &str, safi: &str) -> Result<Family, Refusal> {
    let afi_number = match afi {
        "ipv4" => 1,
        "ipv6" => 2,
        "l2vpn" => 25,
        "ls" => 16388,
        "opaque" => 16397,
        _ => return Err(Refusal::UnknownAfi(afi.to_owned())),
    };
    let named = |number: &u8| {
        let family = Family {
            afi: afi_number,
            safi: *number,
        };
        super::bgp::words(family).1 == safi && safi.parse::<u8>().is_err()
    };
    let safi_number = (0..=u8::MAX)
        .find(named)
        .ok_or_else(|| Refusal::UnknownSafi(safi.to_owned()))?;
    Ok(Family {
        afi: afi_number,
        safi: safi_number,
    })
}

/// `%3A` and `+`.
fn decode(text: &str) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        let escaped = (first == b'%')
            .then(|| after.split_first_chunk::<2>())
            .flatten()
            .and_then(|(digits, after)| {
                let digits = std::str::from_utf8(digits).ok()?;
                Some((u8::from_str_radix(digits, 16).ok()?, after))
            });
        match (first, escaped) {
            (_, Some((octet, after))) => {
                octets.push(octet);
                rest = after;
            }
            (b'+', None) => octets.push(b' '),
            (other, None) => octets.push(other),
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invalid(query: &str) -> String {
        match routes(query) {
            Err(Error::Invalid(invalid)) => format!("{} {}", invalid.code, invalid.message),
            other => panic!("{other:?}"),
        }
    }

    fn refused(query: &str) -> String {
        match routes(query) {
            Err(Error::Refused(refusal)) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_whole_query_is_understood() {
        assert_eq!(
            routes("table_type=adj-rib-out&afi=ipv6&safi=unicast&router_asn=65001&neighbor=fd00%3A%3A1"),
            Ok(Routes {
                table: Table::AdjRibOut,
                family: Family::IPV6_UNICAST,
                router_asn: Some(65001),
                neighbor: Some("fd00::1".parse().unwrap()),
            })
        );
    }

    #[test]
    fn validation_errors_are_those_of_the_openapi_runtime() {
        assert_eq!(
            invalid("afi=ipv4&safi=unicast"),
            "602 table_type in query is required"
        );
        assert_eq!(
            invalid("table_type=loc-rib&safi=unicast"),
            "602 afi in query is required"
        );
        assert_eq!(
            invalid("table_type=rib&afi=ipv4&safi=unicast"),
            "606 table_type in query should be one of [loc-rib adj-rib-in adj-rib-out]"
        );
        assert_eq!(
            invalid("table_type=loc-rib&afi=ipv4&safi=unicast&router_asn=x"),
            "601 router_asn in query must be of type int64: \"x\""
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_the_known_words() {
        assert_eq!(
            refused("table_type=loc-rib&afi=ip&safi=unicast"),
            "unknown AFI ip"
        );
        assert_eq!(
            refused("table_type=loc-rib&afi=ipv4&safi=uni"),
            "unknown SAFI uni"
        );
        assert_eq!(
            refused("table_type=loc-rib&afi=ipv4&safi=unicast&neighbor=10.0.0.1"),
            "neighbor is unnecessary for loc-rib table type"
        );
        assert_eq!(
            refused("table_type=adj-rib-in&afi=ipv4&safi=unicast&neighbor=x"),
            "invalid neighbor address: ParseAddr(\"x\"): unable to parse IP"
        );
        assert_eq!(
            refused("table_type=loc-rib&afi=ipv4&safi=unicast&router_asn=-1"),
            "virtual router with ASN -1 does not exist"
        );
    }
}
