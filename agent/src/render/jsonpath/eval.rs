//! Nodes and a value into text.

use serde_json::Value;

use super::{Filter, Node, Operand, Operator, Step};

pub(super) fn nodes(nodes: &[Node], root: &Value, at: &Value, out: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Path(steps) => {
                let texts: Vec<String> = walk(steps, root, at).into_iter().map(text).collect();
                out.push_str(&texts.join(" "));
            }
            Node::Range(steps, body) => {
                for item in walk(steps, root, at) {
                    self::nodes(body, root, item, out);
                }
            }
        }
    }
}

/// Text bare, everything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn walk<'a>(steps: &[Step], root: &'a Value, at: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![at];
    for step in steps {
        found = found
            .into_iter()
            .flat_map(|value| take(step, root, value))
            .collect();
    }
    found
}

fn take<'a>(step: &Step, root: &'a Value, value: &'a Value) -> Vec<&'a Value> {
    match step {
        Step::Root => vec![root],
        Step::Field(name) => value.get(name.as_str()).into_iter().collect(),
        Step::Index(index) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            items.get(position(*index, items.len())).into_iter().collect()
        }
        Step::Slice { from, to, step } => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let from = from.map_or(0, |n| position(n, items.len()));
            let to = to
                .map_or(items.len(), |n| position(n, items.len()))
                .min(items.len());
            let step = usize::try_from(*step).unwrap_or(1).max(1);
            items
                .get(from..to)
                .unwrap_or_default()
                .iter()
                .step_by(step)
                .collect()
        }
        Step::Wildcard => children(value),
        Step::Recursive => {
            let mut all = vec![value];
            for child in children(value) {
                all.extend(take(&Step::Recursive, root, child));
            }
            all
        }
        Step::Union(steps) => steps.iter().flat_map(|step| take(step, root, value)).collect(),
        Step::Filter(filter) => children(value)
            .into_iter()
            .filter(|item| passes(filter, root, item))
            .collect(),
    }
}

/// A negative index counts from the end; out of range is past the end.
fn position(index: i64, length: usize) -> usize {
    let from_end = || {
        usize::try_from(index.unsigned_abs())
            .ok()
            .and_then(|back| length.checked_sub(back))
    };
    if index < 0 {
        from_end().unwrap_or(usize::MAX)
    } else {
        usize::try_from(index).unwrap_or(usize::MAX)
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn passes(filter: &Filter, root: &Value, item: &Value) -> bool {
    let left = operand(&filter.left, root, item);
    let Some((operator, right)) = &filter.test else {
        return left.is_some();
    };
    let (Some(left), Some(right)) = (left, operand(right, root, item)) else {
        return false;
    };
    let order = match (left.as_f64(), right.as_f64()) {
        (Some(l), Some(r)) => l.partial_cmp(&r),
        _ => match (left.as_str(), right.as_str()) {
            (Some(l), Some(r)) => Some(l.cmp(r)),
            _ => (left == right).then_some(std::cmp::Ordering::Equal),
        },
    };
    match operator {
        Operator::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
        Operator::NotEqual => !order.is_some_and(std::cmp::Ordering::is_eq),
        Operator::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Operator::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

fn operand<'a>(operand: &'a Operand, root: &'a Value, item: &'a Value) -> Option<&'a Value> {
    match operand {
        Operand::Literal(value) => Some(value),
        Operand::Path(steps) => walk(steps, root, item).into_iter().next(),
    }
}
