//! What rendering the Helm chart needs: helm itself, made from the module that `deploy/helm/pinned/go.mod` pins.

use anyhow::{Context, Result};

use super::{Found, From, Need, Part, go};
use crate::{manifests, step};

const PROGRAMS: [(&str, &str); 1] = [("helm.sh/helm/v4/cmd/helm", "helm")];

pub(super) const PART: Part = Part {
    name: "chart",
    needs: &[Need {
        what: "helm",
        why: "renders the chart; from source, two minutes",
        found: Found::Asked(|| manifests::helm().is_some()),
        from: From::Tried(make),
    }],
};

fn make() -> Result<()> {
    let cache = manifests::cache().context("neither HOME nor XDG_CACHE_HOME is set")?;
    let helm = go::Module {
        folder: manifests::PINNED,
        programs: &PROGRAMS,
        flags: &["-ldflags", "-s -w"],
        linked: go::Linked::Static,
        kind: go::Kind::Program,
    };
    go::make(&cache, &[helm])
        .with_context(|| format!("in {}", step::root().join(manifests::PINNED).display()))
}
