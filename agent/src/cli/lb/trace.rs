//! `stentor lb trace`: the way of a packet, computed here, and then what the kernel's own program does with such a packet.
//!
//! A test run of a program is real: it writes the maps that a packet would write. What it wrote is put back as it was, entry by
//! entry. What stays are the counters, by one packet.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use ebpf_abi::config::{Affinity, AffinityKey};
use ebpf_abi::flow::{Flow, Tuple};
use ebpf_abi::model::Model;
use ebpf_abi::packet::{TCP, UDP};
use ebpf_abi::service::{FrontendKey, Selection};
use ebpf_abi::{BackendId, DropReason};
use ebpf_loader::tables::{self, Pins};
use ebpf_loader::{Error, Flows, Hook, Interest, Listener, MapFd, Pinned, ProgramInfo};
use serde::Serialize;

use super::super::commands::{Done, Exit, Failure, print_one};
use super::args::{TraceArgs, TraceProtocol};
use super::look::{self, Look, Names};
use super::walk::{Answer, Outcome, Question, Walk, set_for, walk};
use super::{failed, frame};

/// What a drop's event takes to arrive at most.
const SOON: Duration = Duration::from_millis(500);

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traced {
    pub source: String,
    pub destination: String,
    pub protocol: &'static str,
    #[serde(flatten)]
    pub walk: Walk,
    pub kernel: Kernel,
}

/// What the kernel's program did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// Why it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_asked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// Whether it came to what was computed here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agrees: Option<bool>,
}

pub(super) fn run(args: &TraceArgs) -> Done {
    let (protocol, name) = match args.proto {
        TraceProtocol::Tcp => (TCP, "TCP"),
        TraceProtocol::Udp => (UDP, "UDP"),
    };
    let Some(frame) = frame::first(args.source, args.destination, protocol) else {
        return Err(Failure::problem(
            "source and destination are of different address families",
        ));
    };
    let read = || -> Result<(Walk, Kernel), Error> {
        let pinned = look::pinned(&args.maps)?;
        let look = Look::read(&pinned, &args.at)?;
        let question = Question {
            source: args.source,
            destination: args.destination,
            protocol,
            frame: &frame,
            now: look.now,
        };
        match args.destination.ip() {
            IpAddr::V4(_) => asked(look.v4, &look.names, &question, &pinned, args),
            IpAddr::V6(_) => asked(look.v6, &look.names, &question, &pinned, args),
        }
    };
    let (walk, kernel) = read().map_err(|error| failed(&error))?;
    let traced = Traced {
        source: args.source.to_string(),
        destination: args.destination.to_string(),
        protocol: name,
        walk,
        kernel,
    };
    print_one(&traced, args.output, text)?;
    let is_served = matches!(traced.walk.outcome, Outcome::Served(_));
    Ok(if is_served && traced.kernel.agrees != Some(false) {
        Exit::Good
    } else {
        Exit::Problems
    })
}

fn asked<A: Pins>(
    mut model: Model<A>,
    names: &Names,
    question: &Question<'_>,
    pinned: &Pinned,
    args: &TraceArgs,
) -> Result<(Walk, Kernel), Error> {
    let Some(tuple) = question.tuple::<A>() else {
        return Ok((walk(&model, names, question), Kernel::default()));
    };
    // It says whether the packet comes from the network or from a pod.
    if let Some(device) = &args.device {
        model.arrived = nix::net::if_::if_nametoindex(device.as_str()).unwrap_or(0);
    }
    // Only what this packet meets of what programs write: the tables may be large.
    let flows = pinned.flows::<A>()?;
    if let Some(flow) = flows.get(&tuple)? {
        let twin = flow.twin(tuple.protocol);
        model.flows.insert(tuple, flow);
        if let Some(other) = flows.get(&twin)? {
            model.flows.insert(twin, other);
        }
    }
    let key = FrontendKey::new(tuple.destination, tuple.destination_port, tuple.protocol);
    let frontend = model.frontends.get(&key).copied();
    if let Some(frontend) = frontend {
        let client = AffinityKey {
            client: tuple.source,
            service: frontend.service,
        };
        if let Some(affinity) = pinned.map(A::AFFINITY)?.get::<_, Affinity>(&client)? {
            model.affinities.insert(client, affinity);
        }
        let set = set_for(&model, &frontend);
        let table = tables::table(pinned, set, model.config.maglev_size)?;
        if !table.is_empty() {
            model.maglev.insert(set, table);
        }
    }
    let walk = walk(&model, names, question);
    if args.no_kernel {
        let not_asked = Some("--no-kernel".to_owned());
        return Ok((
            walk,
            Kernel {
                not_asked,
                ..Kernel::default()
            },
        ));
    }
    let by_chance = frontend.is_some_and(|frontend| {
        Selection::from_number(frontend.selection) == Selection::Random
            && !model.maglev.contains_key(&set_for(&model, &frontend))
            && !model.flows.contains_key(&tuple)
    });
    let kernel = in_kernel(
        &model,
        &walk,
        question,
        &tuple,
        pinned,
        args,
        if by_chance { Chance::Yes } else { Chance::No },
    )?;
    Ok((walk, kernel))
}

