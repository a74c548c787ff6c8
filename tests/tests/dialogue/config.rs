//! The configuration of a dialogue.
//!
//! ```text
//! instance main as=65000 id=10.0.0.1 listen=179
//! peer tor address=10.0.0.2 as=65001 hold=90 keepalive=30 retry=120 idle=1 gr=120 families=ipv4,ipv6
//! peer rack address=10.1.0.0/24 limit=2 as=any passive md5=key missing=why ttl=security:1 local=10.0.0.1
//!      interface=eth0 import=none export=none max=100:teardown:30 shutdown="why" reflector-client
//! route 20.0.0.0/24
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use bgp_speaker::config::{
    Auth, Connect, FamilyConfig, GracefulRestart, InstanceConfig, LocalRoute, MaxPrefixes, MaxPrefixesAction,
    PeerAddress, PeerConfig, ReflectorClient, RemoteAsn, SpeakerConfig, Timers, Ttl,
};
use bgp_speaker::policy::{ExportPolicy, ImportPolicy, SetAttrs, Statement, Verdict};
use bgp_speaker::types::{Asn, Family, HoldTime, Name, Prefix, RouterId, Secret};
use bgp_speaker::wire::attrs::{Attrs, NextHop, Origin};

use crate::address;
use crate::words::Words;

pub(crate) fn parse(text: &str) -> anyhow::Result<SpeakerConfig> {
    let mut config = SpeakerConfig::default();
    let mut current: Option<Name> = None;
    for line in text.lines().filter(|l| !l.trim().is_empty()) {
        let words = Words::new(line)?;
        let parsed = (|| {
            if words.first() == "instance" {
                let name: Name = words.at(1)?.into();
                config.instances.insert(name.clone(), instance(&words)?);
                current = Some(name);
                return Ok(());
            }
            let name = current.as_ref().context("no instance yet")?;
            let instance = config.instances.get_mut(name).context("no instance yet")?;
            match words.first() {
                "peer" => {
                    instance.peers.insert(words.at(1)?.into(), peer(&words)?);
                }
                "route" => {
                    let (prefix, route) = route(&words)?;
                    Arc::make_mut(&mut instance.routes).insert(prefix, route);
                }
                other => bail!("{other} is neither instance nor peer nor route"),
            }
            Ok(())
        })();
        parsed.with_context(|| format!("config: {line}"))?;
    }
    Ok(config)
}

fn instance(words: &Words) -> anyhow::Result<InstanceConfig> {
    Ok(InstanceConfig {
        asn: Asn::new(words.need("as")?.parse()?)?,
        router_id: RouterId::new(words.need("id")?.parse()?)?,
        listen: words.get("listen").map(str::parse).transpose()?,
        peers: BTreeMap::new(),
        routes: Arc::default(),
        maximum_paths: 1,
    })
}

