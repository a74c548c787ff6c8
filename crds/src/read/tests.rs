use std::path::Path;

use proptest::prelude::*;

use super::*;

fn read_text(text: &str) -> Read {
    read(Path::new("a.yaml"), text)
}

/// `line reason field` of every problem.
fn summary(read: &Read) -> Vec<String> {
    read.problems
        .iter()
        .map(|p| format!("{} {} {}", p.line, p.reason, p.field))
        .collect()
}

const PEER: &str = "\
apiVersion: cilium.io/v2
kind: CiliumBGPPeerConfig
metadata:
  name: tor
";

#[test]
fn a_good_document_gives_its_object() {
    let read = read_text(&format!(
        "{PEER}spec:\n  timers:\n    holdTimeSeconds: 30\n    keepAliveTimeSeconds: 10\n"
    ));
    assert_eq!(summary(&read), [] as [&str; 0]);
    let parsed = &read.objects[0];
    assert_eq!(parsed.reference.to_string(), "CiliumBGPPeerConfig/tor");
    let Object::CiliumBGPPeerConfig(peer) = &parsed.object else {
        panic!("{parsed:?}")
    };
    assert_eq!(peer.spec.timers.unwrap().hold_time_seconds, 30);
    assert_eq!(peer.spec.timers.unwrap().connect_retry_time_seconds, 120);
    assert_eq!(peer.spec.ebgp_multihop, 1);
    assert_eq!(parsed.line_of("spec.timers.holdTimeSeconds"), 7);
}

#[test]
fn problems_name_the_line_and_field_that_offend() {
    let read = read_text(
        "\
apiVersion: cilium.io/v2
kind: CiliumBGPClusterConfig
metadata:
  name: rack
spec:
  bgpInstances:
  - name: main
    localASN: \"65001\"
    peers:
    - name: a
      peerAdress: 10.0.0.1
      peerAddress: 10.0.0.999
    - name: a
      peerASN: 4294967296
",
    );
    assert_eq!(
        summary(&read),
        [
            "8 wrong-type spec.bgpInstances[0].localASN",
            "11 unknown-field spec.bgpInstances[0].peers[0].peerAdress",
            "12 pattern-mismatch spec.bgpInstances[0].peers[0].peerAddress",
            "13 duplicate-item spec.bgpInstances[0].peers[1].name",
            "14 out-of-range spec.bgpInstances[0].peers[1].peerASN",
        ]
    );
    assert!(
        read.problems[0].message.contains("remove the quotes"),
        "{}",
        read.problems[0]
    );
    assert!(
        read.problems[1].message.contains("did you mean 'peerAddress'"),
        "{}",
        read.problems[1]
    );
    assert_eq!(
        read.bad.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["CiliumBGPClusterConfig/rack"]
    );
    assert_eq!(read.objects, []);
}

#[test]
fn one_bad_document_does_not_stop_the_others() {
    let read = read_text(&format!(
        "{PEER}spec: {{}}\n---\n{}spec: [\n---\n{}spec: {{}}\n",
        PEER.replace("tor", "broken"),
        PEER.replace("tor", "other"),
    ));
    let names: Vec<_> = read
        .objects
        .iter()
        .map(|parsed| parsed.reference.name.as_str())
        .collect();
    assert_eq!(names, ["tor", "other"]);
    assert_eq!(
        read.bad,
        [ObjectRef::cluster(Kind::CiliumBGPPeerConfig, "broken")]
    );
    assert_eq!(read.problems.len(), 1);
    assert_eq!(read.problems[0].reason, Reason::BadYaml);
    assert_eq!(
        read.problems[0].object,
        Some(ObjectRef::cluster(Kind::CiliumBGPPeerConfig, "broken"))
    );
}

#[test]
fn lists_hold_objects() {
    let read = read_text(
        "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata:
    name: blue
- apiVersion: v1
  kind: Secret
  metadata:
    name: s
  stringData:
    password: 7
",
    );
    assert_eq!(read.objects.len(), 1);
    assert_eq!(summary(&read), ["13 wrong-type items[1].stringData.password"]);
    assert_eq!(read.bad, [ObjectRef::namespaced(Kind::Secret, "default", "s")]);
}

