//! Kubernetes' JSONPath templates: `{.a[0].b}`, `{range .[*]}{.x}{"\n"}{end}`, filters, slices, recursion.
//!
//! Text outside braces is printed as it is. Several results of one expression are joined by a space. A key
//! that is missing is no error: it yields nothing.

mod eval;
mod parse;

use serde_json::Value;

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("unclosed action: a `{{` has no `}}`")]
    Unclosed,
    #[error("unterminated string in `{0}`")]
    UnterminatedString(String),
    #[error("`{{end}}` without `{{range}}`")]
    EndWithoutRange,
    #[error("`{{range}}` without `{{end}}`")]
    RangeWithoutEnd,
    #[error("unrecognized character in `{0}`")]
    Unrecognized(String),
    #[error("invalid array index `{0}`")]
    Index(String),
    #[error("invalid filter `{0}`")]
    Filter(String),
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Node>),
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    /// `$`: from the top.
    Root,
    Field(String),
    /// `[n]`, from the end when negative.
    Index(i64),
    /// `[from:to:step]`.
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: i64,
    },
    Wildcard,
    /// `..name`, `..*`.
    Recursive,
    /// `[a,b]`.
    Union(Vec<Step>),
    Filter(Box<Filter>),
}

/// `[?(left op right)]`; without an operator: whether left exists.
#[derive(Debug, Clone, PartialEq)]
struct Filter {
    left: Operand,
    test: Option<(Operator, Operand)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    /// `@...`
    Path(Vec<Step>),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Fills `template` from `value`.
///
/// # Errors
/// [`TemplateError`] for a template that does not parse.
pub fn fill(template: &str, value: &Value) -> Result<String, TemplateError> {
    let nodes = parse::template(template)?;
    let mut out = String::new();
    eval::nodes(&nodes, value, value, &mut out);
    Ok(out)
}

#[cfg(test)]
mod tests;
