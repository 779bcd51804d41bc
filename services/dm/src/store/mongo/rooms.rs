//! Rooms. A room is one document with its members in it; its messages are documents of their own, each with its event.

use std::collections::HashMap;

use anyhow::Context as _;
use async_trait::async_trait;
use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use mongodb::bson::{Bson, Document, doc};
use sosohappy_common::Account;
use sosohappy_events::Outgoing;
use sosohappy_store::mongo::{ID_INDEX, OUTBOX, outbox_field};
use sosohappy_store::{StoreError, retrying};

use super::documents::timestamp;
use super::fields::{CLIENT_KEY, HIDDEN_AT, NUMBER, PLACE, RETRACTED_AT, ROOM_MESSAGES, UNNUMBERED};
use super::indexes::{index, sparse, unique};
use super::room_messages::{message_of, number, room_messages_of};
use super::stream::{above, numbered};
use super::{CREATORS_CLEARED, MARKERS, MongoStore};
use crate::domain::{
    Changed, ClientKey, Erasure, Joining, MOST_MEMBERS, MOST_ROOMS, Member, MessageId, NewChange, NewRoomMessage, Room,
    RoomMessage, RoomName,
};
use crate::store::{
    ChangeError, FORMER_CREATOR, JoinOutcome, LeftEventOf, Posted, PostedEventOf, RoomOutcome, Rooms, WriteError,
};

/// `_id`, `name`, `creator`, `createdAt`, [`LAST_NUMBER`], [`LEFT`], `members` (`account`, `person`, `joinedAt`, `joinedAfter`, `read`) in the order in which they
/// joined. `person` is the SHA-256 of the account. A room without members is deleted for everybody; its document is kept for a while
/// ([`SWEPT_AT`]), so that the messages of one whose deletion was interrupted are found.
const ROOMS: &str = "room";
/// Who has left a room, the last time, by which a report is known that arrives later: `_id` (room, a colon, `person`), `person` (SHA-256 of the
/// account), `joinedAt`, `joinedAfter`, `leftAfter` (the number of the newest message then), `leftAt`.
const FORMER_MEMBERS: &str = "room_former_member";
/// The greatest number that a message of the room was given.
const LAST_NUMBER: &str = "lastNumber";
/// In a room that a member has left, until it is known whether others are in it.
const LEFT: &str = "left";
/// When a sweep first found the room without a member.
const SWEPT_AT: &str = "sweptAt";
/// The name of a room without a member; its creator is [`FORMER_CREATOR`].
const NO_NAME: &str = "-";
/// How long the document of a room is kept after that: far longer than a message is being stored.
const KEPT: SignedDuration = SignedDuration::from_hours(1);
const PERSONS: &str = "members.person";
/// What [`Rooms::unread_in_rooms`] counts.
const COUNT: &str = "count";

const ROOM_PLACE_INDEX: &str = "room_message_place";
const ROOM_KEY_INDEX: &str = "room_message_client_key";

impl MongoStore {
    pub(super) async fn make_room_indexes(&self) -> Result<(), StoreError> {
        let indexes = [
            index("room_members", doc! { PERSONS: 1 }),
            index("room_creator", doc! { "creator": 1 }),
            sparse("room_left", doc! { LEFT: 1 }),
        ];
        let rooms = self.collection(ROOMS);
        rooms.create_indexes(indexes).await?;
        // Those that a replica of an earlier release has left.
        rooms.update_many(empty(), doc! { "$set": { LEFT: true } }).await?;
        let messages = [
            unique(ROOM_PLACE_INDEX, doc! { PLACE: 1 }),
            unique(ROOM_KEY_INDEX, doc! { CLIENT_KEY: 1 }),
            sparse("room_message_unnumbered", doc! { UNNUMBERED: 1 }),
            index("room_message_from", doc! { "from": 1, "_id": 1 }),
            index("room_message_room", doc! { "room": 1, NUMBER: -1 }),
        ];
        self.collection(ROOM_MESSAGES).create_indexes(messages).await?;
        let former = [
            index("room_former_member_person", doc! { "person": 1 }),
            index("room_former_member_left_at", doc! { "leftAt": 1 }),
        ];
        self.collection(FORMER_MEMBERS).create_indexes(former).await?;
        Ok(())
    }

    /// Notes that a member leaves a room whose newest message has that number.
    async fn note_former_member(
        &self,
        room: &str,
        member: &Member,
        last: i64,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let person = member.account.fingerprint();
        let left = doc! { "$set": {
            "person": &person,
            "joinedAt": member.joined_at.as_millisecond(),
            "joinedAfter": member.joined_after,
            "leftAfter": last,
            "leftAt": at.as_millisecond(),
        } };
        let id = doc! { "_id": format!("{room}:{person}") };
        self.collection(FORMER_MEMBERS)
            .update_one(id, left)
            .upsert(true)
            .await?;
        Ok(())
    }

