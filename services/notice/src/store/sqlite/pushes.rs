use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_events::EventId;
use sosohappy_store::{StoreError, retrying};
use sqlx::FromRow as _;

use super::{SqliteStore, is_erased};
use crate::domain::{PushContent, Target, WaitingPush};
use crate::store::{Pushes, broken, columns, parse_account, readable, target, timestamp};

#[derive(sqlx::FromRow)]
struct Row {
    event_id: Vec<u8>,
    account: Option<String>,
    token: Option<String>,
    actor: Option<String>,
    content: String,
    occurred_at: i64,
    queued_at: i64,
    attempts: i64,
    sent: Option<String>,
}

#[async_trait]
impl Pushes for SqliteStore {
    async fn queue(&self, push: &WaitingPush, due: Timestamp) -> Result<(), StoreError> {
        let content = serde_json::to_string(&push.content).expect("a push is JSON");
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            let receiver = match &push.target {
                Target::Account(account) => Some(account),
                Target::Token(_) => None,
            };
            if is_erased(&mut tx, [receiver, push.actor.as_ref()], push.occurred_at).await? {
                return Ok(());
            }
            let (account, token) = columns(&push.target);
            sqlx::query(
                "INSERT INTO push (event_id, account, token, actor, content, occurred_at, queued_at, due_at, attempts)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING",
            )
            .bind(push.event.0.as_bytes().as_slice())
            .bind(account)
            .bind(token)
            .bind(push.actor.as_ref().map(AsRef::as_ref))
            .bind(&content)
            .bind(push.occurred_at.as_millisecond())
            .bind(push.queued_at.as_millisecond())
            .bind(due.as_millisecond())
            .bind(push.attempts)
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn settle(&self, events: &[EventId], now: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            for event in events {
                sqlx::query(
                    "INSERT INTO push (event_id, occurred_at, queued_at) VALUES (?, ?, ?)
                    ON CONFLICT (event_id) DO UPDATE
                    SET account = NULL, token = NULL, actor = NULL, content = NULL, sent = NULL, due_at = NULL",
                )
                .bind(event.0.as_bytes().as_slice())
                .bind(now.as_millisecond())
                .bind(now.as_millisecond())
                .execute(&mut *tx)
                .await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn is_settled(&self, event: EventId) -> Result<bool, StoreError> {
        let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM push WHERE event_id = ? AND due_at IS NULL")
            .bind(event.0.as_bytes().as_slice())
            .fetch_optional(self.database.reader())
            .await?;
        Ok(found.is_some())
    }

    async fn take_due(&self, now: Timestamp, again: Timestamp, limit: u32) -> Result<Vec<WaitingPush>, StoreError> {
        let any: Option<i64> = sqlx::query_scalar("SELECT 1 FROM push WHERE due_at <= ? LIMIT 1")
            .bind(now.as_millisecond())
            .fetch_optional(self.database.reader())
            .await?;
        if any.is_none() {
            return Ok(Vec::new());
        }
        let rows = retrying(|| async {
            let mut tx = self.database.begin().await?;
            let rows = sqlx::query(
                "UPDATE push SET due_at = ?, attempts = attempts + 1
                WHERE event_id IN (SELECT event_id FROM push WHERE due_at <= ? ORDER BY due_at LIMIT ?)
                RETURNING event_id, account, token, actor, content, occurred_at, queued_at, attempts, sent",
            )
            .bind(again.as_millisecond())
            .bind(now.as_millisecond())
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok::<_, StoreError>(rows)
        })
        .await?;
        // Each by itself: one that does not decode keeps none of the others.
        let read = |row| Row::from_row(&row).map_err(StoreError::from).and_then(waiting);
        Ok(rows.into_iter().map(read).filter_map(readable).collect())
    }

    async fn sent(&self, event: EventId, token: &str) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            sqlx::query(
                "UPDATE push SET sent = json_insert(COALESCE(sent, '[]'), '$[#]', ?)
                WHERE event_id = ? AND due_at IS NOT NULL",
            )
            .bind(token)
            .bind(event.0.as_bytes().as_slice())
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn postpone(&self, event: EventId, due: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            sqlx::query("UPDATE push SET due_at = ? WHERE event_id = ? AND due_at IS NOT NULL")
                .bind(due.as_millisecond())
                .bind(event.0.as_bytes().as_slice())
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

fn waiting(row: Row) -> Result<WaitingPush, StoreError> {
    let id: [u8; 16] = row.event_id.try_into().map_err(|_| broken("an event id is not one"))?;
    let content: PushContent = serde_json::from_str(&row.content).map_err(|_| broken("a push is not one"))?;
    Ok(WaitingPush {
        event: EventId(uuid::Uuid::from_bytes(id)),
        target: target(row.account, row.token)?,
        actor: row.actor.as_deref().map(parse_account).transpose()?,
        content,
        occurred_at: timestamp(row.occurred_at)?,
        queued_at: timestamp(row.queued_at)?,
        attempts: u32::try_from(row.attempts).map_err(|_| broken("a count is not one"))?,
        sent: match row.sent {
            Some(sent) => serde_json::from_str(&sent).map_err(|_| broken("a list of devices is not one"))?,
            None => Vec::new(),
        },
    })
}
