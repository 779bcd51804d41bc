use std::collections::{BTreeMap, HashMap, HashSet};

use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use serde_json::json;
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::sqlite::{Engine, Tx};
use sosohappy_store::{StoreError, retrying};
use sqlx::QueryBuilder;

use super::inbox::{NEWEST, by_account};
use super::pushes::event;
use super::{SqliteStore, marks, push_events};
use crate::domain::{ABOUT_POSTS, Notice, post_id};
use crate::store::{Added, Notices, Subject, WITHDRAWN_AT_ONCE, is_about, latest, moments, next_seq, timestamp};

#[derive(sqlx::FromRow)]
struct Known {
    event_id: Vec<u8>,
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

    /// Returns whether the inbox has the notice as it is, or as it happened later.
    fn covers(&self, notice: &Notice) -> bool {
        !self.withdrawn && self.occurred_at >= notice.occurred_at.as_millisecond()
    }
}

fn find(notices: &[&Notice]) -> QueryBuilder<Engine> {
    let mut query = QueryBuilder::<Engine>::new(
        "SELECT event_id, seq, stored_at, occurred_at, withdrawn FROM notice WHERE event_id IN (",
    );
    push_events(&mut query, &ids(notices));
    query.push(")");
    query
}

fn ids(notices: &[&Notice]) -> Vec<EventId> {
    notices.iter().map(|notice| notice.event).collect()
}

fn by_event(rows: Vec<Known>) -> Result<HashMap<EventId, Known>, StoreError> {
    rows.into_iter()
        .map(|row| Ok((event(row.event_id.clone())?, row)))
        .collect()
}

#[async_trait]
impl Notices for SqliteStore {
    async fn add_all(&self, notices: &[&Notice], now: Timestamp) -> Result<Vec<Added>, StoreError> {
        // The second of the two who add them (a replica with a socket, and the group's consumer) needs no write lock.
        let rows = find(notices)
            .build_query_as::<Known>()
            .fetch_all(self.database.reader())
            .await?;
        let known = by_event(rows)?;
        let covered: Option<Vec<&Known>> = notices
            .iter()
            .map(|notice| known.get(&notice.event).filter(|known| known.covers(notice)))
            .collect();
        match covered {
            Some(covered) => covered.into_iter().map(Known::kept).collect(),
            None => retrying(|| self.insert_all(notices, now)).await,
        }
    }

