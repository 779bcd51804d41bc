use std::collections::HashMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::sqlite::Engine;
use sosohappy_store::{StoreError, retrying};
use sqlx::QueryBuilder;

use super::pushes::{event, settle};
use super::{SqliteStore, is_erased, push_events};
use crate::domain::{LIKE, stored_like};
use crate::store::{
    Decision, Following, Inbox, Listing, NoticeGroup, ReadState, StoredNotice, View, broken, parse_account, timestamp,
};

#[derive(sqlx::FromRow)]
struct Row {
    event_id: Vec<u8>,
    seq: i64,
    actor: Option<String>,
    topic: String,
    data: String,
    occurred_at: i64,
    count: i64,
}

impl Row {
    fn group(self) -> Result<NoticeGroup, StoreError> {
        let newest = StoredNotice {
            id: event(self.event_id)?,
            seq: self.seq,
            actor: self.actor.as_deref().map(parse_account).transpose()?,
            topic: self.topic,
            data: serde_json::from_str(&self.data).map_err(|_| broken("a notice is not JSON"))?,
            occurred_at: timestamp(self.occurred_at)?,
        };
        let count = u64::try_from(self.count).unwrap_or_default();
        Ok(NoticeGroup { newest, count })
    }
}

/// Adds the condition on what the account sees.
fn push_seen(query: &mut QueryBuilder<Engine>, account: &Account, hidden: &[Account]) {
    query
        .push("account = ")
        .push_bind(account.as_str().to_owned())
        .push(" AND withdrawn = 0");
    if hidden.is_empty() {
        return;
    }
    query.push(" AND (actor IS NULL OR actor NOT IN (");
    let mut accounts = query.separated(", ");
    for account in hidden {
        accounts.push_bind(account.as_str().to_owned());
    }
    query.push("))");
}

/// Returns the query that counts what the account has not read.
fn unread(account: &Account, hidden: &[Account], read_seq: i64, since: Option<Timestamp>) -> QueryBuilder<Engine> {
    let mut query = QueryBuilder::<Engine>::new("SELECT COUNT(*) FROM notice WHERE ");
    push_seen(&mut query, account, hidden);
    let has_read = read_seq > 0;
    if has_read {
        query.push(" AND seq > ").push_bind(read_seq);
    }
    if let Some(since) = since {
        // One of the two conditions takes its index: that on the number, if there is one. The plus keeps the other from it.
        query.push(if has_read {
            " AND +occurred_at > "
        } else {
            " AND occurred_at > "
        });
        query.push_bind(since.as_millisecond());
    }
    query
}

/// The highest number of each account of a JSON list. A scalar subquery for each: one step in the index, which a group is not.
pub(super) const NEWEST: &str =
    "SELECT asked.value, (SELECT MAX(seq) FROM notice WHERE account = asked.value) FROM json_each(?) AS asked";

pub(super) fn by_account(rows: Vec<(String, Option<i64>)>) -> Result<HashMap<Account, i64>, StoreError> {
    let mut newest = HashMap::with_capacity(rows.len());
    for (account, seq) in rows {
        if let Some(seq) = seq {
            newest.insert(parse_account(&account)?, seq);
        }
    }
    Ok(newest)
}

#[async_trait]
impl Inbox for SqliteStore {
    async fn groups(&self, listing: &Listing<'_>) -> Result<Vec<NoticeGroup>, StoreError> {
        let mut query = QueryBuilder::<Engine>::new(
            "SELECT n.event_id, n.seq, n.actor, n.topic, n.data, n.occurred_at, g.count FROM (
                SELECT MAX(seq) AS seq, COUNT(*) AS count FROM notice WHERE ",
        );
        push_seen(&mut query, listing.account, listing.hidden);
        query
            .push(" GROUP BY CASE WHEN topic = ")
            .push_bind(LIKE)
            .push(" THEN data ELSE event_id END HAVING MAX(seq) < ")
            .push_bind(listing.before)
            .push(" ORDER BY 1 DESC LIMIT ")
            .push_bind(listing.limit)
            .push(") g JOIN notice n ON n.seq = g.seq AND n.account = ")
            .push_bind(listing.account.as_str())
            .push(" ORDER BY n.seq DESC");
        let rows: Vec<Row> = query.build_query_as().fetch_all(self.database.reader()).await?;
        rows.into_iter().map(Row::group).collect()
    }

