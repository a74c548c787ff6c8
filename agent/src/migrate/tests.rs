use std::path::Path;

use super::*;

fn documents(text: &str) -> Vec<Value> {
    crds::documents(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap()
}

const CLUSTER: &str = "
apiVersion: v1
kind: List
items:
- apiVersion: metallb.io/v1beta1
  kind: IPAddressPool
  metadata: {name: front, namespace: metallb-system}
  spec:
    addresses: [192.0.2.0/25, '2001:db8::10-2001:db8::20']
    avoidBuggyIPs: true
    serviceAllocation:
      priority: 10
      namespaces: [shop]
      serviceSelectors: [{matchLabels: {tier: web}}]
- apiVersion: metallb.io/v1beta1
  kind: IPAddressPool
  metadata: {name: rest, namespace: metallb-system}
  spec: {addresses: [198.51.100.10 - 198.51.100.20], autoAssign: false, serviceAllocation: {priority: 20}}
- apiVersion: metallb.io/v1beta2
  kind: BGPPeer
  metadata: {name: tor, namespace: metallb-system}
  spec: {myASN: 64512, peerASN: 64513, peerAddress: 10.0.0.1, holdTime: 1m30s, ebgpMultiHop: true, bfdProfile: fast}
- apiVersion: metallb.io/v1beta2
  kind: BGPPeer
  metadata: {name: tor6, namespace: metallb-system}
  spec: {myASN: 64512, dynamicASN: external, peerAddress: 'fd00::1', peerPort: 1179, sourceAddress: 'fd00::2',
    passwordSecret: {name: tor6, namespace: metallb-system}}
- apiVersion: metallb.io/v1beta1
  kind: Community
  metadata: {name: names, namespace: metallb-system}
  spec: {communities: [{name: quiet, value: '65535:65281'}, {name: far, value: 'large:64512:1:2'}]}
- apiVersion: metallb.io/v1beta1
  kind: BGPAdvertisement
  metadata: {name: all, namespace: metallb-system}
  spec: {aggregationLength: 32, localPref: 200, communities: [quiet, far, '64512:7', unheard]}
- apiVersion: metallb.io/v1beta1
  kind: BGPAdvertisement
  metadata: {name: some, namespace: metallb-system}
  spec: {aggregationLength: 24, ipAddressPools: [front], peers: [tor]}
- apiVersion: metallb.io/v1beta1
  kind: L2Advertisement
  metadata: {name: lan, namespace: metallb-system}
  spec: {interfaces: [eth0.7]}
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: shop, annotations: {metallb.universe.tf/allow-shared-ip: blue}}
  spec: {type: LoadBalancer}
  status: {loadBalancer: {ingress: [{ip: 192.0.2.7}, {ip: '2001:db8::11'}]}}
- apiVersion: v1
  kind: Service
  metadata: {name: inner, namespace: shop}
  spec: {type: ClusterIP}
";

fn find<'a>(migrated: &'a Migrated, kind: &str, name: &str) -> &'a Value {
    let mut all = migrated.objects.iter();
    all.find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn what_is_written_is_what_our_kinds_take() {
    let migrated = metallb(&documents(CLUSTER));
    // A part of a Service is none, and the other kind is not read yet.
    let unread = ["Service", "CiliumL2AnnouncementPolicy"];
    let ours = migrated
        .objects
        .iter()
        .filter(|object| !unread.iter().any(|kind| object["kind"] == *kind));
    for object in ours {
        let read = crds::read_json(Path::new("migrated"), object);
        assert_eq!(read.problems, Vec::new(), "{object:#}");
        assert_eq!(read.objects.len(), 1, "{object:#}");
    }
}

#[test]
fn pools_keep_their_blocks_their_order_and_whom_they_serve() {
    let migrated = metallb(&documents(CLUSTER));
    let front = &find(&migrated, "CiliumLoadBalancerIPPool", "front")["spec"];
    assert_eq!(
        front["blocks"],
        json!([{ "cidr": "192.0.2.0/25" }, { "start": "2001:db8::10", "stop": "2001:db8::20" }])
    );
    assert_eq!(front["reserved"], json!([{ "start": "192.0.2.0" }]));
    assert_eq!(front["serviceSelector"]["matchLabels"], json!({ "tier": "web" }));
    assert_eq!(
        front["serviceSelector"]["matchExpressions"][0]["values"],
        json!(["shop"])
    );
    let rest = &find(&migrated, "CiliumLoadBalancerIPPool", "rest")["spec"];
    assert_eq!(rest["autoAssign"], false);
    assert_eq!(
        rest["blocks"],
        json!([{ "start": "198.51.100.10", "stop": "198.51.100.20" }])
    );
    // The lower number of theirs is the higher one of ours.
    assert!(
        front["priority"].as_i64() > rest["priority"].as_i64(),
        "{front} {rest}"
    );
}

