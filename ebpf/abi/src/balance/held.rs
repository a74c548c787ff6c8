//! Fragments in the wrong order: later ones are kept until their first comes, which alone knows the ports of all of them.
//!
//! ```text
//!  later, first unknown --> Hold: wait, and the packet into HELD     bounded: HELD_PLACES of a datagram, HELD_RATE, the map
//!  first, others wait ----> Release: come, and anew, it before them  timed: FRAGMENT_LIFETIME
//! ```
//!
//! In `FRAGMENTS` ports of zero stand for a first fragment that others wait for. Only tc can keep a packet and give it back;
//! XDP leaves both kinds to it.

use super::{Balanced, Tables, Verdict};
use crate::bucket::Limited;
use crate::flow::{FRAGMENT_LIFETIME, FragmentKey, FragmentPorts, HELD_RATE};
use crate::packet::{Fragment, Network, Packet, transport};
use crate::track;

/// After [`super::Verdict::Hold`]: the datagram that waits for its first fragment from now on. `None`: it is not worth it, for
/// too many wait.
#[inline(always)]
pub fn wait<A: Balanced, P: Packet, T: Tables<A>>(
    packet: &P,
    at: usize,
    tables: &mut T,
) -> Option<FragmentKey<A>> {
    let (key, _) = datagram(packet, at)?;
    let now = tables.now();
    tables.take(Limited::Held, now, HELD_RATE)?;
    let awaited = FragmentPorts::awaited(now.saturating_add(FRAGMENT_LIFETIME));
    tables.set_fragment(&key, &awaited);
    Some(key)
}

/// After [`super::Verdict::Release`]: the datagram whose first fragment this is. From now on the later ones find its ports.
#[inline(always)]
pub fn come<A: Balanced, P: Packet, T: Tables<A>>(
    packet: &P,
    at: usize,
    tables: &mut T,
) -> Option<FragmentKey<A>> {
    let (key, network) = datagram(packet, at)?;
    let (source_port, destination_port, _) = transport(packet, &network).ok()?;
    let ports = noted(source_port, destination_port, tables.now());
    note(&key, &ports, tables);
    Some(key)
}

/// Whether the first fragment of this datagram has come meanwhile.
#[inline(always)]
pub fn has_come<A: Balanced, T: Tables<A>>(key: &FragmentKey<A>, tables: &T) -> bool {
    tables.fragment(key).is_some_and(|ports| !ports.is_awaited())
}

/// What the first fragment of a datagram said; `None`: it was not here yet.
#[inline(always)]
pub(crate) fn ports<A: Balanced, T: Tables<A>>(
    key: &FragmentKey<A>,
    now: u32,
    tables: &T,
) -> Option<FragmentPorts> {
    live(key, now, tables).filter(|ports| !ports.is_awaited())
}

/// Notes a first fragment where others may wait for it: then it is to be released first.
#[inline(always)]
pub(crate) fn first<A: Balanced, T: Tables<A>>(
    key: &FragmentKey<A>,
    ports: &FragmentPorts,
    now: u32,
    tables: &mut T,
) -> Result<(), Verdict> {
    // One without ports would wait for itself. It is of no flow.
    if !ports.is_awaited() && live(key, now, tables).is_some_and(|known| known.is_awaited()) {
        return Err(Verdict::Release);
    }
    note(key, ports, tables);
    Ok(())
}

/// Notes a first fragment for those that come later.
#[inline(always)]
pub(crate) fn note<A: Balanced, T: Tables<A>>(key: &FragmentKey<A>, ports: &FragmentPorts, tables: &mut T) {
    if !ports.is_awaited() {
        tables.set_fragment(key, ports);
    }
}

/// What there is to note of one.
#[inline(always)]
pub(crate) fn noted(source_port: u16, destination_port: u16, now: u32) -> FragmentPorts {
    FragmentPorts {
        source_port,
        destination_port,
        expires: now.saturating_add(FRAGMENT_LIFETIME),
    }
}

#[inline(always)]
fn live<A: Balanced, T: Tables<A>>(key: &FragmentKey<A>, now: u32, tables: &T) -> Option<FragmentPorts> {
    let known = tables.fragment(key)?;
    (!track::is_expired(now, known.expires)).then_some(known)
}

#[inline(always)]
fn datagram<A: Balanced, P: Packet>(packet: &P, at: usize) -> Option<(FragmentKey<A>, Network)> {
    let (source, destination) = A::addresses(packet, at)?;
    let network = A::network(packet, at).ok()?;
    let (Fragment::First(id) | Fragment::Later(id)) = network.fragment else {
        return None;
    };
    let key = FragmentKey::new(source, destination, id, network.protocol);
    Some((key, network))
}
