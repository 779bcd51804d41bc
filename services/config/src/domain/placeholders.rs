//! Placeholders, `${key}` and `${key:default}`, in values of the flat forms.
//!
//! Depth, bytes and work are bounded: each key is resolved once, and a cycle is an error that names its keys. [`check`] finds cycles before a
//! version is published; a combination of profiles may still have one, which is reported to the client.

use std::collections::HashMap;
use std::rc::Rc;

use serde_json::Value;
use sosohappy_common::settings::keys;

use super::finding::Finding;
use super::flat::Properties;
use super::query::SHARED;
use super::snapshot::{Document, Snapshot};

/// Nested placeholders plus references from key to key.
const MAX_DEPTH: usize = 64;
/// Bytes that the placeholders of one response may expand to.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Bytes that the placeholders of all files may expand to in the check of a version.
const MAX_CHECKED_BYTES: usize = 128 * 1024 * 1024;
/// Bytes that each placeholder counts beside its text, so that empty ones are bounded too.
const COST: usize = 16;
/// Keys of a cycle in an error message.
const SHOWN_KEYS: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolvable {
    #[error("placeholders refer to each other: {0}")]
    Cycle(String),
    #[error("placeholders are nested more than {MAX_DEPTH} deep")]
    Depth,
    #[error("placeholders expand to too many bytes")]
    Size,
}

/// Resolves placeholders with the properties themselves. Unknown keys stay, for the client's own environment to resolve.
pub fn resolve(properties: &mut Properties) -> Result<(), Unresolvable> {
    let original = std::mem::take(properties);
    let mut resolver = Resolver::new(|key| original.get(key), MAX_BYTES);
    for (key, value) in &original {
        let value = match value {
            Value::String(text) if text.contains("${") => Value::from(&*resolver.value(key, text)?),
            other => other.clone(),
        };
        properties.insert(key.clone(), value);
    }
    Ok(())
}

/// Resolves placeholders in a text file. An escaped `\\${` becomes `${`.
pub fn resolve_in(text: &str, properties: &Properties) -> Result<String, Unresolvable> {
    Resolver::new(|key| properties.get(key), MAX_BYTES).text(text)
}

/// Returns the cycles and excesses in the placeholders of a version. Each document is resolved with the documents that are below it whatever the
/// profiles: in its own file, in the files of its application, and in the shared ones.
pub fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut left = MAX_CHECKED_BYTES;
    for (path, file) in &snapshot.files {
        for (number, document) in file.documents.iter().enumerate() {
            let texts = document
                .properties
                .iter()
                .filter_map(|(key, value)| Some((key, value.as_str()?)));
            let texts: Vec<_> = texts.filter(|(_, text)| text.contains("${")).collect();
            if texts.is_empty() {
                continue;
            }
            let documents = documents_from(snapshot, path, number);
            let find = |key: &str| documents.iter().find_map(|document| document.properties.get(key));
            let mut resolver = Resolver::new(find, left.min(MAX_BYTES));
            let before = resolver.left;
            for (key, _) in texts {
                // A document above may hide the value, and then its placeholders do not count.
                let outcome = match find(key) {
                    Some(Value::String(text)) => resolver.value(key, text).map(drop),
                    _ => Ok(()),
                };
                if let Err(reason) = outcome {
                    let line = document.position(key).map(|position| position.line);
                    findings.push(Finding::new(path, line, format!("{}: {reason}", keys::shown(key))));
                    break;
                }
            }
            left = left.saturating_sub(before - resolver.left);
        }
    }
    findings
}

/// Returns a document and those below it, highest precedence first.
fn documents_from<'a>(snapshot: &'a Snapshot, path: &str, number: usize) -> Vec<&'a Document> {
    let (folder, name) = path
        .rsplit_once('/')
        .map_or(("", path), |(folder, name)| (folder, name));
    let mut stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let own = snapshot.files[path].documents.iter().enumerate().rev();
    let mut documents: Vec<_> = own
        .filter(|(other, document)| *other == number || document.is_for_all())
        .map(|(_, document)| document)
        .collect();
    // `feed-config-prod` may be the profile `prod` of feed-config, or `config-prod` of feed: all shorter names are below it.
    let mut stems = Vec::new();
    while let Some((shorter, _)) = stem.rsplit_once('-') {
        stems.push(shorter);
        stem = shorter;
    }
    stems.retain(|stem| *stem != SHARED);
    stems.push(SHARED);
    let folders = if folder.is_empty() {
        vec![String::new()]
    } else {
        vec![format!("{folder}/"), String::new()]
    };
    for other in super::environment::paths(&folders, &stems) {
        let Some(file) = snapshot.files.get(&other).filter(|_| other != path) else {
            continue;
        };
        documents.extend(file.documents.iter().rev().filter(|document| document.is_for_all()));
    }
    documents
}

