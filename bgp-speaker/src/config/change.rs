//! What a new configuration costs: each difference between two configurations has a class, and only what
//! an OPEN negotiated or TCP fixed can reset a session.
//!
//! ```text
//!   NoOp           takes effect at once, or at the next attempt; nothing is sent again
//!   PolicyRefresh  routes at hand are judged again; what changed is sent or withdrawn
//!   SoftReset      also asks the peer to send its routes again (RFC 2918)
//!   HardReset      the session ends and begins anew
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{
    Auth, FamilyConfig, InstanceConfig, MaxPrefixes, MaxPrefixesAction, PeerAddress, PeerConfig, RemoteAsn,
    SpeakerConfig,
};
use crate::types::{Asn, Family, Name};

/// What a difference costs, cheapest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    #[default]
    NoOp,
    PolicyRefresh,
    SoftReset,
    HardReset,
}

/// The difference of two configurations of one peer (or of the instance's own fields).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// The dearest of `fields`; `NoOp` also when nothing differs.
    pub class: Class,
    /// Each field that differs, by its name in the configuration.
    pub fields: Vec<(&'static str, Class)>,
}

impl Change {
    /// The fields of the dearest class, for "configuration changed: ...".
    #[must_use]
    pub fn because(&self) -> String {
        let names: Vec<&str> = self
            .fields
            .iter()
            .filter(|(_, class)| *class == self.class)
            .map(|(name, _)| *name)
            .collect();
        names.join(", ")
    }

    fn add(&mut self, name: &'static str, class: Class) {
        self.class = self.class.max(class);
        self.fields.push((name, class));
    }

    fn compare<T: PartialEq>(&mut self, name: &'static str, old: &T, new: &T, class: Class) {
        if old != new {
            self.add(name, class);
        }
    }
}

/// What is known of the session that runs, if one does. Knowing less never makes a change cheaper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Live {
    pub opened: Opened,
    /// The ASN the peer's OPEN carried.
    pub remote_asn: Option<Asn>,
    pub local_address: Option<IpAddr>,
}

/// Who opened the TCP connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Opened {
    #[default]
    Unknown,
    Here,
    ByPeer,
}

/// The difference of two configurations of one peer.
#[must_use]
pub fn peer(old: &PeerConfig, new: &PeerConfig, live: Live) -> Change {
    let PeerConfig {
        address,
        port,
        remote_asn,
        local_address,
        interface,
        connect,
        auth,
        ttl,
        timers,
        graceful_restart,
        families,
        shutdown,
        reflector_client,
    } = old;
    // What only a dialled connection is made of does not concern an accepted one.
    let dialling = match live.opened {
        Opened::Unknown | Opened::Here => Class::HardReset,
        Opened::ByPeer => Class::NoOp,
    };
    let mut change = Change::default();
    if *address != new.address {
        change.add("address", of_address(address, &new.address));
    }
    change.compare("port", port, &new.port, dialling);
    if *remote_asn != new.remote_asn {
        change.add("remote_asn", of_remote_asn(new.remote_asn, live));
    }
    if *local_address != new.local_address {
        let same = new.local_address.is_none() || new.local_address == live.local_address;
        change.add("local_address", if same { Class::NoOp } else { Class::HardReset });
    }
    change.compare("interface", interface, &new.interface, dialling);
    change.compare("connect", connect, &new.connect, Class::NoOp);
    if *auth != new.auth {
        change.add("auth", of_auth(auth, &new.auth));
    }
    change.compare("ttl", ttl, &new.ttl, Class::NoOp);
    change.compare(
        "timers.connect_retry",
        &timers.connect_retry,
        &new.timers.connect_retry,
        Class::NoOp,
    );
    change.compare("timers.hold", &timers.hold, &new.timers.hold, Class::HardReset);
    change.compare(
        "timers.keepalive",
        &timers.keepalive,
        &new.timers.keepalive,
        Class::NoOp,
    );
    change.compare(
        "timers.idle_hold",
        &timers.idle_hold,
        &new.timers.idle_hold,
        Class::NoOp,
    );
    change.compare(
        "graceful_restart",
        graceful_restart,
        &new.graceful_restart,
        Class::HardReset,
    );
    of_families(families, &new.families, &mut change);
    if *shutdown != new.shutdown {
        // Leaving the shutdown, or another text for it, takes nothing from a session: there is none.
        let ends = shutdown.is_none();
        change.add("shutdown", if ends { Class::HardReset } else { Class::NoOp });
    }
    change.compare(
        "reflector_client",
        reflector_client,
        &new.reflector_client,
        Class::SoftReset,
    );
    change
}

/// The difference of two configurations of one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceChange {
    /// The instance's own fields. `HardReset` resets every peer.
    pub own: Change,
    pub added: Vec<Name>,
    pub removed: Vec<Name>,
    /// Peers present in both that differ.
    pub changed: BTreeMap<Name, Change>,
}

