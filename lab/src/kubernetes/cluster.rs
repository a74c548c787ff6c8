//! A whole cluster on the nodes of a lab: a control plane, and on each node containerd and kubelet.
//!
//! ```text
//!   control-plane node: etcd, kube-apiserver, kube-controller-manager, kube-scheduler
//!   every node:         containerd --> runc --> pods     (images come out of archives, not from a registry)
//!                       kubelet
//! ```
//!
//! All files are in the private `/run` of the nodes, and all processes in their pid namespaces, so nothing outlives a
//! node. The nodes share one kernel: the cgroups of each begin at the node's own, in every hierarchy.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::Assets;
use crate::kind::{self, Role};
use crate::process::Process;
use crate::{Error, Handle, system, until};

/// Of a node, for everything here.
const FOLDER: &str = "/run/kubernetes";
/// Where a node finds the kubeconfig of its cluster's admin: on the control-plane node.
pub const KUBECONFIG: &str = "/run/kubernetes/admin.kubeconfig";
/// Where a node finds its own cgroup, whatever the machine calls it.
pub const CGROUP: &str = "/run/kubernetes/cgroup";
const PORT: u16 = 6443;
/// A machine under load gets more time than any of it needs.
const READY: Duration = Duration::from_secs(300);
const PAUSE: &str = "localhost/pause:1";
const IMAGES: &str = include_str!("../../kubernetes/images.yaml");

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// etcd and kube-apiserver.
    pub assets: Assets,
    /// kubelet, kubectl, kube-controller-manager, kube-scheduler, containerd, its shim, ctr, runc, and CNI plugins.
    pub folder: PathBuf,
}

/// A cluster that runs. Its nodes belong to somebody else.
#[derive(Debug)]
pub struct Cluster {
    programs: Programs,
    control_plane: Handle,
    address: IpAddr,
    /// Where pods look for a name server, whether or not there is one.
    dns: Option<IpAddr>,
    processes: Vec<Process>,
    servers: BTreeMap<Server, Process>,
    /// What each was started with.
    arguments: BTreeMap<Server, Vec<String>>,
}

/// What keeps the state of the cluster, and who tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    Etcd,
    ApiServer,
}

impl Server {
    /// Of its program, and of its log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
        }
    }
}

