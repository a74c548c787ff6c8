//! The objects of a big cluster.

use std::time::Instant;

use anyhow::{Context as _, Result};
use crds::k8s_openapi::api::core::v1::Service;
use crds::k8s_openapi::api::discovery::v1::EndpointSlice;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use kube::api::{Api as Resource, ListParams, PostParams};
use serde_json::{Value, json};
use stentor_tests::cluster::Api;

use crate::{ENDPOINTS, seconds};

pub(crate) const NAMESPACE: &str = "shop";
/// Requests under way at once.
const LANES: usize = 16;
const POOLS: [(&str, &str); 3] = [
    ("red", "20.0.0.0/16"),
    ("green", "20.1.0.0/16"),
    ("blue", "20.2.0.0/16"),
];

/// Services by number.
pub(crate) struct Population {
    pub from: u32,
    pub to: u32,
}

/// Definitions, the namespace and the pools.
pub(crate) async fn prepare(api: &Api) -> Result<()> {
    for definition in crds::definitions() {
        api.define(&definition).await?;
    }
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
    api.apply(&namespace).await?;
    for (name, cidr) in POOLS {
        let pool = json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumLoadBalancerIPPool",
            "metadata": { "name": name },
            "spec": { "blocks": [{ "cidr": cidr }], "serviceSelector": { "matchLabels": { "pool": name } } },
        });
        api.apply(&pool).await?;
    }
    Ok(())
}

impl Population {
    pub(crate) fn create(&self, api: &Api) -> Result<()> {
        let start = Instant::now();
        let (services, slices) = (services(api), slices(api));
        let params = PostParams::default();
        let each = |number: u32| {
            let (services, slices, params) = (&services, &slices, &params);
            async move {
                services
                    .create(params, &service(number)?)
                    .await
                    .context("a Service")?;
                slices
                    .create(params, &slice(number)?)
                    .await
                    .context("an EndpointSlice")?;
                if number % 1000 == 999 {
                    println!("  {} Services made", number + 1);
                }
                anyhow::Ok(())
            }
        };
        let all = stream::iter(self.from..self.to).map(each).buffer_unordered(LANES);
        api.block_on(all.try_collect::<()>())?;
        println!(
            "  Services {} to {} made in {}",
            self.from,
            self.to,
            seconds(start.elapsed())
        );
        Ok(())
    }
}

/// How many Services have an address.
pub(crate) fn allocated(api: &Api) -> Result<usize> {
    let list = api.block_on(services(api).list(&ListParams::default()))?;
    Ok(list
        .items
        .iter()
        .filter(|service| address(service).is_some())
        .count())
}

pub(crate) fn services(api: &Api) -> Resource<Service> {
    Resource::namespaced(api.client(), NAMESPACE)
}

fn slices(api: &Api) -> Resource<EndpointSlice> {
    Resource::namespaced(api.client(), NAMESPACE)
}

/// The address that its status says.
pub(crate) fn address(service: &Service) -> Option<&str> {
    let balancer = service.status.as_ref()?.load_balancer.as_ref()?;
    balancer.ingress.as_ref()?.first()?.ip.as_deref()
}

pub(crate) fn service(number: u32) -> Result<Service> {
    let name = name(number);
    let (pool, _) = POOLS[number as usize % POOLS.len()];
    typed(json!({
        "metadata": { "name": name, "labels": { "app": name, "pool": pool } },
        "spec": {
            "type": "LoadBalancer",
            // There are fewer node ports than Services here.
            "allocateLoadBalancerNodePorts": false,
            "selector": { "app": name },
            "ports": [{ "name": "http", "port": 80 }],
        },
    }))
}

fn slice(number: u32) -> Result<EndpointSlice> {
    let name = name(number);
    let endpoints: Vec<Value> = (0..ENDPOINTS)
        .map(|endpoint| {
            let of = number * ENDPOINTS + endpoint;
            let [_, b, c, d] = of.to_be_bytes();
            json!({
                "addresses": [format!("10.{}.{c}.{d}", 64 + b)],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "nodeName": format!("n{}", of % 50),
                "targetRef": { "kind": "Pod", "namespace": NAMESPACE, "name": format!("{name}-{endpoint}") },
            })
        })
        .collect();
    typed(json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        "endpoints": endpoints,
    }))
}

pub(crate) fn name(number: u32) -> String {
    format!("service-{number}")
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    Ok(serde_json::from_value(value)?)
}
