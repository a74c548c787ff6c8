//! The cluster as a value: what watches tell in, changes of objects out. No connection is made here.
//!
//! - The first batch waits until every kind is listed or refused; from then on only what changed is told.
//! - A list that begins takes nothing away; when it has ended, what it did not name is gone. A list that breaks off
//!   takes nothing away either.
//! - An object that became bad keeps its last good version in force, as in a folder, and a problem says so.
//! - A kind that the server does not serve or that this agent may not see has no objects and is a problem; what was
//!   told of it before stays, since that happens to a server that is just starting, too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crds::{Kind, Object, ObjectRef, Parsed, Severity};
use serde_json::Value;

use super::trim::Reader;
use crate::held::Held;
use crate::problem::Problem;
use crate::source::{Allotter, Batch, Change};

/// An operator writes this condition of a pool, whatever it finds.
pub(super) const COUNTED: &str = "cilium.io/IPsTotal";
/// Stands where a file would in problems.
const SOURCE: &str = "cluster";

/// What a watch told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum News {
    ListBegan {
        kind: Kind,
    },
    Listed {
        kind: Kind,
        object: Value,
    },
    ListEnded {
        kind: Kind,
    },
    Applied {
        kind: Kind,
        object: Value,
    },
    Deleted {
        kind: Kind,
        namespace: String,
        name: String,
    },
    Failed {
        kind: Kind,
        failure: Failure,
    },
    /// Asked whether it is there, the server did not answer; why.
    Silent(String),
    /// The server answers.
    Answered,
}

/// Why a watch broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    NotServed,
    /// With the server's words.
    Forbidden(String),
    /// The server no longer knows where the watch was.
    Forgotten,
    /// No answer, or one that says "later".
    Other,
}

/// The cluster as last told.
#[derive(Debug)]
pub(super) struct Mirror {
    reader: Reader,
    kinds: BTreeMap<Kind, Followed>,
    /// Last good versions.
    objects: Held,
    /// Of the objects that have any.
    problems: BTreeMap<ObjectRef, Vec<Problem>>,
    changed: BTreeSet<ObjectRef>,
    server: Server,
    /// The problems of the last batch; `None` before the first.
    told: Option<Vec<Problem>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Server {
    #[default]
    Answers,
    /// A watch broke, as it may for many reasons.
    Doubted,
    /// With the first words of why: later ones say the same in other words.
    Silent(String),
}

#[derive(Debug, Default)]
struct Followed {
    listed: Listed,
    /// What the list under way named so far.
    seen: Option<BTreeSet<ObjectRef>>,
    refused: Option<Failure>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Listed {
    #[default]
    NotYet,
    Once,
}

impl Mirror {
    pub(super) fn new(kinds: impl Iterator<Item = Kind>, reader: Reader) -> Self {
        Self {
            reader,
            kinds: kinds.map(|kind| (kind, Followed::default())).collect(),
            objects: Held::default(),
            problems: BTreeMap::new(),
            changed: BTreeSet::new(),
            server: Server::Answers,
            told: None,
        }
    }

    /// Whether somebody should ask the server if it is there.
    pub(super) fn is_doubted(&self) -> bool {
        self.server != Server::Answers
    }

    pub(super) fn is_silent(&self) -> bool {
        matches!(self.server, Server::Silent(_))
    }

    /// Kinds that the first batch still waits for; none once it was told.
    pub(super) fn awaited(&self) -> Vec<Kind> {
        let waiting = |followed: &Followed| followed.listed == Listed::NotYet && followed.refused.is_none();
        let kinds = self.kinds.iter().filter(|(_, followed)| waiting(followed));
        kinds
            .map(|(kind, _)| *kind)
            .filter(|_| self.told.is_none())
            .collect()
    }

    pub(super) fn take(&mut self, news: News) {
        match news {
            News::ListBegan { kind } => self.follow(kind).seen = Some(BTreeSet::new()),
            News::Listed { kind, object } => {
                if let Some(reference) = self.apply(&object)
                    && let Some(seen) = &mut self.follow(kind).seen
                {
                    seen.insert(reference);
                }
            }
            News::ListEnded { kind } => self.list_ended(kind),
            News::Applied { kind, object } => {
                self.follow(kind).refused = None;
                self.apply(&object);
            }
            News::Deleted {
                kind,
                namespace,
                name,
            } => self.delete(ObjectRef::namespaced(kind, namespace, name)),
            News::Failed { kind, failure } => self.failed(kind, failure),
            News::Silent(why) => {
                if !self.is_silent() {
                    self.server = Server::Silent(why);
                }
            }
            News::Answered => self.server = Server::Answers,
        }
    }

