//! The configuration of the agent: keys of Cilium's ConfigMap, from a file, a folder or the environment.
//!
//! A file is a YAML map, or a ConfigMap as `kubectl get cm -o yaml` prints it. A folder is a mounted
//! ConfigMap: one file a key. An environment variable `CILIUM_<KEY>` (upper case, `_` for `-`) wins over both, and an
//! option `--<key>` of the command line over that.
//!
//! Standalone, BGP is what the agent is for: `enable-bgp-control-plane` defaults to `true` here, and to
//! `false` in Cilium. Every other default is Cilium's.

pub mod datapath;
pub mod follow;
pub(crate) mod keys;
pub mod operator;
mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::Ipv4Net;

use crate::plan::options::{Families, IpamMode, LbIpam, LegacyOrigin, WithoutEndpoints};
use crate::plan::router_id::RouterIdMode;
use crate::plan::{Desired, Options, Planner, plan};
use crate::problem::{Problem, Severity};
use crate::world::{Touched, World};

/// What the agent goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    pub bgp: BgpControlPlane,
    pub options: Options,
    pub datapath: datapath::Datapath,
    pub operator: operator::Operator,
}

/// Keys and values from the command line.
pub type Given = BTreeMap<&'static str, String>;

impl Config {
    /// The plan, as far as it is to be carried out: with BGP switched off nothing is spoken, and nothing discarded.
    #[must_use]
    pub fn plan(&self, world: &World) -> Desired {
        self.finished(plan(world, &self.options))
    }

    /// The same from what changed; `None`: as before.
    pub fn step(&self, planner: &mut Planner, world: &World, touched: &Touched) -> Option<Desired> {
        let desired = planner.step(world, &self.options, touched)?;
        Some(self.finished(desired))
    }

    fn finished(&self, mut desired: Desired) -> Desired {
        match self.bgp {
            BgpControlPlane::Enabled => {}
            BgpControlPlane::Disabled => {
                desired.speaker = Arc::default();
                desired.discard_routes.clear();
            }
        }
        desired
    }
}

/// `enable-bgp-control-plane`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BgpControlPlane {
    #[default]
    Enabled,
    Disabled,
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Lines count from 1; 0 is the whole file.
    File {
        path: PathBuf,
        line: u32,
    },
    Variable(String),
    /// The option of this name.
    CommandLine(&'static str),
    /// Nowhere, and it should be.
    Unset,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => path.display().fmt(f),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::CommandLine(name) => write!(f, "option --{name}"),
            Self::Unset => f.write_str("a key is missing"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Value {
    text: String,
    origin: Origin,
}

/// Why a configuration is not taken. Each says where, what and what would do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration {path} can not be read: {source}")]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{path}:{line}: this is not a configuration: {why}; write `key: value` lines")]
    Malformed { path: PathBuf, line: u32, why: String },
    #[error("{origin}: {key}: {value:?} is not possible; it must be {allowed}")]
    BadValue {
        origin: Origin,
        key: &'static str,
        value: String,
        allowed: String,
    },
}

impl ConfigError {
    /// Stable, in kebab case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "config-not-readable",
            Self::Malformed { .. } => "config-malformed",
            Self::BadValue { .. } => "config-bad-value",
        }
    }
}

/// Reads file (or folder), environment and command line. Warnings name keys nobody knows and wishes that stay without
/// effect.
///
/// # Errors
/// [`ConfigError`].
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    given: &Given,
) -> Result<(Config, Vec<Problem>), ConfigError> {
    let mut values = match file {
        Some(path) => read::path(path)?,
        None => BTreeMap::new(),
    };
    let mut warnings = Vec::new();
    let whole_cluster = file.is_some_and(Path::is_dir);
    values.retain(|key, value| {
        let known = keys::known(key);
        if !known {
            let near = keys::nearest(key);
            // A mounted ConfigMap holds every key of the cluster; only what looks like a slip is ours.
            if !whole_cluster || near.is_some() {
                warnings.push(unknown(key, &value.origin, near));
            }
        }
        known
    });
    for (name, text) in environment {
        let Some(key) = name
            .strip_prefix("CILIUM_")
            .map(|k| k.to_lowercase().replace('_', "-"))
        else {
            continue;
        };
        // Other variables of this prefix belong to other programs (CILIUM_SOCK).
        if keys::known(&key) {
            let origin = Origin::Variable(name);
            values.insert(key, Value { text, origin });
        }
    }
    for (key, text) in given {
        let value = Value {
            text: text.clone(),
            origin: Origin::CommandLine(key),
        };
        values.insert((*key).to_owned(), value);
    }
    let config = understand(&values)?;
    for (key, value) in &values {
        if keys::without_effect(key, &value.text) {
            warnings.push(warning(
                &value.origin,
                "config-without-effect",
                format!(
                    "{key}: {} has no effect: this version does not do that",
                    value.text
                ),
            ));
        }
    }
    warnings.sort();
    Ok((config, warnings))
}

