//! What a [`lab::Netns`] promises, asked of the kernel. Needs root.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use std::env;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::{LinkEnd, LinkState, Netns, until, veth};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_mins(1);

#[test]
fn two_nodes_reach_each_other_over_a_cable() {
    let a = Netns::new("a").unwrap();
    let b = Netns::new("b").unwrap();
    let left = LinkEnd::new(&a, "eth0", &["192.0.2.1/24", "2001:db8::1/64"]);
    let right = LinkEnd::new(&b, "eth0", &["192.0.2.2/24", "2001:db8::2/64"]);
    veth(left, right, Some(1400)).unwrap();
    assert!(
        a.exec(&["cat", "/sys/class/net/eth0/mtu"])
            .unwrap()
            .starts_with("1400")
    );
    for address in ["192.0.2.1:0", "[2001:db8::1]:0"] {
        let listener = a.run(|| TcpListener::bind(address)).unwrap().unwrap();
        let at = listener.local_addr().unwrap();
        b.run(|| TcpStream::connect_timeout(&at, SOON)).unwrap().unwrap();
    }
    b.set_link("eth0", LinkState::Down).unwrap();
    assert_eq!(
        a.exec(&["cat", "/sys/class/net/eth0/carrier"]).unwrap(),
        "0
"
    );
}

#[test]
fn what_a_node_writes_to_etc_run_and_log_stays_in_it() {
    let node = Netns::new("private").unwrap();
    node.sh("echo x >/etc/lab-test; echo x >/run/lab-test; echo x >/var/log/lab-test")
        .unwrap();
    assert_eq!(
        node.exec(&["cat", "/etc/lab-test", "/run/lab-test", "/var/log/lab-test"])
            .unwrap(),
        "x\nx\nx\n"
    );
    for path in ["/etc/lab-test", "/run/lab-test", "/var/log/lab-test"] {
        assert!(!Path::new(path).exists(), "{path} leaked");
    }
    assert_eq!(node.exec(&["hostname"]).unwrap(), "private\n");
}

#[test]
fn a_node_has_a_cgroup_of_its_own_and_pods_lie_in_it() {
    let node = Netns::new("cgroup").unwrap();
    let Some(outside) = node.cgroup() else {
        println!("skipped: no cgroups of version 2 are mounted");
        return;
    };
    let pod = Netns::pod_of(&node, "pod").unwrap();
    let inner = pod.cgroup().unwrap();
    assert_eq!(inner.parent(), Some(&*outside));
    // What is started in a node is in its cgroup, which is the root of all that the node sees mounted.
    let own = format!(
        "0::/{}\n",
        inner.strip_prefix(outside.parent().unwrap()).unwrap().display()
    );
    assert_eq!(pod.exec(&["grep", "^0:", "/proc/self/cgroup"]).unwrap(), own);
    let members = pod.exec(&["wc", "-l", "/sys/fs/cgroup/cgroup.procs"]).unwrap();
    assert!(!members.starts_with("0 "), "{members}");
    // The node that goes first leaves its cgroup to the pod.
    drop(node);
    assert!(outside.exists());
    drop(pod);
    assert!(!inner.exists() && !outside.exists());
}

#[test]
fn a_node_has_a_bpf_file_system_of_its_own() {
    let node = Netns::new("bpf").unwrap();
    let kinds = std::fs::read_to_string("/proc/filesystems").unwrap();
    if !kinds.contains("bpf") {
        println!("skipped: the kernel has no BPF file system");
        return;
    }
    node.sh("mkdir /sys/fs/bpf/lab-test").unwrap();
    let other = Netns::new("bpf").unwrap();
    other.sh("! [ -e /sys/fs/bpf/lab-test ]").unwrap();
}

#[test]
fn a_failing_command_tells_its_status_and_complaint() {
    let node = Netns::new("fail").unwrap();
    let error = node.sh("echo no such luck >&2; exit 3").unwrap_err().to_string();
    assert!(
        error.contains("in fail ended with exit status: 3: no such luck"),
        "{error}"
    );
}

#[test]
fn a_process_can_be_frozen_woken_and_killed() {
    let node = Netns::new("signals").unwrap();
    let mut process = node.spawn(&["sh", "-c", "echo hello; exec sleep 1000"]).unwrap();
    until(SOON, "its first words", || {
        Some(process.log())
            .filter(|log| log == "hello\n")
            .ok_or("silence".into())
    })
    .unwrap();
    let state = |process: &lab::Process| stat(process.pid().as_raw())[0].clone();
    process.signal(Signal::SIGSTOP).unwrap();
    assert_eq!(state(&process), "T");
    process.signal(Signal::SIGCONT).unwrap();
    until(SOON, "the wake", || {
        Some(())
            .filter(|()| state(&process) == "S")
            .ok_or("stopped".into())
    })
    .unwrap();
    process.signal(Signal::SIGTERM).unwrap();
    let status = process.wait(SOON).unwrap();
    assert!(!status.success());
    let error = process.signal(Signal::SIGTERM).unwrap_err().to_string();
    assert!(error.contains("is not running"), "{error}");
}

