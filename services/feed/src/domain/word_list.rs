//! Words that hold a text for review before others see it.

use std::time::Duration;

use aho_corasick::AhoCorasick;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::Error as _;
use sha2::{Digest as _, Sha256};
use sosohappy_access::muted_words::is_word;
use sosohappy_common::http::params::comma_list;
use sosohappy_common::settings::{schema, valid};
use unicode_normalization::UnicodeNormalization as _;

use super::Content;

/// The most words of the list, and characters of one.
const WORDS: usize = 10_000;
const CHARACTERS: usize = 100;

/// Settings of the review before publication.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct ReviewSettings {
    #[serde(deserialize_with = "words")]
    #[schemars(with = "Vec<String>")]
    pub words: WordList,
    #[serde(deserialize_with = "valid::duration")]
    #[schemars(schema_with = "schema::duration")]
    pub deadline: Duration,
}

/// Words, found as muted words are: in any letter case and composition, and not inside a longer word of Latin letters or digits. A search costs
/// the length of the text, however many words there are.
#[derive(Debug, Clone, Default)]
pub struct WordList(Option<AhoCorasick>);

impl WordList {
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        let Some(words) = &self.0 else {
            return false;
        };
        let text = normal(text);
        words
            .find_overlapping_iter(&text)
            .any(|found| is_word(&text, found.range()))
    }

    /// Whether the post has one of the words, in its text, its categories or its weather.
    #[must_use]
    pub fn is_in_post(&self, text: &str, categories: &[String], weather: &str) -> bool {
        let mut texts = categories.iter().map(String::as_str).chain([text, weather]);
        texts.any(|text| self.is_in(text))
    }

    fn new(words: &[String]) -> Result<Self, &'static str> {
        if words.is_empty() {
            return Ok(Self(None));
        }
        if words.len() > WORDS {
            return Err("at most 10,000 words are expected");
        }
        let words: Vec<String> = words.iter().map(|word| normal(word.trim())).collect();
        if words
            .iter()
            .any(|word| word.is_empty() || word.chars().nth(CHARACTERS).is_some())
        {
            return Err("words of 1 to 100 characters are expected");
        }
        let search = AhoCorasick::new(words).map_err(|_| "the words are too long together")?;
        Ok(Self(Some(search)))
    }
}

/// In lower case and NFC, without letters that are not shown, which would hide a word from the search.
fn normal(text: &str) -> String {
    let is_shown = |letter: &char| !matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    let shown: String = text.chars().filter(is_shown).collect();
    shown.to_lowercase().nfc().collect()
}

fn words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<WordList, D::Error> {
    WordList::new(&comma_list(deserializer)?).map_err(D::Error::custom)
}

/// SHA-256 of what a moderator reads of a post: a decision is about this version, and a save of the same version needs no other.
#[must_use]
pub fn version_of(text: &str, categories: &[String], weather: &str) -> [u8; 32] {
    let parts = serde_json::to_vec(&(text, categories, weather)).expect("texts are JSON");
    Sha256::digest(parts).into()
}

impl Content {
    /// Returns the version to review, if the content has a word of the list.
    #[must_use]
    pub fn to_review(&self, words: &WordList) -> Option<[u8; 32]> {
        let categories = self.category_names();
        let weather = self.weather.as_str();
        words
            .is_in_post(&self.text, &categories, weather)
            .then(|| version_of(&self.text, &categories, weather))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Result<WordList, &'static str> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        WordList::new(&words)
    }

    #[test]
    fn words_are_found_however_they_are_written() {
        let words = list(&["Spam ", "도박", "e\u{301}tat"]).unwrap();
        for text in ["SPAM!", "도박을", "도\u{200b}박", "ÉTAT", "s\u{ad}pam"] {
            assert!(words.is_in(text), "{text}");
        }
        for text in ["", "spammer", "도 박", "etat"] {
            assert!(!words.is_in(text), "{text}");
        }
        assert!(words.is_in_post("", &["sea".to_owned(), "도박".to_owned()], "sunny"));
        assert!(!WordList::default().is_in("spam"));
    }

    #[test]
    fn a_list_has_words() {
        for bad in [&["a", ""][..], &["\u{200b}"], &[&"a".repeat(101)]] {
            assert!(list(bad).is_err(), "{bad:?}");
        }
        assert!(list(&vec!["a"; 10_001]).is_err());
    }
}
