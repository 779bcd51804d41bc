//! What a message says.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    #[error("a message says something")]
    Empty,
    #[error("a message has at most {0} characters")]
    TooLong(usize),
}

/// Not blank, bounded. Its `Debug` form is without the text, which must not reach a log line.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageText(String);

impl MessageText {
    /// Keeps the text as it was written, blanks around it included.
    pub fn new(text: String, max_characters: usize) -> Result<Self, InvalidText> {
        if text.trim().is_empty() {
            return Err(InvalidText::Empty);
        }
        if text.chars().nth(max_characters).is_some() {
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
        for blank in ["", " ", "\n\t "] {
            assert_eq!(MessageText::new(blank.to_owned(), 3), Err(InvalidText::Empty));
        }
    }

    #[test]
    fn a_log_line_does_not_tell_it() {
        let text = MessageText::new("secret".to_owned(), 10).unwrap();
        assert_eq!(format!("{text:?}"), "MessageText(6 bytes)");
    }
}
