//! The scripts: a line a command, files after it.
//!
//! A command with `*` in front is tried again, with the commands of its section that only look at things, until it
//! succeeds or [`PATIENCE`] is over. A section begins at a comment.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bgp_speaker::types::Family;
use stentor_tests::txtar::{self, Archive};

const PATIENCE: Duration = Duration::from_secs(40);

/// The node of every script.
pub(crate) const NODE: &str = "test-node";

/// What a script is played on.
pub(crate) trait Stage {
    fn add_server(&mut self, server: &Server) -> anyhow::Result<()>;
    fn delete_server(&mut self, name: &str) -> anyhow::Result<()>;
    fn add_peer(&mut self, server: &str, peer: &Peer) -> anyhow::Result<()>;
    /// The file has this content now; `None`: it is deleted.
    fn write(&mut self, file: &str, text: Option<&str>) -> anyhow::Result<()>;
    fn wait_state(&mut self, server: &str, peer: IpAddr, state: &str, limit: Duration) -> anyhow::Result<()>;
    /// A table, `None` if this stage has no way to know it.
    fn look(&mut self, look: &Look) -> anyhow::Result<Option<String>>;
    /// How long a comparison is worth trying again.
    fn patience(&self) -> Duration;
}

/// A GoBGP daemon of the script.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) asn: u32,
    pub(crate) router_id: String,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
}

/// A neighbour of such a daemon.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    pub(crate) asn: u32,
    pub(crate) password: Option<String>,
    pub(crate) families: Vec<Family>,
}

#[derive(Debug, Clone)]
pub(crate) enum Look {
    ServerPeers {
        server: String,
    },
    ServerRoutes {
        server: String,
        family: Family,
    },
    Peers,
    /// Everything after `bgp/routes`, without `-o`.
    Routes(Vec<String>),
    RoutePolicies(Vec<String>),
}

#[derive(Debug)]
pub(crate) struct Script {
    /// `--key=value` of the first line.
    pub(crate) flags: BTreeMap<String, String>,
    lines: Vec<(usize, Line)>,
    files: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Line {
    words: Vec<String>,
    retried: Retried,
    /// Numbered by the comments before it.
    section: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retried {
    No,
    Yes,
}

impl Script {
    pub(crate) fn parse(archive: &Archive) -> anyhow::Result<Self> {
        let mut script = Self {
            flags: BTreeMap::new(),
            lines: Vec::new(),
            files: archive
                .files
                .iter()
                .map(|f| (f.name.clone(), f.data.clone()))
                .collect(),
        };
        let mut section = 0;
        for (number, text) in (1..).zip(archive.comment.lines()) {
            if let Some(flags) = text.strip_prefix("#!") {
                for flag in flags.split_whitespace() {
                    let (key, value) = flag
                        .trim_start_matches('-')
                        .split_once('=')
                        .unwrap_or((flag, "true"));
                    script
                        .flags
                        .insert(key.trim_start_matches('-').to_owned(), value.to_owned());
                }
                continue;
            }
            if text.starts_with('#') {
                section += 1;
                continue;
            }
            // A comment may follow a command.
            let text = text.split(" #").next().unwrap_or_default().trim();
            let (text, retried) = match text.strip_prefix("* ") {
                Some(rest) => (rest, Retried::Yes),
                None => (text, Retried::No),
            };
            if !text.is_empty() {
                let words = words(text);
                script.lines.push((
                    number,
                    Line {
                        words,
                        retried,
                        section,
                    },
                ));
            }
        }
        Ok(script)
    }

    /// What the script's first line asks of the agent, as keys of its configuration.
    pub(crate) fn config_keys(&self) -> BTreeMap<&'static str, String> {
        let flag = |name: &str| self.flags.get(name).cloned();
        let mut keys = BTreeMap::from([("ipam", flag("ipam").unwrap_or_else(|| "kubernetes".to_owned()))]);
        for (name, key) in [
            (
                "bgp-no-endpoints-routable",
                "enable-no-service-endpoints-routable",
            ),
            (
                "bgp-legacy-origin-attribute",
                "enable-bgp-legacy-origin-attribute",
            ),
        ] {
            keys.extend(flag(name).map(|value| (key, value)));
        }
        keys
    }
}

/// Words, where quotes keep spaces together.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '\'' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Plays it, and says how many tables were compared.
pub(crate) fn play(script: &Script, stage: &mut dyn Stage) -> anyhow::Result<usize> {
    let mut player = Player {
        files: script.files.clone(),
        unknown: Vec::new(),
        servers: Vec::new(),
        compared: 0,
    };
    for (at, (number, line)) in script.lines.iter().enumerate() {
        let looks: Vec<&Line> = script.lines[..at]
            .iter()
            .map(|(_, earlier)| earlier)
            .filter(|earlier| earlier.section == line.section && is_look(earlier))
            .collect();
        let run = || -> anyhow::Result<()> {
            match line.retried {
                Retried::No => player.run(&line.words, stage),
                Retried::Yes => player.retry(line, &looks, stage),
            }
        };
        let mut run = run;
        run().with_context(|| format!("line {number}, {}", line.words.join(" ")))?;
    }
    Ok(player.compared)
}

fn is_look(line: &Line) -> bool {
    matches!(
        line.words.first().map(String::as_str),
        Some("gobgp/peers" | "gobgp/routes" | "bgp/peers" | "bgp/routes" | "bgp/route-policies")
    )
}

struct Player {
    files: BTreeMap<String, String>,
    /// Tables the stage can't know.
    unknown: Vec<String>,
    servers: Vec<String>,
    compared: usize,
}

impl Player {
    fn retry(&mut self, line: &Line, looks: &[&Line], stage: &mut dyn Stage) -> anyhow::Result<()> {
        let limit = stage.patience().min(PATIENCE);
        lab::until(limit, line.words.join(" "), || {
            for look in looks {
                self.run(&look.words, stage).map_err(|e| format!("{e:#}"))?;
            }
            self.run(&line.words, stage).map_err(|e| format!("{e:#}"))
        })?;
        Ok(())
    }

