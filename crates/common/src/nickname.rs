//! Nicknames: rules for chosen ones, for those in parameters, and for texts that are the same name.

use std::collections::BTreeSet;
use std::fmt;

use icu_casemap::CaseMapper;
use icu_properties::props::{
    CanonicalCombiningClass, DefaultIgnorableCodePoint, Emoji, EmojiModifier, ExtendedPictographic, GeneralCategory,
    GeneralCategoryGroup, JoiningType,
};
use icu_properties::{CodePointMapData, CodePointSetData};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use unicode_normalization::UnicodeNormalization as _;
use unicode_security::skeleton;
use unicode_segmentation::UnicodeSegmentation as _;
use utoipa::ToSchema;

/// User-perceived characters of a nickname: extended grapheme clusters (UAX #29), as Swift's `count` counts them.
pub const MAX_CHARACTERS: usize = 10;

/// Bytes of a nickname in UTF-8. Ten of the longest joined emoji fit.
pub const MAX_BYTES: usize = 320;

/// Bytes of a text that may name a person at all: nicknames of releases that allowed 100 characters are still found.
pub const MAX_STORED_BYTES: usize = 400;

/// A nickname, kept as typed: 1 to 10 user-perceived characters and at most 320 bytes, or the placeholder of a fresh account (a UUID).
///
/// Reading one from a parameter checks the size only: names of Spring services may hold anything. [`Nickname::choose`] checks what a
/// person may take. Two nicknames are the same name when their [`Nickname::key`]s are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 320, example = "소소한행복")]
pub struct Nickname(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNickname {
    #[error("nickname: 1 to 10 characters and at most 320 bytes")]
    Size,
    #[error("nickname: characters that can be seen, no blank at either end, not of the form `email+provider`")]
    Form,
}

impl Nickname {
    /// Takes a stored name as it is: it was valid when it was written.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// Returns the name of a fresh account until its profile is set.
    #[must_use]
    pub fn placeholder(random: uuid::Uuid) -> Self {
        Self(random.to_string())
    }

    /// Checks a name that a person chooses: of the right size, every character visible, no blank at either end, not like an account.
    pub fn choose(text: String) -> Result<Self, InvalidNickname> {
        if !has_size(&text) {
            return Err(InvalidNickname::Size);
        }
        // Records of the legacy Spring services name people by nickname or by account.
        let like_an_account = text.contains('@') && text.contains('+');
        if text.trim() != text || !is_visible(&text) || like_an_account {
            return Err(InvalidNickname::Form);
        }
        Ok(Self(text))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    #[must_use]
    pub fn key(&self) -> NicknameKey {
        NicknameKey::of(&self.0)
    }

    #[must_use]
    pub fn looks(&self) -> NicknameLooks {
        NicknameLooks::of(&self.0)
    }
}

impl TryFrom<String> for Nickname {
    type Error = InvalidNickname;

    fn try_from(text: String) -> Result<Self, InvalidNickname> {
        if has_size(&text) || is_placeholder(&text) {
            Ok(Self(text))
        } else {
            Err(InvalidNickname::Size)
        }
    }
}

impl From<Nickname> for String {
    fn from(nickname: Nickname) -> Self {
        nickname.0
    }
}

/// Returns whether a text may name a person: a text that is empty or too long for any release is neither stored nor looked up.
#[must_use]
pub fn may_be_nickname(text: &str) -> bool {
    (1..=MAX_STORED_BYTES).contains(&text.len())
}

/// Returns whether anything of a text shows: blanks, joiners, fillers and control characters alone do not.
#[must_use]
pub fn has_visible(text: &str) -> bool {
    text.chars().any(|char| shows(char) && !char.is_whitespace())
}

fn has_size(text: &str) -> bool {
    (1..=MAX_BYTES).contains(&text.len()) && text.graphemes(true).nth(MAX_CHARACTERS).is_none()
}

fn is_placeholder(text: &str) -> bool {
    text.len() == uuid::fmt::Hyphenated::LENGTH && uuid::Uuid::try_parse(text).is_ok()
}

/// The same for all spellings of one name: SHA-256 of its NFC form, case-folded, with one kind of blank, without invisible characters, as
/// a UTS #39 skeleton.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NicknameKey([u8; 32]);

impl NicknameKey {
    #[must_use]
    pub fn of(text: &str) -> Self {
        // Folding before and after the skeleton: a look-alike may be a capital letter.
        let canonical: String = folded_skeleton(&fold(&shown(text.nfc()))).nfd().collect();
        Self(Sha256::digest(canonical).into())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// 64 hex digits.
impl fmt::Display for NicknameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for NicknameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-256 of a form in which a name may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Look([u8; 32]);

impl Look {
    fn of(kind: &str, seen: &str) -> Self {
        let seen: String = seen.nfd().collect();
        Self(Sha256::digest(format!("{kind}\u{1f}{seen}")).into())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The looks of a name. A [`NicknameKey`] is the same for `admin` and `admIn`, but not for `admln`: folding comes before the skeleton
/// (UTS #39), and turns a capital I, which looks like a small l, into an i. People see a name as it is typed, or know it in another case.
///
/// Two names look alike when [`NicknameLooks::confusable`] of one has a look of [`NicknameLooks::own`] of the other, which is symmetric: when
///
/// * what is seen is the same in any case, as typed or folded before: `admIn` and `admln`, `admin` and `аdmin` with a Cyrillic а;
/// * one as typed looks like the other in capitals: `ADMlN` and `admin`;
/// * both look the same in capitals: `kim` and `кim` with a Cyrillic к, of which small letters differ; `kim` and `k1m`.
///
/// `admin` and `admln` look different. Before they are compared, names are in the form NFKC, so that full-width, circled and other letters for
/// compatibility count as the plain ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NicknameLooks {
    pub own: BTreeSet<Look>,
    pub confusable: BTreeSet<Look>,
}

impl NicknameLooks {
    /// The version of the algorithm, which stores write beside the looks of a name. It grows by one when any name gets other looks, also by newer
    /// tables of Unicode: stored looks of a smaller version are made again. The test `looks_change_with_their_version` fails until it has grown.
    pub const VERSION: i64 = 1;

    #[must_use]
    pub fn of(text: &str) -> Self {
        // The placeholder of a new account is not shown, and cannot be chosen.
        if is_placeholder(text) {
            return Self::default();
        }
        let shown: String = shown(text.nfkc()).chars().map(upright).collect();
        let typed: String = skeleton(&shown).collect();
        let capitals: String = skeleton(&shown.to_uppercase()).collect();
        // A folded skeleton may have look-alikes again: the M of a name in capitals is an m, which looks like rn.
        let any_case =
            [&shown, &fold(&shown)].map(|text| Look::of("any-case", &folded_skeleton(&folded_skeleton(text))));
        Self {
            own: any_case
                .into_iter()
                .chain([Look::of("typed", &typed), Look::of("capitals", &capitals)])
                .collect(),
            confusable: any_case
                .into_iter()
                .chain([
                    Look::of("capitals", &typed),
                    Look::of("typed", &capitals),
                    Look::of("capitals", &capitals),
                ])
                .collect(),
        }
    }
}

/// The text without invisible characters, with one kind of blank.
fn shown(normalized: impl Iterator<Item = char>) -> String {
    let seen: String = normalized.filter_map(significant).collect();
    blanks(&seen)
}

/// Returns a vertical bar for an upright stroke of CJK scripts that stands alone: the Hangul vowel I and the radical. UTS #39 has them apart from the
/// bar, which it takes for a small l. A vowel that is part of a syllable was composed by NFKC before.
fn upright(char: char) -> char {
    if matches!(char, '\u{1175}' | '\u{4e28}') {
        '|'
    } else {
        char
    }
}

fn folded_skeleton(text: &str) -> String {
    fold(&skeleton(text).collect::<String>())
}

pub(crate) fn fold(text: &str) -> String {
    CaseMapper::new().fold_string(text).into_owned()
}

/// Every run of blanks becomes one space; those at the ends go.
fn blanks(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns what a character counts as in a key. Invisible ones make no other name, except for tags: they tell flags apart. A skeleton
/// would drop them, so that private-use characters, which cannot be chosen, stand for them.
fn significant(char: char) -> Option<char> {
    if is_tag(char) {
        return char::from_u32(u32::from(char) - u32::from(FIRST_TAG) + FIRST_PRIVATE);
    }
    (!is_ignorable(char)).then_some(char)
}

pub(crate) fn is_ignorable(char: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(char)
}

/// A blank that is a symbol to Unicode.
const BRAILLE_BLANK: char = '\u{2800}';
const NON_JOINER: char = '\u{200c}';
const JOINER: char = '\u{200d}';
const EMOJI_STYLE: char = '\u{fe0f}';
/// Turns a digit with the style into an emoji.
const KEYCAP: char = '\u{20e3}';
const BLACK_FLAG: char = '\u{1f3f4}';
const FIRST_TAG: char = '\u{e0020}';
const END_OF_TAGS: char = '\u{e007f}';
const FIRST_PRIVATE: u32 = 0xf_0000;

fn is_tag(char: char) -> bool {
    (FIRST_TAG..=END_OF_TAGS).contains(&char)
}

/// Whether every character shows: two nicknames that differ look different. A mark needs a base; joiners, tags and the style of
/// emoji are allowed where they change what is seen.
fn is_visible(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let char = chars[at];
        let before = &chars[..at];
        let after = &chars[at + 1..];
        let last = before.last().copied();
        let fine = match char {
            JOINER => {
                let joins_emoji =
                    last.is_some_and(ends_emoji) && after.first().is_some_and(|next| is_pictograph(*next));
                joins_emoji || (last.is_some_and(is_virama) && after.first().is_some_and(|next| is_letter(*next)))
            }
            NON_JOINER => {
                let separates = last.is_some_and(is_virama) && after.first().is_some_and(|next| is_letter(*next));
                separates || breaks_cursive(before, after)
            }
            BLACK_FLAG if after.first().is_some_and(|next| is_tag(*next)) => {
                let tags = after.iter().take_while(|char| is_tag(**char)).count();
                at += tags;
                // A subdivision: two to seven letters and digits, then the end (UTS #51, ED-14a).
                (3..=8).contains(&tags)
                    && after[tags - 1] == END_OF_TAGS
                    && after[..tags - 1].iter().all(|tag| is_tag_of_subdivision(*tag))
            }
            EMOJI_STYLE => last.is_some_and(|before| {
                let is_keycap = !before.is_ascii() || after.first() == Some(&KEYCAP);
                CodePointSetData::new::<Emoji>().contains(before) && is_keycap
            }),
            _ if is_mark(char) => last.is_some_and(|before| !before.is_whitespace()),
            _ => shows(char),
        };
        if !fine {
            return false;
        }
        at += 1;
    }
    true
}

fn is_tag_of_subdivision(tag: char) -> bool {
    ('\u{e0030}'..='\u{e0039}').contains(&tag) || ('\u{e0061}'..='\u{e007a}').contains(&tag)
}

/// Whether a non-joiner between these keeps two letters apart that a cursive script would join (RFC 5892, A.1).
fn breaks_cursive(before: &[char], after: &[char]) -> bool {
    let types = CodePointMapData::<JoiningType>::new();
    let joins =
        |char: Option<&char>, wanted: [JoiningType; 2]| char.is_some_and(|char| wanted.contains(&types.get(*char)));
    let opaque = |char: &&char| types.get(**char) == JoiningType::Transparent;
    joins(
        before.iter().rev().find(|char| !opaque(char)),
        [JoiningType::LeftJoining, JoiningType::DualJoining],
    ) && joins(
        after.iter().find(|char| !opaque(char)),
        [JoiningType::RightJoining, JoiningType::DualJoining],
    )
}

/// Letters, numbers, punctuation, symbols and blanks that take up room; no control, format or unassigned character.
fn shows(char: char) -> bool {
    let hidden = GeneralCategoryGroup::Other
        .union(GeneralCategoryGroup::LineSeparator)
        .union(GeneralCategoryGroup::ParagraphSeparator);
    let category = CodePointMapData::<GeneralCategory>::new().get(char);
    !hidden.contains(category) && !is_ignorable(char) && char != BRAILLE_BLANK
}

fn is_mark(char: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(char);
    shows(char) && GeneralCategoryGroup::Mark.contains(category)
}

fn is_letter(char: char) -> bool {
    let category = CodePointMapData::<GeneralCategory>::new().get(char);
    GeneralCategoryGroup::Letter.contains(category)
}

fn is_virama(char: char) -> bool {
    CodePointMapData::<CanonicalCombiningClass>::new().get(char) == CanonicalCombiningClass::Virama
}

fn is_pictograph(char: char) -> bool {
    CodePointSetData::new::<ExtendedPictographic>().contains(char)
}

/// The characters that a joiner may follow in an emoji: a pictograph, its skin tone or its style.
fn ends_emoji(char: char) -> bool {
    is_pictograph(char) || CodePointSetData::new::<EmojiModifier>().contains(char) || char == EMOJI_STYLE
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENGLAND: &str = "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}";
    const SCOTLAND: &str = "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}";
    const FAMILY: &str = "👨\u{200d}👩\u{200d}👧\u{200d}👦";

    fn choose(text: &str) -> Result<Nickname, InvalidNickname> {
        Nickname::choose(text.to_owned())
    }

    fn key(text: &str) -> NicknameKey {
        NicknameKey::of(text)
    }

    #[test]
    fn characters_are_counted_as_people_see_them() {
        let decomposed: String = "소소한행복소소한행복".nfd().collect();
        for text in [
            "a",
            "소소해피",
            "🩷",
            "한 사람",
            "kim@home",
            "one+one",
            "a,b",
            "소소한행복소소한행복",
            &decomposed,
            &FAMILY.repeat(10),
            &FAMILY.repeat(2),
        ] {
            assert_eq!(choose(text).map(|name| name.as_str().to_owned()), Ok(text.to_owned()));
            assert!(Nickname::try_from(text.to_owned()).is_ok(), "{text}");
        }
        let zalgo = format!("a{}", "\u{301}".repeat(200));
        for text in ["", "12345678901", &"행".repeat(11), &FAMILY.repeat(11), &zalgo] {
            assert_eq!(choose(text), Err(InvalidNickname::Size), "{text:?}");
            assert_eq!(
                Nickname::try_from(text.to_owned()),
                Err(InvalidNickname::Size),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_parameter_may_name_a_fresh_account_whose_name_cannot_be_chosen() {
        let fresh = Nickname::placeholder(uuid::Uuid::from_u128(7));
        assert_eq!(Nickname::try_from(fresh.as_str().to_owned()), Ok(fresh.clone()));
        assert_eq!(choose(fresh.as_str()), Err(InvalidNickname::Size));
    }

    #[test]
    fn a_text_needs_one_visible_character() {
        for blank in [
            "",
            " \n",
            "\u{3164}",
            "\u{200b}\u{200d}",
            "\u{2800}",
            "\u{feff}\u{2060}",
            "\u{ad}",
        ] {
            assert!(!has_visible(blank), "{blank:?}");
        }
        for text in ["a", ".", "\u{3164}안", "🩷", "👨‍👩‍👧"] {
            assert!(has_visible(text), "{text:?}");
        }
    }

    #[test]
    fn invisible_characters_and_accounts_are_no_names() {
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
                assert_eq!(choose(&text), Err(InvalidNickname::Form), "{text:?}");
            }
        }
        for text in [
            " ",
            "\u{3000}",
            "kim ",
            " kim",
            "kim\u{3000}",
            "a\nb",
            "a\0",
            "a@b+kakao",
            "\u{301}",
            "a \u{301}",
            "❤\u{200d}",
            "❤\u{200d}a",
            "a\u{200d}❤",
            "name1\u{fe0f}",
            "🏴\u{e0067}",
            "🏴\u{e0067}\u{e0062}\u{e0065}",
            "می\u{200c}",
            "न\u{200d}क",
        ] {
            assert_eq!(choose(text), Err(InvalidNickname::Form), "{text:?}");
        }
    }

    #[test]
    fn scripts_and_emoji_with_joiners_are_names() {
        for text in [
            "\u{1112}\u{1161}\u{11ab}",
            "e\u{301}\u{323}",
            "👩🏽\u{200d}❤\u{fe0f}\u{200d}👨🏿",
            "🏳\u{fe0f}\u{200d}🌈",
            "1\u{fe0f}\u{20e3}",
            "❤\u{fe0f}",
            "🇰🇷",
            "한 사람\u{3000}둘",
            "ㅋㅋ",
            "김-이_박.1",
            "नमस्ते",
            ENGLAND,
            SCOTLAND,
            "می\u{200c}خواهم",
            "क\u{94d}\u{200d}ष",
            "क\u{94d}\u{200c}ष",
            "ශ\u{dca}\u{200d}රී",
        ] {
            assert_eq!(
                choose(text).map(|name| name.as_str().to_owned()),
                Ok(text.to_owned()),
                "{text:?}"
            );
        }
    }

    #[test]
    fn spellings_of_one_name_have_one_key() {
        for (one, other) in [
            ("김", "\u{1100}\u{1175}\u{11b7}"),
            ("각자", "\u{1100}\u{1161}\u{11a8}\u{110c}\u{1161}"),
            ("Å", "\u{212b}"),
            ("Å", "å"),
            ("admin", "\u{430}dmin"),
            ("admin", "ADMIN"),
            ("admin", "ａｄｍｉｎ"),
            ("ADMIN", "\u{410}DMIN"),
            ("한 사람", "한\u{3000}사람"),
            ("한 사람", "한\u{a0}사람"),
            ("straße", "STRASSE"),
            ("❤\u{fe0f}", "❤"),
            ("می\u{200c}خواهم", "میخواهم"),
        ] {
            assert_eq!(key(one), key(other), "{one} {other}");
        }
        for (one, other) in [
            ("김", "금"),
            ("kim", "kin"),
            (ENGLAND, SCOTLAND),
            (ENGLAND, "🏴"),
            ("a b", "ab"),
        ] {
            assert_ne!(key(one), key(other), "{one} {other}");
        }
    }

    fn look_alike(one: &str, other: &str) -> bool {
        let (one, other) = (NicknameLooks::of(one), NicknameLooks::of(other));
        let found = !one.confusable.is_disjoint(&other.own);
        assert_eq!(found, !other.confusable.is_disjoint(&one.own), "not symmetric");
        found
    }

    #[test]
    fn names_that_look_alike_have_a_look_in_common() {
        for (one, other) in [
            ("admIn", "admln"),
            ("admIn", "adm1n"),
            ("admIn", "adm|n"),
            ("AdmIn", "admln"),
            ("ADMIN", "ADMlN"),
            ("admin", "ADMlN"),
            ("admin", "ADM1N"),
            ("admin", "admIn"),
            ("admin", "\u{430}dmin"),
            ("nick", "\u{39d}ick"),
            ("Hello", "HelIo"),
            ("go0d", "good"),
            ("GO0D", "good"),
            ("mom", "rnorn"),
            ("kim", "\u{43a}im"),
            ("KIM", "\u{43a}im"),
            ("\u{41a}IM", "kim"),
            ("kim", "k1m"),
            ("admin", "adm1n"),
            ("\u{24d0}\u{24d3}\u{24dc}\u{24d8}\u{24dd}", "admin"),
            ("\u{24b6}dm\u{24d8}n", "admin"),
            ("ａｄｍＩｎ", "admln"),
            ("\u{2460}2", "l2"),
            ("\u{fb01}n", "fin"),
            ("\u{2167}", "VIII"),
            ("adm\u{3163}n", "admln"),
            ("adm\u{3163}n", "admIn"),
            ("adm\u{ffdc}n", "adm1n"),
            ("adm\u{4e28}n", "adm|n"),
            ("\u{3131}\u{3163}", "\u{ae30}"),
            ("한Il", "한lI"),
            ("김", "\u{1100}\u{1175}\u{11b7}"),
        ] {
            assert!(look_alike(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("admin", "admln"),
            ("kim", "klm"),
            ("mail", "mall"),
            ("kim", "kin"),
            ("김", "금"),
            ("lee1", "lee2"),
            ("ki", "k\u{3163}m"),
            ("기", "가"),
            ("\u{2460}", "\u{2461}"),
            (ENGLAND, SCOTLAND),
            ("a b", "ab"),
        ] {
            assert!(!look_alike(one, other), "{one} {other}");
        }
        let fresh = uuid::Uuid::from_u128(7).to_string();
        assert_eq!(NicknameLooks::of(&fresh), NicknameLooks::default());
    }

    /// Stores keep looks: where this fails, the algorithm has changed and [`NicknameLooks::VERSION`] has to grow, with the digest here.
    #[test]
    fn looks_change_with_their_version() {
        let mut digest = Sha256::new();
        for name in [
            "admIn",
            "\u{43a}im",
            "\u{24da}1m",
            "소소한행복",
            "\u{3131}\u{3163}\u{4e28}",
            "Straße",
            "\u{fb01}n",
            "go0d rnom",
        ] {
            let looks = NicknameLooks::of(name);
            for look in looks.own.iter().chain(&looks.confusable) {
                digest.update(look.as_bytes());
            }
        }
        assert_eq!(
            (NicknameLooks::VERSION, &*hex::encode(digest.finalize())),
            (1, "c212b480ca1b8ec8360e36aba4c2d9cfae9f95e1ee51e1917815f6e193266424")
        );
    }

    #[test]
    fn spellings_of_one_name_look_alike() {
        for (one, other) in [
            ("Å", "\u{212b}"),
            ("Å", "å"),
            ("admin", "ａｄｍｉｎ"),
            ("ADMIN", "\u{410}DMIN"),
            ("한 사람", "한\u{3000}사람"),
            ("straße", "STRASSE"),
            ("❤\u{fe0f}", "❤"),
        ] {
            assert_eq!(key(one), key(other), "{one} {other}");
            assert!(look_alike(one, other), "{one} {other}");
        }
    }
}