    async fn likes(&self, listing: &Listing<'_>, date: i64) -> Result<Vec<StoredNotice>, StoreError> {
        let mut query = QueryBuilder::<Engine>::new(
            "SELECT event_id, seq, actor, topic, data, occurred_at, 1 AS count FROM notice WHERE ",
        );
        push_seen(&mut query, listing.account, listing.hidden);
        query
            .push(" AND topic = ")
            .push_bind(LIKE)
            .push(" AND data = ")
            .push_bind(stored_like(date))
            .push(" AND seq < ")
            .push_bind(listing.before)
            .push(" ORDER BY seq DESC LIMIT ")
            .push_bind(listing.limit);
        let rows: Vec<Row> = query.build_query_as().fetch_all(self.database.reader()).await?;
        rows.into_iter().map(|row| Ok(row.group()?.newest)).collect()
    }

    async fn after(
        &self,
        account: &Account,
        hidden: &[Account],
        seq: i64,
        limit: u32,
    ) -> Result<Following, StoreError> {
        let mut query = QueryBuilder::<Engine>::new(
            "SELECT event_id, seq, actor, topic, data, occurred_at, 1 AS count FROM notice WHERE ",
        );
        push_seen(&mut query, account, hidden);
        query
            .push(" AND seq > ")
            .push_bind(seq)
            .push(" ORDER BY seq LIMIT ")
            .push_bind(limit);
        let rows: Vec<Row> = query.build_query_as().fetch_all(self.database.reader()).await?;
        let mut following = Following {
            more: rows.len() >= limit as usize,
            ..Following::default()
        };
        for row in rows {
            following.push(row.seq, row.group().map(|group| group.newest));
        }
        Ok(following)
    }

    async fn kept(&self, account: &Account) -> Result<Option<(i64, i64)>, StoreError> {
        // Two scalar subqueries: each is one step in the index, which an aggregate over both ends is not.
        let (oldest, newest): (Option<i64>, Option<i64>) = sqlx::query_as(
            "SELECT (SELECT MIN(seq) FROM notice WHERE account = ?1), (SELECT MAX(seq) FROM notice WHERE account = ?1)",
        )
        .bind(account.as_str())
        .fetch_one(self.database.reader())
        .await?;
        Ok(oldest.zip(newest))
    }

    async fn newest(&self, accounts: &[Account]) -> Result<HashMap<Account, i64>, StoreError> {
        let names: Vec<&str> = accounts.iter().map(AsRef::as_ref).collect();
        let rows = sqlx::query_as(NEWEST)
            .bind(json!(names).to_string())
            .fetch_all(self.database.reader())
            .await?;
        by_account(rows)
    }

