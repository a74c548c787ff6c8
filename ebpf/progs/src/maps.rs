//! The maps, by the table in [`ebpf_abi::maps`], and the tables of decisions over them.

use aya_ebpf::bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_coarse_ns};
use aya_ebpf::macros::btf_map;
use ebpf_abi::balance::{Found, Inserted, Tables, View};
use ebpf_abi::bucket::{Bucket, Limited};
use ebpf_abi::config::{
    Affinity, AffinityKey, Config, Counter, Device, Direction, FORGONE, Member, Node, RangeKey, counter,
};
use ebpf_abi::event::{Budget, Listener, RING};
use ebpf_abi::flow::{Flow, FragmentKey, FragmentPorts, Held, HeldKey, Table, Tuple};
use ebpf_abi::forward::{Ask, Routed};
use ebpf_abi::icmp::Answers;
use ebpf_abi::maglev;
use ebpf_abi::service::{Backend, Frontend, FrontendKey, Set};
use ebpf_abi::socket::{Datagram, DatagramKey, Namespace, Peer, SocketTables, Sockets};
use ebpf_abi::track::State;
use ebpf_abi::{BackendId, FrontendId, V4, V6, filter, maps as table};

use crate::route::Router;
use crate::stage;

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
/// So that the agent can write single words in place.
const MMAPABLE: usize = 1 << 10;
/// So that an inner map may have another length than its template.
const INNER: usize = 1 << 12;

macro_rules! entries {
    ($map:ident) => {{ table::$map.entries as usize }};
}

#[btf_map]
static CONFIG: Array<Config, 1> = Array::new();
#[btf_map]
static FILTER: Array<u64, { entries!(FILTER) }, MMAPABLE> = Array::new();
#[btf_map]
static FRONTENDS4: HashMap<FrontendKey<V4>, Frontend, { entries!(FRONTENDS4) }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static FRONTENDS6: HashMap<FrontendKey<V6>, Frontend, { entries!(FRONTENDS6) }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static LIVE_FRONTENDS: Array<FrontendId, { entries!(LIVE_FRONTENDS) }, MMAPABLE> = Array::new();
#[btf_map]
static SETS: Array<Set, { entries!(SETS) }, MMAPABLE> = Array::new();
#[btf_map]
static SLOTS: Array<BackendId, { entries!(SLOTS) }, MMAPABLE> = Array::new();
/// Its inner maps may be of any length.
#[btf_map]
static MAGLEV: ArrayOfMaps<Array<[u32; 2], 8192, { INNER | MMAPABLE }>, { entries!(MAGLEV) }> =
    ArrayOfMaps::new();
#[btf_map]
static BACKENDS4: Array<Backend<V4>, { entries!(BACKENDS4) }, MMAPABLE> = Array::new();
#[btf_map]
static BACKENDS6: Array<Backend<V6>, { entries!(BACKENDS6) }, MMAPABLE> = Array::new();
#[btf_map]
static MEMBERS: HashMap<Member, u32, { entries!(MEMBERS) }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static RANGES4: LpmTrie<Listed<V4>, u32, { entries!(RANGES4) }, NO_PREALLOC> = LpmTrie::new();
#[btf_map]
static RANGES6: LpmTrie<Listed<V6>, u32, { entries!(RANGES6) }, NO_PREALLOC> = LpmTrie::new();
#[btf_map]
static DEVICES: HashMap<u32, Device, { entries!(DEVICES) }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static NODES: Array<Node, { entries!(NODES) }> = Array::new();
#[btf_map]
static FLOWS4: LruHashMap<Tuple<V4>, Flow<V4>, { entries!(FLOWS4) }> = LruHashMap::new();
#[btf_map]
static FLOWS6: LruHashMap<Tuple<V6>, Flow<V6>, { entries!(FLOWS6) }> = LruHashMap::new();
#[btf_map]
static OPENING4: LruHashMap<Tuple<V4>, Flow<V4>, { entries!(OPENING4) }> = LruHashMap::new();
#[btf_map]
static OPENING6: LruHashMap<Tuple<V6>, Flow<V6>, { entries!(OPENING6) }> = LruHashMap::new();
#[btf_map]
static AFFINITY4: LruHashMap<AffinityKey<V4>, Affinity, { entries!(AFFINITY4) }> = LruHashMap::new();
#[btf_map]
static AFFINITY6: LruHashMap<AffinityKey<V6>, Affinity, { entries!(AFFINITY6) }> = LruHashMap::new();
#[btf_map]
static FRAGMENTS4: LruHashMap<FragmentKey<V4>, FragmentPorts, { entries!(FRAGMENTS4) }> = LruHashMap::new();
#[btf_map]
static FRAGMENTS6: LruHashMap<FragmentKey<V6>, FragmentPorts, { entries!(FRAGMENTS6) }> = LruHashMap::new();
#[btf_map]
pub static HELD: LruHashMap<HeldKey, Held, { entries!(HELD) }> = LruHashMap::new();
#[btf_map]
static SOCKETS: Array<Sockets, 1> = Array::new();
#[btf_map]
static NAMESPACES: HashMap<u64, Namespace, { entries!(NAMESPACES) }, NO_PREALLOC> = HashMap::new();
#[btf_map]
static NODE_ADDRESSES: HashMap<V6, u32, { entries!(NODE_ADDRESSES) }, NO_PREALLOC> = HashMap::new();
#[btf_map]
pub static SOCKET_PEERS: SkStorage<Peer> = SkStorage::new();
#[btf_map]
static DATAGRAMS: LruHashMap<DatagramKey, Datagram, { entries!(DATAGRAMS) }> = LruHashMap::new();
#[btf_map]
static BUCKETS: PerCpuArray<Bucket, { entries!(BUCKETS) }> = PerCpuArray::new();
#[btf_map]
static COUNTERS: PerCpuArray<Counter, { entries!(COUNTERS) }> = PerCpuArray::new();
#[btf_map]
pub static BUDGETS: PerCpuArray<Budget, { entries!(BUDGETS) }> = PerCpuArray::new();
#[btf_map]
pub static LISTENERS: Array<Listener, { entries!(LISTENERS) }, MMAPABLE> = Array::new();
#[btf_map]
pub static EVENTS: ArrayOfMaps<Ring, { entries!(EVENTS) }> = ArrayOfMaps::new();

