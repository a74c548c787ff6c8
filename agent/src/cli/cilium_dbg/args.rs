//! The words after `cilium-dbg`, with the texts of the imitated tool when they make no sense.

use std::net::IpAddr;

use super::tables::PeerColumn;

/// What to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Peers(PeersView),
    Routes(RoutesQuery),
    RoutePolicies { asn: Option<u32> },
    Help(&'static str),
    Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeersView {
    Sessions,
    Capabilities,
}

/// `-o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    Text,
    Json,
    Yaml,
    JsonPath(String),
    /// Not known: refused when it is time to print, as the imitated tool does.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutesQuery {
    pub table: &'static str,
    pub afi: String,
    pub safi: String,
    pub asn: Option<u32>,
    pub peer: Option<IpAddr>,
    /// Which words were left out, said on standard output.
    pub note: Option<&'static str>,
}

impl RoutesQuery {
    #[must_use]
    pub fn peer_column(&self) -> PeerColumn {
        if self.table == "adj-rib-out" && self.peer.is_none() {
            PeerColumn::Shown
        } else {
            PeerColumn::Hidden
        }
    }
}

/// A whole command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    pub command: Command,
    pub output: Output,
    /// `-H`.
    pub host: Option<String>,
}

/// The text behind `Error: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArgumentError(pub String);

const USAGE: &str = "\
Access to the BGP control plane, as cilium-dbg gives it

Usage:
  cilium-dbg bgp peers [-c|--capabilities]
  cilium-dbg bgp routes <available | advertised> <afi> <safi> [vrouter <asn>] [peer|neighbor <address>]
  cilium-dbg bgp route-policies [vrouter <asn>]
  cilium-dbg version

Flags:
  -c, --capabilities    Show the capabilities of each peer (bgp peers)
  -H, --host string     URI of the agent's API (default: $CILIUM_SOCK)
  -o, --output string   json| yaml| jsonpath='{...}'
  -h, --help            This text
";

/// Takes the words apart. Flags may stand anywhere.
///
/// # Errors
/// [`ArgumentError`] with the text to print.
pub fn parse(words: &[String]) -> Result<Invocation, ArgumentError> {
    let mut flags = Flags::default();
    let words = flags.take(words)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let command = match words.as_slice() {
        _ if flags.help => Command::Help(USAGE),
        [] | ["bgp"] | ["help", ..] => Command::Help(USAGE),
        ["version", ..] => Command::Version,
        ["bgp", "peers" | "neighbors", ..] => Command::Peers(if flags.capabilities {
            PeersView::Capabilities
        } else {
            PeersView::Sessions
        }),
        ["bgp", "routes", rest @ ..] => Command::Routes(routes(rest)?),
        ["bgp", "route-policies" | "rps", rest @ ..] => Command::RoutePolicies { asn: vrouter(rest)? },
        ["bgp", other, ..] => {
            return Err(ArgumentError(format!(
                "unknown command {other:?} for \"cilium-dbg bgp\"\n"
            )));
        }
        [other, ..] => {
            return Err(ArgumentError(format!(
                "unknown command {other:?} for \"cilium-dbg\"\n"
            )));
        }
    };
    Ok(Invocation {
        command,
        output: flags.output,
        host: flags.host,
    })
}

struct Flags {
    output: Output,
    host: Option<String>,
    capabilities: bool,
    help: bool,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            output: Output::Text,
            host: None,
            capabilities: false,
            help: false,
        }
    }
}

