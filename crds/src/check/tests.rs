use std::path::Path;

use super::*;
use crate::read::read;

/// `object reason field` of every problem between the objects of this text.
fn problems(text: &str) -> Vec<String> {
    let read = read(Path::new("a.yaml"), text);
    let errors: Vec<_> = read
        .problems
        .iter()
        .filter(|problem| problem.is_error())
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let found = check(&read.objects, CheckOptions::default());
    let line = |p: &Problem| {
        let object = p.object.as_ref().map(ToString::to_string).unwrap_or_default();
        format!("{}: {object} {} {}", p.line, p.reason, p.field)
    };
    found.iter().map(line).collect()
}

fn node(name: &str, labels: &str) -> String {
    format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n")
}

const RACK: &str = "\
apiVersion: cilium.io/v2
kind: CiliumBGPClusterConfig
metadata:
  name: rack
spec:
  nodeSelector:
    matchLabels: {rack: a}
  bgpInstances:
  - name: main
    localASN: 65001
    peers:
    - name: tor
      peerAddress: 10.0.0.1
      peerConfigRef:
        name: tor
";

const TOR: &str = "\
---
apiVersion: cilium.io/v2
kind: CiliumBGPPeerConfig
metadata:
  name: tor
spec:
  families:
  - {afi: ipv4, safi: unicast}
";

#[test]
fn a_whole_configuration_has_no_problem() {
    assert_eq!(
        problems(&format!("{RACK}{TOR}{}", node("n1", "rack: a"))),
        [] as [&str; 0]
    );
}

#[test]
fn references_to_nothing_are_named() {
    let text = format!("{RACK}{}", node("n1", "rack: a"));
    let missing = "13: CiliumBGPClusterConfig/rack missing-peer-config spec.bgpInstances[0].peers[0].peerConfigRef.name";
    assert_eq!(problems(&text), [missing.replace("13:", "15:")]);
    let secret = TOR.replace("  families", "  authSecretRef: key\n  families");
    let text = format!("{RACK}{secret}{}", node("n1", "rack: a"));
    assert_eq!(
        problems(&text),
        ["22: CiliumBGPPeerConfig/tor missing-auth-secret spec.authSecretRef"]
    );
    let of = |namespace: &str, data: &str| {
        format!(
            "{text}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: key, namespace: {namespace}}}\n{data}\n"
        )
    };
    assert_eq!(
        problems(&of("kube-system", "stringData: {password: x}")),
        [] as [&str; 0]
    );
    assert_eq!(
        problems(&of("kube-system", "data: {password: eA==}")),
        [] as [&str; 0]
    );
    assert_eq!(
        problems(&of("kube-system", "stringData: {pass: x}")),
        ["22: CiliumBGPPeerConfig/tor no-password spec.authSecretRef"]
    );
    assert_eq!(
        problems(&of("kube-system", "stringData: {password: ''}")),
        ["22: CiliumBGPPeerConfig/tor no-password spec.authSecretRef"]
    );
    assert_eq!(
        problems(&of("default", "stringData: {password: x}")),
        ["22: CiliumBGPPeerConfig/tor missing-auth-secret spec.authSecretRef"]
    );
}

#[test]
fn selectors_that_match_nothing_are_named() {
    let text = "\
apiVersion: cilium.io/v2
kind: CiliumBGPPeerConfig
metadata: {name: tor}
spec:
  families:
  - {afi: ipv4, safi: unicast, advertisements: {matchLabels: {advertise: bgp}}}
---
apiVersion: cilium.io/v2
kind: CiliumBGPAdvertisement
metadata: {name: all, labels: {advertise: other}}
spec:
  advertisements:
  - advertisementType: Service
    service: {addresses: [ClusterIP]}
    selector: {matchLabels: {io.kubernetes.service.name: web}}
  - advertisementType: CiliumPodIPPool
    selector: {matchLabels: {io.cilium.podippool.name: blue}}
---
apiVersion: cilium.io/v2
kind: CiliumLoadBalancerIPPool
metadata: {name: pool}
spec:
  serviceSelector: {}
---
apiVersion: cilium.io/v2
kind: CiliumBGPClusterConfig
metadata: {name: rack}
spec:
  nodeSelector: {matchLabels: {a: b}}
  bgpInstances: [{name: i, localASN: 1}]
";
    assert_eq!(
        problems(text),
        [
            "6: CiliumBGPPeerConfig/tor no-matching-advertisement spec.families[0].advertisements",
            "15: CiliumBGPAdvertisement/all no-matching-service spec.advertisements[0].selector",
            "17: CiliumBGPAdvertisement/all no-matching-pool spec.advertisements[1].selector",
            "23: CiliumLoadBalancerIPPool/pool no-matching-service spec.serviceSelector",
            "29: CiliumBGPClusterConfig/rack no-matching-node spec.nodeSelector",
        ]
    );
    let text = text.replace("advertise: other", "advertise: bgp");
    let text = format!(
        "{text}{}---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: LoadBalancer}}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumPodIPPool
metadata: {{name: blue}}
spec: {{}}
",
        node("n1", "a: b")
    );
    assert_eq!(problems(&text), [] as [&str; 0]);
}

