//! What can happen to a speaker.
//!
//! ```text
//! configure NAME                      the file NAME of the archive is the configuration from now on
//! process cold|restarted              first line only: what the process begins as
//! listened main [error="in use"]      refused d0 ["error"]      closed d0 ["error"]
//! connected d0 [local=10.0.0.1]       accepted a0 from=10.0.0.2 [to=10.0.0.1] [instance=main]
//! open d0 as= id= [hold=90] [caps=ipv4,ipv6,rr,err,as4,ext,gr:R:N:120:ipv4+:ipv6-] [version=4]
//! keepalive d0      eor d0 ipv4       refresh d0 ipv4 [begin|end]      notification d0 6/2 ["text"]
//! announce d0 20.0.0.0/24.. path=65001 nh=10.0.0.2 [count=N]           withdraw d0 20.0.0.0/24..
//! establish d0 as= id= ...            connected (if dialled), open and keepalive in one
//! raw d0 HEX                          stall d0 / resume d0: the peer's window is shut / opens
//! link-down eth0 10.0.0.2             reset main tor "text"   refresh-in main tor   refresh-out main tor
//! shutdown restart|stop               peers    routes loc|in|out
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, bail};
use bgp_speaker::speaker::{Companions, ConnId, Input, Request, Shutdown, Speaker, Start, Table};
use bgp_speaker::types::{Asn, AsnWidth, Family, HoldTime, Prefix, RouterId, SessionKind};
use bgp_speaker::wire::attr::{self, EncodeContext};
use bgp_speaker::wire::attrs::{AsPath, AsSegment, Attrs, NextHop, Origin};
use bgp_speaker::wire::capability::{
    Capability, ExtendedNextHop, Forwarding, GracefulRestart, NotificationSupport, RestartState,
};
use bgp_speaker::wire::route_refresh::Subtype;
use bgp_speaker::wire::update::{self, Announce, Carrier};
use bgp_speaker::wire::{Notification, Open, RouteRefresh, keepalive};
use bytes::{BufMut, Bytes, BytesMut};

use crate::words::Words;
use crate::{Acks, Line, Stage, address, config, parse_conn, show};

