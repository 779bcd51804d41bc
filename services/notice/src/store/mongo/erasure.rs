use std::collections::HashSet;

use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Document, doc};
use sosohappy_common::Account;
use sosohappy_store::mongo::{ID_INDEX, OUTBOX, outbox_field};
use sosohappy_store::{Ping, StoreError};

use super::{
    BANNERS, BIRTHS, DEVICES, MARKS, MESSAGE_READS, MESSAGES, MUTES, MongoStore, NOTICES, PREFERENCES, PUSHES, READ,
    RECEIPTS, ROOM_READS, WINDOWS, WITHDRAWALS, devices, notices::only_number, number, text,
};
use crate::domain::OWN_DOING;
use crate::store::{Erasure, Horizons, LATE, Store, broken, parse_account, timestamp};

#[async_trait]
impl Store for MongoStore {
    /// Writes the receipt last, under the `_id` of the resignation: everything is erased before it is published, whatever crash or second
    /// consumer comes in between.
    async fn erase(&self, erasure: &Erasure, now: Timestamp) -> Result<(), StoreError> {
        let event = doc! { "_id": erasure.event.to_string() };
        if self.collection(RECEIPTS).find_one(event.clone()).await?.is_none() {
            self.erase_all(&erasure.account, erasure.at).await?;
        }
        // Again too: a resignation is published again when its receipt has not arrived.
        let receipt = doc! {
            "$setOnInsert": { "written_at": now.as_millisecond() },
            "$set": { OUTBOX: outbox_field(&erasure.receipt) },
        };
        let written = self.collection(RECEIPTS).update_one(event, receipt).upsert(true).await;
        match written.map_err(StoreError::from) {
            Ok(_) => Ok(()),
            // Another consumer has written a receipt.
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn born(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let inbox = doc! { "_id": "inbox" };
        self.upsert(
            BIRTHS,
            inbox.clone(),
            doc! { "$setOnInsert": { "born_at": now.as_millisecond() } },
        )
        .await?;
        let born = self
            .collection(BIRTHS)
            .find_one(inbox)
            .await?
            .ok_or_else(|| broken("the birth is not there"))?;
        timestamp(number(&born, "born_at")?)
    }

    async fn sweep(&self, horizons: Horizons) -> Result<(), StoreError> {
        let memory = doc! { "$lt": horizons.memory.as_millisecond() };
        let unseen = doc! { "$lt": horizons.devices.as_millisecond() };
        for (collection, old) in [
            (
                NOTICES,
                doc! { "stored_at": { "$lt": horizons.notices.as_millisecond() } },
            ),
            (
                BANNERS,
                doc! { "occurred_at": { "$lt": horizons.notices.as_millisecond() } },
            ),
            (PUSHES, doc! { "queued_at": memory.clone() }),
            (WITHDRAWALS, doc! { "stored_at": memory.clone() }),
            (MESSAGES, doc! { "occurred_at": memory.clone(), "unread": null }),
            // A member who does not open a room leaves its messages unread.
            (
                MESSAGES,
                doc! {
                    "occurred_at": { "$lt": horizons.notices.as_millisecond() },
                    "room": { "$exists": true },
                },
            ),
            (MESSAGE_READS, doc! { "read_at": memory.clone() }),
            (ROOM_READS, doc! { "read_at": memory.clone() }),
            (
                WINDOWS,
                doc! { "started_at": { "$lt": horizons.windows.as_millisecond() } },
            ),
            // A device without a token is remembered as long: a list of auth may still have it.
            (
                DEVICES,
                doc! { "changed_at": unseen.clone(), "$or": [{ "seen_at": null }, { "seen_at": unseen }] },
            ),
            (MARKS, doc! { "marked_at": memory.clone() }),
            (RECEIPTS, doc! { "written_at": memory, OUTBOX: { "$exists": false } }),
        ] {
            self.collection(collection).delete_many(old).await?;
        }
        self.erase_gone(horizons.gone).await
    }
}

#[async_trait]
impl Ping for MongoStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}

/// Returns the condition on documents of an account, by that field, whose moment is not later than `at`. The first moment is missing where it is not
/// known, and where an earlier release has written the document: there the second counts.
fn up_to_moment(person: &str, account: &str, [first, second]: [&str; 2], at: i64) -> Document {
    let either = [
        doc! { first: { "$lte": at } },
        doc! { first: null, second: { "$lte": at } },
    ];
    doc! { person: account, "$or": either.as_slice() }
}

impl MongoStore {
    /// Deletes what others did in the hour after the resignation to accounts that resigned before that moment and have no name again.
    async fn erase_gone(&self, before: Timestamp) -> Result<(), StoreError> {
        let marks = self.collection(MARKS);
        let noted = doc! { "unclaimed": { "$gt": "" }, "erased_until": { "$lt": before.as_millisecond() } };
        let noted: Vec<Document> = marks.find(noted).await?.try_collect().await?;
        for mark in noted {
            let account = parse_account(text(&mark, "unclaimed")?)?;
            let until = number(&mark, "erased_until")?;
            let directory = self.database.directory();
            if directory.named_since(&account, timestamp(until)?).await?.is_none() {
                self.erase_late(&account, until).await?;
            }
            // Not after another resignation meanwhile.
            let noted = doc! { "_id": account.fingerprint(), "erased_until": until };
            let swept = doc! { "$unset": { "unclaimed": "" } };
            marks.update_one(noted, swept).await?;
        }
        Ok(())
    }

