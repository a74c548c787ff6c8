//! A small node with something of everything, to try packets on. Chance never chooses: the same packets do the same.

use super::Model;
use crate::address::{V4, V6};
use crate::config::{Config, Device, Direction, Member, PRESENT, RangeKey, device_flag, setting};
use crate::forward::{Gateway, Route};
use crate::icmp::Control;
use crate::id::{BackendId, FrontendId};
use crate::maglev::{Seeds, Walker, fill};
use crate::packet::{TCP, UDP};
use crate::service::{Backend, BackendState, Frontend, FrontendKey, Selection, Set, backend_flag, flag};

/// Backends on this node: `backend(1)` and so on, port 8080.
pub const LOCAL: u8 = 8;
/// Those after them are on another node.
pub const REMOTE: u8 = 2;
/// The sets, by what is in them.
const ALL: u32 = 3;
const ONE: u32 = 4;
const NONE: u32 = 5;
const FAR: u32 = 6;
/// The list of source ranges; it has `client(8)` to `client(15)`.
const LIST: u32 = 4;
const FIRST: u32 = 100;

/// The addresses of the sample in a family.
pub trait Sample: Control {
    /// 198.51.100.n or 2001:db8:c::n
    fn client(n: u8) -> Self;
    /// 192.0.2.n or 2001:db8:f::n
    fn vip(n: u8) -> Self;
    /// 10.0.0.n or fd00::n
    fn backend(n: u8) -> Self;
    /// This node, where packets leave: 10.1.0.1 or fd01::1
    fn here() -> Self;
    fn device() -> Device;
    /// Who knows the way to all others: 10.1.0.2 or fd01::2
    fn gateway() -> Gateway;
}

impl Sample for V4 {
    fn client(n: u8) -> Self {
        core::net::Ipv4Addr::new(198, 51, 100, n).into()
    }

    fn vip(n: u8) -> Self {
        core::net::Ipv4Addr::new(192, 0, 2, n).into()
    }

    fn backend(n: u8) -> Self {
        core::net::Ipv4Addr::new(10, 0, 0, n).into()
    }

    fn here() -> Self {
        core::net::Ipv4Addr::new(10, 1, 0, 1).into()
    }

    fn device() -> Device {
        Device {
            v4: Self::here(),
            ..Device::default()
        }
    }

    fn gateway() -> Gateway {
        let Self(word) = core::net::Ipv4Addr::new(10, 1, 0, 2).into();
        Gateway {
            family: 2,
            address: [word, 0, 0, 0],
        }
    }
}

impl Sample for V6 {
    fn client(n: u8) -> Self {
        core::net::Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, n.into()).into()
    }

    fn vip(n: u8) -> Self {
        core::net::Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, n.into()).into()
    }

    fn backend(n: u8) -> Self {
        core::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()).into()
    }

    fn here() -> Self {
        core::net::Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1).into()
    }

    fn device() -> Device {
        Device {
            v6: Self::here(),
            ..Device::default()
        }
    }

    fn gateway() -> Gateway {
        let Self(address) = core::net::Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 2).into();
        Gateway { family: 10, address }
    }
}

/// The node. VIPs 1 to 8 have port 80, TCP and UDP:
///
/// ```text
/// 1  Maglev over the local backends, the fourth leaving     5  one backend, some clients only
/// 2  the same, clients stay with their backend              6  one backend, all clients but some
/// 3  one backend                                            7  one backend, closed to the outside
/// 4  no backend                                             8  one backend on another node
/// ```
/// `out` is the interface index of the way to everybody.
pub fn sample<A: Sample>(out: u32) -> Model<A> {
    let mut model = Model {
        config: Config {
            maglev_size: 251,
            seed4: Seeds::default().v4,
            seed6: Seeds::default().v6,
            settings: setting::ENABLED,
            // All of them: none has to be found by chance.
            nat_first: 0,
            nat_last: u16::MAX,
            answer_rate: 1_000_000,
            ..Config::default()
        },
        arrived: out,
        ..Model::default()
    };
    backends(&mut model);
    ways(&mut model, out);
    let kinds = [
        (1, ALL, Selection::Maglev),
        (2, ALL, Selection::Maglev),
        (3, ONE, Selection::Random),
        (4, NONE, Selection::Random),
        (5, ONE, Selection::Random),
        (6, ONE, Selection::Random),
        (7, ONE, Selection::Random),
        (8, FAR, Selection::Random),
    ];
    for (n, set, selection) in kinds {
        let flags = match n {
            6 => flag::ROUTABLE | flag::LOAD_BALANCER | flag::DENY_RANGES,
            7 => 0,
            _ => flag::ROUTABLE | flag::LOAD_BALANCER,
        };
        model.watch(&A::vip(n));
        let wildcard = Frontend {
            flags: flag::WILDCARD | flags & (flag::ROUTABLE | flag::LOAD_BALANCER),
            ..Frontend::default()
        };
        model.frontends.insert(FrontendKey::wildcard(A::vip(n)), wildcard);
        for protocol in [TCP, UDP] {
            let index = u32::from(n) * 20 + u32::from(protocol);
            let Some(id) = FrontendId::new(index, 1) else {
                continue;
            };
            let frontend = Frontend {
                id,
                set,
                inner_set: set,
                service: n.into(),
                affinity: if n == 2 { 5 } else { 0 },
                ranges: if matches!(n, 5 | 6) { LIST } else { 0 },
                flags,
                selection: selection.number(),
                ..Frontend::default()
            };
            model.live_frontends.insert(index, id);
            model
                .frontends
                .insert(FrontendKey::new(A::vip(n), 80_u16.to_be(), protocol), frontend);
        }
    }
    model
}