pub(crate) fn say(stage: &mut Stage<'_>, words: &Words) -> anyhow::Result<()> {
    let conn = || parse_conn(words.at(1)?);
    match words.first() {
        "process" => {
            let start = match words.at(1)? {
                "cold" => Start::Cold,
                "restarted" => Start::Restarted,
                other => bail!("{other} is neither cold nor restarted"),
            };
            stage.speaker = Speaker::new(1, start);
        }
        "configure" => {
            let name = words.at(1)?;
            let text = stage
                .archive
                .get(name)
                .with_context(|| format!("no file named {name}"))?;
            stage.give(Input::Configured(Arc::new(config::parse(text)?)));
        }
        "listened" => stage.give(Input::Listened {
            instance: words.at(1)?.into(),
            result: words.get("error").map_or(Ok(()), |error| Err(error.into())),
        }),
        "connected" => connected(stage, words, conn()?)?,
        "refused" => stage.give(Input::ConnectFailed {
            conn: conn()?,
            error: words.at(2).unwrap_or("connection refused").into(),
        }),
        "accepted" => accepted(stage, words, conn()?)?,
        "closed" => {
            let conn = conn()?;
            stage.lines.remove(&conn);
            let error = words.at(2).ok().map(Arc::from);
            stage.give(Input::Closed { conn, error });
        }
        "open" => {
            let bytes = open(words)?;
            note_open(stage, words, conn()?)?;
            receive(stage, conn()?, bytes);
        }
        "establish" => {
            let conn = conn()?;
            if matches!(conn, ConnId::Dialled(_)) {
                connected(stage, words, conn)?;
            } else if words.get("from").is_some() {
                accepted(stage, words, conn)?;
            }
            note_open(stage, words, conn)?;
            receive(stage, conn, open(words)?);
            receive(stage, conn, keepalive::encode());
        }
        "keepalive" => receive(stage, conn()?, keepalive::encode()),
        "eor" => {
            let bytes = update::encode_end_of_rib(config::family(words.at(2)?)?);
            receive(stage, conn()?, bytes);
        }
        "refresh" => {
            let message = RouteRefresh {
                family: config::family(words.at(2)?)?,
                subtype: match words.at(3).ok() {
                    None => Subtype::Request,
                    Some("begin") => Subtype::Begin,
                    Some("end") => Subtype::End,
                    Some(other) => bail!("{other} is neither begin nor end"),
                },
            };
            receive(stage, conn()?, message.encode());
        }
        "notification" => receive(stage, conn()?, notification(words)?.encode()),
        "announce" => announce(stage, words, conn()?)?,
        "withdraw" => {
            let prefixes = prefixes(words)?;
            let mut out = BytesMut::new();
            let family = prefixes.first().context("no prefix")?.family();
            let carrier = match family {
                Family::IPV4_UNICAST => Carrier::Fields,
                _ => Carrier::MultiProtocol,
            };
            update::encode_withdraw(family, carrier, 65535, &prefixes, &mut out);
            receive(stage, conn()?, out.freeze());
        }
        "raw" => {
            let bytes = hex(&words.rest(2))?;
            receive(stage, conn()?, bytes);
        }
        "stall" => stage.line(conn()?)?.acks = Acks::Stalled,
        "resume" => {
            let conn = conn()?;
            stage.line(conn)?.acks = Acks::AtOnce;
            let bytes = words.at(2).map_or(Ok(usize::MAX), str::parse)?;
            stage.give(Input::Sent { conn, bytes });
        }
        "link-down" => stage.give(Input::LinkDown {
            interface: words.at(1)?.into(),
            peers: words
                .rest(2)
                .split_whitespace()
                .map(address)
                .collect::<anyhow::Result<_>>()?,
        }),
        "reset" => ask(
            stage,
            Request::Reset {
                instance: words.at(1)?.into(),
                peer: words.at(2).ok().map(Into::into),
                text: words.at(3).unwrap_or_default().into(),
            },
        ),
        "refresh-in" => ask(
            stage,
            Request::RefreshIn {
                instance: words.at(1)?.into(),
                peer: words.at(2).ok().map(Into::into),
            },
        ),
        "refresh-out" => ask(
            stage,
            Request::RefreshOut {
                instance: words.at(1)?.into(),
                peer: words.at(2).ok().map(Into::into),
            },
        ),
        "shutdown" => {
            let how = match words.at(1)? {
                "restart" => Shutdown::Restart,
                "stop" => Shutdown::Stop,
                other => bail!("{other} is neither restart nor stop"),
            };
            stage.give(Input::Asked(Request::Shutdown(how)));
        }
        "peers" => {
            for peer in stage.speaker.peers() {
                stage.shown.push(show::peer(&peer, stage.now));
            }
        }
        "routes" => {
            let table = match words.at(1)? {
                "loc" => Table::LocRib,
                "in" => Table::AdjRibIn,
                "out" => Table::AdjRibOut,
                other => bail!("{other} is no table"),
            };
            for family in [Family::IPV4_UNICAST, Family::IPV6_UNICAST] {
                for path in stage.speaker.routes(None, table, family, None)? {
                    stage.shown.push(show::path(&path));
                }
            }
        }
        other => bail!("{other} is nothing that happens"),
    }
    Ok(())
}

/// What nobody is there for is answered so.
fn ask(stage: &mut Stage<'_>, request: Request) {
    match stage.speaker.check(&request) {
        Ok(()) => stage.give(Input::Asked(request)),
        Err(error) => stage.shown.push(format!("answer: {error}")),
    }
}

fn connected(stage: &mut Stage<'_>, words: &Words, conn: ConnId) -> anyhow::Result<()> {
    let remote = stage.line(conn)?.remote;
    let local = words.get("local").map_or_else(|| here(remote.ip()), address)?;
    let local = SocketAddr::new(local, 40000);
    stage.give(Input::Connected {
        conn,
        local,
        remote,
        companions: Companions::default(),
    });
    Ok(())
}

