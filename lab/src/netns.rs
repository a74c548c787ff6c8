//! One node of a lab: its own network, mounts, processes, host name, cgroup.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::ops::Deref;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::clab::Bind;
use crate::link::LinkState;
use crate::process::Process;
use crate::{Error, system};

/// Runs outside the namespaces, as what is left when they are gone: a cgroup cannot go while somebody is in it. `$1` is
/// the cgroup, or empty; `$2` is what the list of processes calls the node; what [`INIT`] takes comes next.
///
/// - Only the inner shell enters the cgroup, and it becomes `unshare`, so that the cgroup namespace begins there.
/// - Ctrl-C reaches this shell too; it goes on then, to clean up behind what the signal ended.
/// - Of a node and what is in its cgroup, the last one to go removes the cgroup of the node.
const OUTER: &str = r#"
cgroup=$1
trap : INT TERM HUP
[ -z "$cgroup" ] || mkdir -p "$cgroup" || exit 1
(
  [ -z "$cgroup" ] || { echo 0 >"$cgroup/cgroup.procs"; } || exit 1
  shift
  exec unshare --net --mount --pid --uts --ipc --cgroup --fork --kill-child --propagation private \
    sh -c 'eval "$LAB_INIT"' "$@"
)
status=$?
if [ -n "$cgroup" ]; then
  # Runtimes of containers leave folders below, in every hierarchy.
  for folder in "$cgroup" "${cgroup%/*/*}"/*/"${cgroup##*/}"; do
    [ ! -d "$folder" ] || find "$folder" -depth -type d -exec rmdir {} + 2>/dev/null
  done
  rmdir "${cgroup%/*}" 2>/dev/null
fi
exit $status
"#;

/// Runs as process 1 of the new namespaces. `$1` is the host name; then come binds, three words each: source,
/// target, `rw` or `ro`.
///
/// - The pid is read before `/proc` is replaced: it is the number the machine knows this process by.
/// - `/etc` is an overlay, so that a node may edit its configuration; where the kernel has no overlayfs, the
///   daemons' own folders are copied.
/// - DAD is off: nobody else can have these addresses, and a tentative address costs a second per link.
/// - The BPF file system and the cgroup that a node sees are its own, where the kernel has them.
/// - SIGCHLD is ignored, so that the kernel reaps orphans: a daemon that was killed must not linger as a zombie
///   that still answers `kill -0`.
/// - `cat` ends when the owner's end of the pipe closes, and everything else ends with it. It also tells the pid: only
///   then is SIGCHLD ignored, and what dies earlier is not reaped.
const INIT: &str = r#"
set -e
read -r pid _ </proc/self/stat
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf 2>/dev/null || :
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null || :
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/.etc/upper /run/.etc/work /run/lock /run/netns /run/stentor /run/bird /run/openbgpd
if ! mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/.etc/upper,workdir=/run/.etc/work /etc 2>/dev/null; then
  for dir in frr bird gobgp exabgp; do
    [ -d /etc/$dir ] || continue
    cp -a /etc/$dir /run/.etc/$dir
    mount --bind /run/.etc/$dir /etc/$dir
  done
fi
mount -t tmpfs -o mode=755 tmpfs /var/log
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
if getent passwd frr >/dev/null; then
  mkdir -p /etc/frr
  install -d -o frr -g frr -m 755 /run/frr /var/log/frr
fi
hostname "$1"
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 \
  net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
  net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