    fn run(&mut self, words: &[String], stage: &mut dyn Stage) -> anyhow::Result<()> {
        let mut args = Args::of(words.get(1..).unwrap_or_default());
        match words.first().map(String::as_str).unwrap_or_default() {
            "hive" => {}
            // Everything is waited for.
            "sleep" => {}
            "gobgp/add-server" => {
                let router_id = args
                    .flag(&["r", "router-id"])
                    .unwrap_or_else(|| "1.2.3.4".to_owned());
                let [name, asn, address, port] =
                    args.named(["name", "asn", "address", "port"]).or_else(|_| {
                        let [asn, address, port] = args.named(["asn", "address", "port"])?;
                        anyhow::Ok([asn.clone(), asn, address, port])
                    })?;
                self.servers.push(name.clone());
                let (asn, address, port) = (asn.parse()?, address.parse()?, port.parse()?);
                stage.add_server(&Server {
                    name,
                    asn,
                    router_id,
                    address,
                    port,
                })?;
            }
            "gobgp/delete-server" => {
                let [name] = args.named(["name"])?;
                stage.delete_server(&name)?;
            }
            "gobgp/add-peer" => {
                let server = self.server(&mut args)?;
                let password = args.flag(&["p", "password"]);
                let families = args
                    .flag(&["f", "families"])
                    .unwrap_or_else(|| "ipv4/unicast,ipv6/unicast".to_owned());
                let [address, asn] = args.named(["address", "asn"])?;
                let families = families.split(',').map(family).collect::<Result<_, _>>()?;
                let peer = Peer {
                    address: address.parse()?,
                    asn: asn.parse()?,
                    password,
                    families,
                };
                stage.add_peer(&server, &peer)?;
            }
            "gobgp/wait-state" => {
                let server = self.server(&mut args)?;
                args.flag(&["t", "timeout"]);
                let [peer, state] = args.named(["peer", "state"])?;
                stage.wait_state(&server, peer.parse()?, &state, PATIENCE)?;
            }
            "k8s/add" | "k8s/update" => {
                for name in args.rest() {
                    let text = self
                        .files
                        .get(&name)
                        .with_context(|| format!("there is no file {name}"))?;
                    // An update is of the object, whatever file it came in.
                    stage.write(&objects(text)?, Some(text))?;
                }
            }
            "k8s/delete" => {
                for name in args.rest() {
                    let text = self
                        .files
                        .get(&name)
                        .with_context(|| format!("there is no file {name}"))?;
                    stage.write(&objects(text)?, None)?;
                }
            }
            "gobgp/peers" => {
                let (out, server) = (args.flag(&["o", "out"]), self.server(&mut args)?);
                self.look(out, &Look::ServerPeers { server }, stage)?;
            }
            "gobgp/routes" => {
                let (out, server) = (args.flag(&["o", "out"]), self.server(&mut args)?);
                let rest = args.rest();
                let words: Vec<&str> = rest.iter().map(String::as_str).collect();
                let family = match words.as_slice() {
                    [] => Family::IPV4_UNICAST,
                    [afi] => family(&format!("{afi}/unicast"))?,
                    [afi, safi, ..] => family(&format!("{afi}/{safi}"))?,
                };
                self.look(out, &Look::ServerRoutes { server, family }, stage)?;
            }
            "bgp/peers" => {
                let out = args.flag(&["o", "out"]);
                self.look(out, &Look::Peers, stage)?;
            }
            "bgp/routes" | "bgp/route-policies" => {
                let out = args.flag(&["o", "out"]);
                let (peer, asn) = (args.flag(&["p", "peer"]), args.flag(&["r", "router-asn"]));
                let mut rest = args.rest();
                if words[0] == "bgp/routes" {
                    let defaults = ["available", "ipv4", "unicast"];
                    rest.extend(defaults.iter().skip(rest.len()).map(|w| (*w).to_owned()));
                    rest.extend(asn.iter().flat_map(|asn| ["vrouter".to_owned(), asn.clone()]));
                    rest.extend(peer.iter().flat_map(|peer| ["peer".to_owned(), peer.clone()]));
                    self.look(out, &Look::Routes(rest), stage)?;
                } else {
                    rest.extend(asn.iter().flat_map(|asn| ["vrouter".to_owned(), asn.clone()]));
                    self.look(out, &Look::RoutePolicies(rest), stage)?;
                }
            }
            "cmp" => {
                let [expected, actual] = args.named(["expected", "actual"])?;
                self.compare(&expected, &actual)?;
            }
            "cp" => {
                let [from, to] = args.named(["from", "to"])?;
                let text = self
                    .files
                    .get(&from)
                    .with_context(|| format!("there is no file {from}"))?;
                self.files.insert(to, text.clone());
            }
            "replace" | "sed" => {
                let [old, new, name] = args.named(["old", "new", "file"])?;
                let text = self
                    .files
                    .get_mut(&name)
                    .with_context(|| format!("there is no file {name}"))?;
                *text = text.replace(&old, &new);
            }
            other => bail!("no command {other} is known"),
        }
        Ok(())
    }

