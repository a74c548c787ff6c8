//! The attributes an advertisement sets, and what becomes of them where several apply to one prefix.
//!
//! Merging is a union of communities, the highest local preference, the lowest MED, the most prepended ASNs. So it
//! does not depend on any order.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use bgp_speaker::policy::{SetAttrs, SetNextHop};
use bgp_speaker::wire::attrs::{ExtCommunity, LargeCommunity, NextHop};
use crds::bgp::advertisement::{Attributes, Communities};
use crds::{community, text};

/// A value with its spelling, which route policies print back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spelled<T> {
    pub(crate) text: Arc<str>,
    pub(crate) value: T,
}

/// What a route is given. `None`/empty: left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RouteAttributes {
    pub(crate) communities: Vec<Spelled<u32>>,
    pub(crate) large: Vec<Spelled<LargeCommunity>>,
    pub(crate) extended: Vec<Spelled<ExtCommunity>>,
    pub(crate) local_pref: Option<u32>,
    pub(crate) med: Option<u32>,
    pub(crate) prepend: Option<u8>,
    pub(crate) next_hop: Option<IpAddr>,
}

impl RouteAttributes {
    /// As written. What can't be read is left out; the reader of the document reported it.
    #[must_use]
    pub(crate) fn of(written: &Attributes) -> Self {
        let mut attributes = written
            .communities
            .as_ref()
            .map_or_else(Self::default, Self::of_communities);
        attributes.local_pref = written.local_pref();
        attributes.med = written.med;
        attributes.prepend = written.as_path_prepend;
        attributes.next_hop = written
            .next_hop
            .as_deref()
            .and_then(text::parse_address)
            .map(|a| a.address);
        for spelling in &written.extended_communities {
            if let Ok(octets) = community::extended(spelling) {
                push(&mut attributes.extended, spelling, ExtCommunity(octets));
            }
        }
        attributes
    }

    /// The standard ones in the order given, then the well-known ones; each value once, by its first spelling.
    #[must_use]
    pub(crate) fn of_communities(written: &Communities) -> Self {
        let mut attributes = Self::default();
        for spelling in &written.standard {
            if let Ok(value) = community::standard(spelling) {
                push(&mut attributes.communities, spelling, value);
            }
        }
        for known in &written.well_known {
            push(&mut attributes.communities, known.as_str(), known.value());
        }
        for spelling in &written.large {
            if let Ok((a, b, c)) = community::large(spelling) {
                push(&mut attributes.large, spelling, LargeCommunity(a, b, c));
            }
        }
        attributes
    }

    /// Both, where one policy says both: communities come out sorted by their spelling, as Cilium has them.
    #[must_use]
    pub(crate) fn merge(&self, other: &Self) -> Self {
        Self {
            communities: union(&self.communities, &other.communities),
            large: union(&self.large, &other.large),
            extended: union(&self.extended, &other.extended),
            local_pref: self.local_pref.into_iter().chain(other.local_pref).max(),
            med: self.med.into_iter().chain(other.med).min(),
            prepend: self.prepend.into_iter().chain(other.prepend).max(),
            next_hop: self.next_hop.into_iter().chain(other.next_hop).min(),
        }
    }

    /// Both, where two policies meet in one prefix: equal ones stay as they are written.
    #[must_use]
    pub(crate) fn join(&self, other: &Self) -> Self {
        if self == other {
            self.clone()
        } else {
            self.merge(other)
        }
    }

    /// As the speaker takes them.
    #[must_use]
    pub(crate) fn to_set(&self) -> SetAttrs {
        SetAttrs {
            communities: self.communities.iter().map(|c| c.value).collect(),
            large_communities: self.large.iter().map(|c| c.value).collect(),
            ext_communities: self.extended.iter().map(|c| c.value).collect(),
            local_pref: self.local_pref,
            med: self.med,
            as_path_prepend: self.prepend.unwrap_or(0),
            next_hop: self.next_hop.map_or(SetNextHop::Default, |address| {
                SetNextHop::Is(NextHop::Ip(address))
            }),
        }
    }
}

fn push<T: PartialEq>(list: &mut Vec<Spelled<T>>, text: &str, value: T) {
    if list.iter().all(|known| known.value != value) {
        let text = text.into();
        list.push(Spelled { text, value });
    }
}

fn union<T: Clone + Ord>(a: &[Spelled<T>], b: &[Spelled<T>]) -> Vec<Spelled<T>> {
    let all: BTreeSet<&Spelled<T>> = a.iter().chain(b).collect();
    let mut seen = BTreeSet::new();
    all.into_iter()
        .filter(|spelled| seen.insert(&spelled.value))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn communities(standard: &[&str]) -> RouteAttributes {
        RouteAttributes::of_communities(&Communities {
            standard: standard.iter().map(|s| (*s).to_owned()).collect(),
            ..Communities::default()
        })
    }

    fn spellings(attributes: &RouteAttributes) -> Vec<&str> {
        attributes.communities.iter().map(|c| &*c.text).collect()
    }

    #[test]
    fn a_value_spelled_twice_keeps_its_first_spelling() {
        let written = Communities {
            standard: vec![
                "65000:99".to_owned(),
                "4294967041".to_owned(),
                "4259840099".to_owned(),
            ],
            well_known: vec![community::WellKnown::NoExport, community::WellKnown::NoPeer],
            large: vec!["1:2:3".to_owned(), "1:2:3".to_owned()],
        };
        let attributes = RouteAttributes::of_communities(&written);
        assert_eq!(spellings(&attributes), ["65000:99", "4294967041", "no-peer"]);
        assert_eq!(attributes.large.len(), 1);
    }

    #[test]
    fn merged_communities_are_sorted_as_text_and_equal_ones_joined_stay_in_order() {
        let (a, b) = (communities(&["65000:98", "65000:3"]), communities(&["65000:102"]));
        assert_eq!(spellings(&a.merge(&b)), ["65000:102", "65000:3", "65000:98"]);
        assert_eq!(a.merge(&b), b.merge(&a));
        assert_eq!(spellings(&a.join(&a)), ["65000:98", "65000:3"]);
    }

    #[test]
    fn numbers_merge_the_same_in_any_order() {
        let a = RouteAttributes {
            local_pref: Some(100),
            med: Some(5),
            ..RouteAttributes::default()
        };
        let b = RouteAttributes {
            local_pref: Some(50),
            med: Some(7),
            prepend: Some(2),
            ..RouteAttributes::default()
        };
        let both = a.merge(&b);
        assert_eq!(
            (both.local_pref, both.med, both.prepend),
            (Some(100), Some(5), Some(2))
        );
        assert_eq!(both, b.merge(&a));
    }
}
