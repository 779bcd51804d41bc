//! What people tell about themselves.

use icu_properties::props::{
    DefaultIgnorableCodePoint, Emoji, EmojiModifier, ExtendedPictographic, GeneralCategory, GeneralCategoryGroup,
};
use icu_properties::{CodePointMapData, CodePointSetData};

/// 1 to 100 characters (Unicode scalar values) that can be seen, no blank at either end, kept exactly as given. `kim ` would pass
/// for `kim` in the eyes of people, and on `MySQL`, which pads what it compares, in those of the database.
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
        let visible = fits && text.trim() == text && is_visible(&text);
        // Records of the legacy Spring services name people by nickname or by account; no nickname may look like another user's account.
        let like_an_account = text.contains('@') && text.contains('+');
        if visible && !like_an_account {
            Ok(Self(text))
        } else {
            Err(InvalidNickname)
        }
    }
}

/// A blank that is a symbol to Unicode.
const BRAILLE_BLANK: char = '\u{2800}';
const JOINER: char = '\u{200d}';
const EMOJI_STYLE: char = '\u{fe0f}';
/// Turns a digit with the style into an emoji.
const KEYCAP: char = '\u{20e3}';

/// Whether every character shows: two nicknames that differ look different. A mark needs something to stand on; the joiner and the
/// style of emoji are fine where emoji have them.
fn is_visible(text: &str) -> bool {
    let mut before = None;
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        let fine = match char {
            JOINER => before.is_some_and(ends_emoji) && rest.peek().is_some_and(|next| is_pictograph(*next)),
            EMOJI_STYLE => before.is_some_and(|before| {
                let is_keycap = !before.is_ascii() || rest.peek() == Some(&KEYCAP);
                CodePointSetData::new::<Emoji>().contains(before) && is_keycap
            }),
            _ if is_mark(char) => before.is_some_and(|before| !before.is_whitespace()),
            _ => shows(char),
        };
        if !fine {
            return false;
        }
        before = Some(char);
    }
    true
}

/// Letters, numbers, punctuation, symbols and blanks that take up room; no character that is for programs or for nobody.
fn shows(char: char) -> bool {
    let hidden = GeneralCategoryGroup::Other
        .union(GeneralCategoryGroup::LineSeparator)
        .union(GeneralCategoryGroup::ParagraphSeparator);
    let category = CodePointMapData::<GeneralCategory>::new().get(char);
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(char);
    !hidden.contains(category) && !ignorable && char != BRAILLE_BLANK
}

fn is_mark(char: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(char);
    shows(char) && GeneralCategoryGroup::Mark.contains(category)
}

fn is_pictograph(char: char) -> bool {
    CodePointSetData::new::<ExtendedPictographic>().contains(char)
}

/// What the joiner may follow: an emoji, its skin tone or its style.
fn ends_emoji(char: char) -> bool {
    is_pictograph(char) || CodePointSetData::new::<EmojiModifier>().contains(char) || char == EMOJI_STYLE
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
    fn what_cannot_be_seen_is_no_name() {
        let invisible = [
            '\u{200b}',
            '\u{3164}',
            '\u{2800}',
            '\u{ad}',
            '\u{feff}',
            '\u{2060}',
            '\u{180e}',
            '\u{115f}',
            '\u{fffe}',
            '\u{202e}',
            '\u{202d}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{fe0e}',
            '\u{fe0f}',
            '\u{2028}',
            '\u{2029}',
            '\u{85}',
            '\u{e000}',
            '\u{378}',
            '\u{1160}',
            '\u{ffa0}',
            '\u{e0041}',
            '\u{34f}',
        ];
        for char in invisible {
            for text in [
                format!("{char}"),
                format!("name{char}"),
                format!("{char}name"),
                format!("na{char}me"),
            ] {
                assert_eq!(nickname(&text), Err(InvalidNickname), "{text:?}");
            }
        }
        for text in [
            "\u{301}",
            "a \u{301}",
            "❤\u{200d}",
            "❤\u{200d}a",
            "a\u{200d}❤",
            "name1\u{fe0f}",
        ] {
            assert_eq!(nickname(text), Err(InvalidNickname), "{text:?}");
        }
        // Jamo one by one, accents on letters, a family, a couple with tones, a flag, a keycap, a heart with its style.
        for text in [
            "\u{1112}\u{1161}\u{11ab}",
            "e\u{301}\u{323}",
            "👨\u{200d}👩\u{200d}👧",
            "👩🏽\u{200d}❤\u{fe0f}\u{200d}👨🏿",
            "🏳\u{fe0f}\u{200d}🌈",
            "1\u{fe0f}\u{20e3}",
            "❤\u{fe0f}",
            "🇰🇷",
            "한 사람\u{3000}둘",
            "ㅋㅋ",
            "김-이_박.1",
            "नमस्ते",
        ] {
            assert_eq!(nickname(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn introductions_are_bounded() {
        assert!(Introduction::try_from("첫 줄\n둘째 줄".to_owned()).is_ok());
        assert!(Introduction::try_from("소".repeat(1000)).is_ok());
        assert_eq!(Introduction::try_from("소".repeat(1001)), Err(InvalidIntroduction));
    }
}
