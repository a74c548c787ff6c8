//! What a lab with kubelets needs beyond a control plane: the rest of Kubernetes, and what runs containers.

use anyhow::{Context, Result};

use super::{Found, From, Need, Part, go, package};
use crate::lab::kubernetes::programs;

pub(crate) const CLUSTER: &str = "lab/kubernetes/cluster";
pub(crate) const NODES: &str = "lab/kubernetes/nodes";
const CLUSTER_PROGRAMS: [(&str, &str); 5] = [
    ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
    ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
    (
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "kube-controller-manager",
    ),
    ("k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
    ("k8s.io/kubernetes/test/images/agnhost", "agnhost"),
];
const NODE_PROGRAMS: [(&str, &str); 6] = [
    ("github.com/containerd/containerd/v2/cmd/containerd", "containerd"),
    (
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
        "containerd-shim-runc-v2",
    ),
    ("github.com/containerd/containerd/v2/cmd/ctr", "ctr"),
    ("github.com/containernetworking/plugins/plugins/main/ptp", "ptp"),
    (
        "github.com/containernetworking/plugins/plugins/main/loopback",
        "loopback",
    ),
    (
        "github.com/containernetworking/plugins/plugins/ipam/host-local",
        "host-local",
    ),
];

pub(super) const PART: Part = Part {
    name: "nodes",
    needs: &[
        package(
            "libseccomp-dev",
            "/usr/include/seccomp.h",
            "builds what runs containers",
        ),
        package("pkg-config", "pkg-config", "builds what runs containers"),
        Need {
            what: "kubelet, containerd and their kin",
            why: "nodes of a real cluster; from source, some minutes",
            found: Found::Asked(|| programs().is_some_and(|folder| folder.is_dir())),
            from: From::Tried(make),
        },
    ],
};

fn make() -> Result<()> {
    let cache = programs().context("neither HOME nor XDG_CACHE_HOME is set")?;
    let stamp = super::kubernetes::stamp();
    let containers = ["-tags", "no_btrfs,no_devmapper,no_zfs", "-ldflags", "-s -w"];
    go::make(
        &cache,
        &[
            go::Module {
                folder: CLUSTER,
                programs: &CLUSTER_PROGRAMS,
                flags: &["-ldflags", &stamp],
                linked: go::Linked::Static,
                kind: go::Kind::Program,
            },
            go::Module {
                folder: NODES,
                programs: &NODE_PROGRAMS,
                flags: &containers,
                linked: go::Linked::Static,
                kind: go::Kind::Program,
            },
            go::Module {
                folder: NODES,
                programs: &[("github.com/opencontainers/runc", "runc")],
                flags: &["-tags", "seccomp", "-ldflags", "-s -w"],
                linked: go::Linked::WithC,
                kind: go::Kind::Program,
            },
        ],
    )
}
