use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_store::{StoreError, retrying};

use super::{SqliteStore, is_erased};
use crate::domain::Notice;
use crate::store::{Added, Notices, next_seq, timestamp};

const FIND: &str = "SELECT seq, stored_at FROM notice WHERE event_id = ?";

#[async_trait]
impl Notices for SqliteStore {
    async fn add(&self, notice: &Notice, now: Timestamp) -> Result<Added, StoreError> {
        let id = notice.event.0.as_bytes().as_slice();
        // The second of the two who add it (a replica with a socket, and the group's consumer) needs no write lock.
        let known: Option<(i64, i64)> = sqlx::query_as(FIND)
            .bind(id)
            .fetch_optional(self.database.reader())
            .await?;
        if let Some((seq, stored_at)) = known {
            return Ok(Added::Kept {
                seq,
                stored_at: timestamp(stored_at)?,
            });
        }
        retrying(|| self.insert(notice, id, now)).await
    }
}

impl SqliteStore {
    async fn insert(&self, notice: &Notice, id: &[u8], now: Timestamp) -> Result<Added, StoreError> {
        let mut tx = self.database.begin().await?;
        let known: Option<(i64, i64)> = sqlx::query_as(FIND).bind(id).fetch_optional(&mut *tx).await?;
        if let Some((seq, stored_at)) = known {
            return Ok(Added::Kept {
                seq,
                stored_at: timestamp(stored_at)?,
            });
        }
        let actor = notice.content.actor();
        if is_erased(&mut tx, [Some(&notice.receiver), actor], notice.occurred_at).await? {
            return Ok(Added::Erased);
        }
        let last: Option<i64> = sqlx::query_scalar("SELECT MAX(seq) FROM notice WHERE account = ?")
            .bind(notice.receiver.as_str())
            .fetch_one(&mut *tx)
            .await?;
        let seq = next_seq(last, now);
        sqlx::query(
            "INSERT INTO notice (event_id, account, seq, actor, topic, data, occurred_at, stored_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(id)
        .bind(notice.receiver.as_str())
        .bind(seq)
        .bind(actor.map(AsRef::as_ref))
        .bind(notice.content.topic())
        .bind(notice.content.stored())
        .bind(notice.occurred_at.as_millisecond())
        .bind(now.as_millisecond())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Added::Kept {
            seq,
            stored_at: timestamp(now.as_millisecond())?,
        })
    }
}
