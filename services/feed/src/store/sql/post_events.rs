//! The events on the topic `post`, written in the transaction of the change.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::{PostChange, PostChanged};
use sosohappy_events::{Envelope, Outgoing};
use sosohappy_store::StoreError;
use sqlx::Row as _;

use super::{BATCH, Query, Row, SqlStore, account, date, engine, visibility};
use crate::domain::{Visibility, Writer};
use crate::store::WriteError;

/// The fields of an event beside the state of the post.
#[derive(Debug)]
pub(super) struct Told<'a> {
    pub(super) change: PostChange,
    pub(super) actor: Option<&'a Account>,
    pub(super) comment: Option<i64>,
}

impl From<PostChange> for Told<'_> {
    fn from(change: PostChange) -> Self {
        Self {
            change,
            actor: None,
            comment: None,
        }
    }
}

impl SqlStore {
    /// Publishes what happened to these posts, with their present state. The caller has locked them, so that events of one post are
    /// published in the order of its changes; it calls this after a change, and before a deletion.
    pub(super) async fn tell(
        &self,
        tx: &mut engine::Tx,
        posts: &[i64],
        told: &Told<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for batch in posts.chunks(BATCH) {
            let states = advance(tx, batch).await?;
            self.publish(tx, states, told, now).await?;
        }
        Ok(())
    }

    /// As [`SqlStore::tell`], of a post whose next revision the caller has stored with the change.
    pub(super) async fn tell_advanced(
        &self,
        tx: &mut engine::Tx,
        post: i64,
        told: &Told<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let states = states(tx, &[post]).await?;
        self.publish(tx, states, told, now).await
    }

    async fn publish(
        &self,
        tx: &mut engine::Tx,
        states: Vec<PostChanged>,
        told: &Told<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let records: Vec<_> = states
            .into_iter()
            .map(|state| {
                let event = PostChanged {
                    change: told.change,
                    actor: told.actor.cloned(),
                    comment: told.comment,
                    ..state
                };
                Envelope::new(event, &self.context).to_outgoing()
            })
            .collect();
        engine::enqueue_all(tx, &records, now).await
    }

    /// Stores the counts of a post that the caller has locked with its next revision, and writes an event of this state and a notice, if there is
    /// one, in one statement: people wait for each. Called after the mark or comment of the actor, which `weight` was added for. Refuses a writer
    /// whose token is from before the last resignation of the account, and is to be retried where the actor was suspended or restored since the
    /// weight was read: a recount then may not have seen what was written.
    pub(super) async fn publish_counted(
        &self,
        tx: &mut engine::Tx,
        state: PostChanged,
        weight: i64,
        writer: Option<&Writer>,
        notice: Option<Outgoing>,
        now: Timestamp,
    ) -> Result<(), WriteError> {
        let revision = state.revision + 1;
        let mut query = Query::new("UPDATE post SET revision = ");
        query.push_bind(revision).push(", likes = ").push_bind(state.likes);
        query.push(", comments = ").push_bind(state.comments);
        query.push(" WHERE id = ").push_bind(state.post);
        if let Some(actor) = &state.actor {
            query.push(" AND (SELECT COUNT(*) FROM account_state a WHERE a.suspended = 1 AND a.account = ");
            query.push_bind(actor.as_str()).push(") = ").push_bind(1 - weight);
        }
        if let Some(writer) = writer {
            engine::erased_accounts::push_not_erased(query.push(" AND "), &writer.account, writer.authorized_at);
        }
        let stored = query.build().execute(&mut **tx).await.map_err(StoreError::from)?;
        if stored.rows_affected() == 0 {
            if let Some(writer) = writer {
                super::still_here(tx, writer).await?;
            }
            return Err(StoreError::Retry(anyhow::anyhow!("the actor was suspended or restored meanwhile")).into());
        }
        let event = PostChanged { revision, ..state };
        let mut records: Vec<Outgoing> = notice.into_iter().collect();
        records.push(Envelope::new(event, &self.context).to_outgoing());
        Ok(engine::enqueue_all(tx, &records, now).await?)
    }

