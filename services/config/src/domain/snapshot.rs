//! All documents of one version, in memory.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sosohappy_common::settings::flags::SECTION;
use sosohappy_common::settings::keys;

use super::activation::Expression;
use super::finding::{Finding, ParseError, Refused};
use super::flat::{Properties, flatten};
use super::json_numbers;
use super::positions::{self, Position, Positions};
use super::query::Form;
use super::yaml;

/// Files by `/`-separated path.
pub type Contents = BTreeMap<String, Bytes>;

const ON_PROFILE: &str = "spring.config.activate.on-profile";

/// One document of a file, with the profiles that activate it.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub properties: Properties,
    /// `spring.config.activate.on-profile`; none for all profiles.
    on_profile: Option<Expression>,
    positions: Positions,
}

impl Document {
    /// Returns whether the profiles of a query activate this document.
    #[must_use]
    pub fn is_for(&self, profiles: &[String]) -> bool {
        self.on_profile
            .as_ref()
            .is_none_or(|expression| expression.matches(profiles))
    }

    /// Returns whether the document is active for all profiles.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.on_profile.is_none()
    }

    /// Returns the position of a key, or of the nearest enclosing one.
    #[must_use]
    pub fn position(&self, key: &str) -> Option<Position> {
        positions::nearest(&self.positions, key)
    }

    fn new(mut properties: Properties, positions: Positions) -> Result<Self, ParseError> {
        let line = |key: &str| positions::nearest(&positions, key).map(|position| position.line);
        for key in properties.keys() {
            keys::check_depth(key).map_err(|error| ParseError {
                line: line(key),
                reason: format!("{}: {error}", keys::shown(key)),
            })?;
        }
        keys::check_gaps(properties.keys().map(String::as_str))
            .map_err(|error| ParseError::without_line(error.to_string()))?;
        // `on-profile` may be a text, a list (`on-profile[0]`), or both; either is a list of alternatives.
        let mut on_profile: Option<String> = None;
        properties.retain(|key, value| {
            let activates = key
                .strip_prefix(ON_PROFILE)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('['));
            if activates && let Value::String(names) = value {
                on_profile = Some(match on_profile.take() {
                    Some(before) => format!("{before},{names}"),
                    None => names.clone(),
                });
            }
            !activates
        });
        let on_profile = on_profile.as_deref().map(Expression::parse).transpose();
        let on_profile = on_profile.map_err(|malformed| ParseError {
            line: line(ON_PROFILE),
            reason: format!("{ON_PROFILE}: {malformed}"),
        })?;
        Ok(Self {
            properties,
            on_profile,
            positions,
        })
    }
}

/// A file of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFile {
    pub bytes: Bytes,
    /// Parsed by extension, empty for plain files; a later document takes precedence.
    pub documents: Vec<Document>,
}

/// Every file of a source by path, and its version, which changes with any of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    pub files: BTreeMap<String, SourceFile>,
    pub version: String,
}

impl Snapshot {
    /// Parses every file. One that does not parse makes the whole version invalid.
    pub fn new(version: String, contents: Contents) -> Result<Self, Refused> {
        let mut files = BTreeMap::new();
        let mut findings = Vec::new();
        for (path, bytes) in contents {
            match parse(&path, &bytes) {
                Ok(documents) => drop(files.insert(path, SourceFile { bytes, documents })),
                Err(parse_error) => findings.push(Finding::new(&path, parse_error.line, parse_error.reason)),
            }
        }
        if findings.is_empty() {
            Ok(Self { files, version })
        } else {
            Err(Refused(findings))
        }
    }

    /// Returns the files as bytes.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let file = |(path, file): (&String, &SourceFile)| (path.clone(), file.bytes.clone());
        self.files.iter().map(file).collect()
    }

    /// Returns the names of all flags with the files that set them.
    #[must_use]
    pub fn flags(&self) -> BTreeMap<String, BTreeSet<&str>> {
        let mut flags: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for (path, file) in &self.files {
            for key in file.documents.iter().flat_map(|document| document.properties.keys()) {
                if let Some(name) = key.strip_prefix(SECTION).and_then(|rest| rest.strip_prefix('.')) {
                    flags.entry(name.to_owned()).or_default().insert(path);
                }
            }
        }
        flags
    }

    /// Returns whether the source has a folder of this name.
    #[must_use]
    pub fn has_folder(&self, label: &str) -> bool {
        let folder = format!("{label}/");
        self.files
            .range(folder.clone()..)
            .next()
            .is_some_and(|(path, _)| path.starts_with(&folder))
    }
}

/// Returns the version of a folder: a digest of 40 hex digits, as long as a commit.
#[must_use]
pub fn version_of(contents: &Contents) -> String {
    let mut digest = Sha256::new();
    for (path, bytes) in contents {
        digest.update((path.len() as u64).to_le_bytes());
        digest.update(path.as_bytes());
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    }
    hex::encode(&digest.finalize()[..20])
}

