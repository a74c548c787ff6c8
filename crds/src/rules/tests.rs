use std::path::Path;

use crate::read::read;

/// `line severity reason field` of every problem of one document.
fn problems(text: &str) -> Vec<String> {
    let read = read(Path::new("a.yaml"), text);
    let line = |p: &crate::Problem| format!("{} {} {} {}", p.line, p.severity, p.reason, p.field);
    read.problems.iter().map(line).collect()
}

/// A document whose `spec` is given in one line, which is line 4.
fn document(api_version: &str, kind: &str, spec: &str) -> String {
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
}

fn cilium(kind: &str, spec: &str) -> Vec<String> {
    problems(&document("cilium.io/v2", kind, spec))
}

fn alpha(kind: &str, spec: &str) -> Vec<String> {
    problems(&document("cilium.io/v2alpha1", kind, spec))
}

fn peer(fields: &str) -> Vec<String> {
    let spec = format!("{{bgpInstances: [{{name: i, localASN: 1, peers: [{{name: p, {fields}}}]}}]}}");
    let at = "spec.bgpInstances[0].peers[0]";
    cilium("CiliumBGPClusterConfig", &spec)
        .iter()
        .map(|line| line.replace(at, "$"))
        .collect()
}

#[test]
fn a_peer_says_once_where_it_is() {
    assert_eq!(peer("peerAddress: 10.0.0.1"), [] as [&str; 0]);
    assert_eq!(peer("peerPrefix: 10.0.0.0/24, dynamicLimit: 5"), [] as [&str; 0]);
    let discovery = "autoDiscovery: {mode: DefaultGateway, defaultGateway: {addressFamily: ipv6}}";
    assert_eq!(peer(discovery), [] as [&str; 0]);
    assert_eq!(peer("peerASN: 1"), ["4 warning peer-without-address $"]);
    assert_eq!(
        peer(&format!("peerAddress: 10.0.0.1, {discovery}")),
        ["4 warning peer-address-ambiguous $.autoDiscovery"]
    );
    assert_eq!(
        peer("peerAddress: 10.0.0.1, peerPrefix: 10.0.0.0/24"),
        ["4 error peer-address-ambiguous $.peerPrefix"]
    );
    assert_eq!(
        peer("autoDiscovery: {mode: DefaultGateway}"),
        ["4 warning auto-discovery-incomplete $.autoDiscovery"]
    );
    assert_eq!(
        peer("peerAddress: 10.0.0.1, dynamicLimit: 5"),
        ["4 warning no-effect $.dynamicLimit"]
    );
}

#[test]
fn addresses_and_prefixes_are_used_without_what_is_around_them() {
    assert_eq!(
        peer("peerAddress: ' 10.0.0.1'"),
        ["4 warning padded-address $.peerAddress"]
    );
    assert_eq!(
        peer("peerAddress: fd00::1%eth0"),
        ["4 warning address-zone $.peerAddress"]
    );
    // Without the zone nobody could reach it.
    assert_eq!(peer("peerAddress: fe80::1%eth0"), [] as [&str; 0]);
    assert_eq!(
        peer("peerPrefix: 10.0.0.1/24"),
        ["4 warning host-bits $.peerPrefix"]
    );
    assert_eq!(
        peer("peerPrefix: 10.0.0.1"),
        ["4 error wrong-format $.peerPrefix"]
    );
    assert_eq!(
        cilium("CiliumLoadBalancerIPPool", "{blocks: [{cidr: 10.0.0.1/24}]}"),
        ["4 warning host-bits spec.blocks[0].cidr"]
    );
}

#[test]
fn router_ids_and_ports_of_overrides_are_usable() {
    let over = |fields: &str| {
        cilium(
            "CiliumBGPNodeConfigOverride",
            &format!("{{bgpInstances: [{{name: i, {fields}}}]}}"),
        )
    };
    assert_eq!(over("routerID: 10.0.0.1, localPort: 179"), [] as [&str; 0]);
    assert_eq!(
        over("routerID: 0.0.0.0"),
        ["4 error bad-address spec.bgpInstances[0].routerID"]
    );
    assert_eq!(
        over("localPort: 70000"),
        ["4 warning bad-port spec.bgpInstances[0].localPort"]
    );
    assert_eq!(
        over("peers: [{name: p, localPort: 1}]"),
        ["4 warning no-effect spec.bgpInstances[0].peers[0].localPort"]
    );
}

