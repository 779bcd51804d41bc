//! Conversion between nested documents and flat keys such as `a.b[0].c`.

use serde_json::{Map, Value};
use sosohappy_common::settings::keys;

/// Flat keys in document order; values are scalars of their JSON type.
pub type Properties = Map<String, Value>;

/// Flattens a document as Spring does: list items become `key[0]`; null, an empty list and an empty object become the empty text.
#[must_use]
pub fn flatten(document: Value) -> Properties {
    let mut flat = Properties::new();
    if let Value::Object(fields) = document {
        for (key, value) in fields {
            flatten_into(&mut flat, key, value);
        }
    }
    flat
}

fn flatten_into(flat: &mut Properties, path: String, value: Value) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                flatten_into(flat, join(&path, &key), value);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.into_iter().enumerate() {
                flatten_into(flat, join_index(&path, index), item);
            }
        }
        Value::Null | Value::Object(_) | Value::Array(_) => {
            flat.insert(path, Value::String(String::new()));
        }
        scalar => {
            flat.insert(path, scalar);
        }
    }
}

/// Returns the key of a field inside a section.
#[must_use]
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else if key.starts_with('[') {
        // `[a.b]` is Spring's escape for map keys that contain dots.
        format!("{path}{key}")
    } else {
        format!("{path}.{key}")
    }
}

/// Returns the key of an item of a list.
#[must_use]
pub fn join_index(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Converts flat keys to a nested document, within the bounds of [`keys::nest`].
#[must_use]
pub fn nest(flat: &Properties) -> Value {
    keys::nest(flat.iter().map(|(key, value)| (key.as_str(), value)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn flattens_lists_maps_and_scalars() {
        let document = json!({"a": {"b": [1, {"c": true}], "d": null, "[x.y]": 1.5}, "e": [], "f": "text"});
        let flat = flatten(document);
        assert_eq!(
            Value::Object(flat),
            json!({"a.b[0]": 1, "a.b[1].c": true, "a.d": "", "a[x.y]": 1.5, "e": "", "f": "text"})
        );
    }

    fn documents() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z ]{1,8}".prop_map(Value::from)
        ];
        let nested = scalar.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 1..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z][a-z-]{0,6}", inner, 1..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        proptest::collection::btree_map("[a-z][a-z-]{0,6}", nested, 1..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn nesting_undoes_flattening(document in documents()) {
            prop_assert_eq!(nest(&flatten(document.clone())), document);
        }

        #[test]
        fn any_key_can_be_nested(keys in proptest::collection::vec("[a.\\[\\]0-9]{0,12}", 0..6)) {
            let flat = keys.into_iter().map(|key| (key, Value::from(1))).collect();
            let _ = nest(&flat);
        }
    }
}
