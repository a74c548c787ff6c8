//! `stentor monitor` and `stentor bpf events`: a line for each packet and each socket that programs tell about.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ebpf_abi::config::Direction;
use ebpf_abi::event::{self, Caller, Event, Kind};
use ebpf_abi::flow::Way;
use ebpf_loader::tables::Pins;
use ebpf_loader::{Interest, Listener, Pinned};
use serde::Serialize;

use super::super::commands::{Done, Exit, Failure, write};
use super::args::{End, MonitorArgs, MonitorKind, MonitorOutput};
use super::look::{self, Look};
use super::{failed, rows};

/// How long one look takes at most; a signal ends us at any time, and programs then forget us by themselves.
const LOOK: Duration = Duration::from_millis(500);
/// Services come and go; names are read anew so often at most.
const FRESH: Duration = Duration::from_secs(2);

/// How much of an event is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// With names.
    Told,
    /// As it came, with the packet's octets.
    Raw,
}

/// An event in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// In UTC, with microseconds.
    pub time: String,
    /// `drop` or `trace`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub direction: &'static str,
    /// Of a drop: its name and number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason_number: Option<u8>,
    /// Of a trace: `to backend` or `to client`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way: Option<&'static str>,
    /// Of a packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Of a socket: who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Of a socket only if it is bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub destination: String,
    pub protocol: String,
    /// Of a packet, in octets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// So many of the same kind were not told before this one.
    pub missed: u32,
    /// The beginning of the packet as it left, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub octets: Option<String>,
}

/// Who made a system call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Of the thread.
    pub name: String,
    /// As the machine numbers it, not as its container does.
    pub id: u32,
}

impl fmt::Display for Process {
    /// `curl[1234]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.name, self.id)
    }
}

impl From<Caller> for Process {
    fn from(caller: Caller) -> Self {
        let name = caller.name.split(|octet| *octet == 0).next();
        let name = String::from_utf8_lossy(name.unwrap_or_default());
        Self {
            // A program names itself, and this goes to a terminal.
            name: name
                .chars()
                .map(|c| if c.is_control() { '?' } else { c })
                .collect(),
            id: caller.process,
        }
    }
}

pub(in super::super) fn run(args: &MonitorArgs, form: Form) -> Done {
    let interest = match args.kind {
        MonitorKind::Drop => Interest::Drops,
        MonitorKind::Trace => Interest::Traces,
        MonitorKind::All => Interest::Both,
    };
    let pinned = look::pinned(&args.maps).map_err(|error| failed(&error))?;
    let mut listener = Listener::start(&pinned, interest).map_err(|error| failed(&error))?;
    let mut names = Known::default();
    let mut told = 0;
    while args.count.is_none_or(|count| told < count) {
        let Some(event) = listener.next(LOOK).map_err(|error| failed(&error))? else {
            continue;
        };
        if !is_meant(&event, args.from, args.to) {
            continue;
        }
        names.refresh(&event, &pinned, args);
        let line = line(&event, form, &names, wall(event.time));
        let text = match args.output {
            MonitorOutput::Line => text(&line),
            MonitorOutput::Json => serde_json::to_string(&line).map_err(Failure::problem)?,
        };
        write(&(text + "\n"))?;
        told += 1;
    }
    Ok(Exit::Good)
}

/// Names of services, backends and devices, as they were lately.
#[derive(Debug, Default)]
pub struct Known {
    look: Look,
    read: Option<std::time::Instant>,
    services: BTreeMap<u32, u32>,
    pub devices: BTreeMap<u32, String>,
}

impl Known {
    /// From these maps.
    #[must_use]
    pub fn new(look: Look) -> Self {
        let v4 = look.v4.frontends.values();
        let all = v4.chain(look.v6.frontends.values());
        Self {
            services: all.map(|frontend| (frontend.id.0, frontend.service)).collect(),
            look,
            read: None,
            devices: BTreeMap::new(),
        }
    }

    /// Reads anew where the event is of something unknown, but not for each packet of a flood.
    fn refresh(&mut self, event: &Event, pinned: &Pinned, args: &MonitorArgs) {
        if event.device != 0
            && !self.devices.contains_key(&event.device)
            && let Ok(name) = nix::net::if_::if_indextoname(event.device)
        {
            self.devices
                .insert(event.device, name.to_string_lossy().into_owned());
        }
        if self.read.is_some_and(|read| read.elapsed() < FRESH) {
            return;
        }
        let is_known = event.frontend.is_none() || self.services.contains_key(&event.frontend.0);
        if self.read.is_some() && is_known {
            return;
        }
        // Without names a line is still a line.
        if let Ok(look) = Look::read(pinned, &args.at) {
            let devices = std::mem::take(&mut self.devices);
            *self = Self {
                devices,
                ..Self::new(look)
            };
        }
        self.read = Some(std::time::Instant::now());
    }

