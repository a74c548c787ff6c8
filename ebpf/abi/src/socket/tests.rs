use super::*;
use crate::V4;
use crate::config::{Affinity, AffinityKey, Member, RangeKey};
use crate::id::{BackendId, FrontendId};
use crate::model::Model;
use crate::packet::{TCP, UDP};
use crate::service::{BackendState, Set, backend_flag};

const NOW: u32 = 1_000_000;
const HOST: u64 = 1;
const POD: u64 = 2;
const SET: u32 = 3;

fn v4(octets: [u8; 4]) -> V4 {
    V4(u32::from_ne_bytes(octets))
}

fn vip() -> V4 {
    v4([192, 0, 2, 1])
}

/// This node's own address.
fn here() -> V4 {
    v4([172, 16, 0, 1])
}

fn backend(n: u8) -> V4 {
    v4([10, 0, 0, n])
}

fn backend_id(n: u8) -> BackendId {
    BackendId::new(n.into(), 1).expect("it fits")
}

/// A node with a VIP on port 80 (TCP and UDP) and this many backends, 10.0.0.n:8080.
fn node(backends: u8) -> Model<V4> {
    let mut model = Model {
        config: Config {
            maglev_size: 251,
            settings: setting::ENABLED,
            ..Config::default()
        },
        sockets: Sockets {
            host: HOST,
            node4: here(),
            first_port: 30_000,
            last_port: 32_767,
            ..Sockets::default()
        },
        now: NOW,
        ..Model::default()
    };
    for n in 1..=backends {
        let backend = Backend {
            id: backend_id(n),
            address: backend(n),
            port: 8080_u16.to_be(),
            flags: backend_flag::LOCAL,
            ..Backend::default()
        };
        model.backends.insert(n.into(), backend);
        model.slots.insert(99 + u32::from(n), backend.id);
        let member = Member {
            set: SET,
            backend: backend.id,
        };
        model.members.insert(member, 1);
    }
    let count = u16::from(backends);
    model.sets.insert(SET, Set::new(100, count, count));
    for (index, protocol) in [(5, TCP), (6, UDP)] {
        add(
            &mut model,
            index,
            vip(),
            80,
            protocol,
            flag::ROUTABLE | flag::LOAD_BALANCER,
        );
    }
    model
}

fn add(model: &mut Model<V4>, index: u32, address: V4, port: u16, protocol: u8, flags: u16) {
    let id = FrontendId::new(index, 1).expect("it fits");
    model.watch(&address);
    model.live_frontends.insert(index, id);
    let frontend = Frontend {
        id,
        set: 77,
        inner_set: SET,
        service: 9,
        flags,
        selection: Selection::Random.number(),
        ..Frontend::default()
    };
    model
        .frontends
        .insert(FrontendKey::new(address, port.to_be(), protocol), frontend);
}

fn edit(model: &mut Model<V4>, change: impl Fn(&mut Frontend)) {
    model.frontends.values_mut().for_each(change);
}

/// A socket as plain values.
#[derive(Clone, Debug)]
struct Plain {
    cookie: u64,
    namespace: u64,
    bound: (V4, u16),
    peer: Option<Peer>,
    full: bool,
}

fn socket(cookie: u64, namespace: u64) -> Plain {
    Plain {
        cookie,
        namespace,
        bound: (V4(0), 0),
        peer: None,
        full: false,
    }
}

impl Socket<V4> for Plain {
    fn cookie(&self) -> u64 {
        self.cookie
    }
    fn namespace(&self) -> u64 {
        self.namespace
    }
    fn bound(&self) -> (V4, u16) {
        self.bound
    }
    fn peer(&self) -> Option<Peer> {
        self.peer
    }
    fn set_peer(&mut self, peer: &Peer) -> Option<()> {
        if self.full {
            return None;
        }
        self.peer = Some(*peer);
        Some(())
    }
    fn forget_peer(&mut self) {
        self.peer = None;
    }
}

