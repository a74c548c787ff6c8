//! An agent beside a real FRR.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use lab::router::{Dials, Families, Kind, Neighbor, Router, RouterConfig, TtlSecurity};
use lab::{LinkEnd, LinkState, Netns, until, veth};
use nix::sys::signal::Signal;

use crate::stage::{BGP, LIMIT, NODE, POOL, Stage, run_with, service};

/// A stage with a cable to a router at 10.9.0.2.
fn with_router(hint: &str, password: Option<&str>) -> (Stage, Router) {
    let stage = Stage::new(hint);
    let node = Arc::new(Netns::new("tor").unwrap());
    veth(
        LinkEnd::new(&stage.node, "net0", &["10.9.0.1/24"]),
        LinkEnd::new(&node, "net0", &["10.9.0.2/24"]),
        None,
    )
    .unwrap();
    let config = RouterConfig {
        asn: 65010,
        router_id: "10.9.0.2".parse().unwrap(),
        neighbors: vec![Neighbor {
            address: "10.9.0.1".parse().unwrap(),
            local: "10.9.0.2".parse().unwrap(),
            asn: 65001,
            families: Families::Ipv4,
            dials: Dials::Never,
            password: password.map(str::to_owned),
            ttl_security: TtlSecurity::Off,
            hold: 9,
            graceful_restart: Some(60),
            ipv6_next_hop: None,
        }],
    };
    let router = Router::start(Kind::Frr, &node, config).unwrap();
    stage.write("node.yaml", NODE);
    stage.write("bgp.yaml", BGP);
    stage.write("pool.yaml", POOL);
    stage.write("front.yaml", &service("front"));
    (stage, router)
}

/// What the router has of the agent, stale routes too.
fn prefixes(router: &Router) -> Vec<String> {
    let seen = router.received("10.9.0.1".parse().unwrap()).unwrap();
    seen.iter().map(|route| route.prefix.to_string()).collect()
}

fn until_prefixes(stage: &Stage, router: &Router, wanted: &[&str]) {
    until(LIMIT, format!("the router to have {wanted:?}"), || {
        let seen = prefixes(router);
        if seen == wanted {
            Ok(())
        } else {
            Err(format!("{seen:?}\n{}", stage.log()))
        }
    })
    .unwrap();
}

#[test]
fn a_file_becomes_a_route_and_its_end_a_withdrawal() {
    let (mut stage, router) = with_router("announce", None);
    stage.start(&[]);
    until_prefixes(&stage, &router, &["192.0.2.0/32"]);
    let status = stage.until("green", &["status"], |status| status["verdict"] == "green");
    assert_eq!(status["counts"]["vipsAnnounced"], 1);
    assert_eq!(stage.ask(&["status"]).code, 0);
    stage.write("back.yaml", &service("back"));
    until_prefixes(&stage, &router, &["192.0.2.0/32", "192.0.2.1/32"]);
    stage.remove("front.yaml");
    until_prefixes(&stage, &router, &["192.0.2.1/32"]);
}

/// FRR keeps the routes of a session it has seen as Established. What we sent last may still wait in its socket.
fn until_end_of_rib(router: &Router) {
    until(LIMIT, "the router to have read our End-of-RIB", || {
        let show = [
            "vtysh",
            "--vty_socket",
            "/run/router",
            "-c",
            "show bgp neighbors 10.9.0.1 json",
        ];
        let answer = router.node().exec(&show).unwrap();
        let value: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let peer = &value["10.9.0.1"];
        let heard = &peer["gracefulRestartInfo"]["endOfRibRecv"]["ipv4Unicast"];
        if peer["bgpState"] == "Established" && *heard == true {
            Ok(())
        } else {
            Err(peer.to_string())
        }
    })
    .unwrap();
}

