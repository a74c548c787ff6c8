//! Tables as the scripts expect them: Go's tabwriter with cells of at least 5 characters and 3 spaces between.

use stentor::render::tabwriter;

pub(crate) fn table<'a>(rows: impl IntoIterator<Item = Vec<&'a str>>) -> String {
    let text: String = rows.into_iter().map(|row| row.join("\t") + "\n").collect();
    tabwriter::align(&text, 5, 3)
}

/// Takes a column out of an aligned table.
pub(crate) fn without(text: &str, column: &str) -> String {
    let Some(head) = text.lines().next() else {
        return String::new();
    };
    let Some(start) = head.find(column) else {
        return text.to_owned();
    };
    let name_end = start + column.len();
    let gap = head[name_end..].len() - head[name_end..].trim_start().len();
    let end = name_end + gap;
    let cut = |line: &str| {
        let chars: Vec<char> = line.chars().collect();
        let kept = chars
            .iter()
            .enumerate()
            .filter(|(at, _)| *at < start || *at >= end);
        kept.map(|(_, c)| *c).collect::<String>() + "\n"
    };
    text.lines().map(cut).collect()
}
