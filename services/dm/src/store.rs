//! The port to dm's messages. Adapters: SQLite and MongoDB.

mod mongo;
pub mod reports;
mod sqlite;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use sosohappy_common::{Account, Context};
use sosohappy_events::{Mixed, Outgoing};
use sosohappy_store::outbox::Outbox;
use sosohappy_store::{Directory, Ping, StoreError, Transient};

use crate::domain::{
    Change, Changed, Claim, ClientKey, ConversationId, Decision, Erasure, Joining, MOST_CHANGES, Marks, Message,
    MessageId, MessageState, MessageText, NewChange, NewMessage, NewRoomMessage, Position, Reaction, Receipt, Request,
    RequestState, Room, RoomMessage, Scheduled, Stored, Unclaimed, Undelivered,
};
#[cfg(doc)]
use crate::domain::{MOST_UNREAD, RepeatKey, Verdict};
use crate::settings::Settings;
use crate::store::reports::Reports;

/// Why a message was not stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The sender resigned after the token was issued that the message was sent with.
    #[error("the account has resigned")]
    Resigned,
    /// The receiver resigned, and the address has had no nickname since.
    #[error("the receiver has resigned")]
    ReceiverResigned,
    /// The conversation has a message with a greater id, this one. It was stored since the id was made: the message is to be stored under an
    /// id after it, so that numbers and positions are in one order.
    #[error("the conversation has a later message")]
    Behind(MessageId),
    /// A message that is to wait in a request, which is not pending any more.
    #[error("the request of the conversation is not pending")]
    RequestDecided,
    /// Messages of the accepted request of the conversation still wait: they come before this one.
    #[error("messages of the conversation are not released yet")]
    Unreleased,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Transient for WriteError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// The result of storing a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Stored,
    /// It is stored already: a frame with the same key came before.
    Repeated,
}

/// Frames of an account's stream, in the order of their numbers.
#[derive(Debug, Default)]
pub struct Frames {
    /// Without those whose messages are gone.
    pub content: Vec<Framed>,
    /// The number of the last frame that was read; `None` if there was none.
    pub until: Option<i64>,
    /// There may be more.
    pub more: bool,
}

impl Frames {
    /// Adds a frame. One that cannot be read, or is of a kind that only a later release knows (`None`), is skipped, so that it blocks none of
    /// the later ones.
    fn push(&mut self, seq: i64, content: Result<Option<FrameContent>, StoreError>) {
        match content {
            Ok(Some(content)) => self.content.push(Framed { seq, content }),
            Ok(None) => tracing::warn!(seq, "message change of a later release; frame skipped"),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                seq,
                "message corrupt; frame skipped"
            ),
        }
    }
}

/// Returns a message of a room, or `None` for one that cannot be decoded, which is logged: it stops the stream of no member.
fn decoded(id: &MessageId, message: Result<RoomMessage, StoreError>) -> Option<RoomMessage> {
    let logged = message.inspect_err(|error| {
        tracing::error!(
            error = error as &dyn std::error::Error,
            %id,
            "message of a room corrupt; frames skipped"
        );
    });
    logged.ok()
}

/// A message in an account's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framed {
    pub seq: i64,
    pub content: FrameContent,
}

/// What a frame is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameContent {
    Message(Box<Stored>),
    Change(Box<Stored>, Changed),
    RoomMessage(Box<RoomMessage>),
    RoomChange(Box<RoomMessage>, Changed),
}

/// The numbered frames of each account: a message, and each of its changes, has one in the stream of each of its two people. Numbers begin with 1 and ascend without
/// a gap; a reader that has seen one finds none below it later. The frames of a conversation have the order of their messages.
///
/// SQLite numbers in the transaction of the message. A `MongoDB` message is stored first and numbered then, in steps that every replica can
/// repeat: those that a crash left are numbered by the next reader.
#[async_trait]
pub trait Streams: Send + Sync {
    /// Gives a message that a release without numbers stored its frames. SQLite needs none.
    async fn enlist(&self, message: &MessageId) -> Result<(), StoreError>;

    /// The numbers of the account's oldest and newest frame.
    async fn kept(&self, account: &Account) -> Result<Option<(i64, i64)>, StoreError>;