    async fn handled(&self, account: &Account, events: &[EventId]) -> Result<Vec<EventId>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = QueryBuilder::<Engine>::new("SELECT event_id FROM notice WHERE account = ");
        query
            .push_bind(account.as_str())
            .push(" AND (withdrawn = 1 OR seq <= (SELECT read_seq FROM inbox_read WHERE account = ")
            .push_bind(account.as_str())
            .push(")) AND event_id IN (");
        push_events(&mut query, events);
        query
            .push(") UNION SELECT event_id FROM message WHERE account = ")
            .push_bind(account.as_str())
            .push(" AND handled = 1 AND event_id IN (");
        push_events(&mut query, events);
        query.push(")");
        let handled: Vec<Vec<u8>> = query.build_query_scalar().fetch_all(self.database.reader()).await?;
        handled.into_iter().map(event).collect()
    }

    async fn read(&self, by: &Decision<'_>, seq: i64) -> Result<Vec<EventId>, StoreError> {
        let account = by.account;
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            if is_erased(&mut tx, [Some((account, by.authorized_at)), None]).await? {
                return Ok::<_, StoreError>(Vec::new());
            }
            let newest: Option<i64> = sqlx::query_scalar("SELECT MAX(seq) FROM notice WHERE account = ?")
                .bind(account.as_str())
                .fetch_one(&mut *tx)
                .await?;
            let before: Option<i64> = sqlx::query_scalar("SELECT read_seq FROM inbox_read WHERE account = ?")
                .bind(account.as_str())
                .fetch_optional(&mut *tx)
                .await?;
            let (seq, before) = (seq.min(newest.unwrap_or_default()), before.unwrap_or_default());
            if seq <= before {
                return Ok(Vec::new());
            }
            sqlx::query(
                "INSERT INTO inbox_read (account, read_seq, read_at) VALUES (?, ?, ?)
                ON CONFLICT (account) DO UPDATE SET
                    read_seq = excluded.read_seq, read_at = MAX(inbox_read.read_at, excluded.read_at)",
            )
            .bind(account.as_str())
            .bind(seq)
            .bind(by.authorized_at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            let read: Vec<Vec<u8>> = sqlx::query_scalar(
                "SELECT event_id FROM notice WHERE account = ? AND seq > ? AND seq <= ? AND withdrawn = 0",
            )
            .bind(account.as_str())
            .bind(before)
            .bind(seq)
            .fetch_all(&mut *tx)
            .await?;
            let read = read.into_iter().map(event).collect::<Result<Vec<_>, _>>()?;
            settle(&mut tx, &read, by.at).await?;
            tx.commit().await?;
            Ok(read)
        })
        .await
    }

    async fn read_state(&self, account: &Account) -> Result<ReadState, StoreError> {
        let read: Option<(i64, Option<i64>)> =
            sqlx::query_as("SELECT read_seq, viewed_at FROM inbox_read WHERE account = ?")
                .bind(account.as_str())
                .fetch_optional(self.database.reader())
                .await?;
        let (seq, viewed_at) = read.unwrap_or_default();
        Ok(ReadState {
            seq,
            viewed_at: viewed_at.map(timestamp).transpose()?,
        })
    }

    async fn unread(
        &self,
        account: &Account,
        hidden: &[Account],
        read_seq: i64,
        since: Option<Timestamp>,
    ) -> Result<u64, StoreError> {
        let mut query = unread(account, hidden, read_seq, since);
        let count: i64 = query.build_query_scalar().fetch_one(self.database.reader()).await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    async fn unread_likes(
        &self,
        account: &Account,
        hidden: &[Account],
        date: i64,
        read_seq: i64,
        since: Option<Timestamp>,
    ) -> Result<u64, StoreError> {
        let mut query = unread(account, hidden, read_seq, since);
        query
            .push(" AND topic = ")
            .push_bind(LIKE)
            .push(" AND data = ")
            .push_bind(stored_like(date));
        let count: i64 = query.build_query_scalar().fetch_one(self.database.reader()).await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    async fn viewed(&self, views: &[View]) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            for view in views {
                if let Some(authorized_at) = view.authorized_at {
                    if is_erased(&mut tx, [Some((&view.account, authorized_at)), None]).await? {
                        continue;
                    }
                    sqlx::query(
                        "INSERT INTO inbox_read (account, read_seq, read_at) VALUES (?, 0, ?)
                        ON CONFLICT (account) DO NOTHING",
                    )
                    .bind(view.account.as_str())
                    .bind(authorized_at.as_millisecond())
                    .execute(&mut *tx)
                    .await?;
                }
                sqlx::query("UPDATE inbox_read SET viewed_at = MAX(COALESCE(viewed_at, ?1), ?1) WHERE account = ?2")
                    .bind(view.at.as_millisecond())
                    .bind(view.account.as_str())
                    .execute(&mut *tx)
                    .await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }
}
