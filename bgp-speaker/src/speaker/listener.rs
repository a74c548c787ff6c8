//! The listener of an instance, and whom it lets in.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::instance::{Instance, Shared};
use super::pace::Tell;
use super::{Close, ConnId, Event, ListenKey, Output, Refusal};
use crate::config::{Auth, InstanceConfig, PeerAddress};
use crate::peer::LocalEnd;
use crate::rib::PeerId;
use crate::types::Prefix;

/// When a listener that failed is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listener {
    port: u16,
    keys: Vec<ListenKey>,
    pub(super) again: Option<Instant>,
}

impl Instance {
    pub(super) fn listened(&mut self, result: Result<(), Arc<str>>, shared: &mut Shared<'_>) {
        let Some(listener) = &mut self.listener else {
            return;
        };
        match result {
            Ok(()) => listener.again = None,
            Err(error) => {
                listener.again = Some(shared.now + LISTEN_AGAIN);
                shared.out.push(Output::Tell(Event::ListenFailed {
                    instance: self.identity.instance.clone(),
                    port: listener.port,
                    error,
                }));
            }
        }
    }

    pub(super) fn accepted(
        &mut self,
        conn: ConnId,
        local: LocalEnd,
        remote: SocketAddr,
        shared: &mut Shared<'_>,
    ) {
        let taken = self.owner_of(remote.ip()).and_then(|id| {
            let mut taken = Err(Refusal::UnknownPeer);
            self.with_peer(id, shared, |peer, cx| taken = peer.accepted(conn, local, cx));
            taken
        });
        if let Err(why) = taken {
            shared.out.push(Output::Close {
                conn,
                how: Close::Abort,
            });
            if self.refusals.may_tell(shared.now) == Tell::Yes {
                shared.out.push(Output::Tell(Event::Refused {
                    instance: self.identity.instance.clone(),
                    remote,
                    why,
                }));
            }
        }
    }

    pub(super) fn listen(&mut self, config: &InstanceConfig, shared: &mut Shared<'_>) {
        let Some(port) = config.listen else {
            self.unlisten(shared);
            return;
        };
        let keys: Vec<ListenKey> = config
            .peers
            .values()
            .filter_map(|peer| match &peer.auth {
                Auth::Md5(key) => Some(ListenKey {
                    from: match peer.address {
                        PeerAddress::One(address) => Prefix::host(address.to_canonical()),
                        PeerAddress::Prefix { prefix, .. } => prefix,
                    },
                    key: key.clone(),
                }),
                Auth::None | Auth::Missing { .. } => None,
            })
            .collect();
        let same = self
            .listener
            .as_ref()
            .is_some_and(|l| l.port == port && l.keys == keys);
        if !same {
            self.listener = Some(Listener {
                port,
                keys: keys.clone(),
                again: None,
            });
            shared.out.push(Output::Listen {
                instance: self.identity.instance.clone(),
                port,
                keys,
            });
        }
    }

    pub(super) fn unlisten(&mut self, shared: &mut Shared<'_>) {
        if self.listener.take().is_some() {
            shared.out.push(Output::Unlisten {
                instance: self.identity.instance.clone(),
            });
        }
    }

    /// Tries a listener again that failed before.
    pub(super) fn listen_again(&mut self, shared: &mut Shared<'_>) {
        if let Some(listener) = &mut self.listener
            && listener.again.is_some_and(|at| at <= shared.now)
        {
            listener.again = None;
            shared.out.push(Output::Listen {
                instance: self.identity.instance.clone(),
                port: listener.port,
                keys: listener.keys.clone(),
            });
        }
    }

    /// The peer a connection from `address` is for: by its address, else a dynamic neighbour of the longest
    /// prefix, made now if there is room.
    fn owner_of(&mut self, address: IpAddr) -> Result<PeerId, Refusal> {
        let address = address.to_canonical();
        if let Some((id, _)) = self.peers.iter().find(|(_, peer)| peer.address == address) {
            return Ok(*id);
        }
        let config = self.config.as_ref().ok_or(Refusal::UnknownPeer)?;
        let (name, limit, peer) = config
            .peers
            .iter()
            .filter_map(|(name, peer)| match peer.address {
                PeerAddress::One(_) => None,
                PeerAddress::Prefix { prefix, limit } => {
                    let inside = prefix.contains(&Prefix::host(address));
                    inside.then_some((prefix.len(), name, limit, peer))
                }
            })
            .max_by_key(|(len, ..)| *len)
            .map(|(_, name, limit, peer)| (name.clone(), limit, peer.clone()))
            .ok_or(Refusal::UnknownPeer)?;
        let live = self.peers.values().filter(|p| *p.template() == name).count();
        if live >= usize::try_from(limit).unwrap_or(usize::MAX) {
            return Err(Refusal::DynamicLimit);
        }
        let own_name = format!("{name}/{address}").into();
        self.insert(own_name, Some(name), address, &peer)
            .ok_or(Refusal::DynamicLimit)
    }
}
