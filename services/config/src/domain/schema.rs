//! The settings of a service, from the JSON schema that it generates from its own types.
//!
//! A JSON validator (the crate `jsonschema`) does not fit: keys are flat and may belong to Spring, texts are read as numbers and durations, and no
//! reason may quote a value.

use std::collections::HashSet;

use serde_json::{Map, Value};
use sosohappy_common::settings::keys::{Step, steps};
use sosohappy_common::settings::{renamed, valid};

/// The schema of one service.
#[derive(Debug, Clone)]
pub struct Schema {
    /// The application whose files are checked, `feed-config` for example.
    pub application: String,
    root: Value,
    /// The first parts of all known keys, for a quick decision on foreign keys, the majority in shared files. None for a schema that is open.
    sections: Option<HashSet<String>>,
}

/// The place of a flat key in a schema.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Key<'a> {
    /// A value with its schema.
    Value(&'a Value),
    /// Inside a value, which has no keys of its own: the schema of that value, and the number of steps to it.
    Inside { value: &'a Value, depth: usize },
    /// A section, a list or a map; its content has keys of its own.
    Group,
    /// The first part is not a section of the service.
    Foreign,
    /// In a section of the service that has only these keys.
    Unknown { section: &'a Map<String, Value> },
}

#[derive(Debug, thiserror::Error)]
#[error("the schema of {application} is not valid JSON: {error}")]
pub struct InvalidSchema {
    application: String,
    error: serde_json::Error,
}

impl Schema {
    pub fn parse(application: &str, text: &str) -> Result<Self, InvalidSchema> {
        let root = serde_json::from_str(text).map_err(|error| InvalidSchema {
            application: application.to_owned(),
            error,
        })?;
        let mut schema = Self {
            application: application.to_owned(),
            root,
            sections: None,
        };
        let is_closed = schema.step(&schema.root, &Step::Key("")).is_none();
        let sections = schema.properties(&schema.root).filter(|_| is_closed);
        schema.sections = sections.map(|sections| sections.keys().cloned().collect());
        Ok(schema)
    }

    /// Returns whether a file belongs to this application: `feed-config.yml` or `feed-config-prod.yml`, in any folder.
    #[must_use]
    pub fn is_for(&self, path: &str) -> bool {
        let stem = stem_of(path);
        stem.strip_prefix(&self.application)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// Returns the place of a key. The old name of a renamed key counts as the new one, as in the services.
    #[must_use]
    pub fn key(&self, key: &str) -> Key<'_> {
        self.place(&steps(&renamed::current_name(key)))
    }

    /// Returns the place of a current name in steps, which callers with several schemas split once.
    #[must_use]
    pub fn place(&self, steps: &[Step<'_>]) -> Key<'_> {
        if let (Some(Step::Key(first)), Some(sections)) = (steps.first(), &self.sections)
            && !sections.contains(*first)
        {
            return Key::Foreign;
        }
        let mut place = &self.root;
        for (depth, step) in steps.iter().enumerate() {
            let Some(next) = self.step(place, step) else {
                return match (depth, self.properties(place)) {
                    (0, _) => Key::Foreign,
                    (_, Some(section)) => Key::Unknown { section },
                    // A list or a value: the schema says nothing about its inside.
                    (_, None) => Key::Inside { value: place, depth },
                };
            };
            place = next;
        }
        if self.properties(place).is_some() {
            Key::Group
        } else {
            Key::Value(place)
        }
    }

    /// Returns whether the key is declared a secret (`writeOnly`).
    #[must_use]
    pub fn is_secret(&self, key: &str) -> bool {
        let (Key::Value(place) | Key::Inside { value: place, .. }) = self.key(key) else {
            return false;
        };
        self.alternatives(place).iter().any(|place| place["writeOnly"] == true)
    }

    fn step<'a>(&'a self, place: &'a Value, step: &Step<'_>) -> Option<&'a Value> {
        let mut alternatives = self.alternatives(place).into_iter();
        match step {
            Step::Index(_) => alternatives.find_map(|place| place.get("items")),
            Step::Key(key) => alternatives.find_map(|place| {
                let own = place.get("properties").and_then(|properties| properties.get(*key));
                own.or_else(|| {
                    place
                        .get("additionalProperties")
                        .filter(|more| more.is_object() || **more == true)
                })
            }),
        }
    }

    fn properties<'a>(&'a self, place: &'a Value) -> Option<&'a Map<String, Value>> {
        let mut alternatives = self.alternatives(place).into_iter();
        alternatives.find_map(|place| place.get("properties")?.as_object())
    }

    /// Returns a schema with the schemas it refers to (`$ref`) and its alternatives (`anyOf`, `oneOf`, `allOf`).
    fn alternatives<'a>(&'a self, place: &'a Value) -> Vec<&'a Value> {
        let mut all = Vec::new();
        let mut waiting = vec![place];
        while let Some(place) = waiting.pop() {
            all.push(place);
            // References may form a cycle.
            if all.len() > 64 {
                break;
            }
            if let Some(reference) = place.get("$ref").and_then(Value::as_str) {
                waiting.extend(self.root.pointer(reference.trim_start_matches('#')));
            }
            for offer in ["anyOf", "oneOf", "allOf"] {
                waiting.extend(place.get(offer).and_then(Value::as_array).into_iter().flatten());
            }
        }
        all
    }

    /// Returns why a value does not match its schema, without quoting it; none when it matches. As lenient as the services: a number may be a text,
    /// and the empty text is null.
    pub fn refuses(&self, schema: &Value, value: &Value) -> Option<String> {
        let mut reasons = Vec::new();
        let alternatives = self.alternatives(schema);
        if alternatives.iter().any(|place| place["type"] == "null") && text_of(value).is_empty() {
            return None;
        }
        let leaves: Vec<_> = alternatives
            .into_iter()
            .filter(|place| place["type"] != "null")
            .filter(|place| ["type", "const", "enum"].iter().any(|word| place.get(word).is_some()))
            .collect();
        for place in &leaves {
            match refuses_one(place, value) {
                None => return None,
                Some(reason) if !reasons.contains(&reason) => reasons.push(reason),
                Some(_) => {}
            }
        }
        (!leaves.is_empty()).then(|| reasons.join(", or "))
    }
}

/// Returns the file name without its extension: `feed-config-prod` for `a/feed-config-prod.yml`.
#[must_use]
pub fn stem_of(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn refuses_one(schema: &Value, value: &Value) -> Option<String> {
    let text = text_of(value);
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if types.contains(&"null") && text.is_empty() {
        return None;
    }
    let choices: Vec<String> = match (&schema["const"], &schema["enum"]) {
        (Value::Null, Value::Array(choices)) => choices.iter().map(text_of).collect(),
        (Value::Null, _) => Vec::new(),
        (only, _) => vec![text_of(only)],
    };
    if !choices.is_empty() {
        return (!choices.contains(&text)).then(|| format!("{} is expected", choices.join(" or ")));
    }
    let mut reason = None;
    for kind in types.into_iter().filter(|kind| *kind != "null") {
        match refuses_type(kind, schema, &text) {
            None => return None,
            Some(why) => reason = reason.or(Some(why)),
        }
    }
    reason
}

fn refuses_type(kind: &str, schema: &Value, text: &str) -> Option<String> {
    match kind {
        "boolean" => {
            let known = ["true", "1", "on", "yes", "false", "0", "off", "no"];
            let known = known.contains(&text.trim().to_ascii_lowercase().as_str());
            (!known).then(|| "true or false is expected".to_owned())
        }
        "integer" => {
            let (low, high) = (bound(schema, "minimum"), bound(schema, "maximum"));
            let Ok(number) = text.trim().parse::<i128>() else {
                return Some("a whole number is expected".to_owned());
            };
            if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
                return Some(match (low, high) {
                    (Some(low), Some(high)) => format!("a whole number from {low} to {high} is expected"),
                    (Some(low), None) => format!("a whole number of at least {low} is expected"),
                    (_, high) => format!("a whole number of at most {} is expected", high.unwrap_or(i128::MAX)),
                });
            }
            None
        }
        "number" => {
            let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
            let Some(number) = number else {
                return Some("a number is expected".to_owned());
            };
            let (low, high) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
            let inside = low.is_none_or(|low| number >= low) && high.is_none_or(|high| number <= high);
            (!inside).then(|| "a number within its bounds is expected".to_owned())
        }
        "string" => refuses_text(schema, text),
        "array" if text.is_empty() || schema["items"]["type"] == "string" => None,
        "array" => Some("a list is expected".to_owned()),
        "object" => (!text.is_empty()).then(|| "a group of named values is expected".to_owned()),
        other => Some(format!("{other} is expected")),
    }
}

fn bound(schema: &Value, name: &str) -> Option<i128> {
    let bound = &schema[name];
    bound
        .as_i64()
        .map(i128::from)
        .or_else(|| bound.as_u64().map(i128::from))
}

/// Checks a text. The formats are those of `sosohappy_common::settings::schema`, parsed by the same functions as in the services.
fn refuses_text(schema: &Value, text: &str) -> Option<String> {
    type Plain<'a> = serde::de::value::StrDeserializer<'a, serde::de::value::Error>;
    let plain = Plain::new;
    let known = match schema["format"].as_str() {
        Some("duration-above-zero") => valid::duration(plain(text)).is_ok(),
        Some("duration") => valid::duration_or_zero(plain(text)).is_ok(),
        Some("log-directives") => valid::log_directives(plain(text)).is_ok(),
        Some("uri") => url::Url::parse(text).is_ok(),
        Some("ip") => text.parse::<std::net::IpAddr>().is_ok(),
        Some("engine-url") => text.split_once(':').is_some_and(|(scheme, _)| !scheme.is_empty()),
        _ => true,
    };
    if !known {
        let format = schema["format"].as_str().unwrap_or_default();
        return Some(match format {
            "duration-above-zero" => "a duration above zero, 10s or 2h 30m, is expected".to_owned(),
            "duration" => "a duration, 10s or 2h 30m, is expected".to_owned(),
            "log-directives" => "log levels, info,sosohappy_feed=debug, are expected".to_owned(),
            "ip" => "an IP address is expected".to_owned(),
            _ => "a URL is expected".to_owned(),
        });
    }
    let least = schema["minLength"]
        .as_u64()
        .and_then(|least| usize::try_from(least).ok());
    let least = least.filter(|least| text.len() < *least)?;
    Some(format!("at least {least} characters are expected"))
}
