//! FRR in a node of its own, and what comes over the cable to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::router::{DIR, Dials, Families, Kind, Neighbor, Router, RouterConfig, TtlSecurity};
use lab::{Handle, LinkEnd, Netns, until, veth};
use serde_json::json;
use stentor_tests::capture::Capture;
use stentor_tests::cluster::Api;

/// The node whose agent speaks to FRR.
pub(crate) const NODE: &str = "n0";
const US: &str = "10.9.0.1";
const FRR: &str = "10.9.0.2";

pub(crate) struct Wire {
    // In this order they end: who captures and who speaks before the node they are in.
    capture: Capture,
    router: Router,
    _folder: tempfile::TempDir,
    us: IpAddr,
}

impl Wire {
    /// The cable begins in the network namespace that this process is in.
    pub(crate) fn new() -> Result<Self> {
        let (us, frr): (IpAddr, IpAddr) = (US.parse()?, FRR.parse()?);
        let here = Handle::new("here".to_owned(), process::id());
        let node = Arc::new(Netns::new("frr")?);
        veth(
            LinkEnd::new(&here, "eth0", &[&format!("{US}/24")]),
            LinkEnd::new(&node, "eth0", &[&format!("{FRR}/24")]),
            None,
        )?;
        let folder = tempfile::tempdir()?;
        let capture = Capture::start(&node, "eth0", folder.path().join("bgp.pcap"))?;
        let neighbor = Neighbor {
            address: us,
            local: frr,
            asn: 65001,
            families: Families::Ipv4,
            dials: Dials::Never,
            password: None,
            ttl_security: TtlSecurity::Off,
            hold: 90,
            graceful_restart: None,
            ipv6_next_hop: None,
        };
        let config = RouterConfig {
            asn: 65000,
            router_id: FRR.parse()?,
            neighbors: vec![neighbor],
        };
        Ok(Self {
            capture,
            router: Router::start(Kind::Frr, &node, config)?,
            _folder: folder,
            us,
        })
    }

    /// Tells the cluster of it.
    pub(crate) async fn configure(&self, api: &Api) -> Result<()> {
        let objects = [
            json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE, "labels": { "bgp": "true" } } }),
            json!({
                "apiVersion": "cilium.io/v2", "kind": "CiliumNode",
                "metadata": { "name": NODE, "labels": { "bgp": "true" } },
                "spec": { "addresses": [{ "type": "InternalIP", "ip": US }] },
            }),
            json!({
                "apiVersion": "cilium.io/v2", "kind": "CiliumBGPClusterConfig", "metadata": { "name": "rack" },
                "spec": {
                    "nodeSelector": { "matchLabels": { "bgp": "true" } },
                    "bgpInstances": [{ "name": "main", "localASN": 65001, "peers": [{
                        "name": "frr", "peerAddress": FRR, "peerASN": 65000, "peerConfigRef": { "name": "frr" },
                    }] }],
                },
            }),
            json!({
                "apiVersion": "cilium.io/v2", "kind": "CiliumBGPPeerConfig", "metadata": { "name": "frr" },
                "spec": {
                    "timers": { "connectRetryTimeSeconds": 1 },
                    "families": [{ "afi": "ipv4", "safi": "unicast",
                        "advertisements": { "matchLabels": { "advertise": "all" } } }],
                },
            }),
            json!({
                "apiVersion": "cilium.io/v2", "kind": "CiliumBGPAdvertisement",
                "metadata": { "name": "all", "labels": { "advertise": "all" } },
                "spec": { "advertisements": [{
                    "advertisementType": "Service", "service": { "addresses": ["LoadBalancerIP"] },
                    "selector": { "matchExpressions": [{ "key": "no", "operator": "DoesNotExist" }] },
                }] },
            }),
        ];
        for object in objects {
            api.apply(&object).await?;
        }
        Ok(())
    }

    /// Waits until FRR has so many routes of ours.
    pub(crate) fn has(&self, routes: usize, limit: Duration) -> Result<()> {
        until(limit, format!("{routes} routes at FRR"), || {
            match self.received() {
                Ok(count) if count == routes => Ok(()),
                Ok(count) => Err(format!("{count} routes")),
                Err(error) => Err(format!("{error:#}")),
            }
        })?;
        Ok(())
    }

    fn received(&self) -> Result<usize> {
        let show = "show bgp ipv4 unicast summary json";
        let text = self
            .router
            .node()
            .exec(&["vtysh", "--vty_socket", DIR, "-c", show])?;
        let summary: serde_json::Value = serde_json::from_str(&text)?;
        let count = summary["peers"][self.us.to_string()]["pfxRcd"].as_u64();
        Ok(usize::try_from(count.context("no such peer")?)?)
    }

    /// When the first UPDATE with it came to FRR, in seconds since 1970, by address.
    pub(crate) fn arrivals(&self) -> Result<BTreeMap<IpAddr, f64>> {
        let updates = format!("bgp.type == 2 && ip.src == {US}");
        let mut arrivals = BTreeMap::new();
        for fields in self
            .capture
            .fields(&updates, &["frame.time_epoch", "bgp.nlri_prefix"])?
        {
            let [time, prefixes] = fields.as_slice() else {
                continue;
            };
            let time: f64 = time
                .parse()
                .with_context(|| format!("tshark says {time:?} is a time"))?;
            for prefix in prefixes.split(',').filter_map(|prefix| prefix.parse().ok()) {
                arrivals.entry(prefix).or_insert(time);
            }
        }
        Ok(arrivals)
    }
}
