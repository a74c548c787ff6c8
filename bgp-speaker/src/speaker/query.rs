//! What a speaker answers: its peers and its tables.

use std::net::IpAddr;

use super::{PathView, PeerStatus, Speaker, Table};
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

impl Speaker {
    /// Every peer, by instance and name.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.instances.values().flat_map(super::Instance::peers).collect()
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