    async fn erase_late(&self, account: &Account, until: i64) -> Result<(), StoreError> {
        let account = account.as_str();
        let late = doc! { "$gt": until, "$lte": until + LATE };
        for (collection, of_others) in [
            (PUSHES, doc! { "account": account, "occurred_at": late.clone() }),
            (BANNERS, doc! { "account": account, "occurred_at": late.clone() }),
            (MESSAGES, doc! { "account": account, "occurred_at": late.clone() }),
            (MESSAGE_READS, doc! { "sender": account, "read_at": late.clone() }),
            (
                MUTES,
                doc! { "target": account, "kind": "conversation", "muted_at": late.clone() },
            ),
            (NOTICES, doc! { "account": account, "occurred_at": late.clone() }),
        ] {
            self.collection(collection).delete_many(of_others).await?;
        }
        let about = doc! {
            "actor": account,
            "topic": { "$in": OWN_DOING.as_slice() },
            "occurred_at": late,
        };
        self.collection(NOTICES).update_many(about, only_number()).await?;
        Ok(())
    }

    /// Erases an account up to that moment. It is unclaimed if something later is left.
    async fn erase_all(&self, erased: &Account, moment: Timestamp) -> Result<(), StoreError> {
        let (account, at) = (erased.as_str(), moment.as_millisecond());
        self.mark(erased, "erased_until", moment).await?;
        let up_to = doc! { "$lte": at };
        let received = doc! { "account": account, "occurred_at": up_to.clone() };
        let either = [
            received.clone(),
            up_to_moment("actor", account, ["authorized_at", "occurred_at"], at),
        ];
        self.collection(PUSHES)
            .delete_many(doc! { "$or": either.as_slice() })
            .await?;
        let either = [
            received,
            up_to_moment("sender", account, ["authorized_at", "occurred_at"], at),
        ];
        self.collection(MESSAGES)
            .delete_many(doc! { "$or": either.as_slice() })
            .await?;
        let read = up_to_moment("account", account, ["authorized_at", "read_at"], at);
        let either = [read.clone(), doc! { "sender": account, "read_at": up_to.clone() }];
        self.collection(MESSAGE_READS)
            .delete_many(doc! { "$or": either.as_slice() })
            .await?;
        self.collection(ROOM_READS).delete_many(read).await?;
        self.collection(READ)
            .delete_one(doc! { "_id": account, "read_at": up_to.clone() })
            .await?;
        self.collection(BANNERS)
            .delete_many(doc! { "account": account, "occurred_at": up_to.clone() })
            .await?;
        self.collection(PREFERENCES)
            .delete_one(doc! { "_id": account, "changed_at": up_to.clone() })
            .await?;
        let either = [
            doc! { "account": account, "authorized_at": up_to.clone() },
            doc! { "target": account, "kind": "conversation", "muted_at": up_to.clone() },
        ];
        self.collection(MUTES)
            .delete_many(doc! { "$or": either.as_slice() })
            .await?;
        let notices = self.collection(NOTICES);
        let received = up_to_moment("account", account, ["account_at", "occurred_at"], at);
        notices.delete_many(received).await?;
        let caused = up_to_moment("actor", account, ["actor_at", "occurred_at"], at);
        // Settled pushes have no account; a like of the next account of the address is another notice.
        let mut of_actor = notices.find(caused.clone()).projection(doc! { "_id": 1 }).await?;
        while let Some(notice) = of_actor.try_next().await? {
            self.collection(PUSHES)
                .delete_one(doc! { "_id": text(&notice, "_id")? })
                .await?;
        }
        // The number stays: the receiver's next notice gets another one.
        notices.update_many(caused, only_number()).await?;
        let mut devices = devices::authorized("$lte", at);
        devices.insert("account", account);
        self.collection(DEVICES).delete_many(devices).await?;
        self.database.directory().erase(erased, moment).await?;
        let left = [
            (NOTICES, doc! { "account": account }),
            (NOTICES, doc! { "actor": account }),
            (MESSAGES, doc! { "account": account }),
            (MESSAGES, doc! { "sender": account }),
            (MESSAGE_READS, doc! { "sender": account }),
            (MUTES, doc! { "target": account, "kind": "conversation" }),
        ];
        for (collection, later) in left {
            if self.collection(collection).find_one(later).await?.is_some() {
                return self.note_unclaimed(HashSet::from([erased])).await;
            }
        }
        Ok(())
    }
}