#[test]
fn sessions_are_described_without_contradiction() {
    let config = |spec: &str| cilium("CiliumBGPPeerConfig", spec);
    assert_eq!(config("{ttlSecurity: {}}"), [] as [&str; 0]);
    assert_eq!(
        config("{ttlSecurity: {hops: 1}, ebgpMultihop: 2}"),
        ["4 error ttl-security-with-multihop spec.ttlSecurity"]
    );
    assert_eq!(
        config("{ttlSecurity: {hops: 255}}"),
        ["4 error out-of-range spec.ttlSecurity.hops"]
    );
    // Against the default of the one that is missing, too.
    assert_eq!(
        config("{timers: {holdTimeSeconds: 9}}"),
        ["4 error keepalive-above-hold spec.timers.holdTimeSeconds"]
    );
    assert_eq!(
        config("{timers: {keepAliveTimeSeconds: 91}}"),
        ["4 error keepalive-above-hold spec.timers.keepAliveTimeSeconds"]
    );
    assert_eq!(config("{timers: {holdTimeSeconds: 30}}"), [] as [&str; 0]);
    let family = "{afi: ipv4, safi: unicast}";
    assert_eq!(
        config(&format!("{{families: [{family}, {family}]}}")),
        ["4 warning duplicate-family spec.families[1]"]
    );
    assert_eq!(
        config("{families: [{afi: l2vpn, safi: evpn}]}"),
        ["4 warning unused-family spec.families[0]"]
    );
    assert_eq!(
        config(
            "{families: [{afi: ipv4, safi: unicast, advertisements: {matchExpressions: [{key: a, operator: In}]}}]}"
        ),
        ["4 error bad-selector spec.families[0].advertisements.matchExpressions[0].values"]
    );
    assert_eq!(
        config("{maxPrefixes: {limit: 0}}"),
        ["4 error out-of-range spec.maxPrefixes.limit"]
    );
    assert_eq!(
        config("{maxPrefixes: {limit: 1, action: teardown}}"),
        ["4 error not-one-of spec.maxPrefixes.action"]
    );
}

#[test]
fn advertisements_say_what_and_nothing_that_has_no_effect() {
    let advertisement = |fields: &str| {
        let found = cilium(
            "CiliumBGPAdvertisement",
            &format!("{{advertisements: [{{{fields}}}]}}"),
        );
        found
            .iter()
            .map(|line| line.replace("spec.advertisements[0]", "$"))
            .collect::<Vec<_>>()
    };
    assert_eq!(advertisement("advertisementType: PodCIDR"), [] as [&str; 0]);
    assert_eq!(
        advertisement("advertisementType: PodCIDR, selector: {}"),
        ["4 error selector-not-allowed $.selector"]
    );
    assert_eq!(
        advertisement("advertisementType: Service, selector: {}"),
        ["4 error service-required $.advertisementType"]
    );
    assert_eq!(
        advertisement("advertisementType: Service, service: {addresses: [ClusterIP]}"),
        ["4 warning no-effect $"]
    );
    assert_eq!(
        advertisement("advertisementType: PodCIDR, service: {addresses: [ClusterIP]}"),
        ["4 warning no-effect $.service"]
    );
    assert_eq!(
        advertisement("advertisementType: PodCIDR, attributes: {localPreference: 4294967296}"),
        ["4 warning local-preference-out-of-range $.attributes.localPreference"]
    );
    assert_eq!(
        advertisement("advertisementType: PodCIDR, attributes: {extendedCommunities: ['rt:1:1', 'rt:x']}"),
        ["4 error bad-community $.attributes.extendedCommunities[1]"]
    );
    assert_eq!(
        advertisement("advertisementType: PodCIDR, attributes: {communities: {standard: [no-export]}}"),
        ["4 error pattern-mismatch $.attributes.communities.standard[0]"]
    );
}

#[test]
fn blocks_of_pools_are_ranges() {
    let pool = |block: &str| cilium("CiliumLoadBalancerIPPool", &format!("{{blocks: [{block}]}}"));
    assert_eq!(
        pool("{start: 10.0.0.1, stop: 10.0.0.9}, {start: fd00::1}"),
        [] as [&str; 0]
    );
    assert_eq!(pool("{}"), ["4 error empty-block spec.blocks[0]"]);
    assert_eq!(pool("{stop: 10.0.0.1}"), ["4 error empty-block spec.blocks[0]"]);
    assert_eq!(
        pool("{start: 10.0.0.9, stop: 10.0.0.1}"),
        ["4 error reversed-range spec.blocks[0]"]
    );
    assert_eq!(
        pool("{start: 10.0.0.9, stop: fd00::1}"),
        ["4 error mixed-families spec.blocks[0]"]
    );
    assert_eq!(pool("{start: ten}"), ["4 error bad-address spec.blocks[0].start"]);
    assert_eq!(
        pool("{cidr: 10.0.0.0/24, start: 10.0.0.1}"),
        ["4 warning no-effect spec.blocks[0]"]
    );
    assert_eq!(
        pool("{cidr: 10.0.0.0/24}, {start: 10.0.0.255}"),
        ["4 warning overlapping-blocks spec.blocks[1]"]
    );
}

