//! Which frontends there are, and who serves them.

use ebpf_datapath::services::{Kind, RangePolicy, Reach};
use ebpf_datapath::{ClusterIps, Honour, Problem, SourceRanges};

use crate::world::{World, service, slice};

const PORTS: &str = "ports: [{name: http, port: 80, nodePort: 30080}]";

fn web(spec: &str, endpoints: &[&str]) -> World {
    let mut world = World::of(&service("web", &format!("clusterIP: 10.96.0.1, {PORTS}, {spec}")));
    world.add(&slice("web-1", "web", endpoints));
    world
}

fn with_vip(mut world: World, vip: &str) -> World {
    let status = format!("{{\"loadBalancer\": {{\"ingress\": [{{\"ip\": \"{vip}\"}}]}}}}");
    for service in &mut world.services {
        service.status = Some(serde_saphyr::from_str(&status).expect("a status"));
    }
    world
}

#[test]
fn a_load_balancer_has_all_three_kinds_with_the_same_backends() {
    let world = with_vip(
        web(
            "type: LoadBalancer, externalIPs: [198.51.100.9]",
            &["10.0.0.1/me", "10.0.0.2/you"],
        ),
        "203.0.113.1",
    );
    assert_eq!(
        world.table(),
        "10.96.0.1:80/TCP ClusterIP a/web [10.0.0.1 10.0.0.2]\n\
         192.0.2.1:30080/TCP NodePort a/web [10.0.0.1 10.0.0.2]\n\
         198.51.100.9:80/TCP ExternalIP a/web [10.0.0.1 10.0.0.2]\n\
         203.0.113.1:80/TCP LoadBalancer a/web [10.0.0.1 10.0.0.2]"
    );
    assert_eq!(world.plan().services[0].sets.len(), 1, "one set for all of them");
    assert_eq!(world.reasons(), Vec::<&str>::new());
}

#[test]
fn each_traffic_policy_speaks_of_its_own_view() {
    let endpoints = ["10.0.0.1/me", "10.0.0.2/you"];
    let external = with_vip(
        web("type: LoadBalancer, externalTrafficPolicy: Local", &endpoints),
        "203.0.113.1",
    );
    assert_eq!(
        external.table(),
        "10.96.0.1:80/TCP ClusterIP a/web [10.0.0.1 10.0.0.2]\n\
         192.0.2.1:30080/TCP NodePort a/web [10.0.0.1] inside [10.0.0.1 10.0.0.2]\n\
         203.0.113.1:80/TCP LoadBalancer a/web [10.0.0.1] inside [10.0.0.1 10.0.0.2]"
    );
    let internal = with_vip(
        web("type: LoadBalancer, internalTrafficPolicy: Local", &endpoints),
        "203.0.113.1",
    );
    assert_eq!(
        internal.table(),
        "10.96.0.1:80/TCP ClusterIP a/web [10.0.0.1]\n\
         192.0.2.1:30080/TCP NodePort a/web [10.0.0.1 10.0.0.2] inside [10.0.0.1]\n\
         203.0.113.1:80/TCP LoadBalancer a/web [10.0.0.1 10.0.0.2] inside [10.0.0.1]"
    );
}

#[test]
fn terminating_backends_serve_only_when_nothing_else_is_left() {
    let mixed = ["10.0.0.1/me", "10.0.0.2/me st", "10.0.0.3/me t", "10.0.0.4/me -"];
    let table = "10.96.0.1:80/TCP ClusterIP a/web ";
    assert_eq!(
        web("type: ClusterIP", &mixed).table(),
        format!("{table}[10.0.0.1|10.0.0.2 10.0.0.3|10.0.0.4]")
    );
    assert_eq!(
        web("type: ClusterIP", &mixed[1..]).table(),
        format!("{table}[10.0.0.2|10.0.0.3|10.0.0.4]")
    );
    assert_eq!(
        web("type: ClusterIP", &mixed[2..]).table(),
        format!("{table}[|10.0.0.3|10.0.0.4]")
    );
    assert_eq!(
        web("publishNotReadyAddresses: true", &mixed).table(),
        format!("{table}[10.0.0.1 10.0.0.4|10.0.0.2 10.0.0.3]")
    );
}

#[test]
fn a_backend_that_moves_between_slices_never_vanishes() {
    let mut world = web("type: ClusterIP", &["10.0.0.1/me", "10.0.0.2/me"]);
    let whole = world.table();
    // The new slice comes before the old one loses it.
    world.add(&slice("web-2", "web", &["10.0.0.2/me"]));
    assert_eq!(world.table(), whole);
    world.add(&slice("web-1", "web", &["10.0.0.1/me"]));
    assert_eq!(world.table(), whole);
    // Two slices disagree: the better one counts, in any order.
    world.add(&slice("web-0", "web", &["10.0.0.2/me t"]));
    assert_eq!(world.table(), whole);
    world.slices.reverse();
    assert_eq!(world.table(), whole);
}