impl Flags {
    /// Returns what is no flag.
    fn take(&mut self, words: &[String]) -> Result<Vec<String>, ArgumentError> {
        let mut rest = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (flag, inline) = match word.split_once('=') {
                Some((flag, value)) if word.starts_with('-') => (flag, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let mut value = |flag: &str| {
                inline
                    .clone()
                    .or_else(|| words.next().cloned())
                    .ok_or_else(|| ArgumentError(format!("flag needs an argument: {flag}\n")))
            };
            match flag {
                "-c" | "--capabilities" => self.capabilities = true,
                "-h" | "--help" => self.help = true,
                "-D" | "--debug" => {}
                "-o" | "--output" => self.output = output(&value(flag)?),
                "-H" | "--host" => self.host = Some(value(flag)?),
                _ if flag.starts_with("-o") && flag.len() > 2 => {
                    self.output = output(word.get(2..).unwrap_or_default().trim_start_matches('='));
                }
                _ if flag.starts_with('-') && flag.len() > 1 => {
                    return Err(ArgumentError(format!("unknown flag: {flag}\n")));
                }
                _ => rest.push(word.clone()),
            }
        }
        Ok(rest)
    }
}

fn output(text: &str) -> Output {
    match text {
        "" => Output::Text,
        "json" => Output::Json,
        "yaml" => Output::Yaml,
        other => other
            .strip_prefix("jsonpath=")
            .map_or(Output::Unknown, |template| {
                Output::JsonPath(template.trim_matches('\'').to_owned())
            }),
    }
}

fn routes(words: &[&str]) -> Result<RoutesQuery, ArgumentError> {
    let invalid = |text: String| ArgumentError(format!("invalid argument: {text}\n"));
    let note = match words.len() {
        0 => Some("(Defaulting to `available ipv4 unicast` routes, please see help for more options)"),
        1 => Some("(Defaulting to `ipv4 unicast` AFI & SAFI, please see help for more options)"),
        2 => Some("(Defaulting to `unicast` SAFI, please see help for more options)"),
        _ => None,
    };
    let table = match words.first().copied().unwrap_or("available") {
        "available" => "loc-rib",
        "advertised" => "adj-rib-out",
        other => {
            return Err(invalid(format!(
                "invalid table type discriminator `{other}` (should be `available` / `advertised`)"
            )));
        }
    };
    let afi = words.get(1).copied().unwrap_or("ipv4");
    if !matches!(afi, "ipv4" | "ipv6" | "l2vpn" | "ls" | "opaque") {
        return Err(invalid(format!("unknown AFI {afi}")));
    }
    let safi = words.get(2).copied().unwrap_or("unicast");
    if !SAFIS.contains(&safi) {
        return Err(invalid(format!("unknown SAFI {safi}")));
    }
    let mut rest = words.get(3..).unwrap_or_default();
    let mut asn = None;
    if let ["vrouter", after @ ..] = rest {
        asn = Some(vrouter_asn(after)?);
        rest = after.get(1..).unwrap_or_default();
    }
    let peer = match (table, rest) {
        ("loc-rib", _) | (_, []) => None,
        (_, ["peer" | "neighbor", after @ ..]) => Some(peer_address(after)?),
        (_, _) => {
            return Err(ArgumentError(
                "failed to parse peer address: missing `peer` parameter\n".to_owned(),
            ));
        }
    };
    Ok(RoutesQuery {
        table,
        afi: afi.to_owned(),
        safi: safi.to_owned(),
        asn,
        peer,
        note,
    })
}

const SAFIS: &[&str] = &[
    "unicast",
    "multicast",
    "mpls_label",
    "encapsulation",
    "vpls",
    "evpn",
    "ls",
    "sr_policy",
    "mup",
    "mpls_vpn",
    "mpls_vpn_multicast",
    "route_target_constraints",
    "flowspec_unicast",
    "flowspec_vpn",
    "key_value",
];

fn vrouter(words: &[&str]) -> Result<Option<u32>, ArgumentError> {
    match words {
        [] => Ok(None),
        ["vrouter", after @ ..] => vrouter_asn(after).map(Some),
        _ => Err(ArgumentError(
            "failed to parse vrouter ASN: missing `vrouter` parameter\n".to_owned(),
        )),
    }
}

fn vrouter_asn(words: &[&str]) -> Result<u32, ArgumentError> {
    let failed = |text: String| ArgumentError(format!("failed to parse vrouter ASN: {text}\n"));
    let Some(word) = words.first() else {
        return Err(failed("missing vrouter ASN value".to_owned()));
    };
    word.parse().map_err(|_| {
        let why = if !word.is_empty() && word.chars().all(|c| c.is_ascii_digit()) {
            "value out of range"
        } else {
            "invalid syntax"
        };
        failed(format!(
            "invalid vrouter ASN: strconv.ParseInt: parsing {word:?}: {why}"
        ))
    })
}

fn peer_address(words: &[&str]) -> Result<IpAddr, ArgumentError> {
    let failed = |text: String| ArgumentError(format!("failed to parse peer address: {text}\n"));
    let Some(word) = words.first() else {
        return Err(failed("missing peer IP address".to_owned()));
    };
    word.parse().map_err(|_| {
        failed(format!(
            "invalid peer IP address: ParseAddr({word:?}): unable to parse IP"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn query(line: &str) -> RoutesQuery {
        match parse(&words(line)).unwrap().command {
            Command::Routes(query) => query,
            other => panic!("{other:?}"),
        }
    }

    fn error(line: &str) -> String {
        parse(&words(line)).unwrap_err().0
    }

    #[test]
    fn missing_words_default_with_a_note() {
        let none = query("bgp routes");
        assert_eq!(
            (none.table, none.afi.as_str(), none.safi.as_str()),
            ("loc-rib", "ipv4", "unicast")
        );
        assert_eq!(
            none.note,
            Some("(Defaulting to `available ipv4 unicast` routes, please see help for more options)")
        );
        assert_eq!(
            query("bgp routes advertised").note,
            Some("(Defaulting to `ipv4 unicast` AFI & SAFI, please see help for more options)")
        );
        assert_eq!(
            query("bgp routes advertised ipv6").note,
            Some("(Defaulting to `unicast` SAFI, please see help for more options)")
        );
        assert_eq!(query("bgp routes advertised ipv6 unicast").note, None);
    }

    #[test]
    fn vrouter_and_peer_narrow_the_query() {
        let both = query("bgp routes advertised ipv4 unicast vrouter 65001 peer 10.0.0.1");
        assert_eq!(
            (both.asn, both.peer),
            (Some(65001), Some("10.0.0.1".parse().unwrap()))
        );
        assert_eq!(both.peer_column(), PeerColumn::Hidden);
        assert_eq!(
            query("bgp routes advertised ipv4 unicast").peer_column(),
            PeerColumn::Shown
        );
        assert_eq!(
            query("bgp routes available ipv4 unicast").peer_column(),
            PeerColumn::Hidden
        );
        assert_eq!(
            query("bgp routes advertised ipv4 unicast neighbor fd00::1").peer,
            Some("fd00::1".parse().unwrap())
        );
        assert_eq!(
            query("bgp routes available ipv4 unicast vrouter 1 and more").asn,
            Some(1)
        );
    }

    #[test]
    fn every_refusal_has_the_imitated_text() {
        for (line, text) in [
            (
                "bgp routes x",
                "invalid argument: invalid table type discriminator `x` (should be `available` / `advertised`)\n",
            ),
            ("bgp routes available x", "invalid argument: unknown AFI x\n"),
            (
                "bgp routes available ipv4 x",
                "invalid argument: unknown SAFI x\n",
            ),
            (
                "bgp routes available ipv4 unicast vrouter",
                "failed to parse vrouter ASN: missing vrouter ASN value\n",
            ),
            (
                "bgp routes available ipv4 unicast vrouter abc",
                "failed to parse vrouter ASN: invalid vrouter ASN: strconv.ParseInt: parsing \"abc\": invalid syntax\n",
            ),
            (
                "bgp routes advertised ipv4 unicast x",
                "failed to parse peer address: missing `peer` parameter\n",
            ),
            (
                "bgp routes advertised ipv4 unicast peer",
                "failed to parse peer address: missing peer IP address\n",
            ),
            (
                "bgp routes advertised ipv4 unicast peer x",
                "failed to parse peer address: invalid peer IP address: ParseAddr(\"x\"): unable to parse IP\n",
            ),
            (
                "bgp route-policies x",
                "failed to parse vrouter ASN: missing `vrouter` parameter\n",
            ),
            (
                "bgp rps vrouter",
                "failed to parse vrouter ASN: missing vrouter ASN value\n",
            ),
            ("bgp x", "unknown command \"x\" for \"cilium-dbg bgp\"\n"),
            ("bgp peers --nope", "unknown flag: --nope\n"),
            ("bgp peers -o", "flag needs an argument: -o\n"),
        ] {
            assert_eq!(error(line), text, "{line}");
        }
    }

    #[test]
    fn flags_stand_anywhere_in_any_spelling() {
        for line in [
            "bgp peers -o json",
            "-o=json bgp peers",
            "bgp --output json neighbors",
            "bgp peers -ojson",
        ] {
            let invocation = parse(&words(line)).unwrap();
            assert_eq!(invocation.output, Output::Json, "{line}");
            assert_eq!(invocation.command, Command::Peers(PeersView::Sessions), "{line}");
        }
        let path = parse(&words(
            "bgp peers -c -o jsonpath={[0].local-asn} -H unix:///run/x.sock",
        ))
        .unwrap();
        assert_eq!(path.output, Output::JsonPath("{[0].local-asn}".into()));
        assert_eq!(path.command, Command::Peers(PeersView::Capabilities));
        assert_eq!(path.host.as_deref(), Some("unix:///run/x.sock"));
    }
}