fn asked(address: V4, port: u16, protocol: u8, bond: Bond) -> Asked<V4> {
    Asked {
        address,
        port: port.to_be(),
        protocol,
        bond,
    }
}

fn connect_to(address: V4, port: u16, socket: &mut Plain, model: &mut Model<V4>) -> Answer<V4> {
    forward(&asked(address, port, TCP, Bond::Connection), socket, model)
}

fn send_to(address: V4, port: u16, socket: &mut Plain, model: &mut Model<V4>) -> Answer<V4> {
    forward(&asked(address, port, UDP, Bond::Datagram), socket, model)
}

fn to(n: u8) -> Answer<V4> {
    Answer::To(backend(n), 8080_u16.to_be())
}

#[test]
fn a_connection_goes_to_a_backend_and_its_peer_is_shown_as_the_vip() {
    let (mut model, mut socket) = (node(1), socket(7, POD));
    assert_eq!(connect_to(vip(), 80, &mut socket, &mut model), to(1));
    let real = (backend(1).wide(), 8080_u16.to_be());
    for memory in [Memory::Connection, Memory::All] {
        let shown = reverse::<V4, _, _>(real.0, real.1, memory, &socket, &model);
        assert_eq!(shown, Some((vip().wide(), 80_u16.to_be())));
    }
    let other = reverse::<V4, _, _>(real.0, 1, Memory::All, &socket, &model);
    assert_eq!(other, None, "another port of the backend is itself");
    assert!(model.datagrams.is_empty());
}

#[test]
fn an_address_of_no_service_stays_and_what_was_promised_is_forgotten() {
    let (mut model, mut socket) = (node(1), socket(7, POD));
    connect_to(vip(), 80, &mut socket, &mut model);
    let direct = connect_to(backend(1), 8080, &mut socket, &mut model);
    assert_eq!(direct, Answer::Untouched(Untouched::NoService));
    let real = (backend(1).wide(), 8080_u16.to_be());
    assert_eq!(
        reverse::<V4, _, _>(real.0, real.1, Memory::All, &socket, &model),
        None
    );
    let unknown = connect_to(vip(), 81, &mut socket, &mut model);
    assert_eq!(
        unknown,
        Answer::Untouched(Untouched::NoService),
        "packets find the wildcard"
    );
}

#[test]
fn before_the_settings_are_written_nothing_is_touched() {
    let (mut model, mut socket) = (node(1), socket(7, POD));
    model.config = Config::default();
    let answer = connect_to(vip(), 80, &mut socket, &mut model);
    assert_eq!(answer, Answer::Untouched(Untouched::Disabled));
}

#[test]
fn sockets_use_the_inner_set() {
    let (mut model, mut socket) = (node(2), socket(7, POD));
    model.sets.insert(SET, Set::new(101, 1, 1));
    assert_eq!(connect_to(vip(), 80, &mut socket, &mut model), to(2));
}

#[test]
fn without_backend_the_program_hears_it_unless_packets_shall_pass() {
    let (mut model, mut socket) = (node(0), socket(7, POD));
    let refused = Answer::Refused(Refusal::NoBackend);
    assert_eq!(connect_to(vip(), 80, &mut socket, &mut model), refused);
    model.config.settings |= setting::PASS_NO_BACKEND;
    let passed = Answer::Untouched(Untouched::NoBackend);
    assert_eq!(connect_to(vip(), 80, &mut socket, &mut model), passed);
    edit(&mut model, |frontend| frontend.flags |= flag::LOCAL_ONLY);
    assert_eq!(connect_to(vip(), 80, &mut socket, &mut model), refused);
}

#[test]
fn a_place_without_backend_is_stepped_over() {
    let (mut model, mut socket) = (node(2), socket(7, POD));
    model.backends.remove(&1);
    for _ in 0..4 {
        assert_eq!(connect_to(vip(), 80, &mut socket, &mut model), to(2));
    }
}

