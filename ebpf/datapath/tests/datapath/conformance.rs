//! Cilium's scripts of its load balancer's control plane, read in place: the same objects must come to the same frontends,
//! backends, states, views, flags and Maglev shares. Ids and the layout of maps are another program's own.
//!
//! Cilium has an entry `0.0.0.0` for each node port beside those of the node's addresses; we have the latter only. Where a
//! script names no node address, one of ours stands for it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ebpf_abi::service::{BackendState, Selection, flag};
use ebpf_datapath::diff::{apply, diff};
use ebpf_datapath::services::Kind;
use ebpf_datapath::{ClusterIps, Family, Honour, Protocol, Socket};

use crate::world::World;

fn folder() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let folder = std::env::var_os("STENTOR_CONFORMANCE").map_or(default, PathBuf::from);
    let folder = folder.join("loadbalancer");
    if folder.is_dir() {
        return Some(folder);
    }
    println!(
        "skipped: no scripts at {}; set STENTOR_CONFORMANCE",
        folder.display()
    );
    None
}

#[test]
fn ciliums_scripts_come_to_the_same_frontends_and_backends() {
    let Some(folder) = folder() else { return };
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txtar"))
        .collect();
    scripts.sort();
    for path in scripts {
        let text = std::fs::read_to_string(&path).expect("a script");
        let mut run = Run::new(&path, &text);
        run.all();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        println!(
            "{name}: {} tables and {} map dumps compared",
            run.tables, run.dumps
        );
        assert!(run.tables + run.dumps > 0, "{name}: nothing was compared");
    }
}

struct Run {
    script: String,
    commands: Vec<String>,
    files: BTreeMap<String, String>,
    world: World,
    /// Whether node addresses are the script's.
    told_addresses: BTreeSet<IpAddr>,
    tables: usize,
    dumps: usize,
}

