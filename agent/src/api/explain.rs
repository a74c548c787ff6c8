//! Why an address is announced, or is not: the way from the Service to the router, step by step, and the first "no" with
//! what to change. Pure: the same facts that the status is made of.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::status::{self, Facts};
use super::view::{Vip, Why};
use crate::config::BgpControlPlane;
use crate::plan::{AddressReport, Reason, ServiceReport};

/// Whom somebody asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Address(IpAddr),
    /// `namespace/name`
    Service(String),
}

/// The way of one address of one Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `namespace/name`; empty where no Service is known.
    pub service: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    pub steps: Vec<Step>,
    /// The first step that says no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no: Option<No>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub step: String,
    pub answer: Answer,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Yes,
    No,
    /// Neither helps nor hinders.
    Note,
}

/// What is in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct No {
    pub step: String,
    #[serde(flatten)]
    pub why: Why,
    /// What to change.
    pub remedy: String,
}

impl Explanation {
    fn new(service: &str, address: Option<IpAddr>) -> Self {
        Self {
            service: service.to_owned(),
            address: address.map(|address| address.to_string()),
            steps: Vec::new(),
            no: None,
        }
    }

    pub fn yes(&mut self, step: &str, text: impl Into<String>) {
        self.push(step, Answer::Yes, text.into());
    }

    pub fn note(&mut self, step: &str, text: impl Into<String>) {
        self.push(step, Answer::Note, text.into());
    }

    /// Only the first one is the cause; what follows from it is shown too.
    pub fn no(&mut self, step: &str, why: Why) {
        self.push(step, Answer::No, why.message.clone());
        if self.no.is_none() {
            self.no = Some(No {
                step: step.to_owned(),
                remedy: remedy(&why.reason).to_owned(),
                why,
            });
        }
    }

    fn push(&mut self, step: &str, answer: Answer, text: String) {
        self.steps.push(Step {
            step: step.to_owned(),
            answer,
            text,
        });
    }
}

/// One explanation for each address that is meant; there always is one.
#[must_use]
pub fn explain(facts: Facts<'_>, wanted: &Wanted) -> Vec<Explanation> {
    let vips = status::vips(facts);
    let mut found = Vec::new();
    for report in facts.snapshot.desired.services.values() {
        let service = report.service.to_string();
        let addresses = report.addresses.iter().filter(|address| match wanted {
            Wanted::Address(wanted) => address.address == *wanted,
            Wanted::Service(wanted) => service == *wanted,
        });
        found.extend(addresses.map(|address| with_address(facts, report, address, &vips)));
        let is_named = matches!(wanted, Wanted::Service(wanted) if service == *wanted);
        if is_named && (report.addresses.is_empty() || !report.reasons.is_empty()) {
            found.push(without_address(&service, &report.reasons));
        }
    }
    if found.is_empty() {
        found.push(unknown(wanted));
    }
    found
}

fn with_address(
    facts: Facts<'_>,
    report: &ServiceReport,
    address: &AddressReport,
    vips: &[Vip],
) -> Explanation {
    let service = report.service.to_string();
    let text = address.address.to_string();
    let mut said = Explanation::new(&service, Some(address.address));
    said.yes("service", format!("{service} is known to this node"));
    said.yes("address", format!("{text} is its {}", address.kind.as_str()));
    if let Some(pool) = status::retained(facts, address) {
        said.note(
            "address",
            format!(
                "pool {pool} retains it (blockRemoval): no block has it any more, and nobody else gets it"
            ),
        );
    }
    if facts.snapshot.config.bgp == BgpControlPlane::Disabled {
        said.no(
            "bgp",
            Why {
                reason: "bgp-disabled".to_owned(),
                message: "enable-bgp-control-plane is false".to_owned(),
            },
        );
        return said;
    }
    let (own, chosen): (Vec<&Reason>, Vec<&Reason>) = address.reasons.iter().partition(|r| is_own(r));
    for reason in &own {
        said.no("service may be announced", why(reason));
    }
    if own.is_empty() {
        said.yes(
            "service may be announced",
            "its type, class, policy and endpoints allow it",
        );
    }
    for reason in &chosen {
        said.no("advertisement", why(reason));
    }
    if address.announced.is_empty() && address.reasons.is_empty() {
        said.no("advertisement", why(&Reason::NoAdvertisementSelectsIt));
    }
    let vip = vips
        .iter()
        .find(|vip| vip.service == service && vip.address.as_deref() == Some(&text));
    for wish in &address.announced {
        let peer = format!("{}/{}", wish.instance, wish.peer);
        let prefix = wish.prefix.to_string();
        said.yes("advertisement", format!("{prefix} is meant for peer {peer}"));
        let missing = vip.and_then(|vip| {
            vip.missing.iter().find(|missing| {
                let to = &missing.announcement;
                (&*to.instance, &*to.peer, &*to.prefix) == (&*wish.instance, &*wish.peer, &*prefix)
            })
        });
        match missing {
            None => said.yes("router", format!("peer {peer} has {prefix}")),
            Some(missing) if missing.why.reason == "not-in-adj-rib-out" => {
                said.yes("session", format!("with peer {peer} is established"));
                said.no("router", missing.why.clone());
            }
            Some(missing) => said.no("session", missing.why.clone()),
        }
    }
    said
}

