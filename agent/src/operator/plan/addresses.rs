//! Addresses of Services out of pools (LB-IPAM), and what their status says.
//!
//! ```text
//!   Services: wish, what the status holds ---+
//!   pools ----------------------------------+--> lbipam::plan --> difference to each status --> writes
//!   what was decided and is not seen yet ----+
//! ```
//!
//! A Service that was served here says so in its status: the condition [`SATISFIED`] is there, and [`FROM`] names the pool
//! of each address. So a restart needs no memory: it knows what is ours to take back, and which pool may retain it.
//! Addresses that stand in a status and belong to no pool were given by somebody else; they stay, and count.
//!
//! Without any pool nobody is served anew.
//!
//! [`addresses`] is the definition. [`Keyed`] comes to the same from what changed.

mod keyed;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use crds::condition::{Condition, ConditionStatus};
use crds::k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServiceSpec};
use crds::k8s_openapi::jiff::Timestamp;
use lbipam::{Allocation, Decision, Pool, Request, Standing, Wish};
use serde_json::{Value, json};

use super::conditions::{Conditions, Wanted, of_service};
use super::write::{Basis, Note, Order, Target, Weight, Write};
use crate::plan::LbIpamReport;
use crate::plan::options::Options;
use crate::plan::vips::{self, Ingress};
use crate::world::{Fetched, ServiceRef, Stored, World};

pub(crate) use keyed::Keyed;

/// Cilium's: whether a Service has what it asks for.
pub(crate) const SATISFIED: &str = "cilium.io/IPAMRequestSatisfied";
/// Ours: the pool of each address.
pub(crate) const FROM: &str = "stentor.io/AddressesFrom";
const OURS: [&str; 2] = [SATISFIED, FROM];
/// Follows the name of a pool whose block is gone.
const RETAINED: &str = " (retained, its block is gone)";

/// The addresses of Services.
type Held = BTreeMap<ServiceRef, Vec<IpAddr>>;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) writes: Vec<Write>,
    /// What each Service has now, seen or not.
    pub(crate) held: Held,
    pub(crate) report: LbIpamReport,
}

/// What a Service is to the pools.
enum Stands<'a> {
    Asks(Served<'a>, Box<Request>),
    /// It was served, and is to be no longer. With its conditions.
    LetGo(Vec<Condition>),
    NotOurs,
}

/// A Service that the pools serve.
struct Served<'a> {
    service: Stored<'a, Service>,
    reference: ServiceRef,
    seen: Vec<Condition>,
    /// Entries of its status that are not ours.
    foreign: Vec<&'a LoadBalancerIngress>,
}

pub(crate) fn addresses(world: &World, options: &Options, now: Timestamp) -> Addresses {
    let pools: Vec<Pool> = world.objects.lb_pools().map(vips::pool).collect();
    let mut found = Addresses::default();
    let mut served = Vec::new();
    let mut requests = Vec::new();
    let services: Vec<Fetched<'_, Service>> = world.objects.services().collect();
    for service in services.iter().map(Fetched::stored) {
        match stands(world, options, &pools, service) {
            Stands::Asks(one, request) => {
                served.push(one);
                requests.push(*request);
            }
            Stands::LetGo(seen) => found.writes.extend(let_go(service, &seen, &pools, now)),
            Stands::NotOurs => {}
        }
    }
    let plan = lbipam::plan(&pools, &requests);
    found.report = LbIpamReport {
        matching: plan.decisions.len(),
        unsatisfied: plan.decisions.values().filter(|d| !d.is_satisfied()).count(),
        pools: plan.pools,
    };
    let mut decisions = plan.decisions;
    let mut given = BTreeSet::new();
    for (one, request) in served.iter().zip(&requests) {
        let decision = decisions.remove(&request.id).unwrap_or_default();
        let addresses: Vec<IpAddr> = decision.addresses.iter().map(|given| given.address).collect();
        given.extend(addresses.iter().copied());
        found.held.insert(one.reference.clone(), addresses);
        found.writes.extend(write(one, request, &decision, &pools, now));
    }
    for (service, addresses) in &mut found.held {
        let before = world.observed.held_vips.get(service);
        remember(addresses, before, |address| given.contains(&address));
    }
    found.writes.extend(pool_writes(world, &found.report, now));
    found
}