impl Cluster {
    /// Starts the control plane, on the first node of that role, and kubelets on all nodes. Returns when all nodes are
    /// ready.
    ///
    /// # Errors
    /// Something does not start; with the end of its log.
    pub fn start(
        cluster: &kind::Cluster,
        nodes: &BTreeMap<String, Handle>,
        programs: &Programs,
        images: &[PathBuf],
        say: &dyn Fn(&str),
    ) -> Result<Self, Error> {
        let first = cluster.nodes.iter().find(|node| node.role == Role::ControlPlane);
        let (name, address) = first
            .and_then(|node| Some((&node.name, *node.addresses.first()?)))
            .ok_or_else(|| strange("the cluster", "it has no control-plane node with an address"))?;
        let mut running = Self {
            programs: programs.clone(),
            control_plane: handle(nodes, name)?.clone(),
            address,
            // As kubeadm has it.
            dns: cluster.service_subnets.first().and_then(|net| net.hosts().nth(9)),
            processes: Vec::new(),
            servers: BTreeMap::new(),
            arguments: BTreeMap::new(),
        };
        running.start_control_plane(cluster)?;
        say(&format!("control plane on {name}, at {}", running.server()));
        for node in &cluster.nodes {
            running.start_node(node, handle(nodes, &node.name)?, images)?;
            say(&format!("containerd and kubelet on {}", node.name));
        }
        for node in &cluster.nodes {
            running.wire_pods(node, handle(nodes, &node.name)?)?;
        }
        running.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "nodes",
            "--all",
            "--timeout=300s",
        ])?;
        Ok(running)
    }

    /// Where the API server is, for nodes and pods.
    #[must_use]
    pub fn api_server(&self) -> (IpAddr, u16) {
        (self.address, PORT)
    }

    /// Runs kubectl as admin.
    ///
    /// # Errors
    /// It fails.
    pub fn kubectl(&self, words: &[&str]) -> Result<String, Error> {
        let kubectl = self.program("kubectl");
        let argv = [&[kubectl.as_str(), "--kubeconfig", KUBECONFIG], words].concat();
        self.control_plane.exec(&argv)
    }

    /// Starts one more program of a node, which ends with the cluster. Its output goes to a file in the node's `/var/log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn run(&mut self, node: &Handle, name: &str, argv: &[String]) -> Result<(), Error> {
        self.processes.push(logged(node, name, argv)?);
        Ok(())
    }

    /// SIGKILL to a server of the control plane.
    pub fn kill(&mut self, server: Server) {
        // Dropped is killed, and waited for.
        self.servers.remove(&server);
    }

    /// Starts a server again that was killed. Returns when the API server is ready.
    ///
    /// # Errors
    /// It does not start.
    pub fn revive(&mut self, server: Server) -> Result<(), Error> {
        self.start_server(server)?;
        self.until_ready()
    }

    /// SIGKILL to the containers of this name on a node; returns how many ran.
    ///
    /// # Errors
    /// Its containerd does not answer.
    pub fn kill_containers(&self, node: &Handle, name: &str) -> Result<usize, Error> {
        let script = KILL
            .replace("{FOLDER}", FOLDER)
            .replace("{CTR}", &self.program("ctr"))
            .replace("{NAME}", name);
        Ok(node.sh(&script)?.lines().count())
    }

    fn start_server(&mut self, server: Server) -> Result<(), Error> {
        let arguments = self.arguments.get(&server).cloned().unwrap_or_default();
        let process = logged(&self.control_plane, server.name(), &arguments)?;
        self.servers.insert(server, process);
        Ok(())
    }

    fn until_ready(&self) -> Result<(), Error> {
        let ready = format!("{}/readyz", self.server());
        self.wait("kube-apiserver to be ready", || {
            self.control_plane.exec(&[
                "curl",
                "--silent",
                "--insecure",
                "--fail",
                "--max-time",
                "5",
                "--header",
                "Authorization: Bearer admin",
                &ready,
            ])
        })
    }

    fn program(&self, name: &str) -> String {
        self.programs.folder.join(name).display().to_string()
    }

    fn server(&self) -> String {
        format!("https://{}", std::net::SocketAddr::new(self.address, PORT))
    }

    fn start_control_plane(&mut self, cluster: &kind::Cluster) -> Result<(), Error> {
        let node = self.control_plane.clone();
        let joined = |nets: &[ipnet::IpNet]| {
            let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
            nets.join(",")
        };
        let (pods, services) = (joined(&cluster.pod_subnets), joined(&cluster.service_subnets));
        let mut tokens = "admin,admin,admin,\"system:masters\"\nproxy,system:kube-proxy,proxy\n".to_owned();
        for member in &cluster.nodes {
            tokens += &format!("{0},system:node:{0},{0},\"system:nodes\"\n", member.name);
        }
        node.sh(&format!(
            "mkdir -p {FOLDER}; openssl ecparam -name prime256v1 -genkey -noout -out {FOLDER}/service-account.key"
        ))?;
        write(&node, "tokens", &tokens)?;
        let asset = |name: &str| self.programs.assets.program(name).display().to_string();
        let etcd = [
            asset("etcd"),
            format!("--data-dir={FOLDER}/etcd"),
            "--unsafe-no-fsync".to_owned(),
        ];
        let key = format!("{FOLDER}/service-account.key");
        let api = [
            asset("kube-apiserver"),
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={PORT}"),
            format!("--cert-dir={FOLDER}/certificates"),
            "--authorization-mode=Node,RBAC".to_owned(),
            format!("--token-auth-file={FOLDER}/tokens"),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
            format!("--service-cluster-ip-range={services}"),
            "--allow-privileged=true".to_owned(),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--profiling=false".to_owned(),
        ];
        self.arguments.insert(Server::Etcd, etcd.to_vec());
        self.arguments.insert(Server::ApiServer, api.to_vec());
        self.start_server(Server::Etcd)?;
        self.start_server(Server::ApiServer)?;
        self.until_ready()?;
        let certificate = fs::read_to_string(node.path(&format!("{FOLDER}/certificates/apiserver.crt")))
            .map_err(system("read the API server's certificate"))?;
        write(&node, "admin.kubeconfig", &self.kubeconfig("admin"))?;
        write(&node, "ca.crt", &certificate)?;
        write(&node, "images.yaml", IMAGES)?;
        self.kubectl(&["apply", "--filename", &format!("{FOLDER}/images.yaml")])?;
        let manager = [
            self.program("kube-controller-manager"),
            format!("--kubeconfig={KUBECONFIG}"),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={pods}"),
            format!("--service-cluster-ip-range={services}"),
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={key}"),
            format!("--root-ca-file={FOLDER}/ca.crt"),
        ];
        let scheduler = [
            self.program("kube-scheduler"),
            format!("--kubeconfig={KUBECONFIG}"),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
        ];
        self.run(&node, "kube-controller-manager", &manager)?;
        self.run(&node, "kube-scheduler", &scheduler)
    }

    fn start_node(
        &mut self,
        member: &kind::ClusterNode,
        node: &Handle,
        images: &[PathBuf],
    ) -> Result<(), Error> {
        let own = cgroup(node)?;
        node.sh(&NODE
            .replace("{FOLDER}", FOLDER)
            .replace("{CGROUP}", CGROUP)
            .replace("{OWN}", &own))?;
        let certificate = fs::read(self.control_plane.path(&format!("{FOLDER}/ca.crt")))
            .map_err(system("read the API server's certificate"))?;
        fs::write(node.path(&format!("{FOLDER}/ca.crt")), certificate).map_err(system("write it"))?;
        write(node, "node.kubeconfig", &self.kubeconfig(&member.name))?;
        write(node, "containerd.toml", &self.containerd())?;
        write(node, "proxy.kubeconfig", &self.kubeconfig("proxy"))?;
        write(node, "kubelet.yaml", &kubelet(&own, self.dns).to_string())?;
        let path = format!(
            "PATH={}:{}",
            self.programs.folder.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let containerd = [
            "env".to_owned(),
            path,
            self.program("containerd"),
            format!("--config={FOLDER}/containerd.toml"),
        ];
        self.run(node, "containerd", &containerd)?;
        let (ctr, socket) = (self.program("ctr"), format!("{FOLDER}/containerd.sock"));
        let ask = [ctr.as_str(), "--address", &socket];
        self.wait("containerd to answer", || {
            node.exec(&[&ask[..], &["version"]].concat())
        })?;
        for image in images {
            let image = image.display().to_string();
            node.exec(&[&ask[..], &["--namespace", "k8s.io", "images", "import", &image]].concat())?;
        }
        let addresses: Vec<String> = member.addresses.iter().map(ToString::to_string).collect();
        let labels: Vec<String> = member
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        // As kubeadm has it.
        let taints = match member.role {
            Role::ControlPlane => "node-role.kubernetes.io/control-plane=:NoSchedule",
            Role::Worker => "",
        };
        let kubelet = [
            self.program("kubelet"),
            format!("--config={FOLDER}/kubelet.yaml"),
            format!("--kubeconfig={FOLDER}/node.kubeconfig"),
            format!("--root-dir={FOLDER}/kubelet"),
            format!("--hostname-override={}", member.name),
            format!("--node-ip={}", addresses.join(",")),
            format!("--node-labels={}", labels.join(",")),
            format!("--register-with-taints={taints}"),
        ];
        self.run(node, "kubelet", &kubelet)
    }

    /// Each node's pods get addresses out of what kube-controller-manager gave the node.
    fn wire_pods(&self, member: &kind::ClusterNode, node: &Handle) -> Result<(), Error> {
        let cidrs = until(READY, format!("pod prefixes of {}", member.name), || {
            let words = ["get", "node", &member.name, "-o", "jsonpath={.spec.podCIDRs}"];
            let text = self.kubectl(&words).map_err(|error| error.to_string())?;
            let cidrs: Vec<String> = serde_json::from_str(&text).map_err(|_| "none yet".to_owned())?;
            if cidrs.is_empty() {
                Err("none yet".to_owned())
            } else {
                Ok(cidrs)
            }
        })?;
        let ranges: Vec<Value> = cidrs.iter().map(|cidr| json!([{ "subnet": cidr }])).collect();
        let routes = cidrs.iter().map(|cidr| {
            let any = if cidr.contains(':') { "::/0" } else { "0.0.0.0/0" };
            json!({ "dst": any })
        });
        let ipam = json!({
            "type": "host-local",
            "ranges": ranges,
            "routes": routes.collect::<Vec<_>>(),
            "dataDir": format!("{FOLDER}/addresses"),
        });
        let network = json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [{ "type": "ptp", "ipam": ipam }],
        });
        write(node, "cni/10-pods.conflist", &network.to_string())
    }

    fn containerd(&self) -> String {
        CONTAINERD
            .replace("{FOLDER}", FOLDER)
            .replace("{PROGRAMS}", &self.programs.folder.display().to_string())
            .replace("{PAUSE}", PAUSE)
    }

    fn kubeconfig(&self, token: &str) -> String {
        let certificate = if token == "admin" {
            format!("{FOLDER}/certificates/apiserver.crt")
        } else {
            format!("{FOLDER}/ca.crt")
        };
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "clusters": [{ "name": "lab", "cluster": { "server": self.server(), "certificate-authority": certificate } }],
            "users": [{ "name": "lab", "user": { "token": token } }],
            "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "lab" } }],
        })
        .to_string()
    }

    fn wait(&self, what: &str, probe: impl Fn() -> Result<String, Error>) -> Result<(), Error> {
        until(READY, what, || {
            probe().map(drop).map_err(|error| error.to_string())
        })?;
        Ok(())
    }
}