impl Run {
    fn new(path: &Path, text: &str) -> Self {
        let mut commands = Vec::new();
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        let mut file = None;
        let mut world = World::new();
        world.node.name = "testnode".to_owned();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --")) {
                file = Some(name.to_owned());
                files.insert(name.to_owned(), String::new());
            } else if let Some(name) = &file {
                let content = files.get_mut(name).expect("it was put in");
                content.push_str(line);
                content.push('\n');
            } else if let Some(options) = line.strip_prefix("#!") {
                for option in options.split_whitespace() {
                    set(&mut world, option);
                }
            } else if !line.trim().is_empty() && !line.starts_with('#') {
                commands.push(line.trim_start_matches("* ").to_owned());
            }
        }
        Self {
            script: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            commands,
            files,
            world,
            told_addresses: BTreeSet::new(),
            tables: 0,
            dumps: 0,
        }
    }

    fn all(&mut self) {
        for command in std::mem::take(&mut self.commands) {
            let words = words(&command);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words[..] {
                ["k8s/add" | "k8s/update", ..] => {
                    for file in &words[1..] {
                        self.add(file);
                    }
                    self.settle();
                }
                ["k8s/delete", ..] => {
                    for file in &words[1..] {
                        self.delete(file);
                    }
                    self.settle();
                }
                ["db/insert", "node-addresses", ..] => {
                    for file in &words[2..] {
                        self.node_address(file);
                    }
                }
                ["test/set-node-labels", label] => {
                    let (key, value) = label.split_once('=').expect("a label");
                    self.world.node.labels.insert(key.to_owned(), value.to_owned());
                    self.settle();
                }
                ["db/cmp", "frontends", file] => self.frontends(file, &command),
                ["db/empty", ..] if words.contains(&"frontends") => {
                    assert_eq!(self.world.table(), "", "{}: {command}", self.script);
                    self.tables += 1;
                }
                ["lb/maps-empty"] | ["empty", "lbmaps.actual"] => {
                    assert_eq!(self.dump().0, BTreeSet::new(), "{}: {command}", self.script);
                    self.dumps += 1;
                }
                ["cmp", a, b] => {
                    let expected = if a.ends_with(".expected") { a } else { b };
                    self.maps(expected, &command);
                }
                ["!", "grep", word, "lbmaps.actual"] => {
                    let word = word.trim_matches('"');
                    let (lines, _) = self.dump();
                    assert!(!lines.iter().any(|line| line.contains(word)), "{lines:#?}");
                    self.dumps += 1;
                }
                ["replace" | "sed", from, to, file] => {
                    let text = self.files.get_mut(file).expect("a file");
                    *text = text.replace(from, to);
                }
                ["cp", from, to] => {
                    let text = self.files[from].clone();
                    self.files.insert(to.to_owned(), text);
                }
                // Tables of services and backends are about Cilium's inner state; the others only wait or print.
                [
                    "db/cmp" | "db/empty" | "db/show" | "hive" | "lb/maps-dump" | "test/init-wait",
                    ..,
                ] => {}
                _ => panic!("{}: unknown command {command}", self.script),
            }
        }
    }

    fn settle(&mut self) {
        assert_eq!(self.world.settle(), []);
    }

    fn add(&mut self, file: &str) {
        let text = &self.files[file];
        let kind = field(text, "kind");
        if kind == "Pod" {
            let pod: crds::k8s_openapi::api::core::v1::Pod = serde_saphyr::from_str(text).expect("a pod");
            self.world
                .pods
                .retain(|known| known.metadata.name != pod.metadata.name);
            self.world.pods.push(pod);
        } else if kind == "Service" {
            let service: crds::k8s_openapi::api::core::v1::Service =
                serde_saphyr::from_str(text).expect("a service");
            self.world
                .services
                .retain(|known| known.metadata.name != service.metadata.name);
            self.world.services.push(service);
        } else {
            let slice: crds::k8s_openapi::api::discovery::v1::EndpointSlice =
                serde_saphyr::from_str(text).expect("a slice");
            self.world
                .slices
                .retain(|known| known.metadata.name != slice.metadata.name);
            self.world.slices.push(slice);
        }
    }

    fn delete(&mut self, file: &str) {
        let text = &self.files[file];
        let name = Some(
            text.lines()
                .find_map(|line| line.strip_prefix("  name: "))
                .expect("a name")
                .to_owned(),
        );
        match field(text, "kind") {
            "Pod" => self.world.pods.retain(|known| known.metadata.name != name),
            "Service" => self.world.services.retain(|known| known.metadata.name != name),
            _ => self.world.slices.retain(|known| known.metadata.name != name),
        }
    }

    fn node_address(&mut self, file: &str) {
        let address = field(&self.files[file], "addr").parse().expect("an address");
        self.told_addresses.insert(address);
        self.world.node.node_port_addresses = self.told_addresses.clone();
    }

    /// Frontends as Cilium lists them: node addresses stand for `0.0.0.0` and `::`.
    fn frontends(&mut self, file: &str, command: &str) {
        let plan = self.world.plan();
        let mut ours: BTreeMap<(Socket, String, String), BTreeSet<String>> = BTreeMap::new();
        for service in &plan.services {
            for frontend in &service.frontends {
                let mut socket = frontend.socket;
                if matches!(frontend.kind, Kind::NodePort | Kind::HostPort) {
                    socket.address = surrogate(socket.address);
                }
                let set = &service.sets[frontend.outer];
                let all = set.serving.iter().chain(&set.draining).chain(&set.held);
                let key = (socket, frontend.kind.to_string(), service.name.to_string());
                ours.insert(key, all.map(ToString::to_string).collect());
            }
        }
        let rows = rows(&self.files[file]);
        assert_eq!(ours.len(), rows.len(), "{}: {command}: {ours:#?}", self.script);
        for ((socket, kind, service), backends) in &ours {
            let context = format!("{}: {command}: {socket}", self.script);
            let row = rows.iter().find(|row| {
                row.get("Address").map(String::as_str) == Some(socket.to_string().as_str())
                    && row.get("Type").is_none_or(|known| known == kind)
            });
            let row = row.unwrap_or_else(|| panic!("{context} is not expected"));
            if let Some(name) = row.get("ServiceName") {
                assert_eq!(name, service, "{context}");
            }
            let (listed, more) = listed(row.get("Backends").map_or("", String::as_str));
            assert_eq!(backends.len(), listed.len() + more, "{context}: {backends:?}");
            assert!(listed.is_subset(backends), "{context}: {backends:?} {listed:?}");
        }
        self.tables += 1;
    }

    /// Lines of the image in our words, and the shares of each Maglev table by the frontend that uses it.
    fn dump(&self) -> (BTreeSet<String>, BTreeMap<Socket, BTreeMap<String, usize>>) {
        let image = &self.world.image;
        let mut lines = BTreeSet::new();
        let mut shares = BTreeMap::new();
        for family in Family::ALL {
            let backends: Vec<(ebpf_abi::BackendId, u8)> = match family {
                Family::V4 => image.backends4.values().map(|b| (b.id, b.state)).collect(),
                Family::V6 => image.backends6.values().map(|b| (b.id, b.state)).collect(),
            };
            for (id, state) in backends {
                let state = [
                    BackendState::Active,
                    BackendState::Terminating,
                    BackendState::Maintenance,
                ]
                .into_iter()
                .find(|known| known.number() == state);
                if let Some(socket) = image.socket(family, id) {
                    lines.insert(format!(
                        "backend {socket} {}",
                        state_word(state.expect("a state"))
                    ));
                }
            }
        }
        let wildcards4 = image.frontends4.iter().filter(|(key, _)| key.port == 0);
        let wildcards4 = wildcards4.map(|(key, _)| IpAddr::V4(key.address.into()));
        let wildcards6 = image.frontends6.iter().filter(|(key, _)| key.port == 0);
        let wildcards6 = wildcards6.map(|(key, _)| IpAddr::V6(key.address.into()));
        lines.extend(
            wildcards4
                .chain(wildcards6)
                .map(|address| format!("wildcard {address}")),
        );
        for (socket, frontend) in image.frontends() {
            let flags = frontend.flags;
            let kind = [
                (flag::NODE_PORT, "NodePort"),
                (flag::LOAD_BALANCER, "LoadBalancer"),
                (flag::HOST_PORT, "HostPort"),
                (flag::EXTERNAL_IP, "ExternalIPs"),
            ];
            let kind = kind
                .iter()
                .find(|(bit, _)| flags & bit != 0)
                .map_or("ClusterIP", |(_, kind)| kind);
            let mut words = vec![kind];
            words.extend((flags & flag::ROUTABLE == 0).then_some("non-routable"));
            words.extend((frontend.ranges != 0).then_some("check source-range"));
            words.extend((flags & flag::DENY_RANGES != 0).then_some("deny"));
            let words = words.join("+");
            let view = |set: u32| {
                let (serving, draining) = image.members_of(set);
                let names: BTreeSet<String> = serving
                    .iter()
                    .chain(draining)
                    .filter_map(|id| image.socket(socket.family(), *id))
                    .map(|socket| socket.to_string())
                    .collect();
                format!("{}+{} {names:?} {words}", serving.len(), draining.len())
            };
            lines.insert(format!("frontend {socket} {}", view(frontend.set)));
            if frontend.set != frontend.inner_set {
                lines.insert(format!("frontend {socket}/i {}", view(frontend.inner_set)));
            }
            if Selection::from_number(frontend.selection) == Selection::Maglev
                && let Some(table) = image.tables.get(&frontend.set)
            {
                let mut of: BTreeMap<String, usize> = BTreeMap::new();
                for id in image.fill(table) {
                    let backend = image.socket(socket.family(), id).expect("it is alive");
                    *of.entry(backend.to_string()).or_default() += 1;
                }
                shares.insert(socket, of);
            }
        }
        (lines, shares)
    }

    fn maps(&mut self, file: &str, command: &str) {
        let dump = Dump::read(&self.files[file]);
        let expected = dump.lines(&self.told_addresses);
        let (ours, shares) = self.dump();
        assert_eq!(ours, expected, "{}: {command}", self.script);
        for (id, expected) in &dump.tables {
            let socket = dump.sockets[id];
            assert_eq!(
                shares.get(&socket),
                Some(expected),
                "{}: {command}: {socket}",
                self.script
            );
        }
        // A restart in the middle of everything changes nothing.
        let built = self.world.build();
        assert_eq!(diff(&self.world.image, &built.image), vec![]);
        for op in diff(&self.world.image, &built.image) {
            apply(&op, &mut self.world.image);
        }
        self.dumps += 1;
    }
}