#[test]
fn kinds_of_others_are_counted_and_slips_are_named() {
    let of = |api: &str, kind: &str| {
        read_text(&format!(
            "apiVersion: {api}\nkind: {kind}\nmetadata: {{name: x}}\n"
        ))
    };
    for (api, kind) in [
        ("apps/v1", "Deployment"),
        ("v1", "ConfigMap"),
        ("kind.x-k8s.io/v1alpha4", "Cluster"),
    ] {
        let read = of(api, kind);
        assert_eq!((read.foreign, read.problems.len()), (1, 0), "{kind}");
    }
    assert_eq!(
        summary(&of("cilium.io/v2", "CiliumNetworkPolicy")),
        ["2 unread-kind kind"]
    );
    let read = of("cilium.io/v2", "CiliumBGPPeerConfigs");
    assert_eq!(summary(&read), ["2 unknown-kind kind"]);
    assert!(
        read.problems[0]
            .message
            .contains("did you mean 'CiliumBGPPeerConfig'")
    );
    assert_eq!(summary(&of("v1", "Sevice")), ["2 unknown-kind kind"]);
    assert_eq!(
        summary(&of("cilium.io/v3", "CiliumNode")),
        ["1 unknown-version apiVersion"]
    );
    assert_eq!(of("cilium.io/v3", "CiliumNode").bad.len(), 1);
}

#[test]
fn what_is_no_manifest_is_named() {
    assert_eq!(summary(&read_text("hello\n")), ["1 not-a-manifest "]);
    assert_eq!(
        summary(&read_text("debug:\n  enabled: true\n")),
        ["1 not-a-manifest "]
    );
    assert_eq!(
        summary(&read_text("kind: Service\n")),
        ["1 missing-kind apiVersion"]
    );
    assert_eq!(
        summary(&read_text("apiVersion: v1\nkind: 7\n")),
        ["2 missing-kind kind"]
    );
    assert_eq!(
        summary(&read_text("apiVersion: v1\nkind: Node\n")),
        ["1 bad-name metadata.name"]
    );
    let numbered = "apiVersion: v1\nkind: Node\nmetadata:\n  name: 7\n";
    assert_eq!(summary(&read_text(numbered)), ["4 bad-name metadata.name"]);
    let shouted = "apiVersion: v1\nkind: Node\nmetadata:\n  name: NODE\n  labels:\n    a: b c\n";
    assert_eq!(
        summary(&read_text(shouted)),
        ["4 bad-name metadata.name", "6 bad-label metadata.labels[a]"]
    );
}

#[test]
fn yaml_traps_are_read_as_kubectl_reads_them() {
    let labels = |text: &str| {
        read_text(&format!(
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: node\n  labels:\n    {text}\n"
        ))
    };
    assert_eq!(summary(&labels("bgp: \"65001\"")), [] as [&str; 0]);
    assert_eq!(
        summary(&labels("bgp: 65001")),
        ["6 wrong-type metadata.labels.bgp"]
    );
    assert_eq!(summary(&labels("bgp: yes")), ["6 wrong-type metadata.labels.bgp"]);
    assert_eq!(summary(&labels("bgp: 'yes'")), [] as [&str; 0]);
    assert_eq!(summary(&labels("65001: 'yes'")), [] as [&str; 0]);
    assert_eq!(summary(&labels("a: b\n    a: c")), ["7 duplicate-key "]);
    assert_eq!(summary(&labels("? [a]\n    : c")), ["6 bad-key "]);
    assert_eq!(labels("a: b\n\tc: d").problems[0].reason, Reason::BadYaml);
    let crlf = "apiVersion: v1\r\nkind: Node\r\nmetadata:\r\n  name: node\r\n---\r\nkind: 1\r\n";
    let read = read_text(&format!("\u{feff}{crlf}"));
    assert_eq!(read.objects.len(), 1);
    assert_eq!(summary(&read), ["6 missing-kind apiVersion"]);
    assert_eq!(read_text("---\n---\n# nothing\n---\n"), Read::default());
    assert_eq!(
        read_text("apiVersion: v1\nkind: Node\nmetadata: {name: node, creationTimestamp: null}\n")
            .objects
            .len(),
        1
    );
}

