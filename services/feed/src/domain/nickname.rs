//! A nickname as feed takes it.

use serde::Deserialize;
use utoipa::ToSchema;

/// 1 to 10 characters, counted as Unicode scalar values.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, min_length = 1, max_length = 10, example = "소소한행복")]
pub struct Nickname(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a nickname has 1 to 10 characters")]
pub struct InvalidNickname;

impl Nickname {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Nickname {
    type Error = InvalidNickname;

    fn try_from(text: String) -> Result<Self, InvalidNickname> {
        // One more than allowed is enough to know, however long the text is.
        if (1..=10).contains(&text.chars().take(11).count()) {
            Ok(Self(text))
        } else {
            Err(InvalidNickname)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_counted_not_bytes() {
        for good in ["a", "소소한행복소소한행복", "🩷🩷🩷🩷🩷🩷🩷🩷🩷🩷"] {
            assert!(Nickname::try_from(good.to_owned()).is_ok(), "{good}");
        }
        for bad in ["", "소소한행복소소한행복!", "12345678901"] {
            assert_eq!(Nickname::try_from(bad.to_owned()), Err(InvalidNickname), "{bad}");
        }
    }
}
