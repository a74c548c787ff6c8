//! The command line: which words there are, what they ask the agent, how the answer is printed.

pub mod args;
pub mod cilium_dbg;
pub mod client;
pub mod commands;
mod datapath;
mod datapath_table;
pub mod explain;
pub mod lb;
mod migrate;
pub mod operator;
pub mod tables;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use args::{Cli, Command};
use commands::{Exit, Failure};

/// Runs the program: under its own name, or as `cilium-dbg` when called by that name or as `cilium`.
#[must_use]
pub fn main(words: Vec<OsString>) -> ExitCode {
    let called = words
        .first()
        .and_then(|name| Path::new(name).file_name())
        .map(|name| name.to_string_lossy().into_owned());
    if matches!(called.as_deref(), Some("cilium-dbg" | "cilium")) {
        let rest: Vec<String> = words
            .iter()
            .skip(1)
            .map(|w| w.to_string_lossy().into_owned())
            .collect();
        return cilium_dbg::run(&rest);
    }
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(2),
            };
        }
    };
    let done = match cli.command {
        Command::Agent(args) => crate::run::start(args),
        Command::Operator(args) => crate::operator::start(args),
        Command::Status(args) => commands::status(&args),
        Command::Bgp(command) => commands::bgp(&command),
        Command::Vip(command) => commands::vip(&command),
        Command::Datapath(command) => datapath::run(&command),
        Command::Explain(command) => explain::run(&command),
        Command::Lb(command) => lb::run(&command),
        Command::Bpf(command) => lb::bpf::run(&command),
        Command::Monitor(args) => lb::monitor::run(&args, lb::monitor::Form::Told),
        Command::Check(args) => commands::check(&args),
        Command::Migrate(args::MigrateCommand::Metallb { files }) => migrate::metallb(&files),
        Command::Events(args) => commands::events(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "stentor", &mut std::io::stdout());
            Ok(Exit::Good)
        }
        Command::Man { dir } => man(&dir),
        Command::CiliumDbg { words } => return cilium_dbg::run(&words),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.text.is_empty() {
                eprintln!("stentor: {}", failure.text);
            }
            failure.exit.into()
        }
    }
}

fn man(dir: &Path) -> Result<Exit, Failure> {
    std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
        .map(|()| Exit::Good)
        .map_err(|error| Failure {
            exit: Exit::Problems,
            text: format!("man pages can not be written to {}: {error}", dir.display()),
        })
}
