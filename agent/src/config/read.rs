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
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    let mut open = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| ConfigError::Malformed {
            path: path.to_owned(),
            line: line(error.marker().line()),
            why: error.info().to_owned(),
        })?;
        let malformed = |why: String| ConfigError::Malformed {
            path: path.to_owned(),
            line: start(&span),
            why,
        };
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
            Event::Alias(_) => return Err(malformed("it uses an alias".to_owned())),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                let inside = match (open.last_mut(), &event) {
                    (None, Event::MappingStart(..)) => Inside::Values(None),
                    (None, _) => return Err(malformed("it is a list".to_owned())),
                    (Some(Inside::Values(key)), _) => match (key.take().as_deref(), &event, open.len()) {
                        (Some("data"), Event::MappingStart(..), 1) => Inside::Values(None),
                        (Some(around), _, 1) if of_the_object(around) => Inside::Others,
                        (Some(name), _, _) => {
                            return Err(malformed(format!("{name} is a list or a map, not one value")));
                        }
                        (None, _, _) => return Err(malformed("a key is a list or a map".to_owned())),
                    },
                    (Some(Inside::Others), _) => Inside::Others,
                };
                open.push(inside);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                open.pop();
            }
            Event::Scalar(scalar, ..) => match open.last_mut() {
                // An empty file is no configuration, which is fine.
                None if scalar.trim().is_empty() || scalar == "~" => {}
                None => return Err(malformed("it is a single value".to_owned())),
                Some(Inside::Others) => {}
                Some(Inside::Values(key)) => match key.take() {
                    None => *key = Some(scalar.into_owned()),
                    Some(name) if open.len() == 1 && of_the_object(&name) => {}
                    Some(name) => {
                        let origin = Origin::File {
                            path: path.to_owned(),
                            line: start(&span),
                        };
                        let text = scalar.into_owned();
                        if values.contains_key(&name) {
                            return Err(malformed(format!("{name} stands twice")));
                        }
                        values.insert(name, Value { text, origin });
                    }
                },
            },
        }
    }
    Ok(values)
}

/// A map or list that is open.
enum Inside {
    /// Of keys and values; with the key whose value comes next.
    Values(Option<String>),
    /// Of what belongs to the ConfigMap and not to us.
    Others,
}

/// Fields of a ConfigMap around its data.
fn of_the_object(key: &str) -> bool {
    matches!(
        key,
        "apiVersion" | "kind" | "metadata" | "binaryData" | "immutable"
    )
}

fn start(span: &Span) -> u32 {
    line(span.start.line())
}

fn line(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
