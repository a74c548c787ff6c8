//! What the maps hold and what programs tell, printed without any agent: maps filled by the test, in a BPF file system and
//! network that only this test sees.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use ebpf_abi::config::{Config, setting};
use ebpf_abi::plain::Plain;
use ebpf_abi::service::{Backend, Frontend, FrontendKey, Selection, Set, backend_flag, flag};
use ebpf_abi::{BackendId, FrontendId, V4, filter, maps};
use ebpf_loader::{Datapath, Feature, Hook, Settings, Support, Without, probe};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::stage::{BINARY, LIMIT, Printed, run};

#[test]
fn maps_and_events_are_shown_without_an_agent() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: kernel programs and network namespaces need root");
        return;
    }
    let missing = |(feature, support): (Feature, Support)| match support {
        Support::Missing(why) if feature.without() == Without::Nothing || feature == Feature::Tcx => {
            Some(format!("the kernel has no {}: {why}", feature.name()))
        }
        Support::Used | Support::Missing(_) => None,
    };
    if let Some(why) = probe().into_iter().find_map(missing) {
        println!("skipped: {why}");
        return;
    }
    thread::spawn(|| {
        let root = tempfile::tempdir().unwrap();
        own(root.path());
        let datapath = filled(root.path());
        let text = root.path().display().to_string();
        tables(&text);
        monitor(datapath, &text);
    })
    .join()
    .unwrap();
}

#[test]
fn without_pins_it_is_said_where_they_were_looked_for() {
    let printed = list("services", "/nowhere", &[]);
    assert_eq!((printed.code, &*printed.stdout), (1, ""));
    assert!(
        printed
            .stderr
            .starts_with("stentor: no maps of this version are pinned at /nowhere/stentor/v"),
        "{printed:?}"
    );
    assert!(printed.stderr.contains("--bpf-root"), "{printed:?}");
}

/// Mounts and a network of this thread's own.
fn own(root: &Path) {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&Path>, "/", None::<&Path>, private, None::<&Path>).unwrap();
    mount(Some("bpf"), root, Some("bpf"), MsFlags::empty(), None::<&Path>).unwrap();
}

/// A VIP with one backend, and an address without any.
fn filled(root: &Path) -> Datapath {
    let test = env::current_exe().unwrap();
    let elf = test.ancestors().nth(3).unwrap().join("bpf/stentor-bpf");
    let elf =
        fs::read(&elf).unwrap_or_else(|error| panic!("{}: {error}: run cargo xtask build", elf.display()));
    let folder = root.join("stentor");
    fs::create_dir(&folder).unwrap();
    let small = maps::ALL.iter().filter(|map| map.kind == maps::Kind::LruHash);
    let settings = Settings {
        folder,
        entries: small.map(|map| (map.name, 1024)).collect(),
    };
    let datapath = Datapath::load(&elf, &settings).unwrap();
    let address = |last| V4::from(Ipv4Addr::new(192, 0, 2, last));
    for last in [1, 2] {
        let (word, bit) = filter::place(&address(last));
        let map = datapath.map(maps::FILTER).unwrap();
        let bits: u64 = map.get(&word).unwrap().unwrap_or_default();
        map.put(&word, &(bits | bit)).unwrap();
    }
    let backend = Backend {
        id: BackendId::new(4, 1).unwrap(),
        address: V4::from(Ipv4Addr::new(10, 0, 0, 1)),
        port: 8080_u16.to_be(),
        protocol: 17,
        flags: backend_flag::LOCAL,
        ..Backend::default()
    };
    put(&datapath, maps::BACKENDS4, 4, &backend);
    put(&datapath, maps::SLOTS, 3, &backend.id);
    put(&datapath, maps::SETS, 1, &Set::new(3, 1, 1));
    for (last, set) in [(1, 1), (2, 0)] {
        let frontend = Frontend {
            id: FrontendId::new(u32::from(last), 1).unwrap(),
            set,
            inner_set: set,
            service: u32::from(last),
            flags: flag::ROUTABLE | flag::LOAD_BALANCER,
            selection: Selection::Random.number(),
            ..Frontend::default()
        };
        put(&datapath, maps::LIVE_FRONTENDS, u32::from(last), &frontend.id);
        let key = FrontendKey::new(address(last), 53_u16.to_be(), 17);
        datapath
            .map(maps::FRONTENDS4)
            .unwrap()
            .put(&key, &frontend)
            .unwrap();
    }
    let config = Config {
        settings: setting::ENABLED,
        ..Config::default()
    };
    put(&datapath, maps::CONFIG, 0, &config);
    datapath
}