fn without_address(service: &str, reasons: &[Reason]) -> Explanation {
    let mut said = Explanation::new(service, None);
    said.yes("service", format!("{service} is known to this node"));
    for reason in reasons {
        said.no("address", why(reason));
    }
    if reasons.is_empty() {
        let message = "it has none, and asks for none".to_owned();
        said.no(
            "address",
            Why {
                reason: "no-address".to_owned(),
                message,
            },
        );
    }
    said
}

fn unknown(wanted: &Wanted) -> Explanation {
    let (service, address, message) = match wanted {
        Wanted::Address(address) => (
            "",
            Some(*address),
            format!("no Service has the address {address}"),
        ),
        Wanted::Service(service) => (&**service, None, format!("there is no Service {service}")),
    };
    let mut said = Explanation::new(service, address);
    let reason = "unknown-service".to_owned();
    said.no("service", Why { reason, message });
    said
}

fn why(reason: &Reason) -> Why {
    Why {
        reason: reason.name().to_owned(),
        message: reason.to_string(),
    }
}

/// Whether it is about the Service itself, or about who announces it.
fn is_own(reason: &Reason) -> bool {
    !matches!(
        reason,
        Reason::NoAdvertisementSelectsIt | Reason::NoPeerTakesThisFamily | Reason::NoPeers
    )
}

