use crate::api::model::{Base64, BgpCapability, BgpPeerFamily, BgpRoutePolicyPrefixMatch};

use super::*;

fn family_counts(afi: &str, received: i64, advertised: i64) -> BgpPeerFamily {
    BgpPeerFamily {
        afi: afi.into(),
        safi: "unicast".into(),
        received,
        advertised,
        ..BgpPeerFamily::default()
    }
}

fn peer(address: &str, port: i64, families: Vec<BgpPeerFamily>) -> BgpPeer {
    BgpPeer {
        local_asn: 65001,
        peer_asn: 65010,
        peer_address: address.into(),
        peer_port: port,
        session_state: "established".into(),
        uptime_nanoseconds: 2_006_000_000_000,
        families,
        ..BgpPeer::default()
    }
}

fn route(prefix: &str, attributes: &[&[u8]]) -> BgpRoute {
    BgpRoute {
        router_asn: 65001,
        prefix: prefix.into(),
        paths: vec![BgpPath {
            age_nanoseconds: 2_805_000_000_000,
            path_attributes: attributes
                .iter()
                .map(|octets| Base64 {
                    base64: STANDARD.encode(octets),
                })
                .collect(),
            ..BgpPath::default()
        }],
        ..BgpRoute::default()
    }
}

#[test]
fn peers_are_laid_out_as_documented() {
    let families = vec![family_counts("ipv4", 0, 3), family_counts("ipv6", 0, 2)];
    assert_eq!(
        peers(&[peer("10.99.0.101", 1790, families)]),
        "Local AS   Peer AS   Peer Address       Session       Uptime   Family         Received   Advertised\n\
         65001      65010     10.99.0.101:1790   established   33m26s   ipv4/unicast   0          3\n\
         \x20                                                              ipv6/unicast   0          2\n"
    );
}

#[test]
fn peers_sort_by_asn_then_address_as_text_and_ipv6_has_no_brackets() {
    let one = |address: &str| peer(address, 179, vec![family_counts("ipv4", 0, 1)]);
    let mut other_as = one("10.0.0.1");
    other_as.local_asn = 65000;
    let text = peers(&[one("fd00:10::1"), one("10.0.0.9"), one("10.0.0.10"), other_as]);
    let order: Vec<&str> = text
        .lines()
        .skip(1)
        .map(|l| l.split_whitespace().nth(2).unwrap())
        .collect();
    assert_eq!(
        order,
        ["10.0.0.1:179", "10.0.0.10:179", "10.0.0.9:179", "fd00:10::1:179"]
    );
}

#[test]
fn no_peers_is_the_heading_alone() {
    assert_eq!(
        peers(&[]),
        "Local AS   Peer AS   Peer Address   Session   Uptime   Family   Received   Advertised\n"
    );
}

#[test]
fn a_peer_without_families_keeps_a_line_of_its_own() {
    let text = peers(&[
        peer("10.0.0.1", 179, Vec::new()),
        peer("10.0.0.2", 179, Vec::new()),
    ]);
    assert_eq!(text.lines().count(), 3);
}

#[test]
fn routes_are_laid_out_as_documented() {
    let routes = routes(
        &[route(
            "10.1.0.0/24",
            &[&[0x40, 1, 1, 0], &[0x40, 3, 4, 0, 0, 0, 0]],
        )],
        PeerColumn::Hidden,
    );
    assert_eq!(
        routes,
        "VRouter   Prefix        NextHop   Age      Attrs\n\
         65001     10.1.0.0/24   0.0.0.0   46m45s   [{Origin: i} {Nexthop: 0.0.0.0}]\n"
    );
}