    /// At most `limit` frames after a number.
    async fn frames_after(&self, account: &Account, seq: i64, limit: u32) -> Result<Frames, StoreError>;

    /// The number of a direct message's frame.
    async fn seq_of(&self, account: &Account, message: &MessageId) -> Result<Option<i64>, StoreError>;

    /// As [`Streams::seq_of`], of a message of a room.
    async fn seq_in_room(&self, account: &Account, message: &MessageId) -> Result<Option<i64>, StoreError>;

    /// The position of the newest message of a conversation whose frame comes at or before a number in the account's stream, or is older than
    /// those that are kept.
    async fn last_seen(
        &self,
        account: &Account,
        conversation: &ConversationId,
        seq: i64,
    ) -> Result<Option<Position>, StoreError>;

    /// As [`Streams::last_seen`], the number of a message of a room.
    async fn last_seen_in_room(&self, account: &Account, room: &str, seq: i64) -> Result<Option<i64>, StoreError>;
}

/// Wakes the relay.
pub type OnStored<'a> = &'a (dyn Fn() + Send + Sync);

/// Makes the event of a receipt.
pub type EventOf<'a> = &'a (dyn Fn(&Receipt) -> Outgoing + Send + Sync);

/// Up to which number each person was shown a conversation and has read it, and which messages a person has not read. Messages without a
/// number count for neither.
#[async_trait]
pub trait Receipts: Send + Sync {
    /// They were shown; the first time counts. They get no push any more. Returns the receipts for senders whose clients have ids for their
    /// messages: those of version 2.
    async fn delivered(&self, messages: &[MessageId], at: Timestamp) -> Result<Vec<Receipt>, StoreError>;

    /// The account has read the messages that it has from the other one, up to a position (inclusive) or all. Returns a receipt if it had not
    /// read that far, and writes the event of it to the outbox.
    async fn read(
        &self,
        reader: &Account,
        sender: &Account,
        up_to: Option<&Position>,
        at: Timestamp,
        event_of: EventOf<'_>,
    ) -> Result<Option<Receipt>, StoreError>;

    /// The number of messages that the account has not read, without those that moderators hide and those of these senders.
    async fn unread(&self, account: &Account, hidden: &[Account]) -> Result<u64, StoreError>;

    /// The newest messages that the account sent, from before a position, the newest first, each with whether it was delivered.
    async fn sent(
        &self,
        account: &Account,
        before: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<(Stored, bool)>, StoreError>;

    /// The newest messages that the account sent or received, from before a position, the newest first.
    async fn own(&self, account: &Account, before: Option<&Position>, limit: u32) -> Result<Vec<Stored>, StoreError>;

    /// The marks of the account's conversations with these people.
    async fn marks(&self, account: &Account, others: &[&Account])
    -> Result<HashMap<ConversationId, Marks>, StoreError>;
}

/// The result of scheduling a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleOutcome {
    Scheduled,
    /// The sender has [`crate::domain::MOST_SCHEDULED`] messages.
    TooMany,
}

/// Scheduled messages whose time has come.
#[derive(Debug, Default)]
pub struct Due {
    pub messages: Vec<Scheduled>,
    /// Rows that could not be decoded: they are kept, and not taken again.
    pub quarantined: u64,
}

/// Messages that are sent later. One that is being sent cannot be edited or stopped: either it is stopped or it is sent. The database's clock
/// decides when a message is due and when a lease ends: clocks of replicas do not matter.
#[async_trait]
pub trait Schedule: Send + Sync {
    /// Returns the time of the database's clock.
    async fn server_time(&self) -> Result<Timestamp, StoreError>;

    /// Adds a message, unless its sender has resigned since the token was issued, or its receiver has, as [`Store::keep`] checks it.
    async fn schedule(&self, scheduled: &Scheduled) -> Result<ScheduleOutcome, WriteError>;

    /// The sender's messages, the earliest first. One that cannot be decoded is left out.
    async fn scheduled(&self, sender: &Account) -> Result<Vec<Scheduled>, StoreError>;

    /// Replaces text and time of a message that waits, or that was not sent; false if there is none.
    async fn reschedule(
        &self,
        sender: &Account,
        id: &str,
        text: Option<&MessageText>,
        send_at: Option<Timestamp>,
    ) -> Result<bool, StoreError>;

