//! What a resignation leaves: nothing.

use async_trait::async_trait;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sosohappy_common::Account;
use sosohappy_events::{EventId, Outgoing};
use sosohappy_store::{StoreError, retrying};

use super::{BATCH, ERASED_AT_THE_LATEST, FOR_SHARE, Query, SqlStore, categories, engine, images, posts};
use crate::domain::Writer;
use crate::domain::companions::Change;
use crate::store::{Erasures, WriteError};

const CONSUMER: &str = "feed-resign";

#[async_trait]
impl Erasures for SqlStore {
    async fn erase(
        &self,
        account: &Account,
        until: Timestamp,
        event: EventId,
        receipt: &Outgoing,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            if !engine::first_time(&mut tx, CONSUMER, event, now).await? {
                return Ok(tx.rollback().await?);
            }
            close(&mut tx, account, until).await?;
            erase_posts(&mut tx, account, until, now).await?;
            erase_likes(&mut tx, account, until).await?;
            engine::enqueue(&mut tx, receipt, now).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn forget_erasures(&self, before: Timestamp) -> Result<(), StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let forget = sqlx::query("DELETE FROM erased_account WHERE erased_until < ?").bind(before.as_millisecond());
            forget.execute(&mut *tx).await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// Whether the writer's token is from after the last resignation of the account; the last thing a write does before it commits.
///
/// A write and a resignation that cross: the write has put its row in place and now reads what [`close`] writes, waiting for it if it
/// is not committed; [`close`] comes before the erasure looks for rows. So either this sees the resignation or the erasure the row.
pub(super) async fn still_here(tx: &mut engine::Tx, writer: &Writer) -> Result<(), WriteError> {
    let mut query = Query::new("SELECT erased_until FROM erased_account WHERE account = ");
    query.push_bind(fingerprint(&writer.account)).push(FOR_SHARE);
    let erased: Option<i64> = query
        .build_query_scalar()
        .fetch_optional(&mut **tx)
        .await
        .map_err(StoreError::from)?;
    match erased {
        Some(until) if writer.authorized_at.as_millisecond() <= until => Err(WriteError::Resigned),
        Some(_) | None => Ok(()),
    }
}

/// From here on nothing is written with the account's older tokens.
async fn close(tx: &mut engine::Tx, account: &Account, until: Timestamp) -> Result<(), StoreError> {
    let mut query = Query::new("INSERT INTO erased_account (account, erased_until) VALUES (");
    query
        .push_bind(fingerprint(account))
        .push(", ")
        .push_bind(until.as_millisecond())
        .push(")")
        .push(ERASED_AT_THE_LATEST);
    query.build().execute(&mut **tx).await?;
    Ok(())
}

async fn erase_posts(
    tx: &mut engine::Tx,
    account: &Account,
    until: Timestamp,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut query = Query::new("SELECT id, happiness, categories, images FROM post WHERE account = ");
    query
        .push_bind(account.as_str())
        .push(" AND made_at <= ")
        .push_bind(until.as_millisecond())
        .push(engine::FOR_UPDATE);
    let rows = query.build().fetch_all(&mut **tx).await?;
    let held = rows.iter().map(posts::held).collect::<Result<Vec<_>, _>>()?;

    let pictures: Vec<_> = held.iter().flat_map(|post| post.images.iter().copied()).collect();
    for batch in held.chunks(BATCH) {
        let mut query = Query::new("DELETE FROM post WHERE id IN (");
        let mut ids = query.separated(", ");
        for post in batch {
            ids.push_bind(post.id);
        }
        query.push(")").build().execute(&mut **tx).await?;
    }
    let went: Vec<_> = held
        .into_iter()
        .map(|post| Change::went(post.categories, post.happiness))
        .collect();
    categories::record(tx, &went).await?;
    images::discard(tx, &pictures, now).await
}

/// The account's likes everywhere, and those on a post that was there before and has been written anew since.
async fn erase_likes(tx: &mut engine::Tx, account: &Account, until: Timestamp) -> Result<(), StoreError> {
    let until = until.as_millisecond();
    sqlx::query("DELETE FROM post_like WHERE account = ? AND made_at <= ?")
        .bind(account.as_str())
        .bind(until)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM post_like WHERE liked_at <= ? AND post_id IN (SELECT id FROM post WHERE account = ?)")
        .bind(until)
        .bind(account.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A resignation is remembered without the address.
fn fingerprint(account: &Account) -> String {
    hex::encode(Sha256::digest(account.as_str()))
}
