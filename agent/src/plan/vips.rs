//! LoadBalancer addresses: what the pools give, and what is given from elsewhere.
//!
//! Ingress addresses in a Service's status that no pool contains were given by somebody else (a cloud, a person)
//! and stand as they are. The pools serve what a Service still lacks. Addresses a Service holds (in its status, or
//! by the state folder) stay with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crds::k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServicePort, ServiceSpec};
use crds::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use crds::lb_ip_pool::{
    AllowFirstLastIps, BlockRemoval, CiliumLoadBalancerIPPool, LoadBalancerIpPoolSpec, PoolBlock,
};
use crds::text;
use lbipam::{
    AutoAssign, Block, Family, FamilyPolicy, FirstAndLast, Incremental, Pool, PoolState, Port, Protocol,
    Range, Removal, Request, RequestId, TrafficPolicy,
};

use super::desired::LbIpamReport;
use super::frontends::{BGP_CLASS, L2_CLASS};
use super::options::{Families, LbIpam, Options};
use crate::shared_map::SharedMap;
use crate::source::Allotter;
use crate::world::{Origins, ServiceRef, Stored, World};

/// What Services have and had, kept so that one of them costs no look at the others.
#[derive(Debug, Default)]
pub(crate) struct Vips {
    pools: Vec<Pool>,
    /// Serves those who ask the pools.
    planner: Incremental,
    /// What Services have. The others are no LoadBalancers.
    answers: BTreeMap<ServiceRef, Answer>,
    /// How many have each address.
    given: BTreeMap<IpAddr, usize>,
    /// What Services had and have no more.
    remembered: BTreeSet<(IpAddr, ServiceRef)>,
    /// What they have, and what one that lacks an address had before: when its pool comes back, so does its address,
    /// unless somebody else has it by then.
    held: Holdings,
    /// To be looked at in the next step: what they were given is what they hold from then on.
    again: BTreeSet<ServiceRef>,
    /// As of the last step.
    origins: Arc<Origins>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) ingress: Vec<Ingress>,
    /// Why an address it asks for is not there.
    pub(crate) lacking: Option<String>,
}

/// An entry of `status.loadBalancer.ingress`, given or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ingress {
    Vip(IpAddr),
    /// `ipMode` says packets do not arrive with this destination.
    NotVip(IpAddr),
    Hostname,
}

impl Ingress {
    pub(crate) fn vip(&self) -> Option<IpAddr> {
        match self {
            Self::Vip(address) => Some(*address),
            Self::NotVip(_) | Self::Hostname => None,
        }
    }
}

/// Addresses by Service.
pub(crate) type Holdings = SharedMap<ServiceRef, Vec<IpAddr>>;

/// An answer about a Service of which nothing is known.
static NOTHING: Answer = Answer {
    ingress: Vec::new(),
    lacking: None,
};

impl Answer {
    fn vips(&self) -> impl Iterator<Item = IpAddr> {
        self.ingress.iter().filter_map(Ingress::vip)
    }
}

/// What stands in the status of a LoadBalancer Service, and what it asks of the pools, if they are to serve it.
struct Standing {
    given: Vec<Ingress>,
    request: Option<Box<Request>>,
}

impl Vips {
    /// Knows the pools, and no Service.
    pub(crate) fn new(world: &World) -> Self {
        let pools: Vec<Pool> = world.objects.lb_pools().map(pool).collect();
        let mut vips = Self {
            pools: pools.clone(),
            ..Self::default()
        };
        vips.planner.pools(pools);
        vips
    }

    pub(crate) fn answer(&self, service: &ServiceRef) -> &Answer {
        self.answers.get(service).unwrap_or(&NOTHING)
    }

    pub(crate) fn held(&self) -> &Holdings {
        &self.held
    }

    pub(crate) fn report(&self) -> LbIpamReport {
        let (matching, unsatisfied) = self.planner.counts();
        LbIpamReport {
            matching,
            unsatisfied,
            pools: self.planner.reports(),
        }
    }

