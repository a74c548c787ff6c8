use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ebpf_abi::config::{Affinity, AffinityKey, Device, Direction, PRESENT, RangeKey, device_flag, setting};
use ebpf_abi::event::{Caller, Event, Kind};
use ebpf_abi::flow::{Flow, Tuple, Way};
use ebpf_abi::model::Model;
use ebpf_abi::packet::TCP;
use ebpf_abi::service::{
    Backend, BackendState, Dispatch, Frontend, FrontendKey, Selection, Set, backend_flag, flag,
};
use ebpf_abi::track::State;
use ebpf_abi::{BackendId, DropReason, FrontendId, V4, V6};

use super::args::{End, Filter};
use super::look::{Look, Names};
use super::monitor::{self, Form, Known};
use super::trace::{Kernel, Traced};
use super::walk::{Outcome, Question, Walk, walk};
use super::{print, rows};

fn address(text: &str) -> V4 {
    V4::from(text.parse::<std::net::Ipv4Addr>().unwrap())
}

fn id(index: u32) -> BackendId {
    BackendId::new(index, 1).unwrap()
}

/// Two services: `web` with a VIP and a node port, three backends and one that drains; `db`, closed to the outside.
fn model() -> Model<V4> {
    let mut model = Model::default();
    for (n, state) in [
        (1, BackendState::Active),
        (2, BackendState::Active),
        (3, BackendState::Active),
        (4, BackendState::Active),
        (5, BackendState::Terminating),
    ] {
        let backend = Backend {
            id: id(n),
            address: address(&format!("10.0.0.{n}")),
            port: 8080_u16.to_be(),
            protocol: 6,
            state: state.number(),
            flags: if n == 1 { backend_flag::LOCAL } else { 0 },
            ..Backend::default()
        };
        model.backends.insert(n, backend);
        model.slots.insert(10 + n, id(n));
    }
    model.sets.insert(1, Set::new(11, 4, 5));
    model.sets.insert(2, Set::new(0, 0, 0));
    let frontend = |index: u32, service: u32, set: u32, flags: u16| Frontend {
        id: FrontendId::new(index, 1).unwrap(),
        set,
        inner_set: set,
        service,
        flags,
        selection: Selection::Maglev.number(),
        ..Frontend::default()
    };
    let vip = Frontend {
        affinity: 60,
        ranges: 7,
        ..frontend(1, 9, 1, flag::ROUTABLE | flag::LOAD_BALANCER | flag::LOCAL_ONLY)
    };
    for (text, port, frontend) in [
        ("192.0.2.1", 80, vip),
        (
            "198.51.100.2",
            30_080,
            frontend(2, 9, 1, flag::ROUTABLE | flag::NODE_PORT),
        ),
        ("10.96.0.7", 5432, frontend(3, 12, 2, 0)),
    ] {
        let key = FrontendKey::new(address(text), u16::to_be(port), 6);
        model.frontends.insert(key, frontend);
    }
    let wildcard = Frontend {
        flags: flag::WILDCARD,
        ..Frontend::default()
    };
    model
        .frontends
        .insert(FrontendKey::wildcard(address("192.0.2.1")), wildcard);
    let range = RangeKey {
        bits: RangeKey::<V4>::LIST_BITS + 24,
        list: 7,
        address: address("198.51.100.0"),
    };
    model.ranges.insert(range, PRESENT);
    model
}

fn names() -> Names {
    let web = BTreeSet::from(["default/web".to_owned()]);
    let addresses: BTreeMap<IpAddr, _> = BTreeMap::from([("192.0.2.1".parse().unwrap(), web)]);
    Names::of(&addresses, &model(), &Model::<V6>::default())
}

fn by(service: &str) -> Filter {
    Filter {
        service: Some(service.to_owned()),
        ..Filter::default()
    }
}

