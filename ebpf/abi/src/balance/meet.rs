//! The beginning of every decision: whether a packet concerns the programs at all, and what it says.

use super::{Balanced, Pass, Tables, Verdict, held, is_this_node};
use crate::config::{Config, setting};
use crate::dsr::tunnel;
use crate::flow::{FragmentKey, Tuple};
use crate::packet::{Fragment, Malformed, Network, Packet, SCTP, TCP, UDP, transport};
use crate::reason::DropReason;
use crate::service::FrontendKey;
use crate::track::Seen;

/// Which of its addresses says whether a packet concerns the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concerns {
    Source,
    Destination,
    /// Neither: another node says that it does.
    Anyway,
}

/// A packet that may concern them, with all that decisions need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met<A> {
    pub(super) now: u32,
    pub(super) network: Network,
    pub(super) tuple: Tuple<A>,
    /// Of TCP; 0 where there are none to be seen.
    flags: u8,
}

impl<A> Met<A> {
    /// What the packet is to its connection. Not kept as such: what has no flags would keep an octet without value, and the
    /// kernel refuses to see it copied.
    #[inline(always)]
    pub(super) fn seen(&self) -> Seen {
        match (self.network.protocol, self.network.fragment) {
            (TCP, Fragment::Later(_)) => Seen::TcpFragment,
            (TCP, Fragment::Whole | Fragment::First(_)) => Seen::Tcp(self.flags),
            _ => Seen::Other,
        }
    }
}

/// The settings, as they are now. Asked for where they are used: kept meanwhile, they would take stack that there is not.
#[inline(always)]
pub(super) fn settings<A, T: Tables<A>>(tables: &T) -> Config {
    tables.config().unwrap_or_default()
}

/// `Err` for a packet that goes no further through here; it is the verdict. What does not concern the programs costs one
/// look at `FILTER`, no clock and no settings.
#[inline(always)]
pub(super) fn meet<A: Balanced, P: Packet, T: Tables<A>>(
    packet: &P,
    at: usize,
    concerns: Concerns,
    tables: &mut T,
) -> Result<Met<A>, Verdict> {
    let Some((source, destination)) = A::addresses(packet, at) else {
        return Err(Verdict::Pass(Pass::Malformed(Malformed::Network)));
    };
    let ours = match concerns {
        Concerns::Source => tables.may_be_ours(&source),
        Concerns::Destination => tables.may_be_ours(&destination),
        Concerns::Anyway => true,
    };
    // Any router on the way of a packet of ours may send an error about it.
    let strange = !ours && concerns == Concerns::Source && A::follows(packet, at) == Some(A::ICMP);
    if !ours && !strange {
        return Err(Verdict::Pass(Pass::NotOurs));
    }
    if settings(tables).settings & setting::ENABLED == 0 {
        return Err(Verdict::Pass(Pass::Disabled));
    }
    if strange {
        return Err(Verdict::Message);
    }
    let now = tables.now();
    let network = match A::network(packet, at) {
        Ok(network) => network,
        Err(Malformed::Extensions) => return Err(Verdict::Drop(DropReason::InvalidExtensionHeader)),
        Err(malformed) => return Err(Verdict::Pass(Pass::Malformed(malformed))),
    };
    if !network.is_all_in(packet, at) {
        return Err(Verdict::Drop(DropReason::InvalidHeader));
    }
    match network.protocol {
        TCP | UDP | SCTP => {}
        icmp if icmp == A::ICMP => return Err(Verdict::Message),
        tunnel::IPIP | tunnel::IP6IP
            if concerns == Concerns::Destination && is_this_node(&destination, tables) =>
        {
            return Err(Verdict::Wrapped);
        }
        _ => {
            let vip = match concerns {
                Concerns::Source | Concerns::Anyway => None,
                Concerns::Destination => tables.frontend(&FrontendKey::wildcard(destination)),
            };
            return Err(match vip {
                Some(_) => Verdict::Drop(DropReason::UnsupportedServiceProtocol),
                None => Verdict::Pass(Pass::Protocol),
            });
        }
    }
    let key = |id| FragmentKey::new(source, destination, id, network.protocol);
    let (source_port, destination_port, flags) = match network.fragment {
        Fragment::Later(id) => {
            let Some(ports) = held::ports(&key(id), now, tables) else {
                return Err(match concerns {
                    Concerns::Destination => Verdict::Hold,
                    Concerns::Source | Concerns::Anyway => Verdict::Drop(DropReason::FirstFragmentMissing),
                });
            };
            (ports.source_port, ports.destination_port, 0)
        }
        Fragment::Whole | Fragment::First(_) => {
            let Ok((source_port, destination_port, seen)) = transport(packet, &network) else {
                return Err(Verdict::Drop(DropReason::InvalidHeader));
            };
            let flags = match seen {
                Seen::Tcp(flags) => flags,
                Seen::TcpFragment | Seen::Other => 0,
            };
            (source_port, destination_port, flags)
        }
    };
    if let Fragment::First(id) = network.fragment {
        let ports = held::noted(source_port, destination_port, now);
        match concerns {
            Concerns::Destination => held::first(&key(id), &ports, now, tables)?,
            Concerns::Source | Concerns::Anyway => held::note(&key(id), &ports, tables),
        }
    }
    let tuple = Tuple {
        source,
        destination,
        source_port,
        destination_port,
        protocol: network.protocol,
        pad: 0,
        pad_word: 0,
    };
    Ok(Met {
        now,
        network,
        tuple,
        flags,
    })
}
