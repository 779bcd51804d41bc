//! Words that are searched for.

use unicode_normalization::UnicodeNormalization as _;

use super::text::is_portable;

const MOST_WORDS: usize = 10;
const LONGEST: usize = 200;

/// Words of a search, in NFC and lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(Vec<String>);

impl Words {
    /// Returns `None` for no words, more than ten, more than 200 bytes, or a text with U+0000.
    pub fn new(text: &str) -> Option<Self> {
        if text.len() > LONGEST || !is_portable(text) {
            return None;
        }
        let words: Vec<String> = folded(text).split_whitespace().map(str::to_owned).collect();
        (1..=MOST_WORDS).contains(&words.len()).then_some(Self(words))
    }

    /// Whether a text has all of the words, also as parts of longer ones: Korean puts particles behind words.
    pub fn are_in(&self, text: &str) -> bool {
        let text = folded(text);
        self.0.iter().all(|word| text.contains(word.as_str()))
    }
}

fn folded(text: &str) -> String {
    text.nfc().collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_words_are_found_in_any_order_case_and_composition() {
        let words = Words::new("  생일 Happy").unwrap();
        for (text, found) in [
            ("happy 생일", true),
            ("HAPPY, 생일이에요", true),
            ("happy \u{1109}\u{1162}\u{11bc}\u{110b}\u{1175}\u{11af}", true),
            ("happy", false),
            ("", false),
        ] {
            assert_eq!(words.are_in(text), found, "{text}");
        }
        for text in ["", "  ", "a b c d e f g h i j k", &"a".repeat(201), "a\0"] {
            assert_eq!(Words::new(text), None, "{text}");
        }
    }
}
