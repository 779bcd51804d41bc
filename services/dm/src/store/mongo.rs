//! Messages in MongoDB. A message is one document with its event in it.

mod changes;
mod documents;
mod fields;
mod indexes;
mod receipts;
mod reports;
mod requests;
mod rewriting;
mod room_messages;
mod rooms;
mod schedule;
mod settling;
mod stream;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::Collection;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use sosohappy_common::settings::SecretUrl;
use sosohappy_common::{Account, Context, crash_point};
use sosohappy_events::{Mixed, Outgoing};
use sosohappy_store::mongo::{Database, ID_INDEX, OUTBOX, outbox_field};
use sosohappy_store::{Ping, StoreError, retrying};

use super::{Newest, OnStored, Opened, Outcome, Range, Requests as _, Store, UnclaimedPage, WriteError, is_full};
use crate::domain::{
    Claim, ClientKey, ConversationId, Erasure, Message, MessageId, MessageText, NewMessage, Position, RepeatKey,
    RequestState, Stored, Undelivered,
};
use documents::{
    document, ids_of, is_id_of, legacy_document, message_of, stored_of, taken_over, timestamp, unclaimed,
    undelivered_of,
};
use fields::{
    CHANGES, CLIENT_KEY, HELD, HIDDEN_AT, MESSAGE_ID, MESSAGES, NEWEST_OF, NUMBER, PLACE, POSITION, REPEAT_KEY,
    ROOM_MESSAGES,
};
use indexes::{index, partial, sparse, unique};
use receipts::READS;
use requests::REQUEST_EVENTS;
use rewriting::MOVED;
use stream::{PLACE_INDEX, kept_frames, place};

/// One document an applied resignation, `_id` its event: keeps the receipt until it is published and the event from being applied
/// again.
const RESIGNATIONS: &str = "resignation";

/// `_id` (SHA-256 of the account), `erasedUntil`.
const ERASED: &str = "erased_account";

/// `_id` (SHA-256 of the account), `tokens`, `changedAt`: where a Spring notice pushes to.
const DEVICES: &str = "push_token";

/// `_id`: what was once true of this database. [`SPRING_DM`]; [`SETTLED`], once messages of earlier releases have [`NEWEST_OF`];
/// [`CREATORS_CLEARED`], once no room of an earlier release names a creator who is not in it.
const MARKERS: &str = "marker";
const SPRING_DM: &str = "spring-dm";
const SETTLED: &str = "settled";
const CREATORS_CLEARED: &str = "creators-cleared";

const REPEAT_KEY_INDEX: &str = "message_repeat_key";
const CLIENT_KEY_INDEX: &str = "message_client_key";
/// Indexes of earlier releases.
const FORMER_INDEXES: [&str; 3] = ["message_conversation", "message_newest", "message_latest"];

/// Texts of the updates of one command, in bytes, and their number: a command has to fit into 16 MiB.
const TEXT_BYTES: usize = 4 << 20;
const UPDATES: usize = 500;

/// Updates of messages, in as few commands as may be.
#[derive(Default)]
struct Batches(Vec<Batch>);

#[derive(Default)]
struct Batch {
    updates: Vec<Document>,
    text_bytes: usize,
}

impl Batches {
    fn push(&mut self, update: Document, text_bytes: usize) {
        let is_full = |batch: &Batch| batch.updates.len() >= UPDATES || batch.text_bytes + text_bytes > TEXT_BYTES;
        if self.0.last().is_none_or(is_full) {
            self.0.push(Batch::default());
        }
        if let Some(batch) = self.0.last_mut() {
            batch.updates.push(update);
            batch.text_bytes += text_bytes;
        }
    }
}

#[derive(Debug)]
struct MongoStore {
    database: Database,
    mixed: Mixed,
    /// Frames that are kept for each account.
    frames: i64,
    /// Once a Spring dm was here, new messages have an `ObjectId` for good: it may come back.
    object_ids: AtomicBool,
    /// Whether [`MARKERS`] says so.
    remembered: AtomicBool,
}

pub async fn open(url: &SecretUrl, frames: i64, mixed: &Mixed, context: &Context) -> Result<Opened, StoreError> {
    let database = Database::open(url, context).await?;
    let store = MongoStore {
        database: database.clone(),
        mixed: mixed.clone(),
        frames: kept_frames(frames),
        object_ids: AtomicBool::new(false),
        remembered: AtomicBool::new(false),
    };
    store.make_indexes().await?;
    store.fill_positions().await?;
    store.settle_all().await?;
    store.flag_unsettled(None).await?;
    store.finish_copies().await?;
    store.object_ids.store(store.had_spring_dm().await?, Ordering::Relaxed);
    database.spawn_sweeper(context);
    Ok(Opened {
        outbox: database.outbox(&[MESSAGES, RESIGNATIONS, CHANGES, READS, REQUEST_EVENTS, ROOM_MESSAGES]),
        directory: database.directory(),
        store: Arc::new(store),
    })
}

impl MongoStore {
    fn collection(&self, name: &str) -> Collection<Document> {
        self.database.database().collection(name)
    }

    /// Whether a Spring dm was here while this database had a service of ours.
    async fn had_spring_dm(&self) -> Result<bool, StoreError> {
        let marker = self.collection(MARKERS).find_one(doc! { "_id": SPRING_DM }).await?;
        Ok(marker.is_some())
    }

