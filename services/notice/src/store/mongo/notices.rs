use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_common::Account;
use sosohappy_events::EventId;
use sosohappy_store::mongo::ID_INDEX;
use sosohappy_store::{StoreError, retrying};

use super::pushes::optional;
use super::{MongoStore, NOTICES, PUSHES, WITHDRAWALS, number, text};
use crate::domain::{ABOUT_POSTS, Notice, post_id};
use crate::store::{Added, Notices, Pushes as _, WITHDRAWN_AT_ONCE, WithdrawnPushes, is_about, next_seq, timestamp};

/// The unique index over account and number.
pub(super) const SEQUENCE: &str = "notice_account_seq";

#[async_trait]
impl Notices for MongoStore {
    async fn add(&self, notice: &Notice, now: Timestamp) -> Result<Added, StoreError> {
        let added = retrying(|| self.insert(notice, now)).await?;
        if !matches!(added, Added::Kept { .. }) {
            return Ok(added);
        }
        // An erasure or withdrawal marks first: either the mark is seen here, or the notice is seen there.
        let notices = self.collection(NOTICES);
        let id = notice.event.to_string();
        if self.is_withdrawn(&notice.withdrawal_ids(), notice.occurred_at).await? {
            let up_to = doc! { "$lte": notice.occurred_at.as_millisecond() };
            notices
                .update_one(
                    doc! { "_id": &id, "occurred_at": up_to },
                    doc! { "$set": { "withdrawn": true } },
                )
                .await?;
            return Ok(Added::Withdrawn);
        }
        let people = [Some(&notice.receiver), notice.content.actor()];
        if self.is_erased(people, notice.occurred_at).await? {
            let up_to = doc! { "$lte": notice.occurred_at.as_millisecond() };
            notices
                .update_one(doc! { "_id": &id, "occurred_at": up_to }, erased())
                .await?;
            return Ok(Added::Erased);
        }
        Ok(added)
    }

    /// The mark comes first: a notice or push that is added meanwhile finds it.
    async fn withdraw(&self, notice: EventId, at: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        self.mark_withdrawn(notice, at, now).await?;
        self.withdraw_all(&[notice.to_string()], at, WithdrawnPushes::Waiting)
            .await
    }

    /// As above: a notice that is added while the inbox is read finds the mark.
    async fn withdraw_post(
        &self,
        author: &Account,
        date: i64,
        at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let post = post_id(author, date);
        self.mark_withdrawn(post, at, now).await?;
        let mut notices = Vec::new();
        // Two reads, each by its own index.
        for person in ["account", "actor"] {
            let about_posts = doc! {
                person: author.as_str(),
                "withdrawn": { "$ne": true },
                "occurred_at": { "$lte": at.as_millisecond() },
                "topic": { "$in": ABOUT_POSTS.as_slice() },
            };
            let mut found = self
                .collection(NOTICES)
                .find(about_posts)
                .projection(doc! { "account": 1, "actor": 1, "topic": 1, "data": 1 })
                .await?;
            while let Some(notice) = found.try_next().await? {
                let (account, actor) = (text(&notice, "account")?, optional(&notice, "actor"));
                let (topic, content) = (text(&notice, "topic")?, text(&notice, "data")?);
                if is_about(post, account, actor.as_deref(), topic, content) {
                    notices.push(text(&notice, "_id")?.to_owned());
                }
            }
        }
        for notices in notices.chunks(WITHDRAWN_AT_ONCE) {
            self.withdraw_all(notices, at, WithdrawnPushes::All).await?;
        }
        Ok(())
    }
}

/// The update that leaves only the number of a notice of a resigned actor.
pub(super) fn erased() -> Document {
    doc! { "$set": { "withdrawn": true, "data": "{}" }, "$unset": { "actor": "" } }
}

impl MongoStore {
    async fn mark_withdrawn(&self, id: EventId, at: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let mark = doc! {
            "$max": { "withdrawn_until": at.as_millisecond() },
            "$set": { "stored_at": now.as_millisecond() },
        };
        self.upsert(WITHDRAWALS, doc! { "_id": id.to_string() }, mark).await?;
        Ok(())
    }

