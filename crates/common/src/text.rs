//! The rule for every text that people write and a service stores.

/// Returns whether every database and client keeps a text as it is. U+0000 ends a text for SQLite's functions and for clients in C.
#[must_use]
pub fn is_portable(text: &str) -> bool {
    !text.contains('\0')
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
    fn only_a_text_with_a_nul_is_not_kept_by_all() {
        for good in ["", "a\n", "a\tb", "a\u{b}b", "행복🩷"] {
            assert!(is_portable(good), "{good:?}");
            assert_eq!(to_portable(good), good);
        }
        for bad in ["\0", "a\0", "\0a", "a\0b"] {
            assert!(!is_portable(bad), "{bad:?}");
            assert!(is_portable(&to_portable(bad)), "{bad:?}");
        }
    }
}