    /// As [`SqlStore::tell`], with an event for each account whose like or bookmark of a post was erased: `erased` has them in the order of
    /// the posts.
    pub(super) async fn tell_erased(
        &self,
        tx: &mut engine::Tx,
        erased: &[(i64, Account)],
        change: PostChange,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let posts: BTreeSet<i64> = erased.iter().map(|(post, _)| *post).collect();
        let posts: Vec<i64> = posts.into_iter().collect();
        for batch in posts.chunks(BATCH) {
            let states = advance(tx, batch).await?;
            let states: HashMap<i64, PostChanged> = states.into_iter().map(|state| (state.post, state)).collect();
            let records: Vec<Outgoing> = erased
                .iter()
                .filter_map(|(post, actor)| {
                    let event = PostChanged {
                        change,
                        actor: Some(actor.clone()),
                        ..states.get(post)?.clone()
                    };
                    Some(Envelope::new(event, &self.context).to_outgoing())
                })
                .collect();
            for records in records.chunks(BATCH) {
                engine::enqueue_all(tx, records, now).await?;
            }
        }
        Ok(())
    }
}

/// The columns of [`state`] of a post `q`, without its likes.
pub(super) const STATE: &str = "q.id, q.account, q.date, q.is_public, q.friend_date, q.comments, q.revision, \
    (SELECT COUNT(*) FROM post_bookmark m WHERE m.post_id = q.id) \
    - (SELECT COUNT(*) FROM post_bookmark m JOIN account_state a ON a.account = m.account \
    WHERE m.post_id = q.id AND a.suspended = 1) AS bookmarks, \
    (EXISTS (SELECT 1 FROM post_moderation h WHERE h.hidden = 1 AND h.post_id = q.id) \
    OR EXISTS (SELECT 1 FROM post_review r WHERE r.held = 1 AND r.post_id = q.id)) AS is_hidden";

/// Counts a change of these posts, which the caller has locked, and reads their state after it, in the order of their ids.
pub(super) async fn advance(tx: &mut engine::Tx, posts: &[i64]) -> Result<Vec<PostChanged>, StoreError> {
    let mut query = Query::new("UPDATE post SET revision = revision + 1 WHERE id IN ");
    push_ids(&mut query, posts);
    query.build().execute(&mut **tx).await?;
    states(tx, posts).await
}

/// Reads the state of these posts, which the caller has locked, as events without an actor, in the order of their ids.
async fn states(tx: &mut engine::Tx, posts: &[i64]) -> Result<Vec<PostChanged>, StoreError> {
    let mut query = Query::new("SELECT ");
    query.push(STATE).push(", q.likes FROM post q WHERE q.id IN ");
    push_ids(&mut query, posts);
    let rows = query.push(" ORDER BY q.id").build().fetch_all(&mut **tx).await?;
    rows.iter().map(state).collect()
}

pub(super) fn push_ids(query: &mut Query, ids: &[i64]) {
    query.push("(");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(*id);
    }
    query.push(")");
}

/// The state of a post as an event without an actor.
pub(super) fn state(row: &Row) -> Result<PostChanged, StoreError> {
    let visibility = visibility(row)?;
    let is_hidden: i64 = row.try_get("is_hidden")?;
    Ok(PostChanged {
        change: PostChange::Changed,
        author: account(row, "account")?,
        date: date(row)?.into(),
        post: row.try_get("id")?,
        is_public: visibility == Visibility::Public,
        is_for_friends: visibility == Visibility::Friends,
        is_hidden: is_hidden != 0,
        likes: row.try_get("likes")?,
        bookmarks: row.try_get("bookmarks")?,
        comments: row.try_get("comments")?,
        revision: row.try_get("revision")?,
        actor: None,
        comment: None,
    })
}