    fn server(&self, args: &mut Args) -> anyhow::Result<String> {
        match args.flag(&["s", "server", "server-asn"]) {
            Some(name) => Ok(name),
            None => self.servers.first().cloned().context("there is no server"),
        }
    }

    fn look(&mut self, out: Option<String>, look: &Look, stage: &mut dyn Stage) -> anyhow::Result<()> {
        let out = out.unwrap_or_default();
        match stage.look(look)? {
            Some(table) => {
                self.unknown.retain(|name| *name != out);
                self.files.insert(out, table);
            }
            None => self.unknown.push(out),
        }
        Ok(())
    }

    fn compare(&mut self, expected: &str, actual: &str) -> anyhow::Result<()> {
        if self.unknown.iter().any(|name| name == expected || name == actual) {
            return Ok(());
        }
        let text = |name: &str| {
            let text = self
                .files
                .get(name)
                .with_context(|| format!("there is no file {name}"))?;
            anyhow::Ok(
                text.lines()
                    .map(str::trim_end)
                    .collect::<Vec<_>>()
                    .join("\n")
                    .trim_end()
                    .to_owned(),
            )
        };
        let (wanted, found) = (text(expected)?, text(actual)?);
        ensure!(wanted == found, "{}", txtar::diff(&wanted, &found));
        self.compared += 1;
        Ok(())
    }
}

/// Flags and the words between them.
struct Args {
    flags: Vec<(String, String)>,
    words: Vec<String>,
}

impl Args {
    fn of(words: &[String]) -> Self {
        let mut args = Self {
            flags: Vec::new(),
            words: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.strip_prefix("--").or_else(|| word.strip_prefix('-')) {
                Some(flag) => match flag.split_once('=') {
                    Some((name, value)) => args.flags.push((name.to_owned(), value.to_owned())),
                    None => {
                        let value = words.next().cloned().unwrap_or_default();
                        args.flags.push((flag.to_owned(), value));
                    }
                },
                None => args.words.push(word.clone()),
            }
        }
        args
    }

    fn flag(&mut self, names: &[&str]) -> Option<String> {
        let at = self
            .flags
            .iter()
            .position(|(name, _)| names.contains(&name.as_str()))?;
        Some(self.flags.remove(at).1)
    }

    fn named<const N: usize>(&self, names: [&str; N]) -> anyhow::Result<[String; N]> {
        let words = self.words.clone();
        words
            .try_into()
            .map_err(|words: Vec<String>| anyhow::anyhow!("wanted {names:?}, found {words:?}"))
    }

    fn rest(&self) -> Vec<String> {
        self.words.clone()
    }
}

fn family(text: &str) -> anyhow::Result<Family> {
    match text {
        "ipv4/unicast" => Ok(Family::IPV4_UNICAST),
        "ipv6/unicast" => Ok(Family::IPV6_UNICAST),
        other => bail!("no family {other}"),
    }
}

/// The file an object lives in: named after the object, so that a later version replaces it.
fn objects(text: &str) -> anyhow::Result<String> {
    let read = crds::read(std::path::Path::new("script"), text);
    let object = read.objects.first().map(|parsed| parsed.reference.to_string());
    let problems: Vec<String> = read.problems.iter().map(ToString::to_string).collect();
    let object = object.with_context(|| format!("no object in it: {}", problems.join("; ")))?;
    Ok(format!("{}.yaml", object.replace('/', "-")))
}
