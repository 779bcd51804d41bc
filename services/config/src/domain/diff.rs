//! Differences between two versions, with secrets redacted.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::check::Checker;
use super::cipher;
use super::snapshot::{Snapshot, SourceFile};

const REDACTED: &str = "[redacted]";

/// Parts of key names that suggest a secret.
const SECRET_NAMES: [&str; 9] = [
    "password",
    "passwd",
    "secret",
    "token",
    "credential",
    "private",
    "apikey",
    "salt",
    "key",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    Added,
    Removed,
    Changed,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct KeyChange {
    /// `a.b[0]`, preceded by `#n ` where the file has several documents.
    pub key: String,
    pub change: Change,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FileChange {
    pub path: String,
    pub change: Change,
    /// Empty for plain files.
    pub keys: Vec<KeyChange>,
}

/// Compares two versions file by file and key by key.
pub fn between(from: &Snapshot, to: &Snapshot, checker: &Checker) -> Vec<FileChange> {
    let paths: BTreeSet<_> = from.files.keys().chain(to.files.keys()).collect();
    let mut changes = Vec::new();
    for path in paths {
        let (old, new) = (from.files.get(path), to.files.get(path));
        let Some(change) = change(old.map(|file| &file.bytes), new.map(|file| &file.bytes)) else {
            continue;
        };
        changes.push(FileChange {
            path: path.clone(),
            change,
            keys: keys(old, new, checker),
        });
    }
    changes
}

fn change<T: PartialEq>(old: Option<&T>, new: Option<&T>) -> Option<Change> {
    match (old, new) {
        (None, Some(_)) => Some(Change::Added),
        (Some(_), None) => Some(Change::Removed),
        (old, new) if old != new => Some(Change::Changed),
        _ => None,
    }
}

fn keys(old: Option<&SourceFile>, new: Option<&SourceFile>, checker: &Checker) -> Vec<KeyChange> {
    let (old, new) = (flat(old), flat(new));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut changes = Vec::new();
    for name in names {
        let (from, to) = (old.get(name), new.get(name));
        if let Some(change) = change(from, to) {
            let redacted = |value: &Value| redacted(name, value, checker);
            changes.push(KeyChange {
                key: name.clone(),
                change,
                from: from.map(redacted),
                to: to.map(redacted),
            });
        }
    }
    changes
}

fn flat(file: Option<&SourceFile>) -> BTreeMap<String, Value> {
    let documents = file.map(|file| file.documents.as_slice()).unwrap_or_default();
    let mut flat = BTreeMap::new();
    for (number, document) in documents.iter().enumerate() {
        for (key, value) in &document.properties {
            let key = if documents.len() > 1 {
                format!("#{number} {key}")
            } else {
                key.clone()
            };
            flat.insert(key, value.clone());
        }
    }
    flat
}

/// Returns a value, or `[redacted]` for a secret: by the key's name, by a service's schema, or by the value's appearance (encrypted, a URL with
/// credentials, a PEM block).
fn redacted(name: &str, value: &Value, checker: &Checker) -> Value {
    let key = name.rsplit(' ').next().unwrap_or(name);
    let lower = key.to_ascii_lowercase().replace(['-', '_'], "");
    let by_name = SECRET_NAMES.iter().any(|secret| lower.contains(secret));
    let by_appearance = value.as_str().is_some_and(|text| {
        let user_info = text
            .split_once("://")
            .is_some_and(|(_, rest)| rest.split('/').next().unwrap_or("").contains('@'));
        text.starts_with(cipher::PREFIX) || user_info || text.contains("-----BEGIN")
    });
    if by_name || by_appearance || checker.is_secret(key) {
        REDACTED.into()
    } else {
        value.clone()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::domain::schema::Schema;
    use crate::domain::snapshot::Contents;

    fn snapshot(files: &[(&str, &str)]) -> Snapshot {
        let contents: Contents = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), Bytes::copy_from_slice(text.as_bytes())))
            .collect();
        Snapshot::new("v".to_owned(), contents).unwrap()
    }

    #[test]
    fn changes_are_listed_with_secrets_redacted() {
        let schema = r#"{"properties": {"mail": {"properties": {"way": {"type": "string", "writeOnly": true}}}}}"#;
        let checker = Checker::new(vec![Schema::parse("feed-config", schema).unwrap()], true);
        let from = "a: 1\nb: same\ndb:\n  password: hunter2\n  url: mysql://me:hunter2@db/x\n  pass: '{cipher}00'\nmail.way: hunter2\n";
        let to = "a: 2\nb: same\nc: [x]\ndb:\n  password: hunter3\n  url: mysql://me:hunter3@db/x\n  pass: '{cipher}11'\nmail.way: hunter3\n";
        let from = snapshot(&[("feed.yml", from), ("gone.txt", "x"), ("same.yml", "a: 1")]);
        let to = snapshot(&[("feed.yml", to), ("new.properties", "k=v"), ("same.yml", "a: 1")]);
        let changes = serde_json::to_value(between(&from, &to, &checker)).unwrap();
        let secret = |key: &str| json!({"key": key, "change": "changed", "from": "[redacted]", "to": "[redacted]"});
        assert_eq!(
            changes,
            json!([
                {"path": "feed.yml", "change": "changed", "keys": [
                    {"key": "a", "change": "changed", "from": 1, "to": 2},
                    {"key": "c[0]", "change": "added", "to": "x"},
                    secret("db.pass"), secret("db.password"), secret("db.url"), secret("mail.way")
                ]},
                {"path": "gone.txt", "change": "removed", "keys": []},
                {"path": "new.properties", "change": "added", "keys": [{"key": "k", "change": "added", "to": "v"}]}
            ])
        );
        assert_eq!(between(&to, &to, &checker), []);
    }
}