#[test]
fn hints_lead_to_the_zone_unless_one_is_missing_or_none_fits() {
    let endpoints = ["10.0.0.1/me rs z1", "10.0.0.2/you rs z2", "10.0.0.3/you st"];
    let mut world = web("trafficDistribution: PreferClose", &endpoints);
    let zone = |world: &mut World, zone: &str| {
        let label = ("topology.kubernetes.io/zone".to_owned(), zone.to_owned());
        world.node.labels = [label].into();
    };
    zone(&mut world, "z1");
    let of = |world: &World| world.table().split_once('[').map(|(_, set)| set.to_owned());
    assert_eq!(
        of(&world).as_deref(),
        Some("10.0.0.1 10.0.0.2|10.0.0.3]"),
        "off by default"
    );
    world.settings.topology = Honour::Yes;
    assert_eq!(of(&world).as_deref(), Some("10.0.0.1|10.0.0.3]"));
    zone(&mut world, "z3");
    assert_eq!(
        of(&world).as_deref(),
        Some("10.0.0.1 10.0.0.2|10.0.0.3]"),
        "none for this zone"
    );
    zone(&mut world, "z1");
    world.add(&slice("web-2", "web", &["10.0.0.4/you"]));
    assert_eq!(
        of(&world).as_deref(),
        Some("10.0.0.1 10.0.0.2 10.0.0.4|10.0.0.3]"),
        "one has no hint"
    );
}

#[test]
fn families_are_served_by_their_own_backends() {
    let mut world = World::of(&service(
        "web",
        &format!("clusterIPs: [10.96.0.1, \"fd00::1\"], type: NodePort, {PORTS}"),
    ));
    world.add(&slice("four", "web", &["10.0.0.1/me"]));
    world.add(&slice("six", "web", &["fd01::1/me"]));
    let both = "10.96.0.1:80/TCP ClusterIP a/web [10.0.0.1]\n\
         192.0.2.1:30080/TCP NodePort a/web [10.0.0.1]\n\
         [2001:db8::1]:30080/TCP NodePort a/web [fd01::1]\n\
         [fd00::1]:80/TCP ClusterIP a/web [fd01::1]";
    assert_eq!(world.table(), both);
    world.settings.families = [ebpf_datapath::Family::V6].into();
    assert_eq!(
        world.table(),
        "[2001:db8::1]:30080/TCP NodePort a/web [fd01::1]\n[fd00::1]:80/TCP ClusterIP a/web [fd01::1]"
    );
}

#[test]
fn headless_foreign_and_external_name_services_have_no_frontends() {
    for spec in ["clusterIP: None", "type: ExternalName, externalName: example.org"] {
        let world = World::of(&service("web", &format!("{spec}, {PORTS}")));
        assert_eq!(
            (world.table(), world.reasons()),
            (String::new(), vec![]),
            "{spec}"
        );
    }
    let mut world = web("type: ClusterIP", &["10.0.0.1/me"]);
    let label = |key: &str| Some([(key.to_owned(), "other".to_owned())].into());
    world.services[0].metadata.labels = label("service.kubernetes.io/headless");
    assert_eq!(world.table(), "");
    world.services[0].metadata.labels = label("service.kubernetes.io/service-proxy-name");
    assert_eq!(world.table(), "");
    world.settings.proxy_name = "other".to_owned();
    assert_eq!(
        world.table(),
        "10.96.0.1:80/TCP ClusterIP a/web []",
        "its slices are not the proxy's"
    );
}

#[test]
fn slices_that_are_marked_headless_are_no_endpoints() {
    let mut world = web("type: ClusterIP", &["10.0.0.1/me"]);
    assert!(world.table().contains("10.0.0.1"), "{}", world.table());
    let labels = world.slices[0].metadata.labels.as_mut().unwrap();
    labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
    assert_eq!(world.table(), "10.96.0.1:80/TCP ClusterIP a/web []");
}

