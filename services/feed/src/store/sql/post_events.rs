//! The events on the topic `post`, written in the transaction of the change.

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::{PostChange, PostChanged};
use sosohappy_events::{Envelope, Outgoing};
use sosohappy_store::StoreError;
use sqlx::Row as _;

use super::{BATCH, Query, Row, SqlStore, account, date, engine, visibility};
use crate::domain::Visibility;

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
            let mut query =
                Query::new("SELECT id, account, date, is_public, friend_date, likes, comments FROM post WHERE id IN (");
            let mut ids = query.separated(", ");
            for post in batch {
                ids.push_bind(*post);
            }
            let rows = query
                .push(") ORDER BY id")
                .push(engine::FOR_UPDATE)
                .build()
                .fetch_all(&mut **tx)
                .await?;
            let records: Vec<_> = rows
                .iter()
                .map(|row| self.record(row, told))
                .collect::<Result<_, _>>()?;
            engine::enqueue_all(tx, &records, now).await?;
        }
        Ok(())
    }

    fn record(&self, row: &Row, told: &Told<'_>) -> Result<Outgoing, StoreError> {
        let visibility = visibility(row)?;
        let event = PostChanged {
            change: told.change,
            author: account(row, "account")?,
            date: date(row)?.into(),
            post: row.try_get("id")?,
            is_public: visibility == Visibility::Public,
            is_for_friends: visibility == Visibility::Friends,
            likes: row.try_get("likes")?,
            comments: row.try_get("comments")?,
            actor: told.actor.cloned(),
            comment: told.comment,
        };
        Ok(Envelope::new(event, &self.context).to_outgoing())
    }
}
