//! The words of `stentor lb` and `stentor bpf`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use super::super::args::{Output, SocketArg};

/// Where the maps of this node are pinned.
#[derive(Debug, Clone, Args)]
pub struct Maps {
    /// BPF file system of the agent; the same as its `bpf-root`.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf")]
    pub bpf_root: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum LbCommand {
    /// Addresses that packets are balanced at, and who serves them.
    #[command(subcommand, alias = "service")]
    Services(Verb),
    /// Who serves: state, place, services.
    #[command(subcommand, alias = "backend")]
    Backends(Verb),
    /// Maglev tables: how many places each backend has.
    #[command(subcommand)]
    Maglev(Verb),
    /// Connections that are tracked.
    #[command(subcommand)]
    Ct(Verb),
    /// Connections whose source is translated: client, service, and the port of this node in between.
    #[command(subcommand)]
    Nat(Verb),
    /// Clients that stay with their backend.
    #[command(subcommand)]
    Affinity(Verb),
    /// Say what would happen to a packet, step by step, and name the first "no".
    Trace(TraceArgs),
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List them, as the maps have them now. Needs root and no agent; an agent adds names.
    #[command(alias = "ls")]
    List(ListArgs),
}

#[derive(Debug, Clone, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub maps: Maps,
    #[command(flatten)]
    pub at: SocketArg,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    #[command(flatten)]
    pub filter: Filter,
}

/// What is to be shown; everything that is said must hold.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Only of this Service (NAMESPACE/NAME, or only NAME), or the one with this number.
    #[arg(long, value_name = "SERVICE")]
    pub service: Option<String>,
    /// Only at this address, or address and port.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub vip: Option<End>,
    /// Only with this backend.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub backend: Option<End>,
}

/// An address, and perhaps a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    pub address: IpAddr,
    pub port: Option<u16>,
}

impl End {
    /// Whether it means this one.
    #[must_use]
    pub fn is(&self, address: IpAddr, port: u16) -> bool {
        self.address == address && self.port.is_none_or(|wanted| wanted == port)
    }
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |address| Self { address, port: None };
        let with_port = |end: SocketAddr| Self {
            address: end.ip(),
            port: Some(end.port()),
        };
        text.parse::<IpAddr>()
            .map(one)
            .or_else(|_| text.parse::<SocketAddr>().map(with_port))
            .map_err(|_| {
                "not an address, nor address and port: 192.0.2.1, 192.0.2.1:80, [2001:db8::1]:80".into()
            })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
The walk is computed outside the kernel, over the very maps, by the very code the kernel runs. Then the
attached program itself is run on such a packet (BPF_PROG_TEST_RUN); what that wrote is put back as it
was. Where the two disagree, it says so.")]
pub struct TraceArgs {
    /// Who sends: 198.51.100.7:4711, [2001:db8::7]:4711.
    pub source: SocketAddr,
    /// To which address and port.
    pub destination: SocketAddr,
    /// Protocol of the packet.
    #[arg(long, value_enum, default_value_t)]
    pub proto: TraceProtocol,
    /// Device it comes in by; default: any that has a program.
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Do not run the kernel's program.
    #[arg(long)]
    pub no_kernel: bool,
    #[command(flatten)]
    pub maps: Maps,
    #[command(flatten)]
    pub at: SocketArg,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum TraceProtocol {
    /// A SYN.
    #[default]
    Tcp,
    Udp,
}

#[derive(Debug, Subcommand)]
pub enum BpfCommand {
    /// Maps of the load balancer: kind, sizes, elements in use.
    #[command(subcommand)]
    Maps(BpfVerb),
    /// Programs, where they hang, and how large they are.
    #[command(subcommand)]
    Progs(BpfVerb),
    /// Events as they come from the kernel, with the octets of the packets.
    Events(MonitorArgs),
}

#[derive(Debug, Subcommand)]
pub enum BpfVerb {
    /// List them. Needs root and no agent.
    #[command(alias = "ls")]
    List {
        #[command(flatten)]
        maps: Maps,
        /// Form of the output.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Programs tell only while somebody listens, and at most 100 drops a second of each reason, direction and
processor (1000 packets that go on); how many more there were is said in the next line. A socket is told of
once, where it asks for a service, with the process that asks: its packets go to the backend by themselves.
Needs root and no agent; an agent adds names. Up to 4 may listen at once.")]
pub struct MonitorArgs {
    /// What to tell.
    #[arg(long = "type", value_enum, default_value_t)]
    pub kind: MonitorKind,
    /// Only packets of this sender, and sockets that are bound to it.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub from: Option<End>,
    /// Only packets to this address.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub to: Option<End>,
    /// End after so many lines.
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub count: Option<u64>,
    /// Form of the output: a line for each packet, or a JSON object.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: MonitorOutput,
    #[command(flatten)]
    pub maps: Maps,
    #[command(flatten)]
    pub at: SocketArg,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum MonitorKind {
    /// Packets that were dropped, and sockets that were refused.
    #[default]
    Drop,
    /// Packets that were translated and went on, and sockets that got a backend.
    Trace,
    All,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum MonitorOutput {
    #[default]
    Line,
    Json,
}
