//! Template text into nodes.

use serde_json::Value;

use super::{Filter, Node, Operand, Operator, Step, TemplateError};

pub(super) fn template(text: &str) -> Result<Vec<Node>, TemplateError> {
    // The innermost open `range` is last; the first entry is the template itself.
    let mut open: Vec<(Vec<Step>, Vec<Node>)> = vec![(Vec::new(), Vec::new())];
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        let (before, after) = rest.split_at(start);
        push(&mut open, Node::Text(before.to_owned()));
        let end = closing(after).ok_or(TemplateError::Unclosed)?;
        let action = after.get(1..end).unwrap_or_default().trim();
        rest = after.get(end + 1..).unwrap_or_default();
        if action == "end" {
            let (path, body) = open.pop().ok_or(TemplateError::EndWithoutRange)?;
            if open.is_empty() {
                return Err(TemplateError::EndWithoutRange);
            }
            push(&mut open, Node::Range(path, body));
        } else if let Some(of) = action
            .strip_prefix("range")
            .filter(|r| r.starts_with([' ', '.', '$', '[']))
        {
            open.push((path(of.trim())?, Vec::new()));
        } else {
            for node in expressions(action)? {
                push(&mut open, node);
            }
        }
    }
    push(&mut open, Node::Text(rest.to_owned()));
    let (_, nodes) = open.pop().ok_or(TemplateError::EndWithoutRange)?;
    if open.is_empty() {
        Ok(nodes)
    } else {
        Err(TemplateError::RangeWithoutEnd)
    }
}

fn push(open: &mut [(Vec<Step>, Vec<Node>)], node: Node) {
    let empty = matches!(&node, Node::Text(text) if text.is_empty());
    if let (Some((_, nodes)), false) = (open.last_mut(), empty) {
        nodes.push(node);
    }
}

/// Where the action that starts with `{` ends, quotes respected.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '}') => return Some(at),
            (None, _) => {}
        }
    }
    None
}

/// One action holds text in quotes and paths, in any order.
fn expressions(action: &str) -> Result<Vec<Node>, TemplateError> {
    let mut nodes = Vec::new();
    let mut rest = action;
    while let Some(first) = rest.chars().next() {
        if first == '"' || first == '\'' {
            let (text, after) = quoted(rest)?;
            nodes.push(Node::Text(text));
            rest = after.trim_start();
        } else {
            let (steps, after) = steps(rest)?;
            nodes.push(Node::Path(steps));
            rest = after.trim_start();
        }
    }
    Ok(nodes)
}

fn path(text: &str) -> Result<Vec<Step>, TemplateError> {
    let (steps, rest) = steps(text)?;
    if rest.is_empty() {
        Ok(steps)
    } else {
        Err(TemplateError::Unrecognized(rest.to_owned()))
    }
}

/// Steps up to the first blank, comparison or bracket that ends them.
fn steps(text: &str) -> Result<(Vec<Step>, &str), TemplateError> {
    let mut steps = Vec::new();
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix("..") {
            steps.push(Step::Recursive);
            rest = after;
            // `..name` and `..[0]`: the name follows without another dot.
            if after.starts_with(|c: char| !matches!(c, '[' | '.')) {
                let (field, after) = field(after)?;
                steps.push(field);
                rest = after;
            }
        } else if let Some(after) = rest.strip_prefix('.') {
            if after.is_empty() || after.starts_with(['[', ' ']) {
                rest = after;
            } else {
                let (field, after) = field(after)?;
                steps.push(field);
                rest = after;
            }
        } else if rest.starts_with('[') {
            let (step, after) = bracket(rest)?;
            steps.push(step);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('$') {
            steps.push(Step::Root);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('@') {
            rest = after;
        } else if rest.len() == text.len() {
            // A path may begin with a bare name.
            let (field, after) = field(rest)?;
            steps.push(field);
            rest = after;
        } else {
            return Ok((steps, rest));
        }
        if rest.is_empty() {
            return Ok((steps, rest));
        }
    }
}

fn field(text: &str) -> Result<(Step, &str), TemplateError> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            // `\.` is a dot inside a name.
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' | ']' | ' ' | ')' | '=' | '!' | '<' | '>' | '"' | '\'' | ',' => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    let rest = text.get(end..).unwrap_or_default();
    match name.as_str() {
        "" => Err(TemplateError::Unrecognized(text.to_owned())),
        "*" => Ok((Step::Wildcard, rest)),
        _ => Ok((Step::Field(name), rest)),
    }
}

