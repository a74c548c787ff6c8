//! What a speaker answers: its peers and its tables.

use std::net::IpAddr;

use super::instance::Instance;
use super::{PathView, PeerStatus, Request, Speaker, Table};
use crate::peer::Peer;
use crate::rib::{PeerId, RouteView, Standing};
use crate::types::{Family, Name};

/// A question nobody can answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    #[error("no BGP instance is named {0}")]
    UnknownInstance(Name),
    #[error("no instance has a peer with the address {0}")]
    UnknownPeer(IpAddr),
    #[error("the Loc-RIB belongs to no peer: leave the peer out")]
    PeerForLocRib,
}

/// An order to whom is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("no BGP instance is named {0}")]
    UnknownInstance(Name),
    #[error("the BGP instance {instance} has no peer named {peer}")]
    UnknownPeer { instance: Name, peer: Name },
}

impl Speaker {
    /// Whether there is whom a request names. What nobody is there for changes nothing.
    ///
    /// # Errors
    /// [`RequestError`] names who is not there.
    pub fn check(&self, request: &Request) -> Result<(), RequestError> {
        let (name, peer) = match request {
            Request::Reset { instance, peer, .. }
            | Request::RefreshIn { instance, peer }
            | Request::RefreshOut { instance, peer } => (instance, peer),
            Request::Shutdown(_) => return Ok(()),
        };
        let Some(instance) = self.instances.get(name) else {
            return Err(RequestError::UnknownInstance(name.clone()));
        };
        match peer {
            Some(peer) if !instance.knows(peer) => Err(RequestError::UnknownPeer {
                instance: name.clone(),
                peer: peer.clone(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Every peer, by instance and name.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.instances.values().flat_map(Instance::peers).collect()
    }

    /// The paths of one family in a table, by instance, peer and prefix. Without `instance` or `peer`: of
    /// all of them.
    ///
    /// # Errors
    /// [`QueryError`] where the instance or the peer does not exist, or none can be asked for.
    pub fn routes(
        &self,
        instance: Option<&str>,
        table: Table,
        family: Family,
        peer: Option<IpAddr>,
    ) -> Result<Vec<PathView>, QueryError> {
        if table == Table::LocRib && peer.is_some() {
            return Err(QueryError::PeerForLocRib);
        }
        if let Some(name) = instance
            && !self.instances.contains_key(name)
        {
            return Err(QueryError::UnknownInstance(name.into()));
        }
        let asked = self
            .instances
            .iter()
            .filter(|(name, _)| instance.is_none_or(|wanted| wanted == &***name));
        let mut found = Vec::new();
        let mut known = peer.is_none();
        for (_, instance) in asked {
            known |= peer.is_some_and(|address| instance.has_peer(address));
            instance.routes(table, family, peer, &mut found);
        }
        match peer {
            Some(address) if !known => Err(QueryError::UnknownPeer(address)),
            Some(_) | None => Ok(found),
        }
    }
}

impl Instance {
    pub(super) fn peers(&self) -> Vec<PeerStatus> {
        let mut peers: Vec<PeerStatus> = self
            .peers
            .values()
            .map(|peer| peer.status(&self.identity, &self.rib))
            .collect();
        peers.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
        peers
    }

    /// By a name of the configuration, or that of a dynamic neighbour.
    fn knows(&self, name: &Name) -> bool {
        let configured = self.config.as_ref().is_some_and(|c| c.peers.contains_key(name));
        configured || self.peers.values().any(|peer| peer.name == *name)
    }

    pub(super) fn has_peer(&self, address: IpAddr) -> bool {
        self.peers.values().any(|peer| peer.address == address)
    }

    pub(super) fn routes(
        &self,
        table: Table,
        family: Family,
        address: Option<IpAddr>,
        found: &mut Vec<PathView>,
    ) {
        let view = |route: RouteView, owner: Option<&Peer>| {
            let learned = route.source.and_then(|id| self.peers.get(&id));
            let named = |peer: &Peer| (peer.name.clone(), peer.address);
            PathView {
                instance: self.identity.instance.clone(),
                local_asn: self.identity.asn,
                peer: owner.or(learned).map(named),
                prefix: route.prefix,
                attrs: route.attrs,
                since: route.since,
                best: route.standing == Standing::Best,
                stale: route.stale,
                reason: match route.standing {
                    Standing::Best => None,
                    Standing::Multipath => Some("used beside the best (multipath)".into()),
                    Standing::Lost(why) => Some(why.to_string().into()),
                    Standing::Refused(why) => Some(why.to_string().into()),
                },
            }
        };
        if table == Table::LocRib {
            found.extend(
                self.rib
                    .loc_rib(family)
                    .into_iter()
                    .map(|route| view(route, None)),
            );
            return;
        }
        let mut asked: Vec<(&PeerId, &Peer)> = self
            .peers
            .iter()
            .filter(|(_, peer)| address.is_none_or(|a| a == peer.address))
            .collect();
        asked.sort_by_key(|(_, peer)| (&peer.name, peer.address));
        for (id, peer) in asked {
            let routes = match table {
                Table::LocRib | Table::AdjRibIn => self.rib.adj_in(*id, family),
                Table::AdjRibOut => self.rib.adj_out(*id, family),
            };
            found.extend(routes.into_iter().map(|route| view(route, Some(peer))));
        }
    }
}
