//! Keys and values out of a file or a folder.

use std::collections::BTreeMap;
use std::path::Path;

use saphyr_parser::{Event, Parser, Span};

use super::{ConfigError, Origin, Value};

pub(super) fn path(path: &Path) -> Result<BTreeMap<String, Value>, ConfigError> {
    if path.is_dir() { folder(path) } else { file(path) }
}

/// A mounted ConfigMap: the name of a file is the key, what is in it the value.
fn folder(path: &Path) -> Result<BTreeMap<String, Value>, ConfigError> {
    let unreadable = |path: &Path, source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut values = BTreeMap::new();
    for entry in std::fs::read_dir(path).map_err(|error| unreadable(path, error))? {
        let entry = entry.map_err(|error| unreadable(path, error))?;
        let key = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        // `..data` and its kin are how the mount is swapped.
        if key.starts_with('.') || !path.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
        values.insert(
            key,
            Value {
                text: text.trim_end_matches('\n').to_owned(),
                origin: Origin::File { path, line: 0 },
            },
        );
    }
    Ok(values)
}

fn file(path: &Path) -> Result<BTreeMap<String, Value>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text)
}

/// A map of plain values; of a ConfigMap the map under `data`.
fn parse(path: &Path, text: &str) -> Result<BTreeMap<String, Value>, ConfigError> {
    let mut values = BTreeMap::new();
    // Maps (and lists) that are open, by the key they stand under.
    let mut open: Vec<String> = Vec::new();
    let mut key: Option<String> = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            line: line(error.marker().line()),
            why: error.info().to_owned(),
        })?;
        let malformed = |why: &str| ConfigError::Malformed {
            path: path.to_owned(),
            line: start(&span),
            why: why.to_owned(),
        };
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
            Event::Alias(_) => return Err(malformed("it uses an alias")),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                let name = key.take().unwrap_or_default();
                if open.is_empty() && !matches!(event, Event::MappingStart(..)) {
                    return Err(malformed("it is a list"));
                }
                open.push(name);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
            }
            Event::Scalar(scalar, ..) => {
                let here = match open.as_slice() {
                    [_] => true,
                    [_, parent] => parent == "data",
                    _ => false,
                };
                if open.is_empty() {
                    // An empty file is no configuration, which is fine.
                    if scalar.trim().is_empty() || scalar == "~" {
                        continue;
                    }
                    return Err(malformed("it is a single value"));
                }
                match key.take() {
                    None => key = Some(scalar.into_owned()),
                    Some(name) if here && !of_the_object(&name) => {
                        let origin = Origin::File {
                            path: path.to_owned(),
                            line: start(&span),
                        };
                        let text = scalar.into_owned();
                        values.insert(name, Value { text, origin });
                    }
                    Some(_) => {}
                }
            }
        }
    }
    Ok(values)
}

/// Fields of a ConfigMap around its data.
fn of_the_object(key: &str) -> bool {
    matches!(key, "apiVersion" | "kind")
}

fn start(span: &Span) -> u32 {
    line(span.start.line())
}

fn line(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
