//! What a topology should come to, and whether it has.
//!
//! ```yaml
//! routers:
//!   router0:
//!     sessions: ["fd00::2"]          # neighbours that must be established
//!     routes:                        # all the routes learned over BGP; one that is not listed is a fault
//!     - prefix: 20.0.10.0/32
//!       nextHops: ["fd00::2"]        # one path each
//!       communities: ["65000:100"]   # of each of these paths; so are largeCommunities, extendedCommunities
//!       asPath: "65001"              # only looked at when given; so are med, localPreference
//! requests: []                       # of clients, see [`crate::requests`]
//! faults: {}                         # while clients ask, see [`crate::faults`]
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::faults::Faults;
use crate::frr::{self, Path, Session};
use crate::requests::Request;
use crate::{Error, Handle, Spec, until};

/// What must hold, router by router.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Expectations {
    pub routers: BTreeMap<String, Expected>,
    /// What clients ask for once all of the above holds.
    #[serde(default)]
    pub requests: Vec<Request>,
    /// What goes wrong in the end.
    pub faults: Option<Faults>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Neighbours, as the router names them.
    pub sessions: Vec<String>,
    /// All that is to be learned over BGP; `None` is anything.
    pub routes: Option<Vec<ExpectedRoute>>,
}

/// Paths to one prefix that carry the same attributes.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExpectedRoute {
    pub prefix: String,
    pub next_hops: BTreeSet<IpAddr>,
    #[serde(default)]
    pub communities: BTreeSet<String>,
    #[serde(default)]
    pub large_communities: BTreeSet<String>,
    #[serde(default)]
    pub extended_communities: BTreeSet<String>,
    pub as_path: Option<String>,
    pub med: Option<u64>,
    pub local_preference: Option<u64>,
}

/// Reads an expectations file.
///
/// # Errors
/// It is no YAML, or says what nobody understands.
pub fn parse(text: &str) -> Result<Expectations, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

/// Waits until all holds. `say` is told when more of it does.
///
/// # Errors
/// Not all holds in time; the faults of the last look are told. Or the lab cannot be asked at all.
pub fn meet(
    nodes: &BTreeMap<String, Handle>,
    expectations: &Expectations,
    limit: Duration,
    say: &dyn Fn(&str),
) -> Result<Verdict, Error> {
    let mut last = Verdict::default();
    let met = until(limit, "all sessions and routes", || {
        // A router that is still starting cannot be asked.
        let verdict = look(nodes, expectations).map_err(|error| error.to_string())?;
        let missing = verdict.faults.len();
        if verdict.met != last.met {
            say(&format!(
                "{} sessions and routes as expected, {missing} not yet",
                verdict.met
            ));
            last = verdict.clone();
        }
        if missing == 0 {
            Ok(verdict)
        } else {
            Err(verdict.faults.join("\n"))
        }
    });
    Ok(met?)
}

/// How much of what is expected holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Sessions and routes that are as they should be.
    pub met: usize,
    /// What is not, one line each.
    pub faults: Vec<String>,
}

/// What to expect of a topology that says nothing: that all sessions its routers know of are up.
///
/// # Errors
/// A router cannot be asked.
pub fn all_sessions(spec: &Spec, nodes: &BTreeMap<String, Handle>) -> Result<Expectations, Error> {
    let mut routers = BTreeMap::new();
    for name in spec.routers() {
        let Some(router) = nodes.get(&name) else { continue };
        let sessions = frr::sessions(router)?.into_keys().collect();
        routers.insert(
            name,
            Expected {
                sessions,
                routes: None,
            },
        );
    }
    Ok(Expectations {
        routers,
        requests: Vec::new(),
        faults: None,
    })
}

/// Looks at all routers once.
///
/// # Errors
/// A router cannot be asked, or is not in the lab.
pub fn look(nodes: &BTreeMap<String, Handle>, expectations: &Expectations) -> Result<Verdict, Error> {
    let mut verdict = Verdict::default();
    for (name, expected) in &expectations.routers {
        let router = nodes.get(name).ok_or_else(|| Error::NoNode {
            name: name.clone(),
            have: nodes.keys().cloned().collect::<Vec<_>>().join(" "),
        })?;
        let (sessions, routes) = (frr::sessions(router)?, frr::routes(router)?);
        judge(name, expected, &sessions, &routes, &mut verdict);
    }
    Ok(verdict)
}