/// A connection: its two entries.
fn flows(source: &str, becomes: &str, becomes_port: u16) -> Vec<(Tuple<V4>, Flow<V4>)> {
    let tuple = Tuple {
        source: address(source),
        destination: address("192.0.2.1"),
        source_port: 4711_u16.to_be(),
        destination_port: 80_u16.to_be(),
        protocol: 6,
        ..Tuple::default()
    };
    let forward = Flow {
        source: address(becomes),
        destination: address("10.0.0.2"),
        source_port: becomes_port.to_be(),
        destination_port: 8080_u16.to_be(),
        frontend: FrontendId::new(1, 1).unwrap(),
        backend: id(2),
        expires: 160,
        state: State(State::OPEN),
        way: Way::Forward.number(),
        ..Flow::default()
    };
    let reply = Flow {
        source: tuple.destination,
        destination: tuple.source,
        source_port: tuple.destination_port,
        destination_port: tuple.source_port,
        way: Way::Reply.number(),
        ..forward
    };
    vec![(tuple, forward), (forward.twin(6), reply)]
}

#[test]
fn services_are_listed_with_who_may_come_and_who_serves() {
    assert_eq!(
        print::services(&rows::services(&model(), &names(), &Filter::default())),
        "\
SERVICE       FRONTEND                 TYPE           EXTERNAL POLICY   SELECTION   FORWARDING   AFFINITY   SOURCES       BACKENDS
#12           10.96.0.7:5432/TCP       ClusterIP      Cluster           maglev      snat         -          inside only   none
default/web   192.0.2.1:80/TCP         LoadBalancer   Local             maglev      snat         60s        1 allowed     10.0.0.1:8080/TCP, 10.0.0.2:8080/TCP, 10.0.0.3:8080/TCP and 1 more; draining: 10.0.0.5:8080/TCP
default/web   198.51.100.2:30080/TCP   NodePort       Cluster           maglev      snat         -          all           10.0.0.1:8080/TCP, 10.0.0.2:8080/TCP, 10.0.0.3:8080/TCP and 1 more; draining: 10.0.0.5:8080/TCP
"
    );
}

#[test]
fn filters_take_names_numbers_addresses_and_backends() {
    let count = |filter: &Filter| rows::services(&model(), &names(), filter).len();
    assert_eq!(count(&by("default/web")), 2);
    assert_eq!(count(&by("web")), 2);
    assert_eq!(count(&by("12")), 1);
    assert_eq!(count(&by("eb")), 0);
    let vip = |text: &str| Filter {
        vip: Some(text.parse::<End>().unwrap()),
        ..Filter::default()
    };
    assert_eq!(count(&vip("192.0.2.1")), 1);
    assert_eq!(count(&vip("192.0.2.1:81")), 0);
    let backend = Filter {
        backend: Some("10.0.0.5:8080".parse().unwrap()),
        ..Filter::default()
    };
    assert_eq!(count(&backend), 2);
    assert!("192.0.2".parse::<End>().is_err());
}

#[test]
fn backends_say_where_they_are_and_whose() {
    assert_eq!(
        print::backends(&rows::backends(&model(), &names(), &Filter::default())),
        "\
ID        BACKEND             STATE         WHERE       SERVICES
1048577   10.0.0.1:8080/TCP   active        this node   default/web
1048578   10.0.0.2:8080/TCP   active        elsewhere   default/web
1048579   10.0.0.3:8080/TCP   active        elsewhere   default/web
1048580   10.0.0.4:8080/TCP   active        elsewhere   default/web
1048581   10.0.0.5:8080/TCP   terminating   elsewhere   default/web
"
    );
    assert_eq!(rows::backends(&model(), &names(), &by("12")), []);
}

#[test]
fn maglev_tables_are_shown_by_share() {
    let tables = BTreeMap::from([(1, vec![id(1), id(2), id(1), BackendId::NONE, id(1), id(2), id(1)])]);
    assert_eq!(
        print::shares(&rows::shares(&model(), &names(), &Filter::default(), &tables)),
        "\
SET   SERVICES      SIZE   BACKEND             PLACES   SHARE
1     default/web   7      nobody              1        14.2 %
1     default/web   7      10.0.0.1:8080/TCP   4        57.1 %
1     default/web   7      10.0.0.2:8080/TCP   2        28.5 %
"
    );
}

