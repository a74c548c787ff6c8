//! A line of a dialogue or a configuration: words, `key=value` pairs and quoted text.

use anyhow::{Context, bail};

#[derive(Debug)]
pub(crate) struct Words {
    words: Vec<String>,
}

impl Words {
    pub(crate) fn new(line: &str) -> anyhow::Result<Self> {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        let mut any = false;
        for c in line.chars() {
            match c {
                '"' => {
                    quoted = !quoted;
                    any = true;
                }
                c if c.is_whitespace() && !quoted => {
                    if any {
                        words.push(std::mem::take(&mut word));
                        any = false;
                    }
                }
                c => {
                    word.push(c);
                    any = true;
                }
            }
        }
        if any {
            words.push(word);
        }
        if words.is_empty() {
            bail!("an empty line");
        }
        Ok(Self { words })
    }

    pub(crate) fn first(&self) -> &str {
        &self.words[0]
    }

    /// The word at this place, counted from 0.
    pub(crate) fn at(&self, place: usize) -> anyhow::Result<&str> {
        self.words
            .get(place)
            .map(String::as_str)
            .with_context(|| format!("{} needs more words", self.first()))
    }

    pub(crate) fn rest(&self, from: usize) -> String {
        self.words.get(from..).unwrap_or_default().join(" ")
    }

    /// The value of `key=value`.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.words
            .iter()
            .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    pub(crate) fn need(&self, key: &str) -> anyhow::Result<&str> {
        self.get(key).with_context(|| format!("{key}= is missing"))
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.words.iter().any(|word| word == flag)
    }
}