    /// Looks at these Services, which may be gone, and at whom else it concerns. Gives those whose answers may be others.
    pub(crate) fn step(
        &mut self,
        world: &World,
        options: &Options,
        services: &BTreeSet<ServiceRef>,
    ) -> BTreeSet<ServiceRef> {
        let mut touched = std::mem::take(&mut self.again);
        touched.extend(services.iter().cloned());
        touched.extend(self.take_origins(&world.observed.origins));
        for reference in &touched {
            match standing(world, options, &self.pools, reference).and_then(|standing| standing.request) {
                Some(request) => self.planner.request(*request),
                None => self.planner.gone(&id(reference)),
            }
        }
        let decided = self.planner.step().into_iter();
        touched.extend(decided.map(|id| ServiceRef::new(&id.namespace, &id.name)));
        // Who remembers an address that somebody else has now.
        let mut losing = BTreeSet::new();
        for reference in &touched {
            let answer = self.decided(world, options, reference);
            for address in answer.iter().flat_map(Answer::vips) {
                let owners = self.given.entry(address).or_default();
                *owners += 1;
                if *owners == 1 {
                    losing.insert(address);
                }
            }
            let before = match answer {
                Some(answer) => self.answers.insert(reference.clone(), answer),
                None => self.answers.remove(reference),
            };
            for address in before.iter().flat_map(Answer::vips) {
                if let Some(owners) = self.given.get_mut(&address) {
                    *owners -= 1;
                    if *owners == 0 {
                        self.given.remove(&address);
                    }
                }
            }
        }
        let losers: BTreeSet<ServiceRef> = losing
            .into_iter()
            .flat_map(|address| services_at(&self.remembered, address))
            .cloned()
            .collect();
        for reference in touched.union(&losers) {
            self.hold(world, reference);
        }
        touched
    }

    /// Gives the Services whose addresses are known to be from other pools than before.
    fn take_origins(&mut self, origins: &Arc<Origins>) -> Vec<ServiceRef> {
        let before = std::mem::replace(&mut self.origins, Arc::clone(origins));
        if Arc::ptr_eq(&before, origins) {
            return Vec::new();
        }
        let services = before.keys().chain(origins.keys());
        services
            .filter(|service| before.get(*service) != origins.get(*service))
            .cloned()
            .collect()
    }

    /// The answer as of the decisions; `None`: it is no LoadBalancer.
    fn decided(&self, world: &World, options: &Options, reference: &ServiceRef) -> Option<Answer> {
        let Standing { given, request } = standing(world, options, &self.pools, reference)?;
        let mut answer = Answer {
            ingress: given,
            lacking: None,
        };
        if let Some(decision) = request.and_then(|request| self.planner.decision(&request.id)) {
            answer.lacking = (!decision.is_satisfied()).then(|| decision.message());
            let given = decision.addresses.iter().map(|given| Ingress::Vip(given.address));
            answer.ingress.extend(given);
        }
        if answer.ingress.is_empty() && answer.lacking.is_none() {
            answer.lacking = Some(nobody(world, reference, options, &self.pools));
        }
        Some(answer)
    }

    fn hold(&mut self, world: &World, reference: &ServiceRef) {
        for address in self.held.get(reference).into_iter().flatten() {
            self.remembered.remove(&(*address, reference.clone()));
        }
        let before = world.observed.held_vips.get(reference);
        let answer = self.answers.get(reference);
        let mut vips: Vec<IpAddr> = answer.into_iter().flat_map(Answer::vips).collect();
        for address in before.into_iter().flatten().filter(|_| answer.is_some()) {
            let has_family = vips.iter().any(|vip| vip.is_ipv4() == address.is_ipv4());
            if !has_family && !self.given.contains_key(address) {
                vips.push(*address);
                self.remembered.insert((*address, reference.clone()));
            }
        }
        let asks = self.planner.decision(&id(reference)).is_some();
        if asks && before.map_or(&[][..], |before| before) != vips {
            self.again.insert(reference.clone());
        }
        if vips.is_empty() {
            self.held.remove(reference);
        } else if self.held.get(reference) != Some(&vips) {
            self.held.insert(reference.clone(), vips);
        }
    }
}

/// The Services that stand there with an address.
pub(super) fn services_at(
    all: &BTreeSet<(IpAddr, ServiceRef)>,
    address: IpAddr,
) -> impl Iterator<Item = &ServiceRef> {
    let from = all.range((address, ServiceRef::new("", ""))..);
    from.take_while(move |(other, _)| *other == address)
        .map(|(_, service)| service)
}

/// `None`: it is gone, or no LoadBalancer.
fn standing(world: &World, options: &Options, pools: &[Pool], reference: &ServiceRef) -> Option<Standing> {
    let service = world.objects.service(&reference.namespace, &reference.name)?;
    let service = service.stored();
    let spec = service.object.spec.as_ref()?;
    if spec.type_.as_deref() != Some("LoadBalancer") {
        return None;
    }
    let given = given(service);
    // Without any pool nobody hands out addresses, so nobody takes one away either.
    let is_asking = match world.allotter {
        Allotter::Agents => !pools.is_empty() && is_ours(spec.load_balancer_class.as_deref(), options),
        // What it gave stands in the status.
        Allotter::Operator => false,
    };
    if !is_asking {
        let request = None;
        return Some(Standing { given, request });
    }
    let in_a_pool = |ingress: &Ingress| match ingress {
        Ingress::Vip(address) => contains(pools, *address),
        Ingress::NotVip(_) | Ingress::Hostname => false,
    };
    let (from_pools, foreign): (Vec<_>, Vec<_>) = given.into_iter().partition(in_a_pool);
    let held = from_pools.iter().filter_map(Ingress::vip);
    // Addresses outside of every pool are somebody else's here, so there is nothing to retain.
    let origins = BTreeMap::new();
    let asked = request(service, spec, reference, held, &foreign, origins, world, options);
    Some(Standing {
        given: foreign,
        request: Some(Box::new(asked)),
    })
}