fn put<V: Plain>(datapath: &Datapath, map: maps::Map, place: u32, value: &V) {
    datapath.map(map).unwrap().put(&place, value).unwrap();
}

fn list(what: &str, root: &str, more: &[&str]) -> Printed {
    let mut words = vec![
        "lb",
        what,
        "list",
        "--bpf-root",
        root,
        "--socket",
        "/nowhere/agent.sock",
    ];
    words.extend(more);
    run(&words)
}

fn tables(root: &str) {
    for (what, more, expected) in [
        (
            "services",
            &[][..],
            "\
SERVICE   FRONTEND           TYPE           EXTERNAL POLICY   SELECTION   FORWARDING   AFFINITY   SOURCES   BACKENDS
#1        192.0.2.1:53/UDP   LoadBalancer   Cluster           random      snat         -          all       10.0.0.1:8080/UDP
#2        192.0.2.2:53/UDP   LoadBalancer   Cluster           random      snat         -          all       none
",
        ),
        (
            "services",
            &["--vip", "192.0.2.2"],
            "\
SERVICE   FRONTEND           TYPE           EXTERNAL POLICY   SELECTION   FORWARDING   AFFINITY   SOURCES   BACKENDS
#2        192.0.2.2:53/UDP   LoadBalancer   Cluster           random      snat         -          all       none
",
        ),
        (
            "backends",
            &[],
            "\
ID        BACKEND             STATE    WHERE       SERVICES
1048580   10.0.0.1:8080/UDP   active   this node   #1
",
        ),
        ("maglev", &[], "No Maglev tables.\n"),
        ("ct", &[], "No connections.\n"),
        ("nat", &[], "No connection has its source translated.\n"),
        ("affinity", &[], "No client stays with its backend.\n"),
    ] {
        let printed = list(what, root, more);
        assert_eq!(printed.stdout, expected, "{what}: {}", printed.stderr);
        assert_eq!((printed.code, &*printed.stderr), (0, ""), "{what}");
    }
    let printed = list("backends", root, &["-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!(json[0]["backend"], "10.0.0.1:8080/UDP");
    let printed = run(&["bpf", "maps", "list", "--bpf-root", root, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
    let rows = json.as_array().unwrap();
    assert_eq!(rows.len(), maps::ALL.len(), "{printed:?}");
    let used = rows.iter().find(|row| row["name"] == "FRONTENDS4").unwrap();
    assert_eq!(used["used"], 2);
}

/// A packet comes in by a device and is dropped there: whoever listens reads a line, and connections are listed.
fn monitor(mut datapath: Datapath, root: &str) {
    for command in [
        "link set lo up",
        "link add in0 type veth peer name out0",
        "link set in0 up",
        "link set out0 up",
        "addr add 198.51.100.1/24 dev out0",
        "route add 192.0.2.0/24 via 198.51.100.2",
    ] {
        ip(command);
    }
    ip(&format!(
        "neigh add 198.51.100.2 lladdr {} dev out0",
        mac_of("in0")
    ));
    let index = nix::net::if_::if_nametoindex("in0").unwrap();
    datapath.attach(Hook::Ingress, "in0", index).unwrap();
    let printed = run(&["bpf", "progs", "list", "--bpf-root", root]);
    let line = printed.stdout.lines().nth(1).unwrap_or_default();
    assert!(
        line.starts_with("from_netdev") && line.contains("in0"),
        "{printed:?}"
    );

    let socket = UdpSocket::bind("198.51.100.1:4711").unwrap();
    let drops = lines(root, &["monitor", "--from", "198.51.100.1"]);
    let (line, printed) = first(drops, || drop(socket.send_to(b"question", "192.0.2.2:53")));
    assert!(printed.ends_with(
        "drop (Service backend not found, 158) ingress in0 198.51.100.1:4711 -> 192.0.2.2:53 UDP 50 octets service #2"
    ), "{line}");

    // Nothing stays of a test run; the kernel's program and the walk come to the same.
    let (client, vip) = ("198.51.100.1:4712", "192.0.2.1:53");
    let words = ["lb", "trace", client, vip, "--proto", "udp", "--bpf-root", root];
    let printed = run(&words);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert!(
        printed
            .stdout
            .contains("Kernel: from_netdev at in0 agrees: goes to 10.0.0.1:8080/UDP"),
        "{printed:?}"
    );
    assert_eq!(list("ct", root, &[]).stdout, "No connections.\n");
    let printed = run(&[
        "lb",
        "trace",
        client,
        "192.0.2.2:53",
        "--proto",
        "udp",
        "--bpf-root",
        root,
    ]);
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(
        printed
            .stdout
            .contains("agrees: dropped: Service backend not found (158)"),
        "{printed:?}"
    );
    assert!(
        printed.stdout.contains("First no: backends: nobody serves"),
        "{printed:?}"
    );

    let traces = lines(root, &["monitor", "--type", "trace", "-o", "json"]);
    let (line, _) = first(traces, || drop(socket.send_to(b"question", "192.0.2.1:53")));
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    for (field, expected) in [
        ("type", "trace"),
        ("way", "to backend"),
        ("device", "in0"),
        ("source", "198.51.100.1:4711"),
        ("destination", "192.0.2.1:53"),
        ("service", "#1"),
        ("backend", "10.0.0.1:8080"),
    ] {
        assert_eq!(json[field], expected, "{line}");
    }

    let raw = lines(root, &["bpf", "events"]);
    let (line, _) = first(raw, || drop(socket.send_to(b"question", "192.0.2.2:53")));
    let question: String = b"question".iter().map(|octet| format!("{octet:02x}")).collect();
    assert!(line.contains(" | "), "{line}");
    assert!(line.contains(&question[..12]), "{line}");

    let printed = list("ct", root, &["-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap();
    let forward = json
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["way"] == "forward")
        .unwrap();
    assert_eq!(forward["source"], "198.51.100.1:4711/UDP");
    assert_eq!(forward["newDestination"], "10.0.0.1:8080/UDP");
}

fn lines(root: &str, words: &[&str]) -> Child {
    Command::new(BINARY)
        .args(words)
        .args(["-n", "1", "--bpf-root", root, "--socket", "/nowhere/agent.sock"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The first line, while packets are sent: nobody outside sees when it begins to listen. Also without the missed ones.
fn first(mut child: Child, send: impl Fn()) -> (String, String) {
    let out = child.stdout.take().unwrap();
    let (done, until) = (AtomicBool::new(false), Instant::now() + LIMIT);
    let line = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut line = String::new();
            BufReader::new(out).read_line(&mut line).unwrap();
            done.store(true, Ordering::Release);
            line
        });
        while !done.load(Ordering::Acquire) && Instant::now() < until {
            send();
            thread::park_timeout(Duration::from_millis(20));
        }
        if !done.load(Ordering::Acquire) {
            child.kill().unwrap();
        }
        reader.join().unwrap()
    });
    assert!(child.wait().unwrap().success(), "{line}");
    let line = line.trim_end().to_owned();
    let without = line.split(" [").next().unwrap_or_default().to_owned();
    (line, without)
}

fn ip(command: &str) {
    let output = Command::new("ip").args(command.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {command}: {output:?}");
}

fn mac_of(device: &str) -> String {
    let output = Command::new("ip")
        .args(["-o", "link", "show", device])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.split_whitespace().collect();
    let place = words.iter().position(|word| *word == "link/ether").unwrap();
    words[place + 1].to_owned()
}
