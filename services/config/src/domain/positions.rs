//! Where keys stand in a file: what parsers of values do not tell.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser};

/// Line from 1, column from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

/// By flat key, `a.b[0]`.
pub type Positions = HashMap<String, Position>;

/// One map a document that holds anything. JSON is read as the YAML it is. What this parser does not understand ends the
/// list early: positions are for messages and origins, nothing hangs on them.
pub fn of_yaml(text: &str) -> Vec<Positions> {
    let mut documents = Vec::new();
    let mut walk = Walk::default();
    for event in Parser::new_from_str(text) {
        let Ok((event, span)) = event else { break };
        let position = Position {
            line: span.start.line(),
            column: span.start.col() + 1,
        };
        match event {
            Event::DocumentStart(_) => walk = Walk::default(),
            Event::DocumentEnd => {
                if !walk.empty {
                    documents.push(std::mem::take(&mut walk.positions));
                }
            }
            Event::Scalar(text, style, ..) => {
                let nothing = style == saphyr_parser::ScalarStyle::Plain && matches!(&*text, "" | "~" | "null");
                if walk.open.is_empty() {
                    walk.empty = nothing;
                }
                walk.scalar(&text, position);
            }
            Event::Alias(_) => walk.scalar("", position),
            Event::MappingStart(..) => walk.start(position, true),
            Event::SequenceStart(..) => walk.start(position, false),
            Event::MappingEnd | Event::SequenceEnd => walk.end(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
        }
    }
    documents
}

/// One open mapping or sequence.
#[derive(Debug)]
struct Open {
    path: String,
    mapping: bool,
    /// The key whose value comes next, with its position.
    key: Option<(String, Position)>,
    next: usize,
}

#[derive(Debug, Default)]
struct Walk {
    open: Vec<Open>,
    positions: Positions,
    empty: bool,
}

impl Walk {
    /// The path of the value that comes now.
    fn value(&mut self, position: Position) -> String {
        let Some(top) = self.open.last_mut() else {
            return String::new();
        };
        if !top.mapping {
            let path = format!("{}[{}]", top.path, top.next);
            top.next += 1;
            self.positions.insert(path.clone(), position);
            return path;
        }
        let (key, position) = top.key.take().unwrap_or((String::new(), position));
        let path = if top.path.is_empty() {
            key
        } else if key.starts_with('[') {
            format!("{}{key}", top.path)
        } else {
            format!("{}.{key}", top.path)
        };
        self.positions.insert(path.clone(), position);
        path
    }

    fn scalar(&mut self, text: &str, position: Position) {
        match self.open.last_mut() {
            Some(top) if top.mapping && top.key.is_none() => top.key = Some((text.to_owned(), position)),
            _ => drop(self.value(position)),
        }
    }

    fn start(&mut self, position: Position, mapping: bool) {
        let path = self.value(position);
        self.open.push(Open {
            path,
            mapping,
            key: None,
            next: 0,
        });
    }

    fn end(&mut self) {
        self.open.pop();
    }
}

/// Where a key stands, or the nearest one it is inside of.
pub fn nearest(positions: &Positions, key: &str) -> Option<Position> {
    let mut key = key;
    loop {
        if let Some(position) = positions.get(key) {
            return Some(*position);
        }
        key = &key[..key.rfind(['.', '['])?];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_shapes_know_their_line() {
        let text = "# note\na:\n  b: [x, {c: 1}]\n  'd.e': |\n    long\n    text\n---\n\n---\nf:\n  - 1\n  - g: 2\n";
        let documents = of_yaml(text);
        assert_eq!(documents.len(), 2, "a document of nothing is none");
        let line = |document: usize, key: &str| documents[document].get(key).map(|position| position.line);
        for (document, key, expected) in [
            (0, "a", 2),
            (0, "a.b", 3),
            (0, "a.b[1].c", 3),
            (0, "a.d.e", 4),
            (1, "f[0]", 11),
            (1, "f[1].g", 12),
        ] {
            assert_eq!(line(document, key), Some(expected), "{key}");
        }
        assert_eq!(
            nearest(&documents[0], "a.b[7].z").map(|position| position.line),
            Some(3)
        );
        assert_eq!(nearest(&documents[0], "z"), None);
    }

    #[test]
    fn json_is_yaml() {
        let documents = of_yaml("{\n  \"a\": {\n    \"b\": true\n  }\n}\n");
        assert_eq!(documents[0]["a.b"], Position { line: 3, column: 5 });
    }
}
