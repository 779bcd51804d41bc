//! Checks of a version before it is published: our services must be able to read their settings in it.
//!
//! Spring services keep their own keys in the same files. Sections that none of our services has are therefore accepted, and so are unknown keys
//! in `server`, which Spring has too.

use serde_json::Value;
use sosohappy_common::settings::keys::Step;
use sosohappy_common::settings::{flags, keys, renamed};

use super::cipher;
use super::finding::{Finding, Refused};
use super::placeholders;
use super::schema::{Key, Schema, stem_of};
use super::snapshot::{Document, Snapshot};

/// Findings of one version.
const MAX_FINDINGS: usize = 100;

/// Sections that Spring and our services both have.
const SPRING_SECTIONS: [&str; 1] = ["server"];

/// The stem of files shared by all applications.
const SHARED: &str = "application";

#[derive(Debug, Clone)]
pub struct Checker {
    schemas: Vec<Schema>,
    refuse_unknown: bool,
    placeholders: bool,
    refuse_faults: bool,
}

/// The first parts of fault switches, which make a service fail on purpose.
const FAULT_FLAGS: [Step<'_>; 2] = [Step::Key(flags::SECTION), Step::Key("fault")];

/// The reason for refusing a fault switch.
pub const FAULT_REFUSED: &str = "fault switches are refused here (check.fault-flags)";

/// Returns whether a key is a fault switch, or the section of all fault switches.
#[must_use]
pub fn is_fault_flag(key: &str) -> bool {
    keys::steps(key).starts_with(&FAULT_FLAGS)
}

impl Checker {
    #[must_use]
    pub fn new(schemas: Vec<Schema>, refuse_unknown: bool) -> Self {
        Self {
            schemas,
            refuse_unknown,
            placeholders: true,
            refuse_faults: false,
        }
    }

    /// Accepts every version that can be parsed.
    #[must_use]
    pub fn none() -> Self {
        Self {
            schemas: Vec::new(),
            refuse_unknown: false,
            placeholders: false,
            refuse_faults: false,
        }
    }

    /// Refuses versions with fault switches, whatever their values: `check.fault-flags`.
    #[must_use]
    pub fn refusing_fault_flags(self, refuse_faults: bool) -> Self {
        Self { refuse_faults, ..self }
    }

    /// Returns whether one of our services declares the key a secret.
    #[must_use]
    pub fn is_secret(&self, key: &str) -> bool {
        self.schemas.iter().any(|schema| schema.is_secret(key))
    }

    /// Checks every file of a version against the schemas of the applications that read it.
    pub fn check(&self, snapshot: &Snapshot) -> Result<(), Refused> {
        let mut findings = Vec::new();
        for (path, file) in &snapshot.files {
            if self.refuse_faults {
                for document in &file.documents {
                    let faults = document.properties.iter().filter(|(key, _)| is_fault_flag(key));
                    findings.extend(faults.map(|(key, _)| {
                        let line = document.position(key).map(|position| position.line);
                        Finding::new(path, line, format!("{}: {FAULT_REFUSED}", keys::shown(key)))
                    }));
                }
            }
            let stem = stem_of(path);
            let shared = stem == SHARED || stem.starts_with("application-");
            let schemas: Vec<_> = self
                .schemas
                .iter()
                .filter(|schema| shared || schema.is_for(path))
                .collect();
            if schemas.is_empty() {
                continue;
            }
            for document in &file.documents {
                self.check_document(path, document, &schemas, &mut findings);
            }
        }
        if self.placeholders {
            findings.extend(placeholders::check(snapshot));
        }
        findings.sort();
        findings.dedup();
        findings.truncate(MAX_FINDINGS);
        if findings.is_empty() {
            Ok(())
        } else {
            Err(Refused(findings))
        }
    }

    fn check_document(&self, path: &str, document: &Document, schemas: &[&Schema], findings: &mut Vec<Finding>) {
        for (key, value) in &document.properties {
            let reason = self.refuses(key, value, schemas);
            if let Some(reason) = reason {
                let line = document.position(key).map(|position| position.line);
                let key = keys::shown(public_part(key, schemas));
                findings.push(Finding::new(path, line, format!("{key}: {reason}")));
            }
        }
    }

    /// Returns why a value is refused; none when at least one service knows the key and none refuses the value.
    ///
    /// | place of the key in a schema | effect |
    /// | --- | --- |
    /// | foreign section | none |
    /// | group | known |
    /// | unknown key in a section | refused, unless another service knows it, Spring has the section, or `check.unknown-keys` accepts it |
    /// | value | known; refused when its schema refuses it, unless it is encrypted, or a placeholder in a section of Spring |
    fn refuses(&self, key: &str, value: &Value, schemas: &[&Schema]) -> Option<String> {
        let mut unknown = None;
        let mut known = false;
        // Flags have no schema: any name is allowed, and the value must be a switch.
        if key.split('.').next() == Some(flags::SECTION) && !is_encrypted(value) && value.as_str() != Some("") {
            return flags::Switch::read(value).err().map(|error| error.to_string());
        }
        let is_spring_section = SPRING_SECTIONS.contains(&key.split('.').next().unwrap_or_default());
        let current = renamed::current_name(key);
        let steps = keys::steps(&current);
        for schema in schemas {
            match schema.place(&steps) {
                Key::Foreign => {}
                Key::Group => known = true,
                Key::Unknown { section } => {
                    let names: Vec<_> = section.keys().map(String::as_str).collect();
                    unknown = unknown.or(Some(format!("unknown key; this section has {}", names.join(", "))));
                }
                Key::Value(place) | Key::Inside { value: place, .. } => {
                    known = true;
                    if is_encrypted(value) || (is_spring_section && is_placeholder(value)) {
                        continue;
                    }
                    if let Some(reason) = schema.refuses(place, value) {
                        return Some(match schemas.len() {
                            1 => reason,
                            _ => format!("{reason} by {}", schema.application),
                        });
                    }
                }
            }
        }
        unknown.filter(|_| !known && !is_spring_section && self.refuse_unknown)
    }
}

/// Returns the part of a key that a finding may name. A text in braces, `password: {s3cret}`, is read as a mapping: its keys are parts of the
/// value.
fn public_part<'k>(key: &'k str, schemas: &[&Schema]) -> &'k str {
    let current = renamed::current_name(key);
    let steps = keys::steps(&current);
    let depths = schemas.iter().filter_map(|schema| match schema.place(&steps) {
        Key::Inside { depth, .. } => Some(depth),
        Key::Value(_) | Key::Group | Key::Foreign | Key::Unknown { .. } => None,
    });
    let Some(depth) = depths.min() else {
        return key;
    };
    let mut parts = key.match_indices(['.', '[']).map(|(at, _)| &key[..at]);
    parts.find(|part| keys::steps(part).len() == depth).unwrap_or(key)
}

