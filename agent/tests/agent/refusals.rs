//! Everything an agent or a command refuses: one line that says what, where and what to do, and its code.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::stage::{BGP, BINARY, LIMIT, NODE, POOL, Printed, Stage, run, service};

fn agent(stage: &Stage, more: &[&str]) -> Printed {
    let (manifests, state) = (stage.text_path("manifests"), stage.text_path("state"));
    let socket = stage.text_path("agent.sock");
    let mut words = vec!["agent", "--node", "node-a", "--manifests", &manifests];
    words.extend(["--state", &state, "--socket", &socket]);
    words.extend(more);
    run(&words)
}

#[track_caller]
fn one_line(printed: &Printed, code: i32, parts: &[&str]) {
    assert_eq!(printed.code, code, "{printed:?}");
    assert_eq!(printed.stdout, "");
    assert_eq!(printed.stderr.lines().count(), 1, "{printed:?}");
    for part in parts {
        assert!(
            printed.stderr.contains(part),
            "{part:?} is missing in {printed:?}"
        );
    }
}

#[test]
fn a_second_agent_names_the_first_and_leaves_it_alone() {
    let mut stage = Stage::new("second");
    stage.start(&[]);
    let holder = stage.agent().pid().to_string();
    one_line(
        &agent(&stage, &[]),
        5,
        &["another agent (process ", "uses the state folder", "--state"],
    );
    let other_state = stage.text_path("other");
    let printed = run(&[
        "agent",
        "--node",
        "node-a",
        "--manifests",
        &stage.text_path("manifests"),
        "--state",
        &other_state,
        "--socket",
        &stage.text_path("agent.sock"),
    ]);
    one_line(
        &printed,
        5,
        &["another agent (process ", &holder, "listens on", "--socket"],
    );
    assert_eq!(stage.ask(&["bgp", "peers"]).code, 0);
}

#[test]
fn folders_that_can_not_be_used_are_named() {
    let stage = Stage::new("folders");
    let missing = stage.text_path("nowhere");
    let printed = run(&[
        "agent",
        "--node",
        "n",
        "--manifests",
        &missing,
        "--state",
        &stage.text_path("state"),
        "--socket",
        &stage.text_path("agent.sock"),
    ]);
    one_line(&printed, 5, &[&missing, "--manifests", "can not be read"]);
    fs::write(stage.path("file"), "").unwrap();
    let below_a_file = stage.text_path("file/state");
    let printed = run(&[
        "agent",
        "--node",
        "n",
        "--manifests",
        &stage.text_path("manifests"),
        "--state",
        &below_a_file,
        "--socket",
        &stage.text_path("agent.sock"),
    ]);
    one_line(&printed, 5, &[&below_a_file, "--state"]);
}

#[test]
fn a_state_folder_of_another_version_is_refused_and_left_alone() {
    let stage = Stage::new("version");
    fs::create_dir(stage.path("state")).unwrap();
    let text = r#"{"version": 99, "content": {}}"#;
    fs::write(stage.path("state/vips.json"), text).unwrap();
    one_line(
        &agent(&stage, &[]),
        5,
        &[
            "vips.json",
            "another version of Stentor",
            "layout 99",
            "run that version",
        ],
    );
    assert_eq!(fs::read_to_string(stage.path("state/vips.json")).unwrap(), text);
}

#[test]
fn ports_in_use_are_named() {
    let stage = Stage::new("ports");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    one_line(
        &agent(&stage, &["--metrics", &address]),
        5,
        &[&address, "--metrics"],
    );
}

#[test]
fn a_listen_port_in_use_keeps_the_rest_running_and_is_in_the_status() {
    let mut stage = Stage::new("bgp-port");
    let _holder = stage
        .node
        .run(|| TcpListener::bind("0.0.0.0:179").unwrap())
        .unwrap();
    stage.write("node.yaml", NODE);
    stage.write(
        "bgp.yaml",
        &BGP.replace("localASN: 65001", "localASN: 65001\n      localPort: 179"),
    );
    stage.start(&[]);
    let status = stage.until("the port to be reported", &["status"], |status| {
        status["bgp"]["instances"][0]["listenError"].is_string()
    });
    assert_eq!(status["verdict"], "notGreen");
    assert_eq!(status["because"][0]["reason"], "can-not-listen", "{status:#}");
    let error = status["bgp"]["instances"][0]["listenError"].as_str().unwrap();
    assert!(error.contains("179"), "{error}");
}

