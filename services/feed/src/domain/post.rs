//! A post: the one small happiness of a day.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sosohappy_common::Account;
use sosohappy_common::nickname::has_visible;
use sosohappy_common::settings::{schema, valid};
use sosohappy_common::text::is_portable;
use sosohappy_media::ImageId;
use utoipa::ToSchema;

use super::{Day, KeyedRequest, PostDate, Uploads, Visibility};

/// Bounds on what a person may write; all but the shape of a word are settings.
#[derive(Debug, Clone, Copy, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct PostLimits {
    /// Characters of the text.
    pub text: usize,
    /// Categories of one post.
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub categories: usize,
    /// Pictures of one post.
    pub images: usize,
    /// Characters of a comment.
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub comment: usize,
    /// How long the key of a save is remembered.
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub idempotency_keys: Duration,
    /// Earlier versions of one post that are kept.
    pub history: usize,
    /// Drafts of one account.
    #[serde(deserialize_with = "valid::at_least_one")]
    #[schemars(range(min = 1))]
    pub drafts: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPost {
    #[error("a weather or category has 1 to 50 characters")]
    Word,
    #[error("categoryList: a post has at least one category")]
    NoCategory,
    #[error("categoryList: a post has at most {0} categories")]
    TooManyCategories(usize),
    #[error("text, weather and categories have no character U+0000")]
    Unportable,
    #[error("text: a post has at most {0} characters")]
    TooLong(usize),
    #[error("imageList: a post has at most {0} pictures")]
    TooManyImages(usize),
    #[error("date: digits 9 to 12 are an hour and a minute, 0000 to 2359")]
    NoSuchTime,
    #[error("date: a post is dated at most to tomorrow")]
    AfterTomorrow,
    #[error("text: a comment is not blank")]
    EmptyComment,
    #[error("text: a comment has at most {0} characters")]
    CommentTooLong(usize),
}

/// With a visible character, without blanks around it, at most 50 characters.
fn word(text: &str) -> Result<String, InvalidPost> {
    let text = text.trim();
    if has_visible(text) && text.chars().nth(50).is_none() {
        Ok(text.to_owned())
    } else {
        Err(InvalidPost::Word)
    }
}

/// `sunny`, `rainy`, or whatever else an app shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 50, pattern = r"\S", example = "sunny")]
pub struct Weather(String);

impl TryFrom<String> for Weather {
    type Error = InvalidPost;

    fn try_from(text: String) -> Result<Self, InvalidPost> {
        word(&text).map(Self)
    }
}

impl From<Weather> for String {
    fn from(weather: Weather) -> Self {
        weather.0
    }
}

impl Weather {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `coffee`, `friends`, or whatever else an app shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 50, pattern = r"[^\s,]", example = "coffee")]
pub struct Category(String);

impl TryFrom<String> for Category {
    type Error = InvalidPost;

    fn try_from(text: String) -> Result<Self, InvalidPost> {
        word(&text).map(Self)
    }
}

impl From<Category> for String {
    fn from(category: Category) -> Self {
        category.0
    }
}

impl Category {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text of a post, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    pub date: PostDate,
    pub weather: Weather,
    pub happiness: i32,
    pub text: String,
    pub categories: Vec<Category>,
    pub visibility: Visibility,
}

impl Content {
    /// Bounds the date, the text and the categories; a category named twice counts once.
    pub fn check(mut self, limits: &PostLimits, today: Day) -> Result<Self, InvalidPost> {
        check_date(self.date, today)?;
        if self.categories.is_empty() {
            return Err(InvalidPost::NoCategory);
        }
        self.categories = distinct(self.categories, limits)?;
        check_text(&self.text, limits)?;
        check_words(Some(&self.weather), &self.categories)?;
        Ok(self)
    }

    #[must_use]
    pub fn category_names(&self) -> Vec<String> {
        self.categories
            .iter()
            .map(|category| category.as_str().to_owned())
            .collect()
    }

