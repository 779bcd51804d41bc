//! Which files answer a query, in which order, and what goes out.

use serde_json::Value;

use super::cipher::{self, Cipher};
use super::flat::Properties;
use super::query::Query;
use super::snapshot::Snapshot;

/// One source of properties; its name ends in the file's name, from which clients read the profile.
#[derive(Debug, Clone, PartialEq)]
pub struct PropertySource {
    pub name: String,
    pub properties: Properties,
}

/// The answer to a query: sources with the highest precedence first.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    pub query: Query,
    pub version: String,
    pub sources: Vec<PropertySource>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no label {0}")]
pub struct UnknownLabel(pub String);

/// In falling precedence within one name, as Spring Boot reads a folder.
const EXTENSIONS: [&str; 4] = ["properties", "yml", "yaml", "json"];

/// The name that stands for every application.
const SHARED: &str = "application";

impl Environment {
    /// A profile's file wins over one without, a later profile over an earlier one, the application's over the shared one.
    /// A label of a folder source is a folder inside it, whose files win over those outside.
    pub fn assemble(snapshot: &Snapshot, query: Query, origin: &str) -> Result<Self, UnknownLabel> {
        let mut folders = vec![String::new()];
        if let Some(label) = &query.label {
            if !snapshot.has_folder(label) {
                return Err(UnknownLabel(label.clone()));
            }
            folders.insert(0, format!("{label}/"));
        }
        let mut applications: Vec<_> = query.applications().rev().filter(|name| *name != SHARED).collect();
        applications.push(SHARED);
        let stems = query
            .profiles
            .iter()
            .rev()
            .flat_map(|profile| applications.iter().map(move |name| format!("{name}-{profile}")))
            .chain(applications.iter().map(ToString::to_string));

        let mut sources = Vec::new();
        for stem in stems {
            for folder in &folders {
                for extension in EXTENSIONS {
                    let path = format!("{folder}{stem}.{extension}");
                    if let Some(file) = snapshot.files.get(&path) {
                        let several = file.documents.len() > 1;
                        for (number, document) in file.documents.iter().enumerate().rev() {
                            if document.is_for(&query.profiles) {
                                let suffix = if several {
                                    format!(" (document #{number})")
                                } else {
                                    String::new()
                                };
                                let name = format!("{origin}/{path}{suffix}");
                                sources.push(PropertySource {
                                    name,
                                    properties: document.properties.clone(),
                                });
                            }
                        }
                    }
                }
            }
        }
        Ok(Self {
            query,
            version: snapshot.version.clone(),
            sources,
        })
    }

    /// Opens every `{cipher}` value. One that cannot be opened goes away, and `invalid.<key>: "<n/a>"` tells so.
    pub fn decrypt(&mut self, cipher: Option<&Cipher>) {
        for source in &mut self.sources {
            let properties = std::mem::take(&mut source.properties);
            source.properties = properties
                .into_iter()
                .map(|(key, value)| match &value {
                    Value::String(text) if text.starts_with(cipher::PREFIX) => {
                        match cipher.and_then(|cipher| cipher.decrypt(text).ok()) {
                            Some(plain) => (key, Value::String(plain)),
                            None => (format!("invalid.{key}"), Value::String("<n/a>".to_owned())),
                        }
                    }
                    _ => (key, value),
                })
                .collect();
        }
    }

    /// All sources as one, sorted by key. A list of a higher source hides the whole list of a lower one, as in Spring.
    #[must_use]
    pub fn merged(&self) -> Properties {
        let mut merged = Properties::new();
        let mut lists = std::collections::HashMap::<String, usize>::new();
        for (rank, source) in self.sources.iter().enumerate() {
            for (key, value) in &source.properties {
                let hidden = list_roots(key).any(|root| lists.get(root).is_some_and(|by| *by < rank));
                if !hidden && !merged.contains_key(key) {
                    merged.insert(key.clone(), value.clone());
                }
            }
            for key in source.properties.keys() {
                for root in list_roots(key) {
                    lists.entry(root.to_owned()).or_insert(rank);
                }
            }
        }
        merged.sort_keys();
        merged
    }
}

/// `a.b[0].c[1]` is an item of the lists `a.b` and `a.b[0].c`.
fn list_roots(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('[').map(|(at, _)| &key[..at])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use sosohappy_common::clock::SystemEntropy;

    use super::*;

    fn snapshot(files: &[(&str, &str)]) -> Snapshot {
        let contents: BTreeMap<_, _> = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
            .collect();
        Snapshot::new(contents).unwrap()
    }

    fn names(environment: &Environment) -> Vec<&str> {
        environment.sources.iter().map(|source| source.name.as_str()).collect()
    }

    #[test]
    fn profile_over_application_over_shared_and_the_last_profile_wins() {
        let files = [
            "application.yml",
            "application-eu.yml",
            "feed.yml",
            "feed-prod.yml",
            "feed-eu.yml",
            "feed.properties",
            "dm.yml",
        ];
        let snapshot = snapshot(&files.map(|file| (file, "a: 1")));
        let query = Query::new("feed", "prod,eu", None).unwrap();
        let environment = Environment::assemble(&snapshot, query, "file:x").unwrap();
        assert_eq!(
            names(&environment),
            [
                "file:x/feed-eu.yml",
                "file:x/application-eu.yml",
                "file:x/feed-prod.yml",
                "file:x/feed.properties",
                "file:x/feed.yml",
                "file:x/application.yml"
            ]
        );
    }

    #[test]
    fn a_label_is_a_folder_over_the_rest() {
        let snapshot = snapshot(&[("feed.yml", "a: 1"), ("v2/feed.yml", "a: 2")]);
        let query = |label| Query::new("feed", "default", label).unwrap();
        let environment = Environment::assemble(&snapshot, query(Some("v2")), "x").unwrap();
        assert_eq!(names(&environment), ["x/v2/feed.yml", "x/feed.yml"]);
        assert_eq!(environment.merged()["a"], 2);
        let unknown = Environment::assemble(&snapshot, query(Some("v3")), "x");
        assert_eq!(unknown.unwrap_err(), UnknownLabel("v3".to_owned()));
    }

    #[test]
    fn a_shorter_list_of_a_higher_source_hides_the_longer_one() {
        let snapshot = snapshot(&[("feed.yml", "l: [1, 2, 3]\nk: 1"), ("feed-prod.yml", "l: [9]")]);
        let query = Query::new("feed", "prod", None).unwrap();
        let merged = Environment::assemble(&snapshot, query, "x").unwrap().merged();
        assert_eq!(Value::Object(merged), json!({"k": 1, "l[0]": 9}));
    }

    #[test]
    fn what_cannot_be_decrypted_says_so() {
        let cipher = Cipher::new("key", "deadbeef").unwrap();
        let good = cipher.encrypt("open", &SystemEntropy);
        let text = format!("good: '{{cipher}}{good}'\nbad: '{{cipher}}00'\nplain: x\n");
        let snapshot = snapshot(&[("feed.yml", &text)]);
        let query = Query::new("feed", "default", None).unwrap();
        let mut environment = Environment::assemble(&snapshot, query, "x").unwrap();
        environment.decrypt(Some(&cipher));
        let properties = Value::Object(environment.sources[0].properties.clone());
        assert_eq!(
            properties,
            json!({"good": "open", "invalid.bad": "<n/a>", "plain": "x"})
        );
    }
}