    /// Returns SHA-256 of the people who have seen a message of a room and have left since.
    pub(super) async fn former_viewers(&self, message: &RoomMessage) -> Result<Vec<String>, StoreError> {
        let seen = doc! {
            "_id": former_of(&message.room),
            "joinedAfter": { "$lt": message.number },
            "leftAfter": { "$gte": message.number },
        };
        let found: Vec<Document> = self.collection(FORMER_MEMBERS).find(seen).await?.try_collect().await?;
        let persons = found.iter().filter_map(|former| former.get_str("person").ok());
        Ok(persons.map(str::to_owned).collect())
    }

    /// Forgets who left rooms before that moment.
    pub(super) async fn forget_former_members(&self, before: i64) -> Result<(), StoreError> {
        let earlier = doc! { "leftAt": { "$lt": before } };
        self.collection(FORMER_MEMBERS).delete_many(earlier).await?;
        Ok(())
    }

    /// Returns the number of the newest message that is there.
    async fn newest_number(&self, room: &str) -> Result<i64, StoreError> {
        let last = self
            .collection(ROOM_MESSAGES)
            .find_one(doc! { PLACE: above(room, 0) })
            .sort(doc! { PLACE: -1 })
            .projection(doc! { NUMBER: 1 })
            .await?;
        let number = |last: Document| last.get_i64(NUMBER).map_err(|error| StoreError::Corrupt(error.into()));
        last.map_or(Ok(0), number)
    }

    /// Returns the greatest number of messages in these rooms whose numbers are not in the room's document, by one command: the process that
    /// stored them was killed before it wrote them there. A document of an earlier release has none.
    async fn newest_numbers(&self, rooms: &[Document]) -> Result<HashMap<String, i64>, StoreError> {
        let mut later = Vec::with_capacity(rooms.len());
        for room in rooms {
            let id = room.get_str("_id").map_err(|error| StoreError::Corrupt(error.into()))?;
            let given = number(room, LAST_NUMBER).unwrap_or_default();
            later.push(doc! { PLACE: above(id, given) });
        }
        if later.is_empty() {
            return Ok(HashMap::new());
        }
        let newest = [
            doc! { "$match": { "$or": later } },
            doc! { "$group": { "_id": "$room", NUMBER: { "$max": format!("${NUMBER}") } } },
        ];
        self.number_of_each_room(newest, NUMBER).await
    }

    /// Writes the numbers of [`MongoStore::newest_numbers`] to the rooms: those messages are not read for the next list.
    async fn keep_numbers(&self, newest: &HashMap<String, i64>) -> Result<(), StoreError> {
        let updates = newest.iter().map(|(room, number)| {
            doc! { "q": { "_id": room }, "u": { "$max": { LAST_NUMBER: *number } } }
        });
        self.database.update_each(ROOMS, updates.collect()).await
    }

    /// Reads a number for each room that an aggregation of messages finds.
    async fn number_of_each_room(
        &self,
        pipeline: [Document; 2],
        field: &str,
    ) -> Result<HashMap<String, i64>, StoreError> {
        let found = self.collection(ROOM_MESSAGES).aggregate(pipeline).await?;
        let found: Vec<Document> = found.try_collect().await?;
        let read = |document: &Document| -> anyhow::Result<(String, i64)> {
            Ok((document.get_str("_id")?.to_owned(), number(document, field)?))
        };
        found
            .iter()
            .map(|document| read(document).map_err(StoreError::Corrupt))
            .collect()
    }

    /// Returns the document of a room with members: one without a member is being deleted.
    async fn room_document(&self, id: &str) -> Result<Option<Document>, StoreError> {
        let there = doc! { "_id": id, "members.0": { "$exists": true } };
        Ok(self.collection(ROOMS).find_one(there).await?)
    }

    async fn room_of(&self, document: &Document) -> Result<Room, StoreError> {
        let id = document
            .get_str("_id")
            .map_err(|error| StoreError::Corrupt(error.into()))?;
        let newest = self.newest_number(id).await?;
        room_from(document, newest)
    }

    /// Has a message numbered in the streams of these people (SHA-256 of their accounts). One that has a number there keeps it.
    async fn add_unnumbered(&self, message: &MessageId, people: Vec<String>) -> Result<(), StoreError> {
        if !people.is_empty() {
            let add = doc! { "$addToSet": { UNNUMBERED: { "$each": people } } };
            let messages = self.collection(ROOM_MESSAGES);
            messages.update_one(doc! { "_id": message.as_str() }, add).await?;
        }
        Ok(())
    }