/// `[...]` from its opening bracket on.
fn bracket(text: &str) -> Result<(Step, &str), TemplateError> {
    let end = matching(text).ok_or(TemplateError::Unclosed)?;
    let inner = text.get(1..end).unwrap_or_default().trim();
    let rest = text.get(end + 1..).unwrap_or_default();
    if let Some(filter) = inner.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
        return Ok((Step::Filter(Box::new(self::filter(filter)?)), rest));
    }
    let mut parts = Vec::new();
    for part in inner.split(',') {
        parts.push(selector(part.trim())?);
    }
    let step = if parts.len() == 1 {
        parts.swap_remove(0)
    } else {
        Step::Union(parts)
    };
    Ok((step, rest))
}

fn matching(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            (None, _) => {}
        }
    }
    None
}

fn selector(text: &str) -> Result<Step, TemplateError> {
    if text == "*" {
        return Ok(Step::Wildcard);
    }
    if text.starts_with(['\'', '"']) {
        let (name, rest) = quoted(text)?;
        return if rest.is_empty() {
            Ok(Step::Field(name))
        } else {
            Err(TemplateError::Unrecognized(rest.to_owned()))
        };
    }
    let wrong = || TemplateError::Index(text.to_owned());
    let number = |part: &str| -> Result<Option<i64>, TemplateError> {
        if part.is_empty() {
            Ok(None)
        } else {
            part.parse().map(Some).map_err(|_| wrong())
        }
    };
    let parts: Vec<&str> = text.split(':').map(str::trim).collect();
    match parts.as_slice() {
        [index] => number(index)?.map(Step::Index).ok_or_else(wrong),
        [from, to] => Ok(Step::Slice {
            from: number(from)?,
            to: number(to)?,
            step: 1,
        }),
        [from, to, step] => Ok(Step::Slice {
            from: number(from)?,
            to: number(to)?,
            step: number(step)?.filter(|s| *s > 0).ok_or_else(wrong)?,
        }),
        _ => Err(wrong()),
    }
}

fn filter(text: &str) -> Result<Filter, TemplateError> {
    let wrong = || TemplateError::Filter(text.to_owned());
    let (left, rest) = operand(text.trim()).ok_or_else(wrong)?;
    let rest = rest.trim_start();
    if rest.is_empty() {
        return Ok(Filter { left, test: None });
    }
    let operators = [
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    let (operator, rest) = operators
        .into_iter()
        .find_map(|(sign, operator)| Some((operator, rest.strip_prefix(sign)?)))
        .ok_or_else(wrong)?;
    let (right, rest) = operand(rest.trim_start()).ok_or_else(wrong)?;
    if rest.trim().is_empty() {
        Ok(Filter {
            left,
            test: Some((operator, right)),
        })
    } else {
        Err(wrong())
    }
}

fn operand(text: &str) -> Option<(Operand, &str)> {
    if text.starts_with(['\'', '"']) {
        let (literal, rest) = quoted(text).ok()?;
        return Some((Operand::Literal(Value::from(literal)), rest));
    }
    if text.starts_with('@') || text.starts_with('$') {
        let (steps, rest) = steps(text).ok()?;
        return Some((Operand::Path(steps), rest));
    }
    let end = text.find([' ', '=', '!', '<', '>']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    serde_json::from_str(word)
        .ok()
        .map(|literal| (Operand::Literal(literal), rest))
}

/// Text in quotes with Go's escapes, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), TemplateError> {
    let unterminated = || TemplateError::UnterminatedString(text.to_owned());
    let mut chars = text.char_indices();
    let (_, quote) = chars.next().ok_or_else(unterminated)?;
    let mut out = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next().ok_or_else(unterminated)?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                other => out.push(other),
            },
            c if c == quote => return Ok((out, text.get(at + 1..).unwrap_or_default())),
            c => out.push(c),
        }
    }
    Err(unterminated())
}
