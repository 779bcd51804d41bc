//! Notices in `MongoDB`. Each step is one atomic write of one document. Operations of several steps are written so that concurrent ones, and
//! those after a crash in between, have the same result.

mod devices;
mod erasure;
mod inbox;
mod marks;
mod messages;
mod notices;
mod preferences;
mod pushes;

use std::sync::Arc;

use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, IndexOptions};
use mongodb::{Collection, IndexModel};
use sosohappy_common::Context;
use sosohappy_store::StoreError;
use sosohappy_store::mongo::{Database, ID_INDEX};

use super::{Opened, broken};
use crate::settings::InboxSettings;

/// `_id` (notice), `account`, `seq`, `actor`, `topic`, `data`, `occurred_at`, `account_at`, `actor_at` (what a resignation of the account, or of the
/// actor, is compared with), `stored_at`, `withdrawn`.
const NOTICES: &str = "notice";
/// `_id` (account, session), `account`, `token`, `changed_at`, `language`, `platform`, `seen_at`, `authorized_at`.
const DEVICES: &str = "device";
/// `_id` (event), `account`, `token`, `actor`, `content`, `occurred_at`, `authorized_at`, `queued_at`, `due_at`, `attempts`, `sent` (push
/// tokens), `thread` (a digest), `taken` (by which take), `cause` (JSON).
const PUSHES: &str = "push";
/// `_id` (account, token, name), `account`, `token`, `name`, `event`, `occurred_at`.
const BANNERS: &str = "banner";
/// `_id` (event), `account`, `sender`, `occurred_at`, `authorized_at`, `unread` (the account, until the message was read or retracted). Of a message
/// in a room the `_id` is that of the member's push, and it has `room` and `number`.
const MESSAGES: &str = "message";
/// `_id` (account, sender), `account`, `sender`, `read_until` (event), `read_at`, `authorized_at`.
const MESSAGE_READS: &str = "message_read";
/// `_id` (account, room), `account`, `room`, `read_until` (number), `read_at`, `authorized_at`.
const ROOM_READS: &str = "room_read";
/// `_id` (account), `preferences` (JSON), `version`, `changed_at`.
const PREFERENCES: &str = "preference";
/// `_id` (account, kind, target), `account`, `kind`, `target`, `authorized_at`, `muted_at`.
const MUTES: &str = "mute";
/// `_id` (account), `read_seq`, `read_at`, `viewed_at`.
const READ: &str = "inbox_read";
/// `_id` (thread), `started_at`, `sent`.
const WINDOWS: &str = "push_window";
/// `_id` (notice, or the id of a post for all notices about it), `withdrawn_until`, `stored_at`.
const WITHDRAWALS: &str = "withdrawal";
/// `_id` (SHA-256 of the account), `erased_until`, `devices_forgotten_until`, `devices_listed_at`, `open_sessions` (JSON), `marked_at`,
/// `unclaimed` (the account, while there is something of it later than its resignation).
const MARKS: &str = "account_mark";
/// `_id` (the event of the resignation), `written_at`, `outbox`.
const RECEIPTS: &str = "receipt";
/// `_id` (`inbox`), `born_at`.
const BIRTHS: &str = "birth";

/// An index of [`PUSHES`] that a release before this one made.
const FORMER_INDEX: &str = "push_due_at";

#[derive(Debug)]
struct MongoStore {
    database: Database,
}

pub(super) async fn open(settings: &InboxSettings, context: &Context) -> Result<Opened, StoreError> {
    let store = MongoStore::open(settings, context, |_| ()).await?;
    store.database.spawn_sweeper(context);
    Ok(store.opened())
}

/// Opens a store with other options of the client and without background tasks, for a test that observes the commands.
#[cfg(test)]
pub(super) async fn open_with(
    settings: &InboxSettings,
    context: &Context,
    change: impl FnOnce(&mut ClientOptions) + Send,
) -> Result<Opened, StoreError> {
    Ok(MongoStore::open(settings, context, change).await?.opened())
}

impl MongoStore {
    async fn open(
        settings: &InboxSettings,
        context: &Context,
        change: impl FnOnce(&mut ClientOptions) + Send,
    ) -> Result<Self, StoreError> {
        let store = Self {
            database: Database::open_with(&settings.url, context, change).await?,
        };
        store.make_indexes().await?;
        Ok(store)
    }

    fn opened(self) -> Opened {
        Opened {
            outbox: self.database.outbox(&[RECEIPTS]),
            directory: self.database.directory(),
            store: Arc::new(self),
        }
    }

    fn collection(&self, name: &str) -> Collection<Document> {
        self.database.database().collection(name)
    }

