//! An agent that runs while its folder, its configuration and its operator change their minds.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::stage::{BGP, BINARY, LIMIT, NODE, POOL, Stage, service};

fn addresses(vips: &Value) -> Vec<&str> {
    vips.as_array()
        .unwrap()
        .iter()
        .filter_map(|vip| vip["address"].as_str())
        .collect()
}

#[test]
fn addresses_come_and_go_with_the_files() {
    let mut stage = Stage::new("files");
    stage.write("pool.yaml", POOL);
    stage.start(&[]);
    stage.write("front.yaml", &service("front"));
    let vips = stage.until("an address", &["vip", "list"], |vips| addresses(vips).len() == 1);
    assert_eq!(vips[0]["service"], "web/front");
    stage.write("back.yaml", &service("back"));
    let both = stage.until("two addresses", &["vip", "list"], |vips| {
        addresses(vips).len() == 2
    });
    // The first keeps what it has.
    assert!(addresses(&both).contains(&addresses(&vips)[0]));
    stage.remove("front.yaml");
    let rest = stage.until("one address", &["vip", "list"], |vips| addresses(vips).len() == 1);
    assert_eq!(rest[0]["service"], "web/back");
}

#[test]
fn a_restart_moves_no_address() {
    let mut stage = Stage::new("restart");
    stage.write("pool.yaml", POOL);
    stage.start(&[]);
    for name in ["c", "b", "a"] {
        stage.write(&format!("{name}.yaml"), &service(name));
        stage.until("its address", &["vip", "list"], |vips| {
            vips.as_array()
                .unwrap()
                .iter()
                .any(|vip| vip["service"] == format!("web/{name}"))
        });
    }
    let before = stage.json(&["vip", "list"]);
    stage.agent().kill();
    stage.start(&[]);
    assert_eq!(stage.json(&["vip", "list"]), before);
}

#[test]
fn a_document_that_becomes_bad_is_named_and_its_last_good_version_stays() {
    let mut stage = Stage::new("bad");
    stage.write("pool.yaml", POOL);
    stage.write("front.yaml", &service("front"));
    stage.start(&[]);
    let before = stage.json(&["vip", "list"]);
    stage.write("pool.yaml", &POOL.replace("192.0.2.0/24", "300.0.2.0/24"));
    let status = stage.until("the problem", &["status"], |status| {
        status["counts"]["problemsError"].as_u64() > Some(0)
    });
    assert_eq!(status["verdict"], "notGreen");
    let problem = status["problems"]
        .as_array()
        .unwrap()
        .iter()
        .find(|p| p["severity"] == "error")
        .unwrap();
    assert!(problem["file"].as_str().unwrap().ends_with("manifests/pool.yaml"));
    assert_eq!(problem["line"], 4);
    assert_eq!(stage.json(&["vip", "list"]), before);
    let table = stage.ask(&["status"]);
    assert_eq!(table.code, 1);
    assert!(table.stdout.starts_with("NOT GREEN:"), "{}", table.stdout);
    assert!(table.stdout.contains("pool.yaml:4: error: "), "{}", table.stdout);
    // Neither a restart nor a crash loses it, and since when is not forgotten.
    let since = since(&status);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        stage.agent().signal(signal).unwrap();
        stage.agent().wait(LIMIT).unwrap();
        stage.start(&[]);
        assert_eq!(stage.json(&["vip", "list"]), before, "after {signal}");
        assert_eq!(self::since(&stage.json(&["status"])), since, "after {signal}");
    }
    stage.write("pool.yaml", POOL);
    stage.until("no problem", &["status"], |status| {
        status["counts"]["problemsError"] == 0
    });
    assert_eq!(stage.ask(&["status"]).code, 0);
}

/// The sentence about the last good version that is in force.
fn since(status: &Value) -> String {
    let problems = status["problems"].as_array().unwrap();
    let kept = problems.iter().find(|p| p["reason"] == "last-good-version-kept");
    let message = kept.unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("stays in force since 20"), "{message}");
    message
}

#[test]
fn a_changed_configuration_takes_effect_by_itself() {
    let mut stage = Stage::new("config-live");
    let config = stage.text_path("agent.yaml");
    fs::write(&config, "enable-ipv4: true\n").unwrap();
    stage.write("pool.yaml", POOL);
    stage.write("front.yaml", &service("front"));
    stage.start(&["--config", &config]);
    assert_eq!(addresses(&stage.json(&["vip", "list"])).len(), 1);
    fs::write(&config, "enable-lb-ipam: perhaps\n").unwrap();
    let status = stage.until("the complaint", &["status"], |status| {
        status["counts"]["problemsError"].as_u64() > Some(0)
    });
    assert_eq!(status["problems"][0]["reason"], "config-bad-value");
    assert_eq!(addresses(&stage.json(&["vip", "list"])).len(), 1);
    fs::write(&config, "enable-lb-ipam: false\n").unwrap();
    stage.until("no address", &["vip", "list"], |vips| addresses(vips).is_empty());
    assert_eq!(stage.json(&["status"])["counts"]["problemsError"], 0);
    assert!(
        stage
            .ask(&["events"])
            .stdout
            .contains("the configuration changed")
    );
}

