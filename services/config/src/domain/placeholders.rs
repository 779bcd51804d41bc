//! `${key}` and `${key:default}` in values of the flat forms.

use serde_json::Value;

use super::flat::Properties;

/// Deeper nesting than this is a circle.
const MOST_DEPTH: usize = 16;

/// Resolves every placeholder that the properties themselves answer; the others stay as they are, for the client's own
/// environment to resolve.
pub fn resolve(properties: &mut Properties) {
    let original = properties.clone();
    for value in properties.values_mut() {
        if let Value::String(text) = value
            && text.contains("${")
        {
            *text = resolve_text(text, &original, 0);
        }
    }
}

/// The same in a text that is not a value itself. An escaped `\\${` becomes `${`.
#[must_use]
pub fn resolve_in(text: &str, properties: &Properties) -> String {
    resolve_text(text, properties, 0)
}

fn resolve_text(text: &str, properties: &Properties, depth: usize) -> String {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if let Some(before) = rest[..start].strip_suffix('\\') {
            // Escaped: as in Spring, what follows is text.
            resolved.push_str(before);
            resolved.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        resolved.push_str(&rest[..start]);
        let Some(end) = matching_brace(&rest[start + 2..]) else {
            break;
        };
        let inside = &rest[start + 2..start + 2 + end];
        match answer(inside, properties, depth) {
            Some(answer) => resolved.push_str(&answer),
            None => resolved.push_str(&rest[start..=start + 2 + end]),
        }
        rest = &rest[start + 2 + end + 1..];
    }
    resolved.push_str(rest);
    resolved
}

/// The position of the `}` that closes a placeholder whose inside begins here.
fn matching_brace(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn answer(inside: &str, properties: &Properties, depth: usize) -> Option<String> {
    if depth >= MOST_DEPTH {
        return None;
    }
    let inside = resolve_text(inside, properties, depth + 1);
    let (key, default) = inside
        .split_once(':')
        .map_or((inside.as_str(), None), |(key, rest)| (key, Some(rest)));
    let found = properties.get(key).map(|value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let text = found.or_else(|| default.map(ToOwned::to_owned))?;
    Some(resolve_text(&text, properties, depth + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn resolved(document: Value) -> Value {
        let Value::Object(mut properties) = document else {
            panic!("an object")
        };
        resolve(&mut properties);
        Value::Object(properties)
    }

    #[test]
    fn keys_defaults_nesting_and_the_unknown() {
        let document = json!({
            "host": "db", "port": 3306, "name": "host",
            "url": "mysql://${host}:${port}/${database:feed}",
            "nested": "${${name}}", "fallback": "${missing:${host}}",
            "escaped": "\\${host} is ${host}", "unknown": "${HOME}", "open": "${host", "circle": "${circle}"
        });
        let answer = resolved(document);
        assert_eq!(answer["url"], "mysql://db:3306/feed");
        assert_eq!(answer["nested"], "db");
        assert_eq!(answer["fallback"], "db");
        assert_eq!(answer["escaped"], "${host} is db");
        assert_eq!(answer["unknown"], "${HOME}");
        assert_eq!(answer["open"], "${host");
        assert_eq!(answer["circle"], "${circle}");
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "[${}:a ]{0,24}") {
            let _ = resolved(json!({"a": text}));
        }
    }
}
