//! Events that commit with what makes them true.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_events::Outgoing;
use sqlx::QueryBuilder;

use super::{Database, Engine, Tx};
use crate::StoreError;
use crate::outbox::{Outbox, Pending};
use crate::time::elapsed;

/// The relay's lease.
const LEASE: &str = "event-outbox";

/// How many rows one statement names.
const BATCH: usize = 500;

/// Writes an event into the transaction that makes it true. Events are published in the order they were written; on
/// `MySQL` two transactions at once have no order unless both lock a common row first, so lock what the event is
/// about (its key) before writing it.
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

#[derive(Debug)]
pub(super) struct SqlOutbox(pub Database);

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    topic: String,
    record_key: Option<String>,
    record_value: Option<Vec<u8>>,
    headers: String,
    written_at: i64,
}

#[async_trait]
impl Outbox for SqlOutbox {
    async fn lease(&self, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.0.lease(LEASE, holder, ttl).await
    }

    async fn release(&self, holder: &str) -> Result<(), StoreError> {
        self.0.release_lease(LEASE, holder).await
    }

    async fn pending(&self, limit: usize) -> Result<Vec<Pending>, StoreError> {
        let rows = sqlx::query_as::<Engine, Row>(
            "SELECT id, topic, record_key, record_value, headers, written_at FROM event_outbox ORDER BY id LIMIT ?",
        )
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(self.0.reader())
        .await
        .map_err(StoreError::from)?;
        let now = self.0.now();
        rows.into_iter()
            .map(|row| pending(row, now))
            .collect::<anyhow::Result<_>>()
            .map_err(StoreError::Failed)
    }

    async fn published(&self, rows: &[String]) -> Result<(), StoreError> {
        for rows in rows.chunks(BATCH) {
            let mut delete = QueryBuilder::<Engine>::new("DELETE FROM event_outbox WHERE id IN (");
            let mut ids = delete.separated(", ");
            for row in rows {
                let id: i64 = row
                    .parse()
                    .context("a row that the outbox did not name")
                    .map_err(StoreError::Failed)?;
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

fn pending(row: Row, now: Timestamp) -> anyhow::Result<Pending> {
    let headers = serde_json::from_str(&row.headers).with_context(|| format!("headers of outbox row {}", row.id))?;
    Ok(Pending {
        row: row.id.to_string(),
        record: Outgoing {
            topic: row.topic,
            key: row.record_key,
            value: row.record_value,
            headers,
        },
        age: elapsed(row.written_at, now),
    })
}
