//! What would happen to the first packet of a connection, step by step, over tables that were read from the maps: pure. The
//! steps only tell; what decides is the very function that the kernel runs.

use std::net::{IpAddr, SocketAddr};

use ebpf_abi::balance::{Tables as _, Verdict, View, ingress, send_on};
use ebpf_abi::config::{Device, setting};
use ebpf_abi::flow::Tuple;
use ebpf_abi::forward::Route;
use ebpf_abi::model::Model;
use ebpf_abi::packet::ETHERNET;
use ebpf_abi::resize::Buffer;
use ebpf_abi::service::{Frontend, FrontendKey, flag};
use ebpf_abi::{DropReason, V4, V6};
use ebpf_loader::tables::Pins;
use serde::Serialize;

use super::look::{Names, place, socket};
use super::rows::{backend_state, forwarding, found, kind, members, named, ranges, selection};

/// The whole way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Walk {
    pub steps: Vec<Step>,
    /// What comes out.
    pub verdict: String,
    /// The first step that says no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no: Option<No>,
    #[serde(skip)]
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub step: &'static str,
    pub answer: Answer,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Yes,
    No,
    /// Neither helps nor hinders.
    Note,
}

/// What is in the way, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct No {
    pub step: &'static str,
    pub text: String,
    pub remedy: &'static str,
}

/// What came out, as far as it can be held against the kernel's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outcome {
    /// To the stack, untouched.
    #[default]
    Passed,
    Dropped(DropReason),
    /// Back to the client, which learns at once that it is not served.
    Answered,
    /// To the backend with this id.
    Served(u32),
}

/// A packet that somebody asks about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub protocol: u8,
    /// From the Ethernet header on.
    pub frame: &'a [u8],
    pub now: u32,
}

impl Question<'_> {
    /// As maps have it; `None` if it is of the other family.
    #[must_use]
    pub fn tuple<A: Pins>(&self) -> Option<Tuple<A>> {
        Some(Tuple {
            source: A::of(self.source.ip())?,
            destination: A::of(self.destination.ip())?,
            source_port: self.source.port().to_be(),
            destination_port: self.destination.port().to_be(),
            protocol: self.protocol,
            ..Tuple::default()
        })
    }
}

impl Walk {
    fn yes(&mut self, step: &'static str, text: impl Into<String>) {
        self.push(step, Answer::Yes, text.into());
    }

    fn note(&mut self, step: &'static str, text: impl Into<String>) {
        self.push(step, Answer::Note, text.into());
    }

    fn no(&mut self, step: &'static str, text: impl Into<String>, remedy: &'static str) {
        let text = text.into();
        self.push(step, Answer::No, text.clone());
        if self.no.is_none() {
            self.no = Some(No { step, text, remedy });
        }
    }

    fn push(&mut self, step: &'static str, answer: Answer, text: String) {
        self.steps.push(Step { step, answer, text });
    }
}

/// The way of a packet.
#[must_use]
pub fn walk<A: Pins>(model: &Model<A>, names: &Names, question: &Question<'_>) -> Walk {
    let mut walk = Walk::default();
    let Some(tuple) = question.tuple::<A>() else {
        walk.no(
            "packet",
            "the two ends are of different families",
            "ask about two ends of one family",
        );
        return walk;
    };
    told(&mut walk, model, names, &tuple, question);
    decided(&mut walk, model, &tuple, question);
    walk
}