    /// Returns SHA-256 of a request to save this content with these uploads.
    #[must_use]
    pub fn digest(&self, uploads: Option<&Uploads>) -> [u8; 32] {
        let fields = (
            i64::from(self.date),
            self.weather.as_str(),
            self.happiness,
            &self.text,
            self.category_names(),
            self.visibility,
            uploads.map(Uploads::as_bytes),
        );
        let fields = serde_json::to_vec(&fields).expect("texts and numbers are JSON");
        Sha256::digest(fields).into()
    }
}

/// The hour and the minute exist, and the day is not after tomorrow.
pub(super) fn check_date(date: PostDate, today: Day) -> Result<(), InvalidPost> {
    if !date.has_time_of_day() {
        return Err(InvalidPost::NoSuchTime);
    }
    if date.day() > today.tomorrow() {
        return Err(InvalidPost::AfterTomorrow);
    }
    Ok(())
}

/// Each category once, within the bound.
pub(super) fn distinct(mut categories: Vec<Category>, limits: &PostLimits) -> Result<Vec<Category>, InvalidPost> {
    let mut seen = HashSet::new();
    categories.retain(|category| seen.insert(category.clone()));
    if categories.len() > limits.categories {
        return Err(InvalidPost::TooManyCategories(limits.categories));
    }
    Ok(categories)
}

pub(super) fn check_text(text: &str, limits: &PostLimits) -> Result<(), InvalidPost> {
    if text.chars().take(limits.text + 1).count() > limits.text {
        return Err(InvalidPost::TooLong(limits.text));
    }
    if !is_portable(text) {
        return Err(InvalidPost::Unportable);
    }
    Ok(())
}

/// Checked when a post or draft is saved, and not when a word is read: stored drafts of older releases may have any character.
pub(super) fn check_words(weather: Option<&Weather>, categories: &[Category]) -> Result<(), InvalidPost> {
    let mut words = categories
        .iter()
        .map(Category::as_str)
        .chain(weather.map(Weather::as_str));
    if words.all(is_portable) {
        Ok(())
    } else {
        Err(InvalidPost::Unportable)
    }
}

/// The account that writes, and the moment its token was issued. A resignation erases what was written with older tokens,
/// whenever it was written: this separates a resigned account from a new one with the same address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    pub account: Account,
    pub authorized_at: Timestamp,
}

/// A post to be stored, with its author and its stored pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPost {
    pub author: Writer,
    pub content: Content,
    pub images: Vec<ImageId>,
    /// The uploads from which the pictures were encoded.
    pub uploads: Option<Uploads>,
    /// Earlier versions to keep of the post of the day.
    pub history: usize,
    pub key: Option<KeyedRequest>,
    /// The version to hold for review, if the content has a word of the list.
    pub review: Option<[u8; 32]>,
}

/// A post as its author sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPost {
    pub date: PostDate,
    pub weather: String,
    pub happiness: i32,
    pub text: String,
    pub visibility: Visibility,
    /// Whether it is hidden from everybody else, by a moderator or because its text waits for review.
    pub is_hidden: bool,
    pub categories: Vec<String>,
    pub images: Vec<ImageId>,
    /// The accounts that like it, in the order of their likes.
    pub likers: Vec<Account>,
    /// When it was last written anew.
    pub edited_at: Option<Timestamp>,
}

/// A post as it was until it was edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostVersion {
    pub id: i64,
    pub date: PostDate,
    pub weather: String,
    pub happiness: i32,
    pub text: String,
    pub is_public: bool,
    pub categories: Vec<String>,
    pub replaced_at: Timestamp,
}