#[test]
fn a_backend_port_of_zero_keeps_the_port() {
    let (mut model, mut socket) = (node(1), socket(7, POD));
    model.backends.get_mut(&1).expect("it is there").port = 0;
    let answer = connect_to(vip(), 80, &mut socket, &mut model);
    assert_eq!(answer, Answer::To(backend(1), 80_u16.to_be()));
}

#[test]
fn a_socket_without_connection_stays_with_its_backend_and_leaves_nothing() {
    let (mut model, mut socket) = (node(2), socket(7, POD));
    let first = send_to(vip(), 80, &mut socket, &mut model);
    for _ in 0..4 {
        assert_eq!(send_to(vip(), 80, &mut socket, &mut model), first);
    }
    let Answer::To(address, port) = first else {
        panic!("{first:?}")
    };
    let shown = reverse::<V4, _, _>(address.wide(), port, Memory::All, &socket, &model);
    assert_eq!(shown, Some((vip().wide(), 80_u16.to_be())));
    let of_connection = reverse::<V4, _, _>(address.wide(), port, Memory::Connection, &socket, &model);
    assert_eq!(of_connection, None, "it has no connection");
    assert_eq!(model.datagrams.len(), 2);
    release(&socket, &mut model);
    assert!(model.datagrams.is_empty());
}

#[test]
fn a_socket_of_datagrams_keeps_a_leaving_backend_and_leaves_one_that_went() {
    let (mut model, mut socket) = (node(1), socket(7, POD));
    assert_eq!(send_to(vip(), 80, &mut socket, &mut model), to(1));
    let gone = model.backends.get_mut(&1).expect("it is there");
    gone.state = BackendState::Terminating.number();
    let mut other = *gone;
    other.id = backend_id(2);
    other.address = backend(2);
    other.state = BackendState::Active.number();
    model.backends.insert(2, other);
    model.slots.insert(100, other.id);
    assert_eq!(send_to(vip(), 80, &mut socket, &mut model), to(1));
    model.backends.get_mut(&1).expect("it is there").id = backend_id(1).tombstone();
    assert_eq!(send_to(vip(), 80, &mut socket, &mut model), to(2));
}

#[test]
fn several_vips_of_one_socket_are_kept_apart() {
    let (mut model, mut socket) = (node(1), socket(7, POD));
    let second = v4([192, 0, 2, 2]);
    add(&mut model, 8, second, 53, UDP, flag::LOAD_BALANCER);
    let mut other = *model.backends.get(&1).expect("it is there");
    other.id = backend_id(9);
    other.address = backend(9);
    model.backends.insert(9, other);
    model.slots.insert(300, other.id);
    model.sets.insert(8, Set::new(300, 1, 1));
    let key = FrontendKey::new(second, 53_u16.to_be(), UDP);
    model.frontends.get_mut(&key).expect("it is there").inner_set = 8;
    assert_eq!(send_to(vip(), 80, &mut socket, &mut model), to(1));
    assert_eq!(send_to(second, 53, &mut socket, &mut model), to(9));
    let port = 8080_u16.to_be();
    let first = reverse::<V4, _, _>(backend(1).wide(), port, Memory::All, &socket, &model);
    assert_eq!(first, Some((vip().wide(), 80_u16.to_be())));
    let last = reverse::<V4, _, _>(backend(9).wide(), port, Memory::All, &socket, &model);
    assert_eq!(last, Some((second.wide(), 53_u16.to_be())));
}

#[test]
fn a_datagram_from_a_connected_socket_leaves_the_connection_alone() {
    let (mut model, mut socket) = (node(1), socket(7, POD));
    let connection = asked(vip(), 80, UDP, Bond::Connection);
    assert_eq!(forward(&connection, &mut socket, &mut model), to(1));
    let before = socket.peer;
    send_to(vip(), 80, &mut socket, &mut model);
    assert_eq!(socket.peer, before);
}

