//! JSON schemas of settings, for whoever checks them before a service reads them: `--settings-schema` prints a service's.
//!
//! Beside the words of JSON Schema these formats are used: `duration` (humantime's, `10s`), `duration-above-zero`, `log-directives`,
//! `engine-url` (a scheme, a colon, what the engine wants); `writeOnly` marks secrets.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::valid;

/// A duration above zero, as [`super::valid::duration`] reads it.
#[must_use]
pub fn duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "duration-above-zero"})
}

/// As [`super::valid::duration_or_zero`] reads it.
#[must_use]
pub fn duration_or_zero(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "duration"})
}

/// A duration above zero that may be left empty.
#[must_use]
pub fn optional_duration(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"], "format": "duration-above-zero"})
}

/// As [`super::valid::connections`] reads it.
#[must_use]
pub fn connections(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 1, "maximum": valid::MAX_CONNECTIONS})
}

/// As [`super::valid::credential`] reads it.
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

/// Secrets by name.
#[must_use]
pub fn secrets(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "additionalProperties": {"type": "string", "writeOnly": true}})
}

#[must_use]
pub fn engine_url(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "engine-url", "writeOnly": true})
}

/// As [`super::valid::networks`] reads it.
#[must_use]
pub fn networks(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "items": {"type": "string"}})
}

/// As [`super::valid::log_directives`] reads it.
#[must_use]
pub fn log_directives(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "log-directives"})
}

/// The schema of a service's settings: lines of JSON, the same for the same code.
#[must_use]
pub fn of<S: JsonSchema>() -> String {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<S>().to_value();
    add_maximums(&mut schema);
    sort(&mut schema);
    format!("{schema:#}\n")
}

/// Sizes and counts have the bounds of [`valid::at_least_one`]: schemars knows those of the type alone, and not all of them.
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

/// Whether maps keep their order hangs on features of a dependency: sorted they are always the same.
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
