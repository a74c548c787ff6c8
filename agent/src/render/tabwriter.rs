//! Columns as Go's `text/tabwriter` sets them (left aligned, padded with spaces).
//!
//! The rule that makes it differ from an ordinary table: a cell is text *ended by a tab*. Text after the
//! last tab of a line belongs to no column and is neither measured nor padded. A column is a block of
//! adjacent lines that all have a cell there; its width is that of its widest cell plus padding. So two
//! blocks apart from each other have widths of their own.

/// Lays `text` out. Lines end with `\n`, cells with `\t`.
#[must_use]
pub fn align(text: &str, min_width: usize, padding: usize) -> String {
    let (body, ended) = match text.strip_suffix('\n') {
        Some(body) => (body, true),
        None => (text, false),
    };
    if text.is_empty() {
        return String::new();
    }
    let lines: Vec<Vec<&str>> = body.split('\n').map(|l| l.split('\t').collect()).collect();
    let layout = Layout {
        lines: &lines,
        min_width,
        padding,
    };
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|l| Vec::with_capacity(l.len())).collect();
    layout.measure(&mut widths, 0, lines.len(), 0);
    let mut out = String::with_capacity(text.len() * 2);
    for (n, (cells, widths)) in lines.iter().zip(&widths).enumerate() {
        if n > 0 {
            out.push('\n');
        }
        for (at, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            // The last piece of a line was not ended by a tab: it has no width.
            if let Some(width) = widths.get(at) {
                out.extend(std::iter::repeat_n(
                    ' ',
                    width.saturating_sub(cell.chars().count()),
                ));
            }
        }
    }
    if ended {
        out.push('\n');
    }
    out
}

struct Layout<'a> {
    lines: &'a [Vec<&'a str>],
    min_width: usize,
    padding: usize,
}

impl Layout<'_> {
    /// Gives every cell of `column` and to its right in lines `from..to` its width.
    fn measure(&self, widths: &mut [Vec<usize>], from: usize, to: usize, column: usize) {
        let mut line = from;
        while line < to {
            if !self.has_cell(line, column) {
                line += 1;
                continue;
            }
            let start = line;
            while line < to && self.has_cell(line, column) {
                line += 1;
            }
            let block = start..line;
            let widest = block
                .clone()
                .filter_map(|l| self.lines.get(l)?.get(column))
                .map(|cell| cell.chars().count() + self.padding)
                .max()
                .unwrap_or(0)
                .max(self.min_width);
            for of_line in widths.iter_mut().take(block.end).skip(block.start) {
                of_line.push(widest);
            }
            self.measure(widths, block.start, block.end, column + 1);
        }
    }

    fn has_cell(&self, line: usize, column: usize) -> bool {
        self.lines.get(line).is_some_and(|cells| column + 1 < cells.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_after_the_last_tab_is_not_padded() {
        assert_eq!(align("a\tb\nlonger\tc\n", 5, 3), "a        b\nlonger   c\n");
    }

    #[test]
    fn a_column_is_at_least_the_minimum_wide() {
        assert_eq!(align("\tb\n", 5, 3), "     b\n");
        assert_eq!(align("a\tb\n", 5, 3), "a    b\n");
    }

    #[test]
    fn a_line_without_the_cell_ends_the_column() {
        assert_eq!(
            align("aaaaaa\tb\nplain\na\tb\n", 5, 3),
            "aaaaaa   b\nplain\na    b\n"
        );
    }

    #[test]
    fn a_cell_ended_by_a_tab_is_padded_even_at_the_end_of_its_line() {
        assert_eq!(
            align("ab\tcd\t\nabcdef\tc\t\n", 5, 3),
            "ab       cd   \nabcdef   c    \n"
        );
    }

    #[test]
    fn leading_tabs_indent_by_the_width_of_their_empty_columns() {
        assert_eq!(align("x:\n\ty:\n\t\tz\n", 5, 3), "x:\n     y:\n          z\n");
    }

    #[test]
    fn a_missing_last_line_feed_stays_missing() {
        assert_eq!(align("", 5, 3), "");
        assert_eq!(align("a\tb", 5, 3), "a    b");
        assert_eq!(align("\n", 5, 3), "\n");
    }
}