    async fn make_indexes(&self) -> Result<(), StoreError> {
        let indexes = [
            (NOTICES, "notice_account_seq", doc! { "account": 1, "seq": 1 }),
            (
                NOTICES,
                "notice_account_occurred_at",
                doc! { "account": 1, "occurred_at": 1 },
            ),
            (NOTICES, "notice_actor", doc! { "actor": 1 }),
            (NOTICES, "notice_stored_at", doc! { "stored_at": 1 }),
            (DEVICES, "device_account", doc! { "account": 1 }),
            (DEVICES, "device_token", doc! { "token": 1 }),
            (DEVICES, "device_changed_at", doc! { "changed_at": 1 }),
            (PUSHES, "push_due", doc! { "due_at": 1, "occurred_at": 1 }),
            (PUSHES, "push_thread", doc! { "thread": 1, "due_at": 1 }),
            (WINDOWS, "push_window_started_at", doc! { "started_at": 1 }),
            (WITHDRAWALS, "withdrawal_stored_at", doc! { "stored_at": 1 }),
            (PUSHES, "push_account", doc! { "account": 1 }),
            (PUSHES, "push_actor", doc! { "actor": 1 }),
            (PUSHES, "push_queued_at", doc! { "queued_at": 1 }),
            (BANNERS, "banner_account", doc! { "account": 1, "occurred_at": 1 }),
            (BANNERS, "banner_occurred_at", doc! { "occurred_at": 1 }),
            (MESSAGES, "message_unread", doc! { "unread": 1, "sender": 1, "_id": 1 }),
            (
                MESSAGES,
                "message_unread_occurred_at",
                doc! { "unread": 1, "occurred_at": 1 },
            ),
            (MESSAGES, "message_account", doc! { "account": 1, "occurred_at": 1 }),
            (MESSAGES, "message_sender", doc! { "sender": 1, "occurred_at": 1 }),
            (MESSAGES, "message_occurred_at", doc! { "occurred_at": 1 }),
            (
                MESSAGES,
                "message_unread_room",
                doc! { "unread": 1, "room": 1, "number": 1 },
            ),
            (ROOM_READS, "room_read_room", doc! { "room": 1, "read_until": 1 }),
            (ROOM_READS, "room_read_account", doc! { "account": 1 }),
            (ROOM_READS, "room_read_read_at", doc! { "read_at": 1 }),
            (MESSAGE_READS, "message_read_account", doc! { "account": 1 }),
            (MESSAGE_READS, "message_read_sender", doc! { "sender": 1 }),
            (MESSAGE_READS, "message_read_read_at", doc! { "read_at": 1 }),
            (MUTES, "mute_account", doc! { "account": 1 }),
            (MUTES, "mute_target", doc! { "target": 1 }),
            (MARKS, "account_mark_marked_at", doc! { "marked_at": 1 }),
            (MARKS, "account_mark_unclaimed", doc! { "unclaimed": 1 }),
            (RECEIPTS, "receipt_written_at", doc! { "written_at": 1 }),
        ];
        for (collection, name, keys) in indexes {
            let options = IndexOptions::builder()
                .name(name.to_owned())
                .unique((name == notices::SEQUENCE).then_some(true))
                .build();
            self.collection(collection)
                .create_index(IndexModel::builder().keys(keys).options(options).build())
                .await?;
        }
        let pushes = self.collection(PUSHES);
        if pushes.list_index_names().await?.iter().any(|name| name == FORMER_INDEX) {
            // Another replica that starts at the same time may have dropped it; one that stays does no harm.
            let _ = pushes.drop_index(FORMER_INDEX).await;
        }
        Ok(())
    }

    /// Updates the document that fulfils the condition, inserts it if there is none of that `_id`, and leaves it unchanged otherwise: then the
    /// server tries to insert, which the unique `_id` forbids. Returns whether it was written.
    async fn upsert(&self, collection: &str, condition: Document, update: Document) -> Result<bool, StoreError> {
        let collection = self.collection(collection);
        let first = collection
            .update_one(condition.clone(), update.clone())
            .upsert(true)
            .await
            .map_err(StoreError::from);
        let written = match first {
            // Another replica inserted the document between the server's look-up and its insert.
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX => collection.update_one(condition, update).await?,
            other => other?,
        };
        Ok(written.matched_count > 0 || written.upserted_id.is_some())
    }
}

fn text<'a>(document: &'a Document, field: &str) -> Result<&'a str, StoreError> {
    document.get_str(field).map_err(|_| broken("a field is no text"))
}

fn number(document: &Document, field: &str) -> Result<i64, StoreError> {
    match document.get(field) {
        Some(mongodb::bson::Bson::Int64(number)) => Ok(*number),
        Some(mongodb::bson::Bson::Int32(number)) => Ok(i64::from(*number)),
        _ => Err(broken("a field is no number")),
    }
}
