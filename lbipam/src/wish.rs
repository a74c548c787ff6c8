//! From the fields and annotations of a Service to what it asks for.
//!
//! | annotation                                   | older name                                | meaning |
//! |----------------------------------------------|-------------------------------------------|---------|
//! | `lbipam.cilium.io/ips`                       | `io.cilium/lb-ipam-ips`                   | addresses, comma separated |
//! | `lbipam.cilium.io/sharing-key`               | `io.cilium/lb-ipam-sharing-key`           | who may share |
//! | `lbipam.cilium.io/sharing-cross-namespace`   | `io.cilium/lb-ipam-sharing-cross-namespace` | namespaces, comma separated, or `*` |
//!
//! If both names are present the newer one counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::request::{Family, Wish};
use crate::sharing::{Permitted, Sharing};

const IPS: [&str; 2] = ["lbipam.cilium.io/ips", "io.cilium/lb-ipam-ips"];
const SHARING_KEY: [&str; 2] = ["lbipam.cilium.io/sharing-key", "io.cilium/lb-ipam-sharing-key"];
const CROSS_NAMESPACE: [&str; 2] = [
    "lbipam.cilium.io/sharing-cross-namespace",
    "io.cilium/lb-ipam-sharing-cross-namespace",
];

/// The addresses a Service names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    /// In order, each once.
    pub addresses: Vec<IpAddr>,
    /// What should have been an address and is none.
    pub unreadable: Vec<String>,
}

/// `spec.ipFamilyPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FamilyPolicy {
    /// Also when unset.
    #[default]
    SingleStack,
    PreferDualStack,
    RequireDualStack,
}

/// What a Service wishes for: the addresses it names, or else families.
pub fn wish(requested: &Requested, families: BTreeSet<Family>) -> Wish {
    match requested.addresses.is_empty() {
        true => Wish::Families(families),
        false => Wish::Addresses(requested.addresses.clone()),
    }
}

/// `spec.loadBalancerIP`, then the annotation.
pub fn requested(load_balancer_ip: Option<&str>, annotations: &BTreeMap<String, String>) -> Requested {
    let mut requested = Requested::default();
    let listed = annotation(annotations, IPS).unwrap_or_default();
    for text in load_balancer_ip
        .into_iter()
        .chain(listed.split(','))
        .map(str::trim)
    {
        match text.parse() {
            Ok(address) if requested.addresses.contains(&address) => {}
            Ok(address) => requested.addresses.push(address),
            Err(_) if text.is_empty() => {}
            Err(_) => requested.unreadable.push(text.to_owned()),
        }
    }
    requested
}

/// The families of a Service that names no addresses.
///
/// `RequireDualStack` asks for both families even where one is not enabled, and is then not
/// satisfied; a single-stack Service asks for the family it lists even if that is not enabled.
pub fn families(policy: FamilyPolicy, listed: &[Family], enabled: &BTreeSet<Family>) -> BTreeSet<Family> {
    match policy {
        FamilyPolicy::SingleStack => listed
            .first()
            .or_else(|| enabled.first())
            .copied()
            .into_iter()
            .collect(),
        FamilyPolicy::PreferDualStack if listed.is_empty() => enabled.clone(),
        FamilyPolicy::PreferDualStack => listed
            .iter()
            .filter(|family| enabled.contains(family))
            .copied()
            .collect(),
        FamilyPolicy::RequireDualStack => BTreeSet::from([Family::Ipv4, Family::Ipv6]),
    }
}

/// The wish to share, if a key is given.
pub fn sharing(annotations: &BTreeMap<String, String>) -> Option<Sharing> {
    let key = annotation(annotations, SHARING_KEY)
        .filter(|key| !key.is_empty())?
        .to_owned();
    let listed: BTreeSet<&str> = annotation(annotations, CROSS_NAMESPACE)
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|namespace| !namespace.is_empty())
        .collect();
    let namespaces = if listed.contains("*") {
        Permitted::Any
    } else if listed.is_empty() {
        Permitted::Own
    } else {
        Permitted::Listed(listed.into_iter().map(str::to_owned).collect())
    };
    Some(Sharing { key, namespaces })
}

fn annotation<'a>(annotations: &'a BTreeMap<String, String>, names: [&str; 2]) -> Option<&'a str> {
    names
        .iter()
        .find_map(|name| annotations.get(*name))
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn named_addresses_come_from_the_field_then_the_newer_annotation() {
        let annotations = annotations(&[
            ("io.cilium/lb-ipam-ips", "10.0.0.9"),
            ("lbipam.cilium.io/ips", " 10.0.0.2 , nonsense,10.0.0.1, fd00::1,"),
        ]);
        let requested = requested(Some("10.0.0.1"), &annotations);
        let texts: Vec<String> = requested.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.0.0.1", "10.0.0.2", "fd00::1"]);
        assert_eq!(requested.unreadable, ["nonsense"]);
    }

    #[test]
    fn families_follow_the_policy() {
        use Family::{Ipv4, Ipv6};
        let both = BTreeSet::from([Ipv4, Ipv6]);
        let four = BTreeSet::from([Ipv4]);
        for (policy, listed, enabled, expected) in [
            (FamilyPolicy::SingleStack, &[][..], &both, &[Ipv4][..]),
            (FamilyPolicy::SingleStack, &[Ipv6, Ipv4][..], &both, &[Ipv6][..]),
            (FamilyPolicy::SingleStack, &[Ipv6][..], &four, &[Ipv6][..]),
            (FamilyPolicy::PreferDualStack, &[][..], &both, &[Ipv4, Ipv6][..]),
            (
                FamilyPolicy::PreferDualStack,
                &[Ipv6, Ipv4][..],
                &four,
                &[Ipv4][..],
            ),
            (FamilyPolicy::RequireDualStack, &[][..], &four, &[Ipv4, Ipv6][..]),
        ] {
            let expected = expected.iter().copied().collect::<BTreeSet<_>>();
            assert_eq!(
                families(policy, listed, enabled),
                expected,
                "{policy:?} {listed:?}"
            );
        }
    }

    #[test]
    fn namespaces_to_share_with_are_trimmed() {
        let of = |list: &str| {
            sharing(&annotations(&[
                ("lbipam.cilium.io/sharing-key", "k"),
                ("lbipam.cilium.io/sharing-cross-namespace", list),
            ]))
            .unwrap()
            .namespaces
        };
        assert_eq!(
            of(" a, b "),
            Permitted::Listed(["a".to_owned(), "b".to_owned()].into())
        );
        assert_eq!(of("a,*"), Permitted::Any);
        assert_eq!(of(""), Permitted::Own);
        assert_eq!(
            sharing(&annotations(&[("lbipam.cilium.io/sharing-key", "")])),
            None
        );
    }
}
