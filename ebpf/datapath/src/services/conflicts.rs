//! Who gets an address that several ask for.
//!
//! Addresses that the cluster gave (cluster addresses, node ports, load balancer addresses) go before those that a user
//! wrote into an object (host ports, external IPs). Among equals the older object wins, then the name decides. Only the
//! frontend is lost, not the service.
//!
//! Services may share an address with different ports. An external IP may not: a user could put a port beside those of a
//! foreign service, under an address that others trust.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Age, Kind, Wish};
use crate::names::{ServiceName, Socket};
use crate::problem::Problem;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Given,
    Chosen,
}

fn origin(kind: Kind) -> Origin {
    match kind {
        Kind::ClusterIp | Kind::NodePort | Kind::LoadBalancer => Origin::Given,
        Kind::HostPort | Kind::ExternalIp => Origin::Chosen,
    }
}

/// Who asks; the smallest one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim<'a> {
    origin: Origin,
    age: Age,
    service: &'a ServiceName,
    kind: Kind,
}

/// Takes from every wish what belongs to another one.
pub(crate) fn settle(wishes: &mut BTreeMap<ServiceName, Wish>, problems: &mut Vec<Problem>) {
    let mut lost: BTreeSet<(ServiceName, Socket)> = BTreeSet::new();
    let owners = owners(wishes);
    let mut winners: BTreeMap<Socket, Claim<'_>> = BTreeMap::new();
    for (socket, claim, wish) in claims(wishes) {
        if claim.kind == Kind::ExternalIp
            && let Some((owner, kind)) = foreign(&owners, socket.address, &wish.name)
        {
            problems.push(Problem::ForeignAddress {
                service: wish.name.clone(),
                address: socket.address,
                owner: owner.clone(),
                owner_kind: kind,
            });
            lost.insert((wish.name.clone(), socket));
            continue;
        }
        let winner = winners.entry(socket).or_insert(claim);
        *winner = claim.min(*winner);
    }
    for (socket, claim, wish) in claims(wishes) {
        if let Some(winner) = winners.get(&socket)
            && winner.service != &wish.name
            && !lost.contains(&(wish.name.clone(), socket))
        {
            problems.push(Problem::Taken {
                service: wish.name.clone(),
                frontend: socket,
                kind: claim.kind,
                owner: winner.service.clone(),
                owner_kind: winner.kind,
            });
            lost.insert((wish.name.clone(), socket));
        }
    }
    for (service, socket) in lost {
        if let Some(wish) = wishes.get_mut(&service) {
            wish.frontends.remove(&socket);
        }
    }
}

fn claims(wishes: &BTreeMap<ServiceName, Wish>) -> impl Iterator<Item = (Socket, Claim<'_>, &Wish)> {
    wishes.values().flat_map(|wish| {
        wish.frontends.iter().map(move |(socket, frontend)| {
            let claim = Claim {
                origin: origin(frontend.kind),
                age: wish.age,
                service: &wish.name,
                kind: frontend.kind,
            };
            (*socket, claim, wish)
        })
    })
}

type Owners<'a> = BTreeMap<IpAddr, Vec<(&'a ServiceName, Kind)>>;

/// Services with cluster and load balancer addresses, by address. Node addresses are nobody's.
fn owners(wishes: &BTreeMap<ServiceName, Wish>) -> Owners<'_> {
    let mut owners = Owners::new();
    for wish in wishes.values() {
        for (socket, frontend) in &wish.frontends {
            if !frontend.kind.owns_address() {
                continue;
            }
            let of = owners.entry(socket.address).or_default();
            if of.last() != Some(&(&wish.name, frontend.kind)) {
                of.push((&wish.name, frontend.kind));
            }
        }
    }
    owners
}

fn foreign<'a>(
    owners: &Owners<'a>,
    address: IpAddr,
    service: &ServiceName,
) -> Option<(&'a ServiceName, Kind)> {
    let of = owners.get(&address)?;
    of.iter().find(|(owner, _)| *owner != service).copied()
}
