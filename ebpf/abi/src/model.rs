//! The tables as plain maps, to run the decisions without a kernel: in tests, and where a person asks what would happen.

pub mod sample;

use std::collections::BTreeMap;

use crate::V6;
use crate::address::Address;
use crate::balance::{Inserted, Tables, View};
use crate::bucket::{Bucket, Limited};
use crate::checksum::Delta;
use crate::config::{Affinity, AffinityKey, Config, Device, Member, Node, RangeKey};
use crate::dsr::{Gap, Room};
use crate::filter;
use crate::flow::{Flow, FragmentKey, FragmentPorts, Tuple};
use crate::forward::{Ask, Route, Routed};
use crate::icmp::Answers;
use crate::id::{BackendId, FrontendId};
use crate::packet::{Checksum, ETHERNET, Octets, Packet};
use crate::plain::octets;
use crate::service::{Backend, Frontend, FrontendKey, Set};
use crate::socket::{Datagram, DatagramKey, Namespace, SocketTables, Sockets};
use crate::track::State;

/// All maps of one address family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model<A: Ord> {
    pub config: Config,
    pub filter: BTreeMap<u32, u64>,
    pub frontends: BTreeMap<FrontendKey<A>, Frontend>,
    pub live_frontends: BTreeMap<u32, FrontendId>,
    pub sets: BTreeMap<u32, Set>,
    pub slots: BTreeMap<u32, BackendId>,
    pub maglev: BTreeMap<u32, Vec<BackendId>>,
    pub backends: BTreeMap<u32, Backend<A>>,
    pub members: BTreeMap<Member, u32>,
    pub ranges: BTreeMap<RangeKey<A>, u32>,
    pub affinities: BTreeMap<AffinityKey<A>, Affinity>,
    pub flows: BTreeMap<Tuple<A>, Flow<A>>,
    pub fragments: BTreeMap<FragmentKey<A>, FragmentPorts>,
    pub devices: BTreeMap<u32, Device>,
    pub nodes: BTreeMap<u32, Node>,
    /// Ways out by destination, and what fits through; `None`: not from this hook. To all others there is none.
    pub routes: BTreeMap<A, Option<(Route, u16)>>,
    /// The way that was found last.
    pub way: Route,
    /// The clock, in seconds.
    pub now: u32,
    pub sockets: Sockets,
    pub namespaces: BTreeMap<u64, Namespace>,
    pub node_addresses: BTreeMap<V6, u32>,
    pub datagrams: BTreeMap<DatagramKey, Datagram>,
    /// Flows there may be; more are refused.
    pub flow_limit: Option<usize>,
    /// Interface index of where packets come in.
    pub arrived: u32,
    pub buckets: BTreeMap<Limited, Bucket>,
    /// Packets that went on without an entry.
    pub forgone: u64,
    /// The next random number; each one drawn makes the one after it.
    pub random: u32,
}

impl<A: Address> Model<A> {
    /// Sets the bit of an address.
    pub fn watch(&mut self, address: &A) {
        let (word, bit) = filter::place(address);
        *self.filter.entry(word).or_default() |= bit;
    }
}

impl<A: Address> Tables<A> for Model<A> {
    fn now(&self) -> u32 {
        self.now
    }

    fn config(&self) -> Option<Config> {
        Some(self.config)
    }

    fn may_be_ours(&self, address: &A) -> bool {
        let (word, bit) = filter::place(address);
        self.filter.get(&word).is_some_and(|bits| bits & bit != 0)
    }

    fn frontend(&self, key: &FrontendKey<A>) -> Option<Frontend> {
        self.frontends.get(key).copied()
    }

    fn live_frontend(&self, index: u32) -> Option<FrontendId> {
        self.live_frontends.get(&index).copied()
    }

    fn set(&self, set: u32) -> Option<Set> {
        self.sets.get(&set).copied()
    }

    fn slot(&self, slot: u32) -> Option<BackendId> {
        self.slots.get(&slot).copied()
    }

    fn maglev(&self, set: u32, place: u32) -> Option<BackendId> {
        let place = usize::try_from(place).ok()?;
        self.maglev.get(&set)?.get(place).copied()
    }

    fn backend(&self, index: u32) -> Option<Backend<A>> {
        self.backends.get(&index).copied()
    }

    fn node(&self, index: u32) -> Option<Node> {
        self.nodes.get(&index).copied()
    }

    fn affinity(&self, key: &AffinityKey<A>) -> Option<Affinity> {
        self.affinities.get(key).copied()
    }

    fn set_affinity(&mut self, key: &AffinityKey<A>, affinity: &Affinity) {
        self.affinities.insert(*key, *affinity);
    }

    fn is_member(&self, member: &Member) -> bool {
        self.members.contains_key(member)
    }

    fn in_range(&self, list: u32, address: &A) -> bool {
        let mut ranges = self.ranges.keys().filter(|range| range.list == list);
        ranges.any(|range| {
            starts_alike(
                octets(&range.address),
                octets(address),
                range.bits.saturating_sub(32),
            )
        })
    }

    fn flow(&self, tuple: &Tuple<A>) -> Option<Flow<A>> {
        self.flows.get(tuple).copied()
    }

    fn set_flow(&mut self, tuple: &Tuple<A>, flow: &Flow<A>) -> Option<()> {
        let full = self.flow_limit.is_some_and(|limit| self.flows.len() >= limit);
        if full && !self.flows.contains_key(tuple) {
            return None;
        }
        self.flows.insert(*tuple, *flow);
        Some(())
    }