    async fn withdraw_all(&self, withdrawn: &[(EventId, Timestamp)], now: Timestamp) -> Result<(), StoreError> {
        let latest = latest(withdrawn);
        if latest.is_empty() {
            return Ok(());
        }
        let ids: Vec<EventId> = latest.keys().copied().collect();
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            mark_withdrawn(&mut tx, &latest, now).await?;
            for statement in [
                "UPDATE notice SET withdrawn = 1
                WHERE occurred_at <= (SELECT withdrawn_until FROM withdrawal WHERE event_id = notice.event_id)
                AND event_id IN (",
                "DELETE FROM push WHERE due_at IS NOT NULL
                AND occurred_at <= (SELECT withdrawn_until FROM withdrawal WHERE event_id = push.event_id)
                AND event_id IN (",
            ] {
                let mut query = QueryBuilder::<Engine>::new(statement);
                push_events(&mut query, &ids);
                query.push(")").build().execute(&mut *tx).await?;
            }
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
            mark_withdrawn(&mut tx, &BTreeMap::from([(post, at)]), now).await?;
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
                .push(" AND occurred_at <= ")
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
                withdraw_of_post(&mut tx, notices, at).await?;
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

async fn mark_withdrawn(
    tx: &mut Tx,
    withdrawn: &BTreeMap<EventId, Timestamp>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut query = QueryBuilder::<Engine>::new("INSERT INTO withdrawal (event_id, withdrawn_until, stored_at) ");
    query.push_values(withdrawn, |mut row, (id, at)| {
        row.push_bind(id.0.as_bytes().to_vec())
            .push_bind(at.as_millisecond())
            .push_bind(now.as_millisecond());
    });
    query.push(
        " ON CONFLICT (event_id) DO UPDATE SET
            withdrawn_until = MAX(withdrawal.withdrawn_until, excluded.withdrawn_until),
            stored_at = excluded.stored_at",
    );
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Withdraws notices about a post that happened up to that moment, with what they say, and their pushes, also the settled ones: what happens later
/// under the same id is another notice, with a push of its own.
async fn withdraw_of_post(tx: &mut Tx, notices: &[EventId], at: Timestamp) -> Result<(), StoreError> {
    for statement in [
        "UPDATE notice SET withdrawn = 1, actor = NULL, data = '{}' WHERE occurred_at <= ",
        "DELETE FROM push WHERE occurred_at <= ",
    ] {
        let mut query = QueryBuilder::<Engine>::new(statement);
        query.push_bind(at.as_millisecond()).push(" AND event_id IN (");
        push_events(&mut query, notices);
        query.push(")").build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// A notice that is written under a number.
struct Numbered<'a> {
    notice: &'a Notice,
    seq: i64,
    stored_at: Timestamp,
}

impl SqliteStore {
    async fn insert_all(&self, notices: &[&Notice], now: Timestamp) -> Result<Vec<Added>, StoreError> {
        // As it is stored.
        let now = timestamp(now.as_millisecond())?;
        let mut tx = self.database.begin().await?;
        let known = by_event(find(notices).build_query_as::<Known>().fetch_all(&mut *tx).await?)?;
        let subjects: Vec<Subject<'_>> = notices.iter().map(|notice| Subject::from(*notice)).collect();
        let marks = marks(&mut tx, &subjects).await?;
        let settled = settled(&mut tx, &known).await?;
        let mut last = newest(&mut tx, notices).await?;
        let (mut written, mut again) = (Vec::new(), Vec::new());
        let mut added = Vec::with_capacity(notices.len());
        for (notice, subject) in notices.iter().zip(&subjects) {
            let known = known.get(&notice.event);
            if let Some(known) = known.filter(|known| !known.withdrawn) {
                if !known.covers(notice) {
                    again.push(*notice);
                }
                added.push(known.kept()?);
                continue;
            }
            if let Some(excluded) = marks.exclusion(subject) {
                added.push(excluded);
                continue;
            }
            let (seq, stored_at) = match known {
                Some(known) if settled.contains(&notice.event) => (known.seq, timestamp(known.stored_at)?),
                _ => {
                    let seq = next_seq(last.get(&notice.receiver).copied(), now);
                    last.insert(notice.receiver.clone(), seq);
                    (seq, now)
                }
            };
            written.push(Numbered { notice, seq, stored_at });
            added.push(Added::Kept { seq, stored_at });
        }
        write(&mut tx, &written).await?;
        note_later(&mut tx, &again).await?;
        tx.commit().await?;
        Ok(added)
    }
}

/// Returns the highest number of each receiver's inbox.
async fn newest(tx: &mut Tx, notices: &[&Notice]) -> Result<HashMap<Account, i64>, StoreError> {
    let receivers: HashSet<&str> = notices.iter().map(|notice| notice.receiver.as_str()).collect();
    let rows = sqlx::query_as(NEWEST)
        .bind(json!(receivers).to_string())
        .fetch_all(&mut **tx)
        .await?;
    by_account(rows)
}

/// Writes notices that are new or come back.
async fn write(tx: &mut Tx, notices: &[Numbered<'_>]) -> Result<(), StoreError> {
    if notices.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Engine>::new(
        "INSERT INTO notice (event_id, account, seq, actor, topic, data, occurred_at, account_at, actor_at, stored_at) ",
    );
    query.push_values(notices, |mut row, Numbered { notice, seq, stored_at }| {
        let [account_at, actor_at] = moments(notice);
        row.push_bind(notice.event.0.as_bytes().to_vec())
            .push_bind(notice.receiver.as_str().to_owned())
            .push_bind(*seq)
            .push_bind(notice.content.actor().map(|actor| actor.as_str().to_owned()))
            .push_bind(notice.content.topic().to_owned())
            .push_bind(notice.content.stored())
            .push_bind(notice.occurred_at.as_millisecond())
            .push_bind(account_at)
            .push_bind(actor_at)
            .push_bind(stored_at.as_millisecond());
    });
    query.push(
        " ON CONFLICT (event_id) DO UPDATE SET
            seq = excluded.seq, actor = excluded.actor, topic = excluded.topic, data = excluded.data,
            occurred_at = excluded.occurred_at, account_at = excluded.account_at, actor_at = excluded.actor_at,
            stored_at = excluded.stored_at, withdrawn = 0",
    );
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Notes that known notices happened again: a withdrawal from in between no longer counts.
async fn note_later(tx: &mut Tx, notices: &[&Notice]) -> Result<(), StoreError> {
    if notices.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::<Engine>::new("WITH later (id, happened_at, account_at, actor_at) AS (");
    query.push_values(notices, |mut row, notice| {
        let [account_at, actor_at] = moments(notice);
        row.push_bind(notice.event.0.as_bytes().to_vec())
            .push_bind(notice.occurred_at.as_millisecond())
            .push_bind(account_at)
            .push_bind(actor_at);
    });
    query.push(
        ") UPDATE notice SET occurred_at = MAX(occurred_at, later.happened_at),
            account_at = MAX(COALESCE(notice.account_at, later.account_at), later.account_at),
            actor_at = MAX(COALESCE(notice.actor_at, later.actor_at), later.actor_at)
        FROM later WHERE event_id = later.id",
    );
    query.build().execute(&mut **tx).await?;
    Ok(())
}

/// Returns which of the withdrawn notices were shown or pushed.
async fn settled(tx: &mut Tx, known: &HashMap<EventId, Known>) -> Result<HashSet<EventId>, StoreError> {
    let withdrawn = known.iter().filter(|(_, known)| known.withdrawn);
    let ids: Vec<EventId> = withdrawn.map(|(id, _)| *id).collect();
    if ids.is_empty() {
        return Ok(HashSet::new());
    }
    let mut query = QueryBuilder::<Engine>::new("SELECT event_id FROM push WHERE due_at IS NULL AND event_id IN (");
    push_events(&mut query, &ids);
    let found: Vec<Vec<u8>> = query.push(")").build_query_scalar().fetch_all(&mut **tx).await?;
    found.into_iter().map(event).collect()
}
