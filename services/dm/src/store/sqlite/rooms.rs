//! Rooms.

use std::collections::HashMap;

use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::Outgoing;
use sosohappy_store::sqlite::{Engine, Tx, enqueue, note_erasure};
use sosohappy_store::{StoreError, retrying};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _};

use super::changes::{self, Table};
use super::stream::{add_frames, delete_frames};
use super::{BATCH, SqliteStore, account_of, state_of, timestamp};
use crate::domain::{
    Changed, ClientKey, Erasure, Joining, MOST_MEMBERS, MOST_ROOMS, Member, MessageDate, MessageId, MessageText,
    NewChange, NewRoomMessage, Party, Room, RoomMessage, RoomName,
};
use crate::store::{
    ChangeError, FORMER_CREATOR, JoinOutcome, LeftEventOf, Posted, PostedEventOf, RoomOutcome, Rooms, WriteError,
    changed, check_in_room, decoded,
};

/// The columns of [`message_of`].
macro_rules! columns {
    () => {
        "id, room, sender, sender_nickname, date, text, number, stored_at, reply_to, revision, edited_at, retracted_at, \
         reactions, hidden_at"
    };
}

#[async_trait]
impl Rooms for SqliteStore {
    async fn create_room(&self, room: &Room, authorized_at: Timestamp) -> Result<RoomOutcome, WriteError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            self.still_here(&mut tx, &room.creator, &room.creator, authorized_at)
                .await?;
            if rooms_of(&mut tx, &room.creator).await? >= i64::from(MOST_ROOMS) {
                tx.rollback().await.map_err(StoreError::from)?;
                return Ok(RoomOutcome::TooMany);
            }
            sqlx::query("INSERT INTO room (id, name, creator, created_at) VALUES (?, ?, ?, ?)")
                .bind(&room.id)
                .bind(room.name.as_str())
                .bind(room.creator.as_str())
                .bind(room.created_at.as_millisecond())
                .execute(&mut *tx)
                .await
                .map_err(StoreError::from)?;
            for member in room.first_members(authorized_at) {
                join(&mut tx, &room.id, &member).await?;
            }
            tx.commit().await.map_err(StoreError::from)?;
            Ok(RoomOutcome::Created)
        })
        .await
    }

    async fn room(&self, id: &str) -> Result<Option<Room>, StoreError> {
        let rooms = self.rooms_with(&[id.to_owned()]).await?;
        Ok(rooms.into_iter().next())
    }

    async fn rooms_of(&self, account: &Account) -> Result<Vec<Room>, StoreError> {
        let ids: Vec<String> = sqlx::query_scalar("SELECT room FROM room_member WHERE account = ? LIMIT ?")
            .bind(account.as_str())
            .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
            .fetch_all(self.database.reader())
            .await?;
        self.rooms_with(&ids).await
    }

    async fn joined_after(&self, account: &Account, rooms: &[String]) -> Result<HashMap<String, i64>, StoreError> {
        if rooms.is_empty() {
            return Ok(HashMap::new());
        }
        let mut query = QueryBuilder::<Engine>::new("SELECT room, joined_after FROM room_member WHERE account = ");
        query.push_bind(account.as_str()).push(" AND room IN (");
        let mut list = query.separated(", ");
        for room in rooms {
            list.push_bind(room);
        }
        query.push(")");
        let rows = query.build().fetch_all(self.database.reader()).await?;
        rows.iter()
            .map(|row| Ok((row.try_get("room")?, row.try_get("joined_after")?)))
            .collect()
    }

    async fn join_room(&self, joining: &Joining<'_>) -> Result<JoinOutcome, WriteError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            self.still_here(&mut tx, joining.by, joining.account, joining.authorized_at)
                .await?;
            let joined = add_member(&mut tx, joining).await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(joined)
        })
        .await
    }

    async fn leave_room(
        &self,
        id: &str,
        account: &Account,
        at: Timestamp,
        event_of: LeftEventOf<'_>,
    ) -> Result<bool, StoreError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let last: Option<i64> = sqlx::query_scalar("SELECT last_number FROM room WHERE id = ?")
                .bind(id)
                .fetch_optional(&mut *tx)
                .await?;
            sqlx::query(
                "INSERT INTO room_former_member (room, account, joined_at, joined_after, left_after, left_at) \
                 SELECT room, account, joined_at, joined_after, ?, ? FROM room_member WHERE room = ? AND account = ? \
                 ON CONFLICT (room, account) DO UPDATE SET joined_at = excluded.joined_at, \
                 joined_after = excluded.joined_after, left_after = excluded.left_after, left_at = excluded.left_at",
            )
            .bind(last.unwrap_or_default())
            .bind(at.as_millisecond())
            .bind(id)
            .bind(account.as_str())
            .execute(&mut *tx)
            .await?;
            let left = sqlx::query("DELETE FROM room_member WHERE room = ? AND account = ?")
                .bind(id)
                .bind(account.as_str())
                .execute(&mut *tx)
                .await?;
            let has_left = left.rows_affected() > 0;
            if let Some(last) = last.filter(|_| has_left) {
                enqueue(&mut tx, &event_of(last), at).await?;
            }
            clear_creator(&mut tx, account).await?;
            delete_if_empty(&mut tx, id).await?;
            tx.commit().await?;
            Ok(has_left)
        })
        .await
    }

    async fn post(&self, new: &NewRoomMessage, event_of: PostedEventOf<'_>) -> Result<Posted, WriteError> {
        let message = &new.message;
        let sender = &message.sender.account;
        retrying(async || {
            let mut tx = self.database.begin().await?;
            self.still_here(&mut tx, sender, sender, new.authorized_at).await?;
            forget_older(&mut tx, &new.client_key, message.stored_at).await?;
            let known: Option<i64> = sqlx::query_scalar("SELECT 1 FROM room_message WHERE client_key = ?")
                .bind(new.client_key.as_str())
                .fetch_optional(&mut *tx)
                .await
                .map_err(StoreError::from)?;
            if known.is_some() {
                tx.rollback().await.map_err(StoreError::from)?;
                return Ok(Posted::Repeated);
            }
            let number: Option<i64> = sqlx::query_scalar(
                "UPDATE room SET last_number = last_number + 1 WHERE id = ?1 \
                 AND EXISTS (SELECT 1 FROM room_member WHERE room = ?1 AND account = ?2) RETURNING last_number",
            )
            .bind(&message.room)
            .bind(sender.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::from)?;
            let Some(number) = number else {
                tx.rollback().await.map_err(StoreError::from)?;
                return Ok(Posted::NoMember);
            };
            insert(&mut tx, new, number).await?;
            let rows = sqlx::query("SELECT account FROM room_member WHERE room = ? ORDER BY joined_at, account")
                .bind(&message.room)
                .fetch_all(&mut *tx)
                .await
                .map_err(StoreError::from)?;
            let members: Vec<Account> = rows
                .iter()
                .map(|row| account_of(row, "account"))
                .collect::<Result<_, _>>()?;
            add_frames(&mut tx, members.iter(), &message.id, 0, self.frames).await?;
            enqueue(&mut tx, &event_of(&members, number), message.stored_at).await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(Posted::Stored)
        })
        .await
    }

    async fn enlist_late(
        &self,
        room: &str,
        message: &MessageId,
        members: &[Account],
    ) -> Result<Vec<Account>, StoreError> {
        let (room, message) = futures::try_join!(self.room(room), self.room_message(message))?;
        let late = room
            .zip(message)
            .map(|(room, message)| room.late_viewers(message.number, members));
        Ok(late.unwrap_or_default())
    }

    async fn room_frames(
        &self,
        message: &MessageId,
        members: &[&Account],
    ) -> Result<HashMap<Account, i64>, StoreError> {
        let rows = sqlx::query(
            "SELECT stream_frame.account AS account, seq FROM stream_frame \
             JOIN room_message ON room_message.id = stream_frame.message \
             JOIN room_member ON room_member.room = room_message.room AND room_member.account = stream_frame.account \
             AND joined_after < number WHERE stream_frame.message = ? AND stream_frame.revision = 0",
        )
        .bind(message.as_str())
        .fetch_all(self.database.reader())
        .await?;
        let mut numbers = HashMap::with_capacity(members.len());
        for row in &rows {
            let member = account_of(row, "account")?;
            if members.contains(&&member) {
                numbers.insert(member, row.try_get("seq")?);
            }
        }
        Ok(numbers)
    }

    async fn room_message_with_key(&self, key: &ClientKey, now: Timestamp) -> Result<Option<RoomMessage>, StoreError> {
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM room_message WHERE client_key = ? AND stored_at > ?"
        ))
        .bind(key.as_str())
        .bind((now - ClientKey::WINDOW).as_millisecond())
        .fetch_optional(self.database.reader())
        .await?;
        row.as_ref().map(message_of).transpose()
    }

    async fn room_message(&self, id: &MessageId) -> Result<Option<RoomMessage>, StoreError> {
        match self.room_messages(&[id.as_str().to_owned()]).await?.remove(id) {
            Some(None) => Err(StoreError::corrupt("a message of a room in the database is not one")),
            found => Ok(found.flatten()),
        }
    }

    async fn change_in_room(&self, change: &NewChange, event: &Outgoing) -> Result<Option<Changed>, ChangeError> {
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let found = message_and_viewers(&mut tx, &change.message).await?;
            let (message, viewers) = found.ok_or(ChangeError::Unknown)?;
            let made = changes::made(&mut tx, &message.state, change).await?;
            if !check_in_room(&message, viewers.contains(&change.by), change, made)? {
                return Ok(None);
            }
            let changed = changed(&message.text, &message.state, change);
            changes::insert(&mut tx, change, &changed).await?;
            changes::apply(&mut tx, Table::RoomMessages, &message.state, change, changed.revision).await?;
            add_frames(&mut tx, viewers.iter(), &message.id, changed.revision, self.frames).await?;
            enqueue(&mut tx, event, change.at).await?;
            tx.commit().await.map_err(StoreError::from)?;
            Ok(Some(changed))
        })
        .await
    }

    async fn room_page(
        &self,
        room: &str,
        joined_after: i64,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<RoomMessage>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM room_message WHERE room = ? AND number > ? AND number < ? ORDER BY number DESC LIMIT ?"
        ))
        .bind(room)
        .bind(joined_after)
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(self.database.reader())
        .await?;
        rows.iter().map(message_of).collect()
    }

    async fn unread_in_rooms(
        &self,
        account: &Account,
        rooms: &[Room],
        hidden: &[Account],
    ) -> Result<HashMap<String, u64>, StoreError> {
        let wanted = rooms
            .iter()
            .filter_map(|room| Some((room.id.as_str(), room.counted_after(account)?)));
        let wanted: Vec<(&str, i64)> = wanted.collect();
        let mut unread = HashMap::new();
        if wanted.is_empty() {
            return Ok(unread);
        }
        let mut query = QueryBuilder::<Engine>::new("SELECT room, COUNT(*) AS unread FROM (");
        query.push_values(&wanted, |mut row, (room, after)| {
            row.push_bind(*room).push_bind(*after);
        });
        // A cross join of SQLite keeps the order: each room seeks its messages in the index.
        query.push(
            ") AS wanted CROSS JOIN room_message ON room_message.room = wanted.column1 AND number > wanted.column2 \
             WHERE retracted_at IS NULL AND hidden_at IS NULL AND sender NOT IN (",
        );
        let mut senders = query.separated(", ");
        // A member has read what it sent.
        for sender in hidden.iter().chain([account]) {
            senders.push_bind(sender.as_str());
        }
        query.push(") GROUP BY room");
        for row in query.build().fetch_all(self.database.reader()).await? {
            let count: i64 = row.try_get("unread")?;
            unread.insert(row.try_get("room")?, u64::try_from(count).unwrap_or_default());
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
        retrying(async || {
            let mut tx = self.database.begin().await?;
            let raised = sqlx::query("UPDATE room_member SET read = ?1 WHERE room = ?2 AND account = ?3 AND read < ?1")
                .bind(number)
                .bind(room)
                .bind(account.as_str())
                .execute(&mut *tx)
                .await?;
            let is_raised = raised.rows_affected() > 0;
            if is_raised {
                enqueue(&mut tx, event, at).await?;
            }
            tx.commit().await?;
            Ok(is_raised)
        })
        .await
    }

    async fn sent_in_rooms(
        &self,
        account: &Account,
        after: &MessageId,
        limit: u32,
    ) -> Result<Vec<RoomMessage>, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(),
            " FROM room_message WHERE sender = ? AND id > ? ORDER BY id LIMIT ?"
        ))
        .bind(account.as_str())
        .bind(after.as_str())
        .bind(limit)
        .fetch_all(self.database.reader())
        .await?;
        rows.iter().map(message_of).collect()
    }
}

