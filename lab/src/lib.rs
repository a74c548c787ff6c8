//! Labs: routers, nodes and hosts of a topology as namespaces of this machine.
//!
//! ```text
//!   owner (a test, `xtask lab`)
//!     | holds a pipe
//!     v
//!   Netns "router0"                       Netns "node1"
//!   pid 1: cat <pipe     <-- veth -->     pid 1: cat <pipe
//!   bgpd, zebra, vtysh ...                stentor agent ...
//!   own net, mount, pid, uts, ipc         own net, mount, pid, uts, ipc
//! ```
//!
//! A [`Netns`] lives exactly as long as its owner holds a pipe open. However the owner ends (return, panic,
//! Ctrl-C, `kill -9`), the pipe closes, process 1 of the namespace exits, and the kernel kills every process
//! inside and frees the interfaces, mounts and files. No name is ever written to the machine, so there is
//! nothing to sweep up after a crash.
//!
//! Needs root, `iproute2` and `util-linux`. It deliberately has no images: a node sees the machine's own
//! programs, with private `/etc`, `/run` and `/var/log`. Where containerlab is installed, a topology can be run by it
//! instead: then its nodes are [`containers`].

pub mod clab;
pub mod cluster;
pub mod containers;
pub mod echo;
pub mod expect;
pub mod faults;
pub mod frr;
pub mod graph;
pub mod hooks;
pub mod kind;
pub mod kubernetes;
pub mod link;
pub mod manifests;
pub mod netns;
pub mod process;
pub mod requests;
pub mod router;
pub mod running;
pub mod spec;
pub mod substitute;
pub mod values;
pub mod wait;
pub mod watch;
pub mod words;

pub use containers::{Containers, Engine, Runner};
pub use link::{LinkEnd, LinkState, veth};
pub use netns::{Handle, Netns};
pub use process::Process;
pub use running::Lab;
pub use spec::Spec;
pub use wait::{Overdue, until};

use std::io;

/// Why a lab could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program could not be started at all.
    #[error("cannot start {program}: {source}")]
    Start { program: String, source: io::Error },
    /// A program ran and failed.
    #[error("`{command}` in {node} ended with {status}: {stderr}")]
    Failed {
        node: String,
        command: String,
        status: std::process::ExitStatus,
        stderr: String,
    },
    /// The namespace did not come up; `stderr` is what its first process said.
    #[error("namespace for {node} did not come up: {stderr}")]
    NoNamespace { node: String, stderr: String },
    /// A process that was needed has ended.
    #[error("{label} is not running: {status}; it said:\n{log}")]
    NotRunning {
        label: String,
        status: String,
        log: String,
    },
    /// A program answered in words that are not known here.
    #[error("{who} answered: {what}")]
    Strange { who: String, what: String },
    /// A node is asked for by a name that none has.
    #[error("there is no node {name}; there are: {have}")]
    NoNode { name: String, have: String },
    /// A node's image stands for a daemon that this machine has not got.
    #[error("{image}: {program} is not installed; `cargo xtask setup` installs it")]
    NoProgram { image: String, program: String },
    /// A command line of a topology cannot be split into words.
    #[error("`{line}`: {error}")]
    Words { line: String, error: words::Unclosed },
    /// No cluster comes of the manifests.
    #[error(transparent)]
    Plan(#[from] cluster::PlanError),
    /// Something that was waited for did not happen.
    #[error(transparent)]
    Overdue(#[from] Overdue),
    /// A system call failed.
    #[error("{what}: {source}")]
    System { what: String, source: io::Error },
}

/// Names the failed operation, for `map_err`.
fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System {
        what: what.into(),
        source,
    }
}