#[test]
fn reserved_parts_of_a_pool_are_sound_and_inside_its_blocks() {
    let pool = |reserved: &str| {
        cilium(
            "CiliumLoadBalancerIPPool",
            &format!("{{blocks: [{{cidr: 10.0.0.0/24}}], reserved: [{reserved}]}}"),
        )
    };
    assert_eq!(pool("{cidr: 10.0.0.0/30}, {start: 10.0.0.9}"), [] as [&str; 0]);
    assert_eq!(pool("{}"), ["4 error empty-block spec.reserved[0]"]);
    assert_eq!(
        pool("{start: 10.0.1.1}"),
        ["4 warning no-effect spec.reserved[0]"]
    );
}

#[test]
fn pod_pools_hold_prefixes_of_their_family() {
    let pool = |spec: &str| alpha("CiliumPodIPPool", spec);
    assert_eq!(
        pool("{ipv4: {cidrs: [10.0.0.0/16], maskSize: 24}}"),
        [] as [&str; 0]
    );
    assert_eq!(
        pool("{ipv4: {cidrs: ['fd00::/48'], maskSize: 24}}"),
        ["4 error mixed-families spec.ipv4.cidrs[0]"]
    );
    assert_eq!(
        pool("{ipv4: {cidrs: [10.0.0.0/24], maskSize: 16}}"),
        ["4 warning bad-mask-size spec.ipv4.maskSize"]
    );
    assert_eq!(
        cilium("CiliumNode", "{ipam: {podCIDRs: [10.0.0.1/24, ten]}}"),
        [
            "4 warning host-bits spec.ipam.podCIDRs[0]",
            "4 warning bad-address spec.ipam.podCIDRs[1]"
        ]
    );
}

#[test]
fn peering_policies_name_single_neighbors() {
    let policy = |neighbor: &str| {
        alpha(
            "CiliumBGPPeeringPolicy",
            &format!("{{virtualRouters: [{{localASN: 1, neighbors: [{{peerASN: 2, {neighbor}}}]}}]}}"),
        )
    };
    assert_eq!(policy("peerAddress: 10.0.0.1/32"), [] as [&str; 0]);
    assert_eq!(
        policy("peerAddress: 10.0.0.0/24"),
        ["4 error bad-address spec.virtualRouters[0].neighbors[0].peerAddress"]
    );
    assert_eq!(
        policy("peerAddress: 10.0.0.1/32, holdTimeSeconds: 3"),
        ["4 error keepalive-above-hold spec.virtualRouters[0].neighbors[0].holdTimeSeconds"]
    );
}

#[test]
fn core_kinds_keep_to_what_the_api_server_checks() {
    let service = |spec: &str| problems(&document("v1", "Service", spec));
    assert_eq!(
        service("{type: LoadBalancer, ports: [{port: 80}, {port: 80, protocol: UDP}], clusterIP: None}"),
        [] as [&str; 0]
    );
    assert_eq!(service("{type: Loadbalancer}"), ["4 error not-one-of spec.type"]);
    assert_eq!(
        service("{ports: [{port: 0}]}"),
        ["4 error bad-port spec.ports[0].port"]
    );
    assert_eq!(
        service("{ports: [{port: 80}, {port: 80}]}"),
        ["4 error duplicate-item spec.ports[1].port"]
    );
    assert_eq!(
        service("{externalIPs: [x]}"),
        ["4 error bad-address spec.externalIPs[0]"]
    );
    assert_eq!(
        service("{ipFamilies: [IPv4, IPv4]}"),
        ["4 error duplicate-family spec.ipFamilies[1]"]
    );
    assert_eq!(
        service("{selector: {a: 'b c'}}"),
        ["4 error bad-selector spec.selector[a]"]
    );
    assert_eq!(
        service("{ports: [{port: '80'}]}"),
        ["4 error wrong-type spec.ports[0].port"]
    );
    let annotated = "apiVersion: v1\nkind: Service\nmetadata:\n  name: x\n  annotations:\n    lbipam.cilium.io/ips: 10.0.0.1, ten\n";
    assert_eq!(
        problems(annotated),
        ["6 warning bad-address metadata.annotations[lbipam.cilium.io/ips]"]
    );
    let slice = |fields: &str| {
        problems(&format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: x}}\n{fields}\n"
        ))
    };
    assert_eq!(
        slice("addressType: IPv4\nendpoints: [{addresses: [10.0.0.1]}]"),
        [] as [&str; 0]
    );
    assert_eq!(
        slice("addressType: IPv4\nendpoints: [{addresses: ['fd00::1']}]"),
        ["5 error bad-address endpoints[0].addresses[0]"]
    );
    assert_eq!(
        slice("addressType: IPv5\nendpoints: []"),
        ["4 error not-one-of addressType"]
    );
    assert_eq!(
        problems(&document("v1", "Node", "{podCIDRs: [10.0.0.1/24]}")),
        ["4 warning host-bits spec.podCIDRs[0]"]
    );
    assert_eq!(
        problems("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\ndata: {password: 'not base64'}\n"),
        ["4 error wrong-format data.password"]
    );
}
