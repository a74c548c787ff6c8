//! An agent that serves what it announces.
//!
//! ```text
//!   client  10.9.0.2  --net0--  10.9.0.1  node  10.1.0.1  --lxc0--  10.1.0.2  pod, port 8080
//!   asks for the VIP, port 80
//! ```

use std::net::IpAddr;

use lab::echo::Echo;
use lab::{LinkEnd, Netns, until, veth};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::stage::{LIMIT, NODE, POOL, Stage, service};

const CONFIG: &str = "\
kube-proxy-replacement: true
cgroup-root: /sys/fs/cgroup
bpf-lb-map-max: \"4096\"
bpf-ct-global-tcp-max: \"4096\"
bpf-ct-global-any-max: \"4096\"
";

fn slice(service: &str, address: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {service}-1, namespace: web, labels: \
         {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\nports: [{{port: 8080}}]\n\
         endpoints: [{{addresses: [{address}], nodeName: node-a}}]\n"
    )
}

struct Scene {
    stage: Stage,
    client: Netns,
    _pod: (Netns, Echo),
}

impl Scene {
    fn new(hint: &str) -> Self {
        let stage = Stage::new(hint);
        let client = Netns::new("client").unwrap();
        veth(
            LinkEnd::new(&stage.node, "net0", &["10.9.0.1/24"]),
            LinkEnd::new(&client, "net0", &["10.9.0.2/24"]),
            None,
        )
        .unwrap();
        stage.node.sh("ip route add default via 10.9.0.2").unwrap();
        client.sh("ip route add 192.0.2.0/24 via 10.9.0.1").unwrap();
        let pod = Netns::pod_of(&stage.node, "pod").unwrap();
        veth(
            LinkEnd::new(&pod, "eth0", &["10.1.0.2/24"]),
            LinkEnd::new(&stage.node, "lxc0", &["10.1.0.1/24"]),
            None,
        )
        .unwrap();
        pod.sh("ip route add default via 10.1.0.1").unwrap();
        let address: IpAddr = "10.1.0.2".parse().unwrap();
        let echo = Echo::start(&pod, &[address], &[8080], "pod=a".into()).unwrap();
        stage.write("node.yaml", NODE);
        stage.write("pool.yaml", POOL);
        stage.write("front.yaml", &service("front"));
        stage.write("slice.yaml", &slice("front", "10.1.0.2"));
        std::fs::write(stage.path("config.yaml"), CONFIG).unwrap();
        Self {
            stage,
            client,
            _pod: (pod, echo),
        }
    }

    /// Starts the agent; `None`, and a line that says so, where it has nothing to serve with.
    fn start(&mut self) -> Option<Value> {
        let config = self.stage.text_path("config.yaml");
        self.stage.start(&["--config", &config]);
        let status = self.stage.until("the load balancer", &["status"], |status| {
            status["datapath"]["state"] != "starting"
        });
        let missing = |problem: &&Value| problem["reason"] == "kernel-programs-missing";
        if let Some(problem) = status["problems"].as_array().unwrap().iter().find(missing) {
            println!("skipped: {}", problem["message"]);
            return None;
        }
        assert_eq!(status["datapath"]["state"], "on", "{status:#}");
        Some(status)
    }

    fn vip(&self) -> String {
        let vips = self.stage.json(&["vip", "list"]);
        vips[0]["address"].as_str().unwrap().to_owned()
    }

    fn get(&self) -> Result<String, String> {
        let url = format!("http://{}/", self.vip());
        let got = self.client.exec(&["curl", "-sS", "--max-time", "2", &url]);
        got.map_err(|error| error.to_string())
    }

    fn assert_served(&self, when: &str) {
        let got = self.get();
        let served = got
            .as_ref()
            .is_ok_and(|text| text.starts_with("pod=a client=10.9.0.2:"));
        assert!(
            served,
            "{when}: {got:?}\n{}\n{}",
            self.stage.log(),
            self.stage.ask(&["status"]).stdout
        );
    }
}