    /// What changed since the last batch, if anything did.
    pub(super) fn settle(&mut self) -> Option<Batch> {
        if !self.awaited().is_empty() {
            return None;
        }
        let problems = self.all_problems();
        let same = self.told.as_ref() == Some(&problems);
        if same && self.changed.is_empty() {
            return None;
        }
        self.told = Some(problems.clone());
        let change = |reference: ObjectRef| match self.objects.get(&reference) {
            Some(parsed) => Change::Applied(Arc::clone(parsed)),
            None => Change::Deleted(reference),
        };
        let changes = std::mem::take(&mut self.changed)
            .into_iter()
            .map(change)
            .collect();
        Some(Batch {
            changes,
            problems,
            kept: Vec::new(),
            refused: self.refused(),
            allotter: self.allotter(),
        })
    }

    fn allotter(&self) -> Allotter {
        let pools = self.objects.of(Kind::CiliumLoadBalancerIPPool);
        let mut pools = pools.filter_map(|parsed| {
            if let Object::CiliumLoadBalancerIPPool(pool) = &parsed.object {
                Some(pool)
            } else {
                None
            }
        });
        let counted = pools.any(|pool| {
            let mut conditions = pool.status.iter().flat_map(|status| &status.conditions);
            conditions.any(|condition| condition.kind == COUNTED)
        });
        if counted {
            Allotter::Operator
        } else {
            Allotter::Agents
        }
    }

    fn refused(&self) -> BTreeSet<Kind> {
        let kinds = self.kinds.iter();
        let refused = kinds.filter(|(_, followed)| followed.refused.is_some());
        refused.map(|(kind, _)| *kind).collect()
    }

    fn follow(&mut self, kind: Kind) -> &mut Followed {
        self.kinds.entry(kind).or_default()
    }

    fn apply(&mut self, object: &Value) -> Option<ObjectRef> {
        let read = crds::read_json(Path::new(SOURCE), object);
        let mut problems: Vec<Problem> = read.problems.into_iter().map(Problem::from).collect();
        let reference = match (read.objects.into_iter().next(), read.bad.into_iter().next()) {
            (Some(parsed), _) => {
                let parsed = match self.reader {
                    // It looks at few of them at a time.
                    Reader::Agent => parsed.packed(),
                    Reader::Operator => parsed,
                };
                let reference = parsed.reference.clone();
                if self
                    .objects
                    .get(&reference)
                    .is_none_or(|before| **before != parsed)
                {
                    self.objects.insert(Arc::new(parsed));
                    self.changed.insert(reference.clone());
                }
                reference
            }
            (None, Some(bad)) => {
                problems.extend(self.objects.get(&bad).map(|parsed| kept(parsed)));
                bad
            }
            (None, None) => return None,
        };
        if problems.is_empty() {
            self.problems.remove(&reference);
        } else {
            self.problems.insert(reference.clone(), problems);
        }
        Some(reference)
    }

    fn delete(&mut self, reference: ObjectRef) {
        self.problems.remove(&reference);
        if self.objects.remove(&reference).is_some() {
            self.changed.insert(reference);
        }
    }

    fn list_ended(&mut self, kind: Kind) {
        let followed = self.follow(kind);
        followed.listed = Listed::Once;
        followed.refused = None;
        let Some(seen) = followed.seen.take() else {
            return;
        };
        let of_kind = |reference: &&ObjectRef| reference.kind == kind && !seen.contains(reference);
        let held = self.objects.references().chain(self.problems.keys());
        let gone: BTreeSet<ObjectRef> = held.filter(of_kind).cloned().collect();
        for reference in gone {
            self.delete(reference);
        }
    }

    fn failed(&mut self, kind: Kind, failure: Failure) {
        let followed = self.follow(kind);
        match failure {
            Failure::NotServed | Failure::Forbidden(_) => {
                followed.seen = None;
                followed.refused = Some(failure);
            }
            Failure::Forgotten => {}
            Failure::Other => {
                if self.server == Server::Answers {
                    self.server = Server::Doubted;
                }
            }
        }
    }

