//! Assembles the environment for a query: selects files, orders them by precedence, decrypts and merges them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::cipher;
use super::flat::Properties;
use super::keyring::KeyRing;
use super::query::Query;
use super::snapshot::Snapshot;

/// The files for one label.
#[derive(Debug, Clone)]
pub struct View {
    pub snapshot: Arc<Snapshot>,
    /// The folder of a label; its files take precedence over those outside.
    pub folder: Option<String>,
    /// The requested branch, tag or commit when it is not the default one.
    pub reference: Option<String>,
    /// `source.search-paths`; the last one takes precedence.
    pub search_paths: Arc<[String]>,
}

impl View {
    /// Returns the folders to search, highest precedence first, each ending with `/` or empty:
    /// search paths inside the label's folder, the label's folder, search paths, the root.
    #[must_use]
    pub fn folders(&self) -> Vec<String> {
        let within = |folder: String| {
            let search = self.search_paths.iter().rev();
            let mut folders: Vec<_> = search.map(|path| format!("{folder}{path}/")).collect();
            folders.push(folder);
            folders
        };
        let label = self.folder.iter().flat_map(|folder| within(format!("{folder}/")));
        label.chain(within(String::new())).collect()
    }

    /// Returns the path that decides who may read a file: a branch or tag counts like a folder.
    #[must_use]
    pub fn owned_path(&self, path: &str) -> String {
        match &self.reference {
            Some(reference) => format!("{reference}/{path}"),
            None => path.to_owned(),
        }
    }
}

/// Returns the paths of all settings files that a query selects in one view, present or not, highest precedence first.
pub fn settings_paths(view: &View, stems: &[String]) -> impl Iterator<Item = String> {
    paths(&view.folders(), stems).collect::<Vec<_>>().into_iter()
}

/// Returns the paths of settings files in folders, each of which ends with `/` or is empty.
pub fn paths<S: AsRef<str>>(folders: &[String], stems: &[S]) -> impl Iterator<Item = String> {
    stems.iter().flat_map(move |stem| {
        folders
            .iter()
            .flat_map(move |folder| EXTENSIONS.map(|extension| format!("{folder}{}.{extension}", stem.as_ref())))
    })
}

/// One source of properties. Its name ends with the file's name, from which clients derive the profile.
#[derive(Debug, Clone, PartialEq)]
pub struct PropertySource {
    pub name: String,
    pub properties: Properties,
    /// The position of each key in its file, when requested.
    pub origins: HashMap<String, String>,
}

/// The property sources for a query, highest precedence first.
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    pub query: Query,
    /// The versions of several labels are joined by commas, in the order of the request.
    pub version: String,
    pub sources: Vec<PropertySource>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no label {0}")]
pub struct UnknownLabel(pub String);

/// By falling precedence for one name, as Spring Boot reads a folder.
const EXTENSIONS: [&str; 4] = ["properties", "yml", "yaml", "json"];

/// Spring's name for the source with the highest precedence.
const OVERRIDES: &str = "overrides";

impl Environment {
    /// Collects the sources of all views, which are those of the query's labels in the same order.
    ///
    /// Precedence, highest first: the last label; within a label the stem (profile and application, see [`Query::stems`]); within a stem the
    /// folder (see [`View::folders`]); within a folder the extension; within a file the last document.
    pub fn assemble(views: &[View], query: Query, origin: &str, with_origins: bool) -> Self {
        let stems = query.stems();
        let mut sources = Vec::new();
        for view in views.iter().rev() {
            for path in settings_paths(view, &stems) {
                add_file(&mut sources, view, &path, &query, origin, with_origins);
            }
        }
        let versions: Vec<_> = views.iter().map(|view| view.snapshot.version.as_str()).collect();
        Self {
            version: versions.join(","),
            query,
            sources,
        }
    }

    /// Adds properties with the highest precedence.
    pub fn override_with(&mut self, overrides: &Properties) {
        if !overrides.is_empty() {
            let source = PropertySource {
                name: OVERRIDES.to_owned(),
                properties: overrides.clone(),
                origins: HashMap::new(),
            };
            self.sources.insert(0, source);
        }
    }

    /// Decrypts every `{cipher}` value. One that cannot be decrypted is replaced by `invalid.<key>: "<n/a>"`, as in Spring.
    pub fn decrypt(&mut self, keys: &KeyRing) {
        for source in &mut self.sources {
            let properties = std::mem::take(&mut source.properties);
            source.properties = properties
                .into_iter()
                .map(|(key, value)| match &value {
                    Value::String(text) if text.starts_with(cipher::PREFIX) => match keys.decrypt(text) {
                        Ok(plain) => (key, Value::String(plain)),
                        Err(_) => (format!("invalid.{key}"), Value::String("<n/a>".to_owned())),
                    },
                    _ => (key, value),
                })
                .collect();
        }
    }