#[test]
fn anchors_and_merges_are_expanded_within_bounds() {
    let read = read_text(
        "\
apiVersion: v1
kind: Node
metadata:
  name: node
  labels: &l {a: b}
  annotations:
    <<: *l
    c: d
",
    );
    assert_eq!(summary(&read), [] as [&str; 0]);
    assert_eq!(
        read.objects[0]
            .object
            .metadata()
            .annotations
            .as_ref()
            .unwrap()
            .len(),
        2
    );

    let mut bomb =
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: node\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let before = level - 1;
        let items = vec![format!("*a{before}"); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let read = read_text(&bomb);
    assert_eq!(read.problems[0].reason, Reason::TooLarge);
    assert_eq!(read.bad, [ObjectRef::cluster(Kind::Node, "node")]);

    let deep = format!("a: {}1{}\n", "[".repeat(100), "]".repeat(100));
    assert_eq!(read_text(&deep).problems[0].reason, Reason::TooDeep);
    for open in ["[", "- ", "{a: "] {
        assert_eq!(
            read_text(&format!("a: {}", open.repeat(100_000))).problems.len(),
            1
        );
    }
}

#[test]
fn bytes_that_are_no_text_spoil_only_their_document() {
    let mut bytes = format!("{PEER}spec: {{}}\n---\n").into_bytes();
    bytes.extend(PEER.replace("tor", "bad").bytes());
    bytes.extend(b"spec: {authSecretRef: \xff}\n");
    let read = read_bytes(Path::new("a.yaml"), &bytes);
    assert_eq!(read.objects.len(), 1);
    assert_eq!(summary(&read), ["11 not-utf8 "]);
    assert_eq!(read.bad, [ObjectRef::cluster(Kind::CiliumBGPPeerConfig, "bad")]);
}

#[test]
fn fields_of_one_version_are_unknown_in_the_other() {
    let transport = |version: &str| {
        read_text(&format!(
            "{}spec: {{transport: {{localPort: 9}}}}\n",
            PEER.replace("/v2", &format!("/{version}"))
        ))
    };
    assert_eq!(
        summary(&transport("v2")),
        ["5 unknown-field spec.transport.localPort"]
    );
    assert_eq!(transport("v2").objects.len(), 1);
    assert_eq!(
        summary(&transport("v2alpha1")),
        ["5 no-effect spec.transport.localPort"]
    );
}

#[test]
fn objects_as_kubectl_prints_them_are_read() {
    let read = read_text(
        "\
apiVersion: v1
kind: Node
metadata:
  annotations:
    node.alpha.kubernetes.io/ttl: \"0\"
  creationTimestamp: \"2026-01-31T12:00:00Z\"
  managedFields:
  - apiVersion: v1
    fieldsType: FieldsV1
    fieldsV1:
      f:metadata:
        f:annotations:
          .: {}
    manager: kubelet
    operation: Update
    time: \"2026-01-31T12:00:00Z\"
  name: worker
  resourceVersion: \"7\"
  uid: 3f0d
spec:
  podCIDR: 10.1.0.0/24
  podCIDRs: [10.1.0.0/24]
  taints:
  - {effect: NoSchedule, key: a}
status:
  addresses:
  - {address: 10.0.0.1, type: InternalIP}
  allocatable: {cpu: 8, memory: 32Gi, pods: \"110\"}
  conditions:
  - lastHeartbeatTime: \"2026-01-31T12:00:00Z\"
    status: \"True\"
    type: Ready
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  ports:
  - {name: a, port: 80, targetPort: http}
  - {name: b, port: 81, targetPort: 8080}
status:
  loadBalancer:
    ingress:
    - {ip: 10.0.0.1, ipMode: VIP}
",
    );
    assert_eq!(summary(&read), [] as [&str; 0]);
    assert_eq!(read.objects.len(), 2);
}

#[test]
fn what_the_schema_asks_for_is_named() {
    let spec = |spec: &str| {
        read_text(&format!(
            "apiVersion: cilium.io/v2\nkind: CiliumBGPClusterConfig\nmetadata: {{name: x}}\nspec: {spec}\n"
        ))
    };
    assert_eq!(summary(&spec("{}")), ["4 required spec.bgpInstances"]);
    assert_eq!(
        summary(&spec("{bgpInstances: []}")),
        ["4 wrong-length spec.bgpInstances"]
    );
    assert_eq!(
        summary(&spec("{bgpInstances: [{name: ''}]}")),
        ["4 wrong-length spec.bgpInstances[0].name"]
    );
    // Null is the same as nothing.
    assert_eq!(
        summary(&spec("{bgpInstances: null}")),
        ["4 required spec.bgpInstances"]
    );
    let never =
        "apiVersion: v1\nkind: Node\nmetadata: {name: x, creationTimestamp: '2026-02-31T00:00:00Z'}\n";
    assert_eq!(summary(&read_text(never)), ["1 unreadable "]);
}

/// Texts that look like manifests, broken here and there.
fn some_text() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        prop::sample::select(vec![
            "---",
            "--- # x",
            "...",
            "%YAML 1.2",
            "apiVersion: cilium.io/v2",
            "apiVersion: v1",
            "kind: CiliumBGPPeerConfig",
            "kind: Service",
            "kind: List",
            "items:",
            "- apiVersion: v1",
            "metadata:",
            "  name: x",
            "  labels: &a {b: c}",
            "  annotations: *a",
            "    <<: *a",
            "spec:",
            "  families: [{afi: ipv4, safi: unicast}]",
            "  ports:",
            "  - port: 80",
            "  timers: {holdTimeSeconds: 9",
            "? x",
            "\t",
            "|",
            "\u{feff}",
            "!!binary x",
            "\"",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,12}",
        "\\PC{0,6}",
    ];
    let ending = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    proptest::collection::vec((line, ending), 0..24)
        .prop_map(|lines| lines.into_iter().map(|(line, ending)| line + ending).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_bytes(Path::new("a.yaml"), &bytes);
    }

    #[test]
    fn any_text_is_read_and_lines_stay_within_it(text in some_text()) {
        let read = read_text(&text);
        let last = text.split('\n').count() + text.matches('\r').count() + 1;
        for problem in &read.problems {
            prop_assert!(problem.line >= 1 && usize::try_from(problem.line).unwrap() <= last, "{}", problem);
        }
        for object in &read.objects {
            prop_assert!(!read.bad.contains(&object.reference) || text.matches("name").count() > 1);
        }
        prop_assert_eq!(read_bytes(Path::new("a.yaml"), text.as_bytes()), read);
    }

    #[test]
    fn a_bad_document_leaves_its_neighbours_alone(text in some_text()) {
        let good = |name: &str| format!("{}spec: {{}}\n", PEER.replace("tor", name));
        let read = read_text(&format!("{}---\n{text}\n---\n{}", good("before"), good("after")));
        let has = |name: &str| read.objects.iter().any(|parsed| parsed.reference.name == name);
        prop_assert!(has("before") && has("after"));
    }
}

#[test]
fn no_message_shows_what_a_secret_holds() {
    for data in [
        "data: {password: 's3cret !'}",
        "data: {password: [s3cret]}",
        "data: s3cret",
        "stringData: {password: 53cre7}",
        "stringData: {password: 1234567}",
        "stringData: {password: {s3cret: 1234567}}",
        "stringdata: {password: s3cret}",
        "type: [s3cret, 1234567]",
    ] {
        let read = read_text(&format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n{data}\n"
        ));
        for problem in &read.problems {
            let text = problem.to_string();
            assert!(!text.contains("s3cret") && !text.contains("1234567"), "{text}");
        }
    }
}

