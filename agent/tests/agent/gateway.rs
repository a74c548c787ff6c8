//! An agent whose peer is the default gateway, known by a router advertisement: by its link-local address only.

use lab::{LinkEnd, until, veth};

use crate::stage::{LIMIT, NODE, POOL, Stage, service};

const GATEWAY: &str = "\
apiVersion: cilium.io/v2
kind: CiliumBGPNodeConfig
metadata: {name: node-a}
spec:
  bgpInstances:
    - name: main
      localASN: 65010
      routerID: 10.9.0.2
      localPort: 179
      peers: [{name: nodes, peerASN: 65001, peerPrefix: \"fe80::/10\", peerConfigRef: {name: tor}}]
---
apiVersion: cilium.io/v2
kind: CiliumBGPPeerConfig
metadata: {name: tor}
spec:
  families: [{afi: ipv4, safi: unicast}, {afi: ipv6, safi: unicast}]
";

const BEHIND_IT: &str = "\
apiVersion: cilium.io/v2
kind: CiliumBGPClusterConfig
metadata: {name: rack}
spec:
  bgpInstances:
    - name: main
      localASN: 65001
      peers:
        - name: gateway
          peerASN: 65010
          autoDiscovery: {mode: DefaultGateway, defaultGateway: {addressFamily: ipv6}}
          peerConfigRef: {name: tor}
---
apiVersion: cilium.io/v2
kind: CiliumBGPPeerConfig
metadata: {name: tor}
spec:
  timers: {connectRetryTimeSeconds: 1, holdTimeSeconds: 9, keepAliveTimeSeconds: 3}
  families: [{afi: ipv6, safi: unicast, advertisements: {}}]
---
apiVersion: cilium.io/v2
kind: CiliumBGPAdvertisement
metadata: {name: services}
spec:
  advertisements:
    - {advertisementType: Service, service: {addresses: [LoadBalancerIP]}, selector: {}}
";

#[test]
fn a_gateway_out_of_a_router_advertisement_is_peered_with_over_its_link() {
    let mut node = Stage::new("behind");
    let mut gateway = Stage::new("gateway");
    veth(
        LinkEnd::new(&node.node, "net0", &["2001:db8::1/64"]),
        LinkEnd::new(&gateway.node, "net0", &["2001:db8::2/64"]),
        None,
    )
    .unwrap();
    gateway
        .node
        .sh("ip -6 address add fe80::1/64 dev net0 nodad")
        .unwrap();
    node.node
        .sh("ip -6 route add default via fe80::1 dev net0")
        .unwrap();
    gateway.write("node.yaml", NODE);
    gateway.write("bgp.yaml", GATEWAY);
    gateway.start(&[]);
    node.write("node.yaml", NODE);
    node.write("bgp.yaml", BEHIND_IT);
    node.write("pool.yaml", &POOL.replace("192.0.2.0/24", "\"2001:db8:7::/64\""));
    let front = service("front").replace("type: LoadBalancer", "type: LoadBalancer, ipFamilies: [IPv6]");
    node.write("front.yaml", &front);
    node.start(&[]);
    let peers = node.until("the session", &["bgp", "peers"], |peers| {
        peers[0]["state"] == "established"
    });
    assert_eq!(peers[0]["address"], "fe80::1", "{peers:#}");
    let received = ["bgp", "routes", "received"];
    let routes = until(LIMIT, "the route", || {
        let routes = gateway.json(&received);
        if routes[0]["prefix"] == "2001:db8:7::/128" {
            Ok(routes)
        } else {
            Err(format!("{routes:#}\n{}", node.log()))
        }
    })
    .unwrap();
    // A next hop others can use too.
    assert_eq!(routes[0]["nextHop"], "2001:db8::1", "{routes:#}");
}
