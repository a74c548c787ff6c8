//! LoadBalancer addresses: what the pools give, and what is given from elsewhere.
//!
//! Ingress addresses in a Service's status that no pool contains were given by somebody else (a cloud, a person)
//! and stand as they are. The pools serve what a Service still lacks. Addresses a Service holds (in its status, or
//! by the state folder) stay with it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crds::k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServicePort, ServiceSpec};
use crds::lb_ip_pool::{
    AllowFirstLastIps, BlockRemoval, CiliumLoadBalancerIPPool, LoadBalancerIpPoolSpec, PoolBlock,
};
use crds::{Kind, Object, ObjectRef, Parsed, text};
use lbipam::{
    AutoAssign, Block, Family, FamilyPolicy, FirstAndLast, Pool, PoolState, Port, Protocol, Range, Removal,
    Request, RequestId, TrafficPolicy,
};

use super::desired::LbIpamReport;
use super::frontends::{BGP_CLASS, L2_CLASS};
use super::options::{Families, LbIpam, Options};
use crate::source::Allotter;
use crate::world::{ServiceRef, Stored, World};

/// The answer for every LoadBalancer Service.
#[derive(Debug, Default)]
pub(crate) struct Vips {
    /// In the order of Services.
    answers: Vec<(ServiceRef, Answer)>,
    pub(crate) report: LbIpamReport,
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

impl Vips {
    /// Each LoadBalancer Service with its answer, by namespace and name.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &(ServiceRef, Answer)> {
        self.answers.iter()
    }

    /// What every Service holds, and what one that lacks an address held before: when its pool comes back, so does
    /// its address, unless somebody else has it by then.
    pub(crate) fn held(&self, before: &Arc<Holdings>) -> Arc<Holdings> {
        let given: OnceCell<BTreeSet<IpAddr>> = OnceCell::new();
        let is_given = |address: &IpAddr| {
            let all = || {
                self.answers
                    .iter()
                    .flat_map(|(_, answer)| answer.vips())
                    .collect()
            };
            given.get_or_init(all).contains(address)
        };
        let mut earlier = before.iter().peekable();
        let held = self.answers.iter().map(|(service, answer)| {
            let mut vips: Vec<IpAddr> = answer.vips().collect();
            while earlier.next_if(|(other, _)| *other < service).is_some() {}
            let had = earlier.next_if(|(other, _)| *other == service);
            for address in had.into_iter().flat_map(|(_, had)| had) {
                let has_family = vips.iter().any(|vip| vip.is_ipv4() == address.is_ipv4());
                if !has_family && !is_given(address) {
                    vips.push(*address);
                }
            }
            (service.clone(), vips)
        });
        let held: Holdings = held.filter(|(_, vips)| !vips.is_empty()).collect();
        if held == **before {
            Arc::clone(before)
        } else {
            Arc::new(held)
        }
    }
}

/// Addresses by Service.
type Holdings = BTreeMap<ServiceRef, Vec<IpAddr>>;

/// An answer about a Service of which nothing is known.
pub(crate) static NOTHING: Answer = Answer {
    ingress: Vec::new(),
    lacking: None,
};

impl Answer {
    fn vips(&self) -> impl Iterator<Item = IpAddr> {
        self.ingress.iter().filter_map(Ingress::vip)
    }
}

/// The addresses of every LoadBalancer Service.
pub(crate) fn vips(world: &World, options: &Options) -> Vips {
    let pools: Vec<Pool> = world.objects.lb_pools().map(pool).collect();
    let mut answers: Vec<(ServiceRef, Answer)> = Vec::new();
    let mut requests = Vec::new();
    // Positions in `answers`.
    let mut asking = Vec::new();
    for service in world.objects.services() {
        let Some(spec) = service.object.spec.as_ref() else {
            continue;
        };
        if spec.type_.as_deref() != Some("LoadBalancer") {
            continue;
        }
        let reference = service_ref(service, answers.last().map(|(last, _)| last));
        let mut ingress = given(service);
        // Without any pool nobody hands out addresses, so nobody takes one away either.
        let is_asking = match world.allotter {
            Allotter::Agents => !pools.is_empty() && is_ours(spec.load_balancer_class.as_deref(), options),
            // What it gave stands in the status.
            Allotter::Operator => false,
        };
        if is_asking {
            let in_a_pool = |ingress: &Ingress| match ingress {
                Ingress::Vip(address) => contains(&pools, *address),
                Ingress::NotVip(_) | Ingress::Hostname => false,
            };
            let (from_pools, foreign): (Vec<_>, Vec<_>) = ingress.into_iter().partition(in_a_pool);
            let held = from_pools.iter().filter_map(Ingress::vip);
            // Addresses outside of every pool are somebody else's here, so there is nothing to retain.
            let origins = BTreeMap::new();
            let asked = request(service, spec, &reference, held, &foreign, origins, world, options);
            requests.push(asked);
            asking.push(answers.len());
            ingress = foreign;
        }
        let lacking = None;
        answers.push((reference, Answer { ingress, lacking }));
    }
    let plan = lbipam::plan(&pools, &requests);
    let report = LbIpamReport {
        matching: plan.decisions.len(),
        unsatisfied: plan.decisions.values().filter(|d| !d.is_satisfied()).count(),
        pools: plan.pools,
    };
    let mut decisions = plan.decisions;
    for (at, request) in asking.into_iter().zip(&requests) {
        let (Some(decision), Some((_, answer))) = (decisions.remove(&request.id), answers.get_mut(at)) else {
            continue;
        };
        answer.lacking = (!decision.is_satisfied()).then(|| decision.message());
        let given = decision.addresses.iter().map(|given| Ingress::Vip(given.address));
        answer.ingress.extend(given);
    }
    for (reference, answer) in &mut answers {
        if answer.ingress.is_empty() && answer.lacking.is_none() {
            answer.lacking = Some(nobody(world, reference, options, &pools));
        }
    }
    Vips { answers, report }
}

/// The name of a Service. Neighbours mostly are of one namespace, and share its text.
pub(crate) fn service_ref(service: Stored<'_, Service>, neighbour: Option<&ServiceRef>) -> ServiceRef {
    let namespace = neighbour
        .map(|neighbour| &neighbour.namespace)
        .filter(|namespace| ***namespace == *service.namespace());
    ServiceRef {
        namespace: namespace.map_or_else(|| service.namespace().into(), Arc::clone),
        name: service.name().into(),
    }
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
    let key = ObjectRef::namespaced(Kind::Service, &*reference.namespace, &*reference.name);
    let class = world.objects.get(&key).and_then(|parsed| match &parsed.object {
        Object::Service(service) => service.spec.as_ref()?.load_balancer_class.clone(),
        _ => None,
    });
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
        created: created(service.parsed),
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
        created: created(pool.parsed),
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

fn created(parsed: &Parsed) -> Option<i64> {
    let created = parsed.object.metadata().creation_timestamp.as_ref();
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
