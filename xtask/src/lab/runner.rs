//! What runs a lab: containerlab where it is installed, else namespaces.

use anyhow::{Result, bail};
use clap::ValueEnum;
use lab::{Engine, Runner};

/// What a person may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wanted {
    /// Network namespaces and the machine's own FRR.
    Namespaces,
    /// containerlab, with docker or podman.
    Containerlab,
}

/// The runner, and why it is this one. `is_installed` looks for a program.
pub(crate) fn choose(
    wanted: Option<Wanted>,
    is_installed: impl Fn(&str) -> bool,
) -> Result<(Runner, String)> {
    let has_containerlab = is_installed("containerlab");
    let engine = Engine::ALL
        .into_iter()
        .find(|engine| is_installed(engine.program()));
    match (wanted, has_containerlab, engine) {
        (Some(Wanted::Namespaces), _, _) => Ok((Runner::Namespaces, "namespaces, as asked for".into())),
        (Some(Wanted::Containerlab), false, _) => bail!("containerlab is not installed"),
        (Some(Wanted::Containerlab), true, None) => {
            bail!("containerlab needs docker or podman, and neither is installed")
        }
        (Some(Wanted::Containerlab), true, Some(engine)) => Ok((
            Runner::Containerlab(engine),
            format!("containerlab with {}, as asked for", engine.program()),
        )),
        (None, true, Some(engine)) => Ok((
            Runner::Containerlab(engine),
            format!(
                "containerlab with {}, since both are installed; `--runner namespaces` does without",
                engine.program()
            ),
        )),
        (None, true, None) => Ok((
            Runner::Namespaces,
            "namespaces, since containerlab is installed but neither docker nor podman".into(),
        )),
        (None, false, _) => Ok((
            Runner::Namespaces,
            "namespaces, since containerlab is not installed".into(),
        )),
    }
}

/// The runner in a file or an argument.
pub(crate) fn word(runner: Runner) -> &'static str {
    match runner {
        Runner::Namespaces => "namespaces",
        Runner::Containerlab(engine) => engine.program(),
    }
}

/// The opposite of [`word`].
pub(crate) fn parse(word: &str) -> Result<Runner, String> {
    if word == "namespaces" {
        return Ok(Runner::Namespaces);
    }
    let engine = Engine::ALL.into_iter().find(|engine| engine.program() == word);
    engine
        .map(Runner::Containerlab)
        .ok_or_else(|| format!("no runner is called {word}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(wanted: Option<Wanted>, installed: &[&str]) -> Result<Runner, String> {
        let choice = choose(wanted, |program| installed.contains(&program));
        choice
            .map(|(runner, _)| runner)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn containerlab_runs_a_lab_where_it_and_an_engine_are_installed() {
        let docker = Runner::Containerlab(Engine::Docker);
        let podman = Runner::Containerlab(Engine::Podman);
        assert_eq!(chosen(None, &["containerlab", "podman", "docker"]), Ok(docker));
        assert_eq!(chosen(None, &["containerlab", "podman"]), Ok(podman));
        for lacking in [&["containerlab"][..], &["docker"], &[]] {
            assert_eq!(chosen(None, lacking), Ok(Runner::Namespaces));
        }
    }

    #[test]
    fn what_is_asked_for_is_taken_or_refused_never_replaced() {
        let all = ["containerlab", "docker"];
        assert_eq!(chosen(Some(Wanted::Namespaces), &all), Ok(Runner::Namespaces));
        assert_eq!(
            chosen(Some(Wanted::Containerlab), &["docker"]),
            Err("containerlab is not installed".into())
        );
        assert_eq!(
            chosen(Some(Wanted::Containerlab), &["containerlab"]),
            Err("containerlab needs docker or podman, and neither is installed".into())
        );
    }

    #[test]
    fn every_runner_has_a_word() {
        let engines = Engine::ALL.map(Runner::Containerlab);
        for runner in engines.into_iter().chain([Runner::Namespaces]) {
            assert_eq!(parse(word(runner)), Ok(runner));
        }
    }
}
