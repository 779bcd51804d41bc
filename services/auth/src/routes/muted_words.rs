//! Words that a person does not want to read.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use sosohappy_access::Caller;
use sosohappy_access::introspection::{MutedWordEntry, MutedWordsResponse};
use sosohappy_common::http::Params;
use sosohappy_common::http::params::{comma_list, optional_instant};
use sosohappy_common::{Account, Problem};
use sosohappy_store::retrying;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::muted_word::{MAX_WORDS, MutedWord, Word};
use crate::error::Error;

/// Returns those that have not expired, in the order of their letters.
pub(super) fn listed(mut words: Vec<MutedWord>, now: Timestamp) -> MutedWordsResponse {
    words.retain(|word| word.is_muted(now));
    words.sort_by(|one, other| one.word.cmp(&other.word));
    let entries = words.into_iter().map(|muted| MutedWordEntry {
        word: muted.word.as_str().to_owned(),
        expires_at: muted.expires_at,
    });
    MutedWordsResponse {
        words: entries.collect(),
    }
}

/// Lists the caller's muted words that have not expired.
#[utoipa::path(
    get,
    path = "/mutedWords",
    tag = "people",
    responses((status = 200, body = MutedWordsResponse), (status = 503, body = Problem)),
)]
pub async fn list_muted_words(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<MutedWordsResponse>, Error> {
    let words = app.store.muted_words(&caller.account).await?;
    Ok(Json(listed(words, app.now())))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MuteWords {
    /// Words or phrases of 1 to 50 user-perceived characters, one of them visible, and at most 200 bytes, as a list or joined by commas.
    #[serde(deserialize_with = "comma_list")]
    #[schema(min_items = 1, example = json!(["스포일러"]))]
    word_list: Vec<String>,
    /// When the words are read again, in the future; left out: never. A word that is muted already gets this expiry.
    #[serde(default, deserialize_with = "optional_instant")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// False takes the words off the list.
    #[schema(default = true)]
    muted: Option<bool>,
}

/// Mutes words, or takes them off the list, and returns the list. Posts and comments of others with a muted word are not listed for the caller,
/// and messages with one are not pushed; history and open sockets show them. A change takes effect within seconds.
#[utoipa::path(
    post,
    path = "/mutedWords",
    tag = "people",
    request_body = MuteWords,
    responses((status = 200, body = MutedWordsResponse), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem)),
)]
pub async fn set_muted_words(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(asked): Params<MuteWords>,
) -> Result<Json<MutedWordsResponse>, Error> {
    let words = asked.word_list.iter().map(|word| Word::try_from(word.as_str()));
    let words: Vec<Word> = words.collect::<Result<_, _>>()?;
    if words.is_empty() || words.len() > MAX_WORDS {
        return Err(Error::InvalidParameter("wordList: 1 to 200 words"));
    }
    let muted = asked.muted.unwrap_or(true);
    if muted {
        words.iter().try_for_each(Word::require_visible)?;
    }
    if muted && asked.expires_at.is_some_and(|expires_at| expires_at <= app.now()) {
        return Err(Error::InvalidParameter("expiresAt: not in the past"));
    }
    let words: Vec<MutedWord> = words
        .into_iter()
        .map(|word| MutedWord {
            word,
            expires_at: asked.expires_at,
        })
        .collect();
    let words = retrying(|| set(&app, &caller.account, &words, muted)).await?;
    Ok(Json(listed(words, app.now())))
}

async fn set(app: &App, account: &Account, words: &[MutedWord], muted: bool) -> Result<Vec<MutedWord>, Error> {
    let mut tx = app.store.begin().await?;
    tx.person(account).await?.ok_or(Error::UnknownAccount)?;
    for word in words {
        tx.delete_muted_word(account, &word.word).await?;
        if muted {
            tx.insert_muted_word(account, word).await?;
        }
    }
    let all = tx.muted_words(account).await?;
    let now = app.now();
    if muted && all.iter().filter(|word| word.is_muted(now)).count() > MAX_WORDS {
        return Err(Error::InvalidParameter(
            "wordList: at most 200 words of an account are muted",
        ));
    }
    tx.commit().await?;
    Ok(all)
}