#[test]
fn neither_a_kill_nor_a_restart_is_seen_at_the_router() {
    let (mut stage, router) = with_router("restart", None);
    stage.start(&[]);
    until_prefixes(&stage, &router, &["192.0.2.0/32"]);
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        let before = stage.json(&["bgp", "peers"])[0]["timesEstablished"].clone();
        assert_eq!(before, 1);
        until_end_of_rib(&router);
        stage.agent().signal(signal).unwrap();
        stage.agent().wait(LIMIT).unwrap();
        assert_eq!(prefixes(&router), ["192.0.2.0/32"], "after {signal}");
        stage.spawn(&[], &[]);
        // From here to the new session the route must be there at every look.
        until(LIMIT, "the session to be back", || {
            assert_eq!(
                prefixes(&router),
                ["192.0.2.0/32"],
                "after {signal}\n{}",
                stage.log()
            );
            let peers = stage.ask(&["bgp", "peers", "-o", "json"]);
            if peers.stdout.contains("\"established\"") {
                Ok(())
            } else {
                Err(format!("{peers:?}\n{}", stage.log()))
            }
        })
        .unwrap();
        // The router's own stale timer or our End-of-RIB must not take it away either.
        stage.until("the table to be sent", &["bgp", "peers"], |peers| {
            peers[0]["families"][0]["endOfRibSent"] == true
        });
        assert_eq!(prefixes(&router), ["192.0.2.0/32"], "after {signal}");
        let events = stage.json(&["events"]);
        assert!(
            events[0]["message"].as_str().unwrap().contains("after a restart"),
            "{events:#}"
        );
    }
}

