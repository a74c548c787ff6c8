//! A real Kubernetes control plane on loopback: etcd and kube-apiserver, as two processes of this one.
//!
//! ```text
//!   KUBEBUILDER_ASSETS ---+
//!                         +--> Assets --> ControlPlane --> kubeconfig
//!   cargo xtask setup  ---+               |  etcd
//!     (lab/kubernetes/go.mod)             |  kube-apiserver
//! ```
//!
//! No namespace is needed and no root: whoever runs a test may run this. Both programs end with the thread that
//! started them, however that ends.

mod assets;
mod cluster;
mod control_plane;
mod server;

pub use assets::{Assets, NoAssets, PROGRAMS};
pub use cluster::{CGROUP, Cluster, KUBECONFIG, Programs, Server};
pub use control_plane::ControlPlane;
