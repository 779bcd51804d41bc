//! YAML that readers of YAML 1.1, `SnakeYAML` among them, and of YAML 1.2 understand alike: `yes` and `012` as texts are quoted.

use serde_json::Value;

/// Block style, two spaces a level, lists at the level of their key, as Spring's server writes.
#[must_use]
pub fn to_text(value: &Value) -> String {
    let mut text = String::new();
    block(&mut text, value, 0, true);
    text
}

/// `started`: the first line has its indentation already.
fn block(text: &mut String, value: &Value, level: usize, mut started: bool) {
    let mut indent = |text: &mut String| {
        if !std::mem::take(&mut started) {
            text.push_str(&"  ".repeat(level));
        }
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                indent(text);
                text.push_str(&scalar(&Value::from(key.as_str())));
                text.push(':');
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        text.push('\n');
                        block(text, value, level + 1, false);
                    }
                    Value::Array(inner) if !inner.is_empty() => {
                        text.push('\n');
                        block(text, value, level, false);
                    }
                    other => {
                        text.push(' ');
                        text.push_str(&scalar(other));
                        text.push('\n');
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(text);
                text.push_str("- ");
                block(text, item, level + 1, true);
            }
        }
        other => {
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if text.contains(['\n', '\r']) || is_another_thing_in_1_1(text) => {
            // A text of JSON is one of YAML.
            Value::from(text.as_str()).to_string()
        }
        Value::Object(_) => "{}".to_owned(),
        Value::Array(_) => "[]".to_owned(),
        other => serde_yaml_ng::to_string(other).map_or_else(|_| other.to_string(), |text| text.trim_end().to_owned()),
    }
}

/// Truths, numbers in bases and of sixty, dates.
fn is_another_thing_in_1_1(text: &str) -> bool {
    let words = ["y", "n", "yes", "no", "on", "off"];
    let numeric = |character: char| character.is_ascii_hexdigit() || "xXoObB_:.+-TtZz ".contains(character);
    let begins = |character: char| character.is_ascii_digit() || matches!(character, '+' | '-' | '.');
    words.contains(&text.to_ascii_lowercase().as_str())
        || matches!(text, "=" | "<<")
        || (text.starts_with(begins)
            && text.contains(|character: char| character.is_ascii_digit())
            && text.chars().all(numeric))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_1_1_would_take_for_something_else_is_quoted() {
        let document = json!({
            "yes": "no", "a": ["on", "Y", "012", "1:30", "0x1F", "2026-01-01", "1_000", "yesterday", "10 s", "v1.2", ""],
            "b": {"c": [{"d": 1, "e": [true, null]}, [], {}], "long": "one\ntwo"}, "n": 1.5, "t": "true"
        });
        let expected = "\"yes\": \"no\"\na:\n- \"on\"\n- \"Y\"\n- \"012\"\n- \"1:30\"\n- \"0x1F\"\n- \"2026-01-01\"\n- \"1_000\"\n- yesterday\n\
                        - 10 s\n- v1.2\n- ''\nb:\n  c:\n  - d: 1\n    e:\n    - true\n    - null\n  - []\n  - {}\n  long: \"one\\ntwo\"\n\"n\": 1.5\nt: 'true'\n";
        assert_eq!(to_text(&document), expected);
        assert_eq!(to_text(&json!({})), "{}\n");
    }

    fn values() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~\n행]{0,12}".prop_map(Value::from),
        ];
        scalar.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[ -~]{0,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in values()) {
            let read: Value = serde_yaml_ng::from_str(&to_text(&value)).unwrap();
            prop_assert_eq!(read, value);
        }
    }
}