#[test]
fn connections_say_what_packets_become_and_how_long_they_stay() {
    let flows = flows("198.51.100.1", "198.51.100.1", 4711);
    assert_eq!(
        print::tracks(&rows::tracks(&model(), &names(), &Filter::default(), 100, &flows)),
        "\
SERVICE       WAY       SOURCE                  DESTINATION             BECOMES                                      STATE   LEFT   FORWARDING   BACKEND
default/web   forward   198.51.100.1:4711/TCP   192.0.2.1:80/TCP        198.51.100.1:4711/TCP -> 10.0.0.2:8080/TCP   open    60s    snat         10.0.0.2:8080/TCP
default/web   reply     10.0.0.2:8080/TCP       198.51.100.1:4711/TCP   192.0.2.1:80/TCP -> 198.51.100.1:4711/TCP    open    60s    snat         10.0.0.2:8080/TCP
"
    );
}

#[test]
fn connections_in_ip_in_ip_become_nothing_else() {
    let mut flows = flows("198.51.100.1", "198.51.100.1", 4711);
    flows.retain(|(_, flow)| flow.way == Way::Forward.number());
    for (_, flow) in &mut flows {
        flow.dispatch = Dispatch::DsrIpip.number();
    }
    assert_eq!(
        print::tracks(&rows::tracks(&model(), &names(), &Filter::default(), 100, &flows)),
        "\
SERVICE       WAY       SOURCE                  DESTINATION        BECOMES                                     STATE   LEFT   FORWARDING   BACKEND
default/web   forward   198.51.100.1:4711/TCP   192.0.2.1:80/TCP   198.51.100.1:4711/TCP -> 192.0.2.1:80/TCP   open    60s    dsr ipip     10.0.0.2:8080/TCP
"
    );
}

#[test]
fn only_connections_with_another_source_are_translations() {
    let plain = flows("198.51.100.1", "198.51.100.1", 4711);
    assert_eq!(
        rows::translations(&model(), &names(), &Filter::default(), 100, &plain),
        []
    );
    let translated = flows("198.51.100.1", "198.51.100.2", 33_000);
    assert_eq!(
        print::translations(&rows::translations(
            &model(),
            &names(),
            &Filter::default(),
            100,
            &translated
        )),
        "\
SERVICE       CLIENT                  FRONTEND           SOURCE INSTEAD           BACKEND             LEFT
default/web   198.51.100.1:4711/TCP   192.0.2.1:80/TCP   198.51.100.2:33000/TCP   10.0.0.2:8080/TCP   60s
"
    );
    let other = by("12");
    assert_eq!(rows::tracks(&model(), &names(), &other, 100, &translated), []);
}

#[test]
fn clients_with_affinity_say_how_long_they_stay() {
    let key = |client: &str| AffinityKey {
        client: address(client),
        service: 9,
    };
    let affinity = |used| Affinity { backend: id(3), used };
    let entries = [
        (key("198.51.100.1"), affinity(90)),
        (key("198.51.100.3"), affinity(1)),
    ];
    assert_eq!(
        print::stays(&rows::stays(
            &model(),
            &names(),
            &Filter::default(),
            100,
            &entries
        )),
        "\
SERVICE       CLIENT         BACKEND             IDLE   LEFT
default/web   198.51.100.1   10.0.0.3:8080/TCP   10s    50s
default/web   198.51.100.3   10.0.0.3:8080/TCP   99s    over
"
    );
}