/// One document of each kind, with fields of many shapes, and one of an older version.
const EVERY_KIND: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumBGPClusterConfig
metadata: {name: rack, labels: {a: b}, creationTimestamp: "2026-01-31T12:00:00Z"}
spec:
  nodeSelector: {matchExpressions: [{key: rack, operator: In, values: [a]}]}
  bgpInstances:
  - {name: i, localASN: 4200000000, localPort: 179, multipath: {}, peers: [{name: p, peerPrefix: 10.0.0.0/24, dynamicLimit: 3, peerConfigRef: {name: tor}}]}
  - {name: j, peers: [{name: p, autoDiscovery: {mode: DefaultGateway, defaultGateway: {addressFamily: ipv6}}}]}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumBGPClusterConfig
metadata: {name: older}
spec: {bgpInstances: [{name: i, peers: [{name: p, peerAddress: 10.0.0.1, peerConfigRef: {group: cilium.io, kind: CiliumBGPPeerConfig, name: tor}}]}]}
---
apiVersion: cilium.io/v2
kind: CiliumBGPPeerConfig
metadata: {name: tor}
spec:
  transport: {peerPort: 1790, passive: true}
  timers: {holdTimeSeconds: 9, keepAliveTimeSeconds: 3}
  gracefulRestart: {enabled: true}
  maxPrefixes: {limit: 5}
  families: [{afi: ipv6, safi: unicast, advertisements: {}}]
