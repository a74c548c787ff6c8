//! The models as Go's YAML printer shows them: every field, named as the Go field in lower case.
//!
//! JSON leaves zero values out; that printer knows nothing of the JSON names and leaves nothing out.

use serde_json::{Map, Value};

/// The fields of a model and the zero value of each.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Number,
    Text,
    Flag,
    List(&'static Shape),
    Object(&'static [(&'static str, Shape)]),
    /// `null` when absent.
    Pointer(&'static Shape),
}

use Shape::{Flag, List, Number, Object, Pointer, Text};

pub(super) static PEERS: Shape = List(&Object(&[
    ("applied-hold-time-seconds", Number),
    ("applied-keep-alive-time-seconds", Number),
    ("configured-hold-time-seconds", Number),
    ("configured-keep-alive-time-seconds", Number),
    ("connect-retry-time-seconds", Number),
    ("ebgp-multihop-ttl", Number),
    (
        "families",
        List(&Object(&[
            ("accepted", Number),
            ("advertised", Number),
            ("afi", Text),
            ("received", Number),
            ("safi", Text),
        ])),
    ),
    (
        "graceful-restart",
        Pointer(&Object(&[("enabled", Flag), ("restart-time-seconds", Number)])),
    ),
    ("local-asn", Number),
    ("local-capabilities", List(&Object(&[("capabilities", Text)]))),
    ("peer-address", Text),
    ("peer-asn", Number),
    ("peer-port", Number),
    ("remote-capabilities", List(&Object(&[("capabilities", Text)]))),
    ("session-state", Text),
    ("tcp-password-enabled", Flag),
    ("uptime-nanoseconds", Number),
]));

static FAMILY: Shape = Object(&[("afi", Text), ("safi", Text)]);
static BASE64: Shape = Object(&[("base64", Text)]);

pub(super) static ROUTES: Shape = List(&Object(&[
    ("neighbor", Text),
    (
        "paths",
        List(&Object(&[
            ("age-nanoseconds", Number),
            ("best", Flag),
            ("family", Pointer(&FAMILY)),
            ("nlri", Pointer(&BASE64)),
            ("path-attributes", List(&BASE64)),
            ("stale", Flag),
        ])),
    ),
    ("prefix", Text),
    ("router-asn", Number),
]));

pub(super) static POLICIES: Shape = List(&Object(&[
    ("name", Text),
    ("router-asn", Number),
    (
        "statements",
        List(&Object(&[
            ("add-communities", List(&Text)),
            ("add-large-communities", List(&Text)),
            ("match-families", List(&FAMILY)),
            ("match-neighbors", List(&Text)),
            (
                "match-prefixes",
                List(&Object(&[
                    ("cidr", Text),
                    ("prefix-len-max", Number),
                    ("prefix-len-min", Number),
                ])),
            ),
            (
                "nexthop",
                Pointer(&Object(&[("self", Flag), ("unchanged", Flag)])),
            ),
            ("route-action", Text),
            ("set-local-preference", Number),
        ])),
    ),
    ("type", Text),
]));

/// Fills in what JSON left out and renames the keys.
pub(super) fn complete(value: &Value, shape: &Shape) -> Value {
    match (shape, value) {
        (Pointer(_), Value::Null) => Value::Null,
        (Pointer(inner), value) => complete(value, inner),
        (List(inner), Value::Array(items)) => items.iter().map(|item| complete(item, inner)).collect(),
        (List(_), _) => Value::Array(Vec::new()),
        (Object(fields), value) => {
            let field = |(key, shape): &(&str, Shape)| {
                (
                    key.replace('-', ""),
                    complete(value.get(key).unwrap_or(&Value::Null), shape),
                )
            };
            fields.iter().map(field).collect::<Map<_, _>>().into()
        }
        (Number, Value::Null) => 0.into(),
        (Text, Value::Null) => "".into(),
        (Flag, Value::Null) => false.into(),
        (Number | Text | Flag, value) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::render::yaml;

    #[test]
    fn yaml_shows_every_field_under_its_go_name() {
        let value = json!([{"local-asn": 65001, "peer-address": "fd00::1", "families": [{"afi": "ipv4", "advertised": 2}], "graceful-restart": {}}]);
        assert_eq!(
            yaml::text(&complete(&value, &PEERS)),
            "- appliedholdtimeseconds: 0\n  \
               appliedkeepalivetimeseconds: 0\n  \
               configuredholdtimeseconds: 0\n  \
               configuredkeepalivetimeseconds: 0\n  \
               connectretrytimeseconds: 0\n  \
               ebgpmultihopttl: 0\n  \
               families:\n    \
                 - accepted: 0\n      \
                   advertised: 2\n      \
                   afi: ipv4\n      \
                   received: 0\n      \
                   safi: \"\"\n  \
               gracefulrestart:\n    \
                 enabled: false\n    \
                 restarttimeseconds: 0\n  \
               localasn: 65001\n  \
               localcapabilities: []\n  \
               peeraddress: fd00::1\n  \
               peerasn: 0\n  \
               peerport: 0\n  \
               remotecapabilities: []\n  \
               sessionstate: \"\"\n  \
               tcppasswordenabled: false\n  \
               uptimenanoseconds: 0\n"
        );
    }
}
