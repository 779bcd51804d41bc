//! The statements, one text for both engines; where they differ the engine's own page says how.

#[path = "sql/account_states.rs"]
mod account_states;
#[path = "sql/bookmarks.rs"]
mod bookmarks;
#[path = "sql/categories.rs"]
mod categories;
#[path = "sql/comments.rs"]
mod comments;
#[path = "sql/drafts.rs"]
mod drafts;
#[path = "sql/erasures.rs"]
mod erasures;
#[path = "sql/exports.rs"]
mod exports;
#[cfg(test)]
#[path = "sql/first_release.rs"]
pub(super) mod first_release;
#[path = "sql/friends.rs"]
mod friends;
#[path = "sql/idempotency.rs"]
mod idempotency;
#[path = "sql/images.rs"]
mod images;
#[path = "sql/imports.rs"]
mod imports;
#[path = "sql/likes.rs"]
mod likes;
#[path = "sql/moderation.rs"]
mod moderation;
#[path = "sql/post_events.rs"]
mod post_events;
#[path = "sql/posts.rs"]
mod posts;
#[path = "sql/public.rs"]
mod public;
#[path = "sql/recommendations.rs"]
mod recommendations;
#[path = "sql/reviews.rs"]
mod reviews;
#[path = "sql/versions.rs"]
mod versions;
#[path = "sql/views.rs"]
mod views;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sosohappy_common::settings::SecretUrl;
use sosohappy_common::{Account, Context};
use sosohappy_store::{Ping, StoreError};
use sqlx::{Database, QueryBuilder, Row as _};

use super::{ADD_TO_PAIR, MIGRATIONS, ROWS, engine, last_id};
use crate::domain::{PostDate, Visibility, Writer};
use crate::store::{Opened, Store, WriteError};

type Row = <engine::Engine as Database>::Row;
type Query = QueryBuilder<engine::Engine>;

/// Rows of one statement that inserts many.
const BATCH: usize = 500;

#[derive(Debug, Clone)]
pub struct SqlStore {
    database: engine::Database,
    /// Its instance holds leases; its clock and randomness make events.
    context: Context,
}

pub async fn open(url: &SecretUrl, max_connections: u32, context: &Context) -> Result<Opened, StoreError> {
    let database = engine::Database::open(url, max_connections, &MIGRATIONS, context).await?;
    let outbox = database.outbox();
    let directory = database.directory();
    database.spawn_sweeper(context);
    Ok(Opened {
        store: Arc::new(SqlStore {
            database,
            context: context.clone(),
        }),
        outbox,
        directory,
    })
}

impl Store for SqlStore {}

#[async_trait]
impl Ping for SqlStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}

/// Runs a statement that explains another one; returns a line a step.
#[cfg(test)]
async fn plan(reader: &engine::Pool, explain: &mut Query) -> Vec<String> {
    let steps = explain.build().fetch_all(reader).await;
    let steps = steps.expect("the database explains");
    steps.iter().map(super::plan_step).collect()
}

/// Refuses a writer whose token is from before the last resignation of the account; called after the write's own rows.
async fn still_here(tx: &mut engine::Tx, writer: &Writer) -> Result<(), WriteError> {
    match engine::erased_accounts::erased_until(tx, &writer.account).await? {
        Some(until) if writer.authorized_at.as_millisecond() <= until.as_millisecond() => Err(WriteError::Resigned),
        Some(_) | None => Ok(()),
    }
}

/// Reads a text that may stand in a column of bytes, as accounts do on `MySQL`.
fn text(row: &Row, column: &str) -> Result<String, StoreError> {
    Ok(row.try_get_unchecked(column)?)
}

fn account(row: &Row, column: &str) -> Result<Account, StoreError> {
    text(row, column)?
        .parse()
        .map_err(|_| StoreError::corrupt("an account in the database is not one"))
}

fn date(row: &Row) -> Result<PostDate, StoreError> {
    post_date(row.try_get("date")?)
}

fn post_date(date: i64) -> Result<PostDate, StoreError> {
    PostDate::try_from(date).map_err(|_| StoreError::corrupt("a date in the database is not one"))
}

fn instant(row: &Row, column: &str) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(row.try_get(column)?)
        .map_err(|_| StoreError::corrupt("a time in the database is not one"))
}

/// From `is_public` and `friend_date`.
fn visibility(row: &Row) -> Result<Visibility, StoreError> {
    let is_public: bool = row.try_get("is_public")?;
    let friend_date: Option<i64> = row.try_get("friend_date")?;
    Ok(match (is_public, friend_date) {
        (true, _) => Visibility::Public,
        (false, Some(_)) => Visibility::Friends,
        (false, None) => Visibility::Private,
    })
}

/// Returns the value of `friends_mark`.
fn friends_mark(visibility: Visibility, date: PostDate) -> Option<i64> {
    (visibility == Visibility::Friends).then(|| date.into())
}

fn read_list<T: DeserializeOwned>(row: &Row, column: &str) -> Result<Vec<T>, StoreError> {
    serde_json::from_str(&text(row, column)?).map_err(|_| StoreError::corrupt("a list in the database is not one"))
}

fn write_list<T: Serialize>(list: &[T]) -> String {
    serde_json::to_string(list).expect("a list of words or numbers is JSON")
}