---
apiVersion: cilium.io/v2
kind: CiliumBGPAdvertisement
metadata: {name: all}
spec:
  advertisements:
  - advertisementType: Service
    service: {addresses: [LoadBalancerIP], aggregationLengthIPv4: 28}
    selector: {matchLabels: {a: b}}
    attributes: {localPreference: 5, med: 7, communities: {standard: ["65000:1"], wellKnown: [no-export], large: ["1:2:3"]}}
---
apiVersion: cilium.io/v2
kind: CiliumBGPNodeConfig
metadata: {name: n1}
spec: {bgpInstances: [{name: i, routerID: 10.0.0.1, peers: [{name: p, peerASN: 0, peerAddress: fe80::1%eth0}]}]}
---
apiVersion: cilium.io/v2
kind: CiliumBGPNodeConfigOverride
metadata: {name: n1}
spec: {bgpInstances: [{name: i, localPort: 179, peers: [{name: p, localAddress: 10.0.0.1}]}]}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumBGPPeeringPolicy
metadata: {name: old}
spec: {virtualRouters: [{localASN: 1, exportPodCIDR: true, neighbors: [{peerAddress: 10.0.0.1/32, peerASN: 2}]}]}
---
apiVersion: cilium.io/v2
kind: CiliumLoadBalancerIPPool
metadata: {name: pool}
spec: {allowFirstLastIPs: "No", blocks: [{cidr: 10.0.0.0/24}, {start: fd00::1, stop: fd00::9}]}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumPodIPPool
metadata: {name: pods}
spec: {ipv4: {cidrs: [10.1.0.0/16], maskSize: 24}}
---
apiVersion: cilium.io/v2
kind: CiliumNode
metadata: {name: n1}
spec: {addresses: [{type: InternalIP, ip: 10.0.0.1}], ipam: {podCIDRs: [10.1.0.0/24], pools: {allocated: [{pool: pods, cidrs: [10.1.1.0/24]}]}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, ports: [{port: 80, targetPort: http}, {port: 81, targetPort: 8081}], externalTrafficPolicy: Local}
status: {loadBalancer: {ingress: [{ip: 10.0.0.7, ipMode: VIP}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: web, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.5], conditions: {ready: false}, nodeName: n1}]
ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDR: 10.1.0.0/24}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}], capacity: {cpu: 4}}
---
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: kube-system}
stringData: {password: secret}
data: {other: c2VjcmV0}
---
apiVersion: v1
kind: Namespace
metadata: {name: web}
---
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: web}
spec: {nodeName: n1, containers: [{name: web, image: web, ports: [{containerPort: 80, hostPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.1.0.5}]}
"#;

#[test]
fn an_object_written_down_reads_back_as_the_same() {
    let read = read_text(EVERY_KIND);
    assert_eq!(summary(&read), [] as [&str; 0]);
    let kinds: std::collections::BTreeSet<Kind> = read.objects.iter().map(|o| o.reference.kind).collect();
    assert_eq!(kinds.len(), Kind::ALL.len());
    for parsed in &read.objects {
        let document = parsed.document().unwrap();
        assert_eq!(document.lines().count(), 1);
        let again = read_text(&document);
        assert_eq!(summary(&again), [] as [&str; 0], "{document}");
        let [again] = &again.objects[..] else {
            panic!("{document}")
        };
        assert_eq!(
            (&again.reference, again.version, &again.object),
            (&parsed.reference, parsed.version, &parsed.object)
        );
    }
}

#[test]
fn an_object_of_an_api_server_is_read_as_its_manifest_is() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n";
    let json = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "web" },
        "spec": { "ports": [{ "port": 80 }] },
    });
    let (written, told) = (
        read(Path::new("x.yaml"), text),
        read_json(Path::new("cluster"), &json),
    );
    assert_eq!(told.objects[0].object, written.objects[0].object);
    assert_eq!(told.objects[0].line_of("spec.ports"), 0);
    let broken = serde_json::json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" }, "spec": 1 });
    let told = read_json(Path::new("cluster"), &broken);
    assert_eq!(told.bad.len(), 1);
    assert_eq!(told.problems[0].file, Path::new("cluster"));
}
