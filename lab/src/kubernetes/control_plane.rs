//! etcd and kube-apiserver together.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Assets;
use super::server::{Server, free_ports};
use crate::process::run_here;
use crate::{Error, Overdue, system, until};

/// It takes three seconds; a machine under load gets more.
const READY: Duration = Duration::from_secs(120);
/// Another program may take a free port before ours does.
const TRIES: usize = 3;
/// Of the group that may do everything. Both are good for this control plane only.
const ADMIN: &str = "admin-of-the-lab";
const NOBODY: &str = "nobody-of-the-lab";
/// Whose requests are written down, without what is in them.
const AUDITED: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
    - {level: Metadata, userGroups: [\"system:serviceaccounts\"]}\n- {level: None}\n";

/// A running control plane. Dropping it ends it.
///
/// It lives on the thread that started it: see the module.
#[derive(Debug)]
pub struct ControlPlane {
    assets: Assets,
    folder: tempfile::TempDir,
    port: u16,
    etcd_ports: [u16; 2],
    api_server: Option<Server>,
    etcd: Option<Server>,
}

impl ControlPlane {
    /// Returns when it is ready.
    ///
    /// # Errors
    /// With the end of the log of what did not come up.
    pub fn start(assets: &Assets) -> Result<Self, Error> {
        let mut tries = 1;
        loop {
            match Self::try_start(assets) {
                Err(Error::NotRunning { .. }) if tries < TRIES => tries += 1,
                done => return done,
            }
        }
    }

    fn try_start(assets: &Assets) -> Result<Self, Error> {
        let folder = tempfile::tempdir().map_err(system("make a folder"))?;
        let [port, client, peer] = free_ports()?;
        let mut control_plane = Self {
            assets: assets.clone(),
            folder,
            port,
            etcd_ports: [client, peer],
            api_server: None,
            etcd: None,
        };
        control_plane.write_files()?;
        control_plane.start_etcd()?;
        control_plane.start_api_server()?;
        Ok(control_plane)
    }

    /// For any client: may do everything. Stays the same when servers are restarted.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// The same for somebody who is known and may do nothing.
    #[must_use]
    pub fn kubeconfig_without_rights(&self) -> PathBuf {
        self.folder.path().join("kubeconfig-without-rights")
    }

    /// The same for who has this token, such as a service account.
    ///
    /// # Errors
    /// If it can not be written.
    pub fn kubeconfig_of(&self, name: &str, token: &str) -> Result<PathBuf, Error> {
        let path = self.folder.path().join(format!("kubeconfig-of-{name}"));
        let certificate = self.folder.path().join("certificates/apiserver.crt");
        fs::write(&path, kubeconfig(&self.url(), &certificate, token)).map_err(system("write a file"))?;
        Ok(path)
    }

    /// Every request of service accounts and what it was answered, as JSON, one a line.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }

    /// `https://` and where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// What the API server counts, in the text format of Prometheus.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metrics(&self) -> Result<String, Error> {
        run_here(&mut ask(&format!("{}/metrics", self.url())))
    }

    /// Process ids of etcd and the API server, those of them that run.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.etcd
            .iter()
            .chain(&self.api_server)
            .map(Server::pid)
            .collect()
    }

    /// As `kill -9` does. Connections break; nothing is drained.
    pub fn kill_api_server(&mut self) {
        self.api_server = None;
    }

    /// The same for etcd. What it has written stays.
    pub fn kill_etcd(&mut self) {
        self.etcd = None;
    }

    /// Makes etcd forget what was before now: who watches from then on is told so (410 Gone).
    ///
    /// # Errors
    /// If etcd does not do it.
    pub fn forget_history(&self) -> Result<(), Error> {
        let ask = |path: &str, body: &str| {
            let mut curl = Command::new("curl");
            curl.args([
                "--silent",
                "--show-error",
                "--fail",
                "--max-time",
                "30",
                "--data",
                body,
            ])
            .arg(format!("http://127.0.0.1:{}/v3/kv/{path}", self.etcd_ports[0]));
            run_here(&mut curl)
        };
        // Of the key of one zero octet; with every answer comes the revision.
        let answer = ask("range", r#"{"key":"AA=="}"#)?;
        let revision = answer.split(r#""revision":""#).nth(1);
        let revision = revision
            .and_then(|rest| rest.split('"').next())
            .unwrap_or_default();
        ask(
            "compaction",
            &format!(r#"{{"revision":"{revision}","physical":true}}"#),
        )
        .map(drop)
    }

    /// Starts the API server where it was, and returns when it is ready.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn start_api_server(&mut self) -> Result<(), Error> {
        let argument = |name: &str, value: &str| format!("--{name}={value}");
        let at = |file: &str| self.folder.path().join(file).display().to_string();
        let arguments = [
            argument("bind-address", "127.0.0.1"),
            argument("advertise-address", "127.0.0.1"),
            argument("secure-port", &self.port.to_string()),
            argument("cert-dir", &at("certificates")),
            argument(
                "etcd-servers",
                &format!("http://127.0.0.1:{}", self.etcd_ports[0]),
            ),
            argument("authorization-mode", "Node,RBAC"),
            argument("token-auth-file", &at("tokens")),
            argument("service-account-issuer", "https://kubernetes.default.svc"),
            argument("service-account-key-file", &at("service-account.key")),
            argument("service-account-signing-key-file", &at("service-account.key")),
            argument("service-cluster-ip-range", "10.96.0.0/16,fd00:96::/108"),
            // Nobody makes service accounts here, and its own address is nobody's endpoint.
            argument("disable-admission-plugins", "ServiceAccount"),
            argument("endpoint-reconciler-type", "none"),
            argument("audit-policy-file", &at("audit-policy")),
            argument("audit-log-path", &self.audit_log().display().to_string()),
            argument("allow-privileged", "true"),
            argument("profiling", "false"),
        ];
        let program = self.assets.program("kube-apiserver");
        let mut server = Server::start("kube-apiserver", &program, &arguments, self.folder.path())?;
        let ready = format!("{}/readyz", self.url());
        wait(&mut server, "kube-apiserver to be ready", || answer(&ready))?;
        self.api_server = Some(server);
        Ok(())
    }

    /// The same for etcd.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn start_etcd(&mut self) -> Result<(), Error> {
        let [client, peer] = self.etcd_ports.map(|port| format!("http://127.0.0.1:{port}"));
        let arguments = [
            format!("--data-dir={}", self.folder.path().join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // A lab survives no power cut, and disks of test machines are slow.
            "--unsafe-no-fsync".to_owned(),
        ];
        let program = self.assets.program("etcd");
        let mut server = Server::start("etcd", &program, &arguments, self.folder.path())?;
        let health = format!("{client}/health");
        wait(&mut server, "etcd to be healthy", || answer(&health))?;
        self.etcd = Some(server);
        Ok(())
    }

    fn write_files(&self) -> Result<(), Error> {
        let folder = self.folder.path();
        let write =
            |name: &str, text: String| fs::write(folder.join(name), text).map_err(system("write a file"));
        write("audit-policy", AUDITED.to_owned())?;
        let tokens = format!("{ADMIN},admin,admin,\"system:masters\"\n{NOBODY},nobody,nobody\n");
        write("tokens", tokens)?;
        let certificate = folder.join("certificates/apiserver.crt");
        write("kubeconfig", kubeconfig(&self.url(), &certificate, ADMIN))?;
        let without_rights = kubeconfig(&self.url(), &certificate, NOBODY);
        write("kubeconfig-without-rights", without_rights)?;
        let key = folder.join("service-account.key");
        let mut openssl = Command::new("openssl");
        openssl.args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"]);
        run_here(openssl.arg(key)).map(drop)
    }
}

/// The API server makes its own certificate and signs it with a key it forgets: trusting the file trusts just it.
fn kubeconfig(url: &str, certificate: &Path, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
         clusters:\n- name: lab\n  cluster:\n    server: {url}\n    certificate-authority: {}\n\
         users:\n- name: lab\n  user:\n    token: {token}\n\
         contexts:\n- name: lab\n  context:\n    cluster: lab\n    user: lab\n",
        certificate.display()
    )
}

/// Whether an HTTP server answers, and with 200.
fn answer(url: &str) -> Result<(), String> {
    run_here(&mut ask(url))
        .map(drop)
        .map_err(|error| error.to_string())
}

fn ask(url: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--insecure",
        "--fail",
        "--max-time",
        "5",
    ])
    .args(["--header", &format!("Authorization: Bearer {ADMIN}")])
    .arg(url);
    curl
}

fn wait(server: &mut Server, what: &str, mut probe: impl FnMut() -> Result<(), String>) -> Result<(), Error> {
    let waited: Result<Result<(), Error>, Overdue> = until(READY, what, || match server.running() {
        Ok(()) => probe().map(Ok),
        Err(ended) => Ok(Err(ended)),
    });
    waited?
}