/// Compares one router's view with what is expected of it.
pub fn judge(
    router: &str,
    expected: &Expected,
    sessions: &BTreeMap<String, Session>,
    routes: &BTreeMap<String, Vec<Path>>,
    verdict: &mut Verdict,
) {
    for peer in &expected.sessions {
        match sessions.get(peer) {
            Some(session) if session.is_established() => verdict.met += 1,
            Some(session) => verdict
                .faults
                .push(format!("{router}: session with {peer} is {}", session.state)),
            None => verdict.faults.push(format!("{router}: no session with {peer}")),
        }
    }
    let Some(expected) = &expected.routes else { return };
    let prefixes: BTreeSet<&str> = expected
        .iter()
        .map(|route| route.prefix.as_str())
        .chain(routes.keys().map(String::as_str))
        .collect();
    for prefix in prefixes {
        let faults = judge_prefix(
            expected,
            prefix,
            routes.get(prefix).map(Vec::as_slice).unwrap_or_default(),
        );
        if faults.is_empty() {
            verdict.met += 1;
        }
        verdict.faults.extend(
            faults
                .into_iter()
                .map(|fault| format!("{router}: {prefix} {fault}")),
        );
    }
}

fn judge_prefix(expected: &[ExpectedRoute], prefix: &str, paths: &[Path]) -> Vec<String> {
    let wanted: Vec<&ExpectedRoute> = expected.iter().filter(|route| route.prefix == prefix).collect();
    let mut faults = Vec::new();
    for path in paths {
        let route = wanted
            .iter()
            .find(|route| path.next_hops.iter().any(|hop| route.next_hops.contains(hop)));
        match route {
            Some(route) => faults.extend(compare(route, path)),
            None => faults.push(format!("is not expected via {}", join(&path.next_hops))),
        }
    }
    for hop in wanted.iter().flat_map(|route| &route.next_hops) {
        if !paths.iter().any(|path| path.next_hops.contains(hop)) {
            faults.push(format!("is missing via {hop}"));
        }
    }
    faults
}

fn compare(route: &ExpectedRoute, path: &Path) -> Vec<String> {
    let via = join(&path.next_hops);
    let mut faults = Vec::new();
    let mut unequal = |what: &str, have: String, want: String| {
        if have != want {
            faults.push(format!("via {via}: {what} `{have}`, expected `{want}`"));
        }
    };
    unequal("communities", join(&path.communities), join(&route.communities));
    unequal(
        "large communities",
        join(&path.large_communities),
        join(&route.large_communities),
    );
    unequal(
        "extended communities",
        join(&path.extended_communities),
        join(&route.extended_communities),
    );
    if let Some(as_path) = &route.as_path {
        unequal("AS path", path.as_path.clone(), as_path.clone());
    }
    let number = |number: Option<u64>| number.map_or_else(|| "none".to_owned(), |number| number.to_string());
    if route.med.is_some() {
        unequal("MED", number(path.med), number(route.med));
    }
    if route.local_preference.is_some() {
        unequal(
            "local preference",
            number(path.local_preference),
            number(route.local_preference),
        );
    }
    faults
}

fn join<T: ToString>(items: &BTreeSet<T>) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: &str = "\
routers:
  r:
    sessions: ['fd00::2']
    routes: [{prefix: 10.0.0.0/24, nextHops: ['fd00::2'], communities: ['1:2', '1:1'], med: 5}]
";

    fn path(hop: &str, communities: &[&str], med: u64) -> Path {
        Path {
            peer: hop.into(),
            next_hops: BTreeSet::from([hop.parse().unwrap()]),
            as_path: "65001".into(),
            communities: communities.iter().map(|text| (*text).to_owned()).collect(),
            large_communities: BTreeSet::new(),
            extended_communities: BTreeSet::new(),
            med: Some(med),
            local_preference: None,
            is_best: true,
        }
    }

    fn judged(state: &str, routes: &[(&str, Path)]) -> Verdict {
        let expectations = parse(EXPECTED).unwrap();
        let sessions = BTreeMap::from([(
            "fd00::2".to_owned(),
            Session {
                asn: 1,
                state: state.into(),
            },
        )]);
        let routes = routes
            .iter()
            .map(|(prefix, path)| ((*prefix).to_owned(), vec![path.clone()]))
            .collect();
        let mut verdict = Verdict::default();
        judge("r", &expectations.routers["r"], &sessions, &routes, &mut verdict);
        verdict
    }

    #[test]
    fn what_is_as_expected_is_counted() {
        let verdict = judged(
            "Established",
            &[("10.0.0.0/24", path("fd00::2", &["1:1", "1:2"], 5))],
        );
        assert_eq!(
            verdict,
            Verdict {
                met: 2,
                faults: Vec::new()
            }
        );
    }

    #[test]
    fn each_difference_is_a_line() {
        let routes = [
            ("10.0.0.0/24", path("fd00::2", &["1:1"], 6)),
            ("10.0.1.0/24", path("fd00::2", &[], 0)),
        ];
        let expected = [
            "r: session with fd00::2 is Active",
            "r: 10.0.0.0/24 via fd00::2: communities `1:1`, expected `1:1 1:2`",
            "r: 10.0.0.0/24 via fd00::2: MED `6`, expected `5`",
            "r: 10.0.1.0/24 is not expected via fd00::2",
        ];
        assert_eq!(judged("Active", &routes).faults, expected);
        assert_eq!(
            judged("Established", &[]).faults,
            ["r: 10.0.0.0/24 is missing via fd00::2"]
        );
    }
}
