use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::sqlite::{Engine, Tx};
use sosohappy_store::{StoreError, retrying};
use sqlx::QueryBuilder;

use super::pushes::event;
use super::{SqliteStore, is_erased, is_withdrawn, push_events};
use crate::domain::{ABOUT_POSTS, Notice, post_id};
use crate::store::{Added, Notices, WITHDRAWN_AT_ONCE, WithdrawnPushes, is_about, next_seq, timestamp};

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
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            mark_withdrawn(&mut tx, notice, at, now).await?;
            withdraw_all(&mut tx, &[notice], at, WithdrawnPushes::Waiting).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// The mark comes first: a notice or push that is added meanwhile finds it. The inbox is read without the write lock.
    async fn withdraw_post(
        &self,
        author: &Account,
        date: i64,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let post = post_id(author, date);
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            mark_withdrawn(&mut tx, post, at, now).await?;
            Ok::<_, StoreError>(tx.commit().await?)
        })
        .await?;
        let mut notices = Vec::new();
        // Two reads, each by its own index.
        for person in ["account", "actor"] {
            let mut query =
                QueryBuilder::<Engine>::new("SELECT event_id, account, actor, topic, data FROM notice WHERE ");
            query
                .push(person)
                .push(" = ")
                .push_bind(author.as_str())
                .push(" AND withdrawn = 0 AND occurred_at <= ")
                .push_bind(at.as_millisecond())
                .push(" AND topic IN (");
            let mut topics = query.separated(", ");
            for topic in ABOUT_POSTS {
                topics.push_bind(topic);
            }
            query.push(")");
            let mut rows = query.build_query_as::<About>().fetch(self.database.reader());
            while let Some(row) = rows.try_next().await? {
                if is_about(post, &row.account, row.actor.as_deref(), &row.topic, &row.data) {
                    notices.push(event(row.event_id)?);
                }
            }
        }
        for notices in notices.chunks(WITHDRAWN_AT_ONCE) {
            retrying(|| async {
                let mut tx = self.database.begin().await?;
                withdraw_all(&mut tx, notices, at, WithdrawnPushes::All).await?;
                Ok::<_, StoreError>(tx.commit().await?)
            })
            .await?;
        }
        Ok(())
    }
}

/// The columns that say which post a notice is about.
#[derive(sqlx::FromRow)]
struct About {
    event_id: Vec<u8>,
    account: String,
    actor: Option<String>,
    topic: String,
    data: String,
}

async fn mark_withdrawn(tx: &mut Tx, id: EventId, at: Timestamp, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO withdrawal (event_id, withdrawn_until, stored_at) VALUES (?, ?, ?)
        ON CONFLICT (event_id) DO UPDATE SET
            withdrawn_until = MAX(withdrawal.withdrawn_until, excluded.withdrawn_until),
            stored_at = excluded.stored_at",
    )
    .bind(id.0.as_bytes().as_slice())
    .bind(at.as_millisecond())
    .bind(now.as_millisecond())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Withdraws the notices that happened up to that moment, with these of their pushes.
async fn withdraw_all(
    tx: &mut Tx,
    notices: &[EventId],
    at: Timestamp,
    pushes: WithdrawnPushes,
) -> Result<(), StoreError> {
    let pushes = match pushes {
        WithdrawnPushes::Waiting => " AND due_at IS NOT NULL",
        WithdrawnPushes::All => "",
    };
    for (statement, more) in [
        ("UPDATE notice SET withdrawn = 1 WHERE occurred_at <= ", ""),
        ("DELETE FROM push WHERE occurred_at <= ", pushes),
    ] {
        let mut query = QueryBuilder::<Engine>::new(statement);
        query
            .push_bind(at.as_millisecond())
            .push(more)
            .push(" AND event_id IN (");
        push_events(&mut query, notices);
        query.push(")").build().execute(&mut **tx).await?;
    }
    Ok(())
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
        if is_withdrawn(&mut tx, &notice.withdrawal_ids(), notice.occurred_at).await? {
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
