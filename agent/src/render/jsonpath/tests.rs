use serde_json::json;

use super::*;

fn peers() -> Value {
    json!([
        {"peer-address": "10.0.0.1", "local-asn": 65001, "session-state": "established",
         "families": [{"afi": "ipv4", "advertised": 3}, {"afi": "ipv6"}]},
        {"peer-address": "10.0.0.2", "local-asn": 65001, "session-state": "active", "families": null}
    ])
}

#[test]
fn templates_yield_what_kubectl_would_print() {
    for (template, expected) in [
        ("{[0].peer-address}", "10.0.0.1"),
        ("{.[0].peer-address}", "10.0.0.1"),
        ("{$[1].peer-address}", "10.0.0.2"),
        ("{[-1:].peer-address}", "10.0.0.2"),
        ("{[-1].peer-address}", "10.0.0.2"),
        ("{[*].peer-address}", "10.0.0.1 10.0.0.2"),
        ("{.[*]['session-state']}", "established active"),
        ("{[0]['local-asn','session-state']}", "65001 established"),
        ("{..afi}", "ipv4 ipv6"),
        ("{[0].families[0]}", r#"{"advertised":3,"afi":"ipv4"}"#),
        ("{[0].missing}", ""),
        ("{[7].peer-address}", ""),
        ("n={[0].local-asn}!", "n=65001!"),
        (
            "{range [*]}{.peer-address}{\"\\t\"}{.session-state}{\"\\n\"}{end}",
            "10.0.0.1\testablished\n10.0.0.2\tactive\n",
        ),
        ("{[?(@.session-state==\"active\")].peer-address}", "10.0.0.2"),
        ("{[?(@.session-state != 'active')].peer-address}", "10.0.0.1"),
        ("{[0].families[?(@.advertised>2)].afi}", "ipv4"),
        ("{[0].families[?(@.advertised)].afi}", "ipv4"),
        (
            "{range [*]}{range .families[*]}{.afi} {end};{end}",
            "ipv4 ipv6 ;;",
        ),
        ("plain", "plain"),
    ] {
        assert_eq!(fill(template, &peers()).as_deref(), Ok(expected), "{template}");
    }
}

#[test]
fn a_template_that_does_not_parse_says_why() {
    assert_eq!(fill("{[0]", &peers()), Err(TemplateError::Unclosed));
    assert_eq!(fill("{end}", &peers()), Err(TemplateError::EndWithoutRange));
    assert_eq!(
        fill("{range [*]}{.x}", &peers()),
        Err(TemplateError::RangeWithoutEnd)
    );
    assert_eq!(fill("{[x]}", &peers()), Err(TemplateError::Index("x".into())));
    assert_eq!(
        fill("{[?(@.a ~ 1)]}", &peers()),
        Err(TemplateError::Filter("@.a ~ 1".into()))
    );
}
