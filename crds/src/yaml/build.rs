//! Events of the parser -> trees.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::{Cause, Chunk, Entry, Fault, Node, Value, scalar};

/// Lists and mappings within each other. The deepest field of any kind is at about a dozen.
pub(crate) const MAX_DEPTH: usize = 64;
/// Nodes of one document after aliases are expanded.
pub(crate) const MAX_NODES: usize = 1_000_000;

/// The documents of a chunk: one, unless `...` ends a document within it.
pub(crate) fn build(chunk: Chunk<'_>) -> Result<Vec<Node>, Fault> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(chunk.text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => {
                let line = line_of(chunk, &span);
                builder.take(event, line).map_err(|cause| cause.at(line))?;
            }
            Err(error) => {
                let line = chunk
                    .line
                    .saturating_add(to_u32(error.marker().line()).saturating_sub(1));
                return Err(Fault {
                    line,
                    cause: Cause::Syntax(error.info().to_owned()),
                });
            }
        }
    }
    Ok(builder.documents)
}

fn line_of(chunk: Chunk<'_>, span: &Span) -> u32 {
    chunk
        .line
        .saturating_add(to_u32(span.start.line()).saturating_sub(1))
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A fault whose line may differ from that of the event that showed it.
struct Refusal {
    line: Option<u32>,
    cause: Cause,
}

impl Refusal {
    fn at(self, line: u32) -> Fault {
        Fault {
            line: self.line.unwrap_or(line),
            cause: self.cause,
        }
    }
}

impl From<Cause> for Refusal {
    fn from(cause: Cause) -> Self {
        Self { line: None, cause }
    }
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Anchored>,
    nodes: usize,
    documents: Vec<Node>,
}

struct Anchored {
    node: Node,
    size: usize,
    depth: usize,
}

/// A list or mapping whose end has not been seen.
struct Open {
    anchor: usize,
    line: u32,
    inside: Inside,
}

enum Inside {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        seen: BTreeSet<String>,
        merges: Vec<Node>,
        key: Option<Key>,
    },
}