/// Returns the form of a file by its extension; none for plain files.
#[must_use]
pub fn form_of(path: &str) -> Option<Form> {
    let (_, extension) = path.rsplit_once('.')?;
    Form::of_extension(extension)
}

fn parse(path: &str, bytes: &[u8]) -> Result<Vec<Document>, ParseError> {
    let Some(form) = form_of(path) else {
        return Ok(Vec::new());
    };
    let text = std::str::from_utf8(bytes).map_err(|error| ParseError {
        line: Some(bytes[..error.valid_up_to()].split(|byte| *byte == b'\n').count()),
        reason: "not UTF-8".to_owned(),
    })?;
    // Some editors write a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match form {
        Form::Yaml => yaml::read(text)?
            .into_iter()
            .map(|(properties, positions)| Document::new(properties, positions))
            .collect(),
        Form::Properties => {
            let documents = split_properties(text);
            let is_single = documents.len() == 1;
            let mut parsed = Vec::new();
            for (lines_before, text) in documents {
                let (properties, positions) = parse_properties(text.as_bytes(), lines_before)?;
                if is_single || !properties.is_empty() {
                    parsed.push(Document::new(properties, positions)?);
                }
            }
            Ok(parsed)
        }
        Form::Json => {
            let value = serde_json::from_str(&json_numbers::quote_wide(text))
                .map_err(|error| ParseError::at(error.line(), error.to_string()))?;
            // Positions come from the YAML parser, which reads JSON except escapes such as `\/`. Without them messages and origins name no line.
            let documents = yaml::read(text).unwrap_or_default();
            let (_, positions) = documents.into_iter().next().unwrap_or_default();
            Ok(vec![Document::new(flatten(object(value)?), positions)?])
        }
    }
}

/// Splits a properties file into documents, each with the number of lines before it, as Spring Boot does: at a line `#---` or `!---`, unless the
/// line before is a comment with the same prefix or the line after is a comment.
fn split_properties(text: &str) -> Vec<(usize, &str)> {
    let comment_prefix = |line: &str| line.trim_start().chars().next().filter(|first| "#!".contains(*first));
    let mut documents = Vec::new();
    let (mut start, mut lines_before) = (0, 0);
    let mut offset = 0;
    // The last line's prefix when it is a comment, and whether it continues on this one.
    let (mut last_comment, mut is_continued) = (None, false);
    let mut lines = text.split_inclusive('\n').enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        offset += line.len();
        let content = line.trim_end();
        let prefix = if is_continued { None } else { comment_prefix(line) };
        let is_separator = prefix.is_some_and(|prefix| content.strip_prefix(prefix) == Some("---"))
            && last_comment != prefix
            && lines.peek().is_none_or(|(_, next)| comment_prefix(next).is_none());
        if is_separator {
            documents.push((lines_before, &text[start..offset]));
            (start, lines_before) = (offset, number + 1);
        }
        last_comment = prefix;
        let backslashes = line
            .trim_end_matches(['\r', '\n'])
            .bytes()
            .rev()
            .take_while(|byte| *byte == b'\\');
        is_continued = prefix.is_none() && backslashes.count() % 2 == 1;
    }
    documents.push((lines_before, &text[start..]));
    documents
}

fn parse_properties(bytes: &[u8], lines_before: usize) -> Result<(Properties, Positions), ParseError> {
    use java_properties::LineContent;
    let (mut properties, mut positions) = (Properties::new(), Positions::new());
    for line in java_properties::PropertiesIter::new_with_encoding(bytes, encoding_rs::UTF_8) {
        let line = line.map_err(|error| ParseError {
            line: error.line_number().map(|line| lines_before + line),
            reason: "invalid line: `\\u` must be followed by four hex digits".to_owned(),
        })?;
        let number = lines_before + line.line_number();
        if let LineContent::KVPair(key, value) = line.consume_content() {
            positions.insert(
                key.clone(),
                Position {
                    line: number,
                    column: 1,
                },
            );
            properties.insert(key, Value::String(value));
        }
    }
    Ok((properties, positions))
}

