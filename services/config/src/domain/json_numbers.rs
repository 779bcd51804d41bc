//! Numbers in JSON that exceed 64 bits: they are read as texts, so that no digit is lost and the document stays readable.
//!
//! `serde_json` has a feature for that, `arbitrary_precision`, which changes what a number is in every crate of the workspace.

use std::borrow::Cow;

/// Quotes numbers that exceed 64 bits. Invalid JSON stays invalid.
pub(super) fn quote_wide(text: &str) -> Cow<'_, str> {
    let mut quoted = String::new();
    let mut copied = 0;
    let mut at = 0;
    let bytes = text.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let end = at + bytes[at..].iter().take_while(|byte| is_of_number(**byte)).count();
                if is_wide(&text[at..end]) {
                    quoted.push_str(&text[copied..at]);
                    quoted.extend(["\"", &text[at..end], "\""]);
                    copied = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    quoted.push_str(&text[copied..]);
    Cow::Owned(quoted)
}

/// Returns the position after the closing quote of a string.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// Returns whether this is a valid JSON number that fits neither a 64-bit integer nor, for a decimal, a finite float.
fn is_wide(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    let starts_well = !(digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0."));
    if digits.bytes().all(|byte| byte.is_ascii_digit()) {
        !digits.is_empty() && starts_well && number.parse::<i64>().is_err() && number.parse::<u64>().is_err()
    } else {
        starts_well && number.parse::<f64>().is_ok_and(f64::is_infinite)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &str) -> Result<Value, serde_json::Error> {
        serde_json::from_str(&quote_wide(text))
    }

    #[test]
    fn wide_numbers_keep_every_digit() {
        let text = r#"{"a": 123456789012345678901234567890, "b": [18446744073709551615, -9223372036854775808, -1e999], "c": "1e999 \" 1e999", "d": 1.5}"#;
        assert_eq!(
            read(text).unwrap(),
            json!({
                "a": "123456789012345678901234567890", "b": [u64::MAX, i64::MIN, "-1e999"], "c": "1e999 \" 1e999", "d": 1.5,
            })
        );
        for text in ["0123456789012345678901234567890", "-", "1e999.", "{\"a", "\"\\"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn other_json_is_unchanged(text in "[\\[\\]{},:0-9.eE\\\\\" -]{0,40}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let read = read(&text).unwrap();
                let lost = value.to_string().contains('e');
                prop_assert!(read == value || lost, "{text}");
            }
        }
    }
}