/// Everything before the choice.
fn told<A: Pins>(
    walk: &mut Walk,
    model: &Model<A>,
    names: &Names,
    tuple: &Tuple<A>,
    question: &Question<'_>,
) {
    let address = question.destination.ip();
    if model.config.settings & setting::ENABLED == 0 {
        walk.no(
            "settings",
            "the programs are switched off: everything passes",
            "see `stentor status`: the agent writes the settings once everything else is written",
        );
        return;
    }
    walk.yes("settings", "the programs are switched on");
    if !model.may_be_ours(&tuple.destination) {
        walk.no(
            "filter",
            format!("{address} is none of ours: the packet passes untouched"),
            "see `stentor lb services list` for the addresses there are, and `stentor explain vip` for this one",
        );
        return;
    }
    walk.yes("filter", format!("{address} may be ours"));
    match model.flow(tuple) {
        Some(flow) if flow.expires > question.now => walk.note(
            "connection",
            format!(
                "known, {} s left: it goes on to {} if that is still there",
                flow.expires - question.now,
                place(model, flow.backend)
            ),
        ),
        Some(_) | None => walk.note("connection", "none yet: this is the first packet of one"),
    }
    let key = FrontendKey::new(tuple.destination, tuple.destination_port, tuple.protocol);
    let end = socket(address, question.destination.port(), tuple.protocol);
    let Some(frontend) = model.frontend(&key) else {
        if model
            .frontend(&FrontendKey::wildcard(tuple.destination))
            .is_some()
        {
            walk.no(
                "frontend",
                format!(
                    "{address} is a Service's, but not {end}; its ports: {}",
                    ports(model, address)
                ),
                "ask for one of its ports, or add the port to the Service",
            );
        } else {
            walk.no(
                "frontend",
                format!("{end} is no Service's: the packet passes to the stack"),
                "see `stentor lb services list` and `stentor explain vip`",
            );
        }
        return;
    };
    let service = named(names, frontend.service);
    walk.yes("frontend", format!("{end} is a {} of {service}", kind(&frontend)));
    allowed(walk, model, &frontend, tuple, question.source.ip());
    let (serving, draining) = members(model, set_for(model, &frontend));
    if serving.is_empty() {
        let local = if frontend.flags & flag::LOCAL_ONLY != 0 {
            " on this node"
        } else {
            ""
        };
        walk.no(
            "backends",
            format!(
                "nobody serves{local}; {} only finish what they have",
                draining.len()
            ),
            "see why the pods are not ready; with a Local policy, whether one of them is on this node",
        );
        return;
    }
    let text = format!(
        "{} serve, {} only finish what they have",
        serving.len(),
        draining.len()
    );
    walk.yes("backends", text);
    let affinity = match frontend.affinity {
        0 => String::new(),
        seconds => format!(", and stays for {seconds} s"),
    };
    walk.note("choice", format!("by {}{affinity}", selection(&frontend)));
}

fn allowed<A: Pins>(
    walk: &mut Walk,
    model: &Model<A>,
    frontend: &Frontend,
    tuple: &Tuple<A>,
    source: IpAddr,
) {
    if let Some(count) = ranges(model, frontend) {
        let listed = model.in_range(frontend.ranges, &tuple.source);
        match (frontend.flags & flag::DENY_RANGES != 0, listed) {
            (false, true) => walk.yes(
                "source",
                format!("{source} is in one of {count} prefixes that may come"),
            ),
            (false, false) => walk.no(
                "source",
                format!("{source} is in none of {count} prefixes that may come"),
                "add its prefix to loadBalancerSourceRanges",
            ),
            (true, false) => {
                walk.yes(
                    "source",
                    format!("{source} is in none of {count} prefixes that may not come"),
                );
            }
            (true, true) => walk.no(
                "source",
                format!("{source} is in one of {count} prefixes that may not come"),
                "take its prefix out of loadBalancerSourceRanges",
            ),
        }
    }
    match model.view() {
        View::Outside if frontend.flags & flag::ROUTABLE == 0 => walk.no(
            "scope",
            "only clients inside the cluster may come to this address",
            "use a LoadBalancer or NodePort address, or set bpf-lb-external-clusterip; a pod comes by its own device: \
             name it with --device",
        ),
        View::Outside => {}
        View::Inside => walk.yes("scope", "comes from a pod of this node, which is inside the cluster"),
    }
}

