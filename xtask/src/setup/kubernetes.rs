//! The control plane that tests run: etcd and kube-apiserver, made from the modules that `lab/kubernetes/go.mod` pins.

use std::env;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lab::kubernetes::Assets;

use super::{Found, From, Need, Part, go};

/// Go's name of each package, and ours of the program.
const PROGRAMS: [(&str, &str); 2] = [
    ("go.etcd.io/etcd/server/v3", "etcd"),
    ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
];

pub(super) const PART: Part = Part {
    name: "kubernetes",
    needs: &[Need {
        what: "etcd and kube-apiserver",
        why: "a real control plane for the tests; from source, some minutes; KUBEBUILDER_ASSETS saves them",
        found: Found::Asked(has_programs),
        from: From::Tried(make),
    }],
};

fn has_programs() -> bool {
    Assets::find().is_ok()
}

fn make() -> Result<()> {
    if let Some(folder) = env::var_os("KUBEBUILDER_ASSETS") {
        bail!(
            "KUBEBUILDER_ASSETS is {}, which lacks programs: unset it, or complete it",
            Path::new(&folder).display()
        );
    }
    let cache = Assets::cache().context("neither HOME nor XDG_CACHE_HOME is set")?;
    let module = go::Module {
        folder: "lab/kubernetes",
        programs: &PROGRAMS,
        flags: &["-ldflags", &stamp()],
        linked: go::Linked::Static,
        kind: go::Kind::Program,
    };
    go::make(&cache, &[module])
}

/// Without it the programs call themselves v0.0.0. No symbol table: nobody debugs them.
pub(super) fn stamp() -> String {
    let version = Assets::version();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    let set = |name: &str, value: &str| format!("-X k8s.io/component-base/version.{name}={value}");
    [
        "-s -w".to_owned(),
        set("gitVersion", version),
        set("gitMajor", major),
        set("gitMinor", minor),
    ]
    .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_carry_the_version_they_are_made_from() {
        let version = Assets::version();
        assert!(stamp().contains(&format!("gitVersion={version} ")), "{}", stamp());
        assert!(stamp().contains("gitMajor=1 "), "{}", stamp());
    }

    #[test]
    fn everything_the_lab_looks_for_is_made() {
        let made = PROGRAMS.map(|(_, program)| program);
        assert_eq!(made, lab::kubernetes::PROGRAMS);
    }
}
