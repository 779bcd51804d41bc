//! The numbered frames of each account: documents of their own, which name the message.
//!
//! A message is stored with [`UNNUMBERED`], the people whose streams lack it. [`MongoStore::number_messages`] inserts the frames, and
//! [`MongoStore::take_out`] takes the people out of the field. Its steps can be repeated by any replica, in parallel too:
//!
//! * a number is the `_id` of a frame, and is taken only when the frame below it can be seen, so that a reader who has seen a number has
//!   seen all below it;
//! * a second frame of the same message violates [`FRAME_INDEX`];
//! * frames are inserted in the order of their messages' positions, and a message is stored only when all before it in its conversation
//!   can be seen ([`WriteError::Behind`]), so that they have the order of their conversation.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures::TryStreamExt as _;
use futures::future::try_join_all;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::ErrorKind;
use sosohappy_common::Account;
use sosohappy_store::StoreError;
use sosohappy_store::mongo::{ID_INDEX, OUTBOX};

use super::MongoStore;
use super::changes::changed_of;
use super::documents::{id_of, ids_of, stored_of};
use super::fields::{CHANGES, HELD, MESSAGE_ID, MESSAGES, NUMBER, PLACE, POSITION, ROOM, ROOM_MESSAGES, UNNUMBERED};
use super::indexes::{sparse, unique};
use super::room_messages::room_messages_of;
use crate::domain::{ConversationId, MOST_MISSED, MessageId, Position, RoomMessage};
#[cfg(doc)]
use crate::store::WriteError;
use crate::store::{FrameContent, Frames, Streams, is_full};

/// `_id` (SHA-256 of the account, a colon, the number with 19 digits), `frame` (SHA-256 of the account, a colon, the id of the message or
/// change; unique), `message`, and `change` (the change's id) of a frame about one.
pub(super) const FRAMES: &str = "stream_frame";
const FRAME: &str = "frame";
const FRAME_INDEX: &str = "stream_frame_frame";

pub(super) const PLACE_INDEX: &str = "message_place";

/// Messages that are numbered at once.
const BATCH: i64 = 500;
/// The code of the server's error.
const DUPLICATE_KEY: i32 = 11_000;
/// Statements of one call that are under way at the same time.
const SIDE_BY_SIDE: usize = 16;
/// So many messages, or more, are numbered before a page is read, and fewer are part of it at once. Fewer in unit tests.
const FEW: i64 = if cfg!(test) { 3 } else { 16 };
/// Messages of a conversation that are looked at at first; then twice as many each time, up to [`BATCH`]. Fewer in unit tests.
const AT_ONCE: i64 = if cfg!(test) { 5 } else { 50 };

/// Returns a text that sorts as the number does, behind a prefix.
pub(super) fn numbered(prefix: &str, number: i64) -> String {
    format!("{prefix}:{number:019}")
}

/// Returns the condition on texts of [`numbered`] with that prefix, above a number.
pub(super) fn above(prefix: &str, number: i64) -> Document {
    // The character after the colon.
    doc! { "$gt": numbered(prefix, number), "$lt": format!("{prefix};") }
}

fn number_of(text: &str) -> Result<i64, StoreError> {
    let number = text.rsplit_once(':').and_then(|(_, number)| number.parse().ok());
    number.ok_or_else(|| StoreError::corrupt("the number of a frame is not one"))
}

pub(super) fn place(conversation: &ConversationId, number: i64) -> String {
    numbered(conversation.as_str(), number)
}

/// Returns the number of frames that are kept for each account: more than a client may miss.
pub(super) fn kept_frames(frames: i64) -> i64 {
    frames.max(MOST_MISSED + TRIMMED)
}

/// Older frames are deleted when an account gets a frame with a number that this divides.
const TRIMMED: i64 = 100;

/// The messages of frames that are not among these.
fn missing(frames: &[Frame], messages: &HashMap<MessageId, Document>) -> Vec<String> {
    let missing = frames.iter().filter(|frame| !messages.contains_key(&frame.message));
    missing.map(|frame| frame.message.as_str().to_owned()).collect()
}