pub(crate) fn id(service: &ServiceRef) -> RequestId {
    RequestId {
        namespace: service.namespace.to_string(),
        name: service.name.to_string(),
    }
}

pub(crate) fn service_ref(service: Stored<'_, Service>) -> ServiceRef {
    ServiceRef::new(service.namespace(), service.name())
}

/// Whether the pools serve a Service of this class.
pub(crate) fn is_ours(class: Option<&str>, options: &Options) -> bool {
    match options.lb_ipam {
        LbIpam::Off => false,
        LbIpam::Default => matches!(class, None | Some(BGP_CLASS | L2_CLASS)),
        LbIpam::OnlyNamedClasses => matches!(class, Some(BGP_CLASS | L2_CLASS)),
    }
}

/// Why nobody gives this Service an address.
fn nobody(world: &World, reference: &ServiceRef, options: &Options, pools: &[Pool]) -> String {
    let service = world.objects.service(&reference.namespace, &reference.name);
    let class = service.and_then(|service| service.stored().spec.as_ref()?.load_balancer_class.clone());
    if !is_ours(class.as_deref(), options) {
        return match class {
            Some(class) => {
                format!("loadBalancerClass {class} is not served here, and the status has no address")
            }
            None => "LB-IPAM is not the one to serve it, and the status has no address".to_owned(),
        };
    }
    if world.allotter == Allotter::Operator {
        return "the operator has not given it an address; its condition cilium.io/IPAMRequestSatisfied says why"
            .to_owned();
    }
    if pools.is_empty() {
        "there is no CiliumLoadBalancerIPPool, and the status has no address".to_owned()
    } else {
        "the status has no address".to_owned()
    }
}

/// What a Service asks of the pools. `in_status`: what it has of theirs; `foreign`: what it has of others.
#[expect(
    clippy::too_many_arguments,
    reason = "a Service, what it has from whom, and the ground"
)]
pub(crate) fn request(
    service: Stored<'_, Service>,
    spec: &ServiceSpec,
    reference: &ServiceRef,
    in_status: impl Iterator<Item = IpAddr>,
    foreign: &[Ingress],
    origins: BTreeMap<IpAddr, String>,
    world: &World,
    options: &Options,
) -> Request {
    let no_annotations = BTreeMap::new();
    let annotations = service
        .object
        .metadata
        .annotations
        .as_ref()
        .unwrap_or(&no_annotations);
    // What is no address was reported by the reader of the document.
    let requested = lbipam::requested(spec.load_balancer_ip.as_deref(), annotations);
    let mut families = wished_families(spec, options);
    for address in foreign.iter().filter_map(Ingress::vip) {
        families.remove(&Family::of(address));
    }
    let mut held: Vec<IpAddr> = in_status.collect();
    for address in world.observed.held_vips.get(reference).into_iter().flatten() {
        if !held.contains(address) {
            held.push(*address);
        }
    }
    let mut origins = origins;
    for (address, pool) in world.observed.origins.get(reference).into_iter().flatten() {
        origins.entry(*address).or_insert_with(|| pool.clone());
    }
    let selected = world.objects.lb_pools().filter(|pool| selects(*pool, service));
    let sharing = lbipam::sharing(annotations);
    // Ports and pods only matter to those who share.
    let (ports, selector) = match &sharing {
        None => Default::default(),
        Some(_) => (
            spec.ports.iter().flatten().filter_map(port).collect(),
            spec.selector.clone().unwrap_or_default(),
        ),
    };
    Request {
        id: RequestId {
            namespace: reference.namespace.to_string(),
            name: reference.name.to_string(),
        },
        created: created(&service.object.metadata),
        wish: lbipam::wish(&requested, families),
        pools: selected.map(|pool| pool.name().to_owned()).collect(),
        sharing,
        ports,
        traffic_policy: match spec.external_traffic_policy.as_deref() {
            Some("Local") => TrafficPolicy::Local,
            Some(_) | None => TrafficPolicy::Cluster,
        },
        selector,
        held,
        origins,
    }
}

/// Whether a pool serves this Service.
pub(crate) fn selects(pool: Stored<'_, CiliumLoadBalancerIPPool>, service: Stored<'_, Service>) -> bool {
    let selector = pool.object.spec.service_selector.as_ref();
    selector.is_none_or(|selector| {
        selector.matches_with(|key| match key {
            "io.kubernetes.service.name" => Some(service.name()),
            "io.kubernetes.service.namespace" => Some(service.namespace()),
            key => service.labels().get(key).map(String::as_str),
        })
    })
}