/// State, parent and so on of a process: what follows its name.
fn stat(pid: i32) -> Vec<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    rest.split(' ').map(str::to_owned).collect()
}

/// `nsenter` above the process stops too, and must not do so after both were woken: nobody would learn of the end.
#[test]
fn a_process_that_is_woken_at_once_can_be_killed_at_once() {
    let node = Netns::new("blink").unwrap();
    for _ in 0..100 {
        let mut process = node.spawn(&["sleep", "1000"]).unwrap();
        process.signal(Signal::SIGSTOP).unwrap();
        let above = stat(process.pid().as_raw())[1].parse().unwrap();
        assert_eq!(stat(above)[0], "T");
        process.signal(Signal::SIGCONT).unwrap();
        process.kill();
        assert!(process.status().is_some());
    }
}

#[test]
fn a_daemon_that_is_killed_does_not_linger_as_a_zombie() {
    let node = Netns::new("orphans").unwrap();
    node.sh("setsid sleep 1000 >/dev/null 2>&1 & echo $! >/run/pid")
        .unwrap();
    node.sh("kill -9 $(cat /run/pid)").unwrap();
    until(SOON, "the pid to be free", || {
        node.sh("! kill -0 $(cat /run/pid) 2>/dev/null")
            .map_err(|error| error.to_string())
    })
    .unwrap();
}

/// Else what dies before that stays as a zombie for as long as the node lives.
#[test]
fn a_node_reaps_orphans_from_its_first_moment() {
    let node = Netns::new("first").unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).unwrap();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    let sigchld = 17;
    let bit = 1_u64 << (sigchld - 1);
    assert_ne!(ignored & bit, 0, "{status}");
}

#[test]
fn dropping_a_node_ends_everything_inside() {
    let node = Netns::new("drop").unwrap();
    let process = node.spawn(&["sleep", "1000"]).unwrap();
    node.sh("setsid sleep 1000 >/dev/null 2>&1 &").unwrap();
    let pids = [process.pid().as_raw(), i32::try_from(node.pid()).unwrap()];
    drop(node);
    for pid in pids {
        assert!(!is_alive(pid));
    }
}

#[test]
fn a_panic_leaves_nothing_behind() {
    let (mut victim, pids) = start_victim("panic");
    assert!(!victim.wait().unwrap().success());
    all_gone(&victim, &pids);
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    ends_with(Signal::SIGINT);
}

#[test]
fn sigterm_leaves_nothing_behind() {
    ends_with(Signal::SIGTERM);
}

#[test]
fn kill_minus_nine_leaves_nothing_behind() {
    ends_with(Signal::SIGKILL);
}

fn ends_with(signal: Signal) {
    let (mut victim, pids) = start_victim("wait");
    kill(Pid::from_raw(i32::try_from(victim.id()).unwrap()), signal).unwrap();
    assert!(!victim.wait().unwrap().success());
    all_gone(&victim, &pids);
}

/// Runs this test program again, to be killed: it makes two nodes, a cable, a process and a daemon, and prints
/// their pids.
fn start_victim(ending: &str) -> (Child, Vec<i32>) {
    // Whoever runs the tests in the background has them ignore Ctrl-C, and their children with them.
    let mut victim = Command::new("env")
        .arg("--default-signal=INT")
        .arg(env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env("LAB_VICTIM", ending)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let line = lines
        .map(Result::unwrap)
        .find(|line| line.contains("pids:"))
        .expect("the victim names its pids");
    let (_, pids) = line.split_once("pids:").unwrap();
    let pids: Vec<i32> = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    (victim, pids)
}

/// The part played by the second run; alone, it has nothing to do.
#[test]
fn victim() {
    let Ok(ending) = env::var("LAB_VICTIM") else {
        return;
    };
    let a = Netns::new("a").unwrap();
    let b = Netns::new("b").unwrap();
    veth(LinkEnd::new(&a, "eth0", &[]), LinkEnd::new(&b, "eth0", &[]), None).unwrap();
    let process = a.spawn(&["sleep", "1000"]).unwrap();
    b.sh("setsid sleep 1000 >/dev/null 2>&1 &").unwrap();
    println!("pids: {} {} {}", a.pid(), b.pid(), process.pid());
    assert_ne!(ending, "panic", "as told");
    nix::unistd::pause();
}

fn all_gone(victim: &Child, pids: &[i32]) {
    if let Some(cgroups) = Command::new("findmnt")
        .args(["-rnt", "cgroup2", "-o", "TARGET"])
        .output()
        .ok()
        .and_then(|output| Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned()))
    {
        let own = format!("st-{}-", victim.id());
        until(SOON, "the end of its cgroups", || {
            let mut left = std::fs::read_dir(&cgroups).unwrap().flatten();
            match left.find(|entry| entry.file_name().to_string_lossy().starts_with(&own)) {
                Some(left) => Err(format!("{left:?}")),
                None => Ok(()),
            }
        })
        .unwrap();
    }
    for pid in pids {
        until(SOON, format!("the end of {pid}"), || {
            Some(())
                .filter(|()| !is_alive(*pid))
                .ok_or_else(|| "alive".to_owned())
        })
        .unwrap();
    }
}

fn is_alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