/// Whether the backend is chosen at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chance {
    Yes,
    No,
}

fn in_kernel<A: Pins>(
    model: &Model<A>,
    walk: &Walk,
    question: &Question<'_>,
    tuple: &Tuple<A>,
    pinned: &Pinned,
    args: &TraceArgs,
    chance: Chance,
) -> Result<Kernel, Error> {
    let mut met = chosen(pinned, args.device.as_deref())?.into_iter();
    let Some((mut hook, mut program)) = met.next() else {
        let whom = args.device.as_deref().unwrap_or("any device");
        return Ok(Kernel {
            not_asked: Some(format!("no program hangs at {whom} (`stentor bpf progs list`)")),
            ..Kernel::default()
        });
    };
    let outcome = loop {
        let mut listener = Listener::start(pinned, Interest::Drops)?;
        let before = Written::read(pinned, model, tuple)?;
        let ran = pinned.run(&program, hook, question.frame);
        let flow = before.flows.get(tuple);
        before.put_back(tuple)?;
        let (ran, flow) = (ran?, flow?);
        if is_drop(hook, ran.verdict) {
            break Outcome::Dropped(reason(&mut listener, question)?.unwrap_or(DropReason::Invalid));
        } else if let Some(flow) = flow.filter(|flow| flow.expires > question.now) {
            break Outcome::Served(flow.backend.0);
        } else if is_sent(hook, ran.verdict) {
            break Outcome::Answered;
        }
        // What XDP lets pass, tc may still take.
        match met.next() {
            Some(next) => (hook, program) = next,
            None => break Outcome::Passed,
        }
    };
    let agrees = match (walk.outcome, outcome) {
        // Another throw of the dice.
        (Outcome::Served(_), Outcome::Served(_)) if chance == Chance::Yes => true,
        (here, there) => here == there,
    };
    Ok(Kernel {
        not_asked: None,
        device: nix::net::if_::if_indextoname(program.device)
            .ok()
            .map(|name| name.to_string_lossy().into_owned()),
        program: Some(program.name),
        verdict: Some(match outcome {
            Outcome::Passed => "passes to the stack untouched".to_owned(),
            Outcome::Answered => "the client is told at once".to_owned(),
            Outcome::Dropped(reason) => format!("dropped: {} ({})", reason.text(), reason.number()),
            Outcome::Served(id) => format!("goes to {}", look::place(model, BackendId(id))),
        }),
        agrees: Some(agrees),
    })
}

/// The programs that a packet meets at the device, or at any, one after the other.
fn chosen(pinned: &Pinned, device: Option<&str>) -> Result<Vec<(Hook, ProgramInfo)>, Error> {
    let index = device.map(|name| nix::net::if_::if_nametoindex(name).unwrap_or(u32::MAX));
    let programs = pinned.programs()?;
    let at = |hook: Hook, index: Option<u32>| {
        let mut all = programs
            .iter()
            .filter(move |program| program.name == hook.program());
        all.find(|program| index.is_none_or(|index| program.device == index))
            .map(|program| (hook, program.clone()))
    };
    let xdp = at(Hook::Xdp, index);
    // Both at one device.
    let ingress = at(
        Hook::Ingress,
        xdp.as_ref().map(|(_, program)| program.device).or(index),
    );
    Ok(xdp.into_iter().chain(ingress).collect())
}

/// What a run may write, as it was.
struct Written<A: Pins> {
    flows: Flows<A>,
    affinities: MapFd,
    flow: Option<Flow<A>>,
    twin: Option<(Tuple<A>, Flow<A>)>,
    affinity: Option<(AffinityKey<A>, Option<Affinity>)>,
}

