//! Cuts a text into documents before parsing, so that a syntax error in one leaves the others alone.

/// The text of one document and the line it starts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    pub(crate) text: &'a str,
    /// Counted from 1.
    pub(crate) line: u32,
}

/// Cuts before each line that starts with `---`, as `kubectl` does. Such a line cannot stand inside
/// a mapping, whose block scalars are indented.
pub(crate) fn split(text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let mut start = 0;
    let mut start_line = 1;
    let mut at = 0;
    let mut only_directives = true;
    for (number, line) in (1u32..).zip(text.split_inclusive('\n')) {
        if is_separator(line) && !only_directives {
            chunks.extend(text.get(start..at).map(|text| Chunk {
                text,
                line: start_line,
            }));
            (start, start_line) = (at, number);
        }
        // Directives (`%YAML 1.2`) and comments belong to the document after them.
        only_directives &= is_directive_or_blank(line);
        if is_separator(line) {
            only_directives = false;
        }
        at = at.saturating_add(line.len());
    }
    chunks.extend(text.get(start..).map(|text| Chunk {
        text,
        line: start_line,
    }));
    chunks.retain(|chunk| !chunk.text.lines().all(is_comment_or_blank));
    chunks
}

fn is_separator(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn is_directive_or_blank(line: &str) -> bool {
    line.starts_with('%') || is_comment_or_blank(line)
}

/// Also true for a separator without content.
fn is_comment_or_blank(line: &str) -> bool {
    let line = if is_separator(line) {
        line.get(3..).unwrap_or("")
    } else {
        line
    };
    let line = line.trim();
    line.is_empty() || line.starts_with('#') || line == "..."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<u32> {
        split(text).iter().map(|chunk| chunk.line).collect()
    }

    #[test]
    fn documents_start_at_their_separator() {
        assert_eq!(lines("a: 1\n---\nb: 2\n---\nc: 3\n"), [1, 2, 4]);
        assert_eq!(lines("---\na: 1\n---\nb: 2"), [1, 3]);
        assert_eq!(lines("\u{feff}---\r\na: 1\r\n---\r\nb: 2"), [1, 3]);
    }

    #[test]
    fn empty_documents_are_left_out() {
        assert_eq!(lines(""), [] as [u32; 0]);
        assert_eq!(lines("---\n# nothing\n---\n---\na: 1\n---\n"), [4]);
    }

    #[test]
    fn directives_stay_with_the_document_after_them() {
        let chunks = split("%YAML 1.2\n# note\n---\na: 1\n");
        assert_eq!(chunks.len(), 1);
        assert!(chunks[0].text.starts_with("%YAML"));
    }

    #[test]
    fn an_indented_or_longer_run_of_dashes_is_no_separator() {
        assert_eq!(lines("a: |\n  ---\nb: ----\n"), [1]);
        assert_eq!(lines("a: 1\n----\n"), [1]);
    }
}
