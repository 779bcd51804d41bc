//! Copies of reported messages.

use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use mongodb::bson::doc;
use sosohappy_events::types::ModerationOutcome;
use sosohappy_store::StoreError;
use sosohappy_store::mongo::ID_INDEX;

use super::MongoStore;
use super::documents::ids_of;
use super::fields::{HIDDEN_AT, MESSAGES, MODERATED_AT, ROOM_MESSAGES};
use super::indexes::index;
use crate::domain::{Erasure, MessageId};
use crate::store::reports::{Moderation, NewReport, Reportable, ReportedMessage, Reports};
use crate::store::{Rooms as _, Store as _};

/// `_id` (auth's number of the report), `reportedAt`; until the report is closed `accounts` (SHA-256 of both), `date`, `text`.
const REPORTED: &str = "reported_message";

impl MongoStore {
    pub(super) async fn make_report_indexes(&self) -> Result<(), StoreError> {
        let indexes = [
            index("reported_message_accounts", doc! { "accounts": 1 }),
            index("reported_message_reported_at", doc! { "reportedAt": 1 }),
        ];
        self.collection(REPORTED).create_indexes(indexes).await?;
        Ok(())
    }

    /// Deletes the copies of an account that has resigned: those of its messages and of those to it. After the messages.
    pub(super) async fn delete_reported(&self, erasure: &Erasure) -> Result<(), StoreError> {
        let copies = doc! {
            "accounts": erasure.account.fingerprint(),
            "reportedAt": { "$lte": erasure.until.as_millisecond() },
        };
        self.collection(REPORTED).delete_many(copies).await?;
        Ok(())
    }
}

#[async_trait]
impl Reports for MongoStore {
    async fn reportable(&self, id: &MessageId) -> Result<Option<Reportable>, StoreError> {
        if let Some(stored) = self.message(id).await? {
            return Ok(Some(Reportable::Direct(stored)));
        }
        let Some(message) = self.room_message(id).await? else {
            return Ok(None);
        };
        let Some(room) = self.room(&message.room).await? else {
            return Ok(None);
        };
        Ok(Some(Reportable::InRoom {
            members: room.viewers(message.number).cloned().collect(),
            former: self.former_viewers(&message).await?,
            message,
        }))
    }

    async fn keep_reported(&self, report: &NewReport) -> Result<bool, StoreError> {
        let message = self.reportable(&report.message).await?;
        let Some((date, text)) = message.and_then(|message| report.copy_of(message)) else {
            return Ok(false);
        };
        let accounts = [report.author.fingerprint(), report.reporter.fingerprint()];
        let copy = doc! {
            "_id": report.report,
            "accounts": accounts.as_slice(),
            "date": i64::from(date),
            "text": text.as_str(),
            "reportedAt": report.at.as_millisecond(),
        };
        let inserted = self.collection(REPORTED).insert_one(copy).await;
        match inserted.map_err(StoreError::from) {
            Ok(_) => {}
            // Delivered again, or closed before.
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX => {}
            Err(error) => return Err(error),
        }
        // A resignation that crosses this deletes the message, then the copies: this one was made too late for it if the message is gone now.
        if self.reportable(&report.message).await?.is_none() {
            self.close_reported(report.report, report.at).await?;
            return Ok(false);
        }
        Ok(true)
    }

    async fn moderate(&self, moderation: &Moderation) -> Result<ModerationOutcome, StoreError> {
        let message = self.reportable(&moderation.message).await?;
        let messages = match message.filter(|message| moderation.is_about(message)) {
            Some(Reportable::Direct(_)) => self.collection(MESSAGES),
            Some(Reportable::InRoom { .. }) => self.collection(ROOM_MESSAGES),
            None => return Ok(ModerationOutcome::NotFound),
        };
        let at = moderation.at.as_millisecond();
        let not_later = doc! {
            "_id": ids_of([&moderation.message]),
            "$or": [{ MODERATED_AT: null }, { MODERATED_AT: { "$lte": at } }],
        };
        // A hidden message gets no push.
        let update = if moderation.hidden {
            doc! { "$set": { HIDDEN_AT: at, MODERATED_AT: at }, "$unset": { "pushDueAt": "" } }
        } else {
            doc! { "$set": { MODERATED_AT: at }, "$unset": { HIDDEN_AT: "" } }
        };
        if messages.update_one(not_later, update).await?.matched_count > 0 {
            return Ok(ModerationOutcome::Applied);
        }
        // A later decision is known, or the message was deleted meanwhile.
        let present = messages.find_one(doc! { "_id": ids_of([&moderation.message]) }).await?;
        Ok(present.map_or(ModerationOutcome::NotFound, |present| {
            ModerationOutcome::in_force(present.contains_key(HIDDEN_AT), moderation.hidden)
        }))
    }

    async fn close_reported(&self, report: i64, at: Timestamp) -> Result<(), StoreError> {
        let closed = doc! {
            "$setOnInsert": { "reportedAt": at.as_millisecond() },
            "$unset": { "accounts": "", "date": "", "text": "" },
        };
        let closed = self
            .collection(REPORTED)
            .update_one(doc! { "_id": report }, closed)
            .upsert(true)
            .await;
        match closed.map_err(StoreError::from) {
            Ok(_) => Ok(()),
            // Another replica has made the document meanwhile.
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX => {
                Err(StoreError::Retry(anyhow::anyhow!("the report is being closed")))
            }
            Err(error) => Err(error),
        }
    }

    async fn reported(&self, report: i64) -> Result<Option<ReportedMessage>, StoreError> {
        let open = doc! { "_id": report, "text": { "$ne": null } };
        let Some(found) = self.collection(REPORTED).find_one(open).await? else {
            return Ok(None);
        };
        let read = || -> anyhow::Result<ReportedMessage> {
            Ok(ReportedMessage {
                text: found.get_str("text")?.to_owned(),
                date: found.get_i64("date")?,
            })
        };
        read()
            .context("a reported message in the database is not one")
            .map_err(StoreError::Corrupt)
            .map(Some)
    }

    async fn forget_reported(&self, before: Timestamp) -> Result<(), StoreError> {
        self.collection(REPORTED)
            .delete_many(doc! { "reportedAt": { "$lt": before.as_millisecond() } })
            .await?;
        Ok(())
    }
}