fn object(value: Value) -> Result<Value, ParseError> {
    if value.is_object() {
        Ok(value)
    } else {
        Err(ParseError::without_line("the document is not a map of keys"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn contents(path: &str, text: &str) -> Contents {
        Contents::from([(path.to_owned(), Bytes::copy_from_slice(text.as_bytes()))])
    }

    fn documents(path: &str, text: &str) -> Result<Vec<Document>, Refused> {
        Snapshot::new("v".to_owned(), contents(path, text)).map(|snapshot| snapshot.files[path].documents.clone())
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
    fn properties_may_have_several_documents() {
        let text = "a=1\n#---\nspring.config.activate.on-profile=prod\na=2\n!---  \n\nb=3\n#---\n";
        let read = documents("feed.properties", text).unwrap();
        let properties: Vec<_> = read
            .iter()
            .map(|document| Value::Object(document.properties.clone()))
            .collect();
        assert_eq!(properties, [json!({"a": "1"}), json!({"a": "2"}), json!({"b": "3"})]);
        let is_for_prod: Vec<_> = read.iter().map(Document::is_for_all).collect();
        assert_eq!(is_for_prod, [true, false, true]);
        assert_eq!(read[2].position("b").map(|position| position.line), Some(7));
        // As in Spring Boot these lines are comments or parts of a value.
        for text in [
            "a=1\n# note\n#---\nb=2",
            "a=1\n#---\n# note\nb=2",
            "a=1\n #---\nb=2",
            "a=1\n#----\nb=2",
            "a=1\\\n#---\nb=2",
        ] {
            assert_eq!(documents("feed.properties", text).unwrap().len(), 1, "{text}");
        }
        let Refused(findings) = documents("feed.properties", "a=1\n#---\nb=\\u00x\n").unwrap_err();
        assert_eq!(findings[0].line, Some(3));
    }

    #[test]
    fn a_finding_names_file_and_line() {
        for (path, text, line) in [
            ("feed.yml", "a: 1\nb: [\n", Some(2)),
            ("feed.yml", "a: 1\na: 2\n", Some(2)),
            ("feed.yml", "- a\n- b\n", None),
            (
                "feed.yml",
                "a: 1\nspring.config.activate.on-profile: 'a & b | c'\n",
                Some(2),
            ),
            ("feed.json", "{\n", Some(2)),
            ("feed.properties", "a=1\nb=\\u00x\n", Some(2)),
        ] {
            let Refused(findings) = documents(path, text).unwrap_err();
            assert_eq!(findings.len(), 1, "{text}");
            assert_eq!((findings[0].path.as_str(), findings[0].line), (path, line), "{text}");
        }
    }

    #[test]
    fn a_key_of_thousands_of_parts_is_refused_with_its_position() {
        let deep = vec!["a"; 3000].join(".");
        for (path, text, line) in [
            ("application.properties", format!("b=1\n{deep}=1\n"), Some(2)),
            ("application.yml", format!("b: 1\n? {deep}\n: 1\n"), Some(2)),
            ("application.json", format!("{{\n\"{deep}\": 1}}"), Some(2)),
            (
                "application.properties",
                format!("a{}=1\n", "[0]".repeat(3000)),
                Some(1),
            ),
        ] {
            let Refused(findings) = documents(path, &text).unwrap_err();
            assert_eq!((findings.len(), findings[0].line), (1, line), "{path}");
            let reason = &findings[0].reason;
            assert!(
                reason.ends_with("a key has at most 32 parts") && reason.len() < 200,
                "{reason}"
            );
        }
    }

    #[test]
    fn sparse_lists_are_refused() {
        let sparse = (0..100)
            .map(|list| format!("a[{list}][9999]=1\n"))
            .collect::<Vec<_>>()
            .concat();
        assert!(documents("feed.properties", &sparse).is_err());
        assert!(documents("feed.properties", "a[9]=1\n").is_ok());
    }

    #[test]
    fn many_keys_take_linear_time() {
        let cpu_time = || {
            let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
            text.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
        };
        let text = (0..10_000)
            .map(|number| format!("other{number}:\n  name: {number}\n"))
            .collect::<Vec<_>>()
            .concat();
        let contents = contents("application.yml", &text);
        let before = cpu_time();
        let snapshot = Snapshot::new("v".to_owned(), contents).unwrap();
        let taken = cpu_time() - before;
        assert_eq!(snapshot.files["application.yml"].documents[0].properties.len(), 10_000);
        assert!(taken < 2_000, "10,000 keys took {taken} ms");
    }

    #[test]
    fn every_invalid_file_is_named() {
        let mut both = contents("a.yml", "a: [");
        both.extend(contents("b.json", "["));
        let Refused(findings) = Snapshot::new("v".to_owned(), both).unwrap_err();
        assert_eq!(
            findings.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(),
            ["a.yml", "b.json"]
        );
    }

    #[test]
    fn keys_have_positions() {
        let yaml = documents("feed.yml", "---\n# nothing\n---\na: 1\nb:\n  c: 2\n").unwrap();
        assert_eq!(yaml[0].position("b.c").map(|position| position.line), Some(6));
        let properties = documents("feed.properties", "# note\na.b = \\\n  1\nc: 1\n").unwrap();
        assert_eq!(properties[0].position("c").map(|position| position.line), Some(4));
    }

    #[test]
    fn the_version_is_a_digest_of_the_content() {
        let version = |text: &str| version_of(&contents("a.yml", text));
        assert_eq!(version("a: 1"), version("a: 1"));
        assert_ne!(version("a: 1"), version("a: 2"));
    }
}
