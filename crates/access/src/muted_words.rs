//! Muted words of accounts, as auth keeps them, and whether a text has one of them.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moka::future::Cache;
use sosohappy_common::Account;
use unicode_normalization::UnicodeNormalization as _;

use crate::AuthClient;
use crate::introspection::MutedWordEntry;

/// How long an answer of auth is used: the time until a change is seen by every replica.
const FRESH: Duration = Duration::from_secs(3);

/// How long the last answer is used while auth is unavailable.
const STALE: Duration = Duration::from_hours(1);

/// Bytes of words in each of the two caches.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// Size of an entry without its words, in bytes.
const ENTRY_BYTES: usize = 200;

/// The muted words of one account.
#[derive(Debug, Clone, Default)]
pub struct MutedWords(Arc<[MutedWordEntry]>);

impl MutedWords {
    /// Returns whether a text has a muted word: in any letter case and composition, and not as a part of a longer word of Latin letters or
    /// digits. Korean words are found with their particles.
    ///
    /// Costs at most the length of the text for each word of the account.
    #[must_use]
    pub fn is_in(&self, text: &str, now: Timestamp) -> bool {
        let mut muted = self
            .0
            .iter()
            .filter(|entry| entry.expires_at.is_none_or(|expires_at| expires_at > now))
            .peekable();
        if muted.peek().is_none() {
            return false;
        }
        // As auth keeps words.
        let text: String = text.to_lowercase().nfc().collect();
        muted.any(|entry| has_word(&text, &entry.word))
    }

    fn weight(&self) -> u32 {
        let bytes = self.0.iter().map(|entry| entry.word.len() + ENTRY_BYTES).sum::<usize>();
        u32::try_from(bytes + ENTRY_BYTES).unwrap_or(u32::MAX)
    }
}

impl From<Vec<MutedWordEntry>> for MutedWords {
    fn from(words: Vec<MutedWordEntry>) -> Self {
        Self(words.into())
    }
}

/// Returns whether a word occurs in a text that is not continued by a Latin letter or digit where the word itself begins or ends with one.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word)
        .any(|(at, found)| is_word(text, at..at + found.len()))
}

/// Returns whether a part of a text is a word by itself: where it begins or ends with a Latin letter or digit, no other one stands beside it.
///
/// # Panics
/// When the range does not lie between characters of the text.
#[must_use]
pub fn is_word(text: &str, found: Range<usize>) -> bool {
    let is_inside = |one: Option<char>, other: Option<char>| {
        [one, other]
            .iter()
            .all(|letter| letter.is_some_and(|letter| letter.is_ascii_alphanumeric()))
    };
    let (before, after) = (&text[..found.start], &text[found.end..]);
    let found = &text[found];
    let begins_inside = is_inside(before.chars().next_back(), found.chars().next());
    let ends_inside = is_inside(found.chars().next_back(), after.chars().next());
    !begins_inside && !ends_inside
}

/// Muted words by account, asked of auth at most every 3 seconds and account. Clones share the caches.
#[derive(Debug, Clone)]
pub struct MutedWordLists {
    auth: AuthClient,
    fresh: Cache<Account, MutedWords>,
    last: Cache<Account, MutedWords>,
}

impl MutedWordLists {
    pub(crate) fn new(auth: AuthClient) -> Self {
        let cache = |lifetime| {
            Cache::builder()
                .weigher(|_: &Account, words: &MutedWords| words.weight())
                .max_capacity(CACHE_BYTES)
                .time_to_live(lifetime)
                .build()
        };
        Self {
            auth,
            fresh: cache(FRESH),
            last: cache(STALE),
        }
    }

    /// Returns the muted words of an account. While auth is unavailable those of the last answer, at most an hour old, and else none: a text
    /// too many is shown rather than none.
    pub async fn of(&self, account: &Account) -> MutedWords {
        let fresh = self
            .fresh
            .try_get_with_by_ref(account, async {
                self.auth.muted_words(account).await.map(MutedWords::from)
            })
            .await;
        if let Ok(words) = fresh {
            self.last.insert(account.clone(), words.clone()).await;
            return words;
        }
        self.last.get(account).await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn muted(words: &[(&str, Option<i64>)]) -> MutedWords {
        let words = words.iter().map(|(word, expires_at)| MutedWordEntry {
            word: (*word).to_owned(),
            expires_at: expires_at.map(|second| Timestamp::from_second(second).unwrap()),
        });
        words.collect::<Vec<_>>().into()
    }

    #[test]
    fn words_are_found_in_any_spelling_and_not_inside_latin_words() {
        let now = Timestamp::from_second(100).unwrap();
        let words = muted(&[("ass", None), ("스포일러", None), ("k-pop 2", None), ("é", None)]);
        for text in [
            "an ASS.",
            "이 스포일러는",
            "a K-POP 2",
            "caf e\u{301}",
            "class ass",
            "ass행복",
        ] {
            assert!(words.is_in(text, now), "{text}");
        }
        for text in ["", "class", "assign", "스포 일러", "k-pop 23", "cafe"] {
            assert!(!words.is_in(text, now), "{text}");
        }
    }

    #[test]
    fn expired_words_are_not_muted() {
        let words = muted(&[("sea", Some(100))]);
        assert!(words.is_in("the sea", Timestamp::from_second(99).unwrap()));
        assert!(!words.is_in("the sea", Timestamp::from_second(100).unwrap()));
    }
}