shift
while [ $# -gt 0 ]; do
  # Only what is private to the node may grow: the machine's own files are the machine's.
  [ -e "$2" ] || case "$2" in
    /etc/*|/run/*|/var/run/*|/var/log/*)
      if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "$(dirname "$2")"; : >"$2"; fi ;;
    *) echo "bind target $2 does not exist and is not under /etc, /run or /var/log" >&2; exit 1 ;;
  esac
  mount --bind "$1" "$2"
  [ "$3" = rw ] || mount -o remount,bind,ro "$2"
  shift 3
done
echo "$pid" >/run/.pid
exec env -u LAB_INIT -u LAB_OUTER --ignore-signal=CHLD cat /run/.pid - 2>/dev/null
"#;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A node: network, mount, pid, uts and ipc namespaces with a private `/etc`, `/run`, `/var/log` and `/var/tmp`.
///
/// Dropping it kills all that runs inside and removes its interfaces; so does the end of the owning process.
pub struct Netns {
    handle: Handle,
    /// A shell above `unshare`, the parent of process 1.
    outer: Child,
    /// The pipe whose end is the node's end.
    hold: Option<ChildStdin>,
}

/// A way into a running node, which somebody else keeps alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle {
    name: String,
    /// Process 1 of the node, as the machine numbers it.
    pid: u32,
}

impl fmt::Debug for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Netns").field(&self.handle).finish()
    }
}

impl Netns {
    /// Starts a node whose host name is `hint`. Loopback is up and forwarding is on.
    ///
    /// In a process list it shows as `st-<owner pid>-<n>-<hint>`.
    ///
    /// # Errors
    /// No root, no `unshare`, or a kernel without one of the namespaces.
    pub fn new(hint: &str) -> Result<Self, Error> {
        Self::with_binds(hint, &[])
    }

    /// Starts a node that sees some files of the machine elsewhere. Targets are made if they lie under `/etc`,
    /// `/run` or `/var/log`; sources under `/run` are out of sight.
    ///
    /// # Errors
    /// As [`Netns::new`], and when a source is missing or a target cannot be made.
    pub fn with_binds(hint: &str, binds: &[Bind]) -> Result<Self, Error> {
        Self::start(hint, binds, cgroups())
    }

    /// Starts a node that is a pod of another one: its cgroup lies in that of the other.
    ///
    /// # Errors
    /// As [`Netns::new`].
    pub fn pod_of(node: &Handle, hint: &str) -> Result<Self, Error> {
        Self::start(hint, &[], node.cgroup())
    }

    fn start(hint: &str, binds: &[Bind], cgroup: Option<PathBuf>) -> Result<Self, Error> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("st-{}-{count}-{hint}", std::process::id());
        let cgroup = cgroup.map(|parent| parent.join(&name)).unwrap_or_default();
        let mut outer = Command::new("sh")
            .args(["-c", "eval \"$LAB_OUTER\"", "lab"])
            .arg(&cgroup)
            .args([&name, hint])
            // Not arguments: a list of processes stays readable.
            .env("LAB_OUTER", OUTER)
            .env("LAB_INIT", INIT)
            .args(
                binds
                    .iter()
                    .flat_map(|bind| [&bind.source, &bind.target, bind.access.word()]),
            )
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Start {
                program: "sh".into(),
                source,
            })?;
        let hold = outer.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = outer.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(system("read a new node's pid"))?;
        }
        let Ok(pid) = line.trim().parse() else {
            drop(hold);
            let mut stderr = String::new();
            if let Some(mut from) = outer.stderr.take() {
                from.read_to_string(&mut stderr)
                    .map_err(system("read a new node's complaint"))?;
            }
            outer.wait().map_err(system("reap unshare"))?;
            return Err(Error::NoNamespace {
                node: hint.into(),
                stderr,
            });
        };
        Ok(Self {
            handle: Handle::new(hint.to_owned(), pid),
            outer,
            hold,
        })
    }
}

impl Deref for Netns {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Handle {
    /// The way into a node that another process owns.
    #[must_use]
    pub fn new(name: String, pid: u32) -> Self {
        Self { name, pid }
    }

    /// The host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The machine's number for the node's process 1; `/proc/<pid>/ns/net` is the node's network.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where the machine finds the node's cgroup; `None` where no cgroups of version 2 are mounted.
    #[must_use]
    pub fn cgroup(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Some(cgroups()?.join(path))
    }

    /// Where the machine finds a file of the node, its private folders included.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.pid))
    }

    /// A command that will run inside the node. The working directory is `/`: give absolute paths.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = enter(self.pid);
        command.arg(program);
        command
    }

    /// Runs a program to its end and returns what it wrote to stdout.
    ///
    /// # Errors
    /// The program cannot be started or exits with anything but 0.
    pub fn exec(&self, argv: &[&str]) -> Result<String, Error> {
        let mut command = enter(self.pid);
        command.args(argv);
        self.finish(&argv.join(" "), command.output())
    }

    /// Runs a shell script to its end and returns what it wrote to stdout.
    ///
    /// # Errors
    /// As [`crate::Netns::exec`]. The script runs with `set -e`.
    pub fn sh(&self, script: &str) -> Result<String, Error> {
        let mut command = enter(self.pid);
        command.args(["sh", "-ec", script]);
        self.finish(script, command.output())
    }

    /// Runs a shell script of the machine's own programs in the node's network, and nothing else of the node: a
    /// container need not have `ip`.
    ///
    /// # Errors
    /// As [`Handle::sh`].
    pub fn sh_in_network(&self, script: &str) -> Result<String, Error> {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.pid.to_string(), "--net", "--"])
            .args(["sh", "-ec", script])
            .stdin(Stdio::null());
        self.finish(script, command.output())
    }

    fn finish(&self, shown: &str, output: std::io::Result<Output>) -> Result<String, Error> {
        let output = output.map_err(|source| Error::Start {
            program: "nsenter".into(),
            source,
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(Error::Failed {
            node: self.name.clone(),
            command: shown.to_owned(),
            status: output.status,
            stderr: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
        })
    }

    /// Starts a long-running program. It ends with the returned [`Process`], at the latest with the node.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&self, argv: &[&str]) -> Result<Process, Error> {
        let mut command = enter(self.pid);
        command.args(argv);
        Process::spawn(format!("{}: {}", self.name, argv.join(" ")), command)
    }

    /// Runs `work` of this very process inside the node's network (mounts and pids stay the machine's).
    ///
    /// Sockets opened by `work` belong to the node for good; so does an async runtime built by it. `work` runs
    /// on a thread of its own.
    ///
    /// # Errors
    /// The namespace cannot be entered. A panic of `work` goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let path = format!("/proc/{}/ns/net", self.pid);
        let net = File::open(&path).map_err(system(format!("open {path}")))?;
        let enter = move || {
            setns(net.as_fd(), CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from)?;
            Ok(work())
        };
        thread::scope(|scope| match scope.spawn(enter).join() {
            Ok(done) => done.map_err(system(format!("enter {path}"))),
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Sets an interface up or down.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn set_link(&self, name: &str, state: LinkState) -> Result<(), Error> {
        self.sh_in_network(&format!("ip link set dev {name} {}", state.word()))
            .map(drop)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Closing the pipe ends process 1. `unshare` and the shell above it return when process 1 is gone, and the kernel lets it go
        // only after all others in its pid namespace, so after this wait nothing runs there any more.
        drop(self.hold.take());
        drop(self.outer.wait());
    }
}

/// Where cgroups of version 2 are mounted.
fn cgroups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut words = mounts.lines().map(|line| line.split(' '));
    words.find_map(|mut words| {
        let (target, kind) = (words.nth(1)?, words.next()?);
        (kind == "cgroup2").then(|| Path::new(target).to_owned())
    })
}

/// Enters the node's cgroup, where it has one, and becomes the program. It stays in the machine's cgroup namespace, as only
/// from there one may enter wherever delegation is on.
const JOIN: &str = r#"{ echo 0 >/sys/fs/cgroup/cgroup.procs; } 2>/dev/null; exec "$@""#;

/// `nsenter` into all namespaces and the cgroup of the node whose process 1 is `pid`.
pub(crate) fn enter(pid: u32) -> Command {
    let mut command = Command::new("nsenter");
    command
        .args([
            "--target",
            &pid.to_string(),
            "--net",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--wd=/",
            "--",
        ])
        .args(["sh", "-c", JOIN, "sh"])
        .stdin(Stdio::null());
    command
}