/// Of [`ebpf_abi::event::Event`]s.
pub type Ring = RingBuf<(), { RING as usize }>;

/// A [`RangeKey`] without its first field, which is the library's to add.
#[repr(C)]
pub struct Listed<A> {
    list: u32,
    address: A,
}

const _: () = {
    assert!(size_of::<Key<Listed<V4>>>() == size_of::<RangeKey<V4>>());
    assert!(size_of::<Key<Listed<V6>>>() == size_of::<RangeKey<V6>>());
};

/// What an entry may be written over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Whatever,
    /// There was nothing a moment ago. What another processor wrote meanwhile is of the same flow.
    Nobody,
    Nothing,
}

/// `EEXIST`, as functions of the kernel return it.
pub const EXISTS: i32 = -17;

/// One more packet of this length.
#[inline(always)]
pub fn count(place: u32, length: u64) {
    if let Some(counter) = COUNTERS.get_ptr_mut(place) {
        // SAFETY: the element is this processor's own, and programs do not interrupt each other here.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += length;
        }
    }
}

/// What leaves by a device.
#[inline(always)]
pub fn device(index: u32) -> Option<Device> {
    // SAFETY: the value is copied at once, and a replaced element lives until the program ends.
    unsafe { DEVICES.get(index).copied() }
}