#[test]
fn a_plan_tells_the_cost_and_changes_nothing() {
    let (mut stage, router) = with_router("plan", None);
    stage.start(&[]);
    until_prefixes(&stage, &router, &["192.0.2.0/32"]);
    let next = stage.path("next");
    fs::create_dir(&next).unwrap();
    for (name, text) in [
        ("node.yaml", NODE.to_owned()),
        ("pool.yaml", POOL.to_owned()),
        (
            "bgp.yaml",
            BGP.replace("restartTimeSeconds: 60", "restartTimeSeconds: 90")
                .replace("65000:99", "65000:98"),
        ),
        ("services.yaml", [service("front"), service("back")].join("---\n")),
    ] {
        fs::write(next.join(name), text).unwrap();
    }
    let diff = stage.json(&["bgp", "plan", "-f", &next.display().to_string()]);
    assert!(
        diff["problems"]
            .as_array()
            .unwrap()
            .iter()
            .all(|p| p["severity"] == "warning"),
        "{diff:#}"
    );
    assert_eq!(diff["sessions"][0]["effect"], "hardReset", "{diff:#}");
    let effects: Vec<(&str, &str)> = diff["prefixes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            (
                change["prefix"].as_str().unwrap(),
                change["effect"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(effects, [("192.0.2.0/32", "changed"), ("192.0.2.1/32", "added")]);
    assert_eq!(diff["vips"][0]["service"], "web/back");
    assert_eq!(prefixes(&router), ["192.0.2.0/32"]);
    assert_eq!(stage.json(&["bgp", "peers"])[0]["timesEstablished"], 1);
    let same = stage.json(&["bgp", "plan", "-f", &stage.text_path("manifests")]);
    assert_eq!(same["sessions"], serde_json::json!([]), "{same:#}");
    assert_eq!(same["prefixes"], serde_json::json!([]));
}

#[test]
fn reset_and_refresh_reach_the_peer() {
    let (mut stage, router) = with_router("reset", None);
    stage.start(&[]);
    until_prefixes(&stage, &router, &["192.0.2.0/32"]);
    let done = stage.ask(&["bgp", "refresh", "--peer", "tor"]);
    assert_eq!((done.stdout.as_str(), done.code), ("Refreshed: main/tor\n", 0));
    assert_eq!(stage.json(&["bgp", "peers"])[0]["timesEstablished"], 1);
    let done = stage.ask(&["bgp", "reset", "--peer", "10.9.0.2", "-m", "maintenance"]);
    assert_eq!((done.stdout.as_str(), done.code), ("Reset: main/tor\n", 0));
    let peers = stage.until("the session to be back", &["bgp", "peers"], |peers| {
        peers[0]["timesEstablished"] == 2
    });
    assert_eq!(peers[0]["lastDown"]["reason"], "operator-reset");
    assert!(
        peers[0]["lastDown"]["message"]
            .as_str()
            .unwrap()
            .contains("maintenance")
    );
}

#[test]
fn an_aggregate_has_a_discard_route_for_as_long_as_it_is_announced() {
    let (mut stage, router) = with_router("aggregate", None);
    stage
        .node
        .sh("ip route add blackhole 198.51.100.0/24 proto 83")
        .unwrap();
    stage.write(
        "front.yaml",
        &service("front").replace("announce: host", "announce: block"),
    );
    stage.start(&[]);
    until_prefixes(&stage, &router, &["192.0.2.0/28"]);
    let discards = |wanted: &str| {
        until(LIMIT, format!("discard routes {wanted:?}"), || {
            let routes = stage.node.exec(&["ip", "route", "show", "proto", "83"]).unwrap();
            let routes = routes.split_whitespace().collect::<Vec<_>>().join(" ");
            if routes.starts_with(wanted) && routes.is_empty() == wanted.is_empty() {
                Ok(())
            } else {
                Err(routes)
            }
        })
        .unwrap();
    };
    // What an earlier run left is gone, what is needed is there.
    discards("blackhole 192.0.2.0/28");
    stage.node.sh("ip route flush proto 83").unwrap();
    discards("blackhole 192.0.2.0/28");
    stage.remove("front.yaml");
    discards("");
}

#[test]
fn a_link_that_goes_down_ends_its_sessions_at_once() {
    let (mut stage, router) = with_router("link", None);
    stage.start(&[]);
    until_prefixes(&stage, &router, &["192.0.2.0/32"]);
    stage.node.set_link("net0", LinkState::Down).unwrap();
    let peers = stage.until("the session to be down", &["bgp", "peers"], |peers| {
        peers[0]["state"] != "established"
    });
    assert_eq!(peers[0]["lastDown"]["reason"], "link-down", "{peers:#}");
    let status = stage.json(&["status"]);
    assert_eq!(status["verdict"], "notGreen");
    assert_eq!(status["vips"][0]["state"], "notAnnounced");
    stage.node.set_link("net0", LinkState::Up).unwrap();
    until_prefixes(&stage, &router, &["192.0.2.0/32"]);
}

#[test]
fn cilium_dbg_shows_the_live_session_with_an_empty_standard_error() {
    let (mut stage, router) = with_router("dbg", None);
    stage.start(&[]);
    until_prefixes(&stage, &router, &["192.0.2.0/32"]);
    let peers = stage.cilium(&["bgp", "peers"]);
    assert_eq!((peers.code, peers.stderr.as_str()), (0, ""));
    let row: Vec<&str> = peers.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(&row[..4], ["65001", "65010", "10.9.0.2:179", "established"]);
    let routes = stage.cilium(&[
        "bgp",
        "routes",
        "advertised",
        "ipv4",
        "unicast",
        "peer",
        "10.9.0.2",
    ]);
    assert!(
        routes
            .stdout
            .ends_with("[{Origin: i} {AsPath: 65001} {Nexthop: 10.9.0.1} {Communities: 65000:99}]\n"),
        "{}",
        routes.stdout
    );
    let json = stage.cilium(&["bgp", "peers", "-o", "jsonpath={[0].session-state}"]);
    assert_eq!(json.stdout, "established\n");
    // Called by the other name.
    let link = stage.path("cilium");
    std::os::unix::fs::symlink(crate::stage::BINARY, &link).unwrap();
    let output = std::process::Command::new(&link)
        .args(["bgp", "peers", "-o", "json"])
        .env("CILIUM_SOCK", stage.path("agent.sock"))
        .output()
        .unwrap();
    assert!(output.stderr.is_empty());
    let peers: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(peers[0]["peer-address"], "10.9.0.2");
}

const PASSWORD: &str = "correct-horse-battery";

fn secret(password: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: bgp-auth, namespace: kube-system}}\nstringData: {{password: {password}}}\n"
    )
}