/// Starts a program of a node. Its output goes to a file in the node's `/var/log`.
fn logged(node: &Handle, name: &str, argv: &[String]) -> Result<Process, Error> {
    let script = format!("exec \"$@\" >>/var/log/{name}.log 2>&1");
    let words = ["sh", "-c", &script, name];
    let words = words.into_iter().chain(argv.iter().map(String::as_str));
    node.spawn(&words.collect::<Vec<_>>())
}

/// Says the names of those it killed. Containers that have ended are listed too, and have no task.
const KILL: &str = r#"
ctr="{CTR} --address {FOLDER}/containerd.sock --namespace k8s.io"
for one in $($ctr containers list --quiet 'labels."io.kubernetes.container.name"=={NAME}'); do
  ! $ctr tasks kill --signal SIGKILL "$one" 2>/dev/null || echo "$one"
done
"#;

/// Mounts of a node that are shared with what its containers mount; all hierarchies of cgroups, and the node's own place
/// in each.
const NODE: &str = r#"
mkdir -p {FOLDER}/cni {FOLDER}/cgroup {FOLDER}/logs {FOLDER}/kubelet
umount /sys/fs/cgroup 2>/dev/null || :
if [ -n "$(grep -v '^0::' /proc/1/cgroup)" ]; then
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  for one in $(sed -n 's/^[1-9][0-9]*:\([^:]*\):.*/\1/p' /proc/1/cgroup); do
    name=${one#name=}
    mkdir -p "/sys/fs/cgroup/$name"
    mount -t cgroup -o "${one}" cgroup "/sys/fs/cgroup/$name"
    mkdir -p "/sys/fs/cgroup/$name{OWN}"
  done
  for file in cpus mems; do
    cat /sys/fs/cgroup/cpuset/cpuset.$file >"/sys/fs/cgroup/cpuset{OWN}/cpuset.$file"
  done
  # Else all pods of a node together would get no more of a busy machine than one process of it.
  for file in /sys/fs/cgroup/*{OWN}/cpu.shares; do
    [ ! -e "$file" ] || echo 16384 >"$file"
  done
  mkdir -p /sys/fs/cgroup/unified
  mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
  mount --bind "/sys/fs/cgroup/unified{OWN}" {CGROUP}
else
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount --bind "/sys/fs/cgroup{OWN}" {CGROUP}
  [ ! -e "/sys/fs/cgroup{OWN}/cpu.weight" ] || echo 1600 >"/sys/fs/cgroup{OWN}/cpu.weight"
fi
mount --make-rshared /
"#;

const CONTAINERD: &str = r#"
version = 3
root = "{FOLDER}/containerd"
state = "{FOLDER}/containerd-state"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = "{FOLDER}/containerd.sock"
[ttrpc]
  address = "{FOLDER}/containerd.sock.ttrpc"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = "runc"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
        BinaryName = "{PROGRAMS}/runc"
        SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ["{PROGRAMS}"]
    conf_dir = "{FOLDER}/cni"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "{PAUSE}"
"#;

fn kubelet(cgroup: &str, dns: Option<IpAddr>) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        // A lab is its own world.
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "containerRuntimeEndpoint": format!("unix://{FOLDER}/containerd.sock"),
        "clusterDNS": dns.into_iter().collect::<Vec<_>>(),
        "clusterDomain": "cluster.local",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": false,
        "evictionHard": {
            "memory.available": "1Mi",
            "nodefs.available": "0%",
            "imagefs.available": "0%",
            "nodefs.inodesFree": "0%",
        },
        "podLogsDir": format!("{FOLDER}/logs"),
        "volumePluginDir": format!("{FOLDER}/plugins"),
        "resolvConf": "/dev/null",
    })
}

/// The path of a node's cgroup, in every hierarchy.
fn cgroup(node: &Handle) -> Result<String, Error> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", node.pid())).map_err(system("read a cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    path.filter(|path| *path != "/")
        .map(str::to_owned)
        .ok_or_else(|| strange("the machine", "a node has no cgroup of version 2"))
}

fn handle<'a>(nodes: &'a BTreeMap<String, Handle>, name: &str) -> Result<&'a Handle, Error> {
    nodes.get(name).ok_or_else(|| Error::NoNode {
        name: name.to_owned(),
        have: nodes.keys().cloned().collect::<Vec<_>>().join(" "),
    })
}

fn write(node: &Handle, name: &str, text: &str) -> Result<(), Error> {
    let path = node.path(&Path::new(FOLDER).join(name).display().to_string());
    fs::write(&path, text).map_err(system(format!("write {name}")))
}

fn strange(who: &str, what: &str) -> Error {
    Error::Strange {
        who: who.to_owned(),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_put_everything_below_the_cgroup_of_their_node() {
        assert_eq!(kubelet("/st-1-0-worker", None)["cgroupRoot"], "/st-1-0-worker");
    }

    #[test]
    fn images_are_never_asked_of_a_registry_for_pods_to_begin() {
        assert!(CONTAINERD.contains("sandbox = \"{PAUSE}\""));
        assert!(PAUSE.starts_with("localhost/"));
    }
}