#[test]
fn without_memory_a_program_is_refused_rather_than_answered_by_a_stranger() {
    let (mut model, mut socket) = (node(1), socket(7, POD));
    socket.full = true;
    let refused = Answer::Refused(Refusal::NoMemory);
    assert_eq!(connect_to(vip(), 80, &mut socket, &mut model), refused);
    assert_eq!(send_to(vip(), 80, &mut socket, &mut model), refused);
}

#[test]
fn affinity_is_one_for_sockets_and_packets() {
    let (mut model, mut socket) = (node(4), socket(7, POD));
    edit(&mut model, |frontend| frontend.affinity = 100);
    let client = v4([10, 1, 0, 5]);
    let namespace = Namespace {
        v4: client,
        ..Namespace::default()
    };
    model.namespaces.insert(POD, namespace);
    // As a packet of this client has left it.
    let key = AffinityKey { client, service: 9 };
    let affinity = Affinity {
        backend: backend_id(3),
        used: NOW - 50,
    };
    model.affinities.insert(key, affinity);
    assert_eq!(connect_to(vip(), 80, &mut socket, &mut model), to(3));
    assert_eq!(model.affinities.get(&key).expect("it stays").used, NOW);
    let mut bound = Plain {
        cookie: 8,
        namespace: HOST,
        bound: (client, 0),
        ..socket
    };
    assert_eq!(
        connect_to(vip(), 80, &mut bound, &mut model),
        to(3),
        "bound to the same"
    );
}

#[test]
fn affinity_of_an_unknown_namespace_is_its_own() {
    let mut model = node(4);
    edit(&mut model, |frontend| frontend.affinity = 100);
    let first = connect_to(vip(), 80, &mut socket(7, POD), &mut model);
    for cookie in 8..20 {
        assert_eq!(connect_to(vip(), 80, &mut socket(cookie, POD), &mut model), first);
    }
    connect_to(vip(), 80, &mut socket(20, 99), &mut model);
    assert_eq!(model.affinities.len(), 2, "another namespace has another one");
}

#[test]
fn source_ranges_hold_inside_the_cluster_too() {
    let (mut model, mut socket) = (node(1), socket(7, POD));
    edit(&mut model, |frontend| frontend.ranges = 4);
    let unknown = Answer::Untouched(Untouched::SourceUnknown);
    assert_eq!(connect_to(vip(), 80, &mut socket, &mut model), unknown);
    let namespace = Namespace {
        v4: v4([10, 1, 0, 5]),
        ..Namespace::default()
    };
    model.namespaces.insert(POD, namespace);
    let refused = Answer::Refused(Refusal::SourceRange);
    assert_eq!(connect_to(vip(), 80, &mut socket, &mut model), refused);
    let range = RangeKey {
        bits: 32 + 16,
        list: 4,
        address: v4([10, 1, 0, 0]),
    };
    model.ranges.insert(range, 1);
    assert_eq!(connect_to(vip(), 80, &mut socket, &mut model), to(1));
    edit(&mut model, |frontend| frontend.flags |= flag::DENY_RANGES);
    assert_eq!(connect_to(vip(), 80, &mut socket, &mut model), refused);
}

#[test]
fn maglev_chooses_as_the_table_says_and_spreads_sockets() {
    let mut model = node(2);
    edit(&mut model, |frontend| {
        frontend.selection = Selection::Maglev.number();
    });
    model.maglev.insert(SET, vec![backend_id(2); 251]);
    assert_eq!(connect_to(vip(), 80, &mut socket(7, POD), &mut model), to(2));
    let halves = (0..251).map(|place| backend_id(if place < 125 { 1 } else { 2 }));
    model.maglev.insert(SET, halves.collect());
    let ones = (0..200)
        .filter(|cookie| connect_to(vip(), 80, &mut socket(*cookie, POD), &mut model) == to(1))
        .count();
    assert!((60..140).contains(&ones), "{ones} of 200");
}

