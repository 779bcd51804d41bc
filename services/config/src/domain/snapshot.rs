//! All documents of a source at one moment, in memory.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::flat::{Properties, flatten};
use super::query::Form;

/// One document of a file, with the profiles it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub properties: Properties,
    /// `spring.config.activate.on-profile`: any of these names; `!name` where it must be away.
    on_profile: Vec<String>,
}

impl Document {
    #[must_use]
    pub fn is_for(&self, profiles: &[String]) -> bool {
        let matches = |wanted: &String| match wanted.strip_prefix('!') {
            Some(unwanted) => !profiles.iter().any(|profile| profile == unwanted),
            None => profiles.contains(wanted),
        };
        self.on_profile.is_empty() || self.on_profile.iter().any(matches)
    }

    fn new(mut properties: Properties) -> Self {
        let mut on_profile = Vec::new();
        properties.retain(|key, value| {
            let activates = key
                .strip_prefix("spring.config.activate.on-profile")
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('['));
            if activates && let Value::String(names) = value {
                on_profile.extend(names.split(',').map(|name| name.trim().to_owned()));
            }
            !activates
        });
        Self { properties, on_profile }
    }
}

/// A file of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFile {
    pub bytes: Vec<u8>,
    /// Parsed when the extension is a known one; a later document wins over an earlier one.
    pub documents: Vec<Document>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct BadFile {
    pub path: String,
    /// With line and column where the parser tells them.
    pub reason: String,
}

/// Every file of a source by its path, `/`-separated, and a version that changes when any of them does.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    pub files: BTreeMap<String, SourceFile>,
    pub version: String,
}

impl Snapshot {
    /// Parses every file; the first that does not parse refuses the whole snapshot.
    pub fn new(contents: BTreeMap<String, Vec<u8>>) -> Result<Self, BadFile> {
        let mut digest = Sha256::new();
        let mut files = BTreeMap::new();
        for (path, bytes) in contents {
            digest.update((path.len() as u64).to_le_bytes());
            digest.update(path.as_bytes());
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(&bytes);
            let documents = parse(&path, &bytes).map_err(|reason| BadFile {
                path: path.clone(),
                reason,
            })?;
            files.insert(path, SourceFile { bytes, documents });
        }
        Ok(Self {
            files,
            version: hex::encode(&digest.finalize()[..20]),
        })
    }

    /// Whether the label names a folder of the source.
    #[must_use]
    pub fn has_folder(&self, label: &str) -> bool {
        let folder = format!("{label}/");
        self.files
            .range(folder.clone()..)
            .next()
            .is_some_and(|(path, _)| path.starts_with(&folder))
    }
}

fn parse(path: &str, bytes: &[u8]) -> Result<Vec<Document>, String> {
    let Some(form) = path
        .rsplit_once('.')
        .and_then(|(_, extension)| Form::of_extension(extension))
    else {
        return Ok(Vec::new());
    };
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let documents = match form {
        Form::Yaml => parse_yaml(text)?,
        Form::Properties => vec![parse_properties(bytes)?],
        Form::Json => vec![flatten(object(
            serde_json::from_str(text).map_err(|error| error.to_string())?,
        )?)],
    };
    Ok(documents.into_iter().map(Document::new).collect())
}

fn parse_yaml(text: &str) -> Result<Vec<Properties>, String> {
    use serde::Deserialize as _;
    let mut documents = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let mut value = serde_yaml_ng::Value::deserialize(document).map_err(|error| error.to_string())?;
        value.apply_merge().map_err(|error| error.to_string())?;
        match yaml_to_json(value)? {
            Value::Null => {}
            value => documents.push(flatten(object(value)?)),
        }
    }
    Ok(documents)
}

/// Keys become text whatever their type, as in Spring.
fn yaml_to_json(value: serde_yaml_ng::Value) -> Result<Value, String> {
    use serde_yaml_ng::Value as Yaml;
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(truth) => Value::Bool(truth),
        Yaml::Number(number) => serde_json::to_value(number).map_err(|error| error.to_string())?,
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(yaml_to_json).collect::<Result<_, _>>()?),
        Yaml::Mapping(fields) => {
            let field = |(key, value)| {
                let key = match yaml_to_json(key)? {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                Ok::<_, String>((key, yaml_to_json(value)?))
            };
            Value::Object(fields.into_iter().map(field).collect::<Result<_, _>>()?)
        }
        Yaml::Tagged(tagged) => yaml_to_json(tagged.value)?,
    })
}

fn parse_properties(bytes: &[u8]) -> Result<Properties, String> {
    let mut properties = Properties::new();
    java_properties::PropertiesIter::new_with_encoding(bytes, encoding_rs::UTF_8)
        .read_into(|key, value| {
            properties.insert(key, Value::String(value));
        })
        .map_err(|error| error.to_string())?;
    Ok(properties)
}

fn object(value: Value) -> Result<Value, String> {
    if value.is_object() {
        Ok(value)
    } else {
        Err("the document is not a map of keys".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn documents(path: &str, text: &str) -> Result<Vec<Document>, BadFile> {
        let contents = BTreeMap::from([(path.to_owned(), text.as_bytes().to_vec())]);
        Snapshot::new(contents).map(|snapshot| snapshot.files[path].documents.clone())
    }

    #[test]
    fn yaml_documents_keep_their_profiles_and_types() {
        let text = "a: 1\nb: [x, true]\n---\nspring.config.activate.on-profile: prod, !eu\na: 2.5\n---\n# nothing\n";
        let documents = documents("feed.yml", text).unwrap();
        assert_eq!(
            Value::Object(documents[0].properties.clone()),
            json!({"a": 1, "b[0]": "x", "b[1]": true})
        );
        assert_eq!(Value::Object(documents[1].properties.clone()), json!({"a": 2.5}));
        assert!(documents[1].is_for(&["prod".to_owned()]));
        assert!(documents[1].is_for(&["dev".to_owned()]));
        assert!(!documents[1].is_for(&["eu".to_owned()]));
        assert_eq!(documents.len(), 2);
    }

    #[test]
    fn properties_are_utf8_text() {
        let documents = documents("feed.properties", "# note\na.b = 행복\nc: 1\n").unwrap();
        assert_eq!(
            Value::Object(documents[0].properties.clone()),
            json!({"a.b": "행복", "c": "1"})
        );
    }

    #[test]
    fn a_broken_file_names_itself_and_the_line() {
        let error = documents("feed.yml", "a: 1\nb: [\n").unwrap_err();
        assert_eq!(error.path, "feed.yml");
        assert!(error.reason.contains("line"), "{}", error.reason);
        assert!(documents("feed.yml", "- a\n- b\n").is_err());
        assert!(documents("feed.json", "{").is_err());
    }

    #[test]
    fn the_version_follows_the_content() {
        let version = |text: &str| {
            Snapshot::new(BTreeMap::from([("a.yml".to_owned(), text.as_bytes().to_vec())]))
                .unwrap()
                .version
        };
        assert_eq!(version("a: 1"), version("a: 1"));
        assert_ne!(version("a: 1"), version("a: 2"));
    }
}