/// Who serves those that come from there.
pub(super) fn set_for<A: Pins>(model: &Model<A>, frontend: &Frontend) -> u32 {
    match model.view() {
        View::Outside => frontend.set,
        View::Inside => frontend.inner_set,
    }
}

/// What the kernel's own decision makes of it, and the backend that it chose.
fn decided<A: Pins>(walk: &mut Walk, model: &Model<A>, tuple: &Tuple<A>, question: &Question<'_>) {
    let mut after = model.clone();
    after.now = question.now;
    routes(&mut after);
    let mut packet = Buffer::new(question.frame);
    let verdict = match ingress(&mut packet, ETHERNET, &mut after) {
        Verdict::Direct(opens, backend) => send_on(&mut packet, opens, backend.index(), &mut after),
        verdict => verdict,
    };
    let chosen = after.flows.get(tuple).map(|flow| (flow.backend, flow.dispatch));
    if let Some((id, dispatch)) = chosen
        && let Some(backend) = found(&after, id)
    {
        let at = if backend.is_local() {
            "on this node"
        } else {
            "on another node"
        };
        walk.yes(
            "backend",
            format!("{}, {}, {at}", place(&after, id), backend_state(backend)),
        );
        match after.view() {
            View::Outside if !backend.is_local() => walk.note("forwarding", forwarding(dispatch)),
            View::Outside => {}
            View::Inside => walk.note("forwarding", "through the stack, with the pod's own address"),
        }
    }
    if let Verdict::Drop(reason) = verdict {
        walk.verdict = format!("dropped: {} ({})", reason.text(), reason.number());
        walk.outcome = Outcome::Dropped(reason);
        if walk.no.is_none() {
            walk.no(
                "verdict",
                reason.text(),
                "see `stentor monitor` while such packets come",
            );
        }
    } else if let Verdict::Answer(answer) = verdict {
        let reason = answer.reason();
        walk.verdict = format!(
            "the client is told at once: {} ({})",
            reason.text(),
            reason.number()
        );
        walk.outcome = Outcome::Answered;
    } else if let Some((id, _)) = chosen.filter(|_| !matches!(verdict, Verdict::Pass(_))) {
        walk.verdict = format!("goes to {}", place(&after, id));
        walk.outcome = Outcome::Served(id.0);
    } else {
        walk.verdict = format!("not balanced ({verdict:?})");
        walk.outcome = Outcome::Passed;
    }
}

/// Routes are the kernel's, and are not asked here: every backend elsewhere counts as reachable, by a device that has an
/// address of ours. What the routes say is what the kernel's program then comes to.
fn routes<A: Pins>(model: &mut Model<A>) {
    let fits = |device: &Device| match A::default().ip() {
        IpAddr::V4(_) => device.v4 != V4::default(),
        IpAddr::V6(_) => device.v6 != V6::default(),
    };
    let device = model
        .devices
        .iter()
        .find(|(_, device)| fits(device))
        .map_or(0, |(index, _)| *index);
    let route = Route {
        device,
        ..Route::default()
    };
    let elsewhere = model.backends.values().filter(|backend| !backend.is_local());
    // With headers around it, a packet goes to the backend's node.
    let nodes = model.nodes.values().map(A::known_as);
    let routes: Vec<A> = elsewhere.map(|backend| backend.address).chain(nodes).collect();
    model.routes.extend(
        routes
            .into_iter()
            .map(|address| (address, Some((route, u16::MAX)))),
    );
}

fn ports<A: Pins>(model: &Model<A>, address: IpAddr) -> String {
    let own = model
        .frontends
        .iter()
        .filter(|(key, frontend)| key.address.ip() == address && frontend.flags & flag::WILDCARD == 0);
    let list: Vec<String> = own
        .map(|(key, _)| socket(address, u16::from_be(key.port), key.protocol))
        .collect();
    if list.is_empty() {
        "none".to_owned()
    } else {
        list.join(", ")
    }
}
