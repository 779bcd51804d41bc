//! Which categories go together.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::{StoreError, retrying};
use sqlx::Row as _;

use super::{ADD_TO_PAIR, BATCH, Query, ROWS, Row, SqlStore, engine, read_list, text, write_list};
use crate::domain::Days;
use crate::domain::companions::{self, Change, Companions};
use crate::store::Categories;

/// Companions read of each of one person's best categories; recommendations are ten.
const COMPANIONS: i64 = 100;

/// Changes a reader adds up itself at most; folding keeps far fewer open.
const OPEN_CHANGES: i64 = 10_000;

const FOLDING: &str = "category-fold";
const FOLDING_FOR: Duration = Duration::from_secs(10);

#[async_trait]
impl Categories for SqlStore {
    async fn of_posts(&self, author: &Account, days: Days) -> Result<Vec<(Vec<String>, i32)>, StoreError> {
        let rows = sqlx::query("SELECT categories, happiness FROM post WHERE account = ? AND day BETWEEN ? AND ?")
            .bind(author.as_str())
            .bind(i32::from(days.first))
            .bind(i32::from(days.last))
            .fetch_all(self.database.reader())
            .await?;
        rows.iter()
            .map(|row| Ok((read_list(row, "categories")?, row.try_get("happiness")?)))
            .collect()
    }

    /// One statement sees one state: a change is either folded in or still open, never both or neither.
    async fn companions(&self, of: &[String]) -> Result<Companions, StoreError> {
        if of.is_empty() {
            return Ok(Companions::default());
        }
        let mut query = Query::new("");
        for category in of {
            // Each off the index, the happiest first.
            query
                .push("SELECT one, other, happiness, 0 AS posts FROM (SELECT one, other, happiness FROM category_pair WHERE one = ")
                .push_bind(category)
                .push(" ORDER BY happiness DESC, other LIMIT ")
                .push_bind(COMPANIONS)
                .push(") folded UNION ALL ");
        }
        query
            .push("SELECT categories, '', happiness, posts FROM (SELECT categories, happiness, posts FROM category_change ORDER BY id LIMIT ")
            .push_bind(OPEN_CHANGES)
            .push(") unfolded");
        let mut companions = Companions::default();
        for row in query.build().fetch_all(self.database.reader()).await? {
            let happiness: i64 = row.try_get("happiness")?;
            if row.try_get::<i64, _>("posts")? == 0 {
                companions
                    .totals
                    .push(((text(&row, "one")?, text(&row, "other")?), happiness));
            } else {
                // One that cannot be read is put into quarantine when it is folded.
                companions.changes.extend(change(&row, "one"));
            }
        }
        Ok(companions)
    }

    async fn fold(&self, limit: u32, now: Timestamp) -> Result<usize, StoreError> {
        let open: Option<i64> = sqlx::query_scalar("SELECT id FROM category_change LIMIT 1")
            .fetch_optional(self.database.reader())
            .await?;
        if open.is_none() {
            return Ok(0);
        }
        // One replica at a time, in order: others would only wait for its rows.
        if !self
            .database
            .lease(FOLDING, &self.context.instance, FOLDING_FOR)
            .await?
        {
            return Ok(0);
        }
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let mut query =
                Query::new("SELECT id, categories, happiness, posts FROM category_change ORDER BY id LIMIT ");
            query.push_bind(i64::from(limit)).push(engine::FOR_UPDATE);
            let rows = query.build().fetch_all(&mut *tx).await?;
            if rows.is_empty() {
                tx.rollback().await?;
                return Ok(0);
            }
            let (mut changes, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
            for row in &rows {
                match change(row, "categories") {
                    Ok(change) => changes.push(change),
                    Err(error) => unreadable.push((row.try_get("id")?, error.to_string())),
                }
            }
            add_up(&mut tx, &changes).await?;
            quarantine(&mut tx, &unreadable, now).await?;

            let mut query = Query::new("DELETE FROM category_change WHERE id IN (");
            let mut ids = query.separated(", ");
            for row in &rows {
                ids.push_bind(row.try_get::<i64, _>("id")?);
            }
            query.push(")").build().execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(rows.len())
        })
        .await
    }
}

/// Writes down what posts add or take.
pub(super) async fn record(tx: &mut engine::Tx, changes: &[Change]) -> Result<(), StoreError> {
    // A single category has no companion.
    let telling: Vec<&Change> = changes.iter().filter(|change| change.categories.len() > 1).collect();
    for batch in telling.chunks(BATCH) {
        let mut query = Query::new("INSERT INTO category_change (categories, happiness, posts) ");
        query.push_values(batch, |mut row, change| {
            row.push_bind(write_list(&change.categories))
                .push_bind(change.happiness)
                .push_bind(change.posts);
        });
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

async fn add_up(tx: &mut engine::Tx, changes: &[Change]) -> Result<(), StoreError> {
    let totals: Vec<_> = companions::fold(changes).into_iter().collect();
    for batch in totals.chunks(BATCH) {
        let mut query = Query::new("INSERT INTO category_pair (one, other, happiness, posts) ");
        query.push_values(batch, |mut row, ((one, other), total)| {
            row.push_bind(one)
                .push_bind(other)
                .push_bind(total.happiness)
                .push_bind(total.posts);
        });
        query.push(ADD_TO_PAIR).build().execute(&mut **tx).await?;
    }
    // Only where nothing is left: below nothing are those whose posts came in changes that are folded later.
    for batch in totals.chunks(BATCH) {
        let mut query = Query::new("DELETE FROM category_pair WHERE posts = 0 AND happiness = 0 AND (one, other) IN (");
        query.push(ROWS);
        let mut pairs = query.separated(", ");
        for ((one, other), _) in batch {
            pairs.push("(").push_bind_unseparated(one);
            pairs.push_unseparated(", ").push_bind_unseparated(other);
            pairs.push_unseparated(")");
        }
        query.push(")").build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Moves changes that cannot be read out of the way: they stay in the database, with the reason, and are folded never.
async fn quarantine(tx: &mut engine::Tx, unreadable: &[(i64, String)], now: Timestamp) -> Result<(), StoreError> {
    for (id, reason) in unreadable {
        tracing::error!(id, reason, "category change unreadable; moved to quarantine");
        sqlx::query(
            "INSERT INTO category_change_quarantine (id, categories, happiness, posts, reason, quarantined_at) \
             SELECT id, categories, happiness, posts, ?, ? FROM category_change WHERE id = ?",
        )
        .bind(reason)
        .bind(now.as_millisecond())
        .bind(id)
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

fn change(row: &Row, categories: &str) -> Result<Change, StoreError> {
    Ok(Change {
        categories: read_list(row, categories)?,
        happiness: row.try_get("happiness")?,
        posts: row.try_get("posts")?,
    })
}
