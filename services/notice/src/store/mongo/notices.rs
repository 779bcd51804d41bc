use async_trait::async_trait;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_events::EventId;
use sosohappy_store::mongo::ID_INDEX;
use sosohappy_store::{StoreError, retrying};

use super::{MongoStore, NOTICES, PUSHES, WITHDRAWALS, number};
use crate::domain::Notice;
use crate::store::{Added, Notices, Pushes as _, next_seq, timestamp};

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
        if self.is_withdrawn(notice.event, notice.occurred_at).await? {
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
        let (id, at) = (notice.to_string(), at.as_millisecond());
        let mark = doc! { "$max": { "withdrawn_until": at }, "$set": { "stored_at": now.as_millisecond() } };
        self.upsert(WITHDRAWALS, doc! { "_id": &id }, mark).await?;
        let up_to = doc! { "$lte": at };
        self.collection(NOTICES)
            .update_one(
                doc! { "_id": &id, "occurred_at": up_to.clone() },
                doc! { "$set": { "withdrawn": true } },
            )
            .await?;
        self.collection(PUSHES)
            .delete_one(doc! { "_id": &id, "occurred_at": up_to, "due_at": { "$exists": true } })
            .await?;
        Ok(())
    }
}

/// The update that leaves only the number of a notice of a resigned actor.
pub(super) fn erased() -> Document {
    doc! { "$set": { "withdrawn": true, "data": "{}" }, "$unset": { "actor": "" } }
}

impl MongoStore {
    pub(super) async fn is_withdrawn(&self, notice: EventId, occurred_at: Timestamp) -> Result<bool, StoreError> {
        let withdrawn = doc! {
            "_id": notice.to_string(),
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
        if self.is_withdrawn(notice.event, notice.occurred_at).await? {
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