/// What a Service that lacks an address had before: when its pool comes back so does its address, unless somebody
/// else has it by then.
fn remember(addresses: &mut Vec<IpAddr>, before: Option<&Vec<IpAddr>>, is_given: impl Fn(IpAddr) -> bool) {
    for address in before.into_iter().flatten() {
        let has_family = addresses.iter().any(|has| has.is_ipv4() == address.is_ipv4());
        if !has_family && !is_given(*address) {
            addresses.push(*address);
        }
    }
}

fn stands<'a>(world: &World, options: &Options, pools: &[Pool], service: Stored<'a, Service>) -> Stands<'a> {
    let Some(spec) = service.object.spec.as_ref() else {
        return Stands::NotOurs;
    };
    let seen = of_service(service.object);
    let was_served = seen
        .iter()
        .any(|condition| OURS.contains(&condition.kind.as_str()));
    let is_balancer = spec.type_.as_deref() == Some("LoadBalancer");
    let is_ours = is_balancer && vips::is_ours(spec.load_balancer_class.as_deref(), options);
    match (is_ours, was_served) {
        (true, false) if pools.is_empty() => Stands::NotOurs,
        (true, _) => {
            let (one, request) = serve(world, options, pools, service, spec, seen);
            Stands::Asks(one, Box::new(request))
        }
        (false, true) => Stands::LetGo(seen),
        (false, false) => Stands::NotOurs,
    }
}

fn serve<'a>(
    world: &World,
    options: &Options,
    pools: &[Pool],
    service: Stored<'a, Service>,
    spec: &ServiceSpec,
    seen: Vec<Condition>,
) -> (Served<'a>, Request) {
    let reference = vips::service_ref(service);
    let origins = origins(&seen);
    let has = |kind: &str| seen.iter().any(|condition| condition.kind == kind);
    // Cilium says nothing of origins: whatever it gave was its pools'.
    let of_cilium = has(SATISFIED) && !has(FROM);
    let is_ours = |entry: &LoadBalancerIngress| match vips::ingress(entry) {
        Some(Ingress::Vip(address)) => {
            of_cilium || origins.contains_key(&address) || vips::contains(pools, address)
        }
        Some(Ingress::NotVip(_) | Ingress::Hostname) | None => false,
    };
    let entries = vips::entries(service.object).iter();
    let (ours, foreign): (Vec<_>, Vec<_>) = entries.partition(|entry| is_ours(entry));
    let held = ours.iter().filter_map(|entry| vips::ingress(entry)?.vip());
    let others: Vec<Ingress> = foreign.iter().filter_map(|entry| vips::ingress(entry)).collect();
    let request = vips::request(
        service,
        spec,
        &reference,
        held,
        &others,
        origins.clone(),
        world,
        options,
    );
    let served = Served {
        service,
        reference,
        seen,
        foreign,
    };
    (served, request)
}

/// The difference between a Service's status and what was decided, if there is one.
fn write(
    one: &Served<'_>,
    request: &Request,
    decision: &Decision,
    pools: &[Pool],
    now: Timestamp,
) -> Option<Write> {
    let service = one.service;
    let mut status = json!({});
    let mut notes = Vec::new();
    let before: BTreeSet<IpAddr> = ours(one).collect();
    let after: BTreeSet<IpAddr> = decision.addresses.iter().map(|given| given.address).collect();
    if before != after {
        status["loadBalancer"] = json!({ "ingress": entries(one, decision) });
        for given in decision
            .addresses
            .iter()
            .filter(|given| !before.contains(&given.address))
        {
            let text = format!("{} from pool {}", given.address, given.pool);
            notes.push(Note::of(
                service.parsed,
                Weight::Normal,
                "Allocate",
                "AddressAllocated",
                text,
            ));
        }
        for address in before.difference(&after) {
            let text = format!("{address}: {}", why_not(*address, request, pools));
            notes.push(Note::of(
                service.parsed,
                Weight::Warning,
                "Release",
                "AddressReleased",
                text,
            ));
        }
    }
    let wanted = [Wanted::from(decision.condition()), from(&decision.addresses)];
    let conditions = Conditions {
        seen: &one.seen,
        ours: &OURS,
        wanted: &wanted,
        generation: generation(service),
        now,
    };
    let entries = conditions.entries();
    if !entries.is_empty() {
        status["conditions"] = Value::Array(entries);
        notes.extend(refused(one, decision));
        notes.extend(retained(one, decision));
    }
    if status.as_object().is_none_or(serde_json::Map::is_empty) {
        return None;
    }
    Some(Write {
        target: Target::status(service.parsed),
        basis: Basis::of(service.parsed)?,
        order: Order::Strategic(json!({ "status": status }).into()),
        notes,
    })
}

