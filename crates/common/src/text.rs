//! The rules for every text that people write and a service stores.
//!
//! A text of many lines (a post, a comment, a message, an introduction) is kept as it was written, with its control characters but U+0000: the
//! legacy services took them, as a phone sends them with what is pasted, and JSON escapes them. A name or a word, which stands in a line of
//! others' lists and pushes, has none.

/// Returns whether every database and client keeps a text as it is. U+0000 ends a text for SQLite's functions and for clients in C.
#[must_use]
pub fn is_portable(text: &str) -> bool {
    !text.contains('\0')
}

/// Returns whether a text fits into one line: it has no control characters, line breaks and U+0000 among them.
#[must_use]
pub fn is_one_line(text: &str) -> bool {
    !text
        .chars()
        .any(|char| char.is_control() || matches!(char, '\u{2028}' | '\u{2029}'))
}

/// Returns a text that [`is_portable`], with U+FFFD for each U+0000: for a text that was written before the rule, or elsewhere.
#[must_use]
pub fn to_portable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_control_characters() {
        for good in ["", "우리반 🩷", "👨‍👩‍👧‍👦"] {
            assert!(is_one_line(good), "{good:?}");
        }
        for bad in [
            "a\nb",
            "a\tb",
            "a\0b",
            "\u{1}",
            "\u{1b}[1m",
            "\u{7f}",
            "\u{85}",
            "a\u{2028}b",
            "a\u{2029}b",
        ] {
            assert!(!is_one_line(bad), "{bad:?}");
        }
    }

    #[test]
    fn only_a_text_with_a_nul_is_not_kept_by_all() {
        for good in [
            "",
            "a\n",
            "a\tb",
            "a\u{1}b",
            "a\u{b}b",
            "\u{1b}[1m",
            "\u{7f}",
            "\u{85}",
            "행복🩷",
        ] {
            assert!(is_portable(good), "{good:?}");
            assert_eq!(to_portable(good), good);
        }
        for bad in ["\0", "a\0", "\0a", "a\0b"] {
            assert!(!is_portable(bad), "{bad:?}");
            assert!(is_portable(&to_portable(bad)), "{bad:?}");
        }
    }
}