/// Returns messages by their ids.
fn by_id(documents: Vec<Document>) -> Result<HashMap<MessageId, Document>, StoreError> {
    let with_id = |document: Document| Ok((id_of(&document).map_err(StoreError::Corrupt)?, document));
    documents.into_iter().map(with_id).collect()
}

/// Whether no more than these documents were there when they were read. One that was stored since has a signal of its own.
fn is_last(found: &[Document]) -> bool {
    i64::try_from(found.len()).is_ok_and(|found| found < BATCH)
}

/// Whether these are all documents that a read of at most [`FEW`] looked for.
fn is_few(found: &[Document]) -> bool {
    i64::try_from(found.len()).is_ok_and(|found| found < FEW)
}

/// Returns the people whose streams lack a document.
fn unnumbered_of(document: &Document) -> impl Iterator<Item = &str> {
    let people = document.get_array(UNNUMBERED).into_iter().flatten();
    people.filter_map(Bson::as_str)
}

/// Returns which of many frames were not inserted, because their numbers are taken or their messages have frames already.
fn taken(error: mongodb::error::Error) -> Result<HashSet<usize>, StoreError> {
    if let ErrorKind::InsertMany(failed) = error.kind.as_ref()
        && failed.write_concern_error.is_none()
        && let Some(errors) = &failed.write_errors
        && errors.iter().all(|error| error.code == DUPLICATE_KEY)
    {
        return Ok(errors.iter().map(|error| error.index).collect());
    }
    Err(error.into())
}

/// Returns the document of a frame of a message, or of a change of it.
fn frame_document(person: &str, message: &MessageId, change: Option<&str>, number: i64) -> Document {
    let mut frame = doc! {
        "_id": numbered(person, number),
        FRAME: format!("{person}:{}", change.unwrap_or(message.as_str())),
        "message": message.as_str(),
    };
    if let Some(change) = change {
        frame.insert("change", change);
    }
    frame
}

/// A frame as it is stored.
#[derive(Clone)]
struct Frame {
    seq: i64,
    message: MessageId,
    /// The id of the change that it is about.
    change: Option<String>,
}

/// Messages whose frames a person has.
#[derive(Default)]
pub(super) struct Numbered {
    /// Their `_id`s.
    ids: Vec<Bson>,
    /// The numbers of the frames that were just inserted; the others were there.
    numbers: HashMap<MessageId, i64>,
}

impl Numbered {
    /// Whether all of the frames were just inserted.
    fn is_all(&self) -> bool {
        self.numbers.len() == self.ids.len()
    }

    /// The number of the last frame that was just inserted.
    fn last(&self) -> Option<i64> {
        self.numbers.values().copied().max()
    }

    /// The frames that were just inserted.
    fn frames(&self) -> impl Iterator<Item = Frame> {
        self.numbers.iter().map(|(message, seq)| Frame {
            seq: *seq,
            message: message.clone(),
            change: None,
        })
    }
}

/// Frames of a person, and those of their messages that were read before.
#[derive(Default)]
struct NumberedPage {
    frames: Vec<Frame>,
    messages: HashMap<MessageId, Document>,
    in_rooms: HashMap<MessageId, Option<RoomMessage>>,
}

/// The last numbered message of a conversation.
pub(super) struct Last {
    pub id: MessageId,
    pub number: i64,
    /// It waits in a request.
    pub is_held: bool,
}

impl MongoStore {
    pub(super) async fn make_stream_indexes(&self) -> Result<(), StoreError> {
        let messages = [
            sparse("message_unnumbered", doc! { UNNUMBERED: 1 }),
            unique(PLACE_INDEX, doc! { PLACE: 1 }),
        ];
        self.collection(MESSAGES).create_indexes(messages).await?;
        self.collection(FRAMES)
            .create_index(unique(FRAME_INDEX, doc! { FRAME: 1 }))
            .await?;
        Ok(())
    }

    pub(super) async fn last_of(&self, conversation: &ConversationId) -> Result<Option<Last>, StoreError> {
        let last = self
            .collection(MESSAGES)
            .find_one(doc! { PLACE: above(conversation.as_str(), 0) })
            .sort(doc! { PLACE: -1 })
            .projection(doc! { MESSAGE_ID: 1, NUMBER: 1, HELD: 1 })
            .await?;
        let read = |last: Document| -> anyhow::Result<Last> {
            Ok(Last {
                id: id_of(&last)?,
                number: last.get_i64(NUMBER)?,
                is_held: last.contains_key(HELD),
            })
        };
        last.map(read).transpose().map_err(StoreError::Corrupt)
    }