/// Nanoseconds of the boot clock, cheap: coarse to some milliseconds.
#[inline(always)]
pub fn clock() -> u64 {
    // SAFETY: a function of the kernel without arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Seconds of it.
#[inline(always)]
fn now() -> u32 {
    (clock() / 1_000_000_000) as u32
}

macro_rules! tables {
    ($(#[$doc:meta])* $name:ident, $address:ty, $frontends:ident, $backends:ident, $ranges:ident, $flows:ident, $opening:ident,
     $affinity:ident, $fragments:ident) => {
        $(#[$doc])*
        pub struct $name<R>(pub R);

        impl $name<()> {
            /// Not inline: the verifier would carry along in which map an entry lies.
            #[inline(never)]
            fn write(tuple: &Tuple<$address>, flow: &Flow<$address>, over: Over) -> i32 {
                let flags = match over {
                    Over::Whatever | Over::Nobody => 0,
                    Over::Nothing => BPF_NOEXIST.into(),
                };
                if flow.table() == Table::Kept {
                    return $flows.insert(tuple, flow, flags).err().unwrap_or(0);
                }
                if let Err(error) = $opening.insert(tuple, flow, flags) {
                    return error;
                }
                match over {
                    // What is found first goes last.
                    Over::Whatever => {
                        let _ = $flows.remove(tuple);
                    }
                    // It must be in neither map. Who looks at the other one after writing does not miss an entry that
                    // moves, which is written there before it is deleted here.
                    Over::Nothing if $flows.get_ptr(tuple).is_some() => {
                        let _ = $opening.remove(tuple);
                        return EXISTS;
                    }
                    Over::Nobody | Over::Nothing => {}
                }
                0
            }
        }

        impl<R: Router> Tables<$address> for $name<R> {
            #[inline(always)]
            fn now(&self) -> u32 {
                now()
            }

            #[inline(always)]
            fn config(&self) -> Option<Config> {
                CONFIG.get(0).copied()
            }

            #[inline(always)]
            fn may_be_ours(&self, address: &$address) -> bool {
                let (word, bit) = filter::place(address);
                FILTER.get(word).is_some_and(|bits| bits & bit != 0)
            }

            #[inline(always)]
            fn frontend(&self, key: &FrontendKey<$address>) -> Option<Frontend> {
                // SAFETY: the value is copied at once, and a replaced element lives until the program ends.
                unsafe { $frontends.get(key).copied() }
            }

            #[inline(always)]
            fn live_frontend(&self, index: u32) -> Option<FrontendId> {
                LIVE_FRONTENDS.get(index).copied()
            }

            #[inline(always)]
            fn set(&self, set: u32) -> Option<Set> {
                SETS.get(set).copied()
            }

            #[inline(always)]
            fn slot(&self, slot: u32) -> Option<BackendId> {
                SLOTS.get(slot).copied()
            }

            #[inline(always)]
            fn maglev(&self, set: u32, place: u32) -> Option<BackendId> {
                let pair = MAGLEV.get_value(set, &maglev::element(place))?;
                // SAFETY: an element has two places.
                Some(BackendId(unsafe { *pair.as_ptr().add((place & 1) as usize) }))
            }

            #[inline(always)]
            fn backend(&self, index: u32) -> Option<Backend<$address>> {
                $backends.get(index).copied()
            }

            #[inline(always)]
            fn node(&self, index: u32) -> Option<Node> {
                NODES.get(index).copied()
            }

            #[inline(always)]
            fn affinity(&self, key: &AffinityKey<$address>) -> Option<Affinity> {
                // SAFETY: the value is copied at once; a recycled one is caught by the backend's id.
                unsafe { $affinity.get(key).copied() }
            }

            #[inline(always)]
            fn set_affinity(&mut self, key: &AffinityKey<$address>, affinity: &Affinity) {
                // Not to be remembered is no reason not to be served.
                let _ = $affinity.insert(key, affinity, 0);
            }

            #[inline(always)]
            fn is_member(&self, member: &Member) -> bool {
                MEMBERS.get_ptr(member).is_some()
            }

            #[inline(always)]
            fn in_range(&self, list: u32, address: &$address) -> bool {
                let bits = RangeKey::<$address>::LIST_BITS + 8 * size_of::<$address>() as u32;
                let listed = Listed {
                    list,
                    address: *address,
                };
                $ranges.get(&Key::new(bits, listed)).is_some()
            }

            #[inline(always)]
            fn flow(&self, tuple: &Tuple<$address>) -> Option<Flow<$address>> {
                // SAFETY: the value is copied at once. Recycling it meanwhile needs all others to be used since.
                unsafe {
                    match $flows.get(tuple) {
                        None => $opening.get(tuple).copied(),
                        found => found.copied(),
                    }
                }
            }

            #[inline(always)]
            fn set_flow(&mut self, tuple: &Tuple<$address>, flow: &Flow<$address>) -> Option<()> {
                ($name::write(tuple, flow, Over::Whatever) == 0).then_some(())
            }

            #[inline(always)]
            fn begin_flow(&mut self, tuple: &Tuple<$address>, flow: &Flow<$address>) -> Option<()> {
                let over = match stage::found() {
                    Found::Nothing => Over::Nobody,
                    Found::Ended => Over::Whatever,
                };
                ($name::write(tuple, flow, over) == 0).then_some(())
            }

            #[inline(always)]
            fn refresh_flow(
                &mut self,
                tuple: &Tuple<$address>,
                change: impl FnOnce(State, u32) -> (State, u32),
            ) -> Option<()> {
                let kept = $flows.get_ptr_mut(tuple);
                let flow = match kept {
                    None => $opening.get_ptr_mut(tuple)?,
                    Some(flow) => flow,
                };
                // SAFETY: the element lives until the program ends. Two processors that refresh it at once have seen two
                // packets of one flow, and either end is right.
                unsafe { ((*flow).state, (*flow).expires) = change((*flow).state, (*flow).expires) };
                // SAFETY: as above; the kernel copies the value. One that finds no room stays where it is.
                if kept.is_none() && unsafe { (*flow).state.is_open() && $flows.insert(tuple, &*flow, 0).is_ok() } {
                    let _ = $opening.remove(tuple);
                }
                Some(())
            }

            #[inline(always)]
            fn insert_flow(&mut self, tuple: &Tuple<$address>, flow: &Flow<$address>) -> Inserted {
                match $name::write(tuple, flow, Over::Nothing) {
                    0 => Inserted::New,
                    EXISTS => Inserted::Exists,
                    _ => Inserted::Full,
                }
            }

            #[inline(always)]
            fn delete_flow(&mut self, tuple: &Tuple<$address>) {
                // It is in one of them at most.
                let _ = $opening.remove(tuple);
                let _ = $flows.remove(tuple);
            }

            #[inline(always)]
            fn route(&mut self, ask: &Ask<$address>) -> Routed {
                self.0.route(ask)
            }

            #[inline(always)]
            fn device(&self) -> Option<Device> {
                device(self.0.device())
            }

            #[inline(always)]
            fn view(&self) -> View {
                View::by(device(self.0.came()))
            }

            #[inline(always)]
            fn fragment(&self, key: &FragmentKey<$address>) -> Option<FragmentPorts> {
                // SAFETY: the value is copied at once.
                unsafe { $fragments.get(key).copied() }
            }

            #[inline(always)]
            fn set_fragment(&mut self, key: &FragmentKey<$address>, ports: &FragmentPorts) {
                // The later fragments are then dropped by their name.
                let _ = $fragments.insert(key, ports, 0);
            }

            #[inline(always)]
            fn random(&mut self) -> u32 {
                // SAFETY: a function of the kernel without arguments.
                unsafe { bpf_get_prandom_u32() }
            }

            #[inline(always)]
            fn take(&mut self, limited: Limited, now: u32, rate: u32) -> Option<()> {
                let place = BUCKETS.get_ptr_mut(limited.place())?;
                // SAFETY: the element is this processor's own, and programs do not interrupt each other here.
                unsafe { *place = (*place).take(now, rate, limited)? };
                Some(())
            }

            #[inline(always)]
            fn is_spent(&self, limited: Limited, now: u32, rate: u32) -> bool {
                let bucket = BUCKETS.get(limited.place());
                bucket.is_some_and(|bucket| bucket.take(now, rate, limited).is_none())
            }

            #[inline(always)]
            fn count_forgone(&mut self) {
                count(counter(Direction::Ingress, FORGONE), 0);
            }
        }

        impl<R: Router> SocketTables<$address> for $name<R> {
            #[inline(always)]
            fn sockets(&self) -> Option<Sockets> {
                SOCKETS.get(0).copied()
            }

            #[inline(always)]
            fn namespace(&self, cookie: u64) -> Option<Namespace> {
                // SAFETY: the value is copied at once, and a replaced element lives until the program ends.
                unsafe { NAMESPACES.get(&cookie).copied() }
            }

            #[inline(always)]
            fn node_address(&self, address: &V6) -> Option<u32> {
                // SAFETY: as above.
                unsafe { NODE_ADDRESSES.get(address).copied() }
            }

            #[inline(always)]
            fn datagram(&self, key: &DatagramKey) -> Option<Datagram> {
                // SAFETY: the value is copied at once. Recycling it meanwhile needs all others to be used since.
                unsafe { DATAGRAMS.get(key).copied() }
            }

            #[inline(always)]
            fn set_datagram(&mut self, key: &DatagramKey, datagram: &Datagram) -> Option<()> {
                DATAGRAMS.insert(key, datagram, 0).ok()
            }

            #[inline(always)]
            fn forget_datagram(&mut self, key: &DatagramKey) {
                // Gone is gone.
                let _ = DATAGRAMS.remove(key);
            }
        }

        impl<R: Router> Answers<$address> for $name<R> {
            #[inline(always)]
            fn arrived(&self) -> Option<Device> {
                device(self.0.came())
            }
        }
    };
}

tables!(
    /// The maps of IPv4.
    Maps4, V4, FRONTENDS4, BACKENDS4, RANGES4, FLOWS4, OPENING4, AFFINITY4, FRAGMENTS4
);
tables!(
    /// The maps of IPv6.
    Maps6, V6, FRONTENDS6, BACKENDS6, RANGES6, FLOWS6, OPENING6, AFFINITY6, FRAGMENTS6
);