#[test]
fn node_ports_answer_at_every_address_of_every_node() {
    let mut model = node(1);
    add(
        &mut model,
        9,
        here(),
        30_080,
        TCP,
        flag::NODE_PORT | flag::ROUTABLE,
    );
    let (mine, others) = (v4([172, 17, 0, 1]), v4([172, 16, 0, 2]));
    model.node_addresses.insert(mine.wide(), owner::THIS_NODE);
    model.node_addresses.insert(others.wide(), owner::OTHER_NODE);
    for address in [here(), mine, others] {
        for namespace in [HOST, POD] {
            let answer = connect_to(address, 30_080, &mut socket(7, namespace), &mut model);
            assert_eq!(answer, to(1), "{address:?}");
        }
    }
    let loopback = v4([127, 0, 0, 1]);
    assert_eq!(
        connect_to(loopback, 30_080, &mut socket(7, HOST), &mut model),
        to(1)
    );
    let untouched = Answer::Untouched(Untouched::NoService);
    let in_pod = connect_to(loopback, 30_080, &mut socket(7, POD), &mut model);
    assert_eq!(in_pod, untouched, "a pod's loopback is its own");
    let stranger = v4([203, 0, 113, 1]);
    assert_eq!(
        connect_to(stranger, 30_080, &mut socket(7, POD), &mut model),
        untouched
    );
    assert_eq!(
        connect_to(others, 30_081, &mut socket(7, POD), &mut model),
        untouched
    );
}

#[test]
fn a_node_port_that_only_local_backends_serve_is_that_of_the_node_that_was_named() {
    let mut model = node(1);
    let flags = flag::NODE_PORT | flag::ROUTABLE | flag::LOCAL_ONLY;
    add(&mut model, 9, here(), 30_080, TCP, flags);
    let (mine, others) = (v4([172, 17, 0, 1]), v4([172, 16, 0, 2]));
    model.node_addresses.insert(mine.wide(), owner::THIS_NODE);
    model.node_addresses.insert(others.wide(), owner::OTHER_NODE);
    for namespace in [HOST, POD] {
        let mut connect = |address| connect_to(address, 30_080, &mut socket(7, namespace), &mut model);
        assert_eq!(connect(mine), to(1));
        assert_eq!(connect(others), Answer::Untouched(Untouched::NoService));
    }
}

#[test]
fn a_host_port_on_loopback_is_for_the_host() {
    let mut model = node(1);
    let loopback = v4([127, 0, 0, 1]);
    add(
        &mut model,
        9,
        loopback,
        8081,
        TCP,
        flag::HOST_PORT | flag::LOOPBACK,
    );
    add(
        &mut model,
        10,
        here(),
        8082,
        TCP,
        flag::HOST_PORT | flag::ROUTABLE,
    );
    assert_eq!(
        connect_to(loopback, 8081, &mut socket(7, HOST), &mut model),
        to(1)
    );
    assert_eq!(
        connect_to(loopback, 8082, &mut socket(7, HOST), &mut model),
        to(1)
    );
    let untouched = Answer::Untouched(Untouched::NoService);
    for port in [8081, 8082] {
        assert_eq!(
            connect_to(loopback, port, &mut socket(7, POD), &mut model),
            untouched
        );
    }
}

#[test]
fn an_external_ip_can_be_left_to_its_owner() {
    let mut model = node(1);
    let external = v4([203, 0, 113, 9]);
    add(
        &mut model,
        9,
        external,
        80,
        TCP,
        flag::EXTERNAL_IP | flag::ROUTABLE,
    );
    assert_eq!(connect_to(external, 80, &mut socket(7, POD), &mut model), to(1));
    model.sockets.choices = choice::EXTERNAL_IPS_OUTSIDE;
    let untouched = Answer::Untouched(Untouched::ExternalIp);
    assert_eq!(
        connect_to(external, 80, &mut socket(7, POD), &mut model),
        untouched
    );
    model.node_addresses.insert(external.wide(), owner::THIS_NODE);
    assert_eq!(connect_to(external, 80, &mut socket(7, POD), &mut model), to(1));
}

