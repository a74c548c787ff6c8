//! `cargo xtask`: set-up, builds, tests and labs.
//!
//! ```text
//! setup   installs what the rest needs          check   the rules of ARCHITECTURE.md
//! build   builds the agent and kernel programs  fuzz    mutates golden input of every decoder
//! test    everything; what .ci/run calls        bench   the hot paths
//! lab     topologies in network namespaces      crds    YAML of the custom resources
//! image   the container image                   manifests  the Helm chart as plain YAML
//! conformance  Kubernetes' own tests beside kube-proxy
//! ```

mod check;
mod conformance;
mod crds;
mod ebpf;
mod generated;
mod image;
mod lab;
mod manifests;
mod setup;
mod step;
mod suite;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "Set-up, builds, tests and labs of Stentor",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what building, testing and labs need; says what it installs. Changes nothing the second time.
    Setup {
        /// What the machine is for.
        #[arg(value_enum, default_value = "test")]
        goal: setup::Goal,
    },
    /// Build the `stentor` binary and the kernel programs.
    Build {
        /// Optimised.
        #[arg(long)]
        release: bool,
    },
    /// Set up, then run every test there is.
    Test,
    /// Check the rules of ARCHITECTURE.md that a program can check.
    Check,
    /// Feed mutated input to the decoders, 10 minutes each.
    Fuzz {
        /// 60 seconds each.
        #[arg(long)]
        short: bool,
        /// Only this decoder.
        target: Option<String>,
    },
    /// Run Kubernetes' own end-to-end tests with kube-proxy and with Stentor, and show them side by side.
    Conformance {
        /// Only tests whose whole names match this expression; the network's, as far as Services have a part in them, unless
        /// said otherwise.
        focus: Option<String>,
        /// Only a few, and only with Stentor, as `test` does.
        #[arg(long, conflicts_with = "focus")]
        few: bool,
        /// Everything is built already, and what cannot be had is skipped.
        #[arg(long, hide = true, requires = "few")]
        built: bool,
    },
    /// Run a topology in network namespaces.
    #[command(subcommand)]
    Lab(lab::Task),
    /// Write the custom resource definitions, made from the types, into crds/yaml.
    Crds,
    /// Build the container image, as an archive that container engines load.
    Image {
        /// The archive; target/image/stentor.tar unless said otherwise.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Only fill this folder with what the image holds.
        #[arg(long, value_name = "DIR", conflicts_with = "output")]
        root: Option<PathBuf>,
        /// Not optimised, for labs.
        #[arg(long)]
        quick: bool,
    },
    /// Write what the Helm chart comes to into deploy/manifests, for clusters without helm.
    Manifests,
    /// Run the benchmarks of the hot paths.
    Bench {
        /// `lb`: the load balancer in the kernel. `kube`: a big cluster (takes minutes, and only by name). Any other word:
        /// only benchmarks whose name contains it.
        name: Option<String>,
        /// Of `lb` only this: `packets`, `throughput` (end to end beside others, takes minutes) or `control`. Of
        /// `kube` only `addresses`: the operator's part.
        part: Option<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup { goal } => setup::run(goal),
        Task::Build { release } => ebpf::build().and_then(|_| test::build(release)),
        Task::Test => test::run(),
        Task::Check => check::run(),
        Task::Fuzz { short, target } => test::fuzz(short, target.as_deref()),
        Task::Conformance { built: true, .. } => conformance::run_few(),
        Task::Conformance { few: true, .. } => conformance::build().and_then(|()| conformance::run_few()),
        Task::Conformance { focus, .. } => conformance::run(focus.as_deref()),
        Task::Lab(task) => lab::run(task),
        Task::Crds => crds::write(),
        Task::Image { output, root, quick } => {
            let build = if quick {
                image::Build::Quick
            } else {
                image::Build::Release
            };
            image::run(build, output.as_deref(), root.as_deref())
        }
        Task::Manifests => manifests::write(),
        Task::Bench { name, part } => test::bench(name.as_deref(), part.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
