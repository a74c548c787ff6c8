//! That every Node has a CiliumNode, which says what the Node says.

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::ControlPlane;
use serde_json::{Value, json};
use stentor_tests::cluster::{Api, Operator};

use crate::operator::{cilium_node, stage, until};

/// In IPAM mode `kubernetes`, where nobody gives out prefixes here: each Node's are repeated, with all else, and followed.
pub(crate) fn repeated(control_plane: &mut ControlPlane, api: &Api) -> Result<()> {
    let node = |name: &str, rack: &str, prefix: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": name, "labels": { "rack": rack } },
            "spec": { "podCIDR": prefix, "podCIDRs": [prefix] },
        })
    };
    let addresses = |last: u8| {
        json!([
            { "type": "InternalIP", "address": format!("10.0.0.{last}") },
            { "type": "Hostname", "address": "a" },
        ])
    };
    let (a, b) = (
        node("a", "one", "10.244.0.0/24"),
        node("b", "two", "10.244.1.0/24"),
    );
    let mut had = cilium_node("b", &[("rack", "old")]);
    had["spec"]["addresses"] = json!([{ "type": "CiliumInternalIP", "ip": "10.244.1.1" }]);
    stage(api, &[a.clone(), b, had.clone()])?;
    api.block_on(api.status(&a, json!({ "addresses": addresses(1) })))?;
    let mode = ["--ipam", "kubernetes"];
    let mut operator = Operator::start(control_plane, &mode)?;
    let of_a = cilium_node("a", &[]);
    let says = |last: u8, rack: &'static str| {
        move |found: &Value| {
            found["spec"]["addresses"] == json!([{ "type": "InternalIP", "ip": format!("10.0.0.{last}") }])
                && found["metadata"]["labels"] == json!({ "rack": rack })
                && found["spec"]["ipam"]["podCIDRs"] == json!(["10.244.0.0/24"])
        }
    };
    let made = until(api, &operator, "a CiliumNode", &of_a, says(1, "one"))?;
    let core = api.block_on(api.find(&a))?.context("it is there")?;
    let owner = &made["metadata"]["ownerReferences"][0];
    ensure!(
        owner["kind"] == "Node" && owner["uid"] == core["metadata"]["uid"],
        "{made}"
    );
    let brought = until(api, &operator, "the other to be as its Node", &had, |found| {
        found["metadata"]["labels"] == json!({ "rack": "two" })
            && found["spec"]["ipam"]["podCIDRs"] == json!(["10.244.1.0/24"])
    })?;
    ensure!(
        brought["spec"]["addresses"] == had["spec"]["addresses"],
        "{brought}"
    );
    operator.settled()?;
    operator.ends_well()?;
    let mut operator = Operator::start(control_plane, &mode)?;
    operator.settled_without_a_write()?;
    // Signs of life are no news; the next word that is one comes after them.
    for minute in 0..3 {
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "",
            "lastHeartbeatTime": format!("2026-01-01T00:0{minute}:00Z"),
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        api.block_on(api.status(&a, json!({ "conditions": [ready], "addresses": addresses(1) })))?;
    }
    api.block_on(api.apply(&node("a", "three", "10.244.0.0/24")))?;
    until(
        api,
        &operator,
        "the label to be followed",
        &of_a,
        says(1, "three"),
    )?;
    api.block_on(api.status(&a, json!({ "addresses": addresses(2) })))?;
    until(
        api,
        &operator,
        "the address to be followed",
        &of_a,
        says(2, "three"),
    )?;
    operator.settled()?;
    let writes = operator.metric("stentor_operator_writes_total")?;
    ensure!(writes == 2.0, "{writes} writes: {}", operator.log());
    operator.ends_well()?;
    stage(api, &[])
}