fn backends<A: Sample>(model: &mut Model<A>) {
    let mut names = Vec::new();
    for n in 0..LOCAL + REMOTE {
        let Some(id) = BackendId::new(n.into(), 1) else {
            continue;
        };
        let is_leaving = n == 3;
        let backend = Backend {
            id,
            address: A::backend(n + 1),
            port: 8080_u16.to_be(),
            state: if is_leaving {
                BackendState::Terminating
            } else {
                BackendState::Active
            }
            .number(),
            flags: if n < LOCAL {
                backend_flag::LOCAL
            } else {
                backend_flag::CLUSTER
            },
            ..Backend::default()
        };
        model.watch(&backend.address);
        model.backends.insert(n.into(), backend);
        model.slots.insert(FIRST + u32::from(n), id);
        if n < LOCAL {
            model.members.insert(
                Member {
                    set: ALL,
                    backend: id,
                },
                PRESENT,
            );
            names.push((format!("{:?}", backend.address), id));
        }
    }
    names.sort();
    let walker = |(name, id): &(String, BackendId)| {
        Walker::new(
            *id,
            100,
            name.as_bytes(),
            model.config.maglev_size,
            &Seeds::default(),
        )
    };
    let mut walkers: Vec<Walker> = names.iter().filter_map(walker).collect();
    let mut table = vec![BackendId::NONE; 251];
    fill(&mut table, &mut walkers);
    model.maglev.insert(ALL, table);
    let (local, first_far) = (u16::from(LOCAL), FIRST + u32::from(LOCAL));
    model.sets.insert(ALL, Set::new(FIRST, local, local));
    // Sets of one: every draw is the same.
    model.sets.insert(ONE, Set::new(first_far - 1, 1, 1));
    model.sets.insert(NONE, Set::new(0, 0, 0));
    model.sets.insert(FAR, Set::new(first_far, 1, 1));
    let whole = 8 * u32::try_from(size_of::<A>()).unwrap_or(0);
    let range = RangeKey {
        bits: RangeKey::<A>::LIST_BITS + whole - 3,
        list: LIST,
        address: A::client(8),
    };
    model.ranges.insert(range, PRESENT);
}

/// Everybody is behind the router, also those on this node: nothing else is asked for them.
fn ways<A: Sample>(model: &mut Model<A>, out: u32) {
    let device = Device {
        flags: device_flag::TAKES_FRAMES,
        ..A::device()
    };
    model.devices.insert(out, device);
    model.watch(&A::here());
    let route = Route {
        device: out,
        gateway: A::gateway(),
        ethernet: [2, 0, 0, 0, 0, 0x0b, 2, 0, 0, 0, 0, 0x0a],
    };
    let clients = (0..=u8::MAX).map(A::client);
    let backends = (0..=u8::MAX).map(A::backend);
    for end in clients.chain(backends) {
        model.routes.insert(end, Some((route, 1500)));
    }
}

/// A packet of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    pub direction: Direction,
    /// Seconds since the packet before it.
    pub seconds: u32,
    pub frame: &'a [u8],
}

/// Packets one after the other, as fuzzing makes them and as they are kept: an octet whose lowest bit says that the packet
/// leaves and whose others are its seconds, two octets of length, the frame.
pub fn script(octets: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut rest = octets;
    core::iter::from_fn(move || {
        let ([head, a, b], after) = rest.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_be_bytes([*a, *b])).min(after.len());
        let (frame, after) = after.split_at(length);
        rest = after;
        Some(Part {
            direction: if head & 1 == 0 {
                Direction::Ingress
            } else {
                Direction::Egress
            },
            seconds: u32::from(head >> 1),
            frame,
        })
    })
}