fn wished_families(spec: &ServiceSpec, options: &Options) -> BTreeSet<Family> {
    let policy = match spec.ip_family_policy.as_deref() {
        Some("PreferDualStack") => FamilyPolicy::PreferDualStack,
        Some("RequireDualStack") => FamilyPolicy::RequireDualStack,
        Some(_) | None => FamilyPolicy::SingleStack,
    };
    let listed = spec
        .ip_families
        .iter()
        .flatten()
        .filter_map(|name| match name.as_str() {
            "IPv4" => Some(Family::Ipv4),
            "IPv6" => Some(Family::Ipv6),
            _ => None,
        });
    let listed: Vec<Family> = listed.collect();
    let enabled = match options.families {
        Families::Dual => BTreeSet::from([Family::Ipv4, Family::Ipv6]),
        Families::Ipv4Only => BTreeSet::from([Family::Ipv4]),
        Families::Ipv6Only => BTreeSet::from([Family::Ipv6]),
    };
    lbipam::families(policy, &listed, &enabled)
}

fn port(port: &ServicePort) -> Option<Port> {
    let protocol = match port.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => return None,
    };
    let number = u16::try_from(port.port).ok()?;
    Some(Port { number, protocol })
}

pub(crate) fn pool(pool: Stored<'_, CiliumLoadBalancerIPPool>) -> Pool {
    let spec = &pool.object.spec;
    Pool {
        created: created(&pool.object.metadata),
        first_and_last: match spec.allow_first_last_ips {
            Some(AllowFirstLastIps::No) => FirstAndLast::Reserved,
            Some(AllowFirstLastIps::Yes) | None => FirstAndLast::Usable,
        },
        state: if spec.disabled {
            PoolState::Disabled
        } else {
            PoolState::Enabled
        },
        reserved: spec.reserved.iter().filter_map(block).collect(),
        priority: spec.priority.unwrap_or(0),
        auto_assign: match spec.auto_assign {
            Some(true) | None => AutoAssign::Yes,
            Some(false) => AutoAssign::OnlyNamed,
        },
        removal: match spec.block_removal {
            Some(BlockRemoval::Retain) => Removal::Retain,
            Some(BlockRemoval::Reassign) | None => Removal::Reassign,
        },
        ..Pool::new(pool.name(), spec.blocks.iter().filter_map(block).collect())
    }
}

/// Blocks that can't be read are reported by the reader.
fn block(block: &PoolBlock) -> Option<Block> {
    if let Some(cidr) = block.cidr.as_deref().filter(|cidr| !cidr.is_empty()) {
        return Some(Block::Prefix(text::parse_prefix(cidr)?.prefix));
    }
    let start: IpAddr = block.start.as_deref()?.parse().ok()?;
    let stop = match block.stop.as_deref() {
        Some(stop) if !stop.is_empty() => stop.parse().ok()?,
        Some(_) | None => start,
    };
    Range::new(start, stop).ok().map(Block::Range)
}

pub(crate) fn contains(pools: &[Pool], address: IpAddr) -> bool {
    pools
        .iter()
        .flat_map(|pool| &pool.blocks)
        .any(|block| block.range().contains(address))
}

fn created(metadata: &ObjectMeta) -> Option<i64> {
    let created = metadata.creation_timestamp.as_ref();
    created.map(|time| time.0.as_second())
}

/// The ingress entries of a Service's status.
fn given(service: Stored<'_, Service>) -> Vec<Ingress> {
    entries(service.object).iter().filter_map(ingress).collect()
}

pub(crate) fn entries(service: &Service) -> &[LoadBalancerIngress] {
    let status = service.status.as_ref();
    let ingress = status
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|lb| lb.ingress.as_deref());
    ingress.unwrap_or_default()
}

/// `None`: it says nothing.
pub(crate) fn ingress(entry: &LoadBalancerIngress) -> Option<Ingress> {
    let Some(address) = entry.ip.as_deref().and_then(|ip| ip.parse().ok()) else {
        return entry.hostname.as_ref().map(|_| Ingress::Hostname);
    };
    match entry.ip_mode.as_deref() {
        None | Some("VIP") => Some(Ingress::Vip(address)),
        Some(_) => Some(Ingress::NotVip(address)),
    }
}

/// First and last address of each block of a pool.
pub(crate) fn ranges(pool: &LoadBalancerIpPoolSpec) -> Vec<(IpAddr, IpAddr)> {
    let blocks = pool.blocks.iter().filter_map(block);
    blocks
        .map(|block| (block.range().first(), block.range().last()))
        .collect()
}
