//! What an FRR router sees: its sessions and what it learned over them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

use crate::{Error, Handle};

/// One neighbour of a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub asn: u32,
    /// FRR's word: `Established`, `Active`, ...
    pub state: String,
}

impl Session {
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.state == "Established"
    }
}

/// One path to a prefix, as learned from a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub peer: String,
    /// Global next hops; link-local ones that come with them are left out.
    pub next_hops: BTreeSet<IpAddr>,
    pub as_path: String,
    pub communities: BTreeSet<String>,
    pub large_communities: BTreeSet<String>,
    pub extended_communities: BTreeSet<String>,
    pub med: Option<u64>,
    pub local_preference: Option<u64>,
    pub is_best: bool,
}

/// The router's neighbours.
///
/// # Errors
/// `vtysh` fails, as it does while the router starts.
pub fn sessions(router: &Handle) -> Result<BTreeMap<String, Session>, Error> {
    let answers = ask(router, &["show bgp neighbors json".to_owned()])?;
    let neighbors = answers.first().and_then(Value::as_object).into_iter().flatten();
    // FRR puts an error or an empty message where neighbours would be.
    let neighbors = neighbors.filter(|(_, neighbor)| neighbor["bgpState"].is_string());
    Ok(neighbors
        .map(|(peer, neighbor)| {
            let asn = neighbor["remoteAs"]
                .as_u64()
                .and_then(|asn| u32::try_from(asn).ok())
                .unwrap_or_default();
            let state = neighbor["bgpState"].as_str().unwrap_or_default().to_owned();
            (peer.clone(), Session { asn, state })
        })
        .collect())
}

/// All that the router learned from its neighbours, by prefix, both families.
///
/// # Errors
/// As [`sessions`].
pub fn routes(router: &Handle) -> Result<BTreeMap<String, Vec<Path>>, Error> {
    let families = ["ipv4", "ipv6"];
    let tables = ask(
        router,
        &families.map(|family| format!("show bgp {family} unicast json")),
    )?;
    let mut questions = Vec::new();
    for (family, table) in families.iter().zip(&tables) {
        for (prefix, paths) in table["routes"].as_object().into_iter().flatten() {
            let learned = |path: &Value| path["peerId"].as_str().is_some_and(|peer| peer != "(unspec)");
            if paths.as_array().is_some_and(|paths| paths.iter().any(learned)) {
                questions.push((prefix.clone(), format!("show bgp {family} unicast {prefix} json")));
            }
        }
    }
    let mut routes = BTreeMap::new();
    // Few at a time: the questions are words of one command line.
    for questions in questions.chunks(200) {
        let texts: Vec<String> = questions.iter().map(|(_, question)| question.clone()).collect();
        for ((prefix, _), answer) in questions.iter().zip(ask(router, &texts)?) {
            let paths = answer["paths"].as_array().into_iter().flatten();
            routes.insert(
                prefix.clone(),
                paths.filter(|path| path["local"] != true).map(path).collect(),
            );
        }
    }
    Ok(routes)
}

/// Prints for people: what an operator would type.
///
/// # Errors
/// `vtysh` fails.
pub fn view(router: &Handle) -> Result<String, Error> {
    let mut text = String::new();
    for question in [
        "show bgp summary",
        "show bgp ipv4 unicast",
        "show bgp ipv6 unicast",
    ] {
        text += &format!(
            "# vtysh -c '{question}'\n{}\n",
            router.exec(&["vtysh", "-c", question])?.trim()
        );
    }
    Ok(text)
}

/// Asks several questions in one run of `vtysh`; each answers with one JSON document.
fn ask(router: &Handle, questions: &[String]) -> Result<Vec<Value>, Error> {
    if questions.is_empty() {
        return Ok(Vec::new());
    }
    let mut argv = vec!["vtysh"];
    argv.extend(questions.iter().flat_map(|question| ["-c", question.as_str()]));
    let text = router.exec(&argv)?;
    let answers = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    answers.collect::<Result<_, _>>().map_err(|error| Error::System {
        what: format!("read vtysh's answer on {}", router.name()),
        source: error.into(),
    })
}

fn path(path: &Value) -> Path {
    let list = |name: &str| -> BTreeSet<String> {
        // The string form, as FRR spells communities in its command line ("no-export", not "noExport").
        let text = path[name]["string"].as_str().unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    };
    let next_hops = path["nexthops"].as_array().into_iter().flatten();
    Path {
        peer: path["peer"]["peerId"].as_str().unwrap_or_default().to_owned(),
        next_hops: next_hops
            .filter(|hop| hop["scope"] != "link-local")
            .filter_map(|hop| hop["ip"].as_str()?.parse().ok())
            .collect(),
        as_path: path["aspath"]["string"].as_str().unwrap_or_default().to_owned(),
        communities: list("community"),
        large_communities: list("largeCommunity"),
        extended_communities: list("extendedCommunity"),
        med: path["metric"].as_u64(),
        local_preference: path["locPrf"].as_u64(),
        is_best: path["bestpath"]["overall"] == true,
    }
}