    async fn add_member(&self, joining: &Joining<'_>) -> Result<JoinOutcome, StoreError> {
        let (id, account) = (joining.room, joining.account);
        let person = account.fingerprint();
        if self.rooms_of_person(&person).await? >= u64::from(MOST_ROOMS) {
            return Ok(JoinOutcome::Full);
        }
        let Some(room) = self.room(id).await? else {
            return Ok(JoinOutcome::NoRoom);
        };
        let last = room.last_number;
        let member = Member {
            account: account.clone(),
            joined_at: joining.at,
            joined_after: last,
            read: last,
        };
        let rooms = self.collection(ROOMS);
        let free = doc! {
            "_id": id,
            PERSONS: { "$ne": &person },
            format!("members.{}", MOST_MEMBERS - 1): { "$exists": false },
            // An empty room is being deleted.
            "members.0": { "$exists": true },
        };
        let join = doc! { "$push": { "members": member_document(&member) } };
        if rooms.update_one(free, join).await?.modified_count > 0 {
            return Ok(JoinOutcome::Joined);
        }
        let Some(room) = self.room(id).await? else {
            return Ok(JoinOutcome::NoRoom);
        };
        Ok(match room.member(account) {
            Some(_) => JoinOutcome::Already,
            None => JoinOutcome::Full,
        })
    }

    async fn rooms_of_person(&self, person: &str) -> Result<u64, StoreError> {
        Ok(self.collection(ROOMS).count_documents(doc! { PERSONS: person }).await?)
    }

    /// Deletes the messages of a room without a member, and what its document says of people. The document itself stays until
    /// [`MongoStore::sweep_rooms`], which continues what a crash has interrupted.
    async fn delete_if_empty(&self, room: &str) -> Result<(), StoreError> {
        let others = doc! { "_id": room, LEFT: true, "members.0": { "$exists": true } };
        let stays = doc! { "$unset": { LEFT: "" } };
        self.collection(ROOMS).update_one(others, stays).await?;
        let mut empty = empty();
        empty.insert("_id", room);
        // Replicas of an earlier release decode it.
        let cleared = doc! { "$set": { "name": NO_NAME, "creator": FORMER_CREATOR } };
        if self.collection(ROOMS).update_one(empty, cleared).await?.matched_count > 0 {
            self.delete_messages(ROOM_MESSAGES, &doc! { "room": room }).await?;
            let former = doc! { "_id": former_of(room) };
            self.collection(FORMER_MEMBERS).delete_many(former).await?;
        }
        Ok(())
    }

    /// Deletes the messages of rooms without a member, and the documents of those that were swept [`KEPT`] before. `now`: of the caller, in any
    /// clock that goes on.
    pub(super) async fn sweep_rooms(&self, now: Timestamp) -> Result<(), StoreError> {
        let rooms = self.collection(ROOMS);
        let mut found = rooms.find(doc! { LEFT: true }).projection(doc! { SWEPT_AT: 1 }).await?;
        while let Some(room) = found.try_next().await? {
            let Ok(id) = room.get_str("_id") else { continue };
            self.delete_if_empty(id).await?;
            let mut empty = empty();
            empty.insert("_id", id);
            match timestamp(&room, SWEPT_AT) {
                Ok(swept) if swept <= now - KEPT => _ = rooms.delete_one(empty).await?,
                Ok(_) => {}
                // It has none, or one that cannot be read.
                Err(_) => {
                    let swept = doc! { "$set": { SWEPT_AT: now.as_millisecond() } };
                    rooms.update_one(empty, swept).await?;
                }
            }
        }
        Ok(())
    }