    fn all_problems(&self) -> Vec<Problem> {
        let refused = self
            .kinds
            .iter()
            .filter_map(|(kind, followed)| refusal(*kind, followed.refused.as_ref()?));
        let away = match &self.server {
            Server::Answers | Server::Doubted => None,
            Server::Silent(why) => Some(of_cluster(
                Severity::Warning,
                "cluster-away",
                format!("the API server does not answer: {why}; what it told before stays in force"),
            )),
        };
        let mut all: Vec<Problem> = self.problems.values().flatten().cloned().collect();
        all.extend(refused.chain(away));
        all.sort();
        all
    }
}

fn refusal(kind: Kind, failure: &Failure) -> Option<Problem> {
    match failure {
        // Cilium itself no longer has it.
        Failure::NotServed if kind == Kind::CiliumBGPPeeringPolicy => None,
        Failure::NotServed => Some(of_cluster(
            Severity::Warning,
            "kind-not-served",
            format!(
                "the API server does not know {kind}; install its definition, and it is followed within a minute"
            ),
        )),
        Failure::Forbidden(why) => Some(of_cluster(
            Severity::Error,
            "kind-forbidden",
            format!("{kind} can not be followed: {why}; allow this agent to list and watch it"),
        )),
        Failure::Forgotten | Failure::Other => None,
    }
}

fn of_cluster(severity: Severity, reason: &'static str, message: String) -> Problem {
    Problem::in_file(Path::new(SOURCE), severity, reason, message)
}

fn kept(parsed: &Parsed) -> Problem {
    Problem::at(
        parsed,
        "",
        Severity::Warning,
        "last-good-version-kept",
        "the object is broken now; its last good version stays in force",
    )
}

#[cfg(test)]
mod tests {
    use crds::Opened;
    use serde_json::json;

    use super::*;

    const SERVICE: Kind = Kind::Service;