impl SqliteStore {
    async fn rooms_with(&self, ids: &[String]) -> Result<Vec<Room>, StoreError> {
        let mut rooms = Vec::with_capacity(ids.len());
        if ids.is_empty() {
            return Ok(rooms);
        }
        let list = |query: &mut QueryBuilder<Engine>| {
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(id.clone());
            }
            query.push(")");
        };
        let mut query = QueryBuilder::<Engine>::new(
            "SELECT room, account, joined_at, joined_after, read FROM room_member WHERE room IN (",
        );
        list(&mut query);
        query.push(" ORDER BY joined_at, account");
        let mut members: HashMap<String, Vec<Member>> = HashMap::new();
        for row in query.build().fetch_all(self.database.reader()).await? {
            let member = Member {
                account: account_of(&row, "account")?,
                joined_at: timestamp(row.try_get("joined_at")?)?,
                joined_after: row.try_get("joined_after")?,
                read: row.try_get("read")?,
            };
            members.entry(row.try_get("room")?).or_default().push(member);
        }
        let mut query =
            QueryBuilder::<Engine>::new("SELECT id, name, creator, created_at, last_number FROM room WHERE id IN (");
        list(&mut query);
        query.push(" ORDER BY id");
        for row in query.build().fetch_all(self.database.reader()).await? {
            let id: String = row.try_get("id")?;
            rooms.push(Room {
                members: members.remove(&id).unwrap_or_default(),
                id,
                name: RoomName::stored(row.try_get("name")?),
                creator: account_of(&row, "creator")?,
                created_at: timestamp(row.try_get("created_at")?)?,
                last_number: row.try_get("last_number")?,
            });
        }
        Ok(rooms)
    }

    /// Of these messages those that are in rooms; `None` for one that cannot be decoded.
    pub(super) async fn room_messages(
        &self,
        ids: &[String],
    ) -> Result<HashMap<MessageId, Option<RoomMessage>>, StoreError> {
        let mut messages = HashMap::new();
        for ids in ids.chunks(BATCH) {
            let mut query =
                QueryBuilder::<Engine>::new(concat!("SELECT ", columns!(), " FROM room_message WHERE id IN ("));
            let mut list = query.separated(", ");
            for id in ids {
                list.push_bind(id);
            }
            query.push(")");
            for row in query.build().fetch_all(self.database.reader()).await? {
                let id = MessageId::stored(row.try_get("id")?);
                let message = decoded(&id, message_of(&row));
                messages.insert(id, message);
            }
        }
        Ok(messages)
    }

    /// Frees the keys of messages that are older than [`ClientKey::WINDOW`], some at a time. False when there are no more.
    pub(super) async fn forget_room_keys(&self, now: Timestamp) -> Result<bool, StoreError> {
        let mut tx = self.database.begin().await?;
        let forgotten = sqlx::query(
            "UPDATE room_message SET client_key = NULL WHERE id IN (SELECT id FROM room_message \
             WHERE client_key IS NOT NULL AND stored_at <= ? LIMIT ?)",
        )
        .bind((now - ClientKey::WINDOW).as_millisecond())
        .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(forgotten.rows_affected() > 0)
    }

    /// Takes people out of the rooms that they were added to up to that moment, if their addresses have had no nickname since their
    /// resignations: this service had not heard of them then.
    pub(super) async fn leave_rooms_without_name(&self, settled: Timestamp) -> Result<(), StoreError> {
        let marks = self.marks_up_to(settled).await?;
        if marks.is_empty() {
            return Ok(());
        }
        let members: Vec<String> = sqlx::query_scalar("SELECT DISTINCT account FROM room_member WHERE joined_at <= ?")
            .bind(settled.as_millisecond())
            .fetch_all(self.database.reader())
            .await?;
        for member in members {
            let Ok(account) = member.parse::<Account>() else {
                continue;
            };
            let Some(&resigned) = marks.get(&account.fingerprint()) else {
                continue;
            };
            let directory = self.database.directory();
            if directory.named_since(&account, timestamp(resigned)?).await?.is_some() {
                continue;
            }
            let mut tx = self.database.begin().await?;
            leave_rooms(&mut tx, &account, settled).await?;
            while delete_frames(&mut tx, &account).await? {}
            tx.commit().await?;
        }
        Ok(())
    }

    /// Deletes the accounts of creators who are not in their rooms: an earlier release has left them there.
    pub(super) async fn clear_former_creators(&self) -> Result<(), StoreError> {
        let mut tx = self.database.begin().await?;
        let cleared = sqlx::query(
            "UPDATE room SET creator = ?1 WHERE creator <> ?1 AND NOT EXISTS \
             (SELECT 1 FROM room_member WHERE room_member.room = room.id AND room_member.account = room.creator)",
        )
        .bind(FORMER_CREATOR)
        .execute(&mut *tx)
        .await?;
        if cleared.rows_affected() > 0 {
            note_erasure(&mut tx, self.clock.now()).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Deletes what an account has in rooms up to the resignation, some at a time. False when there is no more.
    pub(super) async fn forget_rooms(&self, erasure: &Erasure) -> Result<bool, StoreError> {
        let (account, until) = (erasure.account.as_str(), erasure.until.as_millisecond());
        let mut tx = self.database.begin().await?;
        leave_rooms(&mut tx, &erasure.account, erasure.until).await?;
        let deleted: Vec<String> = sqlx::query_scalar(
            "DELETE FROM room_message WHERE id IN (SELECT id FROM room_message \
             WHERE sender = ?1 AND (stored_at <= ?2 OR made_at <= ?2) LIMIT ?3) RETURNING id",
        )
        .bind(account)
        .bind(until)
        .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await?;
        let messages: Vec<&str> = deleted.iter().map(String::as_str).collect();
        changes::delete_events(&mut tx, &messages).await?;
        delete_changes(&mut tx, &deleted).await?;
        let reacted: Vec<(String, i64)> = sqlx::query_as(
            "SELECT message, revision FROM message_change \
             WHERE account = ?1 AND kind = 'reacted' AND (changed_at <= ?2 OR made_at <= ?2) \
             AND EXISTS (SELECT 1 FROM room_message WHERE room_message.id = message_change.message) LIMIT ?3",
        )
        .bind(account)
        .bind(until)
        .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
        .fetch_all(&mut *tx)
        .await?;
        for (message, revision) in &reacted {
            delete_reaction(&mut tx, account, message, *revision).await?;
        }
        tx.commit().await?;
        Ok(!deleted.is_empty() || !reacted.is_empty())
    }
}

/// Takes an account out of the rooms that it joined up to that moment, also if it has left them since, and deletes it from those that it created
/// and is not in.
async fn leave_rooms(tx: &mut Tx, account: &Account, up_to: Timestamp) -> Result<(), StoreError> {
    let left: Vec<String> =
        sqlx::query_scalar("DELETE FROM room_member WHERE account = ? AND joined_at <= ? RETURNING room")
            .bind(account.as_str())
            .bind(up_to.as_millisecond())
            .fetch_all(&mut **tx)
            .await?;
    clear_creator(tx, account).await?;
    sqlx::query("DELETE FROM room_former_member WHERE account = ? AND joined_at <= ?")
        .bind(account.as_str())
        .bind(up_to.as_millisecond())
        .execute(&mut **tx)
        .await?;
    for room in &left {
        delete_if_empty(tx, room).await?;
    }
    Ok(())
}

/// Deletes an account from the rooms that it created and is not in.
async fn clear_creator(tx: &mut Tx, creator: &Account) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE room SET creator = ?1 WHERE creator = ?2 AND NOT EXISTS \
         (SELECT 1 FROM room_member WHERE room_member.room = room.id AND room_member.account = ?2)",
    )
    .bind(FORMER_CREATOR)
    .bind(creator.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Counts the rooms of an account.
async fn rooms_of(tx: &mut Tx, account: &Account) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar("SELECT COUNT(*) FROM room_member WHERE account = ?")
        .bind(account.as_str())
        .fetch_one(&mut **tx)
        .await?;
    Ok(count)
}