fn accepted(stage: &mut Stage<'_>, words: &Words, conn: ConnId) -> anyhow::Result<()> {
    let remote = address(words.need("from")?)?;
    let local = words.get("to").map_or_else(|| here(remote), address)?;
    let remote = SocketAddr::new(remote, 50000);
    stage.lines.insert(conn, Line::new(remote));
    stage.give(Input::Accepted {
        conn,
        instance: words.get("instance").unwrap_or("main").into(),
        local: SocketAddr::new(local, 179),
        remote,
        companions: Companions::default(),
    });
    Ok(())
}

/// The speaker's address where a dialogue names none.
fn here(remote: IpAddr) -> anyhow::Result<IpAddr> {
    match remote {
        IpAddr::V4(_) => address("10.0.0.1"),
        IpAddr::V6(_) => address("fd00::1"),
    }
}

/// In pieces that do not respect messages, as TCP has it.
fn receive(stage: &mut Stage<'_>, conn: ConnId, bytes: Bytes) {
    let middle = bytes.len().min(11);
    for bytes in [bytes.slice(..middle), bytes.slice(middle..)] {
        if !bytes.is_empty() {
            stage.give(Input::Received { conn, bytes });
        }
    }
}

fn note_open(stage: &mut Stage<'_>, words: &Words, conn: ConnId) -> anyhow::Result<()> {
    let number = words.need("as")?.parse()?;
    let caps = words.get("caps").unwrap_or(DEFAULT_CAPS);
    stage.line(conn)?.theirs = Some((number, caps.contains("as4")));
    Ok(())
}

const DEFAULT_CAPS: &str = "ipv4,rr,as4";

fn open(words: &Words) -> anyhow::Result<Bytes> {
    let number: u32 = words.need("as")?.parse()?;
    let id: std::net::Ipv4Addr = words.need("id")?.parse()?;
    let hold: u16 = words.get("hold").unwrap_or("90").parse()?;
    let caps = words.get("caps").unwrap_or(DEFAULT_CAPS);
    let message = Open {
        asn: Asn::new(number.max(1))?,
        hold_time: HoldTime::new(if (1..=2).contains(&hold) { 3 } else { hold })?,
        router_id: RouterId::new(if id.is_unspecified() {
            [1, 1, 1, 1].into()
        } else {
            id
        })?,
        capabilities: caps
            .split(',')
            .filter(|cap| !cap.is_empty())
            .map(|cap| capability(cap, number))
            .collect::<anyhow::Result<_>>()?,
    };
    // What no sane speaker sends is written into the finished message.
    let mut bytes = BytesMut::from(&message.encode()[..]);
    bytes[19] = words.get("version").unwrap_or("4").parse()?;
    if number == 0 {
        bytes[20..22].copy_from_slice(&[0, 0]);
    }
    bytes[22..24].copy_from_slice(&hold.to_be_bytes());
    bytes[24..28].copy_from_slice(&id.octets());
    if let Some(parameter) = words.get("parameter") {
        bytes.put_slice(&[parameter.parse()?, 0]);
        bytes[28] += 2;
        let length = u16::try_from(bytes.len())?;
        bytes[16..18].copy_from_slice(&length.to_be_bytes());
    }
    Ok(bytes.freeze())
}

fn capability(text: &str, number: u32) -> anyhow::Result<Capability> {
    let v4 = Family::IPV4_UNICAST;
    Ok(match text {
        "ipv4" => Capability::Multiprotocol(v4),
        "ipv6" => Capability::Multiprotocol(Family::IPV6_UNICAST),
        "rr" => Capability::RouteRefresh,
        "err" => Capability::EnhancedRouteRefresh,
        "ext" => Capability::ExtendedMessage,
        "as4" => Capability::FourOctetAsn(number),
        "v6nh" => Capability::ExtendedNextHop(vec![ExtendedNextHop {
            family: v4,
            next_hop_afi: 2,
        }]),
        gr if gr.starts_with("gr") => Capability::GracefulRestart(graceful(gr)?),
        other => bail!("{other} is no capability"),
    })
}

