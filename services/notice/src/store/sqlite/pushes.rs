use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::sqlite::{Engine, Tx};
use sosohappy_store::{StoreError, retrying};
use sqlx::{FromRow as _, QueryBuilder};

use super::{SqliteStore, is_erased, marks, push_events};
use crate::domain::{Banner, PushContent, PushGroup, Thread, WaitingPush};
use crate::store::{
    MOST_BANNERS, MOST_COUNTED, MOST_GROUPED, MOST_READ, PushQueue, Pushes, WINDOW, broken, cause, cause_text, columns,
    group, parse_account, readable, subjects, target, timestamp,
};

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
    cause: Option<String>,
}

#[async_trait]
impl Pushes for SqliteStore {
    async fn queue_all(&self, pushes: &[(&WaitingPush, Timestamp)]) -> Result<(), StoreError> {
        let subjects = subjects(pushes);
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            let wanted = marks(&mut tx, &subjects).await?.kept(pushes);
            if wanted.is_empty() {
                return Ok(());
            }
            insert(&mut tx, &wanted).await?;
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
                    SET account = NULL, token = NULL, actor = NULL, content = NULL, sent = NULL, due_at = NULL, thread = NULL, taken = 0,
                        cause = NULL",
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

    async fn take_due(&self, now: Timestamp, again: Timestamp, limit: u32) -> Result<Vec<PushGroup>, StoreError> {
        let any: Option<i64> = sqlx::query_scalar("SELECT 1 FROM push WHERE due_at <= ? LIMIT 1")
            .bind(now.as_millisecond())
            .fetch_optional(self.database.reader())
            .await?;
        if any.is_none() {
            return Ok(Vec::new());
        }
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            let mut groups = Vec::new();
            for _ in 0..limit {
                let Some(head) = head(&mut tx, now).await? else { break };
                groups.extend(take_group(&mut tx, head, now, again).await?);
            }
            tx.commit().await?;
            Ok::<_, StoreError>(groups)
        })
        .await
    }

    async fn push_queue(&self) -> Result<PushQueue, StoreError> {
        let (waiting, first_due): (i64, Option<i64>) = sqlx::query_as(
            "SELECT COUNT(*), MIN(due_at)
            FROM (SELECT due_at FROM push WHERE due_at IS NOT NULL ORDER BY due_at LIMIT ?)",
        )
        .bind(MOST_COUNTED)
        .fetch_one(self.database.reader())
        .await?;
        Ok(PushQueue {
            waiting: u64::try_from(waiting).map_err(|_| broken("a count is not one"))?,
            first_due: first_due.map(timestamp).transpose()?,
        })
    }

    async fn sent(&self, events: &[EventId], token: &str) -> Result<(), StoreError> {
        self.each(
            events,
            "UPDATE push SET sent = json_insert(COALESCE(sent, '[]'), '$[#]', ?)
            WHERE due_at IS NOT NULL AND event_id = ?",
            |query| query.bind(token.to_owned()),
        )
        .await
    }

    async fn add_banner(&self, account: &Account, banner: &Banner, occurred_at: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            if is_erased(&mut tx, [Some(account), None], occurred_at).await? {
                return Ok(());
            }
            sqlx::query(
                "INSERT INTO banner (account, token, name, event_id, occurred_at) VALUES (?, ?, ?, ?, ?)
                ON CONFLICT (account, token, name) DO UPDATE
                SET event_id = excluded.event_id, occurred_at = excluded.occurred_at",
            )
            .bind(account.as_str())
            .bind(&banner.token)
            .bind(&banner.name)
            .bind(banner.event.0.as_bytes().as_slice())
            .bind(occurred_at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn banners(&self, account: &Account) -> Result<Vec<Banner>, StoreError> {
        let rows: Vec<(Vec<u8>, String, String)> = sqlx::query_as(
            "SELECT event_id, token, name FROM banner WHERE account = ? ORDER BY occurred_at, token, name LIMIT ?",
        )
        .bind(account.as_str())
        .bind(MOST_BANNERS)
        .fetch_all(self.database.reader())
        .await?;
        let banner = |(id, token, name)| {
            Ok::<_, StoreError>(Banner {
                event: event(id)?,
                token,
                name,
            })
        };
        rows.into_iter().map(banner).collect()
    }

    async fn showing(&self, accounts: &[&Account], events: &[EventId]) -> Result<Vec<Account>, StoreError> {
        let mut query = QueryBuilder::<Engine>::new("SELECT DISTINCT account FROM banner WHERE account IN (");
        let mut list = query.separated(", ");
        for account in accounts {
            list.push_bind(account.as_str().to_owned());
        }
        query.push(") AND event_id IN (");
        push_events(&mut query, events);
        let found: Vec<String> = query
            .push(")")
            .build_query_scalar()
            .fetch_all(self.database.reader())
            .await?;
        found.iter().map(|account| parse_account(account)).collect()
    }

    async fn remove_banners(&self, account: &Account, banners: &[Banner]) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            for banner in banners {
                sqlx::query("DELETE FROM banner WHERE account = ? AND token = ? AND name = ? AND event_id = ?")
                    .bind(account.as_str())
                    .bind(&banner.token)
                    .bind(&banner.name)
                    .bind(banner.event.0.as_bytes().as_slice())
                    .execute(&mut *tx)
                    .await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn postpone(&self, events: &[EventId], due: Timestamp) -> Result<(), StoreError> {
        self.each(
            events,
            "UPDATE push SET due_at = ?, taken = 0 WHERE due_at IS NOT NULL AND event_id = ?",
            |query| query.bind(due.as_millisecond()),
        )
        .await
    }

    async fn defer(&self, events: &[EventId], thread: &Thread, due: Timestamp) -> Result<(), StoreError> {
        self.each(
            events,
            "UPDATE push SET due_at = ?, thread = ?, taken = 0, attempts = 0 WHERE due_at IS NOT NULL AND event_id = ?",
            |query| query.bind(due.as_millisecond()).bind(thread.0.clone()),
        )
        .await
    }

    async fn admit(&self, thread: &Thread, limit: u32, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let over = (now - WINDOW).as_millisecond();
        let (started_at, sent): (i64, i64) = retrying(|| async {
            let mut tx = self.database.begin().await?;
            // The right side of each assignment sees the row as it was.
            let counted = sqlx::query_as(
                "INSERT INTO push_window (thread, started_at, sent) VALUES (?1, ?2, 1)
                ON CONFLICT (thread) DO UPDATE SET
                    sent = CASE WHEN push_window.started_at <= ?3 THEN 1 ELSE push_window.sent + 1 END,
                    started_at = CASE WHEN push_window.started_at <= ?3 THEN ?2 ELSE push_window.started_at END
                RETURNING started_at, sent",
            )
            .bind(&thread.0)
            .bind(now.as_millisecond())
            .bind(over)
            .fetch_one(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok::<_, StoreError>(counted)
        })
        .await?;
        let end = timestamp(started_at)? + WINDOW;
        Ok((sent > i64::from(limit)).then_some(end))
    }
}

/// Inserts pushes. Those that wait already happened again.
async fn insert(tx: &mut Tx, pushes: &[(&WaitingPush, Timestamp)]) -> Result<(), StoreError> {
    let mut query = QueryBuilder::<Engine>::new(
        "INSERT INTO push (event_id, account, token, actor, content, occurred_at, queued_at, due_at, attempts, thread, cause) ",
    );
    query.push_values(pushes, |mut row, (push, due)| {
        let (account, token) = columns(&push.target);
        row.push_bind(push.event.0.as_bytes().to_vec())
            .push_bind(account.map(str::to_owned))
            .push_bind(token.map(str::to_owned))
            .push_bind(push.actor.as_ref().map(|actor| actor.as_str().to_owned()))
            .push_bind(serde_json::to_string(&push.content).expect("a push is JSON"))
            .push_bind(push.occurred_at.as_millisecond())
            .push_bind(push.queued_at.as_millisecond())
            .push_bind(due.as_millisecond())
            .push_bind(push.attempts)
            .push_bind(push.thread().0)
            .push_bind(cause_text(push));
    });
    query.push(
        " ON CONFLICT (event_id) DO UPDATE
        SET occurred_at = MAX(push.occurred_at, excluded.occurred_at) WHERE push.due_at IS NOT NULL",
    );
    query.build().execute(&mut **tx).await?;
    Ok(())
}

type Query<'q> = sqlx::query::Query<'q, Engine, <Engine as sqlx::Database>::Arguments>;

impl SqliteStore {
    /// Runs a statement, whose last parameter is the id, for each push.
    async fn each(
        &self,
        events: &[EventId],
        statement: &'static str,
        bind: impl Fn(Query<'static>) -> Query<'static> + Sync,
    ) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            for event in events {
                let id = event.0.as_bytes().to_vec();
                bind(sqlx::query(statement)).bind(id).execute(&mut *tx).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// The push that has been due for longest.
#[derive(sqlx::FromRow)]
struct Head {
    event_id: Vec<u8>,
    thread: Option<String>,
    sent: Option<String>,
}

async fn head(tx: &mut Tx, now: Timestamp) -> Result<Option<Head>, StoreError> {
    let head = sqlx::query_as(
        "SELECT event_id, thread, sent FROM push WHERE due_at <= ? ORDER BY due_at, occurred_at LIMIT 1",
    )
    .bind(now.as_millisecond())
    .fetch_optional(&mut **tx)
    .await?;
    Ok(head)
}

/// Takes the push and those that are sent with it: of its thread, and got by the same devices so far. `None` when none of them can be read.
async fn take_group(
    tx: &mut Tx,
    head: Head,
    now: Timestamp,
    again: Timestamp,
) -> Result<Option<PushGroup>, StoreError> {
    // Written by a replica of the release before: a thread of its own.
    let thread = match head.thread {
        Some(thread) => thread,
        None => event(head.event_id.clone())?.to_string(),
    };
    let members: Vec<(Vec<u8>, Option<String>, i64)> = sqlx::query_as(
        "UPDATE push SET due_at = ?1, taken = 1, attempts = attempts + 1, thread = ?2
        WHERE event_id = ?3 OR event_id IN (
            SELECT event_id FROM push
            WHERE thread = ?2 AND sent IS ?4 AND (due_at <= ?5 OR (due_at IS NOT NULL AND attempts > 0 AND taken = 0))
            ORDER BY occurred_at LIMIT ?6)
        RETURNING event_id, actor, attempts",
    )
    .bind(again.as_millisecond())
    .bind(&thread)
    .bind(&head.event_id)
    .bind(&head.sent)
    .bind(now.as_millisecond())
    .bind(MOST_GROUPED)
    .fetch_all(&mut **tx)
    .await?;
    let rows = sqlx::query(
        "SELECT event_id, account, token, actor, content, occurred_at, queued_at, attempts, sent, cause FROM push
        WHERE thread = ? AND due_at = ? AND taken = 1 AND sent IS ? ORDER BY occurred_at DESC, event_id LIMIT ?",
    )
    .bind(&thread)
    .bind(again.as_millisecond())
    .bind(&head.sent)
    .bind(MOST_READ)
    .fetch_all(&mut **tx)
    .await?;
    // Each by itself: one that does not decode keeps none of the others.
    let read = |row| Row::from_row(&row).map_err(StoreError::from).and_then(waiting);
    let read = rows.into_iter().map(read).filter_map(readable).collect();
    let attempts = members.iter().map(|(_, _, attempts)| *attempts).max();
    let attempts = u32::try_from(attempts.unwrap_or_default()).unwrap_or(u32::MAX);
    let members = members.into_iter().map(|(id, actor, _)| Ok((event(id)?, actor)));
    let members = members.collect::<Result<_, StoreError>>()?;
    Ok(group(Thread(thread), members, read, attempts))
}

pub(super) fn event(id: Vec<u8>) -> Result<EventId, StoreError> {
    let id: [u8; 16] = id.try_into().map_err(|_| broken("an event id is not one"))?;
    Ok(EventId(uuid::Uuid::from_bytes(id)))
}

fn waiting(row: Row) -> Result<WaitingPush, StoreError> {
    let content: PushContent = serde_json::from_str(&row.content).map_err(|_| broken("a push is not one"))?;
    Ok(WaitingPush {
        event: event(row.event_id)?,
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
        cause: cause(row.cause.as_deref()),
    })
}