/// The addresses of a status that came from pools, whoever gave them.
fn ours<'a>(one: &'a Served<'_>) -> impl Iterator<Item = IpAddr> + 'a {
    let entries = vips::entries(one.service.object).iter();
    let ours = entries.filter(|entry| !one.foreign.iter().any(|foreign| std::ptr::eq(*foreign, *entry)));
    ours.filter_map(|entry| vips::ingress(entry)?.vip())
}

/// What was there and stays, in its order, then what is new. `null` rather than nothing: a patch takes no empty list
/// for a wish.
fn entries(one: &Served<'_>, decision: &Decision) -> Value {
    let given = |entry: &&LoadBalancerIngress| {
        let address = vips::ingress(entry).and_then(|ingress| ingress.vip());
        decision
            .addresses
            .iter()
            .any(|given| Some(given.address) == address)
    };
    let foreign =
        |entry: &&LoadBalancerIngress| one.foreign.iter().any(|foreign| std::ptr::eq(*foreign, *entry));
    let there = vips::entries(one.service.object).iter();
    let mut entries: Vec<Value> = Vec::new();
    let mut kept = BTreeSet::new();
    for entry in there.filter(|entry| given(entry) || foreign(entry)) {
        let address = vips::ingress(entry).and_then(|ingress| ingress.vip());
        if address.is_none_or(|address| kept.insert(address)) {
            entries.push(json!(entry));
        }
    }
    let new = decision
        .addresses
        .iter()
        .filter(|given| !kept.contains(&given.address));
    entries.extend(new.map(|given| json!({ "ip": given.address })));
    match entries.is_empty() {
        true => Value::Null,
        false => Value::Array(entries),
    }
}

/// The condition that names the pools. It is there even without an address: without it others gave what is there.
fn from(addresses: &[Allocation]) -> Wanted {
    let mut message = String::new();
    let mut reason = "allocated";
    for Allocation {
        address,
        pool,
        standing,
    } in addresses
    {
        let comma = if message.is_empty() { "" } else { ", " };
        // Writing to a text does not fail.
        let _ = write!(message, "{comma}{address} from {pool}");
        match standing {
            Standing::InPool => {}
            Standing::Retained => {
                message.push_str(RETAINED);
                reason = "retained";
            }
        }
    }
    let (status, reason) = match addresses {
        [] => (ConditionStatus::False, "nothing"),
        [..] => (ConditionStatus::True, reason),
    };
    Wanted {
        kind: FROM,
        status,
        reason,
        message,
    }
}

/// What [`from`] wrote.
fn origins(seen: &[Condition]) -> BTreeMap<IpAddr, String> {
    let condition = seen.iter().find(|condition| condition.kind == FROM);
    let message = condition
        .map(|condition| condition.message.replace(RETAINED, ""))
        .unwrap_or_default();
    let pair = |text: &str| {
        let (address, pool) = text.split_once(" from ")?;
        Some((address.parse().ok()?, pool.to_owned()))
    };
    message.split(", ").filter_map(pair).collect()
}

/// A Service that was served here and is to be no longer: what came from here goes, and nothing else.
fn let_go(service: Stored<'_, Service>, seen: &[Condition], pools: &[Pool], now: Timestamp) -> Option<Write> {
    let origins = origins(seen);
    let mut gone = Vec::new();
    let stays = |entry: &&LoadBalancerIngress| {
        let address = vips::ingress(entry).and_then(|ingress| ingress.vip());
        let Some(address) = address else { return true };
        let ours = match seen.iter().any(|condition| condition.kind == FROM) {
            true => origins.contains_key(&address),
            false => vips::contains(pools, address),
        };
        if ours {
            gone.push(address);
        }
        !ours
    };
    let entries: Vec<Value> = vips::entries(service.object)
        .iter()
        .filter(stays)
        .map(|entry| json!(entry))
        .collect();
    let conditions = Conditions {
        seen,
        ours: &OURS,
        wanted: &[],
        generation: generation(service),
        now,
    };
    let mut status = json!({ "conditions": conditions.entries() });
    if !gone.is_empty() {
        let entries = if entries.is_empty() {
            Value::Null
        } else {
            Value::Array(entries)
        };
        status["loadBalancer"] = json!({ "ingress": entries });
    }
    let told = gone.iter().map(|address| {
        let text =
            format!("{address}: the pools do not serve this Service any more (its type or class changed)");
        Note::of(service.parsed, Weight::Normal, "Release", "AddressReleased", text)
    });
    Some(Write {
        target: Target::status(service.parsed),
        basis: Basis::of(service.parsed)?,
        order: Order::Strategic(json!({ "status": status }).into()),
        notes: told.collect(),
    })
}