/// `live` tells what is known of the running session of a peer; `Live::default` where nothing is.
#[must_use]
pub fn instance(
    old: &InstanceConfig,
    new: &InstanceConfig,
    mut live: impl FnMut(&Name) -> Live,
) -> InstanceChange {
    let InstanceConfig {
        asn,
        router_id,
        listen,
        peers,
        routes,
        maximum_paths,
    } = old;
    let mut change = InstanceChange::default();
    change.own.compare("asn", asn, &new.asn, Class::HardReset);
    change
        .own
        .compare("router_id", router_id, &new.router_id, Class::HardReset);
    change.own.compare("listen", listen, &new.listen, Class::NoOp);
    if !Arc::ptr_eq(routes, &new.routes) {
        change
            .own
            .compare("routes", routes, &new.routes, Class::PolicyRefresh);
    }
    change.own.compare(
        "maximum_paths",
        maximum_paths,
        &new.maximum_paths,
        Class::PolicyRefresh,
    );
    change.added = only_in(&new.peers, peers);
    change.removed = only_in(peers, &new.peers);
    for (name, old) in peers {
        if let Some(new) = new.peers.get(name) {
            let difference = peer(old, new, live(name));
            if !difference.fields.is_empty() {
                change.changed.insert(name.clone(), difference);
            }
        }
    }
    change
}

/// The difference of two whole configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpeakerChange {
    pub added: Vec<Name>,
    pub removed: Vec<Name>,
    /// Instances present in both that differ.
    pub changed: BTreeMap<Name, InstanceChange>,
}

/// `live` is asked for the running session of a peer by instance and peer name.
#[must_use]
pub fn speaker(
    old: &SpeakerConfig,
    new: &SpeakerConfig,
    mut live: impl FnMut(&Name, &Name) -> Live,
) -> SpeakerChange {
    let mut change = SpeakerChange {
        added: only_in(&new.instances, &old.instances),
        removed: only_in(&old.instances, &new.instances),
        changed: BTreeMap::new(),
    };
    for (name, old) in &old.instances {
        if let Some(new) = new.instances.get(name) {
            let difference = instance(old, new, |peer| live(name, peer));
            if difference != InstanceChange::default() {
                change.changed.insert(name.clone(), difference);
            }
        }
    }
    change
}

/// A dynamic neighbour inside both prefixes is the same neighbour.
fn of_address(old: &PeerAddress, new: &PeerAddress) -> Class {
    match (old, new) {
        (PeerAddress::Prefix { prefix: old, .. }, PeerAddress::Prefix { prefix: new, .. })
            if new.contains(old) =>
        {
            Class::NoOp
        }
        (
            PeerAddress::One(_) | PeerAddress::Prefix { .. },
            PeerAddress::One(_) | PeerAddress::Prefix { .. },
        ) => Class::HardReset,
    }
}

/// What the peer's OPEN said may fit the new wish as well.
fn of_remote_asn(new: RemoteAsn, live: Live) -> Class {
    match new {
        RemoteAsn::Any => Class::NoOp,
        RemoteAsn::Is(asn) if live.remote_asn == Some(asn) => Class::NoOp,
        RemoteAsn::Is(_) => Class::HardReset,
    }
}

fn of_auth(old: &Auth, new: &Auth) -> Class {
    match (old, new) {
        (Auth::Missing { .. }, Auth::Missing { .. }) => Class::NoOp,
        (
            Auth::None | Auth::Md5(_) | Auth::Missing { .. },
            Auth::None | Auth::Md5(_) | Auth::Missing { .. },
        ) => Class::HardReset,
    }
}

fn of_families(old: &[(Family, FamilyConfig)], new: &[(Family, FamilyConfig)], change: &mut Change) {
    let old_set: BTreeSet<Family> = old.iter().map(|(f, _)| *f).collect();
    let new_set: BTreeSet<Family> = new.iter().map(|(f, _)| *f).collect();
    if old_set != new_set {
        change.add("families", Class::HardReset);
    } else if !old.iter().map(|(f, _)| f).eq(new.iter().map(|(f, _)| f)) {
        change.add("families", Class::NoOp);
    }
    let pairs = || {
        old.iter().filter_map(|(family, was)| {
            let (_, is) = new.iter().find(|(f, _)| f == family)?;
            Some((was, is))
        })
    };
    if pairs().any(|(was, is)| was.export != is.export) {
        change.add("families.export", Class::PolicyRefresh);
    }
    if pairs().any(|(was, is)| was.import != is.import) {
        change.add("families.import", Class::PolicyRefresh);
    }
    let limits = pairs()
        .filter(|(was, is)| was.max_prefixes != is.max_prefixes)
        .map(|(was, is)| of_max_prefixes(was.max_prefixes, is.max_prefixes))
        .max();
    if let Some(class) = limits {
        change.add("families.max_prefixes", class);
    }
}

/// Prefixes refused above the old limit were not kept: the peer has to send them again.
fn of_max_prefixes(old: Option<MaxPrefixes>, new: Option<MaxPrefixes>) -> Class {
    let Some(old) = old else {
        return Class::PolicyRefresh;
    };
    match old.action {
        MaxPrefixesAction::Warn | MaxPrefixesAction::Teardown { .. } => Class::PolicyRefresh,
        MaxPrefixesAction::Refuse => match new {
            Some(new) if new.limit <= old.limit => Class::PolicyRefresh,
            Some(_) | None => Class::SoftReset,
        },
    }
}

fn only_in<V>(these: &BTreeMap<Name, V>, those: &BTreeMap<Name, V>) -> Vec<Name> {
    these
        .keys()
        .filter(|name| !those.contains_key(*name))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests;