async fn add_member(tx: &mut Tx, joining: &Joining<'_>) -> Result<JoinOutcome, StoreError> {
    let last: Option<i64> = sqlx::query_scalar("SELECT last_number FROM room WHERE id = ?")
        .bind(joining.room)
        .fetch_optional(&mut **tx)
        .await?;
    let Some(last) = last else {
        return Ok(JoinOutcome::NoRoom);
    };
    let members: Vec<String> = sqlx::query_scalar("SELECT account FROM room_member WHERE room = ?")
        .bind(joining.room)
        .fetch_all(&mut **tx)
        .await?;
    if members.iter().any(|member| member == joining.account.as_str()) {
        return Ok(JoinOutcome::Already);
    }
    if members.len() >= MOST_MEMBERS || rooms_of(tx, joining.account).await? >= i64::from(MOST_ROOMS) {
        return Ok(JoinOutcome::Full);
    }
    let member = Member {
        account: joining.account.clone(),
        joined_at: joining.at,
        joined_after: last,
        read: last,
    };
    join(tx, joining.room, &member).await?;
    Ok(JoinOutcome::Joined)
}

async fn join(tx: &mut Tx, room: &str, member: &Member) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO room_member (room, account, joined_at, joined_after, read) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (room, account) DO NOTHING",
    )
    .bind(room)
    .bind(member.account.as_str())
    .bind(member.joined_at.as_millisecond())
    .bind(member.joined_after)
    .bind(member.read)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Deletes a room without a member, and its messages.
