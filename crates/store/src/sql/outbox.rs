//! Events that are committed together with the change that caused them.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_events::Outgoing;
use sqlx::{QueryBuilder, Row as _};

use super::{Database, Engine, Tx};
use crate::StoreError;
use crate::outbox::{Batch, Outbox, Pending, Quarantined};
use crate::retry::retrying;
use crate::time::elapsed;

/// The relay's lease.
const LEASE: &str = "event-outbox";

/// The most rows of one statement.
const BATCH: usize = 500;

/// Writes an event in the transaction of the change that caused it. Events are published in the order in which they were written. On
/// `MySQL` two concurrent transactions have no order unless both lock a common row first: lock the row of the event's key before
/// writing the event.
pub async fn enqueue(tx: &mut Tx, record: &Outgoing, now: Timestamp) -> Result<(), StoreError> {
    let headers = serde_json::to_string(&record.headers).expect("pairs of strings are JSON");
    sqlx::query(
        "INSERT INTO event_outbox (topic, record_key, record_value, headers, written_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(&record.topic)
    .bind(&record.key)
    .bind(&record.value)
    .bind(headers)
    .bind(now.as_millisecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes events as [`enqueue`] does, all in one statement and in their order. There is a bound on the parameters of a statement: at most
/// 1,000 events.
pub async fn enqueue_all(tx: &mut Tx, records: &[Outgoing], now: Timestamp) -> Result<(), StoreError> {
    if records.is_empty() {
        return Ok(());
    }
    let mut query =
        QueryBuilder::<Engine>::new("INSERT INTO event_outbox (topic, record_key, record_value, headers, written_at) ");
    query.push_values(records, |mut row, record| {
        let headers = serde_json::to_string(&record.headers).expect("pairs of strings are JSON");
        row.push_bind(&record.topic)
            .push_bind(&record.key)
            .push_bind(&record.value)
            .push_bind(headers)
            .push_bind(now.as_millisecond());
    });
    query.build().execute(&mut **tx).await?;
    Ok(())
}

#[derive(Debug)]
pub(super) struct SqlOutbox(pub Database);

#[async_trait]
impl Outbox for SqlOutbox {
    async fn lease(&self, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.0.lease(LEASE, holder, ttl).await
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.0.release_lease(LEASE, holder).await
    }

    async fn leader(&self) -> Result<Option<String>, StoreError> {
        self.0.lease_holder(LEASE).await
    }

    async fn pending(&self, limit: usize) -> Result<Batch, StoreError> {
        let rows = sqlx::query(
            "SELECT id, topic, record_key, record_value, headers, written_at FROM event_outbox ORDER BY id LIMIT ?",
        )
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.0.reader())
        .await
        .map_err(StoreError::from)?;
        let now = self.0.now();
        let mut batch = Batch::default();
        for row in &rows {
            let id = row.try_get("id").map_err(StoreError::from)?;
            match pending(id, row, now) {
                Ok(pending) => batch.pending.push(pending),
                Err(reason) => {
                    let reason = format!("{reason:#}");
                    self.quarantine(id, &reason).await?;
                    batch.quarantined.push(Quarantined {
                        row: id.to_string(),
                        reason,
                    });
                }
            }
        }
        Ok(batch)
    }

    async fn published(&self, rows: &[String]) -> Result<(), StoreError> {
        for rows in rows.chunks(BATCH) {
            let mut delete = QueryBuilder::<Engine>::new("DELETE FROM event_outbox WHERE id IN (");
            let mut ids = delete.separated(", ");
            for row in rows {
                let id: i64 = row
                    .parse()
                    .context("a row that the outbox did not name")
                    .map_err(StoreError::Corrupt)?;
                ids.push_bind(id);
            }
            delete
                .push(")")
                .build()
                .execute(self.0.writer())
                .await
                .map_err(StoreError::from)?;
        }
        Ok(())
    }
}

impl SqlOutbox {
    /// Moves a row unchanged, in one transaction.
    async fn quarantine(&self, id: i64, reason: &str) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            sqlx::query(
                "INSERT INTO event_outbox_quarantine
                (id, topic, record_key, record_value, headers, written_at, reason, quarantined_at)
                SELECT id, topic, record_key, record_value, headers, written_at, ?, ? FROM event_outbox WHERE id = ?",
            )
            .bind(reason)
            .bind(self.0.now().as_millisecond())
            .bind(id)
            .execute(&mut *tx)
            .await?;
            sqlx::query("DELETE FROM event_outbox WHERE id = ?")
                .bind(id)
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// Reads without a check of the column type: `MySQL` reports text of a binary collation as bytes.
fn pending(id: i64, row: &<Engine as sqlx::Database>::Row, now: Timestamp) -> anyhow::Result<Pending> {
    let headers: String = row.try_get_unchecked("headers").context("headers")?;
    // The parser's error may quote the value in a log.
    let headers = serde_json::from_str(&headers).map_err(|error| anyhow!("headers: {:?} error", error.classify()))?;
    Ok(Pending {
        row: id.to_string(),
        record: Outgoing {
            topic: row.try_get_unchecked("topic").context("topic")?,
            key: row.try_get_unchecked("record_key").context("key")?,
            value: row.try_get_unchecked("record_value").context("value")?,
            headers,
        },
        age: elapsed(row.try_get_unchecked("written_at").context("written_at")?, now),
    })
}
