//! Splitting an `exec` line into words, by the rules containerlab uses.
//!
//! Those are a shell's rules for quotes, escapes and comments, and no other: no variables, no pipes, no globs.

/// An opened quote is never closed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an opened {0} is never closed")]
pub struct Unclosed(pub &'static str);

/// Splits a command line. `'..'` is literal, in `".."` a backslash escapes, `#` at the start of a word comments.
///
/// # Errors
/// A quote or an escape is open at the end.
pub fn split(line: &str) -> Result<Vec<String>, Unclosed> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => drop(chars.by_ref().take_while(|c| *c != '\n').last()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err(Unclosed("single quote")),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => word.push(chars.next().ok_or(Unclosed("escape"))?),
                        Some(c) => word.push(c),
                        None => return Err(Unclosed("double quote")),
                    }
                }
            }
            '\\' => word
                .get_or_insert_default()
                .push(chars.next().ok_or(Unclosed("escape"))?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_blanks_and_join_with_their_neighbours() {
        assert_eq!(
            split("vtysh -c 'conf t' -c '  x'").unwrap(),
            ["vtysh", "-c", "conf t", "-c", "  x"]
        );
        assert_eq!(split(r#"a"b c"d 'e'"#).unwrap(), ["ab cd", "e"]);
        assert_eq!(
            split(r#"sed -i -e 's/a\/b/c/' "\"" \ "#).unwrap(),
            ["sed", "-i", "-e", r"s/a\/b/c/", "\"", " "]
        );
        assert_eq!(split("''").unwrap(), [""]);
    }

    #[test]
    fn a_hash_comments_only_at_the_start_of_a_word() {
        assert_eq!(split("ip a # b c\nd").unwrap(), ["ip", "a", "d"]);
        assert_eq!(split("a#b").unwrap(), ["a#b"]);
    }

    #[test]
    fn shell_syntax_means_nothing() {
        assert_eq!(
            split("echo $X | cat > f").unwrap(),
            ["echo", "$X", "|", "cat", ">", "f"]
        );
    }

    #[test]
    fn open_quotes_are_refused() {
        assert_eq!(split("a 'b"), Err(Unclosed("single quote")));
        assert_eq!(split("a \"b"), Err(Unclosed("double quote")));
        assert_eq!(split("a \\"), Err(Unclosed("escape")));
    }
}