    fn service(name: &str, port: Value) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": "ns" },
            "spec": { "ports": [{ "port": port }] },
        })
    }

    fn list(mirror: &mut Mirror, names: &[&str]) {
        mirror.take(News::ListBegan { kind: SERVICE });
        for name in names {
            let object = service(name, json!(80));
            mirror.take(News::Listed {
                kind: SERVICE,
                object,
            });
        }
        mirror.take(News::ListEnded { kind: SERVICE });
    }

    /// `+name` and `-name`, then the reasons of all problems.
    fn told(mirror: &mut Mirror) -> Option<(Vec<String>, Vec<&'static str>)> {
        let batch = mirror.settle()?;
        let changes = batch.changes.iter().map(|change| match change {
            Change::Applied(parsed) => format!("+{}", parsed.reference.name),
            Change::Deleted(reference) => format!("-{}", reference.name),
        });
        Some((
            changes.collect(),
            batch.problems.iter().map(|problem| problem.reason).collect(),
        ))
    }

    fn news(changes: &[&str], problems: &[&'static str]) -> Option<(Vec<String>, Vec<&'static str>)> {
        Some((
            changes.iter().map(ToString::to_string).collect(),
            problems.to_vec(),
        ))
    }

    #[test]
    fn the_first_batch_waits_for_every_kind_and_comes_even_if_it_is_empty() {
        let mut mirror = Mirror::new(
            [SERVICE, Kind::Secret, Kind::CiliumNode].into_iter(),
            Reader::Agent,
        );
        list(&mut mirror, &["a"]);
        assert_eq!(told(&mut mirror), None);
        let failed = |kind, failure| News::Failed { kind, failure };
        mirror.take(failed(Kind::Secret, Failure::Forbidden("no".to_owned())));
        assert_eq!(mirror.awaited(), [Kind::CiliumNode]);
        mirror.take(failed(Kind::CiliumNode, Failure::NotServed));
        let problems = ["kind-forbidden", "kind-not-served"];
        assert_eq!(told(&mut mirror), news(&["+a"], &problems));
        assert_eq!(told(&mut mirror), None);
        let mut empty = Mirror::new([SERVICE].into_iter(), Reader::Agent);
        list(&mut empty, &[]);
        assert_eq!(told(&mut empty), news(&[], &[]));
    }

    #[test]
    fn an_agent_holds_services_packed_and_an_operator_as_they_are() {
        for (reader, packed) in [(Reader::Agent, true), (Reader::Operator, false)] {
            let mut mirror = Mirror::new([SERVICE].into_iter(), reader);
            list(&mut mirror, &["a"]);
            let batch = mirror.settle().unwrap();
            let [Change::Applied(parsed)] = &batch.changes[..] else {
                panic!("{:?}", batch.changes);
            };
            let Object::Service(service) = &parsed.object else {
                panic!("{:?}", parsed.object);
            };
            assert_eq!(matches!(service.open(), Opened::Made(_)), packed, "{reader:?}");
            // The same again is no change in either form.
            list(&mut mirror, &["a"]);
            assert_eq!(mirror.settle(), None, "{reader:?}");
        }
    }

    #[test]
    fn a_server_that_is_away_takes_nothing_with_it_however_it_goes() {
        let mut mirror = Mirror::new([SERVICE].into_iter(), Reader::Agent);
        list(&mut mirror, &["a", "b"]);
        mirror.settle();
        let broken = || News::Failed {
            kind: SERVICE,
            failure: Failure::Other,
        };
        // A watch that breaks is not worth a word, if the server answers.
        mirror.take(broken());
        assert!(mirror.is_doubted());
        mirror.take(News::Answered);
        assert!(!mirror.is_doubted());
        assert_eq!(told(&mut mirror), None);
        mirror.take(broken());
        mirror.take(News::Silent("connection refused".to_owned()));
        assert_eq!(told(&mut mirror), news(&[], &["cluster-away"]));
        mirror.take(broken());
        mirror.take(News::Silent("connection reset".to_owned()));
        assert_eq!(told(&mut mirror), None);
        // It is back, forgot everything, and breaks off while it lists.
        mirror.take(News::Answered);
        mirror.take(News::Failed {
            kind: SERVICE,
            failure: Failure::Forgotten,
        });
        mirror.take(News::ListBegan { kind: SERVICE });
        mirror.take(News::Listed {
            kind: SERVICE,
            object: service("a", json!(80)),
        });
        assert_eq!(told(&mut mirror), news(&[], &[]));
        mirror.take(broken());
        mirror.take(News::Silent("connection reset".to_owned()));
        mirror.settle();
        // Just started, it does not know the kind yet.
        mirror.take(News::Failed {
            kind: SERVICE,
            failure: Failure::NotServed,
        });
        assert_eq!(told(&mut mirror), news(&[], &["cluster-away", "kind-not-served"]));
        mirror.take(News::Answered);
        list(&mut mirror, &["a", "c"]);
        assert_eq!(told(&mut mirror), news(&["-b", "+c"], &[]));
    }

    #[test]
    fn an_object_that_says_the_same_again_is_no_news() {
        let mut mirror = Mirror::new([SERVICE].into_iter(), Reader::Agent);
        list(&mut mirror, &["a"]);
        mirror.settle();
        let applied = |port| News::Applied {
            kind: SERVICE,
            object: service("a", port),
        };
        mirror.take(applied(json!(80)));
        assert_eq!(told(&mut mirror), None);
        mirror.take(applied(json!(81)));
        assert_eq!(told(&mut mirror), news(&["+a"], &[]));
    }

    #[test]
    fn a_pool_that_somebody_counts_has_an_operator() {
        const POOL: Kind = Kind::CiliumLoadBalancerIPPool;
        let mut mirror = Mirror::new([POOL].into_iter(), Reader::Agent);
        let mut pool = json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumLoadBalancerIPPool",
            "metadata": { "name": "blue" },
            "spec": { "blocks": [{ "cidr": "10.0.0.0/24" }] },
        });
        mirror.take(News::ListBegan { kind: POOL });
        mirror.take(News::Listed {
            kind: POOL,
            object: pool.clone(),
        });
        mirror.take(News::ListEnded { kind: POOL });
        assert_eq!(mirror.settle().unwrap().allotter, Allotter::Agents);
        pool["status"] = json!({ "conditions": [{
            "type": COUNTED, "status": "Unknown", "reason": "noreason", "message": "256",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }] });
        let counted = |count: &str| {
            let mut pool = pool.clone();
            pool["status"]["conditions"][0]["message"] = json!(count);
            super::super::trim::trimmed(POOL, Reader::Agent, pool)
        };
        mirror.take(News::Applied {
            kind: POOL,
            object: counted("256"),
        });
        assert_eq!(mirror.settle().unwrap().allotter, Allotter::Operator);
        // How many there are left is no news to an agent.
        mirror.take(News::Applied {
            kind: POOL,
            object: counted("255"),
        });
        assert_eq!(mirror.settle(), None);
    }

    #[test]
    fn an_object_that_became_bad_keeps_its_last_good_version() {
        let mut mirror = Mirror::new([SERVICE].into_iter(), Reader::Agent);
        list(&mut mirror, &["a"]);
        mirror.settle();
        mirror.take(News::Applied {
            kind: SERVICE,
            object: service("a", json!("eighty")),
        });
        let (changes, problems) = told(&mut mirror).unwrap();
        assert_eq!(changes, [""; 0]);
        assert!(problems.contains(&"last-good-version-kept"), "{problems:?}");
        mirror.take(News::Deleted {
            kind: SERVICE,
            namespace: "ns".to_owned(),
            name: "a".to_owned(),
        });
        assert_eq!(told(&mut mirror), news(&["-a"], &[]));
    }
}