/// A public post as another person sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPost {
    pub id: i64,
    pub author: Account,
    pub date: PostDate,
    pub weather: String,
    pub happiness: i32,
    pub text: String,
    pub categories: Vec<String>,
    pub images: Vec<ImageId>,
    pub is_liked: bool,
    pub likes: i64,
    pub comments: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PostLimits = PostLimits {
        text: 5,
        categories: 2,
        images: 1,
        comment: 1,
        idempotency_keys: Duration::from_secs(1),
        history: 1,
        drafts: 1,
    };

    fn content(text: &str, categories: &[&str]) -> Content {
        Content {
            date: PostDate::try_from(2_023_090_513_248_392).unwrap(),
            weather: Weather::try_from("sunny".to_owned()).unwrap(),
            happiness: 5,
            text: text.to_owned(),
            categories: categories
                .iter()
                .map(|name| Category::try_from((*name).to_owned()).unwrap())
                .collect(),
            visibility: Visibility::Public,
        }
    }

    #[test]
    fn bounds_count_characters_and_different_categories() {
        assert!(content("행복한하루", &["food", "sea"]).check(&LIMITS, today()).is_ok());
        assert_eq!(
            content("행복한하루!", &["food"]).check(&LIMITS, today()),
            Err(InvalidPost::TooLong(5))
        );
        assert_eq!(content("", &[]).check(&LIMITS, today()), Err(InvalidPost::NoCategory));
        assert_eq!(
            content("", &["a", "b", "c"]).check(&LIMITS, today()),
            Err(InvalidPost::TooManyCategories(2))
        );
        let kept = content("", &["food", "sea", "food"]).check(&LIMITS, today()).unwrap();
        assert_eq!(kept.categories, content("", &["food", "sea"]).categories);
    }

    #[test]
    fn a_text_that_not_all_keep_is_refused() {
        for bad in [
            content("a\0", &["food"]),
            content("", &["food", "a\0b"]),
            Content {
                weather: Weather::try_from("sunny\0".to_owned()).unwrap(),
                ..content("", &["food"])
            },
        ] {
            assert_eq!(
                bad.clone().check(&LIMITS, today()),
                Err(InvalidPost::Unportable),
                "{bad:?}"
            );
        }
    }

    fn today() -> Day {
        Day::try_from(20_230_905).unwrap()
    }

    #[test]
    fn a_post_is_dated_at_most_to_tomorrow() {
        let on = |day: i64| Content {
            date: PostDate::try_from(day * 100_000_000).unwrap(),
            ..content("", &["food"])
        };
        for good in [20_000_101, 20_230_905, 20_230_906] {
            assert!(on(good).check(&LIMITS, today()).is_ok(), "{good}");
        }
        for bad in [20_230_907, 20_240_101, 99_991_231] {
            assert_eq!(
                on(bad).check(&LIMITS, today()),
                Err(InvalidPost::AfterTomorrow),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_post_is_written_at_a_time_of_day() {
        let at = |time: i64| Content {
            date: PostDate::try_from(2_023_090_500_000_000 + time).unwrap(),
            ..content("", &["food"])
        };
        for good in [0, 23_59_59_99, 13_24_83_92] {
            assert!(at(good).check(&LIMITS, today()).is_ok(), "{good:08}");
        }
        for bad in [24_00_00_00, 25_00_00_00, 12_60_00_00, 12_61_00_00, 99_99_99_99] {
            assert_eq!(
                at(bad).check(&LIMITS, today()),
                Err(InvalidPost::NoSuchTime),
                "{bad:08}"
            );
        }
    }

    #[test]
    fn a_word_is_neither_blank_nor_endless() {
        for bad in ["", "  ", "\u{3164}", "\u{200b}\u{2060}", &"a".repeat(51)] {
            assert_eq!(Category::try_from(bad.to_owned()), Err(InvalidPost::Word));
            assert_eq!(Weather::try_from(bad.to_owned()), Err(InvalidPost::Word));
        }
        assert_eq!(Category::try_from(" 독서 ".to_owned()).unwrap().as_str(), "독서");
    }
}
