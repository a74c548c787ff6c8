//! What the maps of this node hold, and what is called how.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use ebpf_abi::BackendId;
use ebpf_abi::model::Model;
use ebpf_abi::service::{Backend, Frontend};
use ebpf_abi::{V4, V6};
use ebpf_datapath::{Protocol, Socket};
use ebpf_loader::tables::{self, Pins};
use ebpf_loader::{Error, Pinned};

use super::super::args::SocketArg;
use super::super::client::{self, Endpoint};
use super::args::{Filter, Maps};
use crate::api::view::Vip;

/// In the BPF file system; another agent has another one.
const FOLDER: &str = "stentor";

/// The pins of this node.
///
/// # Errors
/// [`Error`]
pub fn pinned(maps: &Maps) -> Result<Pinned, Error> {
    Pinned::open(&maps.bpf_root.join(FOLDER))
}

/// Both families, as they were at one time.
#[derive(Debug, Default)]
pub struct Look {
    pub v4: Model<V4>,
    pub v6: Model<V6>,
    pub names: Names,
    /// Seconds of the clock of flows.
    pub now: u32,
}

impl Look {
    /// # Errors
    /// [`Error`]
    pub fn read(pinned: &Pinned, at: &SocketArg) -> Result<Self, Error> {
        let (v4, v6) = (tables::read::<V4>(pinned)?, tables::read::<V6>(pinned)?);
        let names = Names::of(&addresses(&at.socket), &v4, &v6);
        Ok(Self {
            v4,
            v6,
            names,
            now: u32::try_from(ebpf_loader::now().as_secs()).unwrap_or(u32::MAX),
        })
    }
}

/// The names of Services, by the number that their frontends share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    by_number: BTreeMap<u32, BTreeSet<String>>,
}

impl Names {
    /// Whoever has one of its addresses gives a service its name.
    #[must_use]
    pub fn of(addresses: &BTreeMap<IpAddr, BTreeSet<String>>, v4: &Model<V4>, v6: &Model<V6>) -> Self {
        let mut found: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        let mut take = |service: u32, address: IpAddr| {
            if let Some(names) = addresses.get(&address).filter(|_| service != 0) {
                let entry = found.entry(service).or_insert_with(|| names.clone());
                // Several Services may share an address; the one that has all addresses of this number is meant.
                let both: BTreeSet<String> = entry.intersection(names).cloned().collect();
                if !both.is_empty() {
                    *entry = both;
                }
            }
        };
        for (key, frontend) in &v4.frontends {
            take(frontend.service, key.address.ip());
        }
        for (key, frontend) in &v6.frontends {
            take(frontend.service, key.address.ip());
        }
        Self { by_number: found }
    }

    /// What a service is called; `None` if nobody said.
    #[must_use]
    pub fn get(&self, service: u32) -> Option<String> {
        let names = self.by_number.get(&service)?;
        Some(names.iter().cloned().collect::<Vec<_>>().join(" or "))
    }
}

/// Which Services have an address, if an agent runs and says so.
fn addresses(socket: &Path) -> BTreeMap<IpAddr, BTreeSet<String>> {
    let endpoint = Endpoint::Unix(socket.to_owned());
    let asked =
        client::get(&endpoint, "/v1/stentor/vips").and_then(|answer| answer.json::<Vec<Vip>>(&endpoint));
    let mut found: BTreeMap<IpAddr, BTreeSet<String>> = BTreeMap::new();
    for vip in asked.unwrap_or_default() {
        if let Some(address) = vip.address.and_then(|text| text.parse().ok()) {
            found.entry(address).or_default().insert(vip.service);
        }
    }
    found
}

impl Filter {
    /// Whether a frontend is meant, as far as its service and its address say.
    #[must_use]
    pub fn has(&self, names: &Names, frontend: &Frontend, address: IpAddr, port: u16) -> bool {
        self.has_service(names, frontend.service) && self.vip.is_none_or(|vip| vip.is(address, port))
    }

    #[must_use]
    pub fn has_service(&self, names: &Names, service: u32) -> bool {
        let Some(wanted) = &self.service else { return true };
        let is_name = |name: &String| name == wanted || name.rsplit('/').next() == Some(wanted);
        wanted.parse() == Ok(service)
            || names
                .by_number
                .get(&service)
                .is_some_and(|names| names.iter().any(is_name))
    }

    #[must_use]
    pub fn has_backend<A: Pins>(&self, backend: Option<&Backend<A>>) -> bool {
        let Some(wanted) = self.backend else { return true };
        backend.is_some_and(|backend| wanted.is(backend.address.ip(), u16::from_be(backend.port)))
    }
}

/// An end as people write it.
#[must_use]
pub fn socket(address: IpAddr, port: u16, protocol: u8) -> String {
    match Protocol::from_number(protocol) {
        Some(protocol) => Socket::new(address, port, protocol).to_string(),
        None => format!("{address}, protocol {protocol}"),
    }
}

/// Where a backend is.
#[must_use]
pub fn place<A: Pins>(model: &Model<A>, id: BackendId) -> String {
    match model.backends.get(&id.index()).filter(|backend| backend.id == id) {
        Some(backend) => socket(backend.address.ip(), u16::from_be(backend.port), backend.protocol),
        None => "gone".to_owned(),
    }
}
