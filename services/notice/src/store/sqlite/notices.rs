use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_events::EventId;
use sosohappy_store::sqlite::Tx;
use sosohappy_store::{StoreError, retrying};

use super::{SqliteStore, is_erased, is_withdrawn};
use crate::domain::Notice;
use crate::store::{Added, Notices, next_seq, timestamp};

const FIND: &str = "SELECT seq, stored_at, occurred_at, withdrawn FROM notice WHERE event_id = ?";

#[derive(sqlx::FromRow)]
struct Known {
    seq: i64,
    stored_at: i64,
    occurred_at: i64,
    withdrawn: bool,
}

impl Known {
    fn kept(&self) -> Result<Added, StoreError> {
        Ok(Added::Kept {
            seq: self.seq,
            stored_at: timestamp(self.stored_at)?,
        })
    }
}

#[async_trait]
impl Notices for SqliteStore {
    async fn add(&self, notice: &Notice, now: Timestamp) -> Result<Added, StoreError> {
        // The second of the two who add it (a replica with a socket, and the group's consumer) needs no write lock.
        let known: Option<Known> = sqlx::query_as(FIND)
            .bind(notice.event.0.as_bytes().as_slice())
            .fetch_optional(self.database.reader())
            .await?;
        match known {
            Some(known) if !known.withdrawn && known.occurred_at >= notice.occurred_at.as_millisecond() => known.kept(),
            _ => retrying(|| self.insert(notice, now)).await,
        }
    }

    async fn withdraw(&self, notice: EventId, at: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let (id, at) = (notice.0.as_bytes().as_slice(), at.as_millisecond());
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            sqlx::query(
                "INSERT INTO withdrawal (event_id, withdrawn_until, stored_at) VALUES (?, ?, ?)
                ON CONFLICT (event_id) DO UPDATE SET
                    withdrawn_until = MAX(withdrawal.withdrawn_until, excluded.withdrawn_until),
                    stored_at = excluded.stored_at",
            )
            .bind(id)
            .bind(at)
            .bind(now.as_millisecond())
            .execute(&mut *tx)
            .await?;
            for statement in [
                "UPDATE notice SET withdrawn = 1 WHERE event_id = ? AND occurred_at <= ?",
                "DELETE FROM push WHERE event_id = ? AND occurred_at <= ? AND due_at IS NOT NULL",
            ] {
                sqlx::query(statement).bind(id).bind(at).execute(&mut *tx).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }
}

impl SqliteStore {
    async fn insert(&self, notice: &Notice, now: Timestamp) -> Result<Added, StoreError> {
        let id = notice.event.0.as_bytes().as_slice();
        let occurred_at = notice.occurred_at.as_millisecond();
        let mut tx = self.database.begin().await?;
        let known: Option<Known> = sqlx::query_as(FIND).bind(id).fetch_optional(&mut *tx).await?;
        match &known {
            Some(known) if !known.withdrawn => {
                // The same like again: a withdrawal from in between no longer counts.
                sqlx::query("UPDATE notice SET occurred_at = MAX(occurred_at, ?) WHERE event_id = ?")
                    .bind(occurred_at)
                    .bind(id)
                    .execute(&mut *tx)
                    .await?;
                tx.commit().await?;
                return known.kept();
            }
            _ => {}
        }
        let actor = notice.content.actor();
        if is_erased(&mut tx, [Some(&notice.receiver), actor], notice.occurred_at).await? {
            return Ok(Added::Erased);
        }
        if is_withdrawn(&mut tx, notice.event, notice.occurred_at).await? {
            return Ok(Added::Withdrawn);
        }
        let settled = is_settled(&mut tx, id).await?;
        let (seq, stored_at) = match known {
            Some(known) if settled => (known.seq, known.stored_at),
            _ => {
                let last: Option<i64> = sqlx::query_scalar("SELECT MAX(seq) FROM notice WHERE account = ?")
                    .bind(notice.receiver.as_str())
                    .fetch_one(&mut *tx)
                    .await?;
                (next_seq(last, now), now.as_millisecond())
            }
        };
        sqlx::query(
            "INSERT INTO notice (event_id, account, seq, actor, topic, data, occurred_at, stored_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (event_id) DO UPDATE SET
                seq = excluded.seq, actor = excluded.actor, topic = excluded.topic, data = excluded.data,
                occurred_at = excluded.occurred_at, stored_at = excluded.stored_at, withdrawn = 0",
        )
        .bind(id)
        .bind(notice.receiver.as_str())
        .bind(seq)
        .bind(actor.map(AsRef::as_ref))
        .bind(notice.content.topic())
        .bind(notice.content.stored())
        .bind(occurred_at)
        .bind(stored_at)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(Added::Kept {
            seq,
            stored_at: timestamp(stored_at)?,
        })
    }
}

/// Whether it was shown or pushed.
async fn is_settled(tx: &mut Tx, id: &[u8]) -> Result<bool, StoreError> {
    let settled: Option<i64> = sqlx::query_scalar("SELECT 1 FROM push WHERE event_id = ? AND due_at IS NULL")
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(settled.is_some())
}