#[test]
fn the_older_object_wins_and_the_loser_gets_the_address_when_it_goes() {
    let lb = |name: &str, created: &str| {
        let mut world = with_vip(
            World::of(&service(name, &format!("type: LoadBalancer, {PORTS}"))),
            "203.0.113.1",
        );
        let mut service = world.services.remove(0);
        let time = format!("\"{created}\"");
        service.metadata.creation_timestamp = Some(serde_saphyr::from_str(&time).expect("a time"));
        service
            .spec
            .as_mut()
            .expect("a spec")
            .ports
            .as_mut()
            .expect("ports")[0]
            .node_port = None;
        service
    };
    let mut world = World::new();
    world.services = vec![lb("b", "2024-01-01T00:00:00Z"), lb("a", "2025-01-01T00:00:00Z")];
    assert_eq!(world.table(), "203.0.113.1:80/TCP LoadBalancer a/b []");
    let problems = world.plan().problems;
    assert!(
        matches!(&problems[..], [Problem::Taken { service, owner, kind: Kind::LoadBalancer, .. }]
            if service.name == "a" && owner.name == "b"),
        "{problems:?}"
    );
    world.services.reverse();
    assert_eq!(
        world.table(),
        "203.0.113.1:80/TCP LoadBalancer a/b []",
        "order does not matter"
    );
    world
        .services
        .retain(|service| service.metadata.name.as_deref() == Some("a"));
    assert_eq!(world.table(), "203.0.113.1:80/TCP LoadBalancer a/a []");
    assert_eq!(world.reasons(), Vec::<&str>::new());
}

#[test]
fn an_external_ip_never_takes_a_foreign_address_however_old() {
    let mut world = with_vip(web("type: LoadBalancer", &[]), "203.0.113.1");
    world.add(&service(
        "thief",
        "clusterIP: 10.96.0.9, externalIPs: [10.96.0.1, 203.0.113.1, 198.51.100.9], ports: [{port: 80}, {name: x, port: 81}]",
    ));
    for service in &mut world.services {
        if service.metadata.name.as_deref() == Some("thief") {
            service.metadata.creation_timestamp =
                Some(serde_saphyr::from_str("\"1999-01-01T00:00:00Z\"").expect("a time"));
        }
    }
    let stolen: Vec<String> = world
        .table()
        .lines()
        .filter(|line| line.contains("thief"))
        .map(str::to_owned)
        .collect();
    assert_eq!(
        stolen,
        [
            "10.96.0.9:80/TCP ClusterIP a/thief []",
            "10.96.0.9:81/TCP ClusterIP a/thief []",
            "198.51.100.9:80/TCP ExternalIP a/thief []",
            "198.51.100.9:81/TCP ExternalIP a/thief []",
        ]
    );
    assert_eq!(world.reasons(), ["foreign-address"; 2]);
}

#[test]
fn an_external_ip_that_is_the_own_vip_is_no_conflict() {
    let world = with_vip(
        web("type: LoadBalancer, externalIPs: [203.0.113.1]", &[]),
        "203.0.113.1",
    );
    assert!(world.table().contains("203.0.113.1:80/TCP LoadBalancer a/web"));
    assert_eq!(world.reasons(), Vec::<&str>::new());
}

#[test]
fn bad_parts_are_named_and_the_rest_is_served() {
    let mut world = World::new();
    let text = service("web", &format!("clusterIP: 10.96.0.1, {PORTS}"));
    world.add(&text);
    let spec = world.services[0].spec.as_mut().expect("a spec");
    let first = spec.ports.as_ref().expect("ports")[0].clone();
    let port = |port: i32, protocol: &str| {
        let mut other = first.clone();
        other.port = port;
        other.protocol = Some(protocol.to_owned());
        other
    };
    spec.ports = Some(vec![
        first.clone(),
        port(80, "TCP"),
        port(0, "TCP"),
        port(70_000, "UDP"),
        port(81, "DCCP"),
    ]);
    spec.external_ips = Some(vec!["127.0.0.1".to_owned(), "no".to_owned()]);
    spec.session_affinity = Some("ClientIP".to_owned());
    spec.session_affinity_config =
        Some(serde_saphyr::from_str("{clientIP: {timeoutSeconds: 90000}}").expect("a config"));
    world.add(&slice(
        "web-1",
        "web",
        &["10.0.0.1/me", "127.0.0.2/me", "0.0.0.0/me"],
    ));
    assert_eq!(world.table(), "10.96.0.1:80/TCP ClusterIP a/web [10.0.0.1]");
    assert_eq!(
        world.reasons(),
        [
            "bad-port",
            "bad-port",
            "unknown-protocol",
            "duplicate-port",
            "bad-address",
            "bad-address",
            "bad-endpoint",
            "bad-endpoint",
            "bad-affinity-timeout",
        ]
    );
    assert_eq!(world.plan().services[0].frontends[0].affinity, Some(10_800));
    let spec = world.services[0].spec.as_mut().expect("a spec");
    spec.ports = None;
    assert_eq!(world.reasons(), ["no-ports"]);
}

