//! `cargo xtask manifests`: the Helm chart as plain YAML, for clusters without helm.
//!
//! ```text
//!   deploy/helm/stentor (chart) ---------+
//!   deploy/helm/values/NAME.yaml --------+--> helm, pinned --> deploy/manifests/NAME.yaml
//! ```
//!
//! The real helm renders it: an engine of our own would be a second truth about what a template means. What it made
//! is checked in, so that `kubectl apply -f` needs nothing else, and `cargo xtask check` says when it is old. Tests read
//! it there, and so need no helm either.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::generated::{self, Files};
use crate::setup::{self, Goal};
use crate::step;

/// The module that pins helm.
pub(crate) const PINNED: &str = "deploy/helm/pinned";
pub(crate) const CHART: &str = "deploy/helm/stentor";
const VALUES: &str = "deploy/helm/values";
const MANIFESTS: &str = "deploy/manifests";
/// The release, and where it is.
const RELEASE: &str = "stentor";
const NAMESPACE: &str = "kube-system";

/// Brings the folder in the repository up to date.
pub(crate) fn write() -> Result<()> {
    setup::run(Goal::Chart)?;
    let helm = helm().context("there is no helm")?;
    let rendered = rendered(&helm)?;
    generated::write("manifests", MANIFESTS, &rendered)?;
    for name in rendered.keys() {
        println!("manifests: {MANIFESTS}/{name}");
    }
    Ok(())
}

/// What of it differs from what the chart says, for `cargo xtask check`. Without helm nobody can tell.
pub(crate) fn stale() -> Result<Vec<String>> {
    let Some(helm) = helm() else {
        println!("check: note: no helm, so {MANIFESTS} is not held against the chart");
        return Ok(Vec::new());
    };
    let stale = generated::stale(MANIFESTS, &rendered(&helm)?)?.into_iter();
    Ok(stale
        .map(|file| format!("{file}: not what the chart says; run `cargo xtask manifests`"))
        .collect())
}

/// The pinned helm, if it was made.
pub(crate) fn helm() -> Option<PathBuf> {
    cache()
        .map(|cache| cache.join("helm"))
        .filter(|program| program.is_file())
}

/// Where it lies, made or not. `None` without a home.
pub(crate) fn cache() -> Option<PathBuf> {
    setup::go::cache("helm", &[PINNED])
}

/// A file for each file of values.
fn rendered(helm: &Path) -> Result<Files> {
    let values = step::root().join(VALUES);
    let mut rendered = Files::new();
    for name in generated::files(&values)?.into_keys() {
        let mut command = Command::new(helm);
        command
            .current_dir(step::root())
            .args(["template", RELEASE, CHART, "--namespace", NAMESPACE, "--values"])
            .arg(Path::new(VALUES).join(&name));
        let output = step::capture(&mut command)?;
        if !output.status.success() {
            bail!("{VALUES}/{name}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8(output.stdout).context("manifests are UTF-8")?;
        let head =
            format!("# {CHART} with {VALUES}/{name}, made by `cargo xtask manifests`. Apply it as it is.\n");
        rendered.insert(name, head + &plain(&text));
    }
    Ok(rendered)
}

/// As somebody would write it who has no helm: it does not manage this.
fn plain(text: &str) -> String {
    let lines = text.lines().filter(|line| {
        let line = line.trim();
        !line.starts_with("helm.sh/chart:") && line != "app.kubernetes.io/managed-by: Helm"
    });
    let mut plain = String::new();
    let mut blank = false;
    for line in lines {
        // Templates leave blank lines between documents, and none inside.
        if line.trim().is_empty() {
            blank = true;
            continue;
        }
        if blank && line != "---" {
            plain.push('\n');
        }
        blank = false;
        plain.push_str(line.trim_end());
        plain.push('\n');
    }
    plain
}
