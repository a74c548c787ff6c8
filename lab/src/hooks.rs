//! What an agent's status says of its programs at devices.

use serde_json::Value;

/// How each program hangs (`native`, `generic`, `tcx`, `filter`, or what went wrong), of all devices. `None`: the load
/// balancer is not on, or has no device.
#[must_use]
pub fn modes(status: &Value) -> Option<Vec<&str>> {
    let datapath = &status["datapath"];
    let devices = datapath["devices"].as_array()?;
    if datapath["state"] != "on" || devices.is_empty() {
        return None;
    }
    let hooks = devices
        .iter()
        .filter_map(|device| device["hooks"].as_array())
        .flatten();
    Some(
        hooks
            .map(|hook| hook["mode"].as_str().unwrap_or_default())
            .collect(),
    )
}
