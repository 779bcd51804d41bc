//! Words that a person does not want to read.

use jiff::Timestamp;
use sosohappy_common::nickname::has_visible;
use sosohappy_common::text::is_one_line;
use unicode_normalization::UnicodeNormalization as _;
use unicode_segmentation::UnicodeSegmentation as _;

/// Words of one account.
pub const MAX_WORDS: usize = 200;

/// User-perceived characters of a word.
const MAX_CHARACTERS: usize = 50;

/// Bytes of a word.
const MAX_BYTES: usize = 200;

/// A word or phrase in NFC and lower case, without blanks at either end: texts are compared with it in that form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "wordList: words of 1 to 50 characters and at most 200 bytes, with a visible character and without control characters"
)]
pub struct InvalidWord;

impl Word {
    /// Takes a word of the store, which was valid when it was written.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks a word that is to be muted: it has a visible character. Older releases muted others, which can be taken off the list.
    pub fn require_visible(&self) -> Result<(), InvalidWord> {
        if has_visible(&self.0) { Ok(()) } else { Err(InvalidWord) }
    }
}

impl TryFrom<&str> for Word {
    type Error = InvalidWord;

    fn try_from(text: &str) -> Result<Self, InvalidWord> {
        // Bounded before it is normalized, so that a long text costs nothing.
        if text.len() > MAX_BYTES * 4 {
            return Err(InvalidWord);
        }
        let word: String = text.trim().to_lowercase().nfc().collect();
        let has_size =
            !word.is_empty() && word.len() <= MAX_BYTES && word.graphemes(true).nth(MAX_CHARACTERS).is_none();
        if has_size && is_one_line(&word) {
            Ok(Self(word))
        } else {
            Err(InvalidWord)
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutedWord {
    pub word: Word,
    /// `None`: until it is taken off the list.
    pub expires_at: Option<Timestamp>,
}

impl MutedWord {
    pub fn is_muted(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|expires_at| expires_at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_a_word_are_one_word() {
        for text in ["K-POP", " k-pop ", "k-pop"] {
            assert_eq!(Word::try_from(text).unwrap().as_str(), "k-pop");
        }
        assert_eq!(Word::try_from("\u{1100}\u{1161}"), Word::try_from("가"));
    }

    #[test]
    fn a_muted_word_is_visible() {
        for text in [
            "\u{200b}",
            "\u{3164}",
            "\u{200d}",
            "\u{fe0f}",
            "\u{ad}",
            "\u{202e}",
            "\u{2800}",
            "\u{200b}\u{3164}",
        ] {
            let checked = Word::try_from(text).and_then(|word| word.require_visible());
            assert_eq!(checked, Err(InvalidWord), "{text:?}");
        }
        for text in ["행", "\u{200b}행", "🩷", "."] {
            assert_eq!(
                Word::try_from(text).and_then(|word| word.require_visible()),
                Ok(()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn words_are_bounded() {
        assert!(Word::try_from("행".repeat(50).as_str()).is_ok());
        assert!(Word::try_from("👨‍👩‍👧‍👦 가족").is_ok());
        for text in [
            "",
            " ",
            &"행".repeat(51),
            &"👨‍👩‍👧‍👦".repeat(9),
            "a\u{0}b",
            &"a".repeat(10_000),
        ] {
            assert_eq!(Word::try_from(text), Err(InvalidWord), "{text}");
        }
    }
}