    /// Deletes a message that waits, or that was not sent; false if there is none.
    async fn unschedule(&self, sender: &Account, id: &str) -> Result<bool, StoreError>;

    /// Takes messages that are due at `now` ([`Schedule::server_time`]), for as long as `lease` says: a replica that ends before [`Schedule::finish`] leaves them to others. A row
    /// that cannot be decoded is quarantined with the failure [`CORRUPT`].
    async fn take_due(&self, now: Timestamp, lease: SignedDuration, limit: u32) -> Result<Due, StoreError>;

    /// Gives back a message that was taken at `taken` and could not be sent now: it is due again at `until`, and before that its sender may
    /// edit or stop it. Changes nothing if the lease has ended and another replica has taken the message, which sends it now.
    async fn postpone(&self, id: &str, taken: Timestamp, until: Timestamp) -> Result<(), StoreError>;

    /// Extends the leases of messages that are being sent, until that moment.
    async fn renew(&self, ids: &[&str], until: Timestamp) -> Result<(), StoreError>;

    /// Deletes a message that was sent.
    async fn finish(&self, id: &str) -> Result<(), StoreError>;

    /// Keeps a message that was taken at `taken` with the reason why it is not sent. Changes nothing if another replica has taken it, as
    /// [`Schedule::postpone`].
    async fn fail(&self, id: &str, taken: Timestamp, failure: &str) -> Result<(), StoreError>;
}

/// The failure of a scheduled message that cannot be decoded.
const CORRUPT: &str = "corrupt";

/// In place of the creator of a room who has left it or resigned. Replicas of an earlier release decode it.
const FORMER_CREATOR: &str = "nobody@invalid+none";

/// Requests of which something is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// Not decided.
    Pending,
    /// Decided: messages may wait that have to be released, or an event.
    Completing,
}

/// A page of requests, in the order of their ids.
#[derive(Debug, Default)]
pub struct RequestPage {
    /// Without those that cannot be decoded, or whose state only a later release knows: they delay no other.
    pub content: Vec<Request>,
    /// The id after which the next page begins; none at the end.
    pub next: Option<String>,
}

impl RequestPage {
    /// Adds a request that was read. One that cannot be decoded, or whose state only a later release knows, is logged and left out.
    fn push(&mut self, request: Result<Request, StoreError>) {
        match request {
            Ok(request) if request.state == RequestState::Unknown => {
                tracing::warn!(request = request.id, "message request of a later release; skipped");
            }
            Ok(request) => self.content.push(request),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "message request corrupt; skipped"
            ),
        }
    }
}

/// Adds a message that waits. One that cannot be decoded is logged and left out.
fn push_held(held: &mut Vec<Stored>, message: Result<Stored, StoreError>) {
    match message {
        Ok(message) => held.push(message),
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "waiting message corrupt; skipped"
        ),
    }
}

/// Requests: the first messages between two people who are not friends. A message that waits is stored with [`NewMessage::is_held`].
#[async_trait]
pub trait Requests: Send + Sync {
    async fn request(&self, conversation: &ConversationId) -> Result<Option<Request>, StoreError>;

    async fn request_with_id(&self, id: &str) -> Result<Option<Request>, StoreError>;

