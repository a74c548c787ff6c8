//! The command line as clap sees it; man pages and completions are made from it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command as Clap, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::client::DEFAULT_SOCKET;
use super::lb::args::{BpfCommand, LbCommand, Maps, MonitorArgs};
use super::operator::OperatorArgs;
use crate::config::Given;
use crate::config::keys::{self, Form};
use crate::shell::log::Format;

/// What `stentor --help` says about exit codes; the man page repeats it.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  all is well
  1  problems were found (check, plan, status that is not green), or the command failed
  2  the command line makes no sense
  3  the agent can not be reached
  4  the agent refused what was asked
  5  the agent could not start: the message says what, where and what to do";

const AFTER_AGENT: &str = "\
Signals:
  SIGTERM, SIGINT  end; sockets close without a word where graceful restart was agreed, so the
                   routers keep the routes until the agent is back (a second signal ends at once)
  SIGHUP           look at the folder and the configuration file at once

Configuration file: YAML map, or folder of files as a mounted ConfigMap; keys are those of
Cilium's ConfigMap. It is followed like the manifests: every key takes effect while the agent
runs, once two looks 3 s apart see the same (bgp-secrets-namespace with --kubernetes: at the next
start). One that can not be understood changes nothing and is named in the status. The same keys
can be given as environment variables (CILIUM_ENABLE_BGP_CONTROL_PLANE=true) and as options.

State folder: the addresses Services have, when this agent was last alive, and the last good
versions of documents that are broken now (never a Secret). It is for its owner alone.";

const AFTER_METALLB: &str = "\
Example:
  kubectl get ipaddresspools.metallb.io,bgppeers.metallb.io,bgpadvertisements.metallb.io,\\
l2advertisements.metallb.io,communities.metallb.io,bfdprofiles.metallb.io,services -A -o yaml |
    stentor migrate metallb > stentor.yaml
  kubectl apply --server-side -f stentor.yaml

The Services in it are not whole: applied by the server they are laid over those that are there.
Exit code 1: something was left out, and is named.";

/// Announces Kubernetes Services to routers.
#[derive(Debug, Parser)]
#[command(name = "stentor", version, after_help = EXIT_CODES, max_term_width = 110, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent of this node.
    Agent(AgentArgs),
    /// Run the operator of a Kubernetes cluster: it gives Services addresses, and nodes their BGP configuration.
    Operator(OperatorArgs),
    /// Show how the agent is: sessions, addresses, problems. The first line is the verdict.
    Status(StatusArgs),
    /// Sessions, routes and policies.
    #[command(subcommand)]
    Bgp(BgpCommand),
    /// Addresses of Services.
    #[command(subcommand)]
    Vip(VipCommand),
    /// The load balancer in the kernel.
    #[command(subcommand)]
    Datapath(DatapathCommand),
    /// Say why an address is announced from this node and served here, or is not: the first "no", and what to change.
    #[command(subcommand)]
    Explain(ExplainCommand),
    /// The load balancer in the kernel: services, backends, connections, and what would happen to a packet.
    #[command(subcommand)]
    Lb(LbCommand),
    /// The kernel's side of it: maps, programs, events.
    #[command(subcommand)]
    Bpf(BpfCommand),
    /// Print a line for each packet that is dropped (or, if asked, that goes on), until interrupted.
    Monitor(MonitorArgs),
    /// Read a folder of YAML and list what is wrong with it. Needs no agent.
    Check(CheckArgs),
    /// Say in our objects what those of another program say. Needs no agent and no cluster.
    #[command(subcommand)]
    Migrate(MigrateCommand),
    /// What happened lately: sessions, addresses, configuration.
    Events(EventsArgs),
    /// Print the completions of a shell.
    Completions {
        /// bash, zsh, fish, elvish or powershell.
        shell: Shell,
    },
    /// Write the man pages into a folder.
    Man {
        /// The folder; made if need be.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Be `cilium-dbg`: the same words, the same output.
    #[command(name = "cilium-dbg", alias = "cilium", disable_help_flag = true)]
    CiliumDbg {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

#[derive(Debug, Args)]
#[command(after_help = AFTER_AGENT)]
pub struct AgentArgs {
    /// Folder of YAML with Services, EndpointSlices, Nodes and cilium.io objects; followed live.
    #[arg(long, value_name = "DIR", required_unless_present = "kubernetes")]
    pub manifests: Option<PathBuf>,
    /// Follow the same objects at a Kubernetes API server instead: as the pod's service account, or as
    /// KUBECONFIG says. Only one thing is written there: the status of this node's CiliumBGPNodeConfig.
    #[arg(long, conflicts_with = "manifests")]
    pub kubernetes: bool,
    /// How to reach the API server.
    #[arg(
        long,
        value_name = "FILE",
        requires = "kubernetes",
        conflicts_with = "manifests"
    )]
    pub kubeconfig: Option<PathBuf>,
    /// Name of this node.
    #[arg(long, value_name = "NAME")]
    pub node: String,
    /// Folder for what must survive a restart.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/stentor")]
    pub state: PathBuf,
    /// Socket the other commands ask at.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Serve Prometheus metrics at this address, for example 127.0.0.1:9962.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// Serve /healthz at this address, for example 127.0.0.1:9879: it answers while the agent works, also with
    /// problems, which it names.
    #[arg(long, value_name = "ADDR")]
    pub health: Option<SocketAddr>,
    /// Configuration file, or folder of files (a mounted ConfigMap).
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Form of the log lines on standard error.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: Format,
    /// What to log: error, warn, info, debug, trace, or per module (stentor=debug,bgp_speaker=trace).
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    pub log: String,
    #[command(flatten)]
    pub keys: KeyArgs,
}