impl<A: Pins> Written<A> {
    fn read(pinned: &Pinned, model: &Model<A>, tuple: &Tuple<A>) -> Result<Self, Error> {
        let (flows, affinities) = (pinned.flows::<A>()?, pinned.map(A::AFFINITY)?);
        let flow: Option<Flow<A>> = flows.get(tuple)?;
        let twin = match flow.map(|flow| flow.twin(tuple.protocol)) {
            Some(key) => flows.get(&key)?.map(|twin| (key, twin)),
            None => None,
        };
        let key = FrontendKey::new(tuple.destination, tuple.destination_port, tuple.protocol);
        let affinity = match model
            .frontends
            .get(&key)
            .filter(|frontend| frontend.affinity != 0)
        {
            Some(frontend) => {
                let client = AffinityKey {
                    client: tuple.source,
                    service: frontend.service,
                };
                Some((client, affinities.get(&client)?))
            }
            None => None,
        };
        Ok(Self {
            flows,
            affinities,
            flow,
            twin,
            affinity,
        })
    }

    fn put_back(&self, tuple: &Tuple<A>) -> Result<(), Error> {
        if let Some(now) = self.flows.get(tuple)? {
            let twin = now.twin(tuple.protocol);
            match &self.flow {
                Some(flow) => self.flows.put(tuple, flow)?,
                None => self.flows.remove(tuple)?,
            }
            if self.twin.as_ref().is_none_or(|(key, _)| *key != twin) {
                self.flows.remove(&twin)?;
            }
        }
        if let Some((key, twin)) = &self.twin {
            self.flows.put(key, twin)?;
        }
        match &self.affinity {
            Some((key, Some(affinity))) => self.affinities.put(key, affinity),
            Some((key, None)) => self.affinities.remove(key),
            None => Ok(()),
        }
    }
}

/// `XDP_DROP` and `XDP_ABORTED`, `TC_ACT_SHOT`.
fn is_drop(hook: Hook, verdict: u32) -> bool {
    match hook {
        Hook::Xdp => verdict <= 1,
        Hook::Ingress | Hook::Egress => verdict == 2,
    }
}

/// `XDP_TX` and `XDP_REDIRECT`, `TC_ACT_REDIRECT`. Of a packet without a flow it can only be an answer.
fn is_sent(hook: Hook, verdict: u32) -> bool {
    match hook {
        Hook::Xdp => verdict == 3 || verdict == 4,
        Hook::Ingress | Hook::Egress => verdict == 7,
    }
}

/// Why our packet was dropped; others are dropped meanwhile too.
fn reason(listener: &mut Listener, question: &Question<'_>) -> Result<Option<DropReason>, Error> {
    let until = std::time::Instant::now() + SOON;
    while let Some(event) = listener.next(until.saturating_duration_since(std::time::Instant::now()))? {
        let ends = (question.source.ip(), question.destination.ip());
        let ports = (
            u16::from_be(event.source_port),
            u16::from_be(event.destination_port),
        );
        if event.addresses() == Some(ends) && ports == (question.source.port(), question.destination.port()) {
            return Ok(event.dropped());
        }
    }
    Ok(None)
}

/// A line for each step.
#[must_use]
pub fn text(traced: &Traced) -> String {
    let mut text = format!(
        "{} -> {} {}\n",
        traced.source, traced.destination, traced.protocol
    );
    for step in &traced.walk.steps {
        let mark = match step.answer {
            Answer::Yes => "yes ",
            Answer::No => "NO  ",
            Answer::Note => "    ",
        };
        let _ = writeln!(text, "  {mark} {}: {}", step.step, step.text);
    }
    let _ = writeln!(text, "Verdict: {}", traced.walk.verdict);
    let kernel = &traced.kernel;
    match (&kernel.not_asked, &kernel.verdict, kernel.agrees) {
        (Some(why), ..) => {
            let _ = writeln!(text, "Kernel: not asked: {why}");
        }
        (None, Some(verdict), agrees) => {
            let (program, device) = (
                kernel.program.as_deref().unwrap_or("-"),
                kernel.device.as_deref().unwrap_or("-"),
            );
            let word = if agrees == Some(true) {
                "agrees"
            } else {
                "DISAGREES"
            };
            let _ = writeln!(
                text,
                "Kernel: {program} at {device} {word}: {verdict} (what the run wrote was put back)"
            );
        }
        (None, None, _) => {}
    }
    if let Some(no) = &traced.walk.no {
        let _ = writeln!(text, "First no: {}: {}", no.step, no.text);
        let _ = writeln!(text, "To change it: {}", no.remedy);
    }
    text
}