#[test]
fn source_ranges_guard_load_balancer_addresses_and_a_bad_one_opens_nothing() {
    let mut world = with_vip(
        web(
            "type: LoadBalancer, loadBalancerSourceRanges: [10.1.2.3/8, 192.0.2.0/24]",
            &[],
        ),
        "203.0.113.1",
    );
    let ranges = |world: &World| -> Vec<Option<(RangePolicy, String)>> {
        let plan = world.plan();
        let frontends = plan.services[0].frontends.iter();
        frontends
            .map(|frontend| {
                let ranges = frontend.ranges.as_ref()?;
                let nets: Vec<String> = ranges.nets.iter().map(ToString::to_string).collect();
                Some((ranges.policy, nets.join(" ")))
            })
            .collect()
    };
    let list = (RangePolicy::Allow, "10.0.0.0/8 192.0.2.0/24".to_owned());
    assert_eq!(ranges(&world), [None, None, Some(list.clone())]);
    world.settings.source_ranges = SourceRanges::All;
    assert_eq!(ranges(&world), [None, Some(list.clone()), Some(list)]);
    world.settings.source_ranges = SourceRanges::LoadBalancer;
    let spec = world.services[0].spec.as_mut().expect("a spec");
    spec.load_balancer_source_ranges = Some(vec!["10.0.0.0/33".to_owned()]);
    assert_eq!(ranges(&world)[2], Some((RangePolicy::Allow, String::new())));
    assert_eq!(world.reasons(), ["bad-source-range"]);
}

#[test]
fn cluster_addresses_are_closed_to_the_outside_unless_allowed() {
    let mut world = web("type: ClusterIP", &[]);
    assert_eq!(world.plan().services[0].frontends[0].reach, Reach::Inside);
    world.settings.cluster_ips = ClusterIps::Outside;
    assert_eq!(world.plan().services[0].frontends[0].reach, Reach::Everywhere);
}

#[test]
fn sctp_is_served_only_where_no_port_changes() {
    let mut world = World::new();
    for (name, port) in [("same", 80), ("other", 81)] {
        let ip = port - 70;
        world.add(&service(
            name,
            &format!("clusterIP: 10.96.0.{ip}, ports: [{{port: {port}, protocol: SCTP}}]"),
        ));
        world.add(&slice(name, name, &["10.0.0.1/me"]).replace("TCP", "SCTP"));
    }
    assert_eq!(world.table(), "10.96.0.10:80/SCTP ClusterIP a/same [10.0.0.1]");
    assert_eq!(world.reasons(), ["sctp-port-differs"]);
}

#[test]
fn a_host_port_listens_where_it_says() {
    let pod = |host_ip: &str, port: u16| {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p{port}, namespace: a, uid: u}}, spec: {{nodeName: me, containers: \
             [{{name: c, ports: [{{containerPort: 80, hostPort: {port}, hostIP: \"{host_ip}\"}}]}}]}}, status: {{phase: \
             Running, podIPs: [{{ip: 10.0.0.1}}]}}}}"
        );
        serde_saphyr::from_str(&text).expect("a pod")
    };
    let mut world = World::new();
    world.pods = vec![
        pod("", 1000),
        pod("0.0.0.0", 1001),
        pod("127.0.0.1", 1002),
        pod("192.0.2.77", 1003),
        pod("", 30_001),
    ];
    assert_eq!(
        world.table(),
        "192.0.2.1:1000/TCP HostPort a/p1000:host-port:1000:u [10.0.0.1]\n\
         192.0.2.1:1001/TCP HostPort a/p1001:host-port:1001:u [10.0.0.1]\n\
         127.0.0.1:1002/TCP HostPort a/p1002:host-port:1002:u [10.0.0.1]\n\
         192.0.2.77:1003/TCP HostPort a/p1003:host-port:1003:u [10.0.0.1]"
    );
    assert_eq!(world.plan().services[2].frontends[0].reach, Reach::ThisHost);
    assert_eq!(world.reasons(), ["host-port-in-node-port-range"]);
}

#[test]
fn more_endpoints_than_a_set_holds_are_named() {
    let mut world = web("type: ClusterIP", &["10.0.0.1/me"]);
    let endpoints = world.slices[0].endpoints.as_mut().expect("endpoints");
    let one = endpoints[0].clone();
    *endpoints = (0..65_600_u32)
        .map(|n| {
            let mut other = one.clone();
            other.addresses = vec![std::net::Ipv4Addr::from(0x0a01_0000 + n).to_string()];
            other
        })
        .collect();
    let plan = world.plan();
    assert_eq!(plan.services[0].sets[0].serving.len(), 65_535);
    assert!(matches!(
        plan.problems[..],
        [Problem::TooManyEndpoints {
            left_out: 65,
            all: 65_600,
            ..
        }]
    ));
}
