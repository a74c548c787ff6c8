//! The text form of a selector, as `kubectl -l` takes it: `a=b,c!=d,e in (f,g),h,!i`. [`LabelSelector`]'s `Display` writes
//! it too.

use std::str::FromStr;

use super::{LabelSelector, Operator, Requirement, key_error, value_error};

/// The text is no selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a label selector; write it as for kubectl -l: a=b,c!=d,e in (f,g),h,!i")]
pub struct NotASelector {
    pub text: String,
}

impl FromStr for LabelSelector {
    type Err = NotASelector;

    /// An empty text is the empty selector.
    fn from_str(text: &str) -> Result<Self, NotASelector> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let requirements: Option<_> = split(text).map(|part| requirement(part.trim())).collect();
        Ok(Self {
            match_expressions: requirements.ok_or_else(|| NotASelector {
                text: text.to_owned(),
            })?,
            ..Self::default()
        })
    }
}

/// At commas that are not within parentheses.
fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_i32;
    text.split(move |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    })
}

fn requirement(part: &str) -> Option<Requirement> {
    if let Some(key) = part.strip_prefix('!') {
        return on(key, Operator::DoesNotExist, Vec::new());
    }
    if let Some((head, list)) = part.split_once('(') {
        let values: Option<_> = list.strip_suffix(')')?.split(',').map(value).collect();
        let (key, word) = head.trim().rsplit_once(char::is_whitespace)?;
        let operator = match word {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            _ => return None,
        };
        return on(key, operator, values?);
    }
    if let Some((key, one)) = part.split_once("!=") {
        return on(key, Operator::NotIn, vec![value(one)?]);
    }
    if let Some((key, one)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return on(key, Operator::In, vec![value(one)?]);
    }
    on(part, Operator::Exists, Vec::new())
}

fn on(key: &str, operator: Operator, values: Vec<String>) -> Option<Requirement> {
    let key = key.trim();
    key_error(key).is_none().then(|| Requirement {
        key: key.to_owned(),
        operator,
        values,
    })
}

fn value(text: &str) -> Option<String> {
    let text = text.trim();
    value_error(text).is_none().then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_selector_is_read_as_kubectl_reads_it() {
        let labels = [("rack", "r1"), ("zone", "a")];
        let labels: BTreeMap<_, _> = labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        for (text, expected) in [
            ("rack=r1", true),
            ("rack==r1,zone=a", true),
            ("rack=r2", false),
            ("rack!=r2,other!=x", true),
            ("rack in (r1, r2),zone notin (b,c)", true),
            ("rack in (r2)", false),
            ("rack,!other", true),
            ("!rack", false),
            ("", true),
        ] {
            let selector: LabelSelector = text.parse().unwrap();
            assert_eq!(selector.matches(&labels), expected, "{text}");
            assert_eq!(selector.errors(), [], "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_its_text() {
        for bad in ["rack in r1", "=r1", "rack within (a)", "a b", "rack=(x", ","] {
            let refused = bad.parse::<LabelSelector>().unwrap_err();
            assert_eq!(refused.text, bad);
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["a in (b)", "a notin (b,c),d,!e", ""] {
            let selector: LabelSelector = text.parse().unwrap();
            assert_eq!(selector.to_string(), text);
        }
    }
}