fn refused(one: &Served<'_>, decision: &Decision) -> Option<Note> {
    if decision.is_satisfied() {
        return None;
    }
    let (reason, message) = (decision.reason(), decision.message());
    let told = |seen: &&Condition| seen.kind == SATISFIED && seen.reason == reason && seen.message == message;
    if one.seen.iter().any(|seen| told(&seen)) {
        return None;
    }
    let text = format!("{message} [{reason}]");
    Some(Note::of(
        one.service.parsed,
        Weight::Warning,
        "Allocate",
        "AddressRefused",
        text,
    ))
}

fn retained(one: &Served<'_>, decision: &Decision) -> Option<Note> {
    let message = from(&decision.addresses).message;
    let before = one.seen.iter().find(|seen| seen.kind == FROM);
    let is_new = message.contains(RETAINED) && before.is_none_or(|seen| seen.message != message);
    is_new.then(|| {
        Note::of(
            one.service.parsed,
            Weight::Warning,
            "Retain",
            "AddressRetained",
            message,
        )
    })
}

/// Why an address that a Service has may not stay.
fn why_not(address: IpAddr, request: &Request, pools: &[Pool]) -> String {
    let wanted = match &request.wish {
        Wish::Addresses(addresses) => addresses.contains(&address),
        Wish::Families(families) => families.contains(&lbipam::Family::of(address)),
    };
    if !wanted {
        return "the Service does not ask for it any more".to_owned();
    }
    let mut having = pools
        .iter()
        .filter(|pool| pool.blocks.iter().any(|block| block.range().contains(address)));
    match having.next() {
        None => "no pool has it any more".to_owned(),
        Some(pool) if request.pools.contains(&pool.name) => {
            "another Service has it, and the two may not share it".to_owned()
        }
        Some(pool) => format!("pool {} does not select this Service any more", pool.name),
    }
}

fn generation(service: Stored<'_, Service>) -> Option<i64> {
    service.object.metadata.generation
}

/// The types of a pool's conditions that are ours.
const OF_POOLS: [&str; 5] = [
    "cilium.io/PoolConflict",
    "cilium.io/IPsTotal",
    "cilium.io/IPsAvailable",
    "cilium.io/IPsUsed",
    "stentor.io/AddressesRetained",
];

fn pool_writes(world: &World, report: &LbIpamReport, now: Timestamp) -> Vec<Write> {
    let write = |pool: Stored<'_, crds::lb_ip_pool::CiliumLoadBalancerIPPool>| {
        let report = report.pools.get(pool.name())?;
        let wanted: Vec<Wanted> = report.conditions().into_iter().map(Wanted::from).collect();
        let status = pool.object.status.as_ref();
        let seen = status
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default();
        let conditions = Conditions {
            seen,
            ours: &OF_POOLS,
            wanted: &wanted,
            generation: pool.object.metadata.generation,
            now,
        };
        let list = conditions.list()?;
        Some(Write {
            target: Target::status(pool.parsed),
            basis: Basis::of(pool.parsed)?,
            order: Order::Merge(json!({ "status": { "conditions": list } }).into()),
            notes: pool_notes(pool.parsed, seen, &wanted),
        })
    };
    world.objects.lb_pools().filter_map(write).collect()
}

/// Counts come and go; a conflict and what is retained a person should know of.
fn pool_notes(pool: &crds::Parsed, seen: &[Condition], wanted: &[Wanted]) -> Vec<Note> {
    let mut notes = Vec::new();
    for condition in wanted {
        let (weight, action, reason) = match (condition.kind, condition.status) {
            ("cilium.io/PoolConflict", ConditionStatus::True) => (Weight::Warning, "Plan", "PoolConflict"),
            ("stentor.io/AddressesRetained", ConditionStatus::True) => {
                (Weight::Warning, "Retain", "AddressesRetained")
            }
            (_, _) => continue,
        };
        let known = seen
            .iter()
            .any(|seen| seen.kind == condition.kind && seen.message == condition.message);
        if !known {
            notes.push(Note::of(pool, weight, action, reason, condition.message.clone()));
        }
    }
    notes
}

#[cfg(test)]
mod tests;
