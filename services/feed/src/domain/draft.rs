//! Draft of a person's post of a day.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::post::{InvalidPost, check_date, check_text, check_words, distinct};
use super::{Category, Day, PostDate, PostLimits, Visibility, Weather};

/// Each part as far as it is written. Pictures are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Draft {
    pub date: PostDate,
    #[serde(default)]
    pub weather: Option<Weather>,
    #[serde(default)]
    pub happiness: Option<i32>,
    #[serde(default)]
    pub text: String,
    #[serde(default)]
    pub categories: Vec<Category>,
    #[serde(default)]
    pub is_public: Option<bool>,
    /// The narrowest, where it is one that only a later release knows.
    #[serde(default, deserialize_with = "visibility")]
    pub visibility: Option<Visibility>,
}

fn visibility<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Visibility>, D::Error> {
    let stored = Option::<Value>::deserialize(deserializer)?;
    Ok(stored.map(|stored| serde_json::from_value(stored).unwrap_or(Visibility::Private)))
}

impl Draft {
    /// The bounds of a post, of which nothing has to be there yet.
    pub fn check(mut self, limits: &PostLimits, today: Day) -> Result<Self, InvalidPost> {
        check_date(self.date, today)?;
        check_text(&self.text, limits)?;
        self.categories = distinct(self.categories, limits)?;
        check_words(self.weather.as_ref(), &self.categories)?;
        Ok(self)
    }
}

/// A draft as it was saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedDraft {
    pub draft: Draft,
    pub saved_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_of_a_later_release_is_read() {
        let visibility = |given: &str| {
            let stored = format!(r#"{{"date":2023090513248392{given}}}"#);
            serde_json::from_str::<Draft>(&stored).unwrap().visibility
        };
        assert_eq!(visibility(""), None);
        assert_eq!(visibility(r#","visibility":null"#), None);
        assert_eq!(visibility(r#","visibility":"friends""#), Some(Visibility::Friends));
        assert_eq!(visibility(r#","visibility":"closeFriends""#), Some(Visibility::Private));
    }
}