async fn delete_if_empty(tx: &mut Tx, room: &str) -> Result<(), StoreError> {
    let deleted = sqlx::query(
        "DELETE FROM room WHERE id = ? AND NOT EXISTS (SELECT 1 FROM room_member WHERE room_member.room = room.id)",
    )
    .bind(room)
    .execute(&mut **tx)
    .await?;
    if deleted.rows_affected() > 0 {
        let deleted: Vec<String> = sqlx::query_scalar("DELETE FROM room_message WHERE room = ? RETURNING id")
            .bind(room)
            .fetch_all(&mut **tx)
            .await?;
        delete_changes(tx, &deleted).await?;
        sqlx::query("DELETE FROM room_former_member WHERE room = ?")
            .bind(room)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Deletes a reaction of an account: from its message, from the changes, and from the streams.
async fn delete_reaction(tx: &mut Tx, account: &str, message: &str, revision: i64) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE room_message SET reactions = (SELECT json_group_object(key, value) \
         FROM json_each(room_message.reactions) WHERE key <> ?) WHERE id = ? AND reactions IS NOT NULL",
    )
    .bind(account)
    .bind(message)
    .execute(&mut **tx)
    .await?;
    for statement in [
        "DELETE FROM message_change WHERE message = ? AND revision = ?",
        "DELETE FROM stream_frame WHERE message = ? AND revision = ?",
    ] {
        sqlx::query(statement)
            .bind(message)
            .bind(revision)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Deletes the changes of messages that are gone.
async fn delete_changes(tx: &mut Tx, messages: &[String]) -> Result<(), StoreError> {
    for messages in messages.chunks(BATCH) {
        let mut delete = QueryBuilder::<Engine>::new("DELETE FROM message_change WHERE message IN (");
        let mut list = delete.separated(", ");
        for message in messages {
            list.push_bind(message);
        }
        delete.push(")").build().execute(&mut **tx).await?;
    }
    Ok(())
}

/// Returns a message of a room, and the members who joined before it was sent.
pub(super) async fn message_and_viewers(
    tx: &mut Tx,
    id: &MessageId,
) -> Result<Option<(RoomMessage, Vec<Account>)>, StoreError> {
    let row = sqlx::query(concat!("SELECT ", columns!(), " FROM room_message WHERE id = ?"))
        .bind(id.as_str())
        .fetch_optional(&mut **tx)
        .await?;
    let Some(message) = row.as_ref().map(message_of).transpose()? else {
        return Ok(None);
    };
    let rows = sqlx::query("SELECT account FROM room_member WHERE room = ? AND joined_after < ?")
        .bind(&message.room)
        .bind(message.number)
        .fetch_all(&mut **tx)
        .await?;
    let viewers: Vec<Account> = rows
        .iter()
        .map(|row| account_of(row, "account"))
        .collect::<Result<_, _>>()?;
    Ok(Some((message, viewers)))
}

/// Returns SHA-256 of the people who have seen a message of a room and have left since.
pub(super) async fn former_viewers(tx: &mut Tx, message: &RoomMessage) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query(
        "SELECT account FROM room_former_member WHERE room = ?1 AND joined_after < ?2 AND left_after >= ?2",
    )
    .bind(&message.room)
    .bind(message.number)
    .fetch_all(&mut **tx)
    .await?;
    rows.iter()
        .map(|row| Ok(account_of(row, "account")?.fingerprint()))
        .collect()
}

/// Forgets who left rooms before that moment.
pub(super) async fn forget_former_members(tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM room_former_member WHERE left_at < ?")
        .bind(before.as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn insert(tx: &mut Tx, new: &NewRoomMessage, number: i64) -> Result<(), StoreError> {
    let message = &new.message;
    sqlx::query(
        "INSERT INTO room_message (id, room, sender, sender_nickname, date, text, number, made_at, stored_at, client_key, reply_to) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(message.id.as_str())
    .bind(&message.room)
    .bind(message.sender.account.as_str())
    .bind(&message.sender.nickname)
    .bind(i64::from(message.date))
    .bind(message.text.as_str())
    .bind(number)
    .bind(new.authorized_at.as_millisecond())
    .bind(message.stored_at.as_millisecond())
    .bind(new.client_key.as_str())
    .bind(message.reply_to.as_ref().map(MessageId::as_str))
    .execute(&mut **tx)
    .await?;
    // The sender has read it.
    sqlx::query("UPDATE room_member SET read = ? WHERE room = ? AND account = ?")
        .bind(number)
        .bind(&message.room)
        .bind(message.sender.account.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Frees a key whose message is too old to count.
async fn forget_older(tx: &mut Tx, key: &ClientKey, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query("UPDATE room_message SET client_key = NULL WHERE client_key = ? AND stored_at <= ?")
        .bind(key.as_str())
        .bind((now - ClientKey::WINDOW).as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn message_of(row: &SqliteRow) -> Result<RoomMessage, StoreError> {
    let date: i64 = row.try_get("date")?;
    let reply_to: Option<String> = row.try_get("reply_to")?;
    let hidden_at: Option<i64> = row.try_get("hidden_at")?;
    Ok(RoomMessage {
        id: MessageId::stored(row.try_get("id")?),
        room: row.try_get("room")?,
        sender: Party {
            account: account_of(row, "sender")?,
            nickname: row.try_get("sender_nickname")?,
        },
        date: MessageDate::try_from(date)
            .context("a date in the database is not one")
            .map_err(StoreError::Corrupt)?,
        text: MessageText::stored(row.try_get("text")?),
        number: row.try_get("number")?,
        stored_at: timestamp(row.try_get("stored_at")?)?,
        reply_to: reply_to.map(MessageId::stored),
        state: state_of(row)?,
    }
    .hidden_since(hidden_at.map(timestamp).transpose()?))
}
