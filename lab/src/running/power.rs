//! Nodes of the cluster that die, and come back.
//!
//! A dead node's cables are out, no process of it is left, and its kernel has forgotten all programs. The cluster learns of
//! it: as the node controller does, the endpoints of its pods are no longer ready. When it comes back, it comes back with
//! nothing but its manifests.
//!
//! It boots as a node should whose peers help with graceful restarts: first the agent, then the network (in systemd's words
//! `Before=network-pre.target`). Such a router kept the routes that the dead node announced, and uses them from the moment
//! the cable is in.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Lab, SOCKET};
use crate::{Error, Handle, until};

/// Runs in the node. Everything but process 1 and this shell ends, and pins go with what they hold.
const DIE: &str = "kill -9 -1 || :; rm -rf /sys/fs/bpf/stentor /run/stentor/state /run/stentor/agent.sock";

impl Lab {
    /// SIGKILL to the agent of a node; nothing else of the node is touched.
    pub fn kill_agent(&mut self, name: &str) {
        if let Some(mut agent) = self.agents.remove(name) {
            agent.kill();
        }
    }

    /// A node dies as a whole.
    ///
    /// # Errors
    /// There is no such node.
    pub fn power_off(&mut self, name: &str) -> Result<(), Error> {
        // First the cables: what a dying process says must not get out.
        self.plug(name, "down")?;
        self.dead.insert(name.to_owned());
        self.write_manifests()?;
        self.kill_agent(name);
        self.node(name)?.sh(DIE).map(drop)
    }

    /// Waits until no other node sends anything to the pods of a dead one.
    ///
    /// # Errors
    /// The others do not follow in time.
    pub fn until_forgotten(&self, name: &str, agent: &Path, limit: Duration) -> Result<(), Error> {
        let lost: Vec<String> = self
            .pod_addresses(name)?
            .into_iter()
            .map(|address| match address {
                IpAddr::V4(address) => format!("{address}:"),
                IpAddr::V6(address) => format!("[{address}]:"),
            })
            .collect();
        let program = agent.to_string_lossy();
        for other in self.agents.keys() {
            let node = self.node(other)?;
            until(limit, format!("{other} to forget the pods of {name}"), || {
                let asked = node.exec(&[&program, "lb", "backends", "list", "-o", "json"]);
                let text = asked.map_err(|error| error.to_string())?;
                let list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
                // One that served may finish what it has; here it never will.
                let is_left = list.as_array().into_iter().flatten().any(|row| {
                    let place = row["backend"].as_str().unwrap_or_default();
                    let serves = row["services"].as_array().is_some_and(|all| !all.is_empty());
                    serves && lost.iter().any(|lost| place.starts_with(lost))
                });
                if is_left { Err(text) } else { Ok(()) }
            })?;
        }
        Ok(())
    }

    /// Of the pods of a node.
    ///
    /// # Errors
    /// No cluster comes of the manifests any more.
    pub fn pod_addresses(&self, name: &str) -> Result<Vec<IpAddr>, Error> {
        let pods = super::pods(&self.spec)?.into_iter();
        Ok(pods
            .filter(|pod| pod.node == name)
            .flat_map(|pod| pod.addresses)
            .collect())
    }

    /// The node boots, and its pods are not ready yet. Returns the time at which its cables were in.
    ///
    /// # Errors
    /// There is no such node, its agent cannot be started, or does not come to serve.
    pub fn power_on(&mut self, name: &str, agent: &Path, limit: Duration) -> Result<Instant, Error> {
        self.start_agent(name, agent)?;
        let node = self.node(name)?;
        until(limit, format!("the agent of {name} to serve"), || {
            let status = status(node, agent)?;
            match status["datapath"]["state"].as_str() {
                // Or nothing is balanced there.
                Some("on") | None => Ok(()),
                Some(_) => Err(status.to_string()),
            }
        })?;
        let plugged = Instant::now();
        self.plug(name, "up")?;
        Ok(plugged)
    }

    /// Returns when the sessions of a node are established as its agent sees them: a router may still have those of before.
    ///
    /// # Errors
    /// There is no such node, or it takes longer.
    pub fn until_established(&self, name: &str, agent: &Path, limit: Duration) -> Result<(), Error> {
        let node = self.node(name)?;
        until(limit, format!("the sessions of {name}"), || {
            let status = status(node, agent)?;
            let mut peers = status["peers"].as_array().into_iter().flatten();
            match peers.all(|peer| peer["state"] == "established") {
                true => Ok(()),
                false => Err(status["peers"].to_string()),
            }
        })?;
        Ok(())
    }

    /// The pods of the node are ready.
    ///
    /// # Errors
    /// The manifests cannot be written.
    pub fn revive(&mut self, name: &str) -> Result<(), Error> {
        self.dead.remove(name);
        self.write_manifests().map(drop)
    }

    /// The cables of a node, in or out at their other ends: what a booting node has configured does not depend on them.
    fn plug(&self, name: &str, state: &str) -> Result<(), Error> {
        let is_it = |node: &str| node == name || self.aliases.get(node).is_some_and(|other| other == name);
        for link in &self.spec.topology.links {
            let [a, b] = &link.ends;
            for (own, other) in [(a, b), (b, a)] {
                if is_it(&own.node) {
                    // Else a kernel forgets the IPv6 addresses of a device that is down.
                    self.node(&other.node)?.sh_in_network(&format!(
                        "sysctl -qw net.ipv6.conf.all.keep_addr_on_down=1; ip link set dev {} {state}",
                        other.interface
                    ))?;
                }
            }
        }
        Ok(())
    }

    /// Endpoints on dead nodes are not ready.
    pub(super) fn bury(&self, object: &mut Value) {
        if object["kind"] != "EndpointSlice" {
            return;
        }
        for endpoint in object["endpoints"].as_array_mut().into_iter().flatten() {
            let node = endpoint["nodeName"].as_str().unwrap_or_default();
            if self.dead.contains(node) {
                endpoint["conditions"] = json!({"ready": false, "serving": false, "terminating": false});
            }
        }
    }
}

/// What the agent of a node says of itself. It says that without sessions too, and fails then.
fn status(node: &Handle, agent: &Path) -> Result<Value, String> {
    let mut command = node.command(agent);
    let asked = command
        .args(["status", "-o", "json", "--socket", SOCKET])
        .output();
    let output = asked.map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())
}