#[test]
fn a_vip_is_served_and_stays_served_whatever_becomes_of_the_agent() {
    let mut scene = Scene::new("serves");
    let Some(status) = scene.start() else { return };
    let device = &status["datapath"]["devices"][0];
    assert_eq!(device["name"], "net0", "{status:#}");
    scene.assert_served("at once");
    let vip = scene.vip();
    let url = format!("http://{vip}/");
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        scene.stage.agent().signal(signal).unwrap();
        scene.stage.agent().wait(LIMIT).unwrap();
        let got = scene.client.exec(&["curl", "-sS", "--max-time", "2", &url]);
        assert!(
            got.as_ref().is_ok_and(|text| text.starts_with("pod=a")),
            "after {signal}: {got:?}"
        );
        let status = scene.start().unwrap();
        assert_eq!(status["datapath"]["writes"], 0, "after {signal}: {status:#}");
        scene.assert_served("by the next agent");
    }
    // Of another version, everything is planned anew, and nothing is left of it.
    scene.stage.agent().kill();
    let other = scene.stage.node.sh("cd /sys/fs/bpf/stentor; mv v* v0");
    other.unwrap();
    let status = scene.start().unwrap();
    assert_ne!(status["datapath"]["writes"], 0, "{status:#}");
    scene.assert_served("by an agent of another version");
    let left = scene.stage.node.sh("ls /sys/fs/bpf/stentor").unwrap();
    assert_eq!(left.split_whitespace().count(), 1, "{left}");
    assert!(
        scene
            .stage
            .log()
            .contains("of version 0 of the layouts are removed"),
        "{}",
        scene.stage.log()
    );
    // Only who is told to takes it away.
    scene.stage.agent().kill();
    let detached = scene
        .stage
        .node
        .exec(&[crate::stage::BINARY, "datapath", "detach"])
        .unwrap();
    assert!(detached.starts_with("Removed /sys/fs/bpf/stentor"), "{detached}");
    assert!(
        scene
            .client
            .exec(&["curl", "-sS", "--max-time", "1", &url])
            .is_err()
    );
}

#[test]
fn devices_are_followed_and_switching_off_takes_the_programs_off() {
    let mut scene = Scene::new("devices");
    if scene.start().is_none() {
        return;
    }
    scene.assert_served("at first");
    // Another device takes its place, with the same name.
    scene.stage.node.sh("ip link del net0").unwrap();
    veth(
        LinkEnd::new(&scene.stage.node, "net0", &["10.9.0.1/24"]),
        LinkEnd::new(&scene.client, "net0", &["10.9.0.2/24"]),
        None,
    )
    .unwrap();
    scene.stage.node.sh("ip route add default via 10.9.0.2").unwrap();
    scene.client.sh("ip route add 192.0.2.0/24 via 10.9.0.1").unwrap();
    until(LIMIT, "an answer over the new device", || scene.get()).unwrap();
    std::fs::write(scene.stage.path("config.yaml"), "kube-proxy-replacement: false\n").unwrap();
    scene.stage.agent().signal(Signal::SIGHUP).unwrap();
    scene
        .stage
        .until("it to be off", &["status"], |status| status["datapath"].is_null());
    until(LIMIT, "no answer", || match scene.get() {
        Ok(text) => Err(text),
        Err(_) => Ok(()),
    })
    .unwrap();
}

#[test]
fn an_address_that_the_maps_do_not_hold_is_not_announced_and_says_why() {
    let mut scene = Scene::new("gate");
    scene.stage.write(
        "other.yaml",
        &service("other").replace(
            "labels: {announce: host}",
            "labels: {service.kubernetes.io/service-proxy-name: x}",
        ),
    );
    if scene.start().is_none() {
        return;
    }
    scene.stage.until("the reasons", &["vip", "list"], |vips| {
        let why = |name: &str| {
            let vip = vips.as_array().unwrap().iter().find(|vip| vip["service"] == name);
            vip.unwrap()["reasons"][0]["reason"].clone()
        };
        why("web/other") == "not-in-datapath" && why("web/front") == "no-peers"
    });
}