fn peer(words: &Words) -> anyhow::Result<PeerConfig> {
    let seconds = |key, default| -> anyhow::Result<Duration> {
        let seconds = words.get(key).map(str::parse).transpose()?;
        Ok(Duration::from_secs(seconds.unwrap_or(default)))
    };
    let wanted = words.need("address")?;
    let address = if wanted.contains('/') {
        PeerAddress::Prefix {
            prefix: prefix(wanted)?,
            limit: words.need("limit")?.parse()?,
        }
    } else {
        PeerAddress::One(address(wanted)?)
    };
    let family = FamilyConfig {
        export: Arc::new(ExportPolicy {
            statements: statements(words.get("export")),
        }),
        import: Arc::new(ImportPolicy {
            statements: statements(words.get("import")),
        }),
        max_prefixes: words.get("max").map(max_prefixes).transpose()?,
    };
    let families = words.get("families").unwrap_or("ipv4").split(',');
    Ok(PeerConfig {
        address,
        port: words.get("port").map(str::parse).transpose()?.unwrap_or(179),
        remote_asn: match words.need("as")? {
            "any" => RemoteAsn::Any,
            number => RemoteAsn::Is(Asn::new(number.parse()?)?),
        },
        local_address: words.get("local").map(crate::address).transpose()?,
        interface: words.get("interface").map(Name::from),
        connect: if words.has("passive") {
            Connect::Passive
        } else {
            Connect::ActiveAndPassive
        },
        auth: match (words.get("md5"), words.get("missing")) {
            (Some(key), _) => Auth::Md5(Secret::new(key.as_bytes())?),
            (None, Some(reason)) => Auth::Missing {
                reason: reason.into(),
            },
            (None, None) => Auth::None,
        },
        ttl: match words.get("ttl").map(|t| t.split_once(':')) {
            None => Ttl::Direct,
            Some(Some(("security", hops))) => Ttl::Security { hops: hops.parse()? },
            Some(Some(("multihop", hops))) => Ttl::Multihop(hops.parse()?),
            Some(other) => bail!("{other:?} is no TTL"),
        },
        timers: Timers {
            connect_retry: seconds("retry", 120)?,
            hold: HoldTime::new(words.get("hold").unwrap_or("90").parse()?)?,
            keepalive: seconds("keepalive", 30)?,
            idle_hold: seconds("idle", 1)?,
        },
        graceful_restart: words
            .get("gr")
            .map(|time| {
                anyhow::Ok(GracefulRestart {
                    restart_time: time.parse()?,
                })
            })
            .transpose()?,
        families: families
            .map(|name| Ok((self::family(name)?, family.clone())))
            .collect::<anyhow::Result<_>>()?,
        shutdown: words.get("shutdown").map(Name::from),
        reflector_client: if words.has("reflector-client") {
            ReflectorClient::Yes
        } else {
            ReflectorClient::No
        },
    })
}

fn route(words: &Words) -> anyhow::Result<(Prefix, LocalRoute)> {
    let prefix = prefix(words.at(1)?)?;
    let unspecified = match prefix {
        Prefix::V4 { .. } => address("0.0.0.0")?,
        Prefix::V6 { .. } => address("::")?,
    };
    let attrs = Arc::new(Attrs::originated(Origin::Igp, NextHop::Ip(unspecified)));
    Ok((prefix, LocalRoute { attrs }))
}

/// `10:warn`, `10:refuse`, `10:teardown` (for good) or `10:teardown:30` (seconds).
fn max_prefixes(text: &str) -> anyhow::Result<MaxPrefixes> {
    let mut parts = text.split(':');
    let limit = parts.next().unwrap_or_default().parse()?;
    let action = match (parts.next(), parts.next()) {
        (Some("warn"), None) => MaxPrefixesAction::Warn,
        (Some("refuse"), None) => MaxPrefixesAction::Refuse,
        (Some("teardown"), None) => MaxPrefixesAction::Teardown { restart: None },
        (Some("teardown"), Some(seconds)) => MaxPrefixesAction::Teardown {
            restart: Some(Duration::from_secs(seconds.parse()?)),
        },
        _ => bail!("{text} is no limit"),
    };
    Ok(MaxPrefixes {
        limit,
        warning_percent: 75,
        action,
    })
}

/// `none`, or everything.
fn statements(policy: Option<&str>) -> Vec<Statement> {
    match policy {
        Some("none") => Vec::new(),
        Some(_) | None => vec![Statement {
            policy: "all".into(),
            prefixes: Vec::new(),
            verdict: Verdict::Accept(SetAttrs::default()),
        }],
    }
}

pub(crate) fn family(name: &str) -> anyhow::Result<Family> {
    Ok(match name {
        "ipv4" => Family::IPV4_UNICAST,
        "ipv6" => Family::IPV6_UNICAST,
        other => bail!("{other} is no family"),
    })
}

pub(crate) fn prefix(text: &str) -> anyhow::Result<Prefix> {
    let (net, len) = text
        .split_once('/')
        .with_context(|| format!("{text} is no prefix"))?;
    Ok(Prefix::new(address(net)?, len.parse()?)?)
}