    /// The pending requests to an account, from before the one with an id, the newest first.
    async fn requests_to(
        &self,
        receiver: &Account,
        before: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<Request>, StoreError>;

    /// Requests to anybody with ids after this one, of which at most `limit` are read. An empty text is before every id.
    async fn unfinished_requests(&self, kind: Unfinished, after: &str, limit: u32) -> Result<RequestPage, StoreError>;

    /// Adds a request; false if the conversation has one.
    async fn ask(&self, request: &Request) -> Result<bool, StoreError>;

    /// Decides a request, and stores the events. False if it is in none of the states of [`Verdict::former_states`]. The request is completing from then
    /// on.
    async fn decide(&self, decision: &Decision, events: &[Outgoing]) -> Result<bool, StoreError>;

    /// Stores the events of a decision that a crash has kept from being stored with it, once. SQLite stores them with it.
    async fn repeat_events(&self, request: &Request, events: &[Outgoing]) -> Result<(), StoreError>;

    /// The messages of a conversation that wait, the oldest first. One that cannot be decoded is left out: it delays no other.
    async fn held(&self, conversation: &ConversationId, limit: u32) -> Result<Vec<Stored>, StoreError>;

    /// Delivers a message that waits to its receiver, and stores its event. False if that is not possible yet, or if the message changed since
    /// it was read; true also if it was done before.
    async fn release(
        &self,
        held: &Stored,
        push_due: Option<Timestamp>,
        event: &Outgoing,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Ends the completing of a request, unless it was decided anew since it was read.
    async fn completed(&self, request: &Request) -> Result<(), StoreError>;

    /// Remembers the profile of the asker.
    async fn set_introduction(
        &self,
        conversation: &ConversationId,
        nickname: &str,
        introduction: Option<&str>,
    ) -> Result<(), StoreError>;
}

/// The result of creating a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoomOutcome {
    Created,
    /// The account has [`crate::domain::MOST_ROOMS`] rooms.
    TooMany,
}

/// The result of adding a member to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinOutcome {
    Joined,
    Already,
    NoRoom,
    /// The room has [`crate::domain::MOST_MEMBERS`] members, or the account [`crate::domain::MOST_ROOMS`] rooms.
    Full,
}

/// The result of storing a message in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    Stored,
    /// It is stored already: a frame with the same key came before.
    Repeated,
    /// The sender is no member, or there is no such room.
    NoMember,
}

/// Makes the event of a message in a room, of the members who have it in their streams and its number.
pub type PostedEventOf<'a> = &'a (dyn Fn(&[Account], i64) -> Outgoing + Send + Sync);

/// Makes the event of leaving a room, of the number of its newest message.
pub type LeftEventOf<'a> = &'a (dyn Fn(i64) -> Outgoing + Send + Sync);

/// Rooms, and their messages, of which each member has a frame in its stream.
#[async_trait]
pub trait Rooms: Send + Sync {
    /// Adds a room with its members; checks resignations as [`Store::keep`] does.
    async fn create_room(&self, room: &Room, authorized_at: Timestamp) -> Result<RoomOutcome, WriteError>;

    async fn room(&self, id: &str) -> Result<Option<Room>, StoreError>;

    /// The rooms of an account, the oldest first.
    async fn rooms_of(&self, account: &Account) -> Result<Vec<Room>, StoreError>;

    /// Returns the number of the message after which an account sees messages, of each of these rooms that it is in.
    async fn joined_after(&self, account: &Account, rooms: &[String]) -> Result<HashMap<String, i64>, StoreError>;