struct Resolver<F> {
    find: F,
    /// Resolved keys: each is expanded once, however often it is used.
    resolved: HashMap<String, Rc<str>>,
    /// Keys in progress, each referred to by the one before: a key that is here again is a cycle.
    resolving: Vec<String>,
    /// Placeholders in progress. It bounds the recursion of `value`, `text` and `placeholder`, and thereby the stack.
    depth: usize,
    /// Bytes left of the budget. An error ends the resolver, so that it is never given back.
    left: usize,
}

impl<'a, F: Fn(&str) -> Option<&'a Value>> Resolver<F> {
    fn new(find: F, left: usize) -> Self {
        Self {
            find,
            resolved: HashMap::new(),
            resolving: Vec::new(),
            depth: 0,
            left,
        }
    }

    /// Resolves the text of a key.
    fn value(&mut self, key: &str, text: &str) -> Result<Rc<str>, Unresolvable> {
        if let Some(resolved) = self.resolved.get(key) {
            return Ok(resolved.clone());
        }
        if let Some(start) = self.resolving.iter().position(|other| other == key) {
            return Err(Unresolvable::Cycle(shown(&self.resolving[start..], key)));
        }
        self.resolving.push(key.to_owned());
        self.take(text.len())?;
        let resolved: Rc<str> = self.text(text)?.into();
        self.resolving.pop();
        self.resolved.insert(key.to_owned(), resolved.clone());
        Ok(resolved)
    }

    /// Resolves a text from left to right.
    fn text(&mut self, text: &str) -> Result<String, Unresolvable> {
        let mut resolved = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            if let Some(before) = rest[..start].strip_suffix('\\') {
                // Escaped: as in Spring, the rest is text.
                resolved.push_str(before);
                resolved.push_str("${");
                rest = &rest[start + 2..];
                continue;
            }
            resolved.push_str(&rest[..start]);
            // Without a closing brace the rest is text, later placeholders included: searching each of them again would be quadratic.
            let Some(end) = matching_brace(&rest[start + 2..]) else {
                rest = &rest[start..];
                break;
            };
            let inside = &rest[start + 2..start + 2 + end];
            match self.placeholder(inside)? {
                Some(answer) => resolved.push_str(&answer),
                // Unknown key without a default: kept as written.
                None => resolved.push_str(&rest[start..=start + 2 + end]),
            }
            rest = &rest[start + 2 + end + 1..];
        }
        resolved.push_str(rest);
        Ok(resolved)
    }

    /// Resolves one placeholder; `inside` is the text between its braces.
    ///
    /// | key | default | result |
    /// | --- | --- | --- |
    /// | a text | any | the resolved text |
    /// | another scalar | any | its JSON text |
    /// | unknown | given | the default |
    /// | unknown | none | none |
    fn placeholder(&mut self, inside: &str) -> Result<Option<Rc<str>>, Unresolvable> {
        if self.depth == MAX_DEPTH {
            return Err(Unresolvable::Depth);
        }
        self.depth += 1;
        self.take(COST + inside.len())?;
        // The inside first: `${${name}}` refers to the key that `name` names, and a default may contain placeholders.
        let inside = self.text(inside)?;
        let (key, default) = inside
            .split_once(':')
            .map_or((inside.as_str(), None), |(key, rest)| (key, Some(rest)));
        let answer = match ((self.find)(key), default) {
            (Some(Value::String(text)), _) => Some(self.value(key, text)?),
            (Some(other), _) => Some(other.to_string().into()),
            (None, Some(default)) => Some(default.into()),
            (None, None) => None,
        };
        self.take(answer.as_ref().map_or(0, |answer| answer.len()))?;
        self.depth -= 1;
        Ok(answer)
    }

    fn take(&mut self, bytes: usize) -> Result<(), Unresolvable> {
        self.left = self.left.checked_sub(bytes).ok_or(Unresolvable::Size)?;
        Ok(())
    }
}

/// Formats a cycle as `a → b → a`.
fn shown(keys: &[String], again: &str) -> String {
    let mut shown: Vec<_> = keys.iter().take(SHOWN_KEYS).map(|key| keys::shown(key)).collect();
    if keys.len() > SHOWN_KEYS {
        shown.push("…".into());
    }
    shown.push(keys::shown(again));
    shown.join(" → ")
}