fn is_encrypted(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.starts_with(cipher::PREFIX))
}

/// Returns whether a value contains a placeholder: Spring resolves it before it reads the value, our services do not.
fn is_placeholder(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.contains("${"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::snapshot::Contents;

    const FEED: &str = r##"{
        "type": "object",
        "properties": {
            "server": {"$ref": "#/$defs/Server"},
            "log": {"type": "object", "properties": {"level": {"type": "string", "format": "log-directives"}}},
            "post": {"type": "object", "properties": {
                "text": {"type": "integer", "format": "uint", "minimum": 1},
                "wait": {"type": "string", "format": "duration-above-zero"},
                "form": {"enum": ["digest", "raw"]},
                "ratio": {"type": "number", "minimum": 0.0, "maximum": 1.0},
                "note": {"anyOf": [{"type": "string", "format": "uri"}, {"type": "null"}]},
                "names": {"type": "array", "items": {"type": "string"}},
                "keys": {"type": "array", "items": {"type": "object", "properties": {"kid": {"type": "string", "minLength": 2}}}},
                "topics": {"type": "object", "additionalProperties": {"type": "string"}}
            }}
        },
        "$defs": {"Server": {"type": "object", "properties": {"port": {"type": "integer", "minimum": 0, "maximum": 65535}}}}
    }"##;

    fn check(path: &str, text: &str) -> Vec<String> {
        let feed = Schema::parse("feed-config", FEED).unwrap();
        let dm = Schema::parse(
            "dm-config",
            r#"{"properties": {"log": {"properties": {"level": {"type": "string"}}}}}"#,
        );
        let checker = Checker::new(vec![feed, dm.unwrap()], true);
        let contents = Contents::from([(path.to_owned(), Bytes::copy_from_slice(text.as_bytes()))]);
        let snapshot = Snapshot::new("v".to_owned(), contents).unwrap();
        match checker.check(&snapshot) {
            Ok(()) => Vec::new(),
            Err(Refused(findings)) => findings.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn readable_settings_are_accepted() {
        let text = "server.port: '8891'\nlog.level: info,hyper=warn\npost:\n  text: 10\n  wait: 2h 30m\n  form: raw\n  ratio: 0.5\n  note: ''\n  \
                    names: a,b\n  keys: [{kid: ab}]\n  topics: {any: thing}\n---\npost.text: '{cipher}00'\n";
        assert_eq!(check("feed-config.yml", text), Vec::<String>::new());
        assert_eq!(
            check("v2/feed-config-prod.properties", "post.names[0]=a\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn unreadable_settings_are_refused_with_their_line() {
        let text = "post:\n  text: many\n  wait: soon\n  form: other\n  ratio: 2\n  note: x\n  keys:\n    - kid: a\n  txt: 1\nserver:\n  port: 70000\n";
        assert_eq!(
            check("feed-config.yml", text),
            [
                "feed-config.yml:2: post.text: a whole number is expected",
                "feed-config.yml:3: post.wait: a duration above zero, 10s or 2h 30m, is expected",
                "feed-config.yml:4: post.form: digest or raw is expected",
                "feed-config.yml:5: post.ratio: a number within its bounds is expected",
                "feed-config.yml:6: post.note: a URL is expected",
                "feed-config.yml:8: post.keys[0].kid: at least 2 characters are expected",
                "feed-config.yml:9: post.txt: unknown key; this section has text, wait, form, ratio, note, names, keys, topics",
                "feed-config.yml:11: server.port: a whole number from 0 to 65535 is expected",
            ]
        );
        let flat = "# note\npost.text=0\n";
        assert_eq!(
            check("feed-config.properties", flat),
            ["feed-config.properties:2: post.text: a whole number of at least 1 is expected"]
        );
        let json = "{\n  \"post\": {\n    \"text\": []\n  }\n}";
        assert_eq!(
            check("feed-config.json", json),
            ["feed-config.json:3: post.text: a whole number is expected"]
        );
    }

    #[test]
    fn settings_of_spring_services_are_accepted() {
        let text = "spring.datasource.url: x\nmanagement: {server: {port: 1}}\njwt.secret: y\nserver:\n  port: ${PORT:8891}\n  servlet.context-path: /feed-service\n";
        assert_eq!(check("feed-config.yml", text), Vec::<String>::new());
        assert_eq!(check("other.yml", "post.text: many\n"), Vec::<String>::new());
    }

    #[test]
    fn a_shared_file_is_checked_for_every_service() {
        assert_eq!(
            check("application.yml", "post.text: 1\nlog.level: debug\n"),
            Vec::<String>::new()
        );
        assert_eq!(
            check("application-prod.yml", "log.level: 'a=b=c'\n"),
            ["application-prod.yml:1: log.level: log levels, info,sosohappy_feed=debug, are expected by feed-config"]
        );
        assert_eq!(
            check("application.yml", "log.lvl: debug\n"),
            ["application.yml:1: log.lvl: unknown key; this section has level"]
        );
    }

    #[test]
    fn fault_switches_are_refused_where_the_settings_say_so() {
        let files = [
            (
                "application.yml",
                "flags:\n  fault:\n    slow-store: 10%\n  defaults: true\n",
            ),
            ("payroll.properties", "# note\nflags.fault.x=false\n"),
        ];
        let contents = files.map(|(path, text)| (path.to_owned(), Bytes::from(text)));
        let snapshot = Snapshot::new("v".to_owned(), Contents::from(contents)).unwrap();
        Checker::none().check(&snapshot).unwrap();
        let Err(Refused(findings)) = Checker::none().refusing_fault_flags(true).check(&snapshot) else {
            panic!("published");
        };
        let findings: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            findings,
            [
                format!("application.yml:3: flags.fault.slow-store: {FAULT_REFUSED}"),
                format!("payroll.properties:2: flags.fault.x: {FAULT_REFUSED}"),
            ]
        );
        for (key, is_fault) in [
            ("flags.fault.x", true),
            ("flags.fault", true),
            ("[flags].fault[x.y]", true),
            ("flags.faults", false),
            ("flags.x.fault", false),
            ("fault.x", false),
        ] {
            assert_eq!(is_fault_flag(key), is_fault, "{key}");
        }
    }

    #[test]
    fn values_are_never_quoted() {
        let findings = check(
            "feed-config.yml",
            "post:\n  text: hunter2\n  wait: hunter2\n  form: hunter2\n  note: hunter2\n",
        );
        assert_eq!(findings.len(), 4);
        assert!(!findings.concat().contains("hunter2"), "{findings:?}");
        // Without quotes these are mappings, and the texts their keys.
        let findings = check(
            "feed-config.yml",
            "post:\n  text: {hunter2}\n  wait: {hunter2: {hunter2: 1}}\n  note: {hunter2.a: 1}\n  names[0]: {hunter2}\n  keys[0].kid: {hunter2}\n",
        );
        let starts = ["post.text: ", "post.wait: ", "post.note: ", "post.keys[0].kid: "];
        for (finding, start) in findings.iter().zip(starts) {
            assert!(finding.contains(start), "{finding}");
        }
        assert!(
            !findings.is_empty() && !findings.concat().contains("hunter2"),
            "{findings:?}"
        );
    }

    /// Returns the CPU time of this thread, which other tests do not affect.
    #[cfg(target_os = "linux")]
    fn cpu_time() -> std::time::Duration {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        std::time::Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn thousands_of_foreign_keys_are_checked_quickly_against_every_service() {
        let line = |number: usize| {
            format!(
                "other{number}.name={}\n",
                if number.is_multiple_of(4) { "${x:1}" } else { "x" }
            )
        };
        let text = (0..10_000).map(line).collect::<Vec<_>>().concat();
        let contents = Contents::from([("application.properties".to_owned(), Bytes::from(text))]);
        let snapshot = Snapshot::new("v".to_owned(), contents).unwrap();
        let checker = Checker::new(crate::schemas::all().unwrap(), true);
        let check = || {
            let before = cpu_time();
            checker.check(&snapshot).unwrap();
            cpu_time().saturating_sub(before)
        };
        // The best of three: other tests share the processors' caches.
        let took = (0..3).map(|_| check()).min().unwrap();
        println!("10,000 foreign keys were checked in {took:?}");
        assert!(took < std::time::Duration::from_millis(500), "{took:?}");
    }
}
