//! What Kubernetes' own end-to-end tests need beyond a cluster: the tests, kube-proxy, a name server, and what is in the image that
//! they run.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Found, From, Need, Part, go, package};

pub(crate) const TESTS: &str = "lab/kubernetes/conformance";
const DNS: &str = "lab/kubernetes/coredns";
const PROGRAMS: [(&str, &str); 2] = [
    ("k8s.io/kubernetes/cmd/kube-proxy", "kube-proxy"),
    ("github.com/onsi/ginkgo/v2/ginkgo", "ginkgo"),
];

pub(super) const PART: Part = Part {
    name: "conformance",
    needs: &[
        package(
            "nftables",
            "nft",
            "kube-proxy's way to serve; also holds segments back where tests make connections collide",
        ),
        package("busybox-static", "busybox", "what the tests run in pods"),
        package("bind9-dnsutils", "dig", "what the tests run in pods"),
        package("netcat-openbsd", "nc.openbsd", "what the tests run in pods"),
        package("wget", "wget", "what the tests run in pods"),
        Need {
            what: "e2e.test, kube-proxy and CoreDNS",
            why: "Kubernetes' own tests and the peer beside; from source, five minutes",
            found: Found::Asked(|| programs().is_some_and(|folder| folder.is_dir())),
            from: From::Made(make),
        },
    ],
};

/// Where the programs lie, made or not.
pub(crate) fn programs() -> Option<PathBuf> {
    go::cache("conformance", &[TESTS, DNS])
}

fn make() -> Result<()> {
    let cache = programs().context("neither HOME nor XDG_CACHE_HOME is set")?;
    let stamp = super::kubernetes::stamp();
    let kubernetes = go::Module {
        folder: TESTS,
        programs: &PROGRAMS,
        flags: &["-ldflags", &stamp],
        linked: go::Linked::Static,
        kind: go::Kind::Program,
    };
    go::make(
        &cache,
        &[
            kubernetes,
            go::Module {
                programs: &[("k8s.io/kubernetes/test/e2e", "e2e.test")],
                kind: go::Kind::Tests,
                ..kubernetes
            },
            go::Module {
                folder: DNS,
                programs: &[("github.com/coredns/coredns", "coredns")],
                flags: &["-ldflags", "-s -w"],
                ..kubernetes
            },
        ],
    )
}