/// Keys of the configuration as options of the same name.
#[derive(Debug, Clone, Default)]
pub struct KeyArgs {
    pub given: Given,
}

impl Args for KeyArgs {
    fn augment_args(command: Clap) -> Clap {
        let options = keys::options().map(|(name, form, help)| {
            let option = Arg::new(name)
                .long(name)
                .value_name("VALUE")
                .help(help)
                .help_heading("Keys of the configuration (each wins over --config)");
            match form {
                Form::Flag => option.num_args(0..=1).default_missing_value("true"),
                Form::Value => option,
            }
        });
        command.args(options.collect::<Vec<_>>())
    }

    fn augment_args_for_update(command: Clap) -> Clap {
        Self::augment_args(command)
    }
}

impl FromArgMatches for KeyArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut keys = Self::default();
        keys.update_from_arg_matches(matches)?;
        Ok(keys)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (name, _, _) in keys::options() {
            if let Some(value) = matches.get_one::<String>(name) {
                self.given.insert(name, value.clone());
            }
        }
        Ok(())
    }
}

/// Where the agent listens.
#[derive(Debug, Clone, Args)]
pub struct SocketArg {
    /// Socket of the agent.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
}

/// How to print, and whether to go on printing.
#[derive(Debug, Clone, Args)]
pub struct Print {
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Print again whenever something changed, until interrupted.
    #[arg(short, long)]
    pub watch: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    #[default]
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub at: SocketArg,
    #[command(flatten)]
    pub print: Print,
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    #[command(flatten)]
    pub at: SocketArg,
    #[command(flatten)]
    pub print: Print,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The folder.
    pub dir: PathBuf,
    /// Only what concerns this node (default: every node the folder names).
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// The configuration the agents will have, as for `stentor agent`.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub print: Print,
}

#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// From MetalLB: pools, sessions and advertisements; Services keep their addresses. YAML goes to standard output, what ours do
    /// not say to standard error.
    #[command(after_help = AFTER_METALLB)]
    Metallb {
        /// Files of YAML, or `-` for standard input.
        #[arg(default_value = "-", value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum VipCommand {
    /// List the addresses of Services: desired, allocated, announced from here, or why not.
    List {
        #[command(flatten)]
        at: SocketArg,
        #[command(flatten)]
        print: Print,
    },
}