/// `gr:R:N:120:ipv4+:ipv6-`: restarted, N bit, restart time, families with (+) and without (-) the F bit.
fn graceful(text: &str) -> anyhow::Result<GracefulRestart> {
    let mut restart = GracefulRestart {
        state: RestartState::Fresh,
        notification: NotificationSupport::No,
        restart_time: 120,
        families: Vec::new(),
    };
    for part in text.split(':').skip(1) {
        if let Some(name) = part.strip_suffix('+') {
            restart
                .families
                .push((config::family(name)?, Forwarding::Preserved));
        } else if let Some(name) = part.strip_suffix('-') {
            restart.families.push((config::family(name)?, Forwarding::Lost));
        } else if part == "R" {
            restart.state = RestartState::Restarted;
        } else if part == "N" {
            restart.notification = NotificationSupport::Yes;
        } else {
            restart.restart_time = part.parse()?;
        }
    }
    Ok(restart)
}

/// `6/2 "text"`, or `hard 6/2 "text"` for the same in a Hard Reset.
fn notification(words: &Words) -> anyhow::Result<Notification> {
    let hard = words.at(2)? == "hard";
    let place = if hard { 3 } else { 2 };
    let (code, subcode) = words.at(place)?.split_once('/').context("code/subcode")?;
    let mut data = BytesMut::new();
    if let Ok(text) = words.at(place + 1) {
        data.put_u8(u8::try_from(text.len())?);
        data.put_slice(text.as_bytes());
    }
    let message = Notification {
        code: code.parse()?,
        subcode: subcode.parse()?,
        data: data.freeze(),
    };
    Ok(if hard {
        Notification::hard_reset(&message)
    } else {
        message
    })
}

fn announce(stage: &mut Stage<'_>, words: &Words, conn: ConnId) -> anyhow::Result<()> {
    let prefixes = prefixes(words)?;
    let family = prefixes.first().context("no prefix")?.family();
    let line = stage.line(conn)?;
    let width = match (line.ours, line.theirs) {
        (Some((_, true)), Some((_, true))) => AsnWidth::Four,
        _ => AsnWidth::Two,
    };
    let next_hop = NextHop::Ip(words.get("nh").map_or_else(|| Ok(line.remote.ip()), address)?);
    let path = match words.get("path") {
        Some("") => Vec::new(),
        Some(path) => path
            .split(',')
            .map(|number| Ok(Asn::new(number.parse()?)?))
            .collect::<anyhow::Result<_>>()?,
        None => vec![Asn::new(line.theirs.context("no OPEN yet")?.0)?],
    };
    let attrs = Attrs {
        as_path: AsPath(vec![AsSegment::Sequence(path)]),
        ..Attrs::originated(Origin::Igp, next_hop)
    };
    let context = EncodeContext {
        asn_width: width,
        session: SessionKind::External,
        carrier: Carrier::of(family, &next_hop),
    };
    let mut attributes = BytesMut::new();
    attr::encode(&attrs, &context, &mut attributes);
    let announce = Announce {
        family,
        attributes: &attributes,
        next_hop: &next_hop,
        max_message: 4096,
    };
    let mut bytes = BytesMut::new();
    update::encode_announce(&announce, &prefixes, &mut bytes)?;
    receive(stage, conn, bytes.freeze());
    Ok(())
}

/// The prefixes among the words; `count=N` goes on from the first one.
fn prefixes(words: &Words) -> anyhow::Result<Vec<Prefix>> {
    let mut prefixes: Vec<Prefix> = words
        .rest(2)
        .split_whitespace()
        .filter(|word| word.contains('/') && !word.contains('='))
        .map(config::prefix)
        .collect::<anyhow::Result<_>>()?;
    if let (Some(count), Some(Prefix::V4 { bits, len })) = (words.get("count"), prefixes.first().copied()) {
        let count: u32 = count.parse()?;
        let step = 1 << (32 - u32::from(len));
        prefixes = (0..count)
            .map(|n| Prefix::V4 {
                bits: bits + n * step,
                len,
            })
            .collect();
    }
    Ok(prefixes)
}

/// Octets; `marker` stands for the sixteen of a message header.
fn hex(text: &str) -> anyhow::Result<Bytes> {
    let text = text.replace("marker", &"ff".repeat(16)).replace(' ', "");
    let mut bytes = BytesMut::new();
    for pair in text.as_bytes().chunks(2) {
        bytes.put_u8(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    }
    Ok(bytes.freeze())
}