/// What to change, by the name of a reason.
#[must_use]
pub fn remedy(reason: &str) -> &'static str {
    match reason {
        "unknown-service" => {
            "look at `stentor vip list` and `stentor status`: a document that can not be read is named there"
        }
        "no-address" => "make it type LoadBalancer, or give it externalIPs",
        "headless" | "external-name" => {
            "give it a cluster address, or announce its endpoints' addresses instead"
        }
        "no-ports" => "give it a port",
        "not-for-this-node" => {
            "change the annotation service.cilium.io/node or /node-selector, or ask on a node it selects"
        }
        "type-not-exposed" => "change the annotation service.cilium.io/type",
        "no-vip" => "make a CiliumLoadBalancerIPPool that selects it and has a free address of the family",
        "hostname-only" | "ip-mode-not-vip" => "have an address with ipMode VIP given to it",
        "family-off" => "switch the family on: enable-ipv4, enable-ipv6",
        "class-not-ours" => "take loadBalancerClass away, or set io.cilium/bgp-control-plane",
        "l2-not-available" => "set loadBalancerClass io.cilium/bgp-control-plane, or none",
        "no-endpoints" => {
            "see why its pods are not ready, or set enable-no-service-endpoints-routable to true"
        }
        "no-local-endpoints" => {
            "run a ready pod on this node, or set the traffic policy to Cluster; other nodes may announce it meanwhile"
        }
        "no-advertisement-selects-it" => {
            "make a CiliumBGPAdvertisement whose selector matches its labels and whose service.addresses has the type; \
             the peer's CiliumBGPPeerConfig must select that advertisement by its labels"
        }
        "no-peer-takes-this-family" => "add the family to the CiliumBGPPeerConfig of a peer",
        "no-peers" => "make a CiliumBGPClusterConfig whose nodeSelector matches this node, with a peer",
        "bgp-disabled" => "set enable-bgp-control-plane to true",
        "session-down" => "see `stentor bgp peers` for why the session is down",
        "session-not-run" => "see `stentor status`: the peer is not run, and why",
        "not-in-adj-rib-out" => "wait a moment; if it stays so, see `stentor bgp routes advertised`",
        "not-in-maps" => {
            "see `stentor lb services list` and `stentor status`: the datapath's problems are named there"
        }
        _ => "see `stentor status`",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use bgp_speaker::speaker::StateName;

    use super::super::status::tests::{session, snapshot_with};
    use super::*;

    fn explained(
        peers: &[bgp_speaker::speaker::PeerStatus],
        wanted: &Wanted,
        reasons: Vec<Reason>,
    ) -> Explanation {
        let to: &[&str] = if reasons.is_empty() { &["tor"] } else { &[] };
        let snapshot = snapshot_with(to, reasons);
        let facts = Facts {
            snapshot: &snapshot,
            peers,
            advertised: &[],
            now: Instant::now(),
        };
        explain(facts, wanted).remove(0)
    }

    fn no(said: &Explanation) -> (&str, &str) {
        said.no
            .as_ref()
            .map_or(("", ""), |no| (no.step.as_str(), no.why.reason.as_str()))
    }

    #[test]
    fn the_first_no_is_named_with_what_to_change() {
        let vip = Wanted::Address("192.0.2.1".parse().unwrap());
        let down = explained(&[session("tor", "10.0.0.9", StateName::Active)], &vip, Vec::new());
        assert_eq!(no(&down), ("session", "session-down"));
        let unsent = explained(
            &[session("tor", "10.0.0.9", StateName::Established)],
            &vip,
            Vec::new(),
        );
        assert_eq!(no(&unsent), ("router", "not-in-adj-rib-out"));
        assert!(
            unsent
                .steps
                .iter()
                .any(|step| step.step == "session" && step.answer == Answer::Yes)
        );
        let local = explained(&[], &vip, vec![Reason::NoLocalEndpoints]);
        assert_eq!(no(&local), ("service may be announced", "no-local-endpoints"));
        let unselected = explained(
            &[],
            &Wanted::Service("web/front".into()),
            vec![Reason::NoAdvertisementSelectsIt],
        );
        assert_eq!(no(&unselected), ("advertisement", "no-advertisement-selects-it"));
        for said in [down, unsent, local, unselected] {
            assert!(!said.no.unwrap().remedy.is_empty());
        }
    }

    #[test]
    fn an_address_that_its_pool_retains_says_so() {
        let address = "192.0.2.1".parse().unwrap();
        let mut snapshot = snapshot_with(&[], vec![Reason::NoPeers]);
        let retaining = lbipam::PoolReport {
            retained: vec![address],
            ..lbipam::PoolReport::default()
        };
        let mut desired = (*snapshot.desired).clone();
        desired.lb_ipam.pools.insert("main".to_owned(), retaining);
        snapshot.desired = std::sync::Arc::new(desired);
        let facts = Facts {
            snapshot: &snapshot,
            peers: &[],
            advertised: &[],
            now: Instant::now(),
        };
        let said = explain(facts, &Wanted::Address(address)).remove(0);
        let says = |step: &&Step| step.answer == Answer::Note && step.text.contains("pool main retains it");
        assert_eq!(said.steps.iter().filter(says).count(), 1);
        assert_eq!(status::vips(facts)[0].retained.as_deref(), Some("main"));
    }

    #[test]
    fn what_nobody_knows_is_named_too() {
        let said = explained(&[], &Wanted::Address("203.0.113.1".parse().unwrap()), Vec::new());
        assert_eq!(no(&said), ("service", "unknown-service"));
        let said = explained(&[], &Wanted::Service("web/other".into()), Vec::new());
        assert_eq!(no(&said), ("service", "unknown-service"));
    }
}