fn understand(values: &BTreeMap<String, Value>) -> Result<Config, ConfigError> {
    let read = Reader(values);
    let defaults = Options::default();
    let families = match (read.flag("enable-ipv4", true)?, read.flag("enable-ipv6", true)?) {
        (true, true) => Families::Dual,
        (true, false) => Families::Ipv4Only,
        (false, true) => Families::Ipv6Only,
        (false, false) => {
            return Err(read.bad(
                "enable-ipv6",
                "true when enable-ipv4 is false: one family is needed",
            ));
        }
    };
    let router_id = match read.text("bgp-router-id-allocation-mode") {
        None | Some("" | "default") => RouterIdMode::Default,
        Some("ip-pool") => {
            let pool = read
                .text("bgp-router-id-allocation-ip-pool")
                .and_then(|text| text.parse::<Ipv4Net>().ok())
                .filter(|pool| pool.network() == pool.addr())
                .ok_or_else(|| {
                    read.bad(
                        "bgp-router-id-allocation-ip-pool",
                        "an IPv4 prefix such as 10.42.0.0/24 when bgp-router-id-allocation-mode is ip-pool",
                    )
                })?;
            RouterIdMode::IpPool(pool)
        }
        Some(_) => return Err(read.bad("bgp-router-id-allocation-mode", "default or ip-pool")),
    };
    let lb_ipam = if read.flag("enable-lb-ipam", true)? {
        read.text("default-lb-service-ipam")
            .unwrap_or("lbipam")
            .parse::<LbIpam>()
            .map_err(|_| read.bad("default-lb-service-ipam", "lbipam, nodeipam or none"))?
    } else {
        LbIpam::Off
    };
    Ok(Config {
        bgp: if read.flag("enable-bgp-control-plane", true)? {
            BgpControlPlane::Enabled
        } else {
            BgpControlPlane::Disabled
        },
        options: Options {
            ipam: read.text("ipam").map_or(defaults.ipam, IpamMode::from),
            router_id,
            secrets_namespace: match read.text("bgp-secrets-namespace") {
                None => defaults.secrets_namespace,
                Some("") => None,
                Some(name) => Some(name.to_owned()),
            },
            legacy_origin: if read.flag("enable-bgp-legacy-origin-attribute", false)? {
                LegacyOrigin::Yes
            } else {
                LegacyOrigin::No
            },
            without_endpoints: if read.flag("enable-no-service-endpoints-routable", true)? {
                WithoutEndpoints::Announced
            } else {
                WithoutEndpoints::Withdrawn
            },
            families,
            lb_ipam,
        },
        datapath: datapath::understand(&read, families)?,
        operator: operator::understand(&read)?,
    })
}

struct Reader<'a>(&'a BTreeMap<String, Value>);

impl Reader<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|value| value.text.trim())
    }

    /// The spellings of Go's `strconv.ParseBool`.
    fn flag(&self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.text(key) {
            None | Some("") => Ok(default),
            Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
            Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
            Some(_) => Err(self.bad(key, "true or false")),
        }
    }

    fn bad(&self, key: &'static str, allowed: &str) -> ConfigError {
        let (value, origin) = self.0.get(key).map_or_else(
            || (String::new(), Origin::Unset),
            |value| (value.text.clone(), value.origin.clone()),
        );
        ConfigError::BadValue {
            origin,
            key,
            value,
            allowed: allowed.to_owned(),
        }
    }
}

fn unknown(key: &str, origin: &Origin, near: Option<&str>) -> Problem {
    let hint = near.map_or_else(
        || "it is ignored".to_owned(),
        |near| format!("did you mean {near}? It is ignored"),
    );
    warning(
        origin,
        "config-unknown-key",
        format!("{key} is not a key: {hint}"),
    )
}

fn warning(origin: &Origin, reason: &'static str, message: String) -> Problem {
    match origin {
        Origin::File { path, line } => Problem {
            line: *line,
            ..Problem::in_file(path, Severity::Warning, reason, message)
        },
        Origin::Variable(name) => Problem::here(Severity::Warning, reason, format!("{name}: {message}")),
        Origin::CommandLine(name) => Problem::here(Severity::Warning, reason, format!("--{name}: {message}")),
        Origin::Unset => Problem::here(Severity::Warning, reason, message),
    }
}

#[cfg(test)]
mod tests;