/// What a map dump of Cilium says, with its ids resolved.
#[derive(Default)]
struct Dump {
    backends: BTreeMap<String, (String, String)>,
    /// Address with scope to counts, flags, members.
    services: BTreeMap<String, (String, String, String, BTreeSet<String>)>,
    sockets: BTreeMap<String, Socket>,
    tables: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Dump {
    fn read(text: &str) -> Self {
        let mut dump = Self::default();
        for line in text.lines() {
            let at = |key: &str| {
                let from = line.split_once(&format!("{key}=")).map(|(_, rest)| rest);
                from.and_then(|rest| rest.split(' ').next())
                    .unwrap_or_default()
                    .to_owned()
            };
            match line.split(':').next() {
                Some("BE") => {
                    dump.backends.insert(at("ID"), (at("ADDR"), at("STATE")));
                }
                Some("SVC") => {
                    let known = dump.services.entry(at("ADDR")).or_default();
                    if at("SLOT") == "0" {
                        let flags = line.split_once("FLAGS=").map_or("", |(_, flags)| flags);
                        (known.0, known.1, known.2) = (at("COUNT"), at("QCOUNT"), flags.trim().to_owned());
                        if let Some(socket) = socket(&at("ADDR")) {
                            dump.sockets.insert(at("ID"), socket);
                        }
                    } else {
                        known.3.insert(dump.backends[&at("BEID")].0.clone());
                    }
                }
                Some("MAGLEV") => {
                    let inner = line.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
                    let inner = inner.map_or("", |(inner, _)| inner);
                    let mut shares: BTreeMap<String, usize> = BTreeMap::new();
                    for share in inner.split(", ") {
                        let (id, count) = share.trim_end_matches(')').split_once('(').expect("id(count)");
                        let backend = dump.backends[id].0.clone();
                        *shares.entry(backend).or_default() += count.parse::<usize>().expect("a count");
                    }
                    dump.tables.insert(at("ID"), shares);
                }
                _ => {}
            }
        }
        dump
    }

    fn lines(&self, node: &BTreeSet<IpAddr>) -> BTreeSet<String> {
        let mut lines: BTreeSet<String> = self
            .backends
            .values()
            .map(|(address, state)| format!("backend {address} {state}"))
            .collect();
        for (address, (count, draining, flags, members)) in &self.services {
            let scope = if address.ends_with("/i") { "/i" } else { "" };
            if let Some(wildcard) = address.strip_suffix(":0/ANY") {
                lines.insert(format!("wildcard {}", wildcard.trim_matches(['[', ']'])));
                continue;
            }
            let socket = socket(address).expect("a socket");
            if socket.address.is_unspecified() {
                assert!(!node.is_empty(), "a node port needs a node address");
                continue;
            }
            let kept = ["non-routable", "check source-range", "deny"];
            let kinds = ["ClusterIP", "NodePort", "LoadBalancer", "HostPort", "ExternalIPs"];
            let mut words: Vec<&str> = flags.split('+').filter(|word| kinds.contains(word)).collect();
            words.extend(
                kept.iter()
                    .filter(|kept| flags.split('+').any(|word| word == **kept)),
            );
            lines.insert(format!(
                "frontend {socket}{scope} {count}+{draining} {members:?} {}",
                words.join("+")
            ));
        }
        lines
    }
}

fn set(world: &mut World, option: &str) {
    match option {
        "--bpf-lb-algorithm=maglev" | "--node-port-algorithm=maglev" => {
            world.settings.selection = Selection::Maglev
        }
        "--bpf-lb-external-clusterip" | "--bpf-lb-external-clusterip=true" => {
            world.settings.cluster_ips = ClusterIps::Outside
        }
        "--enable-service-topology" => world.settings.topology = Honour::Yes,
        _ if option.starts_with("--lb-test-fault-probability") => {}
        other => panic!("unknown option {other}"),
    }
    // What their tests use.
    world.settings.maglev_size = 1021;
}

fn state_word(state: BackendState) -> &'static str {
    match state {
        BackendState::Active => "active",
        BackendState::Terminating => "terminating",
        BackendState::Quarantined => "quarantined",
        BackendState::Maintenance => "maintenance",
    }
}

