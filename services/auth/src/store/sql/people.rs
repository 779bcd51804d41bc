//! Blocks, follows and muted words: statements that reads and transactions share.

use sosohappy_common::Account;
use sosohappy_store::StoreError;
use sqlx::Row as _;

use super::{Row, engine, rows};
use crate::domain::muted_word::{MutedWord, Word};
use crate::domain::page::Page;
use crate::store::RelatedPerson;

type Query<'q> = sqlx::query::Query<'q, engine::Engine, <engine::Engine as sqlx::Database>::Arguments>;

/// Whom an account blocks.
pub const BLOCKED: &str = "SELECT account.nickname, block.since, 0 AS friend
    FROM block JOIN account ON account.account = block.other
    WHERE block.account = ? AND block.since < ? ORDER BY block.since DESC LIMIT ?";

/// Whom an account follows.
pub const FOLLOWING: &str =
    "SELECT account.nickname, follow.since, CASE WHEN back.account IS NULL THEN 0 ELSE 1 END AS friend
    FROM follow JOIN account ON account.account = follow.other
    LEFT JOIN follow AS back ON back.account = follow.other AND back.other = follow.account
    WHERE follow.account = ? AND follow.since < ? ORDER BY follow.since DESC LIMIT ?";

/// Selects the followers of an account.
pub const FOLLOWERS: &str =
    "SELECT account.nickname, follow.since, CASE WHEN back.account IS NULL THEN 0 ELSE 1 END AS friend
    FROM follow JOIN account ON account.account = follow.account
    LEFT JOIN follow AS back ON back.account = follow.other AND back.other = follow.account
    WHERE follow.other = ? AND follow.since < ? ORDER BY follow.since DESC LIMIT ?";

pub fn page<'q>(list: &'static str, account: &'q Account, page: Page) -> Query<'q> {
    sqlx::query(list)
        .bind(account.as_str())
        .bind(page.before.as_millisecond())
        .bind(page.rows())
}

pub fn related(row: &Row) -> Result<RelatedPerson, StoreError> {
    let friend: i64 = row.try_get_unchecked("friend")?;
    Ok(RelatedPerson {
        nickname: rows::text(row, "nickname")?,
        friend: friend == 1,
        since: rows::instant(row, "since")?,
    })
}

/// A row where one of the two blocks the other.
pub fn blocks_between<'q>(one: &'q Account, other: &'q Account) -> Query<'q> {
    sqlx::query("SELECT 1 FROM block WHERE (account = ? AND other = ?) OR (account = ? AND other = ?) LIMIT 1")
        .bind(one.as_str())
        .bind(other.as_str())
        .bind(other.as_str())
        .bind(one.as_str())
}

pub fn muted_words(account: &Account) -> Query<'_> {
    sqlx::query("SELECT word, expires_at FROM muted_word WHERE account = ?").bind(account.as_str())
}

pub fn muted_word(row: &Row) -> Result<MutedWord, StoreError> {
    let expires_at: Option<i64> = row.try_get("expires_at")?;
    Ok(MutedWord {
        word: Word::stored(rows::text(row, "word")?),
        expires_at: expires_at.map(rows::from_millis).transpose()?,
    })
}
