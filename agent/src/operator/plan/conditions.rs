//! Conditions: which entries of `status.conditions` change, and to what.
//!
//! A condition is written when it says something else, or speaks of an older generation. Its time moves only when its
//! `status` does. Conditions of others are left as they are.

use crds::condition::{Condition, ConditionStatus};
use crds::k8s_openapi::api::core::v1::Service;
use crds::k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition as CoreCondition;
use crds::k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// A condition as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Its `type`.
    pub(crate) kind: &'static str,
    pub(crate) status: ConditionStatus,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl From<lbipam::Condition> for Wanted {
    fn from(condition: lbipam::Condition) -> Self {
        Self {
            kind: condition.kind,
            status: match condition.status {
                lbipam::Status::True => ConditionStatus::True,
                lbipam::Status::False => ConditionStatus::False,
                lbipam::Status::Unknown => ConditionStatus::Unknown,
            },
            reason: condition.reason,
            message: condition.message,
        }
    }
}

/// What an object has and should have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions<'a> {
    pub(crate) seen: &'a [Condition],
    /// The types that are ours: of these there are none but the wanted ones.
    pub(crate) ours: &'a [&'static str],
    pub(crate) wanted: &'a [Wanted],
    pub(crate) generation: Option<i64>,
    pub(crate) now: Timestamp,
}

impl Conditions<'_> {
    /// The whole list, by type; `None` if it is what it should be.
    pub(crate) fn list(self) -> Option<Vec<Condition>> {
        if self.changed().next().is_none() && self.gone().next().is_none() {
            return None;
        }
        let others = self
            .seen
            .iter()
            .filter(|seen| !self.ours.contains(&seen.kind.as_str()));
        let mut all: Vec<Condition> = others.cloned().collect();
        all.extend(self.wanted.iter().map(|wanted| self.written(wanted)));
        all.sort_by(|a, b| a.kind.cmp(&b.kind));
        Some(all)
    }

    /// The entries of a strategic merge patch: only those that change.
    pub(crate) fn entries(self) -> Vec<Value> {
        let changed = self.changed().map(|wanted| json!(self.written(wanted)));
        let gone = self
            .gone()
            .map(|kind| json!({ "$patch": "delete", "type": kind }));
        changed.chain(gone).collect()
    }

    fn changed(&self) -> impl Iterator<Item = &Wanted> {
        self.wanted.iter().filter(|wanted| {
            self.of(wanted.kind).is_none_or(|seen| {
                seen.status != wanted.status
                    || seen.reason != wanted.reason
                    || seen.message != wanted.message
                    || seen.observed_generation != self.generation
            })
        })
    }

    fn gone(&self) -> impl Iterator<Item = &'static str> {
        let unwanted = |kind: &&&'static str| !self.wanted.iter().any(|wanted| wanted.kind == **kind);
        let seen = |kind: &&&'static str| self.of(kind).is_some();
        self.ours.iter().filter(unwanted).filter(seen).copied()
    }

    fn written(&self, wanted: &Wanted) -> Condition {
        let same = self.of(wanted.kind).filter(|seen| seen.status == wanted.status);
        Condition {
            kind: wanted.kind.to_owned(),
            status: wanted.status,
            reason: wanted.reason.to_owned(),
            message: wanted.message.clone(),
            observed_generation: self.generation,
            last_transition_time: match same {
                Some(seen) => seen.last_transition_time.clone(),
                None => format!("{:.0}", self.now),
            },
        }
    }

    fn of(&self, kind: &str) -> Option<&Condition> {
        self.seen.iter().find(|seen| seen.kind == kind)
    }
}

/// Conditions of a Service in our own type. One with a status of its own makes no sense and is nobody's here.
pub(crate) fn of_service(service: &Service) -> Vec<Condition> {
    let status = service.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_deref());
    let condition = |core: &CoreCondition| {
        Some(Condition {
            kind: core.type_.clone(),
            status: match core.status.as_str() {
                "True" => ConditionStatus::True,
                "False" => ConditionStatus::False,
                "Unknown" => ConditionStatus::Unknown,
                _ => return None,
            },
            reason: core.reason.clone(),
            message: core.message.clone(),
            observed_generation: core.observed_generation,
            last_transition_time: core.last_transition_time.0.to_string(),
        })
    };
    conditions.into_iter().flatten().filter_map(condition).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [&str; 2] = ["x/A", "x/B"];

    fn wanted(kind: &'static str, status: ConditionStatus, message: &str) -> Wanted {
        Wanted {
            kind,
            status,
            reason: "because",
            message: message.to_owned(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn list(seen: &[Condition], wanted: &[Wanted], second: i64) -> Option<Vec<Condition>> {
        let conditions = Conditions {
            seen,
            ours: &OURS,
            wanted,
            generation: Some(2),
            now: at(second),
        };
        conditions.list()
    }

    #[test]
    fn a_condition_that_says_the_same_is_not_written_and_its_time_moves_with_its_status_only() {
        let yes = wanted("x/A", ConditionStatus::True, "");
        let first = list(&[], std::slice::from_ref(&yes), 10).unwrap();
        assert_eq!(first[0].last_transition_time, "1970-01-01T00:00:10Z");
        assert_eq!(list(&first, std::slice::from_ref(&yes), 20), None);
        let other_words = list(&first, &[wanted("x/A", ConditionStatus::True, "more")], 30).unwrap();
        assert_eq!(other_words[0].last_transition_time, first[0].last_transition_time);
        let no = list(&other_words, &[wanted("x/A", ConditionStatus::False, "more")], 40).unwrap();
        assert_eq!(no[0].last_transition_time, "1970-01-01T00:00:40Z");
    }

    #[test]
    fn conditions_of_others_stay_and_ours_that_are_not_wanted_go() {
        let foreign = Condition {
            kind: "y/C".to_owned(),
            status: ConditionStatus::Unknown,
            reason: "theirs".to_owned(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: "1970-01-01T00:00:00Z".to_owned(),
        };
        let b = list(&[], &[wanted("x/B", ConditionStatus::True, "")], 1).unwrap();
        let seen = [b, vec![foreign.clone()]].concat();
        assert_eq!(list(&seen, &[], 2), Some(vec![foreign.clone()]));
        assert_eq!(list(&[foreign], &[], 2), None);
        let patch = Conditions {
            seen: &seen,
            ours: &OURS,
            wanted: &[],
            generation: Some(2),
            now: at(2),
        };
        assert_eq!(patch.entries(), [json!({ "$patch": "delete", "type": "x/B" })]);
    }
}