fn event(kind: Kind) -> Event {
    Event {
        source: [address("198.51.100.1").0, 0, 0, 0],
        destination: [address("192.0.2.1").0, 0, 0, 0],
        source_port: 4711_u16.to_be(),
        destination_port: 80_u16.to_be(),
        length: 74,
        device: 3,
        frontend: FrontendId::new(1, 1).unwrap(),
        missed: 12,
        kind: kind.number(),
        family: 4,
        protocol: 6,
        captured: 2,
        ..Event::EMPTY
    }
}

fn told(event: &Event, form: Form) -> String {
    let mut known = Known::new(Look {
        v4: model(),
        names: names(),
        ..Look::default()
    });
    known.devices.insert(3, "eth0".to_owned());
    let time = Duration::new(86_400 + 3661, 42_000);
    monitor::text(&monitor::line(event, form, &known, time))
}

#[test]
fn a_drop_is_one_line_with_its_reason_and_service() {
    let event = Event {
        reason: DropReason::SourceRange.number(),
        ..event(Kind::Drop)
    };
    assert_eq!(
        told(&event, Form::Told),
        "01:01:01.000042 drop (Denied by LB src range check, 177) ingress eth0 198.51.100.1:4711 -> 192.0.2.1:80 TCP \
         74 octets service default/web [12 more before this one]"
    );
    assert!(told(&event, Form::Raw).ends_with(" | 0000"));
}

#[test]
fn a_trace_is_one_line_with_its_backend() {
    let event = Event {
        backend: id(2),
        missed: 0,
        ..event(Kind::Trace)
    };
    assert_eq!(
        told(&event, Form::Told),
        "01:01:01.000042 trace to backend ingress eth0 198.51.100.1:4711 -> 192.0.2.1:80 TCP 74 octets \
         service default/web backend 10.0.0.2:8080"
    );
}

#[test]
fn a_socket_is_one_line_with_who_asked() {
    let mut event = Event {
        direction: Direction::Socket as u8,
        source: [0; 4],
        source_port: 0,
        device: 0,
        length: 0,
        captured: 0,
        missed: 0,
        backend: id(2),
        ..event(Kind::Trace)
    };
    // Terminals act on what a name may hold.
    let caller = Caller {
        process: 1234,
        name: *b"cu\x1brl\0XXXXXXXXXX",
    };
    event.octets[..20].copy_from_slice(ebpf_abi::plain::octets(&caller));
    assert_eq!(
        told(&event, Form::Raw),
        "01:01:01.000042 trace to backend socket cu?rl[1234] -> 192.0.2.1:80 TCP service default/web backend 10.0.0.2:8080"
    );
    let bound = Event {
        source: [address("198.51.100.1").0, 0, 0, 0],
        source_port: 4711_u16.to_be(),
        kind: Kind::Drop.number(),
        reason: DropReason::NoService.number(),
        backend: BackendId::NONE,
        ..event
    };
    assert_eq!(
        told(&bound, Form::Told),
        "01:01:01.000042 drop (Service backend not found, 158) socket cu?rl[1234] 198.51.100.1:4711 -> 192.0.2.1:80 TCP \
         service default/web"
    );
}

#[test]
fn a_monitor_may_ask_for_some_packets_only() {
    let event = event(Kind::Drop);
    let end = |text: &str| Some(text.parse::<End>().unwrap());
    assert!(monitor::is_meant(&event, None, None));
    assert!(monitor::is_meant(
        &event,
        end("198.51.100.1"),
        end("192.0.2.1:80")
    ));
    assert!(!monitor::is_meant(&event, end("198.51.100.1:4712"), None));
    assert!(!monitor::is_meant(&event, None, end("192.0.2.2")));
    assert!(!monitor::is_meant(&Event::EMPTY, end("192.0.2.2"), None));
}

/// As the first packet of this client to this end would go.
fn walked(model: &Model<V4>, source: &str, destination: &str) -> Walk {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    let frame = super::frame::first(source, destination, TCP).unwrap();
    let question = Question {
        source,
        destination,
        protocol: TCP,
        frame: &frame,
        now: 100,
    };
    walk(model, &names(), &question)
}