    /// Adds a member to a room; checks the resignations of both people as [`Store::keep`] does.
    async fn join_room(&self, joining: &Joining<'_>) -> Result<JoinOutcome, WriteError>;

    /// Takes a member out of a room and stores the event, which is made of the number of the room's newest message; false if the account is
    /// none. A room without members is deleted with its messages.
    async fn leave_room(
        &self,
        id: &str,
        account: &Account,
        at: Timestamp,
        event_of: LeftEventOf<'_>,
    ) -> Result<bool, StoreError>;

    /// Stores a message with its event, under the next number of its room and with a frame in the stream of each member.
    async fn post(&self, message: &NewRoomMessage, event_of: PostedEventOf<'_>) -> Result<Posted, WriteError>;

    /// Returns the members beside these who see a message: they joined while it was stored. Gives it the frames in their streams that a crash
    /// has kept from them; SQLite stores those with it.
    async fn enlist_late(
        &self,
        room: &str,
        message: &MessageId,
        members: &[Account],
    ) -> Result<Vec<Account>, StoreError>;

    /// The number of a message in the stream of each of these members who sees it. On `MongoDB` it is numbered in them together; members whose
    /// streams lack other frames, too, or have it already, are left out: they read their streams.
    async fn room_frames(&self, message: &MessageId, members: &[&Account])
    -> Result<HashMap<Account, i64>, StoreError>;

    /// The message of that key, if it is not older than [`ClientKey::WINDOW`].
    async fn room_message_with_key(&self, key: &ClientKey, now: Timestamp) -> Result<Option<RoomMessage>, StoreError>;

    async fn room_message(&self, id: &MessageId) -> Result<Option<RoomMessage>, StoreError>;

    /// Edits or retracts a message of a room as its sender, or reacts to it as a member who sees it, and stores the event, both or neither. The
    /// change has a frame in the stream of each member who sees the message. [`Changes::complete`] and [`Changes::changes`] are for messages of rooms, too.
    async fn change_in_room(&self, change: &NewChange, event: &Outgoing) -> Result<Option<Changed>, ChangeError>;

    /// The messages of a room with numbers after `joined_after` and before `before`, the newest first.
    async fn room_page(
        &self,
        room: &str,
        joined_after: i64,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<RoomMessage>, StoreError>;

    /// Counts the messages of rooms that the member has not read and can open, of the newest [`MOST_UNREAD`] of each: those that are neither
    /// erased nor retracted, and of none of these accounts. By one statement; a room without any is missing.
    async fn unread_in_rooms(
        &self,
        account: &Account,
        rooms: &[Room],
        hidden: &[Account],
    ) -> Result<HashMap<String, u64>, StoreError>;

    /// The member has read the messages up to a number. Stores the event and returns true if it had not read that far.
    async fn read_room(
        &self,
        room: &str,
        account: &Account,
        number: i64,
        at: Timestamp,
        event: &Outgoing,
    ) -> Result<bool, StoreError>;

    /// The messages that an account sent to rooms, with ids after this one, in order.
    async fn sent_in_rooms(
        &self,
        account: &Account,
        after: &MessageId,
        limit: u32,
    ) -> Result<Vec<RoomMessage>, StoreError>;
}

/// Why a message was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It is not there, or the account may not change it.
    #[error("no message of the account has the id")]
    Unknown,
    #[error("the message has been retracted")]
    Retracted,
    #[error("the message has changed too often")]
    TooOften,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Transient for ChangeError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

/// Changes of stored messages. Each has a frame in the streams of both people.
#[async_trait]
pub trait Changes: Send + Sync {
    /// Makes a change and stores its event, both or neither. A change that changes nothing is not made: `None`. A retracted message gets no push
    /// any more, and the texts that it had are deleted.
    async fn change(&self, change: &NewChange, event: &Outgoing) -> Result<Option<Changed>, ChangeError>;

    /// Completes the changes of a message that a crash has left half made. SQLite makes them at once. One of a kind that only a later release
    /// knows waits for a replica of that release.
    async fn complete(&self, message: &MessageId) -> Result<(), StoreError>;

    /// The changes of a message, the first one first, without those of kinds that only a later release knows.
    async fn changes(&self, message: &MessageId) -> Result<Vec<Changed>, StoreError>;
}

/// Checks whether a message may be changed so; `Ok(false)` if that changes nothing. `made` is how often the person has changed it, of which no
/// more than [`MOST_CHANGES`] count.
fn check(stored: &Stored, change: &NewChange, made: i64) -> Result<bool, ChangeError> {
    let is_senders = stored.message.sender.account == change.by;
    // Only its sender sees a message that waits.
    if !is_senders && (stored.is_held || stored.message.receiver.account != change.by) {
        return Err(ChangeError::Unknown);
    }
    check_change(is_senders, &stored.message.text, &stored.state, change, made)
}

/// As [`check`], of a message of a room. `is_viewer`: a member who sees it. A sender who is none any more may still retract it.
fn check_in_room(message: &RoomMessage, is_viewer: bool, change: &NewChange, made: i64) -> Result<bool, ChangeError> {
    let is_senders = message.sender.account == change.by;
    let is_reaction = matches!(change.change, Change::React(_));
    if !is_viewer && (is_reaction || !is_senders) {
        return Err(ChangeError::Unknown);
    }
    check_change(is_senders, &message.text, &message.state, change, made)
}

fn check_change(
    is_senders: bool,
    text: &MessageText,
    state: &MessageState,
    change: &NewChange,
    made: i64,
) -> Result<bool, ChangeError> {
    let changes = match &change.change {
        Change::Retract | Change::Edit(_) if !is_senders => return Err(ChangeError::Unknown),
        Change::Retract => return Ok(state.retracted_at.is_none() || state.is_hidden),
        _ if state.retracted_at.is_some() => return Err(ChangeError::Retracted),
        Change::Edit(edited) => edited != text,
        Change::React(reaction) => {
            state.reactions.get(&change.by).map(String::as_str) != reaction.as_ref().map(Reaction::as_str)
        }
    };
    if changes && made >= MOST_CHANGES {
        return Err(ChangeError::TooOften);
    }
    Ok(changes)
}

/// A change of a message of this text and state, as it is stored.
fn changed(text: &MessageText, state: &MessageState, change: &NewChange) -> Changed {
    let content = match &change.change {
        Change::Retract => None,
        Change::Edit(_) => Some(text.as_str().to_owned()),
        Change::React(reaction) => reaction.as_ref().map(|reaction| reaction.as_str().to_owned()),
    };
    Changed {
        revision: state.revision + 1,
        kind: change.change.kind(),
        by: change.by.clone(),
        content,
        at: change.at,
    }
}

/// A part of a conversation. All bounds that are given hold.
#[derive(Debug, Clone, Default)]
pub struct Range {
    /// Inclusive.
    pub from: Option<Position>,
    /// Exclusive.
    pub before: Option<Position>,
    /// Exclusive: only messages of earlier dates.
    pub before_date: Option<i64>,
}

/// A page of conversations.
#[derive(Debug, Default)]
pub struct Newest {
    pub messages: Vec<Stored>,
    /// Where the next page begins; none at the end.
    pub next: Option<Position>,
}

/// A page of messages that no account owns.
#[derive(Debug, Default)]
pub struct UnclaimedPage {
    /// Those that can be shown as messages.
    pub messages: Vec<Unclaimed>,
    /// The last one that was looked at; none at the end.
    pub last: Option<MessageId>,
    /// Whether there may be more behind it.
    pub is_full: bool,
}

/// One suite of tests runs on both adapters.
#[async_trait]
pub trait Store: Streams + Receipts + Changes + Schedule + Requests + Rooms + Reports + Ping + Debug {
    /// Stores a message and its event, both or neither; nothing of a message whose key one of the last [`RepeatKey::WINDOW`] has, or one of
    /// the last [`ClientKey::WINDOW`].
    ///
    /// A message waits only in a pending request ([`WriteError::RequestDecided`]), and no message is stored behind those of an accepted
    /// request that still wait ([`WriteError::Unreleased`]) and can be decoded. Where a decision crosses a message that is to wait, the request is completing
    /// after both.
    ///
    /// `on_stored` is called once both are stored, before the last checks: what they refuse is deleted again, and its event may have been
    /// published, as by a relay that polls.
    async fn keep(
        &self,
        message: &NewMessage,
        event: &Outgoing,
        on_stored: OnStored<'_>,
    ) -> Result<Outcome, WriteError>;

    /// The message of that key, if it is not older than [`ClientKey::WINDOW`].
    async fn with_client_key(&self, key: &ClientKey, now: Timestamp) -> Result<Option<Stored>, StoreError>;

    /// A message.
    async fn message(&self, id: &MessageId) -> Result<Option<Stored>, StoreError>;

    /// Forgets the keys of messages that are older than [`RepeatKey::WINDOW`] or [`ClientKey::WINDOW`].
    async fn forget_repeat_keys(&self, now: Timestamp) -> Result<(), StoreError>;

    /// The newest messages of a conversation within a range, the newest first, as one of its people sees them.
    async fn newest_within(
        &self,
        conversation: &ConversationId,
        viewer: &Account,
        range: &Range,
        limit: u32,
    ) -> Result<Vec<Stored>, StoreError>;

    /// The first message of that date in a conversation, by the server's order.
    async fn first_of_date(&self, conversation: &ConversationId, date: i64) -> Result<Option<Position>, StoreError>;

    /// The newest message of each of the account's conversations, newest first, by the server's order; those from before a position, of which
    /// one query reads at most `limit`.
    async fn newest(&self, account: &Account, before: Option<&Position>, limit: u32) -> Result<Newest, StoreError>;

    /// Makes the newest message of a conversation the only one that [`Store::newest`] reads, and numbers the frames of its two people. It
    /// need not be called after every message: until then [`Store::newest`] reads more of the conversation, and skips it. SQLite needs none.
    async fn settle(&self, conversation: &ConversationId) -> Result<(), StoreError>;

    /// Whether the message is there and was not shown yet.
    async fn waits(&self, message: &MessageId) -> Result<bool, StoreError>;

    /// Messages whose push is due.
    async fn undelivered(&self, now: Timestamp, limit: u32) -> Result<Vec<Undelivered>, StoreError>;

    /// Puts the event of such a message out for a push, once, unless the message was shown meanwhile.
    async fn push(&self, message: &MessageId, event: &Outgoing, now: Timestamp) -> Result<(), StoreError>;

    /// Deletes every message that the account sent up to the moment or with a token from before it, and every one it received up to the
    /// moment; refuses messages of older tokens, and those to the account until it has a name again; writes the receipt. In steps, of which
    /// each is committed. The same event again writes the receipt again and changes nothing else.
    async fn erase(&self, erasure: &Erasure, receipt: &Outgoing) -> Result<(), StoreError>;

    /// Forgets resignations from before that moment, and deletes what is left of younger ones: messages of a process that was killed,
    /// and those that an account received after its resignation, before this service had heard of it, and rooms that it was added to. The latter only of resignations up to
    /// `settled`, so that the names of accounts that signed up again are known, and only while the account has no name. Requests that are
    /// accepted and have messages that wait are completing from then on, and the deletion of rooms that a crash interrupted is continued.
    /// Forgets who left rooms before the first moment.
    async fn sweep(&self, before: Timestamp, settled: Timestamp) -> Result<(), StoreError>;

    /// Messages of the legacy Spring services that no account owns yet, with ids after this one, in their order; of one person, by
    /// nickname, or of all. SQLite has none.
    async fn unclaimed(&self, after: &MessageId, of: Option<&str>, limit: u32) -> Result<UnclaimedPage, StoreError>;

    /// Messages of this service and those it has taken over, with ids after this one, in the order of these as texts; without the text of one that
    /// is hidden.
    async fn page(&self, after: &MessageId, limit: u32) -> Result<Vec<Message>, StoreError>;

    /// Returns those of these messages that exist and have owners.
    async fn owned(&self, ids: &[MessageId]) -> Result<HashSet<MessageId>, StoreError>;

    /// Stores messages of the legacy Spring services under their own ids, or claims those that exist without owners. Returns those that were
    /// left out: one of their people has resigned since they were written. A dry run stores nothing.
    async fn take_over(&self, messages: &[Message], dry_run: bool) -> Result<HashSet<MessageId>, StoreError>;

    /// The push tokens of an account; an older list than the one known changes nothing.
    async fn set_devices(&self, account: &Account, tokens: &[String], at: Timestamp) -> Result<(), StoreError>;

    async fn devices_of(&self, account: &Account) -> Result<Vec<String>, StoreError>;

    /// Gives some messages that have none an `ObjectId`, for a Spring dm; false when there are no more, or another replica does it. SQLite
    /// has none.
    async fn rewrite_ids(&self, holder: &str) -> Result<bool, StoreError>;

    /// Gives messages that a replica of an earlier release stores during a roll-out their place in the server's order. SQLite has none.
    async fn fill_positions(&self) -> Result<(), StoreError>;

    /// Says whose they are: from here on they are in the history, and go with a resignation.
    async fn claim(&self, claims: &[Claim]) -> Result<(), StoreError>;
}

/// Whether a page of so many rows may be followed by another.
fn is_full(rows: usize, limit: u32) -> bool {
    rows >= usize::try_from(limit).unwrap_or(usize::MAX)
}

/// An open store and what the shared crates keep in it.
pub struct Opened {
    pub store: Arc<dyn Store>,
    pub outbox: Arc<dyn Outbox>,
    pub directory: Arc<dyn Directory>,
}

/// Opens what `messages.url` names.
pub async fn open(settings: &Settings, mixed: &Mixed, context: &Context) -> Result<Opened, StoreError> {
    let messages = &settings.messages;
    let frames = i64::from(settings.history.frames);
    match messages.url.scheme() {
        "sqlite" => sqlite::open(&messages.url, messages.max_connections, frames, context).await,
        "mongodb" | "mongodb+srv" => mongo::open(&messages.url, frames, mixed, context).await,
        _ => Err(StoreError::Settings(
            "expected sqlite:<file> or mongodb://…/<database>".to_owned(),
        )),
    }
}