    /// Merges all sources, sorted by key. A list of a source hides the whole list of a lower one, as in Spring.
    #[must_use]
    pub fn merged(&self) -> Properties {
        let mut merged = Properties::new();
        // The rank of the highest source that has items of a list. Ranks grow as precedence falls.
        let mut lists = HashMap::<String, usize>::new();
        for (rank, source) in self.sources.iter().enumerate() {
            for (key, value) in &source.properties {
                let hidden = list_roots(key).any(|root| lists.get(root).is_some_and(|by| *by < rank));
                if !hidden && !merged.contains_key(key) {
                    merged.insert(key.clone(), value.clone());
                }
            }
            // After the loop above: items of one list in one source do not hide each other.
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

fn add_file(
    sources: &mut Vec<PropertySource>,
    view: &View,
    path: &str,
    query: &Query,
    origin: &str,
    with_origins: bool,
) {
    let Some(file) = view.snapshot.files.get(path) else {
        return;
    };
    let several = file.documents.len() > 1;
    for (number, document) in file.documents.iter().enumerate().rev() {
        if !document.is_for(&query.profiles) {
            continue;
        }
        let file = format!("{origin}/{path}");
        let place = |key: &String| {
            let origin = match document.position(key) {
                Some(position) => format!("{file}:{}:{}", position.line, position.column),
                None => file.clone(),
            };
            (key.clone(), origin)
        };
        sources.push(PropertySource {
            name: if several {
                format!("{file} (document #{number})")
            } else {
                file.clone()
            },
            properties: document.properties.clone(),
            origins: if with_origins {
                document.properties.keys().map(place).collect()
            } else {
                HashMap::new()
            },
        });
    }
}

/// Returns the lists that a key is an item of: `a.b` and `a.b[0].c` for `a.b[0].c[1]`.
fn list_roots(key: &str) -> impl Iterator<Item = &str> {
    key.match_indices('[').map(|(at, _)| &key[..at])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;
    use sosohappy_common::clock::SystemEntropy;

    use super::*;
    use crate::domain::snapshot::{Contents, version_of};
    use crate::settings::CipherForm;

    fn view(files: &[(&str, &str)], folder: Option<&str>) -> View {
        let contents: Contents = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), Bytes::copy_from_slice(text.as_bytes())))
            .collect();
        let version = version_of(&contents);
        View {
            snapshot: Arc::new(Snapshot::new(version, contents).unwrap()),
            folder: folder.map(ToOwned::to_owned),
            reference: None,
            search_paths: Arc::default(),
        }
    }

    fn assemble(view: View, query: Query) -> Environment {
        Environment::assemble(&[view], query, "file:x", false)
    }

    fn names(environment: &Environment) -> Vec<&str> {
        environment.sources.iter().map(|source| source.name.as_str()).collect()
    }

    #[test]
    fn precedence_is_last_profile_then_application_then_shared() {
        let files = [
            "application.yml",
            "application-eu.yml",
            "feed.yml",
            "feed-prod.yml",
            "feed-eu.yml",
            "feed.properties",
            "dm.yml",
        ];
        let view = view(&files.map(|file| (file, "a: 1")), None);
        let mut environment = assemble(view, Query::new("feed", "prod,eu", None).unwrap());
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
        environment.override_with(&Properties::from_iter([("a".to_owned(), Value::from(9))]));
        assert_eq!(environment.sources[0].name, "overrides");
        assert_eq!(environment.merged()["a"], 9);
    }

    #[test]
    fn a_folder_label_takes_precedence_and_the_last_label_wins() {
        let files = [("feed.yml", "a: 1"), ("v2/feed.yml", "a: 2"), ("v3/feed.yml", "a: 3")];
        let query = Query::new("feed", "default", Some("v2,v3")).unwrap();
        assert_eq!(query.labels(), [Some("v2".to_owned()), Some("v3".to_owned())]);
        let v2 = assemble(view(&files, Some("v2")), query.clone());
        assert_eq!(names(&v2), ["file:x/v2/feed.yml", "file:x/feed.yml"]);
        assert_eq!(v2.merged()["a"], 2);
        let other = view(&files[..1], None);
        let views = [view(&files, Some("v2")), view(&files, Some("v3")), other];
        let several = Environment::assemble(&views, query, "x", false);
        assert_eq!(several.merged()["a"], 1, "the last label wins");
        let expected: Vec<_> = views.iter().map(|view| view.snapshot.version.as_str()).collect();
        assert_eq!(several.version, expected.join(","));
    }

    #[test]
    fn origins_name_line_and_column() {
        let files = [("feed.yml", "a:\n  b: 1\n---\nc: 2\n")];
        let query = Query::new("feed", "default", None).unwrap();
        let environment = Environment::assemble(&[view(&files, None)], query, "x", true);
        assert_eq!(environment.sources[0].origins["c"], "x/feed.yml:4:1");
        assert_eq!(environment.sources[1].origins["a.b"], "x/feed.yml:2:3");
    }

    #[test]
    fn a_shorter_list_of_a_higher_source_hides_the_longer_one() {
        let view = view(&[("feed.yml", "l: [1, 2, 3]\nk: 1"), ("feed-prod.yml", "l: [9]")], None);
        let merged = assemble(view, Query::new("feed", "prod", None).unwrap()).merged();
        assert_eq!(Value::Object(merged), json!({"k": 1, "l[0]": 9}));
    }

    #[test]
    fn values_that_cannot_be_decrypted_become_invalid_keys() {
        let keys = KeyRing::of_one("key");
        let good = keys.encrypt("open", CipherForm::Spring, &SystemEntropy).unwrap();
        let text = format!("good: '{{cipher}}{good}'\nbad: '{{cipher}}00'\nplain: x\n");
        let mut environment = assemble(
            view(&[("feed.yml", &text)], None),
            Query::new("feed", "default", None).unwrap(),
        );
        environment.decrypt(&keys);
        let properties = Value::Object(environment.sources[0].properties.clone());
        assert_eq!(
            properties,
            json!({"good": "open", "invalid.bad": "<n/a>", "plain": "x"})
        );
    }
}