/// As `model`, switched on, with the backend of this node only.
fn serving() -> Model<V4> {
    let mut model = model();
    for text in ["192.0.2.1", "10.96.0.7"] {
        model.watch(&address(text));
    }
    model.config.settings = setting::ENABLED;
    model.config.maglev_size = 251;
    model.sets.insert(1, Set::new(11, 1, 1));
    model
}

#[test]
fn a_walk_names_the_first_no() {
    let off = Model {
        config: ebpf_abi::config::Config::default(),
        ..serving()
    };
    let mut alone = serving();
    alone.sets.insert(1, Set::new(11, 0, 1));
    for (model, source, destination, step, outcome) in [
        (
            &off,
            "198.51.100.1:1",
            "192.0.2.1:80",
            "settings",
            Outcome::Passed,
        ),
        (
            &serving(),
            "198.51.100.1:1",
            "203.0.113.1:80",
            "filter",
            Outcome::Passed,
        ),
        (
            &serving(),
            "198.51.100.1:1",
            "192.0.2.1:81",
            "frontend",
            Outcome::Dropped(DropReason::NoService),
        ),
        (
            &serving(),
            "203.0.113.9:1",
            "192.0.2.1:80",
            "source",
            Outcome::Dropped(DropReason::SourceRange),
        ),
        (
            &serving(),
            "198.51.100.1:1",
            "10.96.0.7:5432",
            "scope",
            Outcome::Dropped(DropReason::ClusterIp),
        ),
        (
            &alone,
            "198.51.100.1:1",
            "192.0.2.1:80",
            "backends",
            Outcome::Dropped(DropReason::NoService),
        ),
    ] {
        let walk = walked(model, source, destination);
        let no = walk.no.as_ref().expect(step);
        assert_eq!((no.step, walk.outcome), (step, outcome), "{walk:?}");
        assert!(!no.remedy.is_empty());
    }
}

#[test]
fn a_walk_from_a_pods_device_is_one_from_inside() {
    let mut node = serving();
    node.arrived = 3;
    let device = Device {
        flags: device_flag::POD,
        ..Device::default()
    };
    node.devices.insert(3, device);
    let walk = walked(&node, "198.51.100.1:1", "10.96.0.7:5432");
    assert!(
        walk.no.as_ref().is_none_or(|no| no.step != "scope"),
        "{:?}",
        walk.no
    );
    assert_ne!(walk.outcome, Outcome::Dropped(DropReason::ClusterIp));
}

#[test]
fn a_walk_to_a_backend_is_told_step_by_step() {
    let walk = walked(&serving(), "198.51.100.1:4711", "192.0.2.1:80");
    assert_eq!(walk.outcome, Outcome::Served(id(1).0));
    let traced = Traced {
        source: "198.51.100.1:4711".into(),
        destination: "192.0.2.1:80".into(),
        protocol: "TCP",
        walk,
        kernel: Kernel {
            program: Some("xdp_netdev".into()),
            device: Some("eth0".into()),
            verdict: Some("goes to 10.0.0.1:8080/TCP".into()),
            agrees: Some(true),
            not_asked: None,
        },
    };
    assert_eq!(
        super::trace::text(&traced),
        "\
198.51.100.1:4711 -> 192.0.2.1:80 TCP
  yes  settings: the programs are switched on
  yes  filter: 192.0.2.1 may be ours
       connection: none yet: this is the first packet of one
  yes  frontend: 192.0.2.1:80/TCP is a LoadBalancer of default/web
  yes  source: 198.51.100.1 is in one of 1 prefixes that may come
  yes  backends: 1 serve, 0 only finish what they have
       choice: by maglev, and stays for 60 s
  yes  backend: 10.0.0.1:8080/TCP, active, on this node
Verdict: goes to 10.0.0.1:8080/TCP
Kernel: xdp_netdev at eth0 agrees: goes to 10.0.0.1:8080/TCP (what the run wrote was put back)
"
    );
}
