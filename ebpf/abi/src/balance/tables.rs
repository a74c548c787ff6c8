//! What the decision reads and writes: maps in the kernel, plain maps in tests.

use super::View;
use crate::bucket::Limited;
use crate::config::{Affinity, AffinityKey, Config, Device, Member, Node};
use crate::flow::{Flow, FragmentKey, FragmentPorts, Tuple};
use crate::forward::{Ask, Routed};
use crate::id::{BackendId, FrontendId};
use crate::service::{Backend, Frontend, FrontendKey, Set};
use crate::track::State;

/// What there is of a flow that is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No entry under its tuple.
    Nothing,
    /// One that is not to be used any more.
    Ended,
}

/// What became of an entry that was to be new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    New,
    /// There is one already, and it was left alone.
    Exists,
    /// The table is full.
    Full,
}

/// What the decision reads and writes. A `None` is a missing element.
pub trait Tables<A> {
    /// Seconds of the boot clock. Asked once for each packet that concerns the programs, and for no other.
    fn now(&self) -> u32;
    fn config(&self) -> Option<Config>;
    /// Whether the bit of the address is set in `FILTER`.
    fn may_be_ours(&self, address: &A) -> bool;
    fn frontend(&self, key: &FrontendKey<A>) -> Option<Frontend>;
    /// The id at this place of `LIVE_FRONTENDS`.
    fn live_frontend(&self, index: u32) -> Option<FrontendId>;
    fn set(&self, set: u32) -> Option<Set>;
    fn slot(&self, slot: u32) -> Option<BackendId>;
    fn maglev(&self, set: u32, place: u32) -> Option<BackendId>;
    fn backend(&self, index: u32) -> Option<Backend<A>>;
    fn node(&self, index: u32) -> Option<Node>;
    fn affinity(&self, key: &AffinityKey<A>) -> Option<Affinity>;
    fn set_affinity(&mut self, key: &AffinityKey<A>, affinity: &Affinity);
    fn is_member(&self, member: &Member) -> bool;
    /// Whether a prefix of the list has the address.
    fn in_range(&self, list: u32, address: &A) -> bool;
    fn flow(&self, tuple: &Tuple<A>) -> Option<Flow<A>>;
    /// Writes the entry, whether there is one or not. `None`: the table is full.
    fn set_flow(&mut self, tuple: &Tuple<A>, flow: &Flow<A>) -> Option<()>;
    /// The same for a flow that begins. What [`super::Verdict::New`] said was found of it need not be looked for again. It is not
    /// carried here: the verifier would walk all that is in between once for each.
    fn begin_flow(&mut self, tuple: &Tuple<A>, flow: &Flow<A>) -> Option<()>;
    /// Gives the entry another state and another end, in place; `None`: it is not there.
    fn refresh_flow(
        &mut self,
        tuple: &Tuple<A>,
        change: impl FnOnce(State, u32) -> (State, u32),
    ) -> Option<()>;
    /// Writes the entry unless there is one already: then nobody else has this tuple.
    fn insert_flow(&mut self, tuple: &Tuple<A>, flow: &Flow<A>) -> Inserted;
    fn delete_flow(&mut self, tuple: &Tuple<A>);
    /// Looks for a way out and remembers it. It is not part of the answer: the compiler would carry its fields through
    /// branches where they have no value, which the kernel refuses.
    fn route(&mut self, ask: &Ask<A>) -> Routed;
    /// What leaves by the device of the way that was found.
    fn device(&self) -> Option<Device>;
    /// From where the packet comes. Asked where a flow opens, and for no other packet.
    fn view(&self) -> View;
    fn fragment(&self, key: &FragmentKey<A>) -> Option<FragmentPorts>;
    fn set_fragment(&mut self, key: &FragmentKey<A>, ports: &FragmentPorts);
    fn random(&mut self) -> u32;
    /// Takes a token of this processor, of `rate` for each second; `None`: there is none.
    fn take(&mut self, limited: Limited, now: u32, rate: u32) -> Option<()>;
    /// Whether there is none to take.
    fn is_spent(&self, limited: Limited, now: u32, rate: u32) -> bool;
    /// Counts a packet that goes on without an entry.
    fn count_forgone(&mut self);
}