fn surrogate(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => "0.0.0.0".parse().expect("an address"),
        IpAddr::V6(_) => "::".parse().expect("an address"),
    }
}

/// `10.0.0.1:80/TCP`, `[2001:db8::1]:80/TCP`, either with `/i` after it.
fn socket(text: &str) -> Option<Socket> {
    let mut parts = text.split('/');
    let (address, port) = parts.next()?.rsplit_once(':')?;
    let protocol = match parts.next()? {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        _ => return None,
    };
    let address = address.trim_matches(['[', ']']).parse().ok()?;
    Some(Socket::new(address, port.parse().ok()?, protocol))
}

/// The value of a field at the top.
fn field<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.map_or("", str::trim)
}

/// At spaces, but for those in quotes.
fn words(command: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in command.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("one at least").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A table with aligned columns: cells begin where their heads do.
fn rows(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let head = lines.next().unwrap_or_default();
    let mut columns: Vec<(usize, String)> = Vec::new();
    let mut before = ' ';
    for (at, c) in head.char_indices() {
        if c != ' ' && before == ' ' {
            columns.push((at, String::new()));
        }
        if c != ' ' {
            columns.last_mut().expect("it was pushed").1.push(c);
        }
        before = c;
    }
    lines
        .map(|line| {
            let mut row = BTreeMap::new();
            for (column, (start, name)) in columns.iter().enumerate() {
                let end = columns.get(column + 1).map_or(line.len(), |(end, _)| *end);
                let cell = line.get(*start..end.min(line.len())).unwrap_or_default();
                row.insert(name.clone(), cell.trim().to_owned());
            }
            row
        })
        .collect()
}

/// `a, b + 4 more ...`
fn listed(cell: &str) -> (BTreeSet<String>, usize) {
    let (list, more) = cell.split_once(" + ").unwrap_or((cell, ""));
    let more = more
        .split(' ')
        .next()
        .and_then(|more| more.parse().ok())
        .unwrap_or(0);
    let list = list.split(", ").filter(|one| !one.is_empty());
    (list.map(str::to_owned).collect(), more)
}