#[test]
fn pods_can_be_left_alone() {
    let mut model = node(1);
    model.sockets.choices = choice::HOST_ONLY;
    let untouched = Answer::Untouched(Untouched::NotHost);
    assert_eq!(connect_to(vip(), 80, &mut socket(7, POD), &mut model), untouched);
    assert_eq!(connect_to(vip(), 80, &mut socket(7, HOST), &mut model), to(1));
}

#[test]
fn a_delegated_service_is_left_to_its_proxy() {
    let mut model = node(1);
    edit(&mut model, |frontend| frontend.flags |= flag::DELEGATE);
    let untouched = Answer::Untouched(Untouched::Delegated);
    assert_eq!(connect_to(vip(), 80, &mut socket(7, POD), &mut model), untouched);
}

#[test]
fn the_host_may_not_bind_what_is_a_frontends() {
    let mut model = node(1);
    add(
        &mut model,
        9,
        here(),
        30_080,
        TCP,
        flag::NODE_PORT | flag::ROUTABLE,
    );
    let bind = |address: V4, port: u16, namespace, model: &Model<V4>| {
        may_bind(address, port.to_be(), TCP, namespace, model)
    };
    assert_eq!(bind(here(), 30_080, HOST, &model), Ok(()), "not asked to");
    model.sockets.choices = choice::PROTECT_PORTS;
    for address in [here(), V4(0), v4([127, 0, 0, 1])] {
        assert_eq!(bind(address, 30_080, HOST, &model), Err(Refusal::PortInUse));
        assert_eq!(
            bind(address, 30_080, POD, &model),
            Ok(()),
            "a pod's ports are its own"
        );
        assert_eq!(bind(address, 30_081, HOST, &model), Ok(()));
    }
    assert_eq!(bind(vip(), 80, HOST, &model), Err(Refusal::PortInUse));
    assert_eq!(bind(V4(0), 80, HOST, &model), Ok(()), "only at the VIP");
}

#[test]
fn an_address_survives_the_way_through_its_wide_form() {
    let address = v4([10, 1, 2, 3]);
    assert_eq!(V4::narrow(address.wide()), address);
    assert_eq!(mapped(address.wide()), Some(address));
    assert_eq!(mapped(V6([0, 0, 0, 1])), None);
    assert!(V6::from(std::net::Ipv6Addr::LOCALHOST).is_loopback());
}

#[test]
fn every_refusal_has_an_error_of_its_own() {
    let mut numbers: Vec<i32> = Refusal::ALL.map(Refusal::errno).into();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), Refusal::ALL.len());
}

#[test]
fn who_is_told_of_an_answer_hears_of_its_service_and_backend() {
    for bond in [Bond::Connection, Bond::Datagram] {
        let (mut model, mut socket) = (node(1), socket(7, POD));
        let asked = Asked {
            address: vip(),
            port: 80_u16.to_be(),
            protocol: UDP,
            bond,
        };
        let known = |socket: &Plain, model: &Model<V4>| {
            promised(backend(1).wide(), 8080_u16.to_be(), bond, socket, model)
        };
        assert_eq!(known(&socket, &model), None, "{bond:?}");
        assert_eq!(forward(&asked, &mut socket, &mut model), to(1), "{bond:?}");
        let promise = Promise {
            asked: vip().wide(),
            port: 80_u16.to_be(),
            frontend: FrontendId::new(6, 1).expect("it fits"),
            backend: backend_id(1),
        };
        assert_eq!(known(&socket, &model), Some(promise), "{bond:?}");
    }
}