#[test]
fn sessions_keep_their_timers_and_advertisements_go_to_the_same_peers() {
    let migrated = metallb(&documents(CLUSTER));
    let config = &find(&migrated, "CiliumBGPClusterConfig", "metallb-0")["spec"]["bgpInstances"][0];
    assert_eq!(config["localASN"], 64512);
    assert_eq!(config["peers"][0]["peerASN"], 64513);
    assert_eq!(config["peers"][1]["peerASN"], 0, "whatever it says");
    let tor = &find(&migrated, "CiliumBGPPeerConfig", "tor")["spec"];
    assert_eq!(
        tor["timers"],
        json!({ "holdTimeSeconds": 90, "keepAliveTimeSeconds": 30 })
    );
    assert_eq!(tor["ebgpMultihop"], 255);
    let tor6 = &find(&migrated, "CiliumBGPPeerConfig", "tor6")["spec"];
    assert_eq!(
        tor6["transport"],
        json!({ "peerPort": 1179, "localAddress": "fd00::2" })
    );
    assert_eq!(tor6["authSecretRef"], "tor6");
    let all = find(&migrated, "CiliumBGPAdvertisement", "all");
    assert_eq!(all["metadata"]["labels"].as_object().unwrap().len(), 2);
    let advertisement = &all["spec"]["advertisements"][0];
    assert_eq!(advertisement["selector"], json!({}));
    assert_eq!(
        advertisement["service"],
        json!({ "addresses": ["LoadBalancerIP"] })
    );
    assert_eq!(
        advertisement["attributes"],
        json!({
            "localPreference": 200,
            "communities": { "standard": ["65535:65281", "64512:7"], "large": ["64512:1:2"] },
        })
    );
    let some = find(&migrated, "CiliumBGPAdvertisement", "some");
    assert_eq!(some["metadata"]["labels"], json!({ "stentor.io/for-tor": "yes" }));
    let advertisement = &some["spec"]["advertisements"][0];
    assert_eq!(advertisement["service"]["aggregationLengthIPv4"], 24);
    assert_eq!(
        advertisement["selector"]["matchExpressions"][0]["values"],
        json!(["front"])
    );
}

#[test]
fn services_keep_their_addresses_and_say_their_pool() {
    let migrated = metallb(&documents(CLUSTER));
    let web = &find(&migrated, "Service", "web")["metadata"];
    assert_eq!(
        web["annotations"]["lbipam.cilium.io/ips"],
        "192.0.2.7,2001:db8::11"
    );
    assert_eq!(web["annotations"]["lbipam.cilium.io/sharing-key"], "blue");
    assert_eq!(web["labels"], json!({ "stentor.io/pool": "front" }));
    assert!(
        migrated
            .objects
            .iter()
            .all(|object| object["metadata"]["name"] != "inner")
    );
}

#[test]
fn what_is_left_out_is_named() {
    let migrated = metallb(&documents(CLUSTER));
    let said: Vec<String> = migrated
        .left_out
        .iter()
        .map(|left| format!("{}: {}", left.object, left.what))
        .collect();
    for part in [
        "BGPPeer metallb-system/tor: spec.bfdProfile",
        "BGPPeer metallb-system/tor6: spec.passwordSecret: copy Secret tor6",
        "BGPAdvertisement metallb-system/all: spec.communities: no Community names \"unheard\"",
        "BGPAdvertisement metallb-system/some: spec.ipAddressPools",
        "L2Advertisement metallb-system/lan: this version does not answer ARP",
    ] {
        assert!(
            said.iter().any(|line| line.starts_with(part)),
            "{part}\n{said:#?}"
        );
    }
    assert_eq!(said.len(), 5, "{said:#?}");
}

#[test]
fn what_makes_no_sense_is_named_and_the_rest_goes_on() {
    let text = "
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: odd}
spec: {addresses: [everything, 10.0.0.9-10.0.0.1, 10.0.0.0/8], avoidBuggyIPs: true}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: odd}
spec: {holdTime: 1500ms}
---
kind: 7
";
    let migrated = metallb(&documents(text));
    assert_eq!(
        find(&migrated, "CiliumLoadBalancerIPPool", "odd")["spec"]["blocks"],
        json!([{ "cidr": "10.0.0.0/8" }])
    );
    let count = |part: &str| {
        migrated
            .left_out
            .iter()
            .filter(|left| left.what.contains(part))
            .count()
    };
    assert_eq!(count("neither a prefix nor a range"), 2);
    assert_eq!(count("too large"), 1);
    assert_eq!(count("no duration"), 1);
    assert_eq!(count("spec.peerAddress"), 1);
}
