//! Cutting prefixes of one length out of larger ones: the lowest that overlaps nothing in use.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A family and its addresses as numbers.
type Span = (Family, u128, u128);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What is in use: none overlapping another, by first address.
#[derive(Debug, Default)]
pub(crate) struct Used(BTreeMap<(Family, u128), u128>);

impl Used {
    pub(crate) fn new(prefixes: impl Iterator<Item = IpNet>) -> Self {
        let mut spans: Vec<Span> = prefixes.map(span).collect();
        spans.sort_unstable();
        let mut used = Self::default();
        for (family, first, last) in spans {
            let before = used.0.last_key_value().map(|(key, end)| (*key, *end));
            match before {
                Some((key, end)) if key.0 == family && end >= first => used.0.insert(key, end.max(last)),
                Some(_) | None => used.0.insert((family, first), last),
            };
        }
        used
    }

    /// The end of what overlaps these addresses, if anything does.
    fn overlap(&self, (family, first, last): Span) -> Option<u128> {
        let mut before = self.0.range(..=(family, last)).rev();
        let ((of, _), end) = before.next()?;
        (*of == family && *end >= first).then_some(*end)
    }
}

/// Larger prefixes, and how far they are cut.
#[derive(Debug)]
pub(crate) struct Supply {
    prefixes: Vec<IpNet>,
    length: u8,
    /// Which of them is being cut, and from which address.
    at: (usize, Option<u128>),
}

impl Supply {
    /// Prefixes that are smaller than a piece count for nothing.
    pub(crate) fn new(prefixes: Vec<IpNet>, length: u8) -> Self {
        let fits = |prefix: &IpNet| prefix.prefix_len() <= length && length <= prefix.max_prefix_len();
        Self {
            prefixes: prefixes.into_iter().filter(fits).collect(),
            length,
            at: (0, None),
        }
    }

    /// The lowest piece that is free; it is in use from now on.
    pub(crate) fn cut(&mut self, used: &mut Used) -> Option<IpNet> {
        loop {
            let prefix = *self.prefixes.get(self.at.0)?;
            let (family, begin, end) = span(prefix);
            let size = size(prefix.max_prefix_len(), self.length);
            let first = self.at.1.unwrap_or(begin);
            let Some(last) = first.checked_add(size - 1).filter(|last| *last <= end) else {
                self.at = (self.at.0 + 1, None);
                continue;
            };
            match used.overlap((family, first, last)) {
                None => {
                    used.0.insert((family, first), last);
                    self.step(last, end);
                    return IpNet::new(address(family, first), self.length).ok();
                }
                // On to the first piece behind it.
                Some(taken) => self.step(taken.max(first) | (size - 1), end),
            }
        }
    }

    fn step(&mut self, last: u128, end: u128) {
        self.at = match last.checked_add(1).filter(|next| *next <= end) {
            Some(next) => (self.at.0, Some(next)),
            None => (self.at.0 + 1, None),
        };
    }
}

/// How many addresses a piece has. A whole IPv6 has one less than it should: it is no piece of anything.
fn size(width: u8, length: u8) -> u128 {
    1_u128
        .checked_shl(u32::from(width.saturating_sub(length)))
        .unwrap_or(u128::MAX)
}

fn span(prefix: IpNet) -> Span {
    match prefix {
        IpNet::V4(prefix) => (
            Family::V4,
            prefix.network().to_bits().into(),
            prefix.broadcast().to_bits().into(),
        ),
        IpNet::V6(prefix) => (
            Family::V6,
            prefix.network().to_bits(),
            prefix.broadcast().to_bits(),
        ),
    }
}

fn address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

pub(crate) fn family(prefix: &IpNet) -> Family {
    match prefix {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn cut(pool: &[&str], length: u8, used: &[&str], number: usize) -> Vec<String> {
        let mut used = Used::new(nets(used).into_iter());
        let mut supply = Supply::new(nets(pool), length);
        (0..number)
            .map_while(|_| supply.cut(&mut used))
            .map(|net| net.to_string())
            .collect()
    }

    #[test]
    fn the_lowest_free_piece_is_cut_and_nothing_that_overlaps() {
        let used = ["10.0.0.0/24", "10.0.1.128/25", "10.0.4.0/23"];
        let all = cut(&["10.0.0.0/21", "10.1.0.0/24"], 24, &used, 9);
        assert_eq!(
            all,
            [
                "10.0.2.0/24",
                "10.0.3.0/24",
                "10.0.6.0/24",
                "10.0.7.0/24",
                "10.1.0.0/24"
            ]
        );
        assert_eq!(cut(&["fd00::/119"], 120, &["fd00::/120"], 5), ["fd00::100/120"]);
        assert_eq!(cut(&["255.255.255.254/31"], 32, &[], 5).len(), 2);
    }

    #[test]
    fn a_prefix_that_is_too_small_gives_nothing() {
        assert!(cut(&["10.0.0.0/25"], 24, &[], 1).is_empty());
        assert!(cut(&["10.0.0.0/8"], 64, &[], 1).is_empty());
        assert!(cut(&[], 24, &[], 1).is_empty());
    }

    proptest! {
        #[test]
        fn pieces_never_overlap_each_other_or_what_is_in_use(
            used in proptest::collection::vec((0..16_u8, 24..29_u8), 0..8)
        ) {
            let used: Vec<IpNet> = used
                .into_iter()
                .map(|(third, length)| IpNet::new([10, 0, third, 0].into(), length).unwrap())
                .collect();
            let mut supply = Supply::new(nets(&["10.0.0.0/20"]), 25);
            let mut taken = Used::new(used.iter().copied());
            let mut cut = Vec::new();
            while let Some(piece) = supply.cut(&mut taken) {
                cut.push(piece);
            }
            let overlaps = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
            for (at, piece) in cut.iter().enumerate() {
                prop_assert!(!used.iter().any(|other| overlaps(piece, other)));
                prop_assert!(!cut[..at].iter().any(|other| overlaps(piece, other)));
            }
            // None was left over.
            let free = (0..32_u8).filter(|n| {
                let piece = IpNet::new([10, 0, n / 2, (n % 2) * 128].into(), 25).unwrap();
                !used.iter().any(|other| overlaps(&piece, other))
            });
            prop_assert_eq!(cut.len(), free.count());
        }
    }
}
