//! JSON values as YAML, laid out as Go's `yaml.v3` does it (four spaces, sequences indented).

use serde_json::Value;

/// The document, ending in a line feed.
#[must_use]
pub fn text(value: &Value) -> String {
    let mut out = String::new();
    node(value, 0, Place::Top, &mut out);
    out
}

/// Where a node stands: it decides about the line feed before it and the indent of its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    AfterKey,
    AfterDash,
}

fn node(value: &Value, indent: usize, place: Place, out: &mut String) {
    match value {
        Value::Array(items) if !items.is_empty() => {
            let indent = begin(indent, place, out);
            for (n, item) in items.iter().enumerate() {
                if n > 0 || place != Place::AfterDash {
                    pad(indent, out);
                }
                out.push_str("- ");
                node(item, indent, Place::AfterDash, out);
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            let indent = begin(indent, place, out);
            for (n, (key, item)) in fields.iter().enumerate() {
                if n > 0 || place != Place::AfterDash {
                    pad(indent, out);
                }
                out.push_str(&scalar(key));
                out.push(':');
                node(item, indent, Place::AfterKey, out);
            }
        }
        Value::Array(_) => flat("[]", place, out),
        Value::Object(_) => flat("{}", place, out),
        Value::Null => flat("null", place, out),
        Value::Bool(true) => flat("true", place, out),
        Value::Bool(false) => flat("false", place, out),
        Value::Number(number) => flat(&number.to_string(), place, out),
        Value::String(text) => flat(&scalar(text), place, out),
    }
}

/// Starts a block and returns its indent: two more right behind a dash, else the next multiple of four.
fn begin(indent: usize, place: Place, out: &mut String) -> usize {
    match place {
        Place::Top => 0,
        Place::AfterDash => indent + 2,
        Place::AfterKey => {
            out.push('\n');
            4 * ((indent + 4) / 4)
        }
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn flat(text: &str, place: Place, out: &mut String) {
    if place == Place::AfterKey {
        out.push(' ');
    }
    out.push_str(text);
    out.push('\n');
}

/// Plain where a reader takes it for the same text, quoted otherwise.
fn scalar(text: &str) -> String {
    if text.is_empty() || reads_as_another_type(text) || text.chars().any(char::is_control) {
        // JSON's escapes are YAML's.
        Value::from(text).to_string()
    } else if breaks_plain(text) {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        text.to_owned()
    }
}

fn reads_as_another_type(text: &str) -> bool {
    const WORDS: &[&str] = &[
        "~", "null", "true", "false", "y", "n", "yes", "no", "on", "off", "<<", "nan", ".nan", ".inf",
        "-.inf", "+.inf",
    ];
    let lower = text.to_ascii_lowercase();
    WORDS.contains(&lower.as_str())
        || text.replace('_', "").parse::<f64>().is_ok()
        || ["0x", "0o", "0b"].iter().any(|radix| lower.starts_with(radix))
        || is_date(text)
        || is_base_60(text)
}

/// `2026-11-21...` reads as a timestamp.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let digits = |part: Option<&str>, length: usize| {
        part.is_some_and(|p| p.len() >= length && p.chars().take(length).all(|c| c.is_ascii_digit()))
    };
    digits(parts.next(), 4) && digits(parts.next(), 1) && digits(parts.next(), 1)
}

/// YAML 1.1 read `65000:10` as a number of base 60.
fn is_base_60(text: &str) -> bool {
    let mut parts = text.split(':');
    let head = parts.next().unwrap_or_default().trim_start_matches(['-', '+']);
    let mut rest = parts.peekable();
    !head.is_empty()
        && head.chars().all(|c| c.is_ascii_digit() || c == '_')
        && rest.peek().is_some()
        && rest.all(|part| {
            let part = part.split('.').next().unwrap_or_default();
            matches!(part.len(), 1 | 2)
                && part.chars().all(|c| c.is_ascii_digit())
                && part.parse::<u8>().is_ok_and(|n| n < 60)
        })
}

fn breaks_plain(text: &str) -> bool {
    text.starts_with([
        '#', ',', '[', ']', '{', '}', '&', '*', '!', '|', '>', '\'', '"', '%', '@', '`', ' ',
    ]) || text.ends_with([' ', ':'])
        || text.starts_with("- ")
        || text.starts_with("? ")
        || text == "-"
        || text.starts_with("---")
        || text.starts_with("...")
        || text.contains(": ")
        || text.contains(" #")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_blocks_are_indented_as_go_does_it() {
        let value = json!([
            {"a": 1, "list": [{"x": "ipv4", "deep": [{"z": 2}]}, "plain"], "none": [], "nil": null, "map": {"k": "v"}},
            {"a": 2}
        ]);
        assert_eq!(
            text(&value),
            "- a: 1\n  list:\n    - deep:\n        - z: 2\n      x: ipv4\n    - plain\n  map:\n    k: v\n  nil: null\n  none: []\n- a: 2\n"
                .to_owned()
        );
    }

    #[test]
    fn text_that_reads_as_something_else_is_quoted() {
        for (value, expected) in [
            ("", "\"\""),
            ("true", "\"true\""),
            ("65000:10", "\"65000:10\""),
            ("65000:99", "65000:99"),
            ("12", "\"12\""),
            ("1e3", "\"1e3\""),
            ("2026-11-21T00:00:00Z", "\"2026-11-21T00:00:00Z\""),
            ("fd00::1", "fd00::1"),
            ("10.1.0.0/24", "10.1.0.0/24"),
            ("a: b", "'a: b'"),
            ("it's", "it's"),
            ("'q'", "'''q'''"),
            ("line\nfeed", "\"line\\nfeed\""),
            ("gAQACgAAAQ==", "gAQACgAAAQ=="),
        ] {
            assert_eq!(scalar(value), expected);
        }
    }
}
