//! JSON schemas of settings, with which the config service checks them: `--settings-schema` prints that of a service.
//!
//! They use these formats beside those of JSON Schema: `duration` (humantime's, `10s`), `duration-above-zero`, `log-directives`,
//! `engine-url` (a scheme, a colon, text of the engine); `writeOnly` marks secrets.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::valid;

/// Returns the schema of [`super::valid::duration`]: above zero.
#[must_use]
pub fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "duration-above-zero"})
}

/// Returns the schema of [`super::valid::duration_or_zero`].
#[must_use]
pub fn duration_or_zero(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "duration"})
}

/// Returns the schema of a duration above zero that may be empty.
#[must_use]
pub fn optional_duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"], "format": "duration-above-zero"})
}

/// Returns the schema of [`super::valid::connections`].
#[must_use]
pub fn connections(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 1, "maximum": valid::MAX_CONNECTIONS})
}

/// Returns the schema of [`super::valid::credential`].
#[must_use]
pub fn credential(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "minLength": 16, "writeOnly": true})
}

#[must_use]
pub fn secret(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "writeOnly": true})
}

#[must_use]
pub fn optional_secret(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"], "writeOnly": true})
}

/// Returns the schema of secrets by name.
#[must_use]
pub fn secrets(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": {"type": "string", "writeOnly": true}})
}

#[must_use]
pub fn engine_url(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "engine-url", "writeOnly": true})
}

/// Returns the schema of [`super::valid::networks`].
#[must_use]
pub fn networks(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string"}})
}

/// Returns the schema of [`super::valid::log_directives`].
#[must_use]
pub fn log_directives(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "log-directives"})
}

/// Returns the schema of a service's settings: lines of JSON, deterministic.
#[must_use]
pub fn of<S: JsonSchema>() -> String {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<S>().to_value();
    add_maximums(&mut schema);
    sort(&mut schema);
    format!("{schema:#}\n")
}

/// Adds the bounds of [`valid::at_least_one`] to sizes and counts: schemars has only those of the types, and not all of them.
fn add_maximums(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let max = match fields.get("format").and_then(Value::as_str) {
                Some("uint" | "uint64") => Some(valid::MAX_SIZE),
                Some("uint32") => Some(valid::MAX_COUNT),
                _ => None,
            };
            if let Some(max) = max {
                fields.entry("maximum").or_insert(max.into());
            }
            fields.values_mut().for_each(add_maximums);
        }
        Value::Array(items) => items.iter_mut().for_each(add_maximums),
        _ => {}
    }
}

/// Sorts maps: whether they keep their order depends on features of a dependency.
fn sort(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.sort_keys();
            fields.values_mut().for_each(sort);
        }
        Value::Array(items) => items.iter_mut().for_each(sort),
        _ => {}
    }
}
