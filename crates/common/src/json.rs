//! JSON objects.

use serde::Deserialize;
use serde::de::Error as _;

/// White space of JSON (RFC 8259, section 2).
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// Reads a structure from a JSON object. [`serde_json::from_str`] also takes an array of the structure's fields in their order, which no
/// sender means.
///
/// # Errors
/// For an array, and for what [`serde_json::from_str`] refuses.
pub fn object<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<T> {
    if text.trim_start_matches(SPACE).starts_with('[') {
        return Err(serde_json::Error::custom("an array in place of an object"));
    }
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Pair<'a> {
        first: &'a str,
        second: u8,
    }

    #[test]
    fn an_array_of_the_fields_is_no_object() {
        let pair = Pair { first: "a", second: 1 };
        for text in [r#"{"first":"a","second":1}"#, "\r\n\t {\"second\":1,\"first\":\"a\"} "] {
            assert_eq!(object::<Pair<'_>>(text).expect(text), pair);
        }
        for text in [
            r#"["a",1]"#,
            "\r\n\t [\"a\",1]",
            "[]",
            "[",
            "",
            "null",
            "\u{a0}{}",
            r#"{"first":"a"}"#,
        ] {
            assert!(object::<Pair<'_>>(text).is_err(), "{text}");
        }
    }
}