#[test]
fn sighup_takes_the_configuration_again_and_a_bad_one_changes_nothing() {
    let mut stage = Stage::new("reload");
    let config = stage.text_path("agent.yaml");
    fs::write(&config, "enable-bgp-control-plane: true\n").unwrap();
    stage.write("node.yaml", NODE);
    stage.write("bgp.yaml", BGP);
    stage.start(&["--config", &config]);
    assert!(stage.cilium(&["bgp", "peers"]).stdout.starts_with("Local AS"));

    fs::write(&config, "enable-bgp-control-plane: perhaps\n").unwrap();
    stage.agent().signal(Signal::SIGHUP).unwrap();
    let status = stage.until("the complaint", &["status"], |status| {
        status["counts"]["problemsError"].as_u64() > Some(0)
    });
    assert_eq!(status["bgp"]["enabled"], true);
    assert_eq!(status["problems"][0]["reason"], "config-bad-value");

    fs::write(&config, "enable-bgp-control-plane: false\n").unwrap();
    stage.agent().signal(Signal::SIGHUP).unwrap();
    stage.until("BGP to be off", &["status"], |status| {
        status["bgp"]["enabled"] == false
    });
    let off = stage.cilium(&["bgp", "peers"]);
    assert_eq!(
        (off.stdout.as_str(), off.stderr.as_str(), off.code),
        ("BGP Control Plane is disabled\n", "", 0)
    );
}

#[test]
fn sigterm_ends_with_0_and_removes_the_socket() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut stage = Stage::new("term");
        stage.write("node.yaml", NODE);
        stage.write("bgp.yaml", BGP);
        stage.start(&[]);
        stage.agent().signal(signal).unwrap();
        let status = stage.agent().wait(LIMIT).unwrap();
        assert_eq!(status.code(), Some(0), "{}", stage.log());
        assert!(!stage.path("agent.sock").exists());
    }
}

#[test]
fn the_service_manager_hears_of_start_reload_and_end() {
    let mut stage = Stage::new("notify");
    let path = stage.text_path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let hear = |wanted: &str| {
        let mut octets = [0_u8; 512];
        loop {
            let length = manager.recv(&mut octets).unwrap();
            let text = String::from_utf8_lossy(&octets[..length]).into_owned();
            if text.contains(wanted) {
                break;
            }
        }
    };
    stage.spawn(&[&format!("NOTIFY_SOCKET={path}"), "WATCHDOG_USEC=1000000"], &[]);
    hear("READY=1");
    hear("WATCHDOG=1");
    stage.agent().signal(Signal::SIGHUP).unwrap();
    hear("RELOADING=1");
    hear("READY=1");
    stage.agent().signal(Signal::SIGTERM).unwrap();
    hear("STOPPING=1");
}

#[test]
fn watch_prints_again_when_something_changed() {
    let mut stage = Stage::new("watch");
    stage.write("pool.yaml", POOL);
    stage.start(&[]);
    let mut watch = Command::new(BINARY)
        .args([
            "vip",
            "list",
            "--watch",
            "--socket",
            &stage.text_path("agent.sock"),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert_eq!(
        lines.next().as_deref(),
        Some("No Service has or wants an address.")
    );
    stage.write("front.yaml", &service("front"));
    assert!(lines.any(|line| line.starts_with("web/front")));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn check_watches_a_folder_without_an_agent() {
    let stage = Stage::new("check-watch");
    stage.write("pool.yaml", POOL);
    let mut watch = Command::new(BINARY)
        .args(["check", &stage.text_path("manifests"), "--watch"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.next().is_some_and(|line| line.ends_with("no problems")));
    stage.write("pool.yaml", &POOL.replace("192.0.2.0/24", "300.0.2.0/24"));
    assert!(lines.any(|line| line.contains("pool.yaml:4: error:")));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn every_output_form_says_the_same() {
    let mut stage = Stage::new("forms");
    stage.write("node.yaml", NODE);
    stage.write("bgp.yaml", BGP);
    stage.start(&[]);
    for words in [
        &["status"][..],
        &["bgp", "peers"],
        &["bgp", "routes"],
        &["bgp", "policies"],
        &["events"],
    ] {
        let mut yaml = words.to_vec();
        yaml.extend(["-o", "yaml"]);
        assert!(!stage.ask(&yaml).stdout.is_empty(), "{words:?}");
        assert!(!stage.ask(words).stdout.is_empty(), "{words:?}");
        stage.json(words);
    }
}

#[test]
fn metrics_can_be_scraped() {
    let mut stage = Stage::new("metrics");
    stage.write("node.yaml", NODE);
    stage.write("bgp.yaml", BGP);
    stage.write("pool.yaml", &[POOL, "---\n", &service("front")].concat());
    stage.start(&["--metrics", "127.0.0.1:9962"]);
    let page = stage
        .node
        .run(|| {
            use std::io::{Read as _, Write as _};
            let mut stream = std::net::TcpStream::connect("127.0.0.1:9962").unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        })
        .unwrap();
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("text/plain; version=0.0.4"), "{page}");
    assert!(
        page.contains("cilium_lbipam_ips_used{pool=\"pool\"} 1\n"),
        "{page}"
    );
    assert!(
        page.contains("cilium_lbipam_ips_available{pool=\"pool\"} 255\n"),
        "{page}"
    );
    assert!(page.contains(
        "cilium_bgp_control_plane_session_state{vrouter=\"65001\",neighbor=\"10.9.0.2:179\",neighbor_asn=\"65010\"} 0\n"
    ));
}