#[test]
fn overrides_of_what_is_not_there_are_named() {
    let over = |node: &str, instance: &str, peer: &str| {
        format!(
            "{RACK}{TOR}{}---\napiVersion: cilium.io/v2\nkind: CiliumBGPNodeConfigOverride\nmetadata:\n  name: {node}\nspec:\n  bgpInstances:\n  - name: {instance}\n    peers:\n    - name: {peer}\n",
            self::node("n1", "rack: a")
        )
    };
    assert_eq!(problems(&over("n1", "main", "tor")), [] as [&str; 0]);
    assert_eq!(
        problems(&over("n1", "mian", "tor")),
        ["35: CiliumBGPNodeConfigOverride/n1 unknown-instance spec.bgpInstances[0].name"]
    );
    assert_eq!(
        problems(&over("n1", "main", "tro")),
        ["37: CiliumBGPNodeConfigOverride/n1 unknown-peer spec.bgpInstances[0].peers[0].name"]
    );
    assert_eq!(
        problems(&over("n2", "main", "tor")),
        ["32: CiliumBGPNodeConfigOverride/n2 no-matching-node metadata.name"]
    );
}

#[test]
fn two_objects_that_want_the_same_are_named() {
    let twin = RACK
        .replace("name: rack", "name: twin")
        .replace("matchLabels: {rack: a}", "matchLabels: {}");
    let text = format!("{RACK}---\n{twin}{TOR}{}", node("n1", "rack: a"));
    assert_eq!(
        problems(&text),
        ["22: CiliumBGPClusterConfig/twin conflicting-cluster-config spec.nodeSelector"]
    );
    let peers = RACK.replace(
        "    peers:\n",
        "    peers:\n    - {name: x, peerAddress: '10.0.0.1 '}\n",
    );
    let text = format!("{peers}{TOR}{}", node("n1", "rack: a"));
    assert_eq!(
        problems(&text),
        ["14: CiliumBGPClusterConfig/rack duplicate-peer-address spec.bgpInstances[0].peers[1].peerAddress"]
    );
    let pool = |name: &str, block: &str| {
        format!(
            "---\napiVersion: cilium.io/v2\nkind: CiliumLoadBalancerIPPool\nmetadata: {{name: {name}}}\nspec:\n  blocks:\n  - {block}\n"
        )
    };
    let text = format!(
        "{}{}",
        pool("b", "cidr: 10.0.0.0/24"),
        pool("a", "start: 10.0.0.255")
    );
    assert_eq!(
        problems(&text),
        ["7: CiliumLoadBalancerIPPool/b pool-conflict spec.blocks[0]"]
    );
}

#[test]
fn an_instance_that_cannot_run_or_be_reached_is_named() {
    let text = format!(
        "{}{TOR}{}",
        RACK.replace("    localASN: 65001\n", ""),
        node("n1", "rack: a")
    );
    assert_eq!(
        problems(&text),
        ["9: CiliumBGPClusterConfig/rack missing-asn spec.bgpInstances[0]"]
    );
    let over = "---\napiVersion: cilium.io/v2\nkind: CiliumBGPNodeConfigOverride\nmetadata: {name: n1}\nspec: {bgpInstances: [{name: main, localASN: 7, localPort: 179}]}\n";
    assert_eq!(problems(&format!("{text}{over}")), [] as [&str; 0]);
    let waiting = RACK.replace("peerAddress: 10.0.0.1", "peerPrefix: 10.0.0.0/24");
    let text = format!("{waiting}{TOR}{}", node("n1", "rack: a"));
    assert_eq!(
        problems(&text),
        ["13: CiliumBGPClusterConfig/rack not-listening spec.bgpInstances[0].peers[0].peerPrefix"]
    );
    assert_eq!(problems(&format!("{text}{over}")), [] as [&str; 0]);
}

#[test]
fn a_node_is_selected_by_the_labels_of_whichever_of_its_objects_has_some() {
    let cilium = "---\napiVersion: cilium.io/v2\nkind: CiliumNode\nmetadata: {name: n1}\nspec: {}\n";
    for nodes in [
        format!("{}{cilium}", node("n1", "rack: a")),
        format!("{cilium}{}", node("n1", "rack: a")),
    ] {
        assert_eq!(problems(&format!("{RACK}{TOR}{nodes}")), [] as [&str; 0]);
    }
    let other = cilium.replace("{name: n1}", "{name: n1, labels: {rack: b}}");
    assert_eq!(
        problems(&format!("{RACK}{TOR}{other}{}", node("n1", "rack: a"))),
        ["6: CiliumBGPClusterConfig/rack no-matching-node spec.nodeSelector"]
    );
}

#[test]
fn an_empty_reference_is_as_good_as_none() {
    let text = format!(
        "{}{}",
        RACK.replace("        name: tor", "        name: ''"),
        node("n1", "rack: a")
    );
    assert_eq!(problems(&text), [] as [&str; 0]);
}