    /// Of these messages those that are in rooms; `None` for one that cannot be decoded.
    pub(super) async fn room_messages(
        &self,
        ids: Vec<String>,
    ) -> Result<HashMap<MessageId, Option<RoomMessage>>, StoreError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let wanted = doc! { "_id": { "$in": ids } };
        let collection = self.collection(ROOM_MESSAGES);
        let found = collection.find(wanted).projection(doc! { OUTBOX: 0 }).await?;
        let found: Vec<Document> = found.try_collect().await?;
        room_messages_of(&found)
    }

    /// Frees the keys of messages that are older than [`ClientKey::WINDOW`].
    pub(super) async fn forget_room_keys(&self, now: Timestamp) -> Result<(), StoreError> {
        let older = (now - ClientKey::WINDOW).as_millisecond();
        let known = doc! { CLIENT_KEY: { "$gt": "" }, "storedAt": { "$lte": older } };
        let forgotten = doc! { "$unset": { CLIENT_KEY: "" } };
        self.collection(ROOM_MESSAGES).update_many(known, forgotten).await?;
        Ok(())
    }

    /// Deletes what a person has in rooms up to the resignation.
    pub(super) async fn forget_rooms(&self, erasure: &Erasure) -> Result<(), StoreError> {
        let person = erasure.account.fingerprint();
        self.leave_rooms(&person, erasure.until).await?;
        self.clear_creator(&erasure.account, &person).await?;
        self.forget_reactions(&person, erasure.until).await?;
        let up_to = doc! { "$lte": erasure.until.as_millisecond() };
        let sent = doc! {
            "from": &person,
            "$or": [{ "storedAt": up_to.clone() }, { "madeAt": up_to }],
        };
        self.delete_numbered(&sent).await
    }

    /// Deletes messages whose numbers are not given again: a process may have been killed before it wrote them to the room.
    async fn delete_numbered(&self, wanted: &Document) -> Result<(), StoreError> {
        let places = doc! { "room": 1, NUMBER: 1 };
        let mut found = self
            .collection(ROOM_MESSAGES)
            .find(wanted.clone())
            .projection(places)
            .await?;
        let mut given: HashMap<String, i64> = HashMap::new();
        while let Some(message) = found.try_next().await? {
            if let (Ok(room), Ok(number)) = (message.get_str("room"), number(&message, NUMBER)) {
                let greatest = given.entry(room.to_owned()).or_default();
                *greatest = number.max(*greatest);
            }
        }
        for (room, number) in given {
            let given = doc! { "$max": { LAST_NUMBER: number } };
            self.collection(ROOMS).update_one(doc! { "_id": room }, given).await?;
        }
        self.delete_messages(ROOM_MESSAGES, wanted).await
    }

    /// Takes a person out of the rooms that it joined up to a resignation, also as their creator, and also if it has left them since.
    async fn leave_rooms(&self, person: &str, until: Timestamp) -> Result<(), StoreError> {
        let rooms = self.collection(ROOMS);
        let theirs: Vec<Document> = rooms
            .find(doc! { PERSONS: person })
            .projection(doc! { "_id": 1, "creator": 1 })
            .await?
            .try_collect()
            .await?;
        for room in &theirs {
            let Ok(id) = room.get_str("_id") else { continue };
            let membership = doc! { "person": person, "joinedAt": { "$lte": until.as_millisecond() } };
            let member = doc! { "_id": id, "members": { "$elemMatch": membership.clone() } };
            let mut set = doc! { LEFT: true };
            let creator = room.get_str("creator").unwrap_or_default().parse::<Account>();
            if creator.is_ok_and(|creator| creator.fingerprint() == person) {
                // In the same update: after a crash a sweep finds no more membership.
                set.insert("creator", FORMER_CREATOR);
            }
            let leave = doc! { "$pull": { "members": membership }, "$set": set };
            rooms.update_one(member, leave).await?;
            self.delete_if_empty(id).await?;
        }
        let former = doc! { "person": person, "joinedAt": { "$lte": until.as_millisecond() } };
        self.collection(FORMER_MEMBERS).delete_many(former).await?;
        Ok(())
    }

    /// Deletes the account of a creator from the rooms that it left before.
    async fn clear_creator(&self, creator: &Account, person: &str) -> Result<(), StoreError> {
        let others = doc! { "creator": creator.as_str(), PERSONS: { "$ne": person } };
        let cleared = doc! { "$set": { "creator": FORMER_CREATOR } };
        self.collection(ROOMS).update_many(others, cleared).await?;
        Ok(())
    }

    /// Deletes the accounts of creators who are not in their rooms: an earlier release has left them there. Until a pass finds none.
    pub(super) async fn clear_former_creators(&self) -> Result<(), StoreError> {
        let markers = self.collection(MARKERS);
        if markers.find_one(doc! { "_id": CREATORS_CLEARED }).await?.is_some() {
            return Ok(());
        }
        let others = doc! { "creator": { "$ne": FORMER_CREATOR } };
        let creators = doc! { "creator": 1, "members": 1 };
        let mut found = self.collection(ROOMS).find(others).projection(creators).await?;
        let mut is_done = true;
        while let Some(room) = found.try_next().await? {
            let Ok(creator) = room.get_str("creator").unwrap_or_default().parse::<Account>() else {
                continue;
            };
            let person = creator.fingerprint();
            let members = room.get_array("members").into_iter().flatten();
            let mut persons = members.filter_map(|member| member.as_document()?.get_str("person").ok());
            if !persons.any(|member| member == person) {
                self.clear_creator(&creator, &person).await?;
                is_done = false;
            }
        }
        if is_done {
            let known = doc! { "$set": { "known": true } };
            let cleared = doc! { "_id": CREATORS_CLEARED };
            markers.update_one(cleared, known).upsert(true).await?;
        }
        Ok(())
    }

    /// Takes a person out of the rooms that it was added to up to that moment, if the address has had no nickname since its resignation: this
    /// service had not heard of the resignation then.
    pub(super) async fn leave_rooms_without_name(
        &self,
        person: &str,
        resigned: Timestamp,
        up_to: Timestamp,
    ) -> Result<(), StoreError> {
        let Some(room) = self.collection(ROOMS).find_one(doc! { PERSONS: person }).await? else {
            return Ok(());
        };
        let members = room.get_array("members").into_iter().flatten();
        let account = members
            .filter_map(Bson::as_document)
            .filter(|member| member.get_str("person").is_ok_and(|theirs| theirs == person))
            .find_map(|member| member.get_str("account").ok()?.parse::<Account>().ok())
            .context("a member in the database is not one")
            .map_err(StoreError::Corrupt)?;
        if self
            .database
            .directory()
            .named_since(&account, resigned)
            .await?
            .is_none()
        {
            self.leave_rooms(person, up_to).await?;
        }
        Ok(())
    }

    /// Deletes what a process left that was killed between the insert of a room or a message and its second look at resignations.
    pub(super) async fn sweep_person_in_rooms(&self, person: &str, until: Timestamp) -> Result<(), StoreError> {
        self.leave_rooms(person, until).await?;
        self.forget_reactions(person, until).await?;
        let sent = doc! { "from": person, "madeAt": { "$lte": until.as_millisecond() } };
        self.delete_numbered(&sent).await
    }

    /// Inserts a message under the next number of its room, whose greatest number was `last` when it was read; `None` if its key is known.
    async fn insert_room_message(
        &self,
        mut document: Document,
        new: &NewRoomMessage,
        mut last: i64,
        event_of: impl Fn(i64) -> Outgoing,
    ) -> Result<Option<i64>, StoreError> {
        let messages = self.collection(ROOM_MESSAGES);
        let message = &new.message;
        loop {
            let number = last + 1;
            document.insert(NUMBER, number);
            document.insert(PLACE, numbered(&message.room, number));
            document.insert(OUTBOX, outbox_field(&event_of(number)));
            match retrying(async || Ok::<_, StoreError>(messages.insert_one(&document).await?)).await {
                Ok(_) => return Ok(Some(number)),
                // The id is ours alone: an earlier attempt inserted it.
                Err(StoreError::Conflict(rule)) if rule == ID_INDEX => return Ok(Some(number)),
                Err(StoreError::Conflict(rule)) if rule == ROOM_KEY_INDEX => {
                    let known = messages.find_one(doc! { CLIENT_KEY: new.client_key.as_str() }).await?;
                    let Some(known) = known else { continue };
                    if known.get_str("_id").is_ok_and(|id| id == message.id.as_str()) {
                        return Ok(known.get_i64(NUMBER).ok());
                    }
                    let older = doc! {
                        CLIENT_KEY: new.client_key.as_str(),
                        "storedAt": { "$lte": (message.stored_at - ClientKey::WINDOW).as_millisecond() },
                    };
                    let freed = messages
                        .update_one(older, doc! { "$unset": { CLIENT_KEY: "" } })
                        .await?;
                    if freed.modified_count == 0 {
                        return Ok(None);
                    }
                }
                // Another message took the number.
                Err(StoreError::Conflict(rule)) if rule == ROOM_PLACE_INDEX => {
                    last = self.newest_number(&message.room).await?.max(last);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives members who joined while a message was inserted its frame. Deletes a message whose sender resigned, or whose room was deleted,
    /// meanwhile.
    async fn settle_room_message(
        &self,
        new: &NewRoomMessage,
        number: i64,
        members: &[Account],
    ) -> Result<Posted, WriteError> {
        let message = &new.message;
        let ours = doc! { "_id": message.id.as_str() };
        let sender = &message.sender.account;
        if let Err(refused @ WriteError::Resigned) = self.still_here(sender, sender, new.authorized_at).await {
            self.delete_numbered(&ours).await?;
            return Err(refused);
        }
        let Some(found) = self.room_document(&message.room).await? else {
            self.delete_messages(ROOM_MESSAGES, &ours).await?;
            return Ok(Posted::NoMember);
        };
        let room = room_from(&found, 0)?;
        let late: Vec<String> = room
            .members
            .iter()
            .filter(|member| member.joined_after < number && !members.contains(&member.account))
            .map(|member| member.account.fingerprint())
            .collect();
        self.add_unnumbered(&message.id, late).await?;
        let reader = doc! { "_id": &message.room, PERSONS: sender.fingerprint() };
        let read = doc! { "$max": { "members.$.read": number, LAST_NUMBER: number } };
        let rooms = self.collection(ROOMS);
        let read = rooms.update_one(reader, read).await.map_err(StoreError::from)?;
        // The sender has left meanwhile.
        if read.matched_count == 0 {
            let given = doc! { "$max": { LAST_NUMBER: number } };
            let room = doc! { "_id": &message.room };
            rooms.update_one(room, given).await.map_err(StoreError::from)?;
        }
        Ok(Posted::Stored)
    }
}

#[async_trait]
impl Rooms for MongoStore {
    async fn create_room(&self, room: &Room, authorized_at: Timestamp) -> Result<RoomOutcome, WriteError> {
        self.still_here(&room.creator, &room.creator, authorized_at).await?;
        // Two calls at once may add one beyond the limit.
        if self.rooms_of_person(&room.creator.fingerprint()).await? >= u64::from(MOST_ROOMS) {
            return Ok(RoomOutcome::TooMany);
        }
        let members = room.first_members(authorized_at);
        let members: Vec<Document> = members.map(|member| member_document(&member)).collect();
        let document = doc! {
            "_id": &room.id,
            "name": room.name.as_str(),
            "creator": room.creator.as_str(),
            "createdAt": room.created_at.as_millisecond(),
            "members": members,
        };
        let rooms = self.collection(ROOMS);
        rooms.insert_one(document).await.map_err(StoreError::from)?;
        // A resignation that crosses this marks the account before this look, or finds the room.
        if let Err(refused @ WriteError::Resigned) = self.still_here(&room.creator, &room.creator, authorized_at).await
        {
            rooms
                .delete_one(doc! { "_id": &room.id })
                .await
                .map_err(StoreError::from)?;
            return Err(refused);
        }
        Ok(RoomOutcome::Created)
    }

    async fn room(&self, id: &str) -> Result<Option<Room>, StoreError> {
        match self.room_document(id).await? {
            Some(document) => Ok(Some(self.room_of(&document).await?)),
            None => Ok(None),
        }
    }

    async fn rooms_of(&self, account: &Account) -> Result<Vec<Room>, StoreError> {
        let found: Vec<Document> = self
            .collection(ROOMS)
            .find(doc! { PERSONS: account.fingerprint() })
            .sort(doc! { "_id": 1 })
            .await?
            .try_collect()
            .await?;
        let newest = self.newest_numbers(&found).await?;
        if let Err(error) = self.keep_numbers(&newest).await {
            // The next list finds them again.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "numbers not written to their rooms"
            );
        }
        let rooms = found.iter().map(|document| {
            let newest = document.get_str("_id").ok().and_then(|id| newest.get(id));
            room_from(document, newest.copied().unwrap_or_default())
        });
        rooms.collect()
    }

    async fn joined_after(&self, account: &Account, rooms: &[String]) -> Result<HashMap<String, i64>, StoreError> {
        if rooms.is_empty() {
            return Ok(HashMap::new());
        }
        let person = account.fingerprint();
        let own = doc! { "_id": { "$in": rooms }, PERSONS: &person };
        // Of up to a hundred members the one alone.
        let member = doc! { "members": { "$elemMatch": { "person": &person } } };
        let found = self.collection(ROOMS).find(own).projection(member).await?;
        let found: Vec<Document> = found.try_collect().await?;
        let read = |room: &Document| -> anyhow::Result<(String, i64)> {
            let member = room.get_array("members")?.first().and_then(Bson::as_document);
            let member = member.context("a room lacks its member")?;
            Ok((room.get_str("_id")?.to_owned(), number(member, "joinedAfter")?))
        };
        found
            .iter()
            .map(|room| read(room).map_err(StoreError::Corrupt))
            .collect()
    }

    async fn join_room(&self, joining: &Joining<'_>) -> Result<JoinOutcome, WriteError> {
        let still_here = || self.still_here(joining.by, joining.account, joining.authorized_at);
        still_here().await?;
        let joined = self.add_member(joining).await?;
        // A resignation that crosses this marks the account before this look, or finds the member.
        if joined == JoinOutcome::Joined
            && let Err(refused @ (WriteError::Resigned | WriteError::ReceiverResigned)) = still_here().await
        {
            let person = joining.account.fingerprint();
            let leave = doc! { "$pull": { "members": { "person": person } }, "$set": { LEFT: true } };
            let rooms = self.collection(ROOMS);
            let room = doc! { "_id": joining.room };
            rooms.update_one(room, leave).await.map_err(StoreError::from)?;
            self.delete_if_empty(joining.room).await?;
            return Err(refused);
        }
        Ok(joined)
    }

    async fn leave_room(
        &self,
        id: &str,
        account: &Account,
        at: Timestamp,
        event_of: LeftEventOf<'_>,
    ) -> Result<bool, StoreError> {
        let person = account.fingerprint();
        let Some(room) = self.room(id).await? else {
            return Ok(false);
        };
        let Some(member) = room.member(account) else {
            return Ok(false);
        };
        // Before the member leaves: a call after a crash in between finds the member, and writes the event again, which changes nothing.
        let last = room.last_number;
        self.write_room_read(id, &person, last, at, &event_of(last)).await?;
        self.note_former_member(id, member, last, at).await?;
        let there = doc! { "_id": id, PERSONS: &person };
        let mut set = doc! { LEFT: true };
        if room.creator == *account {
            set.insert("creator", FORMER_CREATOR);
        }
        let leave = doc! { "$pull": { "members": { "person": &person } }, "$set": set };
        let left = self.collection(ROOMS).update_one(there, leave).await?;
        let newest = self.newest_number(id).await?;
        if newest > last {
            // Messages that were stored meanwhile.
            self.write_room_read(id, &person, newest, at, &event_of(newest)).await?;
            self.note_former_member(id, member, newest, at).await?;
        }
        self.delete_if_empty(id).await?;
        Ok(left.modified_count > 0)
    }

    async fn post(&self, new: &NewRoomMessage, event_of: PostedEventOf<'_>) -> Result<Posted, WriteError> {
        let message = &new.message;
        let sender = &message.sender.account;
        self.still_here(sender, sender, new.authorized_at).await?;
        let room = self.room(&message.room).await?;
        let Some(room) = room.filter(|room| room.member(sender).is_some()) else {
            return Ok(Posted::NoMember);
        };
        let numbered: Vec<String> = room.members.iter().map(|member| member.account.fingerprint()).collect();
        let members: Vec<Account> = room.members.iter().map(|member| member.account.clone()).collect();
        let mut document = doc! {
            "_id": message.id.as_str(),
            "room": &message.room,
            "senderAccount": sender.as_str(),
            "sender": &message.sender.nickname,
            "from": sender.fingerprint(),
            "date": i64::from(message.date),
            "text": message.text.as_str(),
            "madeAt": new.authorized_at.as_millisecond(),
            "storedAt": message.stored_at.as_millisecond(),
            CLIENT_KEY: new.client_key.as_str(),
            UNNUMBERED: numbered,
        };
        if let Some(answered) = &message.reply_to {
            document.insert("replyTo", answered.as_str());
        }
        let event_of = |number: i64| event_of(&members, number);
        match self
            .insert_room_message(document, new, room.last_number, event_of)
            .await?
        {
            Some(number) => self.settle_room_message(new, number, &members).await,
            None => Ok(Posted::Repeated),
        }
    }

    async fn enlist_late(
        &self,
        room: &str,
        message: &MessageId,
        members: &[Account],
    ) -> Result<Vec<Account>, StoreError> {
        let Some(document) = self.room_document(room).await? else {
            return Ok(Vec::new());
        };
        let room = room_from(&document, 0)?;
        // Nearly always there is no other member.
        if room.members.iter().all(|member| members.contains(&member.account)) {
            return Ok(Vec::new());
        }
        let Some(message) = self.room_message(message).await? else {
            return Ok(Vec::new());
        };
        let late = room.late_viewers(message.number, members);
        self.add_unnumbered(&message.id, late.iter().map(Account::fingerprint).collect())
            .await?;
        Ok(late)
    }

    async fn room_frames(
        &self,
        message: &MessageId,
        members: &[&Account],
    ) -> Result<HashMap<Account, i64>, StoreError> {
        let people: Vec<String> = members.iter().map(|member| member.fingerprint()).collect();
        let numbers = self.number_together(message, &people).await?;
        let mut seen = HashMap::with_capacity(numbers.len());
        if numbers.is_empty() {
            return Ok(seen);
        }
        let Some(message) = self.room_message(message).await? else {
            return Ok(seen);
        };
        let Some(room) = self.room_document(&message.room).await? else {
            return Ok(seen);
        };
        // One of them may have left since.
        let room = room_from(&room, 0)?;
        let viewers: Vec<&Account> = room.viewers(message.number).collect();
        for (member, person) in members.iter().zip(&people) {
            if let Some(number) = numbers.get(person)
                && viewers.contains(member)
            {
                seen.insert((*member).clone(), *number);
            }
        }
        Ok(seen)
    }

    async fn room_message_with_key(&self, key: &ClientKey, now: Timestamp) -> Result<Option<RoomMessage>, StoreError> {
        let young = doc! { "$gt": (now - ClientKey::WINDOW).as_millisecond() };
        let known = doc! { CLIENT_KEY: key.as_str(), "storedAt": young };
        let found = self.collection(ROOM_MESSAGES).find_one(known).await?;
        found.as_ref().map(message_of).transpose()
    }

    async fn room_message(&self, id: &MessageId) -> Result<Option<RoomMessage>, StoreError> {
        let found = self
            .collection(ROOM_MESSAGES)
            .find_one(doc! { "_id": id.as_str() })
            .await?;
        found.as_ref().map(message_of).transpose()
    }

    async fn change_in_room(&self, change: &NewChange, event: &Outgoing) -> Result<Option<Changed>, ChangeError> {
        retrying(|| self.change_in_room_once(change, event)).await
    }

    async fn room_page(
        &self,
        room: &str,
        joined_after: i64,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<RoomMessage>, StoreError> {
        let numbers = doc! { "$gt": joined_after, "$lt": before.unwrap_or(i64::MAX) };
        let found: Vec<Document> = self
            .collection(ROOM_MESSAGES)
            .find(doc! { "room": room, NUMBER: numbers })
            .sort(doc! { NUMBER: -1 })
            .limit(limit.into())
            .projection(doc! { OUTBOX: 0 })
            .await?
            .try_collect()
            .await?;
        found.iter().map(message_of).collect()
    }

    async fn unread_in_rooms(
        &self,
        account: &Account,
        rooms: &[Room],
        hidden: &[Account],
    ) -> Result<HashMap<String, u64>, StoreError> {
        // A member has read what it sent.
        let others = hidden.iter().chain([account]).map(Account::fingerprint);
        let others: Vec<String> = others.collect();
        // Each of them seeks in the index of rooms and numbers.
        let wanted = rooms.iter().filter_map(|room| {
            Some(doc! {
                "room": &room.id,
                NUMBER: { "$gt": room.counted_after(account)? },
                "from": { "$nin": &others },
                RETRACTED_AT: null,
                HIDDEN_AT: null,
            })
        });
        let wanted: Vec<Document> = wanted.collect();
        let mut unread = HashMap::new();
        if wanted.is_empty() {
            return Ok(unread);
        }
        let counts = [
            doc! { "$match": { "$or": wanted } },
            doc! { "$group": { "_id": "$room", COUNT: { "$sum": 1_i64 } } },
        ];
        for (room, count) in self.number_of_each_room(counts, COUNT).await? {
            unread.insert(room, u64::try_from(count).unwrap_or_default());
        }
        Ok(unread)
    }

    async fn read_room(
        &self,
        room: &str,
        account: &Account,
        number: i64,
        at: Timestamp,
        event: &Outgoing,
    ) -> Result<bool, StoreError> {
        let person = account.fingerprint();
        let lower = doc! {
            "_id": room,
            "members": { "$elemMatch": { "person": &person, "read": { "$lt": number } } },
        };
        if self.collection(ROOMS).find_one(lower.clone()).await?.is_none() {
            return Ok(false);
        }
        // Before the mark: a call after a crash in between writes the event again, which changes nothing.
        self.write_room_read(room, &person, number, at, event).await?;
        let read = doc! { "$max": { "members.$.read": number } };
        self.collection(ROOMS).update_one(lower, read).await?;
        Ok(true)
    }

    async fn sent_in_rooms(
        &self,
        account: &Account,
        after: &MessageId,
        limit: u32,
    ) -> Result<Vec<RoomMessage>, StoreError> {
        let sent = doc! { "from": account.fingerprint(), "_id": { "$gt": after.as_str() } };
        let found: Vec<Document> = self
            .collection(ROOM_MESSAGES)
            .find(sent)
            .sort(doc! { "_id": 1 })
            .limit(limit.into())
            .projection(doc! { OUTBOX: 0 })
            .await?
            .try_collect()
            .await?;
        found.iter().map(message_of).collect()
    }
}

/// Returns the condition on the `_id`s of those who have left a room.
fn former_of(room: &str) -> Document {
    // The character after the colon.
    doc! { "$gt": format!("{room}:"), "$lt": format!("{room};") }
}

/// Returns the condition on rooms without a member.
fn empty() -> Document {
    doc! { "members.0": { "$exists": false } }
}

fn member_document(member: &Member) -> Document {
    doc! {
        "account": member.account.as_str(),
        "person": member.account.fingerprint(),
        "joinedAt": member.joined_at.as_millisecond(),
        "joinedAfter": member.joined_after,
        "read": member.read,
    }
}

/// `newest`: the number of its newest message.
fn room_from(document: &Document, newest: i64) -> Result<Room, StoreError> {
    read_room(document, newest)
        .context("a room in the database is not one")
        .map_err(StoreError::Corrupt)
}

fn read_room(document: &Document, newest: i64) -> anyhow::Result<Room> {
    // The newest message may have been erased: its number is not given again. A room of an earlier release has none here.
    let given = if document.contains_key(LAST_NUMBER) {
        number(document, LAST_NUMBER)?
    } else {
        0
    };
    let members = document.get_array("members")?.iter().map(|member| {
        let member = member.as_document().context("a member is no document")?;
        Ok(Member {
            account: member.get_str("account")?.parse()?,
            joined_at: timestamp(member, "joinedAt")?,
            joined_after: number(member, "joinedAfter")?,
            read: number(member, "read")?,
        })
    });
    Ok(Room {
        id: document.get_str("_id")?.to_owned(),
        name: RoomName::stored(document.get_str("name")?.to_owned()),
        creator: document.get_str("creator")?.parse()?,
        created_at: timestamp(document, "createdAt")?,
        members: members.collect::<anyhow::Result<_>>()?,
        last_number: newest.max(given),
    })
}