    /// Numbers the frames of a person (SHA-256 of the account). The field [`UNNUMBERED`] of the messages that it returns still names the person
    /// ([`MongoStore::take_out`]).
    pub(super) async fn number_frames(&self, person: &str) -> Result<Numbered, StoreError> {
        // Most often there is nothing, or one message.
        let (mut messages, changes, in_rooms) = futures::try_join!(
            self.unnumbered(MESSAGES, person, BATCH, names()),
            self.unnumbered(CHANGES, person, 1, names()),
            self.unnumbered(ROOM_MESSAGES, person, 1, names()),
        )?;
        let numbered = self.number_messages(person, &mut messages, POSITION, None).await?;
        if !is_last(&messages) || !changes.is_empty() {
            self.take_out(MESSAGES, person, numbered).await?;
            self.number_all(person).await?;
            return Ok(Numbered::default());
        }
        if !in_rooms.is_empty() {
            self.number_room_messages(person).await?;
        }
        if !numbered.is_all() {
            // Another replica has inserted a frame, which a reader sees once it is on a majority of the servers: this write waits for it.
            self.take_out(MESSAGES, person, numbered).await?;
            return Ok(Numbered::default());
        }
        Ok(numbered)
    }

    /// Numbers the frames of a person, and returns at most `limit` of them after a number.
    async fn page(&self, person: &str, seq: i64, limit: i64) -> Result<NumberedPage, StoreError> {
        let whole = || doc! { OUTBOX: 0 };
        let (messages, changes, in_rooms) = futures::try_join!(
            self.unnumbered(MESSAGES, person, FEW, whole()),
            self.unnumbered(CHANGES, person, 1, names()),
            self.unnumbered(ROOM_MESSAGES, person, FEW, whole()),
        )?;
        if !changes.is_empty() || !is_few(&messages) || !is_few(&in_rooms) {
            self.number_all(person).await?;
        } else if !messages.is_empty() || !in_rooms.is_empty() {
            let page = self.number_page(person, seq, limit, messages, in_rooms).await?;
            if let Some(page) = page {
                return Ok(page);
            }
        }
        // After it is known that no frame is lacking: another replica may have inserted one meanwhile.
        Ok(NumberedPage {
            frames: self.frames(person, seq, limit).await?,
            ..NumberedPage::default()
        })
    }