    fn begin_flow(&mut self, tuple: &Tuple<A>, flow: &Flow<A>) -> Option<()> {
        self.set_flow(tuple, flow)
    }

    fn refresh_flow(
        &mut self,
        tuple: &Tuple<A>,
        change: impl FnOnce(State, u32) -> (State, u32),
    ) -> Option<()> {
        let flow = self.flows.get_mut(tuple)?;
        (flow.state, flow.expires) = change(flow.state, flow.expires);
        Some(())
    }

    fn insert_flow(&mut self, tuple: &Tuple<A>, flow: &Flow<A>) -> Inserted {
        if self.flows.contains_key(tuple) {
            return Inserted::Exists;
        }
        self.set_flow(tuple, flow)
            .map_or(Inserted::Full, |()| Inserted::New)
    }

    fn delete_flow(&mut self, tuple: &Tuple<A>) {
        self.flows.remove(tuple);
    }

    fn route(&mut self, ask: &Ask<A>) -> Routed {
        let (route, fits) = match self.routes.get(&ask.destination) {
            None => return Routed::Nowhere,
            Some(None) => return Routed::Elsewhere,
            Some(Some(found)) => *found,
        };
        if ask.length > fits {
            return Routed::TooBig(fits);
        }
        self.way = route;
        Routed::Found
    }

    fn device(&self) -> Option<Device> {
        self.devices.get(&self.way.device).copied()
    }

    fn view(&self) -> View {
        View::by(self.devices.get(&self.arrived).copied())
    }

    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts> {
        self.fragments.get(key).copied()
    }

    fn set_fragment(&mut self, key: &FragmentKey<A>, ports: &FragmentPorts) {
        self.fragments.insert(*key, *ports);
    }

    fn random(&mut self) -> u32 {
        let random = self.random;
        // Numerical Recipes' generator; its upper bits are good.
        self.random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random
    }

    fn take(&mut self, limited: Limited, now: u32, rate: u32) -> Option<()> {
        let bucket = self.buckets.entry(limited).or_default();
        *bucket = bucket.take(now, rate, limited)?;
        Some(())
    }

    fn is_spent(&self, limited: Limited, now: u32, rate: u32) -> bool {
        let bucket = self.buckets.get(&limited).copied().unwrap_or_default();
        bucket.take(now, rate, limited).is_none()
    }

    fn count_forgone(&mut self) {
        self.forgone += 1;
    }
}

impl<A: Address> SocketTables<A> for Model<A> {
    fn sockets(&self) -> Option<Sockets> {
        Some(self.sockets)
    }

    fn namespace(&self, cookie: u64) -> Option<Namespace> {
        self.namespaces.get(&cookie).copied()
    }

    fn node_address(&self, address: &V6) -> Option<u32> {
        self.node_addresses.get(address).copied()
    }

    fn datagram(&self, key: &DatagramKey) -> Option<Datagram> {
        self.datagrams.get(key).copied()
    }

    fn set_datagram(&mut self, key: &DatagramKey, datagram: &Datagram) -> Option<()> {
        self.datagrams.insert(*key, *datagram);
        Some(())
    }

    fn forget_datagram(&mut self, key: &DatagramKey) {
        self.datagrams.remove(key);
    }
}

impl<A: Address> Answers<A> for Model<A> {
    fn arrived(&self) -> Option<Device> {
        self.devices.get(&self.arrived).copied()
    }
}

/// Whether the first `bits` bits are the same.
fn starts_alike(prefix: &[u8], address: &[u8], bits: u32) -> bool {
    let mut left = bits;
    for (a, b) in prefix.iter().zip(address) {
        let take = left.min(8);
        let differ = u32::from(a ^ b) >> (8 - take);
        if take > 0 && differ != 0 {
            return false;
        }
        left -= take;
    }
    true
}

/// A packet that is just octets, and can get longer and shorter.
#[derive(Debug)]
pub struct Growing<'a>(pub &'a mut Vec<u8>);

impl Packet for Growing<'_> {
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    fn write<const N: usize>(&mut self, at: usize, octets: [u8; N]) -> Option<()> {
        Octets(self.0).write(at, octets)
    }

    fn length(&self) -> usize {
        self.0.len()
    }

    fn forget(&self, number: u32) -> u32 {
        number
    }

    fn segment(&self) -> u32 {
        0
    }

    fn fix_header(&mut self, at: usize, delta: Delta) -> Option<()> {
        Octets(self.0).fix_header(at, delta)
    }

    fn fix_transport(&mut self, at: usize, pseudo: Delta, inside: Delta, kind: Checksum) -> Option<()> {
        Octets(self.0).fix_transport(at, pseudo, inside, kind)
    }
}

/// Octets that stay as many as they are.
impl Room for Octets<'_> {
    fn open(&mut self, _: Gap) -> Option<()> {
        None
    }

    fn close(&mut self, _: usize, _: u16) -> Option<()> {
        None
    }
}

impl Room for Growing<'_> {
    fn open(&mut self, gap: Gap) -> Option<()> {
        if self.0.len() < gap.at() {
            return None;
        }
        self.0
            .splice(gap.at()..gap.at(), std::iter::repeat_n(0, gap.octets()));
        Some(())
    }

    fn close(&mut self, octets: usize, _: u16) -> Option<()> {
        let end = ETHERNET.checked_add(octets)?;
        if self.0.len() < end {
            return None;
        }
        self.0.drain(ETHERNET..end);
        Some(())
    }
}