/// Returns the position of the `}` that closes a placeholder whose inside begins at the start of `text`.
fn matching_brace(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn resolved(document: Value) -> Value {
        let Value::Object(mut properties) = document else {
            panic!("an object")
        };
        resolve(&mut properties).unwrap();
        Value::Object(properties)
    }

    #[test]
    fn keys_defaults_and_nesting_are_resolved() {
        let document = json!({
            "host": "db", "port": 3306, "name": "host",
            "url": "mysql://${host}:${port}/${database:feed}",
            "nested": "${${name}}", "fallback": "${missing:${host}}",
            "escaped": "\\${host} is ${host}", "unknown": "${HOME}", "open": "${host"
        });
        let answer = resolved(document);
        assert_eq!(answer["url"], "mysql://db:3306/feed");
        assert_eq!(answer["nested"], "db");
        assert_eq!(answer["fallback"], "db");
        assert_eq!(answer["escaped"], "${host} is db");
        assert_eq!(answer["unknown"], "${HOME}");
        assert_eq!(answer["open"], "${host");
    }

    fn refused(document: Value) -> Unresolvable {
        let Value::Object(mut properties) = document else {
            panic!("an object")
        };
        resolve(&mut properties).unwrap_err()
    }

    #[test]
    fn a_cycle_is_an_error_that_names_its_keys() {
        let cycle = |keys: &str| Unresolvable::Cycle(keys.to_owned());
        assert_eq!(refused(json!({"a": "${a}${a}${a}"})), cycle("a → a"));
        assert_eq!(
            refused(json!({"a": "x ${b}", "b": "${c:d}", "c": "${b}"})),
            cycle("b → c → b")
        );
        assert_eq!(refused(json!({"a": "${${n}}", "n": "a"})), cycle("a → a"));
        assert_eq!(refused(json!({"a": "${x:${a}}"})), cycle("a → a"));
        assert_eq!(resolved(json!({"a": "\\${a}"})), json!({"a": "${a}"}));
        let long: Properties = (0..40)
            .map(|n| (format!("k{n}"), json!(format!("${{k{}}}", (n + 1) % 40))))
            .collect();
        let cycle = refused(Value::Object(long)).to_string();
        assert!(
            cycle.contains("k0 → k1 → ") && cycle.contains(" → … → k0") && cycle.len() < 200,
            "{cycle}"
        );
    }

    #[test]
    fn depth_and_bytes_are_bounded() {
        let chain: Properties = (0..1000)
            .map(|n| (format!("k{n}"), json!(format!("${{k{}}}", n + 1))))
            .collect();
        assert_eq!(refused(Value::Object(chain)), Unresolvable::Depth);
        let nested = "${".repeat(10_000) + &"}".repeat(10_000);
        assert_eq!(refused(json!({"a": nested})), Unresolvable::Depth);
        let mut bomb: Properties = (1..40)
            .map(|n| (format!("k{n}"), json!(format!("${{k{0}}}${{k{0}}}", n - 1))))
            .collect();
        bomb.insert("k0".to_owned(), json!("x"));
        assert_eq!(refused(Value::Object(bomb)), Unresolvable::Size);
        let open = "${".repeat(1_000_000);
        assert_eq!(resolved(json!({"a": open}))["a"], open);
    }

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let contents = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), bytes::Bytes::copy_from_slice(text.as_bytes())));
        let snapshot = Snapshot::new("v".to_owned(), contents.collect()).unwrap();
        check(&snapshot).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_version_with_a_cycle_is_found_before_it_is_published() {
        assert_eq!(
            findings(&[("feed.yml", "x: 1\na: '${a}${a}${a}'")]),
            ["feed.yml:2: a: placeholders refer to each other: a → a"]
        );
        let shared = ("application.yml", "a: ${b}\nb: s3cret\n");
        assert_eq!(findings(&[shared, ("feed.yml", "c: ${a}")]), Vec::<String>::new());
        assert_eq!(
            findings(&[shared, ("v2/feed-config-prod.properties", "# note\nb=${a}")]),
            ["v2/feed-config-prod.properties:2: b: placeholders refer to each other: b → a → b"]
        );
        let profiles = "a: ${b}\n---\nspring.config.activate.on-profile: x\nb: ${a}\n---\nspring.config.activate.on-profile: y\nb: 1\n";
        assert_eq!(
            findings(&[("feed.yml", profiles)]),
            ["feed.yml:4: b: placeholders refer to each other: b → a → b"]
        );
        assert_eq!(
            findings(&[shared, ("feed.yml", "a: plain\nb: ${a}")]),
            Vec::<String>::new(),
            "the shared value of a is hidden"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_handled(text in "[${}:a ]{0,24}") {
            let mut properties = Properties::from_iter([("a".to_owned(), json!(text))]);
            let _ = resolve(&mut properties);
        }

        #[test]
        fn resolving_twice_changes_nothing(texts in proptest::collection::vec("[ab]|\\$\\{[a-d](:[a-d])?\\}", 4)) {
            let mut once: Properties = "abcd".chars().map(String::from).zip(texts.into_iter().map(Value::from)).collect();
            if resolve(&mut once).is_ok() {
                let mut twice = once.clone();
                prop_assert_eq!(resolve(&mut twice), Ok(()));
                prop_assert_eq!(twice, once);
            }
        }
    }
}