#[test]
fn a_password_opens_the_session_and_appears_nowhere() {
    let (mut stage, router) = with_router("md5", Some(PASSWORD));
    stage.write(
        "bgp.yaml",
        &BGP.replace("spec:\n  timers:", "spec:\n  authSecretRef: bgp-auth\n  timers:"),
    );
    stage.start(&["--log", "trace"]);
    let peers = stage.until("the missing secret to be named", &["bgp", "peers"], |peers| {
        peers[0]["lastDown"]["reason"] == "missing-secret"
    });
    assert_ne!(peers[0]["state"], "established");
    // A Secret that is broken quotes nothing of it either.
    stage.write(
        "secret.yaml",
        &secret(PASSWORD).replace("stringData: {", "stringData: {: "),
    );
    stage.until("the broken secret to be named", &["status"], |status| {
        status["counts"]["problemsError"].as_u64() > Some(0)
    });
    stage.write("secret.yaml", &secret(PASSWORD));
    until_prefixes(&stage, &router, &["192.0.2.0/32"]);
    stage.until("green", &["status"], |status| status["verdict"] == "green");
    assert_eq!(stage.json(&["bgp", "peers"])[0]["md5"], true);
    let other = stage.path("next");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("secret.yaml"), secret("another-password")).unwrap();
    let mut told = stage.log();
    for words in [
        &["status"][..],
        &["bgp", "peers"],
        &["bgp", "policies"],
        &["events"],
        &["check", &stage.text_path("manifests")],
        &["bgp", "plan", "-f", &other.display().to_string()],
    ] {
        for form in ["table", "json"] {
            let mut words = words.to_vec();
            words.extend(["-o", form]);
            let printed = if words[0] == "check" {
                run_with(&words, &[])
            } else {
                stage.ask(&words)
            };
            told += &printed.stdout;
            told += &printed.stderr;
        }
    }
    told += &stage.cilium(&["bgp", "peers", "-o", "json"]).stdout;
    told += &files(&stage.path("state"));
    for password in [PASSWORD, "another-password"] {
        let base64 = if password == PASSWORD {
            "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5"
        } else {
            "YW5vdGhlci1wYXNzd29yZA"
        };
        for form in [password, base64] {
            let at = told.find(form);
            assert!(
                at.is_none(),
                "{}",
                &told[at.unwrap().saturating_sub(300)..at.unwrap()]
            );
        }
    }
}

#[test]
fn a_wrong_password_keeps_the_session_down() {
    let (mut stage, router) = with_router("md5-wrong", Some(PASSWORD));
    stage.write(
        "bgp.yaml",
        &BGP.replace("spec:\n  timers:", "spec:\n  authSecretRef: bgp-auth\n  timers:"),
    );
    stage.write("secret.yaml", &secret("wrong"));
    stage.start(&[]);
    stage.until("the attempt to fail", &["bgp", "peers"], |peers| {
        peers[0]["lastDown"].is_object()
    });
    assert_eq!(stage.json(&["status"])["verdict"], "notGreen");
    assert!(prefixes(&router).is_empty());
}

fn files(dir: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(dir).unwrap() {
        text += &fs::read_to_string(entry.unwrap().path()).unwrap();
    }
    assert!(!text.is_empty());
    text
}

#[test]
fn an_idle_agent_is_small() {
    let (mut stage, router) = with_router("memory", None);
    stage.start(&[]);
    until_prefixes(&stage, &router, &["192.0.2.0/32"]);
    let pid = stage.agent().pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    // Memory of its own; pages of the binary are the kernel's to drop.
    assert!(field("RssAnon:") < 32 * 1024, "{status}");
    assert!(field("Threads:") <= 8, "{status}");
}
