//! What a plan says, also in the words of Kubernetes: conditions.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::count::Count;
use crate::pool::Conflict;
use crate::request::{Family, RequestId};
use crate::sharing::Incompatible;

const SATISFIED: &str = "cilium.io/IPAMRequestSatisfied";
const CONFLICT: &str = "cilium.io/PoolConflict";
/// Not in Cilium, which takes such addresses away.
const RETAINED: &str = "stentor.io/AddressesRetained";

/// An entry of `status.conditions`; times and generations are the writer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Its `type`.
    pub kind: &'static str,
    pub status: Status,
    pub reason: &'static str,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    True,
    False,
    Unknown,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        })
    }
}

/// Who gets what, and what became of the pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub decisions: BTreeMap<RequestId, Decision>,
    pub pools: BTreeMap<String, PoolReport>,
}

/// What one request gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What it kept, in the order it held it, then what is new, IPv4 before IPv6.
    pub addresses: Vec<Allocation>,
    /// What it wishes for and cannot have. Empty means the request is satisfied.
    pub refusals: Vec<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    pub address: IpAddr,
    /// The pool that has it for this request. Where pools overlap, sharers may have it from several.
    pub pool: String,
    pub standing: Standing,
}

/// Whether the pool still has an address that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    InPool,
    /// No block has it any more, and its pool lets it stay ([`Removal::Retain`]).
    Retained,
}

/// Why a part of a wish is not granted. The texts are those of Cilium's condition
/// `cilium.io/IPAMRequestSatisfied`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("No pool exists with a CIDR containing '{0}'")]
    NoPoolContains(IpAddr),
    #[error("There are no enabled CiliumLoadBalancerIPPools that match this service")]
    NoPoolMatches(Family),
    #[error("The pool with the CIDR containing '{0}', doesn't select this service")]
    PoolSelectorMismatch(IpAddr),
    #[error("The IP '{0}' is already allocated to another service")]
    AlreadyAllocated(IpAddr),
    #[error("The IP '{address}' is already allocated to an incompatible service. Reason: {reason}")]
    IncompatibleService { address: IpAddr, reason: Incompatible },
    #[error("All enabled CiliumLoadBalancerIPPools that match this service ran out of allocatable IPs")]
    OutOfAddresses(Family),
    /// Not in Cilium, which calls such an address allocated to another service.
    #[error(
        "The IP '{0}' is held back by its pool (reserved, or first or last of its CIDR and allowFirstLastIPs: No)"
    )]
    Reserved(IpAddr),
    #[error(
        "The CiliumLoadBalancerIPPools that match this service give addresses only by name (autoAssign: false)"
    )]
    OnlyNamed(Family),
}

impl Refusal {
    /// The `reason` of the condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoPoolContains(_) | Self::NoPoolMatches(_) => "no_pool",
            Self::PoolSelectorMismatch(_) => "pool_selector_mismatch",
            Self::AlreadyAllocated(_) => "already_allocated",
            Self::IncompatibleService { .. } => "already_allocated_incompatible_service",
            Self::OutOfAddresses(_) => "out_of_ips",
            Self::Reserved(_) => "reserved",
            Self::OnlyNamed(_) => "not_auto_assigned",
        }
    }
}

impl Decision {
    pub fn is_satisfied(&self) -> bool {
        self.refusals.is_empty()
    }

    /// The `reason` of the condition `cilium.io/IPAMRequestSatisfied`.
    pub fn reason(&self) -> &'static str {
        self.refusals.last().map_or("satisfied", Refusal::reason)
    }

    /// The `message` of the condition. Of several refusals the last one shows, as in Cilium.
    pub fn message(&self) -> String {
        self.refusals.last().map(ToString::to_string).unwrap_or_default()
    }

    /// For the Service's status. Always there, and always of the present.
    pub fn condition(&self) -> Condition {
        let status = if self.is_satisfied() {
            Status::True
        } else {
            Status::False
        };
        Condition {
            kind: SATISFIED,
            status,
            reason: self.reason(),
            message: self.message(),
        }
    }
}

/// How a pool stands after the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolReport {
    /// All addresses the pool states, each once.
    pub total: Count,
    /// Of these, given out by whichever pool (a shared address counts once) or held back.
    pub used: Count,
    /// `total` less `used`.
    pub available: Count,
    /// Given out from here and not stated any more ([`Removal::Retain`]), ascending.
    pub retained: Vec<IpAddr>,
    /// Empty if no other pool has any of the pool's addresses.
    pub conflicts: Vec<Conflict>,
}