    fn service(&self, event: &Event) -> Option<String> {
        let number = self.services.get(&event.frontend.0)?;
        Some(rows::named(&self.look.names, *number))
    }

    fn backend(&self, event: &Event) -> Option<String> {
        if event.backend.is_none() {
            return None;
        }
        match event.family {
            6 => rows::found(&self.look.v6, event.backend).map(|b| end(b.address.ip(), b.port)),
            _ => rows::found(&self.look.v4, event.backend).map(|b| end(b.address.ip(), b.port)),
        }
    }

    fn device(&self, index: u32) -> String {
        self.devices
            .get(&index)
            .cloned()
            .unwrap_or_else(|| format!("#{index}"))
    }
}

/// Whether the packet is of those who are asked about.
#[must_use]
pub fn is_meant(event: &Event, from: Option<End>, to: Option<End>) -> bool {
    let Some((source, destination)) = event.addresses() else {
        return from.is_none() && to.is_none();
    };
    from.is_none_or(|from| from.is(source, u16::from_be(event.source_port)))
        && to.is_none_or(|to| to.is(destination, u16::from_be(event.destination_port)))
}

/// The event in words.
#[must_use]
pub fn line(event: &Event, form: Form, known: &Known, time: Duration) -> Line {
    let process = event.caller().map(Process::from);
    let (source, destination) = match event.addresses() {
        Some((source, destination)) => (
            (process.is_none() || !source.is_unspecified()).then(|| end(source, event.source_port)),
            end(destination, event.destination_port),
        ),
        None => (Some("?".to_owned()), "?".to_owned()),
    };
    let is_drop = event.kind == Kind::Drop.number();
    let reason = || {
        event.dropped().map_or_else(
            || format!("reason {}", event.reason),
            |reason| reason.text().to_owned(),
        )
    };
    Line {
        time: utc(time),
        kind: if is_drop { "drop" } else { "trace" },
        direction: match event::direction(event.direction) {
            Some(Direction::Ingress) => "ingress",
            Some(Direction::Egress) => "egress",
            Some(Direction::Socket) => "socket",
            None => "?",
        },
        reason: is_drop.then(reason),
        reason_number: is_drop.then_some(event.reason),
        way: (!is_drop).then(|| {
            if event.way == Way::Reply.number() {
                "to client"
            } else {
                "to backend"
            }
        }),
        device: process.is_none().then(|| known.device(event.device)),
        source,
        destination,
        protocol: protocol(event.protocol),
        length: process.is_none().then_some(event.length),
        process,
        service: known.service(event),
        backend: known.backend(event),
        missed: event.missed,
        octets: (form == Form::Raw && event.captured > 0).then(|| hex(event.packet())),
    }
}

/// In one line.
#[must_use]
pub fn text(line: &Line) -> String {
    let mut parts = vec![line.time.clone(), line.kind.to_owned()];
    if let (Some(reason), Some(number)) = (&line.reason, line.reason_number) {
        parts.push(format!("({reason}, {number})"));
    }
    parts.extend(line.way.map(str::to_owned));
    parts.push(line.direction.to_owned());
    parts.extend(line.device.clone());
    parts.extend(line.process.as_ref().map(Process::to_string));
    parts.extend(line.source.clone());
    parts.push(format!("-> {} {}", line.destination, line.protocol));
    parts.extend(line.length.map(|length| format!("{length} octets")));
    parts.extend(line.service.as_ref().map(|service| format!("service {service}")));
    parts.extend(line.backend.as_ref().map(|backend| format!("backend {backend}")));
    if line.missed > 0 {
        parts.push(format!("[{} more before this one]", line.missed));
    }
    parts.extend(line.octets.as_ref().map(|octets| format!("| {octets}")));
    parts.join(" ")
}

fn end(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, u16::from_be(port)).to_string()
}

fn protocol(number: u8) -> String {
    ebpf_datapath::Protocol::from_number(number).map_or_else(
        || match number {
            1 => "ICMP".to_owned(),
            58 => "ICMPv6".to_owned(),
            number => format!("protocol {number}"),
        },
        |known| known.to_string(),
    )
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Since 1970, of a time of the kernel's clock.
fn wall(nanoseconds: u64) -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ago = ebpf_loader::now().saturating_sub(Duration::from_nanos(nanoseconds));
    since.saturating_sub(ago)
}

/// `12:34:56.789012`
fn utc(time: Duration) -> String {
    let seconds = time.as_secs() % 86_400;
    format!(
        "{:02}:{:02}:{:02}.{:06}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        time.subsec_micros()
    )
}
