//! Profile texts of people.

use sosohappy_common::text::is_portable;

/// Up to 1,000 characters, none of which is U+0000; empty when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Introduction(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("introduction: up to 1000 characters, none of which is U+0000")]
pub struct InvalidIntroduction;

impl Introduction {
    /// Takes a text of the store, which was valid when it was written.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Introduction {
    type Error = InvalidIntroduction;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.chars().count() <= 1000 && is_portable(&text) {
            Ok(Self(text))
        } else {
            Err(InvalidIntroduction)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn introductions_are_bounded() {
        assert!(Introduction::try_from("첫 줄\n둘째 줄".to_owned()).is_ok());
        assert!(Introduction::try_from("소".repeat(1000)).is_ok());
        for bad in ["소".repeat(1001), "소\0".to_owned()] {
            assert_eq!(Introduction::try_from(bad), Err(InvalidIntroduction));
        }
    }
}