impl PoolReport {
    /// For the pool's status, Cilium's four and ours where there is something to say.
    pub fn conditions(&self) -> Vec<Condition> {
        let conflict = match self.conflicts.as_slice() {
            [] => Condition {
                kind: CONFLICT,
                status: Status::False,
                reason: "resolved",
                message: String::new(),
            },
            [first, more @ ..] => Condition {
                kind: CONFLICT,
                status: Status::True,
                reason: "cidr_overlap",
                message: match more.len() {
                    0 => first.message(),
                    more => format!("{}; and {more} more", first.message()),
                },
            },
        };
        let counts = [
            ("cilium.io/IPsTotal", self.total),
            ("cilium.io/IPsAvailable", self.available),
            ("cilium.io/IPsUsed", self.used),
        ];
        let counts = counts.map(|(kind, count)| Condition {
            kind,
            status: Status::Unknown,
            reason: "noreason",
            message: count.to_string(),
        });
        let retained = (!self.retained.is_empty()).then(|| Condition {
            kind: RETAINED,
            status: Status::True,
            reason: "block_removed",
            message: format!(
                "{} given from blocks that were removed stay with their Services",
                addresses(&self.retained)
            ),
        });
        std::iter::once(conflict).chain(counts).chain(retained).collect()
    }
}

/// The first few by name.
fn addresses(all: &[IpAddr]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    match all.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, stop: &str) -> crate::Range {
        crate::Range::new(start.parse().unwrap(), stop.parse().unwrap()).unwrap()
    }

    fn texts(report: &PoolReport) -> Vec<String> {
        let conditions = report.conditions().into_iter();
        conditions
            .map(|c| format!("{} {} {} {}", c.kind, c.status, c.reason, c.message))
            .collect()
    }

    #[test]
    fn pool_conditions_are_those_of_cilium() {
        let report = PoolReport {
            total: 18446744073709551616.into(),
            used: 2.into(),
            available: 18446744073709551614.into(),
            ..PoolReport::default()
        };
        assert_eq!(
            texts(&report),
            [
                "cilium.io/PoolConflict False resolved ",
                "cilium.io/IPsTotal Unknown noreason 18446744073709551616",
                "cilium.io/IPsAvailable Unknown noreason 18446744073709551614",
                "cilium.io/IPsUsed Unknown noreason 2",
            ]
        );
    }

    #[test]
    fn conflicts_and_retained_addresses_are_named_and_counted() {
        let conflict = Conflict {
            range: range("10.0.0.0", "10.0.0.3"),
            other_range: range("10.0.0.2", "10.0.0.9"),
            other_pool: "b".to_owned(),
        };
        let report = PoolReport {
            conflicts: vec![conflict.clone(), conflict],
            retained: (1..=5).map(|last| IpAddr::from([10, 9, 0, last])).collect(),
            ..PoolReport::default()
        };
        let texts = texts(&report);
        assert_eq!(
            texts[0],
            "cilium.io/PoolConflict True cidr_overlap Pool conflicts since range '10.0.0.0 - 10.0.0.3' overlaps range \
             '10.0.0.2 - 10.0.0.9' from IP Pool 'b'; and 1 more"
        );
        assert_eq!(
            texts[4],
            "stentor.io/AddressesRetained True block_removed 10.9.0.1, 10.9.0.2, 10.9.0.3 and 2 more given from blocks \
             that were removed stay with their Services"
        );
    }

    #[test]
    fn the_condition_of_a_request_shows_its_last_refusal() {
        let mut decision = Decision::default();
        let satisfied = decision.condition();
        assert_eq!(
            (satisfied.kind, satisfied.status, satisfied.reason),
            ("cilium.io/IPAMRequestSatisfied", Status::True, "satisfied")
        );
        decision.refusals = vec![
            Refusal::OutOfAddresses(Family::Ipv4),
            Refusal::OnlyNamed(Family::Ipv6),
        ];
        let refused = decision.condition();
        assert_eq!(
            (refused.status, refused.reason),
            (Status::False, "not_auto_assigned")
        );
        assert_eq!(refused.message, decision.refusals[1].to_string());
    }
}
