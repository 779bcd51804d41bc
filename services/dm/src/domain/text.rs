//! The text of a message.

use std::fmt;

use sosohappy_common::nickname::has_visible;
pub use sosohappy_common::text::is_portable;
use unicode_segmentation::UnicodeSegmentation as _;

/// Bytes of a text per user-perceived character: more than the longest joined emoji has (35, a kiss of two skin tones).
pub(super) const BYTES_A_CHARACTER: usize = 40;

/// Bytes of a frame around its text: keys, a date, two nicknames, all of it escaped.
const AROUND_THE_TEXT: usize = 4096;

/// Returns the bytes of the largest frame whose text is within the limit. JSON may escape every character: three times the bytes of any
/// but ASCII (`\uXXXX` for two bytes or more), of which a character of several code points has none or one.
pub fn largest_frame(max_characters: usize) -> usize {
    max_characters
        .saturating_mul(BYTES_A_CHARACTER * 3)
        .saturating_add(AROUND_THE_TEXT)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    #[error("a message says something")]
    Empty,
    #[error("a message has at most {} characters and {} bytes", .0, .0.saturating_mul(BYTES_A_CHARACTER))]
    TooLong(usize),
    #[error("a message has no character U+0000")]
    Unportable,
}

/// Has a visible character; bounded in user-perceived characters (as nicknames are) and in bytes. Its `Debug` form is without the text,
/// which must not reach a log line.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageText(String);

impl MessageText {
    /// Keeps the text as it was written, blanks around it included.
    pub fn new(text: String, max_characters: usize) -> Result<Self, InvalidText> {
        if !has_visible(&text) {
            return Err(InvalidText::Empty);
        }
        if !is_portable(&text) {
            return Err(InvalidText::Unportable);
        }
        if text.len() > max_characters.saturating_mul(BYTES_A_CHARACTER)
            || text.graphemes(true).nth(max_characters).is_some()
        {
            return Err(InvalidText::TooLong(max_characters));
        }
        Ok(Self(text))
    }

    /// A text that was accepted when it was stored, whatever the limit is now.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Debug for MessageText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageText({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_bounded_in_characters_and_not_blank() {
        assert_eq!(
            MessageText::new("안녕🩷".to_owned(), 3).map(MessageText::into_string),
            Ok("안녕🩷".to_owned())
        );
        assert_eq!(MessageText::new("안녕🩷!".to_owned(), 3), Err(InvalidText::TooLong(3)));
        let family = "👨‍👩‍👧‍👦";
        assert!(MessageText::new(family.repeat(3), 3).is_ok());
        assert_eq!(MessageText::new(family.repeat(4), 3), Err(InvalidText::TooLong(3)));
        let endless = format!("a{}", "\u{301}".repeat(100));
        assert_eq!(MessageText::new(endless, 3), Err(InvalidText::TooLong(3)));
        assert_eq!(
            InvalidText::TooLong(3).to_string(),
            "a message has at most 3 characters and 120 bytes"
        );
        for blank in ["", " ", "\n\t ", "\u{3164}", "\u{200b}"] {
            assert_eq!(MessageText::new(blank.to_owned(), 3), Err(InvalidText::Empty));
        }
    }

    #[test]
    fn a_text_that_not_all_keep_is_refused() {
        for bad in ["a\0", "\0a", "a\0b"] {
            assert_eq!(
                MessageText::new(bad.to_owned(), 3),
                Err(InvalidText::Unportable),
                "{bad:?}"
            );
        }
        for good in ["a\n", "a\tb", "a\u{b}b"] {
            assert!(MessageText::new(good.to_owned(), 3).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn the_largest_frame_holds_every_legal_text_however_it_is_escaped() {
        let escaped = |text: &str| text.encode_utf16().map(|_| r"\uXXXX".len()).sum::<usize>();
        for character in [
            "a",
            "행",
            "🩷",
            "👨‍👩‍👧‍👦",
            "👩🏽‍❤️‍💋‍👨🏿",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
        ] {
            let text = character.repeat(4000);
            assert!(escaped(&text) <= largest_frame(4000), "{character}");
            assert!(MessageText::new(text, 4000).is_ok(), "{character}");
        }
    }

    #[test]
    fn a_log_line_does_not_tell_it() {
        let text = MessageText::new("secret".to_owned(), 10).unwrap();
        assert_eq!(format!("{text:?}"), "MessageText(6 bytes)");
    }
}