    /// Numbers the frames of these messages and returns the page that ends with them; `None` if another replica has numbered some, or others
    /// between them.
    async fn number_page(
        &self,
        person: &str,
        seq: i64,
        limit: i64,
        mut messages: Vec<Document>,
        mut in_rooms: Vec<Document>,
    ) -> Result<Option<NumberedPage>, StoreError> {
        // With the frame of that number, which is the last one if none is after it.
        let mut frames = self.frames(person, (seq - 1).max(0), limit + 1).await?;
        let is_whole = i64::try_from(frames.len()).is_ok_and(|found| found <= limit);
        let newest = match frames.last() {
            None if seq == 0 => Some(0),
            last => last.map(|last| last.seq),
        };
        let last = newest.filter(|_| is_whole);
        let of_people = self.number_messages(person, &mut messages, POSITION, last).await?;
        let before_rooms = of_people.last().or(last);
        let of_rooms = self.number_messages(person, &mut in_rooms, PLACE, before_rooms).await?;
        let mut added: Vec<Frame> = of_people.frames().chain(of_rooms.frames()).collect();
        added.sort_unstable_by_key(|frame| frame.seq);
        let is_all = of_people.is_all() && of_rooms.is_all();
        // A reader sees a frame of another replica once it is on a majority of the servers: these writes wait for it.
        futures::try_join!(
            self.take_out(MESSAGES, person, of_people),
            self.take_out(ROOM_MESSAGES, person, of_rooms),
        )?;
        let Some(last) = last.filter(|_| is_all) else {
            return Ok(None);
        };
        if !added.iter().zip(last + 1..).all(|(frame, next)| frame.seq == next) {
            return Ok(None);
        }
        frames.retain(|frame| frame.seq > seq);
        frames.extend(added);
        frames.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Some(NumberedPage {
            frames,
            messages: by_id(messages)?,
            in_rooms: room_messages_of(&in_rooms)?,
        }))
    }

    /// Numbers a message of a room in the streams of several people (SHA-256 of their accounts) that lack nothing else. Returns their numbers.
    pub(super) async fn number_together(
        &self,
        message: &MessageId,
        people: &[String],
    ) -> Result<HashMap<String, i64>, StoreError> {
        let (in_rooms, messages, changes) = futures::try_join!(
            self.lacking(ROOM_MESSAGES, people),
            self.lacking(MESSAGES, people),
            self.lacking(CHANGES, people),
        )?;
        if ![&in_rooms, &messages, &changes].into_iter().all(|found| is_few(found)) {
            return Ok(HashMap::new());
        }
        let is_it = |document: &Document| document.get_str("_id").is_ok_and(|id| id == message.as_str());
        let (itself, others): (Vec<Document>, Vec<Document>) = in_rooms.into_iter().partition(is_it);
        let Some(itself) = itself.first() else {
            return Ok(HashMap::new());
        };
        let lacking: HashSet<&str> = unnumbered_of(itself).collect();
        let more: HashSet<&str> = [&others, &messages, &changes]
            .into_iter()
            .flatten()
            .flat_map(unnumbered_of)
            .collect();
        let is_alone = |person: &&String| lacking.contains(person.as_str()) && !more.contains(person.as_str());
        let alone: Vec<&String> = people.iter().filter(is_alone).collect();
        if alone.is_empty() {
            return Ok(HashMap::new());
        }
        let mut numbers = Vec::with_capacity(alone.len());
        for people in alone.chunks(SIDE_BY_SIDE) {
            let ends = try_join_all(people.iter().map(|person| self.end_of(person, -1))).await?;
            let next = ends.into_iter().map(|end| end.unwrap_or_default() + 1);
            numbers.extend(people.iter().map(|person| (*person).clone()).zip(next));
        }
        let frames = numbers
            .iter()
            .map(|(person, number)| frame_document(person, message, None, *number));
        let frames: Vec<Document> = frames.collect();
        let inserted = self.collection(FRAMES).insert_many(frames).ordered(false).await;
        let refused = inserted.map_or_else(taken, |_| Ok(HashSet::new()))?;
        let inserted = numbers.into_iter().enumerate();
        let inserted = inserted.filter(|(place, _)| !refused.contains(place));
        let numbers: Vec<(String, i64)> = inserted.map(|(_, number)| number).collect();
        if numbers.is_empty() {
            return Ok(HashMap::new());
        }
        for (person, number) in &numbers {
            self.trim(person, *number).await?;
        }
        let numbered: Vec<&str> = numbers.iter().map(|(person, _)| person.as_str()).collect();
        let taken_out = doc! { "$pull": { UNNUMBERED: { "$in": numbered } } };
        let messages = self.collection(ROOM_MESSAGES);
        messages.update_one(doc! { "_id": message.as_str() }, taken_out).await?;
        Ok(numbers.into_iter().collect())
    }

    /// Returns the people whose streams lack a document, of each of a few documents that some of these people lack.
    async fn lacking(&self, collection: &str, people: &[String]) -> Result<Vec<Document>, StoreError> {
        let found = self
            .collection(collection)
            .find(doc! { UNNUMBERED: { "$in": people } })
            .limit(FEW)
            .projection(doc! { UNNUMBERED: 1 })
            .await?;
        Ok(found.try_collect().await?)
    }

    /// Returns documents whose frames a person lacks.
    async fn unnumbered(
        &self,
        collection: &str,
        person: &str,
        limit: i64,
        projection: Document,
    ) -> Result<Vec<Document>, StoreError> {
        let found = self
            .collection(collection)
            .find(doc! { UNNUMBERED: person })
            .limit(limit)
            .projection(projection)
            .await?;
        Ok(found.try_collect().await?)
    }

    /// Numbers the frames of these messages, of which none is missing that comes before another of them in its conversation, in the order of a
    /// field. `last`: the number of the person's last frame, if it is known.
    async fn number_messages(
        &self,
        person: &str,
        found: &mut [Document],
        order: &str,
        last: Option<i64>,
    ) -> Result<Numbered, StoreError> {
        let mut numbered = Numbered::default();
        if found.is_empty() {
            return Ok(numbered);
        }
        found.sort_by(|one, other| one.get_str(order).ok().cmp(&other.get_str(order).ok()));
        let last = match last {
            Some(last) => last,
            None => self.end_of(person, -1).await?.unwrap_or_default(),
        };
        let mut next = last + 1;
        for document in found.iter() {
            let message = id_of(document).map_err(StoreError::Corrupt)?;
            if let Some(number) = self.insert_frame(person, &message, None, next).await? {
                next = number + 1;
                numbered.numbers.insert(message, number);
            }
            numbered.ids.extend(document.get("_id").cloned());
        }
        Ok(numbered)
    }

    /// Ends the numbering of messages: their frames are there.
    pub(super) async fn take_out(&self, collection: &str, person: &str, numbered: Numbered) -> Result<(), StoreError> {
        if !numbered.ids.is_empty() {
            let messages = doc! { "_id": { "$in": numbered.ids } };
            let taken_out = doc! { "$pull": { UNNUMBERED: person } };
            self.collection(collection).update_many(messages, taken_out).await?;
        }
        Ok(())
    }

    /// Numbers the frames of a person to the last one.
    async fn number_all(&self, person: &str) -> Result<(), StoreError> {
        loop {
            let mut found = self.unnumbered(MESSAGES, person, BATCH, names()).await?;
            if found.is_empty() {
                // After the messages that they are about.
                futures::try_join!(self.number_changes(person), self.number_room_messages(person))?;
                return Ok(());
            }
            let numbered = self.number_messages(person, &mut found, POSITION, None).await?;
            self.take_out(MESSAGES, person, numbered).await?;
        }
    }

    /// Numbers the frames of messages in rooms, as those of the others.
    async fn number_room_messages(&self, person: &str) -> Result<(), StoreError> {
        let messages = self.collection(ROOM_MESSAGES);
        loop {
            // In the order of each room.
            let mut found: Vec<Document> = messages
                .find(doc! { UNNUMBERED: person })
                .sort(doc! { PLACE: 1 })
                .limit(BATCH)
                .projection(doc! { PLACE: 1 })
                .await?
                .try_collect()
                .await?;
            if found.is_empty() {
                return Ok(());
            }
            let numbered = self.number_messages(person, &mut found, PLACE, None).await?;
            self.take_out(ROOM_MESSAGES, person, numbered).await?;
            if is_last(&found) {
                return Ok(());
            }
        }
    }

    /// Numbers the frames of changes of a person's messages, as those of the messages.
    async fn number_changes(&self, person: &str) -> Result<(), StoreError> {
        let changes = self.collection(CHANGES);
        loop {
            // In the order in which the changes of a message were made.
            let found: Vec<Document> = changes
                .find(doc! { UNNUMBERED: person })
                .sort(doc! { "_id": 1 })
                .limit(BATCH)
                .projection(doc! { "message": 1, ROOM: 1 })
                .await?
                .try_collect()
                .await?;
            if found.is_empty() {
                return Ok(());
            }
            if found.iter().any(|change| change.contains_key(ROOM)) {
                self.number_room_messages(person).await?;
            }
            let mut next = self.end_of(person, -1).await?.unwrap_or_default() + 1;
            let mut ids = Vec::with_capacity(found.len());
            for document in &found {
                let text = |field: &str| {
                    document
                        .get_str(field)
                        .map_err(|error| StoreError::Corrupt(error.into()))
                };
                let (id, message) = (text("_id")?, MessageId::stored(text("message")?.to_owned()));
                let number = self.insert_frame(person, &message, Some(id), next).await?;
                next = number.map_or(next, |number| number + 1);
                ids.push(id);
            }
            let taken_out = doc! { "$pull": { UNNUMBERED: person } };
            changes.update_many(doc! { "_id": { "$in": ids } }, taken_out).await?;
        }
    }

    /// Inserts the frame of a message, or of a change of it, under that number or the next free one; returns the number, or `None` if there is
    /// one already.
    async fn insert_frame(
        &self,
        person: &str,
        message: &MessageId,
        change: Option<&str>,
        mut number: i64,
    ) -> Result<Option<i64>, StoreError> {
        let frames = self.collection(FRAMES);
        loop {
            let frame = frame_document(person, message, change, number);
            match frames.insert_one(frame).await.map_err(StoreError::from) {
                Ok(_) => {
                    self.trim(person, number).await?;
                    return Ok(Some(number));
                }
                // It has one: of another replica, or of an attempt before a crash.
                Err(StoreError::Conflict(rule)) if rule == FRAME_INDEX => return Ok(None),
                // Another replica took the number, for this frame or another.
                Err(StoreError::Conflict(rule)) if rule == ID_INDEX => {
                    number = self.end_of(person, -1).await?.unwrap_or_default() + 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns the number of a message in an account's stream, after those of the same collection that lack one.
    async fn number_of_message(
        &self,
        collection: &str,
        order: &str,
        account: &Account,
        message: &MessageId,
    ) -> Result<Option<i64>, StoreError> {
        let person = account.fingerprint();
        let mut found = self.unnumbered(collection, &person, BATCH, names()).await?;
        if !is_last(&found) {
            self.number_all(&person).await?;
            return self.number_in_stream(&person, message).await;
        }
        let numbered = self.number_messages(&person, &mut found, order, None).await?;
        let number = numbered.numbers.get(message).copied();
        // Before the frame of another replica is looked for, as in [`MongoStore::number_frames`].
        self.take_out(collection, &person, numbered).await?;
        if number.is_some() {
            return Ok(number);
        }
        // Another replica has numbered it.
        if let Some(number) = self.number_in_stream(&person, message).await? {
            return Ok(Some(number));
        }
        self.number_all(&person).await?;
        self.number_in_stream(&person, message).await
    }

    async fn number_in_stream(&self, person: &str, message: &MessageId) -> Result<Option<i64>, StoreError> {
        let frame = doc! { FRAME: format!("{person}:{message}") };
        let found = self.collection(FRAMES).find_one(frame).await?;
        let number = |found: Document| {
            let id = found
                .get_str("_id")
                .map_err(|error| StoreError::Corrupt(error.into()))?;
            number_of(id)
        };
        found.map(number).transpose()
    }

    /// Deletes frames beyond those that are kept, each time a person has got some more.
    async fn trim(&self, person: &str, newest: i64) -> Result<(), StoreError> {
        if newest % TRIMMED == 0 && newest > self.frames {
            let older = doc! { "$gt": numbered(person, 0), "$lte": numbered(person, newest - self.frames) };
            self.collection(FRAMES).delete_many(doc! { "_id": older }).await?;
        }
        Ok(())
    }

    /// Returns the number of the person's oldest (1) or newest (-1) frame.
    async fn end_of(&self, person: &str, direction: i32) -> Result<Option<i64>, StoreError> {
        let end = self
            .collection(FRAMES)
            .find_one(doc! { "_id": above(person, 0) })
            .sort(doc! { "_id": direction })
            .projection(doc! { "_id": 1 })
            .await?;
        let end = end.map(|end| {
            end.get_str("_id")
                .map(number_of)
                .map_err(|error| StoreError::Corrupt(error.into()))
        });
        end.transpose()?.transpose()
    }

    /// Deletes the frames of a person whose messages are gone.
    pub(super) async fn delete_frames(&self, person: &str) -> Result<(), StoreError> {
        let mut seq = 0;
        loop {
            let frames = self.frames(person, seq, BATCH).await?;
            let Some(last) = frames.last() else { return Ok(()) };
            seq = last.seq;
            let there = self.messages_of(&frames).await?;
            let in_rooms = self.room_messages(missing(&frames, &there)).await?;
            let gone = frames
                .iter()
                .filter(|frame| !there.contains_key(&frame.message) && !in_rooms.contains_key(&frame.message));
            let ids: Vec<String> = gone.map(|frame| numbered(person, frame.seq)).collect();
            if !ids.is_empty() {
                self.collection(FRAMES)
                    .delete_many(doc! { "_id": { "$in": ids } })
                    .await?;
            }
        }
    }

    async fn frames(&self, person: &str, seq: i64, limit: i64) -> Result<Vec<Frame>, StoreError> {
        let found: Vec<Document> = self
            .collection(FRAMES)
            .find(doc! { "_id": above(person, seq) })
            .sort(doc! { "_id": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await?;
        let text = |frame: &Document, field: &str| -> Result<String, StoreError> {
            let text = frame
                .get_str(field)
                .map_err(|error| StoreError::Corrupt(error.into()))?;
            Ok(text.to_owned())
        };
        let frames = found.iter().map(|frame| {
            Ok(Frame {
                seq: number_of(&text(frame, "_id")?)?,
                message: MessageId::stored(text(frame, "message")?),
                change: frame.get_str("change").ok().map(str::to_owned),
            })
        });
        frames.collect()
    }

    /// Returns the last of these messages, in the order of a field, that has no frame after a number in the account's stream. From the newest
    /// message on: at most those of the kept frames are looked at.
    async fn last_without_later_frame(
        &self,
        collection: &str,
        mut messages: Document,
        order: &str,
        account: &Account,
        seq: i64,
    ) -> Result<Option<Document>, StoreError> {
        let person = account.fingerprint();
        // A message without its frame yet was not seen.
        messages.insert(UNNUMBERED, doc! { "$ne": &person });
        let mut at_once = AT_ONCE;
        loop {
            let found: Vec<Document> = self
                .collection(collection)
                .find(messages.clone())
                .sort(doc! { order: -1 })
                .limit(at_once)
                .projection(doc! { MESSAGE_ID: 1, order: 1 })
                .await?
                .try_collect()
                .await?;
            let Some(oldest) = found.last().and_then(|oldest| oldest.get(order)).cloned() else {
                return Ok(None);
            };
            let mut frames = Vec::with_capacity(found.len());
            for message in &found {
                let id = id_of(message).map_err(StoreError::Corrupt)?;
                frames.push(format!("{person}:{id}"));
            }
            let later = doc! { FRAME: { "$in": &frames }, "_id": above(&person, seq) };
            let later = self
                .collection(FRAMES)
                .find(later)
                .projection(doc! { FRAME: 1 })
                .await?;
            let later: Vec<Document> = later.try_collect().await?;
            let later: HashSet<&str> = later.iter().filter_map(|later| later.get_str(FRAME).ok()).collect();
            let seen = frames.iter().position(|frame| !later.contains(frame.as_str()));
            if let Some(seen) = seen {
                return Ok(found.into_iter().nth(seen));
            }
            messages.insert(order, doc! { "$lt": oldest });
            at_once = (2 * at_once).min(BATCH);
        }
    }

    /// The documents of the changes that frames are about.
    async fn changes_of(&self, frames: &[Frame]) -> Result<HashMap<String, Document>, StoreError> {
        let ids: Vec<String> = frames.iter().filter_map(|frame| frame.change.clone()).collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let mut changes = HashMap::with_capacity(ids.len());
        for document in self.documents_of_changes(ids).await? {
            if let Ok(id) = document.get_str("_id").map(str::to_owned) {
                changes.insert(id, document);
            }
        }
        Ok(changes)
    }

    /// The documents of the messages that are there.
    async fn messages_of(&self, frames: &[Frame]) -> Result<HashMap<MessageId, Document>, StoreError> {
        let ids = ids_of(frames.iter().map(|frame| &frame.message));
        let found = self.collection(MESSAGES).find(doc! { "_id": ids }).await?;
        by_id(found.try_collect().await?)
    }
}

/// The projection of documents to their ids and to what orders them.
fn names() -> Document {
    doc! { MESSAGE_ID: 1, POSITION: 1, PLACE: 1 }
}

#[async_trait]
impl Streams for MongoStore {
    async fn enlist(&self, message: &MessageId) -> Result<(), StoreError> {
        // An update with the people of the document itself; a message of this release has the field, empty or not.
        let former = doc! { "_id": ids_of([message]), UNNUMBERED: null, "accounts": { "$gt": "" } };
        let people = vec![doc! { "$set": { UNNUMBERED: "$accounts" } }];
        self.collection(MESSAGES).update_one(former, people).await?;
        Ok(())
    }

    async fn kept(&self, account: &Account) -> Result<Option<(i64, i64)>, StoreError> {
        let person = account.fingerprint();
        let numbered = self.number_frames(&person).await?;
        let (oldest, newest, ()) = futures::try_join!(
            self.end_of(&person, 1),
            self.end_of(&person, -1),
            self.take_out(MESSAGES, &person, numbered),
        )?;
        Ok(oldest.zip(newest))
    }

    async fn frames_after(&self, account: &Account, seq: i64, limit: u32) -> Result<Frames, StoreError> {
        let person = account.fingerprint();
        let NumberedPage {
            frames: found,
            mut messages,
            mut in_rooms,
        } = self.page(&person, seq, limit.into()).await?;
        let is_unread =
            |frame: &&Frame| !messages.contains_key(&frame.message) && !in_rooms.contains_key(&frame.message);
        let unread: Vec<Frame> = found.iter().filter(is_unread).cloned().collect();
        if !unread.is_empty() {
            messages.extend(self.messages_of(&unread).await?);
            in_rooms.extend(self.room_messages(missing(&unread, &messages)).await?);
        }
        let mut frames = Frames {
            more: is_full(found.len(), limit),
            ..Frames::default()
        };
        let changes_by_id = self.changes_of(&found).await?;
        for Frame { seq, message, change } in found {
            frames.until = Some(seq);
            let changed = match change {
                Some(id) => match changes_by_id.get(&id).map(changed_of) {
                    Some(Ok(None)) => {
                        frames.push(seq, Ok(None));
                        continue;
                    }
                    Some(changed) => changed,
                    // Erased since.
                    None => continue,
                },
                None => Ok(None),
            };
            let Some(message) = messages.get(&message) else {
                if let Some(Some(message)) = in_rooms.get(&message) {
                    let message = Box::new(message.clone());
                    let content = changed.map(|changed| match changed {
                        Some(change) => FrameContent::RoomChange(message, change),
                        None => FrameContent::RoomMessage(message),
                    });
                    frames.push(seq, content.map(Some));
                }
                continue;
            };
            let content = stored_of(message).and_then(|stored| {
                let stored = Box::new(stored);
                Ok(match changed? {
                    Some(change) => FrameContent::Change(stored, change),
                    None => FrameContent::Message(stored),
                })
            });
            frames.push(seq, content.map(Some));
        }
        Ok(frames)
    }

    async fn seq_of(&self, account: &Account, message: &MessageId) -> Result<Option<i64>, StoreError> {
        // A direct message waits for no change and no message of a room.
        self.number_of_message(MESSAGES, POSITION, account, message).await
    }

    async fn seq_in_room(&self, account: &Account, message: &MessageId) -> Result<Option<i64>, StoreError> {
        self.number_of_message(ROOM_MESSAGES, PLACE, account, message).await
    }

    async fn last_seen(
        &self,
        account: &Account,
        conversation: &ConversationId,
        seq: i64,
    ) -> Result<Option<Position>, StoreError> {
        let theirs = doc! { "conversation": conversation.as_str(), POSITION: { "$gt": "" }, HELD: null };
        let last = self.last_without_later_frame(MESSAGES, theirs, POSITION, account, seq);
        let position = last.await?.map(|last| {
            last.get_str(POSITION)
                .map(|position| Position::stored(position.to_owned()))
                .map_err(|error| StoreError::Corrupt(error.into()))
        });
        position.transpose()
    }

    async fn last_seen_in_room(&self, account: &Account, room: &str, seq: i64) -> Result<Option<i64>, StoreError> {
        let theirs = doc! { "room": room, NUMBER: { "$gt": 0 } };
        let last = self.last_without_later_frame(ROOM_MESSAGES, theirs, NUMBER, account, seq);
        let number = last
            .await?
            .map(|last| last.get_i64(NUMBER).map_err(|error| StoreError::Corrupt(error.into())));
        number.transpose()
    }
}