/// A program run by nobody: a uid that owns nothing and may do nothing special.
struct Nobody {
    program: String,
}

impl Nobody {
    const UID: u32 = 65_534;

    /// The program may lie where others have no way to: it gets a name in the stage's folder.
    fn new(stage: &Stage) -> Self {
        let program = stage.path("stentor");
        fs::hard_link(BINARY, &program)
            .or_else(|_| fs::copy(BINARY, &program).map(drop))
            .unwrap();
        mode(stage.dir.path(), 0o755);
        mode(&program, 0o755);
        Self {
            program: program.display().to_string(),
        }
    }

    fn words<'a>(&'a self, words: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec!["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        all.push(&self.program);
        all.extend(words);
        all
    }

    fn run(&self, words: &[&str]) -> Printed {
        let words = self.words(words);
        let output = std::process::Command::new(words[0])
            .args(&words[1..])
            .output()
            .unwrap();
        Printed {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap(),
        }
    }
}

/// Makes nobody the owner of all that is there: whatever the umask, the owner may read it.
fn give_to_nobody(path: &Path) {
    std::os::unix::fs::chown(path, Some(Nobody::UID), Some(Nobody::UID)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give_to_nobody(&entry.unwrap().path());
        }
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn folders_without_permission_are_named() {
    let stage = Stage::new("denied");
    let nobody = Nobody::new(&stage);
    for name in ["state", "root"] {
        fs::create_dir(stage.path(name)).unwrap();
    }
    give_to_nobody(&stage.path("state"));
    give_to_nobody(&stage.path("manifests"));
    mode(&stage.path("root"), 0o700);
    let (manifests, state) = (stage.text_path("manifests"), stage.text_path("state"));
    let socket = stage.text_path("state/agent.sock");
    let denied = stage.text_path("root/x");
    let agent = |manifests: &str, state: &str, socket: &str| {
        let words = [
            "agent",
            "--node",
            "n",
            "--manifests",
            manifests,
            "--state",
            state,
            "--socket",
            socket,
        ];
        nobody.run(&words)
    };
    let refused = "Permission denied";
    one_line(
        &agent(&denied, &state, &socket),
        5,
        &[&denied, refused, "--manifests"],
    );
    one_line(
        &agent(&manifests, &denied, &socket),
        5,
        &[&denied, refused, "--state"],
    );
    one_line(
        &agent(&manifests, &state, &denied),
        5,
        &["can not listen on", &denied, refused, "--socket"],
    );
    // Somebody else's agent: neither its state nor its socket is touched.
    let _other = std::os::unix::net::UnixListener::bind(stage.path("root.sock")).unwrap();
    mode(&stage.path("root.sock"), 0o600);
    let root = stage.text_path("root.sock");
    one_line(
        &agent(&manifests, &state, &root),
        5,
        &["can not listen on", &root, refused, "--socket"],
    );
    one_line(
        &nobody.run(&["status", "--socket", &root]),
        3,
        &["no permission to open", &root, "sudo"],
    );
}

#[test]
fn a_port_that_may_not_be_listened_on_is_in_the_status_and_the_rest_runs() {
    let mut stage = Stage::new("port-denied");
    let nobody = Nobody::new(&stage);
    fs::create_dir(stage.path("state")).unwrap();
    give_to_nobody(&stage.path("state"));
    stage.write("node.yaml", NODE);
    stage.write("pool.yaml", POOL);
    stage.write("front.yaml", &service("front"));
    stage.write(
        "bgp.yaml",
        &BGP.replace("localASN: 65001", "localASN: 65001\n      localPort: 179"),
    );
    give_to_nobody(&stage.path("manifests"));
    let (manifests, state) = (stage.text_path("manifests"), stage.text_path("state"));
    let socket = stage.text_path("state/agent.sock");
    let words = [
        "agent",
        "--node",
        "node-a",
        "--manifests",
        &manifests,
        "--state",
        &state,
        "--socket",
        &socket,
    ];
    stage.agent = Some(stage.node.spawn(&nobody.words(&words)).unwrap());
    let status = lab::until(LIMIT, "the port to be reported", || {
        let printed = nobody.run(&["status", "-o", "json", "--socket", &socket]);
        let status: serde_json::Value = serde_json::from_str(&printed.stdout).unwrap_or_default();
        if status["because"][0]["reason"] == "can-not-listen" {
            Ok(status)
        } else {
            Err(format!("{printed:?}\n{}", stage.log()))
        }
    })
    .unwrap();
    let message = status["because"][0]["message"].as_str().unwrap().to_lowercase();
    for part in ["instance main", "port 179", "cap_net_bind_service"] {
        assert!(message.contains(part), "{part:?} is missing in {message:?}");
    }
    assert_eq!(status["vips"][0]["address"], "192.0.2.0");
}

#[test]
fn a_bad_configuration_names_file_line_key_and_what_would_do() {
    let stage = Stage::new("config");
    fs::write(
        stage.path("agent.yaml"),
        "ipam: kubernetes\nenable-ipv4: perhaps\n",
    )
    .unwrap();
    let path = stage.text_path("agent.yaml");
    one_line(
        &agent(&stage, &["--config", &path]),
        5,
        &[&format!("{path}:2:"), "enable-ipv4", "perhaps", "true or false"],
    );
    one_line(&agent(&stage, &["--log", "=="]), 5, &["--log", "info"]);
}

#[test]
fn clients_say_when_no_agent_listens() {
    let stage = Stage::new("absent");
    for words in [
        &["status"][..],
        &["bgp", "peers"],
        &["vip", "list"],
        &["bgp", "reset", "--all"],
    ] {
        one_line(
            &stage.ask(words),
            3,
            &["no agent listens on", "agent.sock", "--socket"],
        );
    }
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_2() {
    for words in [
        &["nonsense"][..],
        &["agent"],
        &["bgp", "reset"],
        &["status", "-o", "xml"],
    ] {
        let printed = run(words);
        assert_eq!(printed.code, 2, "{printed:?}");
        assert!(!printed.stderr.is_empty());
    }
    assert_eq!(run(&["--help"]).code, 0);
    assert!(run(&["--help"]).stdout.contains("Exit codes:"));
}

#[test]
fn the_agent_refuses_orders_for_nobody_with_4() {
    let mut stage = Stage::new("nobody");
    stage.start(&[]);
    one_line(
        &stage.ask(&["bgp", "reset", "--peer", "nobody"]),
        4,
        &["no session matches peer nobody"],
    );
}

#[test]
fn check_lists_problems_with_their_place_and_ends_with_1() {
    let stage = Stage::new("check");
    stage.write("good.yaml", &[POOL, "---\n", &service("front")].concat());
    let folder = stage.text_path("manifests");
    let good = run(&["check", &folder]);
    assert_eq!((good.code, good.stderr.as_str()), (0, ""), "{good:?}");
    assert!(good.stdout.ends_with("no problems\n"), "{good:?}");
    stage.write("bad.yaml", &POOL.replace("192.0.2.0/24", "192.0.2.0/33"));
    let bad = run(&["check", &folder]);
    assert_eq!(bad.code, 1, "{bad:?}");
    let line = bad
        .stdout
        .lines()
        .find(|line| line.contains("bad.yaml:"))
        .unwrap();
    assert!(line.starts_with(&format!("{folder}/bad.yaml:4:")), "{line}");
    // What the cluster is configured to do belongs to it.
    let config = stage.text_path("agent.yaml");
    fs::write(&config, "enable-ipv4: perhaps\n").unwrap();
    one_line(
        &run(&["check", &folder, "--config", &config]),
        1,
        &["agent.yaml:1: enable-ipv4", "true or false"],
    );
    let json = run(&["check", &folder, "-o", "json"]);
    let problems: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert!(problems.as_array().is_some_and(|list| !list.is_empty()));
}

#[test]
fn completions_and_man_pages_are_made() {
    let stage = Stage::new("man");
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).stdout.contains("stentor"));
    }
    let dir = stage.text_path("man");
    assert_eq!(run(&["man", "--dir", &dir]).code, 0);
    let page = fs::read_to_string(stage.path("man/stentor.1")).unwrap();
    assert!(page.contains("Exit codes"), "{page}");
    assert!(stage.path("man/stentor-bgp-plan.1").exists());
}
