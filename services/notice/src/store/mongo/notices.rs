use async_trait::async_trait;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_store::mongo::ID_INDEX;
use sosohappy_store::{StoreError, retrying};

use super::{MongoStore, NOTICES, number};
use crate::domain::Notice;
use crate::store::{Added, Notices, next_seq, timestamp};

/// The unique index over account and number.
pub(super) const SEQUENCE: &str = "notice_account_seq";

#[async_trait]
impl Notices for MongoStore {
    async fn add(&self, notice: &Notice, now: Timestamp) -> Result<Added, StoreError> {
        let added = retrying(|| self.insert(notice, now)).await?;
        let people = [Some(&notice.receiver), notice.content.actor()];
        if added != Added::Erased && self.is_erased(people, notice.occurred_at).await? {
            self.collection(NOTICES)
                .delete_one(doc! { "_id": notice.event.to_string() })
                .await?;
            return Ok(Added::Erased);
        }
        Ok(added)
    }
}

impl MongoStore {
    /// A number is taken by the unique index, and only when the one before it can be seen: who has seen a number has seen all
    /// below it.
    async fn insert(&self, notice: &Notice, now: Timestamp) -> Result<Added, StoreError> {
        let notices = self.collection(NOTICES);
        let id = notice.event.to_string();
        if let Some(known) = notices.find_one(doc! { "_id": &id }).await? {
            return kept(&known);
        }
        if self
            .is_erased([Some(&notice.receiver), notice.content.actor()], notice.occurred_at)
            .await?
        {
            return Ok(Added::Erased);
        }
        let account = notice.receiver.as_str();
        let last = notices
            .find_one(doc! { "account": account })
            .sort(doc! { "seq": -1 })
            .await?;
        let last = last.map(|last| number(&last, "seq")).transpose()?;
        let document = doc! {
            "_id": id,
            "account": account,
            "seq": next_seq(last, now),
            "actor": notice.content.actor().map(AsRef::as_ref),
            "topic": notice.content.topic(),
            "data": notice.content.stored(),
            "occurred_at": notice.occurred_at.as_millisecond(),
            "stored_at": now.as_millisecond(),
        };
        match notices.insert_one(&document).await.map_err(StoreError::from) {
            Ok(_) => kept(&document),
            // The same notice by another replica, or another notice of the same person: look again.
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX || rule == SEQUENCE => {
                Err(StoreError::Retry(anyhow::anyhow!("conflicts with {rule}")))
            }
            Err(error) => Err(error),
        }
    }
}

fn kept(notice: &Document) -> Result<Added, StoreError> {
    Ok(Added::Kept {
        seq: number(notice, "seq")?,
        stored_at: timestamp(number(notice, "stored_at")?)?,
    })
}