    /// Withdraws the notices that happened up to that moment, with these of their pushes. The pushes go first: after a crash between the two
    /// the repeated event finds the notices, and so the pushes, again.
    async fn withdraw_all(&self, notices: &[String], at: Timestamp, pushes: WithdrawnPushes) -> Result<(), StoreError> {
        let up_to = doc! { "_id": { "$in": notices }, "occurred_at": { "$lte": at.as_millisecond() } };
        let mut deleted = up_to.clone();
        if pushes == WithdrawnPushes::Waiting {
            deleted.insert("due_at", doc! { "$exists": true });
        }
        self.collection(PUSHES).delete_many(deleted).await?;
        self.collection(NOTICES)
            .update_many(up_to, doc! { "$set": { "withdrawn": true } })
            .await?;
        Ok(())
    }

    /// Returns whether one of these was withdrawn at that moment or later.
    pub(super) async fn is_withdrawn(&self, ids: &[EventId], occurred_at: Timestamp) -> Result<bool, StoreError> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let withdrawn = doc! {
            "_id": { "$in": ids },
            "withdrawn_until": { "$gte": occurred_at.as_millisecond() },
        };
        Ok(self.collection(WITHDRAWALS).find_one(withdrawn).await?.is_some())
    }

    /// A number is taken by the unique index, and only when the one before it can be seen: who has seen a number has seen all
    /// below it.
    async fn insert(&self, notice: &Notice, now: Timestamp) -> Result<Added, StoreError> {
        let notices = self.collection(NOTICES);
        let id = notice.event.to_string();
        let occurred_at = notice.occurred_at.as_millisecond();
        let known = notices.find_one(doc! { "_id": &id }).await?;
        if let Some(known) = &known
            && !is_marked_withdrawn(known)
        {
            if number(known, "occurred_at")? < occurred_at {
                // The same like again: a withdrawal from in between no longer counts.
                let later = doc! { "$max": { "occurred_at": occurred_at } };
                notices.update_one(doc! { "_id": &id }, later).await?;
            }
            return kept(known);
        }
        if self
            .is_erased([Some(&notice.receiver), notice.content.actor()], notice.occurred_at)
            .await?
        {
            return Ok(Added::Erased);
        }
        if self.is_withdrawn(&notice.withdrawal_ids(), notice.occurred_at).await? {
            return Ok(Added::Withdrawn);
        }
        let account = notice.receiver.as_str();
        let (seq, stored_at) = match &known {
            Some(known) if self.is_settled(notice.event).await? => (number(known, "seq")?, number(known, "stored_at")?),
            _ => {
                let last = notices
                    .find_one(doc! { "account": account })
                    .sort(doc! { "seq": -1 })
                    .await?;
                let last = last.map(|last| number(&last, "seq")).transpose()?;
                (next_seq(last, now), now.as_millisecond())
            }
        };
        let fields = doc! {
            "account": account,
            "seq": seq,
            "actor": notice.content.actor().map(AsRef::as_ref),
            "topic": notice.content.topic(),
            "data": notice.content.stored(),
            "occurred_at": occurred_at,
            "stored_at": stored_at,
        };
        let written = if let Some(known) = &known {
            // Only the state that was seen.
            let seen = doc! { "_id": &id, "withdrawn": true, "seq": number(known, "seq")? };
            let again = doc! { "$set": fields.clone(), "$unset": { "withdrawn": "" } };
            let updated = notices.update_one(seen, again).await;
            updated
                .map_err(StoreError::from)
                .and_then(|updated| match updated.matched_count {
                    0 => Err(StoreError::Retry(anyhow::anyhow!("the notice changed meanwhile"))),
                    _ => Ok(()),
                })
        } else {
            let mut document = doc! { "_id": id };
            document.extend(fields.clone());
            let inserted = notices.insert_one(document).await;
            inserted.map(|_| ()).map_err(StoreError::from)
        };
        match written {
            Ok(()) => kept(&fields),
            // The same notice by another replica, or another notice of the same person: look again.
            Err(error) => Err(error.retry_if_taken(&[ID_INDEX, SEQUENCE])),
        }
    }
}

fn is_marked_withdrawn(notice: &Document) -> bool {
    notice.get_bool("withdrawn").unwrap_or(false)
}

fn kept(notice: &Document) -> Result<Added, StoreError> {
    Ok(Added::Kept {
        seq: number(notice, "seq")?,
        stored_at: timestamp(number(notice, "stored_at")?)?,
    })
}
