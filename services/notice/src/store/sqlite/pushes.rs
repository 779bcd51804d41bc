use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::sqlite::{Engine, Tx};
use sosohappy_store::{StoreError, retrying};
use sqlx::{FromRow as _, QueryBuilder};

use super::{SqliteStore, is_erased, marks, push_events};
use crate::domain::{Banner, PushContent, PushGroup, Thread, WaitingPush};
use crate::store::{
    DUE_AT_ONCE, MOST_BANNERS, MOST_COUNTED, MOST_GROUPED, PushQueue, Pushes, STORED_AT_ONCE, Take, TakenPush,
    TakenPushes, WINDOW, broken, cause, cause_text, columns, first_threads, parse_account, readable, subjects, target,
    timestamp,
};

#[derive(sqlx::FromRow)]
struct Row {
    event_id: Vec<u8>,
    account: Option<String>,
    token: Option<String>,
    actor: Option<String>,
    content: String,
    occurred_at: i64,
    authorized_at: Option<i64>,
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
        if events.is_empty() {
            return Ok(());
        }
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            settle(&mut tx, events, now).await?;
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

    async fn take_due(&self, take: Take) -> Result<Vec<PushGroup>, StoreError> {
        let any: Option<i64> = sqlx::query_scalar("SELECT 1 FROM push WHERE due_at <= ? LIMIT 1")
            .bind(take.now.as_millisecond())
            .fetch_optional(self.database.reader())
            .await?;
        if any.is_none() {
            return Ok(Vec::new());
        }
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            let (mut groups, mut left) = (Vec::new(), take.limit as usize);
            while left > 0 {
                let due = due_threads(&mut tx, take.now).await?;
                let is_all = due.len() < DUE_AT_ONCE as usize;
                let threads = first_threads(due, left);
                if threads.is_empty() {
                    break;
                }
                groups.extend(take_threads(&mut tx, &threads, take).await?);
                left -= threads.len();
                if is_all {
                    break;
                }
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

    async fn sent(&self, events: &[EventId], token: &str) -> Result<bool, StoreError> {
        self.update_waiting(events, |query| {
            query
                .push("sent = json_insert(COALESCE(sent, '[]'), '$[#]', ")
                .push_bind(token.to_owned())
                .push(")");
        })
        .await
    }

    async fn add_banner(&self, account: &Account, banner: &Banner) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            if is_erased(&mut tx, [Some((account, banner.occurred_at)), None]).await? {
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
            .bind(banner.occurred_at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn banners(&self, account: &Account) -> Result<Vec<Banner>, StoreError> {
        let rows: Vec<(Vec<u8>, String, String, i64)> = sqlx::query_as(
            "SELECT event_id, token, name, occurred_at FROM banner WHERE account = ? ORDER BY occurred_at, token, name LIMIT ?",
        )
        .bind(account.as_str())
        .bind(MOST_BANNERS)
        .fetch_all(self.database.reader())
        .await?;
        let banner = |(id, token, name, occurred_at)| {
            Ok::<_, StoreError>(Banner {
                event: event(id)?,
                token,
                name,
                occurred_at: timestamp(occurred_at)?,
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

    async fn forget_withdrawn(&self, events: &[EventId]) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            for events in events.chunks(STORED_AT_ONCE) {
                let mut query = QueryBuilder::<Engine>::new(
                    "DELETE FROM push WHERE due_at IS NULL
                    AND EXISTS (SELECT 1 FROM notice WHERE notice.event_id = push.event_id AND notice.withdrawn = 1)
                    AND event_id IN (",
                );
                push_events(&mut query, events);
                query.push(")").build().execute(&mut *tx).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn postpone(&self, events: &[EventId], due: Timestamp) -> Result<(), StoreError> {
        self.update_waiting(events, |query| {
            query.push("taken = 0, due_at = ").push_bind(due.as_millisecond());
        })
        .await?;
        Ok(())
    }

    async fn defer(&self, events: &[EventId], thread: &Thread, due: Timestamp) -> Result<(), StoreError> {
        self.update_waiting(events, |query| {
            query
                .push("taken = 0, attempts = 0, due_at = ")
                .push_bind(due.as_millisecond())
                .push(", thread = ")
                .push_bind(thread.0.clone());
        })
        .await?;
        Ok(())
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

/// Settles pushes, also those that are queued later.
pub(super) async fn settle(tx: &mut Tx, events: &[EventId], now: Timestamp) -> Result<(), StoreError> {
    for events in events.chunks(STORED_AT_ONCE) {
        let mut query = QueryBuilder::<Engine>::new("INSERT INTO push (event_id, occurred_at, queued_at) ");
        query.push_values(events, |mut row, event| {
            row.push_bind(event.0.as_bytes().to_vec())
                .push_bind(now.as_millisecond())
                .push_bind(now.as_millisecond());
        });
        query.push(
            " ON CONFLICT (event_id) DO UPDATE
            SET account = NULL, token = NULL, actor = NULL, content = NULL, sent = NULL, due_at = NULL, thread = NULL, taken = 0,
                cause = NULL",
        );
        query.build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Inserts pushes. Those that wait already happened again.
async fn insert(tx: &mut Tx, pushes: &[(&WaitingPush, Timestamp)]) -> Result<(), StoreError> {
    let mut query = QueryBuilder::<Engine>::new(
        "INSERT INTO push (event_id, account, token, actor, content, occurred_at, authorized_at, queued_at, due_at, attempts, thread, cause) ",
    );
    query.push_values(pushes, |mut row, (push, due)| {
        let (account, token) = columns(&push.target);
        row.push_bind(push.event.0.as_bytes().to_vec())
            .push_bind(account.map(str::to_owned))
            .push_bind(token.map(str::to_owned))
            .push_bind(push.actor.as_ref().map(|actor| actor.as_str().to_owned()))
            .push_bind(serde_json::to_string(&push.content).expect("a push is JSON"))
            .push_bind(push.occurred_at.as_millisecond())
            .push_bind(push.authorized_at.map(Timestamp::as_millisecond))
            .push_bind(push.queued_at.as_millisecond())
            .push_bind(due.as_millisecond())
            .push_bind(push.attempts)
            .push_bind(push.thread().0)
            .push_bind(cause_text(push));
    });
    query.push(
        " ON CONFLICT (event_id) DO UPDATE
        SET occurred_at = MAX(push.occurred_at, excluded.occurred_at),
            authorized_at = MAX(COALESCE(push.authorized_at, excluded.authorized_at), excluded.authorized_at)
        WHERE push.due_at IS NOT NULL",
    );
    query.build().execute(&mut **tx).await?;
    Ok(())
}

impl SqliteStore {
    /// Updates those of the pushes that wait. `set` adds the assignments. Returns whether all wait.
    async fn update_waiting(
        &self,
        events: &[EventId],
        set: impl Fn(&mut QueryBuilder<Engine>) + Sync,
    ) -> Result<bool, StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            let mut updated = 0;
            for events in events.chunks(STORED_AT_ONCE) {
                let mut query = QueryBuilder::<Engine>::new("UPDATE push SET ");
                set(&mut query);
                query.push(" WHERE due_at IS NOT NULL AND event_id IN (");
                push_events(&mut query, events);
                updated += query.push(")").build().execute(&mut *tx).await?.rows_affected();
            }
            tx.commit().await?;
            Ok(usize::try_from(updated).is_ok_and(|updated| updated == events.len()))
        })
        .await
    }
}

/// Returns the threads of the pushes that have been due for longest.
async fn due_threads(tx: &mut Tx, now: Timestamp) -> Result<Vec<String>, StoreError> {
    let due: Vec<(Vec<u8>, Option<String>)> =
        sqlx::query_as("SELECT event_id, thread FROM push WHERE due_at <= ? ORDER BY due_at, occurred_at LIMIT ?")
            .bind(now.as_millisecond())
            .bind(DUE_AT_ONCE)
            .fetch_all(&mut **tx)
            .await?;
    let mut threads = Vec::with_capacity(due.len());
    for (id, thread) in due {
        if let Some(thread) = thread {
            threads.push(thread);
            continue;
        }
        // Written by a replica of the release before: a thread of its own.
        let thread = event(id.clone())?.to_string();
        sqlx::query("UPDATE push SET thread = ? WHERE event_id = ?")
            .bind(&thread)
            .bind(id)
            .execute(&mut **tx)
            .await?;
        threads.push(thread);
    }
    Ok(threads)
}

#[derive(sqlx::FromRow)]
struct TakenRow {
    event_id: Vec<u8>,
    thread: String,
    sent: Option<String>,
    actor: Option<String>,
    occurred_at: i64,
    attempts: i64,
}

impl TakenRow {
    fn push(self) -> Result<TakenPush, StoreError> {
        Ok(TakenPush {
            event: event(self.event_id)?,
            thread: self.thread,
            sent: self.sent,
            actor: self.actor,
            occurred_at: self.occurred_at,
            attempts: self.attempts,
        })
    }
}

/// Takes the due pushes of the threads, and those that are sent with them: postponed, or likes that wait, and got by the same devices so far.
async fn take_threads(tx: &mut Tx, threads: &[String], take: Take) -> Result<Vec<PushGroup>, StoreError> {
    let rows: Vec<TakenRow> = sqlx::query_as(
        "UPDATE push SET due_at = ?1, taken = 1, attempts = attempts + 1
        WHERE event_id IN (
            SELECT event_id FROM (
                SELECT p.event_id, ROW_NUMBER() OVER (PARTITION BY p.thread, p.sent ORDER BY p.occurred_at) AS place
                FROM json_each(?2) AS asked CROSS JOIN push AS p ON p.thread = asked.value
                WHERE p.due_at <= ?3 OR (
                    p.due_at IS NOT NULL AND p.taken = 0
                    AND (p.attempts > 0 OR (p.due_at <= ?5 AND p.thread GLOB ?6)) AND EXISTS (
                        SELECT 1 FROM push AS due
                        WHERE due.thread = p.thread AND due.due_at <= ?3 AND due.sent IS p.sent)))
            WHERE place <= ?4)
        RETURNING event_id, thread, sent, actor, occurred_at, attempts",
    )
    .bind(take.again.as_millisecond())
    .bind(json!(threads).to_string())
    .bind(take.now.as_millisecond())
    .bind(MOST_GROUPED)
    .bind(take.likes_until.as_millisecond())
    .bind(format!("{}*", Thread::LIKES))
    .fetch_all(&mut **tx)
    .await?;
    let pushes = rows
        .into_iter()
        .map(TakenRow::push)
        .collect::<Result<_, StoreError>>()?;
    let taken = TakenPushes::new(threads, pushes);
    let mut query = QueryBuilder::<Engine>::new(
        "SELECT event_id, account, token, actor, content, occurred_at, authorized_at, queued_at, attempts, sent, cause FROM push
        WHERE event_id IN (",
    );
    push_events(&mut query, &taken.newest());
    let rows = query.push(")").build().fetch_all(&mut **tx).await?;
    // Each by itself: one that does not decode keeps none of the others.
    let read = |row| Row::from_row(&row).map_err(StoreError::from).and_then(waiting);
    let read = rows.into_iter().map(read).filter_map(readable).collect();
    Ok(taken.with_content(read))
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
        authorized_at: row.authorized_at.map(timestamp).transpose()?,
        queued_at: timestamp(row.queued_at)?,
        attempts: u32::try_from(row.attempts).map_err(|_| broken("a count is not one"))?,
        sent: match row.sent {
            Some(sent) => serde_json::from_str(&sent).map_err(|_| broken("a list of devices is not one"))?,
            None => Vec::new(),
        },
        cause: cause(row.cause.as_deref()),
    })
}