enum Key {
    Field { name: String, line: u32 },
    Merge,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: u32) -> Result<(), Refusal> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.anchors.clear();
                self.nodes = 0;
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, line),
            Event::Scalar(text, style, anchor, tag) => self.scalar(text, style, anchor, tag.as_deref(), line),
            Event::SequenceStart(anchor, _) => self.open(anchor, line, Inside::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                let inside = Inside::Map {
                    entries: Vec::new(),
                    seen: BTreeSet::new(),
                    merges: Vec::new(),
                    key: None,
                };
                self.open(anchor, line, inside)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn count(&mut self, nodes: usize) -> Result<(), Refusal> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            Err(Cause::TooLarge.into())
        } else {
            Ok(())
        }
    }

    fn alias(&mut self, anchor: usize, line: u32) -> Result<(), Refusal> {
        // An alias to a node that is still open would never end.
        let Some(anchored) = self.anchors.get(&anchor) else {
            return Err(Cause::Syntax("the alias names no anchor before it".to_owned()).into());
        };
        if self.open.len().saturating_add(anchored.depth) > MAX_DEPTH {
            return Err(Cause::TooDeep.into());
        }
        let size = anchored.size;
        let mut node = anchored.node.clone();
        self.count(size)?;
        node.line = line;
        self.place(node)
    }

    fn scalar(
        &mut self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        line: u32,
    ) -> Result<(), Refusal> {
        self.count(1)?;
        let value = match (tag, style) {
            (Some(tag), _) if tag.is_yaml_core_schema() => scalar::tagged(&tag.suffix, &text),
            (None, ScalarStyle::Plain) => {
                if text == "<<" && self.expects_key() {
                    return self.merge_key();
                }
                scalar::plain(&text)
            }
            (Some(_), _) | (None, _) => Value::String(text.into_owned()),
        };
        let node = Node { value, line };
        self.remember(anchor, &node);
        self.place(node)
    }

    fn expects_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open {
                inside: Inside::Map { key: None, .. },
                ..
            })
        )
    }

    fn merge_key(&mut self) -> Result<(), Refusal> {
        if let Some(Open {
            inside: Inside::Map { key, .. },
            ..
        }) = self.open.last_mut()
        {
            *key = Some(Key::Merge);
        }
        Ok(())
    }

    fn open(&mut self, anchor: usize, line: u32, inside: Inside) -> Result<(), Refusal> {
        self.count(1)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(Cause::TooDeep.into());
        }
        self.open.push(Open { anchor, line, inside });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Refusal> {
        let Some(Open { anchor, line, inside }) = self.open.pop() else {
            return Ok(());
        };
        let node = match inside {
            Inside::List(items) => Node {
                value: Value::List(items),
                line,
            },
            Inside::Map {
                mut entries,
                mut seen,
                merges,
                key: _,
            } => {
                for merged in merges {
                    self.count(size(&merged))?;
                    merge(merged, &mut entries, &mut seen)?;
                }
                Node {
                    value: Value::Map(entries),
                    line,
                }
            }
        };
        self.remember(anchor, &node);
        self.place(node)
    }

    fn remember(&mut self, anchor: usize, node: &Node) {
        if anchor != 0 {
            let (size, depth) = (size(node), depth(node));
            self.anchors.insert(
                anchor,
                Anchored {
                    node: node.clone(),
                    size,
                    depth,
                },
            );
        }
    }

    fn place(&mut self, node: Node) -> Result<(), Refusal> {
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut open.inside {
            Inside::List(items) => items.push(node),
            Inside::Map {
                entries,
                seen,
                merges,
                key,
            } => match key.take() {
                Some(Key::Field { name, line }) => entries.push(Entry {
                    key: name,
                    line,
                    value: node,
                }),
                Some(Key::Merge) => merges.push(node),
                None => {
                    let line = node.line;
                    let name = key_text(node)?;
                    if !seen.insert(name.clone()) {
                        let first = entries.iter().find(|e| e.key == name).map_or(line, |e| e.line);
                        let cause = Cause::DuplicateKey { key: name, first };
                        return Err(Refusal {
                            line: Some(line),
                            cause,
                        });
                    }
                    *key = Some(Key::Field { name, line });
                }
            },
        }
        Ok(())
    }
}

/// JSON has only text for keys: numbers and booleans become the text they are written as.
fn key_text(node: Node) -> Result<String, Refusal> {
    match node.value {
        Value::String(text) => Ok(text),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => Err(Refusal {
            line: Some(node.line),
            cause: Cause::BadKey,
        }),
    }
}

/// YAML 1.1 merge: keys written in the mapping win over merged ones, earlier merges over later.
fn merge(merged: Node, entries: &mut Vec<Entry>, seen: &mut BTreeSet<String>) -> Result<(), Refusal> {
    let line = merged.line;
    match merged.value {
        Value::Map(members) => {
            entries.extend(members.into_iter().filter(|entry| seen.insert(entry.key.clone())));
            Ok(())
        }
        Value::List(items) => {
            for item in items {
                match item.value {
                    Value::Map(_) => merge(item, entries, seen)?,
                    Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::List(_) => {
                        return Err(not_mergeable(line));
                    }
                }
            }
            Ok(())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(not_mergeable(line)),
    }
}

fn not_mergeable(line: u32) -> Refusal {
    Refusal {
        line: Some(line),
        cause: Cause::Syntax("'<<' takes a mapping or a list of mappings".to_owned()),
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        // Long text counts for more, else one long text under many aliases would fill the memory.
        Value::String(text) => (text.len() / 64).saturating_add(1),
        Value::List(items) => items.iter().map(size).sum::<usize>().saturating_add(1),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| size(&entry.value))
            .sum::<usize>()
            .saturating_add(1),
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        Value::List(items) => items.iter().map(depth).max().unwrap_or(0).saturating_add(1),
        Value::Map(entries) => entries
            .iter()
            .map(|entry| depth(&entry.value))
            .max()
            .unwrap_or(0)
            .saturating_add(1),
    }
}
