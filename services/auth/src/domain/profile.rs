//! What people tell about themselves.

/// 1 to 100 characters (Unicode scalar values), no blank at either end, kept exactly as given. `kim ` would pass for `kim` in the
/// eyes of people, and on `MySQL`, which pads what it compares, in those of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nickname(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nickname: 1 to 100 characters that can be seen, no blank at either end, not of the form `email+provider`")]
pub struct InvalidNickname;

impl Nickname {
    /// What the store holds was right when it was written.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// What a fresh account bears until its profile is set.
    pub fn fresh(random: uuid::Uuid) -> Self {
        Self(random.to_string())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Nickname {
    type Error = InvalidNickname;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = (1..=100).contains(&text.chars().count());
        let visible = !text.chars().any(char::is_control) && text.trim() == text;
        // Records of the first fleet name people by nickname or by account; nobody may pass for the account of another.
        let like_an_account = text.contains('@') && text.contains('+');
        if fits && visible && !like_an_account {
            Ok(Self(text))
        } else {
            Err(InvalidNickname)
        }
    }
}

/// Up to 1,000 characters; empty when there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Introduction(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("introduction: up to 1000 characters")]
pub struct InvalidIntroduction;

impl Introduction {
    /// What the store holds was right when it was written.
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
        if text.chars().count() <= 1000 && !text.contains('\0') {
            Ok(Self(text))
        } else {
            Err(InvalidIntroduction)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nickname(text: &str) -> Result<Nickname, InvalidNickname> {
        Nickname::try_from(text.to_owned())
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        for text in [
            "a",
            "소소해피",
            "🩷",
            "한 사람",
            "kim@home",
            "one+one",
            "a,b",
            &"행".repeat(100),
        ] {
            assert_eq!(nickname(text).unwrap().as_str(), text);
        }
        for text in [
            "",
            " ",
            "\u{3000}",
            "kim ",
            " kim",
            "kim\u{3000}",
            "a\nb",
            "a\0",
            "kim@example.com+kakao",
            &"행".repeat(101),
        ] {
            assert_eq!(nickname(text), Err(InvalidNickname), "{text:?}");
        }
    }

    #[test]
    fn introductions_are_bounded() {
        assert!(Introduction::try_from("첫 줄\n둘째 줄".to_owned()).is_ok());
        assert!(Introduction::try_from("소".repeat(1000)).is_ok());
        assert_eq!(Introduction::try_from("소".repeat(1001)), Err(InvalidIntroduction));
    }
}