    async fn remember_spring_dm(&self) -> Result<(), StoreError> {
        if !self.remembered.load(Ordering::Relaxed) {
            let marker = self.collection(MARKERS);
            let known = doc! { "$set": { "known": true } };
            marker.update_one(doc! { "_id": SPRING_DM }, known).upsert(true).await?;
            self.remembered.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn writes_object_ids(&self) -> bool {
        if self.mixed.stores_object_ids() {
            self.object_ids.store(true, Ordering::Relaxed);
        }
        self.object_ids.load(Ordering::Relaxed)
    }

    async fn make_indexes(&self) -> Result<(), StoreError> {
        let messages = [
            index("message_position", doc! { "conversation": 1, POSITION: -1 }),
            index("message_date", doc! { "conversation": 1, "date": 1, POSITION: 1 }),
            index("message_accounts", doc! { "accounts": 1 }),
            index("message_newest_of", doc! { NEWEST_OF: 1, POSITION: -1 }),
            index("message_sent", doc! { "from": 1, POSITION: -1 }),
            index("message_own", doc! { "accounts": 1, POSITION: -1 }),
            sparse("message_moved", doc! { MOVED: 1 }),
            partial(
                "message_without_position",
                doc! { "conversation": 1 },
                doc! { POSITION: null },
            ),
        ];
        self.collection(MESSAGES).create_indexes(messages).await?;
        for former in self.collection(MESSAGES).list_index_names().await? {
            if FORMER_INDEXES.contains(&former.as_str()) {
                self.collection(MESSAGES).drop_index(former).await?;
            }
        }
        let due = sparse("message_push_due_at", doc! { "pushDueAt": 1 });
        self.collection(MESSAGES).create_index(due).await?;
        for (name, key) in [(REPEAT_KEY_INDEX, REPEAT_KEY), (CLIENT_KEY_INDEX, CLIENT_KEY)] {
            let repeats = unique(name, doc! { key: 1 });
            self.collection(MESSAGES).create_index(repeats).await?;
        }
        self.make_stream_indexes().await?;
        self.make_receipt_indexes().await?;
        self.make_change_indexes().await?;
        self.make_schedule_indexes().await?;
        self.make_request_indexes().await?;
        self.make_room_indexes().await?;
        self.make_report_indexes().await?;
        let erased = index("erased_account_erased_until", doc! { "erasedUntil": 1 });
        self.collection(ERASED).create_index(erased).await?;
        let resignations = index("resignation_applied_at", doc! { "appliedAt": 1 });
        self.collection(RESIGNATIONS).create_index(resignations).await?;
        Ok(())
    }

    /// Checks that the sender's token was issued after the sender's last resignation, and that the receiver has a name since the receiver's.
    async fn still_here(
        &self,
        sender: &Account,
        receiver: &Account,
        authorized_at: Timestamp,
    ) -> Result<(), WriteError> {
        let ids = [sender.fingerprint(), receiver.fingerprint()];
        let marks: Vec<Document> = self
            .collection(ERASED)
            .find(doc! { "_id": { "$in": ids.as_slice() } })
            .await
            .map_err(StoreError::from)?
            .try_collect()
            .await
            .map_err(StoreError::from)?;
        for mark in marks {
            let until = timestamp(&mark, "erasedUntil")?;
            let is_senders = mark.get_str("_id").is_ok_and(|id| id == ids[0]);
            if is_senders && authorized_at <= until {
                return Err(WriteError::Resigned);
            }
            if !is_senders && self.database.directory().named_since(receiver, until).await?.is_none() {
                return Err(WriteError::ReceiverResigned);
            }
        }
        Ok(())
    }

    /// Finds out whose key a message could not have, and frees it when that message is too old to count.
    async fn repeated(&self, message: &NewMessage, field: &str) -> Result<Repeat, StoreError> {
        let messages = self.collection(MESSAGES);
        let (key, window) = if field == CLIENT_KEY {
            (message.client_key.as_ref().map(ClientKey::as_str), ClientKey::WINDOW)
        } else {
            (message.repeat_key.as_ref().map(RepeatKey::as_str), RepeatKey::WINDOW)
        };
        let key = key.unwrap_or_default();
        let Some(known) = messages.find_one(doc! { field: key }).await? else {
            return Ok(Repeat::Free);
        };
        if known.get("_id").is_some_and(|id| is_id_of(&message.message.id, id)) {
            return Ok(Repeat::Itself);
        }
        let older = doc! {
            field: key,
            "storedAt": { "$lte": (message.stored_at - window).as_millisecond() },
        };
        let freed = messages.update_one(older, doc! { "$unset": { field: "" } }).await?;
        Ok(if freed.modified_count > 0 {
            Repeat::Free
        } else {
            Repeat::Another
        })
    }

    /// Idempotent: an update that was applied before changes nothing.
    async fn update_messages(&self, updates: Batches) -> Result<(), StoreError> {
        for batch in updates.0 {
            retrying(async || self.database.update_each(MESSAGES, batch.updates.clone()).await).await?;
        }
        Ok(())
    }

    async fn mark(&self, erasure: &Erasure) -> Result<(), StoreError> {
        let mark = doc! { "$max": { "erasedUntil": erasure.until.as_millisecond() } };
        retrying(async || {
            let erased = self.collection(ERASED);
            erased
                .update_one(doc! { "_id": erasure.account.fingerprint() }, mark.clone())
                .upsert(true)
                .await?;
            Ok(())
        })
        .await
    }

    async fn erase_messages(&self, erasure: &Erasure) -> Result<(), StoreError> {
        let (account, person) = (erasure.account.as_str(), erasure.account.fingerprint());
        let up_to = doc! { "$lte": erasure.until.as_millisecond() };
        let theirs = doc! {
            "accounts": &person,
            "$or": [
                { "from": &person, "storedAt": up_to.clone() },
                { "from": &person, "madeAt": up_to.clone() },
                { "receiverAccount": account, "storedAt": up_to },
            ],
        };
        self.delete_messages(MESSAGES, &theirs).await?;
        if !erasure.nickname.is_empty() {
            let either = [
                doc! { "sender": &erasure.nickname },
                doc! { "receiver": &erasure.nickname },
            ];
            let unclaimed = doc! { "conversation": null, "$or": either.as_slice() };
            self.collection(MESSAGES).delete_many(unclaimed).await?;
        }
        self.forget_requests(&person, erasure.until).await?;
        self.forget_rooms(erasure).await?;
        self.forget_watermarks(&person).await?;
        self.forget_scheduled(&person, account, erasure.until).await?;
        self.delete_reported(erasure).await?;
        self.delete_changes(&person, erasure.until.as_millisecond()).await?;
        self.delete_frames(&person).await
    }

    /// A message that cannot be read gets no push, so that it blocks none of the others.
    async fn give_up_push(&self, document: &Document, error: &StoreError) -> Result<(), StoreError> {
        let id = document.get("_id").cloned().unwrap_or(Bson::Null);
        tracing::error!(error = error as &dyn std::error::Error, %id, "message corrupt; push given up");
        let never = doc! { "$unset": { "pushDueAt": "" } };
        self.collection(MESSAGES).update_one(doc! { "_id": id }, never).await?;
        Ok(())
    }

    /// Deletes messages of a process that was killed between storing a message and its second look at resignations: those of the marked
    /// account, and those to it while the address has no nickname, which then is in no room either.
    async fn erase_leftovers(&self, mark: &Document, settled: Timestamp) -> Result<(), StoreError> {
        let person = mark
            .get_str("_id")
            .context("a mark has no account")
            .map_err(StoreError::Corrupt)?;
        let until = timestamp(mark, "erasedUntil")?;
        let sent = doc! { "accounts": person, "from": person, "madeAt": { "$lte": until.as_millisecond() } };
        self.delete_messages(MESSAGES, &sent).await?;
        self.sweep_scheduled(person, until).await?;
        self.sweep_person_in_rooms(person, until).await?;
        if until > settled {
            return Ok(());
        }
        self.leave_rooms_without_name(person, until, settled).await?;
        let either = [
            doc! { "accounts": person, "from": { "$ne": person } },
            doc! { HELD: person },
        ];
        let theirs = doc! { "$or": either.as_slice() };
        let Some(one) = self.collection(MESSAGES).find_one(theirs.clone()).await? else {
            return Ok(());
        };
        let receiver = message_of(&one)?.receiver.account;
        if self.database.directory().named_since(&receiver, until).await?.is_none() {
            self.delete_messages(MESSAGES, &theirs).await?;
        }
        Ok(())
    }
}

/// The owner of a repeat key that is taken.
enum Repeat {
    Another,
    /// An earlier attempt stored the message.
    Itself,
    /// It is free again.
    Free,
}

#[async_trait]
impl Store for MongoStore {
    /// A resignation that crosses this either marks the account before the second look, which then takes the message back, or looks for
    /// messages after it and finds this one. What a process leaves that is killed between the insert and the second look is swept.
    ///
    /// The same holds for a message that waits and the decision about its request: the second look lets the request be completed again. A
    /// message that does not wait takes the number after one that does only once that one is released, so that their frames have the order of
    /// their numbers.
    async fn keep(
        &self,
        message: &NewMessage,
        event: &Outgoing,
        on_stored: OnStored<'_>,
    ) -> Result<Outcome, WriteError> {
        let conversation = message.message.conversation();
        let (sender, receiver) = (&message.message.sender.account, &message.message.receiver.account);
        let still_here = || self.still_here(sender, receiver, message.authorized_at);
        let last = async { Ok::<_, WriteError>(self.last_of(&conversation).await?) };
        let ((), mut last) = futures::try_join!(still_here(), last)?;
        if message.is_held && !self.has_request(&conversation, RequestState::Pending).await? {
            return Err(WriteError::RequestDecided);
        }
        let mut document = document(message, event, self.writes_object_ids());
        let messages = self.collection(MESSAGES);
        loop {
            if let Some(last) = last.as_ref().filter(|last| last.id >= message.message.id) {
                return Err(WriteError::Behind(last.id.clone()));
            }
            if !message.is_held
                && last.as_ref().is_some_and(|last| last.is_held)
                && self.has_request(&conversation, RequestState::Accepted).await?
                && !self.held(&conversation, 1).await?.is_empty()
            {
                return Err(WriteError::Unreleased);
            }
            let number = last.as_ref().map_or(0, |last| last.number) + 1;
            document.insert(NUMBER, number);
            document.insert(PLACE, place(&conversation, number));
            match retrying(async || Ok::<_, StoreError>(messages.insert_one(&document).await?)).await {
                Ok(_) => break,
                // The id is ours alone: an earlier attempt did it.
                Err(StoreError::Conflict(rule)) if rule == ID_INDEX => break,
                Err(StoreError::Conflict(rule)) if rule == REPEAT_KEY_INDEX || rule == CLIENT_KEY_INDEX => {
                    let field = if rule == CLIENT_KEY_INDEX {
                        CLIENT_KEY
                    } else {
                        REPEAT_KEY
                    };
                    match self.repeated(message, field).await? {
                        Repeat::Another => return Ok(Outcome::Repeated),
                        Repeat::Itself => break,
                        Repeat::Free => {}
                    }
                }
                // Another message took the number, or an earlier attempt stored this one.
                Err(StoreError::Conflict(rule)) if rule == PLACE_INDEX => {
                    last = self.last_of(&conversation).await?;
                    if last.as_ref().is_some_and(|last| last.id == message.message.id) {
                        break;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        on_stored();
        let mut checked = still_here().await;
        if checked.is_ok() && message.is_held {
            checked = self
                .resume_request(conversation.as_str())
                .await
                .map_err(WriteError::from);
        }
        match checked {
            Ok(()) => Ok(Outcome::Stored),
            // It is stored: a client that got an error would send it again.
            Err(WriteError::Store(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "second check of stored message failed"
                );
                Ok(Outcome::Stored)
            }
            Err(refused) => {
                let ours = doc! { "_id": ids_of([&message.message.id]) };
                self.delete_messages(MESSAGES, &ours).await?;
                // The conversation may have been settled with it as its newest.
                self.settle_named(conversation.as_str()).await?;
                Err(refused)
            }
        }
    }

    async fn forget_repeat_keys(&self, now: Timestamp) -> Result<(), StoreError> {
        for (key, window) in [(REPEAT_KEY, RepeatKey::WINDOW), (CLIENT_KEY, ClientKey::WINDOW)] {
            let older = (now - window).as_millisecond();
            let known = doc! { key: { "$gt": "" }, "storedAt": { "$lte": older } };
            let forgotten = doc! { "$unset": { key: "" } };
            self.collection(MESSAGES).update_many(known, forgotten).await?;
        }
        self.forget_room_keys(now).await
    }

    async fn with_client_key(&self, key: &ClientKey, now: Timestamp) -> Result<Option<Stored>, StoreError> {
        let young = doc! { "$gt": (now - ClientKey::WINDOW).as_millisecond() };
        let known = doc! { CLIENT_KEY: key.as_str(), "storedAt": young };
        let found = self.collection(MESSAGES).find_one(known).await?;
        found.as_ref().map(stored_of).transpose()
    }

    async fn message(&self, id: &MessageId) -> Result<Option<Stored>, StoreError> {
        let owned = doc! { "_id": ids_of([id]), "conversation": { "$gt": "" } };
        let found = self.collection(MESSAGES).find_one(owned).await?;
        found.as_ref().map(stored_of).transpose()
    }

    async fn newest_within(
        &self,
        conversation: &ConversationId,
        viewer: &Account,
        range: &Range,
        limit: u32,
    ) -> Result<Vec<Stored>, StoreError> {
        let visible = [doc! { HELD: null }, doc! { "from": viewer.fingerprint() }];
        let mut wanted = doc! { "conversation": conversation.as_str(), "$or": visible.as_slice() };
        let mut positions = Document::new();
        if let Some(from) = &range.from {
            positions.insert("$gte", from.as_str());
        }
        if let Some(before) = &range.before {
            positions.insert("$lt", before.as_str());
        }
        if !positions.is_empty() {
            wanted.insert(POSITION, positions);
        }
        if let Some(date) = range.before_date {
            wanted.insert("date", doc! { "$lt": date });
        }
        let found: Vec<Document> = self
            .collection(MESSAGES)
            .find(wanted)
            .sort(doc! { POSITION: -1 })
            .limit(limit.into())
            .projection(doc! { OUTBOX: 0 })
            .await?
            .try_collect()
            .await?;
        let mut messages = found.iter().map(stored_of).collect::<Result<Vec<_>, _>>()?;
        // A message whose id is being rewritten may be there twice.
        let mut seen = HashSet::new();
        messages.retain(|stored| seen.insert(stored.message.id.clone()));
        Ok(messages)
    }

    async fn first_of_date(&self, conversation: &ConversationId, date: i64) -> Result<Option<Position>, StoreError> {
        let first = self
            .collection(MESSAGES)
            .find_one(doc! { "conversation": conversation.as_str(), "date": date, POSITION: { "$gt": "" } })
            .sort(doc! { POSITION: 1 })
            .projection(doc! { POSITION: 1 })
            .await?;
        let position = |first: Document| first.get_str(POSITION).map(|text| Position::stored(text.to_owned()));
        first
            .map(position)
            .transpose()
            .map_err(|error| StoreError::Corrupt(error.into()))
    }

    async fn newest(&self, account: &Account, before: Option<&Position>, limit: u32) -> Result<Newest, StoreError> {
        let mut wanted = doc! { NEWEST_OF: account.fingerprint() };
        if let Some(before) = before {
            wanted.insert(POSITION, doc! { "$lt": before.as_str() });
        }
        let found: Vec<Document> = self
            .collection(MESSAGES)
            .find(wanted)
            .sort(doc! { POSITION: -1 })
            .limit(limit.into())
            .batch_size(limit)
            .projection(doc! { OUTBOX: 0 })
            .await?
            .try_collect()
            .await?;
        let last = found.last().filter(|_| is_full(found.len(), limit));
        let next = last.and_then(|last| last.get_str(POSITION).ok());
        let next = next.map(|position| Position::stored(position.to_owned()));
        let mut messages = found.iter().map(stored_of).collect::<Result<Vec<_>, _>>()?;
        // Of a conversation that is not settled yet, the first is the newest.
        let mut seen = HashSet::new();
        messages.retain(|stored| seen.insert(stored.message.conversation()));
        Ok(Newest { messages, next })
    }

    async fn settle(&self, conversation: &ConversationId) -> Result<(), StoreError> {
        self.settle_named(conversation.as_str()).await
    }

    async fn waits(&self, message: &MessageId) -> Result<bool, StoreError> {
        let waiting = doc! { "_id": ids_of([message]), "deliveredAt": null };
        Ok(self.collection(MESSAGES).find_one(waiting).await?.is_some())
    }

    async fn undelivered(&self, now: Timestamp, limit: u32) -> Result<Vec<Undelivered>, StoreError> {
        let due = doc! { "pushDueAt": { "$lte": now.as_millisecond() }, OUTBOX: null };
        let found: Vec<Document> = self
            .collection(MESSAGES)
            .find(due)
            .sort(doc! { "pushDueAt": 1 })
            .limit(limit.into())
            .await?
            .try_collect()
            .await?;
        let mut undelivered = Vec::with_capacity(found.len());
        for document in &found {
            match undelivered_of(document) {
                Ok(found) => undelivered.push(found),
                Err(error) => self.give_up_push(document, &error).await?,
            }
        }
        Ok(undelivered)
    }

    /// Only after the message's first event has gone out: the relay, which takes the field away then, must not take this one.
    async fn push(&self, message: &MessageId, event: &Outgoing, _now: Timestamp) -> Result<(), StoreError> {
        let due = doc! { "_id": ids_of([message]), "pushDueAt": { "$gt": 0 }, OUTBOX: null };
        let out = doc! { "$set": { OUTBOX: outbox_field(event) }, "$unset": { "pushDueAt": "" } };
        self.collection(MESSAGES).update_one(due, out).await?;
        Ok(())
    }

    /// Step by step, each of which may be done again; the receipt is the last.
    async fn erase(&self, erasure: &Erasure, receipt: &Outgoing) -> Result<(), StoreError> {
        let resignations = self.collection(RESIGNATIONS);
        let applied = doc! { "_id": erasure.event.to_string() };
        if resignations.find_one(applied.clone()).await?.is_none() {
            self.mark(erasure).await?;
            let known = doc! {
                "_id": erasure.account.fingerprint(),
                "changedAt": { "$lte": erasure.until.as_millisecond() },
            };
            self.collection(DEVICES).delete_one(known).await?;
            self.erase_messages(erasure).await?;
            crash_point("dm.content-erased");
        }
        let written = doc! {
            "$setOnInsert": { "appliedAt": erasure.now.as_millisecond() },
            "$set": { OUTBOX: outbox_field(receipt) },
        };
        let written = resignations.update_one(applied, written).upsert(true).await;
        match written.map_err(StoreError::from) {
            Ok(_) => Ok(()),
            // Another replica was faster, with a receipt of its own.
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn sweep(&self, before: Timestamp, settled: Timestamp) -> Result<(), StoreError> {
        let before = before.as_millisecond();
        self.collection(ERASED)
            .delete_many(doc! { "erasedUntil": { "$lt": before } })
            .await?;
        let published = doc! { "appliedAt": { "$lt": before }, OUTBOX: null };
        self.collection(RESIGNATIONS).delete_many(published).await?;
        self.forget_reads(before).await?;
        self.forget_former_members(before).await?;
        self.sweep_request_events(before).await?;
        // One that fails keeps no resignation from being swept.
        let swept = [
            self.resume_requests().await,
            self.sweep_rooms(settled).await,
            self.clear_former_creators().await,
            self.flag_unsettled(Some(settled)).await,
        ];
        let mut failed = swept.into_iter().find_map(Result::err);
        let mut marks = self.collection(ERASED).find(doc! {}).await?;
        while let Some(mark) = marks.try_next().await? {
            match self.erase_leftovers(&mark, settled).await {
                // One that cannot be read keeps none of the others.
                Err(error @ StoreError::Corrupt(_)) => _ = failed.get_or_insert(error),
                swept => swept?,
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn unclaimed(&self, after: &MessageId, of: Option<&str>, limit: u32) -> Result<UnclaimedPage, StoreError> {
        // Only `ObjectId`s, which the legacy Spring services made, are greater; our own ids are texts.
        let after = ObjectId::parse_str(after.as_str()).unwrap_or_else(|_| ObjectId::from_bytes([0; 12]));
        let mut wanted = doc! { "_id": { "$gt": after }, "conversation": null };
        if let Some(nickname) = of {
            wanted.insert("$or", vec![doc! { "sender": nickname }, doc! { "receiver": nickname }]);
        }
        let found: Vec<Document> = self
            .collection(MESSAGES)
            .find(wanted)
            .sort(doc! { "_id": 1 })
            .limit(limit.into())
            .await?
            .try_collect()
            .await?;
        let last = found.last().and_then(|document| document.get_object_id("_id").ok());
        Ok(UnclaimedPage {
            is_full: is_full(found.len(), limit),
            messages: found.iter().filter_map(unclaimed).collect(),
            last: last.map(|id| MessageId::stored(id.to_hex())),
        })
    }

    async fn page(&self, after: &MessageId, limit: u32) -> Result<Vec<Message>, StoreError> {
        // An `ObjectId` made of an id has its order: a page of each kind, and the first of both.
        let after_made = after.object_id().map_or([0; 12], |id| id);
        let kinds = [
            doc! { "_id": { "$gt": after.as_str() }, HELD: null },
            doc! {
                "_id": { "$gt": ObjectId::from_bytes(after_made) },
                MESSAGE_ID: { "$gt": after.as_str() },
                HELD: null,
            },
            doc! {
                "_id": taken_over_after(after),
                MESSAGE_ID: null,
                "conversation": { "$gt": "" },
                HELD: null,
            },
        ];
        let mut page = Vec::new();
        for ours in kinds {
            let found: Vec<Document> = self
                .collection(MESSAGES)
                .find(ours)
                .sort(doc! { "_id": 1 })
                .limit(limit.into())
                .projection(doc! { OUTBOX: 0 })
                .await?
                .try_collect()
                .await?;
            for document in &found {
                let mut message = message_of(document)?;
                if document.contains_key(HIDDEN_AT) {
                    message.text = MessageText::stored(String::new());
                }
                page.push(message);
            }
        }
        page.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
        // Rewritten between the two reads.
        page.dedup_by(|one, other| one.id == other.id);
        page.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(page)
    }

    async fn owned(&self, ids: &[MessageId]) -> Result<HashSet<MessageId>, StoreError> {
        let ids: Vec<ObjectId> = ids
            .iter()
            .filter_map(|id| ObjectId::parse_str(id.as_str()).ok())
            .collect();
        let owned = doc! { "_id": { "$in": ids }, "conversation": { "$gt": "" } };
        let found: Vec<Document> = self
            .collection(MESSAGES)
            .find(owned)
            .projection(doc! { "_id": 1 })
            .await?
            .try_collect()
            .await?;
        let ids = found.iter().filter_map(|document| document.get_object_id("_id").ok());
        Ok(ids.map(|id| MessageId::stored(id.to_hex())).collect())
    }

    async fn take_over(&self, messages: &[Message], dry_run: bool) -> Result<HashSet<MessageId>, StoreError> {
        let people: HashSet<String> = messages
            .iter()
            .flat_map(|message| {
                [
                    message.sender.account.fingerprint(),
                    message.receiver.account.fingerprint(),
                ]
            })
            .collect();
        let people: Vec<String> = people.into_iter().collect();
        let marks: Vec<Document> = self
            .collection(ERASED)
            .find(doc! { "_id": { "$in": people } })
            .await?
            .try_collect()
            .await?;
        let mut erased = HashMap::new();
        for mark in &marks {
            erased.insert(
                mark.get_str("_id").unwrap_or_default().to_owned(),
                timestamp(mark, "erasedUntil")?,
            );
        }
        let mut refused = HashSet::new();
        let mut conversations = HashSet::new();
        let mut updates = Batches::default();
        for message in messages {
            let written = message.id.legacy_time().unwrap_or(Timestamp::UNIX_EPOCH);
            let resigned = [&message.sender.account, &message.receiver.account]
                .iter()
                .any(|account| {
                    erased
                        .get(&account.fingerprint())
                        .is_some_and(|until| written <= *until)
                });
            if resigned {
                refused.insert(message.id.clone());
                continue;
            }
            let Ok(id) = ObjectId::parse_str(message.id.as_str()) else {
                continue;
            };
            // A document of the same collection keeps its fields; in another one, all of them are new. One that was claimed meanwhile stays.
            let written = doc! {
                "$set": taken_over(&message.id, &message.sender.account, &message.receiver.account),
                "$setOnInsert": legacy_document(message),
            };
            let update = doc! { "q": { "_id": id, "conversation": null }, "u": written, "upsert": true };
            updates.push(update, message.text.as_str().len());
            conversations.insert(message.conversation());
        }
        if dry_run {
            return Ok(refused);
        }
        self.update_and_flag(updates, conversations).await?;
        Ok(refused)
    }

    async fn claim(&self, claims: &[Claim]) -> Result<(), StoreError> {
        let mut conversations = HashSet::new();
        let mut updates = Batches::default();
        for Claim { id, sender, receiver } in claims {
            let owned = taken_over(id, sender, receiver);
            let Ok(id) = ObjectId::parse_str(id.as_str()) else {
                continue;
            };
            updates.push(
                doc! { "q": { "_id": id, "conversation": null }, "u": { "$set": owned } },
                0,
            );
            conversations.insert(ConversationId::between(sender, receiver));
        }
        self.update_and_flag(updates, conversations).await
    }

    async fn set_devices(&self, account: &Account, tokens: &[String], at: Timestamp) -> Result<(), StoreError> {
        let at = at.as_millisecond();
        let older = doc! { "_id": account.fingerprint(), "changedAt": { "$lte": at } };
        let known = doc! { "$set": { "tokens": tokens, "changedAt": at } };
        let written = self.collection(DEVICES).update_one(older, known).upsert(true).await;
        match written.map_err(StoreError::from) {
            Ok(_) => Ok(()),
            // A newer list is there: the server tried to insert.
            Err(StoreError::Conflict(rule)) if rule == ID_INDEX => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn devices_of(&self, account: &Account) -> Result<Vec<String>, StoreError> {
        let found = self
            .collection(DEVICES)
            .find_one(doc! { "_id": account.fingerprint() })
            .await?;
        let Some(found) = found else { return Ok(Vec::new()) };
        let tokens = found
            .get_array("tokens")
            .map_err(|error| StoreError::Corrupt(error.into()))?;
        Ok(tokens
            .iter()
            .filter_map(|token| Some(token.as_str()?.to_owned()))
            .collect())
    }

    async fn fill_positions(&self) -> Result<(), StoreError> {
        self.fill_some_positions().await
    }

    async fn rewrite_ids(&self, holder: &str) -> Result<bool, StoreError> {
        self.rewrite_some_ids(holder).await
    }
}

#[async_trait]
impl Ping for MongoStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}

/// Returns the condition on the `_id` of messages of a Spring dm whose ids are after this one, as texts.
fn taken_over_after(after: &MessageId) -> Document {
    if let Ok(id) = ObjectId::parse_str(after.as_str()) {
        return doc! { "$gt": id };
    }
    // A UUID has eight digits before its first hyphen, which is less than any digit, and an `ObjectId` begins with as many for its second.
    let second = after.as_str().get(..8).unwrap_or_default();
    let mut least = [0; 12];
    least[..4].copy_from_slice(&u32::from_str_radix(second, 16).unwrap_or_default().to_be_bytes());
    doc! { "$gte": ObjectId::from_bytes(least) }
}

#[cfg(test)]
mod tests {
    use sosohappy_testkit::statements::Cost;
    use sosohappy_testkit::{Bed, Commands, EngineSet};

    use super::documents::owners;
    use super::fields::{UNREAD, unread};
    use super::stream::numbered;
    use super::*;
    use crate::SERVICE;
    use crate::domain::{
        Member, MessageDate, MessageIds, MessageState, NewRoomMessage, Party, Room, RoomMessage, RoomName,
    };
    use crate::events;
    use crate::store::{Posted, Receipts, RoomOutcome, Rooms as _, Streams as _};

    /// A store whose commands are observed.
    async fn observed(bed: &Bed, context: &Context) -> (MongoStore, Commands) {
        let commands = Commands::default();
        let observe = commands.handler();
        let url = bed.mongodb_url("dm").as_str().into();
        let database = Database::open_with(&url, context, |options| options.command_event_handler = Some(observe));
        let store = MongoStore {
            database: database.await.unwrap(),
            mixed: Mixed::none(),
            frames: 10_000,
            object_ids: AtomicBool::new(false),
            remembered: AtomicBool::new(false),
        };
        (store, commands)
    }

    fn account(name: &str) -> Account {
        format!("{name}@example.com+kakao").parse().unwrap()
    }

    /// A message of kim to lee, and its event. `client_id`: of a frame of version 2.
    fn new_message(context: &Context, ids: &MessageIds, client_id: Option<&str>) -> (NewMessage, Outgoing) {
        let party = |name: &str| Party {
            account: account(name),
            nickname: name.to_owned(),
        };
        let now = context.clock.now();
        let message = Message {
            id: ids.next(),
            sender: party("kim"),
            receiver: party("lee"),
            date: MessageDate::at(now),
            text: MessageText::stored("hello".to_owned()),
        };
        let event = events::sent(&message, now, false, None, context).to_outgoing();
        let message = NewMessage {
            message,
            repeat_key: None,
            client_key: client_id.map(|id| ClientKey::of(&account("kim"), id)),
            reply_to: None,
            authorized_at: now,
            stored_at: now,
            push_due: None,
            is_held: false,
        };
        (message, event)
    }

    /// The message is the first write, and acknowledged by a majority of servers before a socket or a topic has it: the relay reads its event
    /// from the same document, with the read concern of a majority.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_message_is_stored_by_a_majority() {
        if !EngineSet::real_is_there() {
            return;
        }
        let bed = Bed::new(EngineSet::Real).await;
        let context = bed.context(SERVICE);
        let (store, commands) = observed(&bed, &context).await;
        let (message, event) = new_message(&context, &MessageIds::new(&context), None);
        let (commands, outcome) = commands.documents_of(store.keep(&message, &event, &|| ())).await;
        assert_eq!(outcome.unwrap(), Outcome::Stored);
        let writes = commands.iter().filter(|(name, _)| name != "find");
        let writes: Vec<_> = writes
            .map(|(name, command)| {
                let concern = command.get_document("writeConcern").expect("a write concern");
                (name.as_str(), command.get_str(name).ok(), concern.get_str("w").ok())
            })
            .collect();
        assert_eq!(writes, [("insert", Some(MESSAGES), Some("majority"))]);
    }

    /// The commands of a message of version 2, from its storing to its frames at both people and the settling after it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn commands_of_a_message_are_counted() {
        if !EngineSet::real_is_there() {
            return;
        }
        let bed = Bed::new(EngineSet::Real).await;
        let context = bed.context(SERVICE);
        let (store, commands) = observed(&bed, &context).await;
        store.make_indexes().await.unwrap();
        let (kim, lee, ids) = (account("kim"), account("lee"), MessageIds::new(&context));
        let cost = |reads, writes| Cost { reads, writes };
        for (number, settled) in [(1_i64, cost(1, 0)), (2, cost(1, 1))] {
            let (message, event) = new_message(&context, &ids, Some(&number.to_string()));
            let woken = AtomicBool::new(false);
            let on_stored = || woken.store(true, Ordering::Relaxed);
            let (spent, outcome) = commands.cost_of("keep", store.keep(&message, &event, &on_stored)).await;
            assert_eq!(outcome.unwrap(), Outcome::Stored);
            assert!(woken.load(Ordering::Relaxed));
            // Resignations beside the last number, and once more; the message.
            assert_eq!(spent, cost(3, 1));
            let (spent, seq) = commands.cost_of("seq", store.seq_of(&kim, &message.message.id)).await;
            assert_eq!(seq.unwrap(), Some(number));
            // The message without a frame, the last frame; the frame, and that it is there.
            assert_eq!(spent, cost(2, 2));
            // Three side by side: what has no frame. Then the frames, behind which its own is inserted; as above. The frames and their messages.
            for (reader, expected) in [(&lee, cost(4, 2)), (&kim, cost(5, 0))] {
                let page = store.frames_after(reader, number - 1, 64);
                let (spent, page) = commands.cost_of("page", page).await;
                assert_eq!(page.unwrap().until, Some(number));
                assert_eq!(spent, expected);
            }
            let conversation = ConversationId::between(&kim, &lee);
            let (spent, outcome) = commands.cost_of("settle", store.settle(&conversation)).await;
            outcome.unwrap();
            assert_eq!(spent, settled);
        }
    }

    /// The commands of a message of a room, and of the page of a member with it, as above.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn commands_of_a_message_of_a_room_are_counted() {
        if !EngineSet::real_is_there() {
            return;
        }
        let bed = Bed::new(EngineSet::Real).await;
        let context = bed.context(SERVICE);
        let (store, commands) = observed(&bed, &context).await;
        store.make_indexes().await.unwrap();
        let (lee, now, ids) = (account("lee"), context.clock.now(), MessageIds::new(&context));
        let (message, event) = new_message(&context, &ids, None);
        let member = |name: &str| Member {
            account: account(name),
            joined_at: now,
            joined_after: 0,
            read: 0,
        };
        let room = Room {
            id: "room".to_owned(),
            name: RoomName::stored("room".to_owned()),
            creator: account("kim"),
            created_at: now,
            members: vec![member("kim"), member("lee")],
            last_number: 0,
        };
        assert_eq!(store.create_room(&room, now).await.unwrap(), RoomOutcome::Created);
        let mut last = None;
        for number in 1..=2_i64 {
            let message = RoomMessage {
                id: ids.next(),
                sender: message.message.sender.clone(),
                room: room.id.clone(),
                date: message.message.date,
                text: message.message.text.clone(),
                number: 0,
                stored_at: now,
                reply_to: None,
                state: MessageState::default(),
            };
            let new = NewRoomMessage {
                message,
                client_key: ClientKey::of(&account("kim"), &number.to_string()),
                authorized_at: now,
            };
            // Whether the sender has resigned, the room and its newest message, and both but the last once more; the message, and its number at the
            // room with the sender's mark.
            let event_of = |_: &[Account], _: i64| event.clone();
            let (spent, posted) = commands.cost_of("post", store.post(&new, &event_of)).await;
            assert_eq!((posted.unwrap(), spent), (Posted::Stored, Cost { reads: 5, writes: 2 }));
            // As of a direct message.
            let kim = account("kim");
            let seq = store.seq_in_room(&kim, &new.message.id);
            let (spent, seq) = commands.cost_of("seq", seq).await;
            assert_eq!((seq.unwrap(), spent), (Some(number), Cost { reads: 2, writes: 2 }));
            for expected in [Cost { reads: 4, writes: 2 }, Cost { reads: 6, writes: 0 }] {
                let page = store.frames_after(&lee, number - 1, 64);
                let (spent, page) = commands.cost_of("page", page).await;
                let page = page.unwrap();
                let (found, until) = (page.content.len(), page.until);
                assert_eq!((found, until, spent), (1, Some(number), expected));
            }
            last = Some(new);
        }
        // In many streams at once: what they lack (three side by side), the last frame of each, the message and its room; the frames, and that they
        // are there.
        let mut new = last.expect("a message");
        new.message.id = ids.next();
        new.client_key = ClientKey::of(&account("kim"), "3");
        let event_of = |_: &[Account], _: i64| event.clone();
        assert_eq!(store.post(&new, &event_of).await.unwrap(), Posted::Stored);
        let (kim, people) = (account("kim"), 2);
        let members = [&kim, &lee];
        let numbers = store.room_frames(&new.message.id, &members);
        let (spent, numbers) = commands.cost_of("many streams", numbers).await;
        assert_eq!(numbers.unwrap(), HashMap::from([(kim.clone(), 3), (lee.clone(), 3)]));
        assert_eq!(
            spent,
            Cost {
                reads: 5 + people,
                writes: 2
            }
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn commands_of_a_list_of_rooms_are_counted() {
        if !EngineSet::real_is_there() {
            return;
        }
        let bed = Bed::new(EngineSet::Real).await;
        let context = bed.context(SERVICE);
        let (store, commands) = observed(&bed, &context).await;
        store.make_indexes().await.unwrap();
        let kim = account("kim");
        let now = context.clock.now();
        for number in 1..=20_i64 {
            let room = Room {
                id: format!("room {number}"),
                name: RoomName::stored("room".to_owned()),
                creator: kim.clone(),
                created_at: now,
                members: vec![Member {
                    account: kim.clone(),
                    joined_at: now,
                    joined_after: 0,
                    read: 0,
                }],
                last_number: 0,
            };
            assert_eq!(store.create_room(&room, now).await.unwrap(), RoomOutcome::Created);
            // Of lee, who was killed before the room had its number.
            let message = doc! {
                "_id": format!("message {number}"), "room": &room.id, "from": account("lee").fingerprint(),
                NUMBER: number, PLACE: numbered(&room.id, number),
            };
            store.collection(ROOM_MESSAGES).insert_one(message).await.unwrap();
        }
        // The first list writes the numbers to the rooms.
        let mut rooms = Vec::new();
        for writes in [1, 0] {
            let (spent, listed) = commands.cost_of("rooms", store.rooms_of(&kim)).await;
            rooms = listed.unwrap();
            let mut numbers: Vec<i64> = rooms.iter().map(|room| room.last_number).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
            assert_eq!(spent, Cost { reads: 2, writes });
        }
        let known = doc! { "lastNumber": { "$gt": 0 } };
        assert_eq!(store.collection("room").count_documents(known).await.unwrap(), 20);
        let (spent, unread) = commands
            .cost_of("unread", store.unread_in_rooms(&kim, &rooms, &[]))
            .await;
        let unread = unread.unwrap();
        assert_eq!(unread.len(), 20);
        assert!(unread.values().all(|count| *count == 1), "{unread:?}");
        assert_eq!(spent, Cost { reads: 1, writes: 0 });
    }

    /// What the index does not decide would be read from the messages, however many there are.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn unread_messages_are_counted_by_their_index() {
        if !EngineSet::real_is_there() {
            return;
        }
        let bed = Bed::new(EngineSet::Real).await;
        let context = bed.context(SERVICE);
        let (store, commands) = observed(&bed, &context).await;
        store.make_receipt_indexes().await.unwrap();
        let (kim, lee, park) = (account("kim"), account("lee"), account("park"));
        let documents = (0..9).map(|number| {
            let conversation = ConversationId::between(&kim, if number < 4 { &lee } else { &park });
            let mut document = doc! { "_id": number, UNREAD: unread(&kim, &conversation) };
            if number % 4 == 0 {
                document.insert(HIDDEN_AT, 1_i64);
            }
            document
        });
        store.collection(MESSAGES).insert_many(documents).await.unwrap();

        let unread = Receipts::unread(&store, &kim, &[]);
        let (sent, count) = commands.documents_of(unread).await;
        assert_eq!(count.unwrap(), 6, "three of nine are hidden");
        let filters: Vec<Document> = sent
            .iter()
            .map(|(_, command)| {
                let stages = command.get_array("pipeline").expect("a count");
                let first = stages[0].as_document().expect("a stage");
                first.get_document("$match").expect("a condition").clone()
            })
            .collect();
        let of_all: Vec<&Document> = filters.iter().filter(|filter| filter.len() == 1).collect();
        assert_eq!((filters.len(), of_all.len()), (2, 1), "{filters:?}");
        let explain = doc! {
            "explain": {
                "find": MESSAGES,
                "filter": of_all[0].clone(),
                "projection": { "_id": 0, UNREAD: 1 },
            },
            "verbosity": "queryPlanner",
        };
        let plan = store.database.database().run_command(explain).await.unwrap();
        let planner = plan.get_document("queryPlanner").expect("a plan");
        let plan = planner.get_document("winningPlan").expect("a plan").to_string();
        assert!(
            plan.contains("\"message_unread\"") && !plan.contains("\"filter\""),
            "{plan}"
        );

        let blocked = [lee];
        let unread = Receipts::unread(&store, &kim, &blocked);
        assert_eq!(unread.await.unwrap(), 3, "of park, two of whose five are hidden");
    }

    /// Case E7.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_page_of_conversations_is_one_query() {
        if !EngineSet::real_is_there() {
            return;
        }
        let bed = Bed::new(EngineSet::Real).await;
        let context = bed.context(SERVICE);
        let (store, commands) = observed(&bed, &context).await;
        store.make_indexes().await.unwrap();
        let (kim, ids) = (account("kim"), MessageIds::new(&context));
        let documents = (0..1009).map(|number| {
            let (other, id) = (account(&format!("p{number}")), ids.next());
            let mut document = owners(&kim, &other);
            let accounts = document.get("accounts").cloned().unwrap();
            document.extend(doc! {
                "_id": id.as_str(), POSITION: id.position().as_str(), NEWEST_OF: accounts,
                "sender": "kim", "receiver": "other", "date": 2_023_090_513_248_392_i64, "text": "hello", "storedAt": 0_i64,
            });
            document
        });
        store.collection(MESSAGES).insert_many(documents).await.unwrap();

        let (sent, first) = commands.of(store.newest(&kim, None, 1000)).await;
        let first = first.unwrap();
        assert_eq!(first.messages.len(), 1000);
        assert_eq!(sent, ["find"]);
        let (sent, second) = commands.of(store.newest(&kim, first.next.as_ref(), 1000)).await;
        let second = second.unwrap();
        assert_eq!((second.messages.len(), second.next), (9, None));
        assert_eq!(sent, ["find"]);
    }
}