#[derive(Debug, Subcommand)]
pub enum DatapathCommand {
    /// Take everything out of the kernel that agents left there: programs, maps, and with them every flow. Needs no
    /// agent; one that runs puts it back at its next start.
    Detach {
        /// BPF file system, as `bpf-root` says it to the agent.
        #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
        bpf_root: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub enum ExplainCommand {
    /// About an address.
    Vip {
        /// The address.
        address: IpAddr,
        #[command(flatten)]
        how: ExplainArgs,
    },
    /// About all addresses of a Service.
    #[command(alias = "service")]
    Svc {
        /// NAMESPACE/NAME.
        name: String,
        #[command(flatten)]
        how: ExplainArgs,
    },
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    pub at: SocketArg,
    #[command(flatten)]
    pub maps: Maps,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum BgpCommand {
    /// List the sessions: state, since when, routes, and why one is or was down.
    #[command(alias = "neighbors")]
    Peers {
        #[command(flatten)]
        at: SocketArg,
        #[command(flatten)]
        print: Print,
    },
    /// List routes: the table of this node, or what is sent to or received from peers.
    Routes {
        #[command(flatten)]
        at: SocketArg,
        #[command(flatten)]
        print: Print,
        /// Which table.
        #[arg(value_enum, default_value_t)]
        table: RouteTable,
        /// Which families.
        #[arg(value_enum, default_value_t)]
        family: RouteFamily,
        /// Only of this instance.
        #[arg(long, value_name = "NAME")]
        instance: Option<String>,
        /// Only to or from this peer.
        #[arg(long, value_name = "ADDRESS")]
        peer: Option<IpAddr>,
    },
    /// List the route policies.
    #[command(alias = "route-policies")]
    Policies {
        #[command(flatten)]
        at: SocketArg,
        #[command(flatten)]
        print: Print,
        /// Only of instances with this ASN.
        #[arg(long, value_name = "ASN")]
        asn: Option<u32>,
    },
    /// Say what a folder would change, before it is applied: sessions reset and why, prefixes added,
    /// changed and withdrawn per peer.
    Plan {
        #[command(flatten)]
        at: SocketArg,
        /// The folder that might replace the present one.
        #[arg(short, long = "file", value_name = "DIR")]
        file: PathBuf,
        #[command(flatten)]
        print: Print,
    },
    /// End sessions; they come back by themselves.
    Reset {
        #[command(flatten)]
        at: SocketArg,
        #[command(flatten)]
        whom: Whom,
        /// Text the peer's operator sees (RFC 9003).
        #[arg(short, long, default_value = "")]
        message: String,
    },
    /// Send routes again and ask for the peer's again, without ending sessions.
    Refresh {
        #[command(flatten)]
        at: SocketArg,
        #[command(flatten)]
        whom: Whom,
        /// Which way.
        #[arg(value_enum, default_value_t)]
        direction: RefreshDirection,
    },
}

#[derive(Debug, Args)]
pub struct Whom {
    /// Only peers of this instance.
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Only this peer, by name or address.
    #[arg(long, value_name = "PEER", required_unless_present = "all")]
    pub peer: Option<String>,
    /// Every peer.
    #[arg(long, conflicts_with = "peer")]
    pub all: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum RouteTable {
    /// Everything this node knows (Loc-RIB).
    #[default]
    Available,
    /// What peers get (Adj-RIB-Out).
    Advertised,
    /// What peers sent, also what was refused (Adj-RIB-In).
    Received,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum RouteFamily {
    #[default]
    All,
    Ipv4,
    Ipv6,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum RefreshDirection {
    In,
    Out,
    #[default]
    Both,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn agent_takes_the_promised_options() {
        let line =
            "stentor agent --manifests d --node n --state s --socket k --metrics 127.0.0.1:1 --config c";
        assert!(Cli::try_parse_from(line.split(' ')).is_ok());
        for (words, is_possible) in [
            ("stentor agent --manifests d --node n", true),
            ("stentor agent --kubernetes --node n", true),
            ("stentor agent --kubernetes --kubeconfig f --node n", true),
            (
                "stentor agent --manifests d --node n --kube-proxy-replacement",
                true,
            ),
            (
                "stentor agent --manifests d --node n --bpf-lb-mode dsr --devices eth+",
                true,
            ),
            (
                "stentor agent --manifests d --node n --enable-l2-announcements=true",
                false,
            ),
            ("stentor agent --node n", false),
            ("stentor agent --manifests d --kubernetes --node n", false),
            ("stentor agent --manifests d --kubeconfig f --node n", false),
        ] {
            assert_eq!(
                Cli::try_parse_from(words.split(' ')).is_ok(),
                is_possible,
                "{words}"
            );
        }
        assert!(Cli::try_parse_from("stentor agent --node n".split(' ')).is_err());
    }

    #[test]
    fn a_reset_names_whom_it_is_for() {
        assert!(Cli::try_parse_from("stentor bgp reset".split(' ')).is_err());
        assert!(Cli::try_parse_from("stentor bgp reset --all".split(' ')).is_ok());
        assert!(Cli::try_parse_from("stentor bgp reset --peer tor -m maintenance".split(' ')).is_ok());
    }
}
