//! Nested documents as flat keys, `a.b[0].c`, and back.

use serde_json::{Map, Value};

/// Flat keys in the order of the document; values are scalars with their JSON type kept.
pub type Properties = Map<String, Value>;

/// Flattens as Spring does: list items are `key[0]`, null becomes the empty text, an empty list or object the empty text too.
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
                // A key in brackets, `[a.b]`, keeps its dots: Spring's escape for map keys.
                let path = if key.starts_with('[') {
                    format!("{path}{key}")
                } else {
                    format!("{path}.{key}")
                };
                flatten_into(flat, path, value);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.into_iter().enumerate() {
                flatten_into(flat, format!("{path}[{index}]"), item);
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

/// Nests flat keys again. Where a key is both a value and a parent, the parent wins.
#[must_use]
pub fn nest(flat: &Properties) -> Value {
    let mut root = Value::Object(Map::new());
    for (key, value) in flat {
        let mut place = &mut root;
        for step in steps(key) {
            place = match step {
                Step::Key(key) => {
                    if !place.is_object() {
                        *place = Value::Object(Map::new());
                    }
                    place
                        .as_object_mut()
                        .expect("just made an object")
                        .entry(key.to_owned())
                        .or_insert(Value::Null)
                }
                Step::Index(index) => {
                    if !place.is_array() {
                        *place = Value::Array(Vec::new());
                    }
                    let items = place.as_array_mut().expect("just made an array");
                    if items.len() <= index {
                        items.resize(index + 1, Value::Null);
                    }
                    &mut items[index]
                }
            };
        }
        if !matches!(place, Value::Object(_) | Value::Array(_)) {
            *place = value.clone();
        }
    }
    root
}

/// One step into a nested document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// A list longer than this is a mistake in a key, not a list; its index is taken as a name.
const MOST_ITEMS: usize = 10_000;

#[must_use]
pub fn steps(key: &str) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut rest = key;
    while !rest.is_empty() {
        if let Some(bracket) = rest.strip_prefix('[')
            && let Some((inside, after)) = bracket.split_once(']')
        {
            steps.push(match inside.parse() {
                Ok(index) if index < MOST_ITEMS => Step::Index(index),
                _ => Step::Key(inside),
            });
            rest = after.strip_prefix('.').unwrap_or(after);
            continue;
        }
        let end = rest
            .char_indices()
            .skip(1)
            .find(|(_, c)| matches!(c, '.' | '['))
            .map_or(rest.len(), |(at, _)| at);
        steps.push(Step::Key(&rest[..end]));
        rest = &rest[end..];
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    steps
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