#[test]
fn advertised_routes_of_every_peer_show_the_peer_and_sort_prefixes_as_text() {
    let mut first = route("10.96.50.104/32", &[&[0x40, 1, 1, 0]]);
    first.neighbor = "10.0.0.101".into();
    let mut second = route("10.244.0.0/24", &[&[0x40, 1, 1, 0]]);
    second.neighbor = "10.0.0.101".into();
    assert_eq!(
        routes(&[first, second], PeerColumn::Shown),
        "VRouter   Peer         Prefix            NextHop   Age      Attrs\n\
         65001     10.0.0.101   10.244.0.0/24     0.0.0.0   46m45s   [{Origin: i}]\n\
         65001     10.0.0.101   10.96.50.104/32   0.0.0.0   46m45s   [{Origin: i}]\n"
    );
}

#[test]
fn policies_are_laid_out_with_braces_around_several() {
    let prefix = |cidr: &str, len| BgpRoutePolicyPrefixMatch {
        cidr: cidr.into(),
        prefix_len_min: len,
        prefix_len_max: len,
    };
    let statement = |neighbor: &str, prefixes| BgpRoutePolicyStatement {
        match_neighbors: vec![neighbor.into()],
        match_prefixes: prefixes,
        route_action: "accept".into(),
        set_local_preference: -1,
        ..BgpRoutePolicyStatement::default()
    };
    let mut with_actions = statement(
        "10.99.0.101",
        vec![prefix("10.244.0.0/24", 24), prefix("10.245.0.0/24", 24)],
    );
    with_actions.set_local_preference = 99;
    with_actions.add_communities = vec!["65000:99".into(), "no-export".into()];
    with_actions.add_large_communities = vec!["1:2:3".into()];
    let local = BgpRoutePolicyStatement {
        match_neighbors: Vec::new(),
        match_prefixes: Vec::new(),
        ..statement("", Vec::new())
    };
    let policies = [
        BgpRoutePolicy {
            name: "gobgp-peer-1-ipv4-PodCIDR".into(),
            router_asn: 65001,
            r#type: "export".into(),
            statements: vec![
                statement("10.99.0.101", vec![prefix("10.244.0.0/24", 24)]),
                with_actions,
            ],
        },
        BgpRoutePolicy {
            name: "allow-local".into(),
            router_asn: 65001,
            r#type: "import".into(),
            statements: vec![local],
        },
    ];
    assert_eq!(
        route_policies(&policies),
        "VRouter   Policy Name                 Type     Match Peers   Match Families   Match Prefixes (Min..Max Len)                       RIB Action   Path Actions\n\
         65001     allow-local                 import                                                                                      accept       \n\
         65001     gobgp-peer-1-ipv4-PodCIDR   export   10.99.0.101                    10.244.0.0/24 (24..24)                              accept       \n\
         \x20                                              10.99.0.101                    {10.244.0.0/24 (24..24)} {10.245.0.0/24 (24..24)}   accept       {SetLocalPreference: 99} {AddCommunities: [65000:99 no-export]} {AddLargeCommunities: [1:2:3]}\n"
    );
}

#[test]
fn capabilities_are_indented_by_five() {
    let mut peer = peer("10.0.0.1", 179, Vec::new());
    let capability = |octets: &[u8]| BgpCapability {
        capabilities: STANDARD.encode(octets),
    };
    peer.local_capabilities = vec![capability(&[1, 4, 0, 1, 0, 1]), capability(&[2, 0])];
    peer.remote_capabilities = peer.local_capabilities.clone();
    let (text, unreadable) = peer_capabilities(&[peer]);
    assert_eq!(
        text,
        "BGP neighbor is 10.0.0.1, remote AS 65010\n\
         Neighbor capabilities:\n\
         \x20    multiprotocol:\n\
         \x20         ipv4-unicast: advertised and received\n\
         \x20    route-refresh: advertised and received\n\
         \x20         local:\n\
         \x20              route-refresh\n\
         \x20         remote:\n\
         \x20              route-refresh\n"
    );
    assert!(unreadable.is_empty());
    assert_eq!(
        peer_capabilities(&[]).0,
        "No BGP peer sessions found on this node\n"
    );
}
