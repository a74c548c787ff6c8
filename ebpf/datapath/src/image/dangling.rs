//! What a program would stumble over.

use std::net::IpAddr;

use ebpf_abi::service::{Frontend, Selection, flag};
use ebpf_abi::{BackendId, FrontendId};

use super::MapImage;
use crate::names::{Family, Socket};

/// An entry that refers to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Dangling {
    #[error("{frontend}: id {id:?} is not alive")]
    DeadFrontend { frontend: Socket, id: FrontendId },
    #[error("{frontend}: there is no set {set}")]
    NoSet { frontend: Socket, set: u32 },
    #[error("{frontend}: slots of set {set} are missing")]
    NoSlots { frontend: Socket, set: u32 },
    #[error("{frontend}: backend {backend:?} of set {set} is not alive")]
    DeadBackend {
        frontend: Socket,
        set: u32,
        backend: BackendId,
    },
    #[error("{frontend}: set {set} has no Maglev table")]
    NoTable { frontend: Socket, set: u32 },
    #[error("{frontend}: backend {backend} is on node {node}, which is missing")]
    NoNode {
        frontend: Socket,
        backend: Socket,
        node: u32,
    },
    #[error("{frontend}: the filter lets it pass unseen")]
    NotWatched { frontend: Socket },
    #[error("set {set} has member {backend:?} for session affinity, which is not alive")]
    DeadMember { set: u32, backend: BackendId },
}

impl MapImage {
    /// Nothing in every image that is built, and after every step from one to another.
    pub fn dangling(&self) -> Vec<Dangling> {
        let mut found = Vec::new();
        for (socket, frontend) in self.frontends() {
            if frontend.flags & flag::WILDCARD != 0 {
                continue;
            }
            if self.live_frontends.get(&frontend.id.index()) != Some(&frontend.id) {
                found.push(Dangling::DeadFrontend {
                    frontend: socket,
                    id: frontend.id,
                });
            }
            if !self.watches(socket.address) {
                found.push(Dangling::NotWatched { frontend: socket });
            }
            let local = Some(frontend.local_set).filter(|set| *set != 0);
            for set in [frontend.set, frontend.inner_set].into_iter().chain(local) {
                self.dangling_set(socket, &frontend, set, &mut found);
            }
        }
        for member in &self.members {
            let alive = Family::ALL
                .iter()
                .any(|family| self.socket(*family, member.backend).is_some());
            if !alive {
                found.push(Dangling::DeadMember {
                    set: member.set,
                    backend: member.backend,
                });
            }
        }
        found
    }

    fn dangling_set(&self, socket: Socket, frontend: &Frontend, set: u32, found: &mut Vec<Dangling>) {
        let Some(word) = self.sets.get(&set) else {
            found.push(Dangling::NoSet {
                frontend: socket,
                set,
            });
            return;
        };
        let (serving, draining) = self.members_of(set);
        let total = u32::try_from(serving.len() + draining.len()).unwrap_or(u32::MAX);
        if total != word.total() {
            found.push(Dangling::NoSlots {
                frontend: socket,
                set,
            });
        }
        let maglev = Selection::from_number(frontend.selection) == Selection::Maglev;
        let table = self.tables.get(&set);
        if maglev && table.is_none() && !serving.is_empty() {
            found.push(Dangling::NoTable {
                frontend: socket,
                set,
            });
        }
        let in_table = table.map(|table| &table.members[..]).unwrap_or_default();
        for backend in serving.iter().chain(draining).chain(in_table) {
            let Some(at) = self.socket(socket.family(), *backend) else {
                found.push(Dangling::DeadBackend {
                    frontend: socket,
                    set,
                    backend: *backend,
                });
                continue;
            };
            let node = match socket.family() {
                Family::V4 => self.backends4.get(&backend.index()).map(|backend| backend.node),
                Family::V6 => self.backends6.get(&backend.index()).map(|backend| backend.node),
            };
            let node = node.unwrap_or(0);
            if node != 0 && !self.nodes.contains_key(&node) {
                found.push(Dangling::NoNode {
                    frontend: socket,
                    backend: at,
                    node,
                });
            }
        }
    }

    fn watches(&self, address: IpAddr) -> bool {
        let (word, bit) = super::bit(address);
        self.filter.get(&word).is_some_and(|bits| bits & bit != 0)
    }
}
