//! `cilium-dbg` against an agent that says what we want: the bytes it prints, and what it asks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::thread;

use crate::stage::{Printed, run_with};

/// Answers one request; returns what was printed and the request's first line.
fn against(status: &str, body: &str, words: &[&str]) -> (Printed, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cilium.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = BufReader::new(stream.try_clone().unwrap());
        let mut first = String::new();
        request.read_line(&mut first).unwrap();
        let mut line = String::new();
        while request.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        stream.write_all(answer.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        first.trim_end().to_owned()
    });
    let mut all = vec!["cilium-dbg"];
    all.extend(words);
    let printed = run_with(&all, &[("CILIUM_SOCK", path.to_str().unwrap())]);
    (printed, server.join().unwrap())
}

const PEERS: &str = r#"[{"applied-hold-time-seconds":9,"families":[{"advertised":3,"afi":"ipv4","safi":"unicast"},{"advertised":2,"afi":"ipv6","safi":"unicast"}],"graceful-restart":{},"local-asn":65001,"local-capabilities":null,"peer-address":"10.99.0.101","peer-asn":65010,"peer-port":1790,"remote-capabilities":null,"session-state":"established","uptime-nanoseconds":2006000000000}]"#;

#[test]
fn peers_print_the_documented_table() {
    let (printed, request) = against("200 OK", PEERS, &["bgp", "peers"]);
    assert_eq!(request, "GET /v1/bgp/peers HTTP/1.1");
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""));
    assert_eq!(
        printed.stdout,
        "Local AS   Peer AS   Peer Address       Session       Uptime   Family         Received   Advertised\n\
         65001      65010     10.99.0.101:1790   established   33m26s   ipv4/unicast   0          3\n\
         \x20                                                              ipv6/unicast   0          2\n"
    );
}

#[test]
fn json_is_indented_by_two_and_ends_with_an_empty_line() {
    let (printed, _) = against("200 OK", PEERS, &["bgp", "peers", "-o", "json"]);
    assert!(
        printed
            .stdout
            .starts_with("[\n  {\n    \"applied-hold-time-seconds\": 9,\n    \"families\": [\n      {\n")
    );
    assert!(printed.stdout.contains("    \"graceful-restart\": {},\n"));
    assert!(printed.stdout.contains("    \"local-capabilities\": null,\n"));
    assert!(printed.stdout.ends_with("\n  }\n]\n\n"), "{:?}", printed.stdout);
    assert_eq!(printed.stderr, "");
}

#[test]
fn yaml_shows_lower_cased_field_names_and_ends_with_an_empty_line() {
    let (printed, _) = against("200 OK", PEERS, &["bgp", "peers", "-o", "yaml"]);
    assert!(
        printed
            .stdout
            .starts_with("- appliedholdtimeseconds: 9\n  appliedkeepalivetimeseconds: 0\n")
    );
    assert!(
        printed
            .stdout
            .contains("  gracefulrestart:\n    enabled: false\n    restarttimeseconds: 0\n")
    );
    assert!(
        printed.stdout.ends_with("  uptimenanoseconds: 2006000000000\n\n"),
        "{:?}",
        printed.stdout
    );
}

#[test]
fn jsonpath_reads_json_key_names() {
    let words = ["bgp", "peers", "-o", "jsonpath={[0].peer-address}:{[0].missing}"];
    assert_eq!(against("200 OK", PEERS, &words).0.stdout, "10.99.0.101:\n");
}

#[test]
fn other_outputs_are_refused_in_the_known_words() {
    let (printed, _) = against("200 OK", PEERS, &["bgp", "peers", "-o", "xml"]);
    assert_eq!((printed.code, printed.stdout.as_str()), (1, ""));
    assert_eq!(printed.stderr, "Error: couldn't find output printer\n\n");
}

#[test]
fn null_is_an_empty_table() {
    let (printed, _) = against("200 OK", "null", &["bgp", "peers"]);
    assert_eq!(
        printed.stdout,
        "Local AS   Peer AS   Peer Address   Session   Uptime   Family   Received   Advertised\n"
    );
}

#[test]
fn routes_ask_for_what_was_said_and_note_what_was_not() {
    let body = r#"[{"router-asn":65001,"prefix":"10.1.0.0/24","paths":[{"age-nanoseconds":2805000000000,"best":true,"path-attributes":[{"base64":"QAEBAA=="},{"base64":"QAMEAAAAAA=="}]}]}]"#;
    let (printed, request) = against("200 OK", body, &["bgp", "routes"]);
    assert_eq!(
        request,
        "GET /v1/bgp/routes?table_type=loc-rib&afi=ipv4&safi=unicast HTTP/1.1"
    );
    assert_eq!(
        printed.stdout,
        "(Defaulting to `available ipv4 unicast` routes, please see help for more options)\n\n\
         VRouter   Prefix        NextHop   Age      Attrs\n\
         65001     10.1.0.0/24   0.0.0.0   46m45s   [{Origin: i} {Nexthop: 0.0.0.0}]\n"
    );
    let words = [
        "bgp",
        "routes",
        "advertised",
        "ipv6",
        "unicast",
        "vrouter",
        "65001",
        "peer",
        "fd00::1",
    ];
    let (_, request) = against("200 OK", "[]", &words);
    assert_eq!(
        request,
        "GET /v1/bgp/routes?table_type=adj-rib-out&afi=ipv6&safi=unicast&router_asn=65001&neighbor=fd00::1 HTTP/1.1"
    );
    let (json, _) = against("200 OK", "[]", &["bgp", "routes", "-o", "json"]);
    assert_eq!(json.stdout, "[]\n\n");
}

#[test]
fn errors_of_the_agent_are_wrapped_as_the_generated_client_does() {
    let error = r#""failed to get routes: virtual router with ASN 7 does not exist""#;
    let (printed, _) = against("500 Internal Server Error", error, &["bgp", "routes"]);
    assert_eq!((printed.code, printed.stdout.as_str()), (1, ""));
    assert_eq!(
        printed.stderr,
        "Error: [GET /bgp/routes][500] getBgpRoutesInternalServerError \"failed to get routes: virtual router with ASN 7 does not exist\"\n\n"
    );
}

#[test]
fn a_disabled_control_plane_is_said_on_standard_output() {
    for words in [
        &["bgp", "peers"][..],
        &["bgp", "routes"],
        &["bgp", "route-policies"],
    ] {
        let (printed, _) = against("501 Not Implemented", r#""BGP control plane is disabled""#, words);
        assert_eq!(
            (printed.code, printed.stdout.as_str(), printed.stderr.as_str()),
            (0, "BGP Control Plane is disabled\n", "")
        );
    }
}

#[test]
fn bad_arguments_end_with_an_empty_line_and_1() {
    let printed = run_with(&["cilium-dbg", "bgp", "routes", "x"], &[]);
    assert_eq!(printed.code, 1);
    assert_eq!(
        printed.stderr,
        "Error: invalid argument: invalid table type discriminator `x` (should be `available` / `advertised`)\n\n"
    );
}
