//! A real agent and real GoBGP daemons, all in one network namespace: every address of the script is on its
//! loopback.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use bgp_speaker::types::Family;
use lab::{Netns, Process};
use nix::sys::signal::Signal;
use serde_json::Value;
use stentor::render::attrs;
use stentor_tests::agent::program;
use tempfile::TempDir;

use super::script::{Look, NODE, Peer, Script, Server, Stage};
use super::table::{table, without};

/// Fields are dropped in this order: processes before the namespace they run in.
pub(crate) struct Live {
    agent: Process,
    servers: BTreeMap<String, Daemon>,
    node: Netns,
    folder: TempDir,
    stentor: PathBuf,
}

struct Daemon {
    server: Server,
    peers: Vec<Peer>,
    process: Option<Process>,
}

impl Live {
    pub(crate) fn new(script: &Script) -> anyhow::Result<Self> {
        let stentor = program()?;
        let node = Netns::new("conformance")?;
        for address in script
            .flags
            .get("test-peering-ips")
            .iter()
            .flat_map(|list| list.split(','))
        {
            let address: IpAddr = address.parse()?;
            let length = if address.is_ipv4() { 32 } else { 128 };
            node.exec(&[
                "ip",
                "addr",
                "add",
                &format!("{address}/{length}"),
                "dev",
                "lo",
                "nodad",
            ])
            .or_else(|_| node.exec(&["ip", "addr", "add", &format!("{address}/{length}"), "dev", "lo"]))?;
        }
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        fs::create_dir(path("manifests"))?;
        let config: String = script
            .config_keys()
            .iter()
            .map(|(k, v)| format!("{k}: \"{v}\"\n"))
            .collect();
        fs::write(path("config.yaml"), config)?;
        let agent = node.spawn(&[
            &stentor.to_string_lossy(),
            "agent",
            "--manifests",
            &path("manifests"),
            "--node",
            NODE,
            "--state",
            &path("state"),
            "--socket",
            &path("agent.sock"),
            "--config",
            &path("config.yaml"),
        ])?;
        Ok(Self {
            agent,
            servers: BTreeMap::new(),
            node,
            folder,
            stentor,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn daemon(&self, name: &str) -> anyhow::Result<&Daemon> {
        let by_asn = || self.servers.values().find(|d| d.server.asn.to_string() == name);
        self.servers
            .get(name)
            .or_else(by_asn)
            .with_context(|| format!("there is no server {name}"))
    }

    /// Writes the daemon's configuration; it is started with its first peer and told of others.
    fn configure(&mut self, name: &str) -> anyhow::Result<()> {
        let text = render(self.daemon(name)?);
        let file = self.path(&format!("{name}.toml"));
        fs::write(&file, text)?;
        let socket = self.socket(name);
        let node = &self.node;
        let daemon = self.servers.get_mut(name).context("no such server")?;
        match &mut daemon.process {
            Some(process) => process.signal(Signal::SIGHUP)?,
            None => {
                daemon.process = Some(node.spawn(&[
                    "gobgpd",
                    "--config-file",
                    &file.to_string_lossy(),
                    "--pprof-disable",
                    "--api-hosts",
                    &socket,
                ])?);
            }
        }
        Ok(())
    }

    fn socket(&self, name: &str) -> String {
        format!("unix://{}", self.path(&format!("{name}.sock")).display())
    }

    fn gobgp(&self, server: &str, args: &[&str]) -> anyhow::Result<Value> {
        let name = &self.daemon(server)?.server.name;
        let socket = self.socket(name);
        let mut argv = vec!["gobgp", "--target", &socket, "-j"];
        argv.extend(args);
        let answer = self.node.exec(&argv)?;
        if answer.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&answer).with_context(|| answer.clone())
    }

    /// Called as the agent's container is: the same program by another name.
    fn cilium(&self, args: &[&str]) -> anyhow::Result<String> {
        let link = self.path("cilium-dbg");
        if !link.exists() {
            std::os::unix::fs::symlink(&self.stentor, &link)?;
        }
        let socket = format!("CILIUM_SOCK={}", self.path("agent.sock").display());
        let link = link.to_string_lossy().into_owned();
        let mut argv = vec!["env", &socket, &link, "bgp"];
        argv.extend(args);
        Ok(self.node.exec(&argv)?)
    }
}

impl Stage for Live {
    fn add_server(&mut self, server: &Server) -> anyhow::Result<()> {
        let daemon = Daemon {
            server: server.clone(),
            peers: Vec::new(),
            process: None,
        };
        self.servers.insert(server.name.clone(), daemon);
        Ok(())
    }

    fn delete_server(&mut self, name: &str) -> anyhow::Result<()> {
        self.servers.remove(name).map(drop).context("no such server")
    }

    fn add_peer(&mut self, server: &str, peer: &Peer) -> anyhow::Result<()> {
        let name = self.daemon(server)?.server.name.clone();
        self.servers
            .get_mut(&name)
            .context("no such server")?
            .peers
            .push(peer.clone());
        self.configure(&name)
    }

    fn write(&mut self, file: &str, text: Option<&str>) -> anyhow::Result<()> {
        let path = self.path("manifests").join(file);
        match text {
            None => fs::remove_file(path)?,
            Some(text) => {
                // As a careful program writes: never half a file.
                let beside = self.path("writing");
                fs::write(&beside, text)?;
                fs::rename(beside, path)?;
            }
        }
        Ok(())
    }

    fn wait_state(&mut self, server: &str, peer: IpAddr, state: &str, limit: Duration) -> anyhow::Result<()> {
        let waited = lab::until(limit, format!("{server} to see {peer} {state}"), || {
            let seen = self
                .gobgp(server, &["neighbor", &peer.to_string()])
                .map_err(|e| format!("{e:#}"))?;
            let found = session_state(&seen["state"]["session_state"]);
            if found == state {
                Ok(())
            } else {
                Err(found.to_owned())
            }
        });
        waited.with_context(|| format!("the agent said:\n{}", self.agent.log()))
    }

    fn look(&mut self, look: &Look) -> anyhow::Result<Option<String>> {
        let table = match look {
            Look::ServerPeers { server } => peers(&self.gobgp(server, &["neighbor"])?),
            Look::ServerRoutes { server, family } => {
                let afi = if *family == Family::IPV4_UNICAST {
                    "ipv4"
                } else {
                    "ipv6"
                };
                routes(&self.gobgp(server, &["global", "rib", "-a", afi])?, *family)?
            }
            Look::Peers => without(&self.cilium(&["peers"])?, "Uptime"),
            Look::Routes(args) => {
                let args: Vec<&str> = std::iter::once("routes")
                    .chain(args.iter().map(String::as_str))
                    .collect();
                let text = self.cilium(&args)?;
                // Notes about defaults come before the table.
                let from = text.find("VRouter").unwrap_or(0);
                without(&text[from..], "Age")
            }
            Look::RoutePolicies(args) => {
                let args: Vec<&str> = std::iter::once("route-policies")
                    .chain(args.iter().map(String::as_str))
                    .collect();
                self.cilium(&args)?
            }
        };
        Ok(Some(table))
    }

    fn patience(&self) -> Duration {
        Duration::MAX
    }
}

fn render(daemon: &Daemon) -> String {
    let Server {
        asn,
        router_id,
        address,
        port,
        ..
    } = &daemon.server;
    let mut text = format!(
        "[global.config]\nas = {asn}\nrouter-id = \"{router_id}\"\nport = {port}\nlocal-address-list = [\"{address}\"]\n"
    );
    for peer in &daemon.peers {
        text += &format!(
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n",
            peer.address, peer.asn
        );
        if let Some(password) = &peer.password {
            text += &format!("auth-password = \"{password}\"\n");
        }
        text += &format!(
            "[neighbors.transport.config]\nlocal-address = \"{address}\"\npassive-mode = true\n[neighbors.timers.config]\nidle-hold-time-after-reset = 1\n[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 10\n"
        );
        for family in &peer.families {
            text += &format!(
                "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{}\"\n[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n",
                attrs::dashed(*family)
            );
        }
    }
    text
}

/// As in GoBGP's API: 1 = idle ... 6 = established.
fn session_state(value: &Value) -> &'static str {
    match value.as_u64() {
        Some(1) => "IDLE",
        Some(2) => "CONNECT",
        Some(3) => "ACTIVE",
        Some(4) => "OPENSENT",
        Some(5) => "OPENCONFIRM",
        Some(6) => "ESTABLISHED",
        Some(_) | None => "UNKNOWN",
    }
}

fn peers(neighbors: &Value) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for neighbor in neighbors.as_array().into_iter().flatten() {
        let (state, timers) = (&neighbor["state"], &neighbor["timers"]["state"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let number = |value: &Value| value.as_u64().unwrap_or(0).to_string();
        rows.push(vec![
            text(&state["neighbor_address"]),
            text(&state["router_id"]),
            number(&state["peer_asn"]),
            session_state(&state["session_state"]).to_owned(),
            number(&timers["keepalive_interval"]),
            number(&timers["negotiated_hold_time"]),
            restart_time(&state["remote_cap"]).to_string(),
        ]);
    }
    rows.sort();
    let head = vec![
        "PeerAddress",
        "RouterID",
        "PeerASN",
        "SessionState",
        "KeepAlive",
        "HoldTime",
        "GracefulRestartTime",
    ];
    let rows = rows.iter().map(|row| row.iter().map(String::as_str).collect());
    table(std::iter::once(head).chain(rows))
}

/// From the peer's capabilities, which GoBGP prints as protobuf: field 2 of its `GracefulRestartCapability`.
fn restart_time(capabilities: &Value) -> u32 {
    let is_restart = |c: &&Value| {
        c["type_url"]
            .as_str()
            .is_some_and(|t| t.ends_with("GracefulRestartCapability"))
    };
    let found = capabilities.as_array().into_iter().flatten().find(is_restart);
    let octets = found
        .and_then(|c| base64(c["value"].as_str()?))
        .unwrap_or_default();
    // Field 1, the flags, comes first where it is not zero: one octet each of key and value.
    let rest = octets
        .strip_prefix(&[0x08])
        .and_then(|rest| rest.get(1..))
        .unwrap_or(&octets);
    let Some(varint) = rest.strip_prefix(&[0x10]) else {
        return 0;
    };
    let len = varint
        .iter()
        .position(|octet| octet & 0x80 == 0)
        .map_or(0, |last| last + 1);
    varint[..len]
        .iter()
        .rev()
        .fold(0, |value, octet| (value << 7) | u32::from(octet & 0x7f))
}

fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn routes(rib: &Value, family: Family) -> anyhow::Result<String> {
    let mut rows = BTreeMap::new();
    for (prefix, paths) in rib.as_object().into_iter().flatten() {
        for (at, path) in paths.as_array().into_iter().flatten().enumerate() {
            let list = path["attrs"].as_array().cloned().unwrap_or_default();
            let hop = list.iter().find(|a| matches!(a["type"].as_u64(), Some(3 | 14)));
            let hop = hop
                .and_then(|a| a["nexthop"].as_str())
                .unwrap_or("0.0.0.0")
                .to_owned();
            let texts: Vec<String> = list
                .iter()
                .map(|attr| attribute(attr, prefix, family))
                .collect::<anyhow::Result<_>>()?;
            rows.insert(
                (prefix.clone(), at),
                [prefix.clone(), hop, format!("[{}]", texts.join(" "))],
            );
        }
    }
    let head = vec!["Prefix", "NextHop", "Attrs"];
    let rows = rows.values().map(|row| row.iter().map(String::as_str).collect());
    Ok(table(std::iter::once(head).chain(rows)))
}

/// An attribute of GoBGP's JSON in the words of its log.
fn attribute(attr: &Value, prefix: &str, family: Family) -> anyhow::Result<String> {
    let items = |key: &str| attr[key].as_array().cloned().unwrap_or_default();
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let joined = |list: Vec<String>, by: &str| list.join(by);
    let code = attr["type"].as_u64().context("an attribute without a type")?;
    Ok(match code {
        1 => format!(
            "{{Origin: {}}}",
            ["i", "e", "?"]
                .get(usize::try_from(number(&attr["value"]))?)
                .unwrap_or(&"?")
        ),
        2 => {
            let segments = items("as_paths");
            let asns = segments
                .iter()
                .flat_map(|s| s["asns"].as_array().cloned().unwrap_or_default());
            format!(
                "{{AsPath: {}}}",
                joined(asns.map(|a| a.to_string()).collect(), " ")
            )
        }
        3 => format!("{{Nexthop: {}}}", attr["nexthop"].as_str().unwrap_or_default()),
        4 => format!("{{Med: {}}}", number(&attr["metric"])),
        5 => format!("{{LocalPref: {}}}", number(&attr["value"])),
        8 => {
            let values = items("communities");
            let values = values.iter().map(|c| attrs::community(number(c))).collect();
            format!("{{Communities: {}}}", joined(values, ", "))
        }
        14 => {
            let hop = attr["nexthop"].as_str().unwrap_or_default();
            format!(
                "{{MpReach({}): {{Nexthop: {hop}, NLRIs: [{prefix}]}}}}",
                attrs::dashed(family)
            )
        }
        32 => {
            let values = items("value");
            let one = |c: &Value| {
                format!(
                    "{}:{}:{}",
                    number(&c["ASN"]),
                    number(&c["LocalData1"]),
                    number(&c["LocalData2"])
                )
            };
            format!(
                "{{LargeCommunity: [ {}]}}",
                joined(values.iter().map(one).collect(), ", ")
            )
        }
        other => anyhow::bail!("attribute {other} is not known here: {attr}"),
    })
}
