//! Inclusive ranges of addresses, by arithmetic alone.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// All addresses from `first` to `last`, both included, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    first: IpAddr,
    last: IpAddr,
}

/// A range as a pool states it. Only prefixes have a first and last address to hold back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Block {
    /// The whole prefix; host bits are cleared.
    Prefix(IpNet),
    Range(Range),
}

/// Why two addresses make no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("the start {start} lies after the stop {stop}")]
    Reversed { start: IpAddr, stop: IpAddr },
    #[error("the start {start} and the stop {stop} are of different families")]
    MixedFamilies { start: IpAddr, stop: IpAddr },
}

impl Range {
    pub fn new(start: IpAddr, stop: IpAddr) -> Result<Self, RangeError> {
        if start.is_ipv4() != stop.is_ipv4() {
            return Err(RangeError::MixedFamilies { start, stop });
        }
        if start > stop {
            return Err(RangeError::Reversed { start, stop });
        }
        Ok(Self {
            first: start,
            last: stop,
        })
    }

    /// A single address.
    pub(crate) fn one(address: IpAddr) -> Self {
        Self {
            first: address,
            last: address,
        }
    }

    pub fn first(&self) -> IpAddr {
        self.first
    }

    pub fn last(&self) -> IpAddr {
        self.last
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.first <= address && address <= self.last && self.first.is_ipv4() == address.is_ipv4()
    }

    /// Whether any address lies in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        // IPv4 orders before IPv6, so ranges of two families never overlap.
        self.first <= other.last && other.first <= self.last
    }

    /// The addresses of both and what lies between them.
    pub(crate) fn with(&self, other: &Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }

    /// The number of addresses less one, because a whole IPv6 space has one more than fits.
    pub(crate) fn steps(&self) -> u128 {
        number(self.last).saturating_sub(number(self.first))
    }

    /// What is left of this range without the addresses of `others`, in ascending order.
    /// `others` must be in ascending order and must not overlap each other.
    pub(crate) fn without(self, others: &[Self]) -> Vec<Self> {
        let mut left = Vec::new();
        let mut first = self.first;
        let from = others.partition_point(|other| other.last < self.first);
        let overlapping = others
            .iter()
            .skip(from)
            .take_while(|other| other.first <= self.last);
        for other in overlapping {
            if first < other.first
                && let Some(last) = previous(other.first)
            {
                left.push(Self { first, last });
            }
            match next(other.last) {
                Some(after) if after <= self.last => first = first.max(after),
                Some(_) | None => return left,
            }
        }
        left.push(Self {
            first,
            last: self.last,
        });
        left
    }
}

impl fmt::Display for Range {
    /// The form of Cilium's conflict messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.first, self.last)
    }
}

impl Block {
    pub fn range(&self) -> Range {
        match self {
            Self::Prefix(net) => {
                let net = net.trunc();
                Range {
                    first: net.addr(),
                    last: last_of(net),
                }
            }
            Self::Range(range) => *range,
        }
    }
}

/// ipnet calls it the broadcast address, also where there is no such thing.
fn last_of(net: IpNet) -> IpAddr {
    match net {
        IpNet::V4(net) => IpAddr::V4(net.broadcast()),
        IpNet::V6(net) => IpAddr::V6(net.broadcast()),
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The address after this one in its family, if there is one.
pub(crate) fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4)
            .checked_add(1)
            .map(|n| IpAddr::V4(Ipv4Addr::from(n))),
        IpAddr::V6(v6) => u128::from(v6)
            .checked_add(1)
            .map(|n| IpAddr::V6(Ipv6Addr::from(n))),
    }
}

fn previous(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => u32::from(v4)
            .checked_sub(1)
            .map(|n| IpAddr::V4(Ipv4Addr::from(n))),
        IpAddr::V6(v6) => u128::from(v6)
            .checked_sub(1)
            .map(|n| IpAddr::V6(Ipv6Addr::from(n))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, stop: &str) -> Range {
        Range::new(start.parse().unwrap(), stop.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_range_needs_order_and_one_family() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(matches!(
            Range::new(address("10.0.0.2"), address("10.0.0.1")),
            Err(RangeError::Reversed { .. })
        ));
        assert!(matches!(
            Range::new(address("10.0.0.2"), address("fd00::1")),
            Err(RangeError::MixedFamilies { .. })
        ));
    }

    #[test]
    fn a_prefix_is_the_range_from_its_first_to_its_last_address() {
        let block = Block::Prefix("10.0.0.7/30".parse().unwrap());
        assert_eq!(block.range(), range("10.0.0.4", "10.0.0.7"));
        let block = Block::Prefix("fd00::/64".parse().unwrap());
        assert_eq!(block.range(), range("fd00::", "fd00::ffff:ffff:ffff:ffff"));
    }

    #[test]
    fn taking_ranges_away_leaves_the_gaps() {
        let whole = range("10.0.0.0", "10.0.0.9");
        let (a, b) = (range("10.0.0.2", "10.0.0.3"), range("10.0.0.6", "10.0.0.6"));
        assert_eq!(
            whole.without(&[a, b]),
            [
                range("10.0.0.0", "10.0.0.1"),
                range("10.0.0.4", "10.0.0.5"),
                range("10.0.0.7", "10.0.0.9")
            ]
        );
        assert_eq!(whole.without(&[whole]), []);
        assert_eq!(
            whole.without(&[range("9.0.0.0", "10.0.0.4")]),
            [range("10.0.0.5", "10.0.0.9")]
        );
        assert_eq!(
            whole.without(&[range("10.0.0.4", "11.0.0.0")]),
            [range("10.0.0.0", "10.0.0.3")]
        );
        let all = range("0.0.0.0", "255.255.255.255");
        assert_eq!(all.without(&[all]), []);
        assert_eq!(all.without(&[range("fd00::", "fd00::1")]), [all]);
    }
}
