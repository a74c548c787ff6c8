use std::process::ExitCode;

fn main() -> ExitCode {
    stentor::cli::main(std::env::args_os().collect())
}
