//! Comments on posts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_common::Account;
use sosohappy_common::text::is_portable;
use utoipa::ToSchema;

use super::post::InvalidPost;

/// The text of a comment: not blank, without blanks around it and without U+0000.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, pattern = r"\S", example = "축하해요")]
pub struct CommentText(String);

impl TryFrom<String> for CommentText {
    type Error = InvalidPost;

    fn try_from(text: String) -> Result<Self, InvalidPost> {
        match text.trim() {
            "" => Err(InvalidPost::EmptyComment),
            text if !is_portable(text) => Err(InvalidPost::Unportable),
            text => Ok(Self(text.to_owned())),
        }
    }
}

impl From<CommentText> for String {
    fn from(text: CommentText) -> Self {
        text.0
    }
}

impl CommentText {
    /// Bounds the number of characters.
    pub fn check(self, most: usize) -> Result<Self, InvalidPost> {
        if self.0.chars().take(most + 1).count() > most {
            return Err(InvalidPost::CommentTooLong(most));
        }
        Ok(self)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    pub id: i64,
    pub writer: Account,
    pub text: String,
    pub written_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_neither_blank_nor_endless() {
        for blank in ["", " \n "] {
            assert_eq!(CommentText::try_from(blank.to_owned()), Err(InvalidPost::EmptyComment));
        }
        assert_eq!(CommentText::try_from("a\0".to_owned()), Err(InvalidPost::Unportable));
        let text = CommentText::try_from(" 축하해요 ".to_owned()).unwrap();
        assert_eq!(text.clone().check(4).unwrap().as_str(), "축하해요");
        assert_eq!(text.check(3), Err(InvalidPost::CommentTooLong(3)));
    }
}
