//! The store of notices, devices, preferences and waiting pushes, as a port. Adapters: `SQLite` and `MongoDB`, one suite of tests on both.

mod mongo;
mod sqlite;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use anyhow::bail;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sosohappy_common::correlation::Correlation;
use sosohappy_common::{Account, Context};
use sosohappy_events::types::{Device, SessionId};
use sosohappy_events::{EventId, Meta, Outgoing};
use sosohappy_store::outbox::Outbox;
use sosohappy_store::{Directory, Ping, StoreError};

use crate::domain::{
    AccountAt, Banner, LIKE, Language, Mute, Notice, OwnDevice, Platform, Preferences, PushDevice, PushGroup,
    Registration, Target, Thread, WaitingPush, is_follow, post_of,
};
use crate::settings::InboxSettings;

/// The result of adding a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The inbox has it since `stored_at`, under that number.
    Kept { seq: i64, stored_at: Timestamp },
    /// The receiver or the actor resigned after it happened.
    Erased,
    /// It was withdrawn after it happened.
    Withdrawn,
}

impl Added {
    pub const fn is_kept(self) -> bool {
        matches!(self, Self::Kept { .. })
    }
}

/// Notices or pushes that are stored by one call at most: each takes about ten parameters of a statement.
pub const STORED_AT_ONCE: usize = 500;

/// The accounts and ids by which a notice or a push may be erased or withdrawn, and when it happened.
struct Subject<'a> {
    /// The receiver and the actor.
    people: [Option<AccountAt<'a>>; 2],
    ids: Vec<EventId>,
    occurred_at: Timestamp,
}

impl<'a> From<&'a Notice> for Subject<'a> {
    fn from(notice: &'a Notice) -> Self {
        Self {
            people: notice.people(),
            ids: notice.withdrawal_ids(),
            occurred_at: notice.occurred_at,
        }
    }
}

impl<'a> From<&'a WaitingPush> for Subject<'a> {
    fn from(push: &'a WaitingPush) -> Self {
        Self {
            people: push.people(),
            ids: push.withdrawal_ids(),
            occurred_at: push.occurred_at,
        }
    }
}

/// Returns the subject of each push.
fn subjects<'a>(pushes: &[(&'a WaitingPush, Timestamp)]) -> Vec<Subject<'a>> {
    pushes.iter().map(|(push, _)| Subject::from(*push)).collect()
}

/// Returns the latest withdrawal of each notice.
fn latest(withdrawn: &[(EventId, Timestamp)]) -> BTreeMap<EventId, Timestamp> {
    let mut latest = BTreeMap::new();
    for (notice, at) in withdrawn {
        let until = latest.entry(*notice).or_insert(*at);
        *until = (*until).max(*at);
    }
    latest
}

/// Returns the accounts of all subjects, as the marks of resignations name them.
fn fingerprints(subjects: &[Subject<'_>]) -> HashSet<String> {
    let people = subjects.iter().flat_map(|subject| subject.people.into_iter().flatten());
    people.map(|(account, _)| account.fingerprint()).collect()
}

/// Returns the milliseconds of [`Notice::people`].
fn moments(notice: &Notice) -> [Option<i64>; 2] {
    let moment = |person: Option<AccountAt<'_>>| person.map(|(_, at)| at.as_millisecond());
    notice.people().map(moment)
}

/// Returns the ids of all subjects.
fn withdrawal_ids(subjects: &[Subject<'_>]) -> HashSet<EventId> {
    subjects
        .iter()
        .flat_map(|subject| subject.ids.iter().copied())
        .collect()
}

/// Returns those of the accounts that resigned not long before their moments: it is not known whether what happened is for or of the next account of
/// the address. `erased`: as of [`Marks`].
fn unclaimed<'a>(erased: &HashMap<String, i64>, people: impl Iterator<Item = AccountAt<'a>>) -> HashSet<&'a Account> {
    let is_unclaimed = |(account, at): &AccountAt<'a>| {
        let until = erased.get(&account.fingerprint());
        until.is_some_and(|until| (1..=LATE).contains(&(at.as_millisecond() - until)))
    };
    people.filter(is_unclaimed).map(|(account, _)| account).collect()
}

/// Milliseconds: longer than other services show an account that has resigned.
const LATE: i64 = 60 * 60 * 1_000;

/// Returns whether an account is erased up to its moment or later. `erased`: as of [`Marks`].
fn is_erased(erased: &HashMap<String, i64>, (account, at): AccountAt<'_>) -> bool {
    let until = erased.get(&account.fingerprint());
    until.is_some_and(|until| *until >= at.as_millisecond())
}

/// The erasures and withdrawals that concern some subjects.
struct Marks {
    /// Milliseconds up to which an account is erased, by its fingerprint.
    erased: HashMap<String, i64>,
    /// Milliseconds up to which notices are withdrawn, by the id of the notice or of its post.
    withdrawn: HashMap<EventId, i64>,
}

impl Marks {
    /// Returns the accounts of the subjects that are [`unclaimed`].
    fn unclaimed<'a>(&self, subjects: &[Subject<'a>]) -> HashSet<&'a Account> {
        if self.erased.is_empty() {
            return HashSet::new();
        }
        unclaimed(
            &self.erased,
            subjects.iter().flat_map(|subject| subject.people).flatten(),
        )
    }

    /// Returns whether the receiver of the subject resigned since.
    fn is_receiver_erased(&self, subject: &Subject<'_>) -> bool {
        subject.people[0].is_some_and(|receiver| is_erased(&self.erased, receiver))
    }

    /// Returns why the subject is not kept, if it is not.
    fn exclusion(&self, subject: &Subject<'_>) -> Option<Added> {
        let mut people = subject.people.into_iter().flatten();
        if people.any(|person| is_erased(&self.erased, person)) {
            return Some(Added::Erased);
        }
        let at = subject.occurred_at.as_millisecond();
        let is_withdrawn = |id: &EventId| self.withdrawn.get(id).is_some_and(|until| *until >= at);
        subject.ids.iter().any(is_withdrawn).then_some(Added::Withdrawn)
    }

    /// Returns the pushes that are queued.
    fn kept<'a>(&self, pushes: &[(&'a WaitingPush, Timestamp)]) -> Vec<(&'a WaitingPush, Timestamp)> {
        let kept = pushes
            .iter()
            .filter(|(push, _)| self.exclusion(&Subject::from(*push)).is_none());
        kept.copied().collect()
    }
}

/// A device that was set or removed.
#[derive(Debug, Clone)]
pub struct DeviceChange {
    pub account: Account,
    /// `None` from a Spring service: with a token the account's one device, without one all of its devices.
    pub session: Option<SessionId>,
    pub token: Option<String>,
    pub at: Timestamp,
}

/// The devices of an account, as auth publishes them.
#[derive(Debug, Clone)]
pub struct DeviceList {
    pub account: Account,
    pub devices: Vec<Device>,
    /// All open sessions; `None` from a release that does not publish them, whose list names each session with a device.
    pub sessions: Option<Vec<SessionId>>,
    pub at: Timestamp,
    /// Devices that the store does not know and that got their token before this are unseen for too long, and left out.
    pub seen_since: Timestamp,
}

impl DeviceList {
    /// Returns the state of each device that was seen lately. The time at which a token was set decides whose it is.
    fn changes(&self) -> impl Iterator<Item = DeviceChange> {
        let seen = self.devices.iter().filter(|device| device.since >= self.seen_since);
        seen.map(|device| DeviceChange {
            account: self.account.clone(),
            session: Some(device.session),
            token: Some(device.token.clone()),
            at: device.since,
        })
    }

    /// Returns the keys of the sessions that the list leaves open.
    fn session_keys(&self) -> impl Iterator<Item = String> {
        let with_device = self.devices.iter().map(|device| device.session);
        let open = self.sessions.iter().flatten().copied();
        with_device.chain(open).map(|session| session_key(Some(session)))
    }

    /// Returns the keys of all open sessions as JSON, if the list names them.
    fn open_sessions(&self) -> Option<String> {
        self.sessions
            .as_ref()
            .map(|_| json!(self.session_keys().collect::<Vec<_>>()).to_string())
    }
}

/// One resignation, and the receipt for it.
#[derive(Debug, Clone)]
pub struct Erasure {
    pub account: Account,
    /// The event of the resignation.
    pub event: EventId,
    pub at: Timestamp,
    pub receipt: Outgoing,
}

/// Devices of one account that get its pushes. An account may have more: not every token of a lost device is known to be invalid.
const MOST_DEVICES: usize = 20;

/// Times before which data is deleted.
#[derive(Debug, Clone, Copy)]
pub struct Horizons {
    pub notices: Timestamp,
    /// Memory against repeated and late events: longer than any topic keeps them.
    pub memory: Timestamp,
    /// Counts of pushes: longer than their minute.
    pub windows: Timestamp,
    /// Devices that were last seen before this are removed.
    pub devices: Timestamp,
    /// Of accounts that resigned before this and have no name again, what others did to them in the hour after the resignation is deleted.
    pub gone: Timestamp,
}

#[async_trait]
pub trait Notices: Debug + Send + Sync {
    /// Stores each notice under its receiver's next number, once, however many replicas add it. Numbers of one receiver become visible in order.
    /// A notice that was withdrawn before and happens again comes back under its number if it was shown or pushed, else under the next.
    ///
    /// The notices have different ids, and are at most [`STORED_AT_ONCE`]. Returns an answer for each. After an error some may be stored.
    async fn add_all(&self, notices: &[&Notice], now: Timestamp) -> Result<Vec<Added>, StoreError>;

    /// Stores one notice as [`Notices::add_all`] does.
    async fn add(&self, notice: &Notice, now: Timestamp) -> Result<Added, StoreError> {
        let added = self.add_all(&[notice], now).await?;
        added
            .first()
            .copied()
            .ok_or_else(|| StoreError::corrupt("a notice was added without an answer"))
    }

    /// Withdraws of each notice what happened up to its time: the inbox keeps its number only, a push that waits is not sent. Also when the
    /// notice comes later. They are at most [`STORED_AT_ONCE`]. After an error some may be withdrawn.
    async fn withdraw_all(&self, withdrawn: &[(EventId, Timestamp)], now: Timestamp) -> Result<(), StoreError>;

    /// Withdraws one notice as [`Notices::withdraw_all`] does.
    #[cfg(test)]
    async fn withdraw(&self, notice: EventId, at: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        self.withdraw_all(&[(notice, at)], now).await
    }

    /// Withdraws all notices about the post that the author had on the day of that date, in every inbox, as [`Notices::withdraw_all`] does. What
    /// happens later is about another post, and gets a number and a push of its own. Of the notices only their numbers are kept: the author may have
    /// resigned, and a bookmark of the moments after names the author.
    /// It reads the inbox of the author and the notices that name the author, also those that were withdrawn before: their settled pushes are
    /// deleted, too.
    async fn withdraw_post(&self, author: &Account, date: i64, at: Timestamp, now: Timestamp)
    -> Result<(), StoreError>;
}

/// A notice of the inbox.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredNotice {
    pub id: EventId,
    pub seq: i64,
    pub actor: Option<Account>,
    pub topic: String,
    /// As it is kept: of a like its `date`.
    pub data: Value,
    pub occurred_at: Timestamp,
}

impl StoredNotice {
    /// Returns a notice as the inbox has it under a number.
    pub fn of(notice: &Notice, seq: i64) -> Option<Self> {
        Some(Self {
            id: notice.event,
            seq,
            actor: notice.content.actor().cloned(),
            topic: notice.content.topic().to_owned(),
            data: serde_json::from_str(&notice.content.stored()).ok()?,
            occurred_at: notice.occurred_at,
        })
    }

    /// Returns the date of the post, if the notice is a like.
    pub fn like_date(&self) -> Option<i64> {
        (self.topic == LIKE).then(|| self.data["date"].as_i64()).flatten()
    }

    /// Returns the data that a version 2 client gets: of a like or follow the actor's present nickname, `None` when the account has none any more.
    pub fn shown_data(&self, actor: Option<&str>) -> Option<Value> {
        let mut data = match self.like_date() {
            Some(date) => json!({ "liker": actor?, "date": date }),
            None if self.actor.is_some() && is_follow(&self.topic) => json!({ "follower": actor? }),
            None => self.data.clone(),
        };
        if let Value::Object(fields) = &mut data {
            fields.entry("at").or_insert_with(|| json!(self.occurred_at));
        }
        Some(data)
    }
}

/// The likes of one post, or one other notice.
#[derive(Debug, Clone, PartialEq)]
pub struct NoticeGroup {
    pub newest: StoredNotice,
    pub count: u64,
}

impl From<StoredNotice> for NoticeGroup {
    fn from(newest: StoredNotice) -> Self {
        Self { newest, count: 1 }
    }
}

/// Notices above a number, the lowest first.
#[derive(Debug, Default)]
pub struct Following {
    pub notices: Vec<StoredNotice>,
    /// The highest number that was read.
    pub until: Option<i64>,
    /// There may be more.
    pub more: bool,
}

impl Following {
    /// Adds a notice of that number.
    fn push(&mut self, seq: i64, notice: Result<StoredNotice, StoreError>) {
        self.until = Some(seq);
        match notice {
            Ok(notice) => self.notices.push(notice),
            // An invalid notice must not block those after it.
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "stored notice invalid; left out"
            ),
        }
    }
}

/// A page of an inbox, newest first. Withdrawn notices are not in it.
#[derive(Debug, Clone, Copy)]
pub struct Listing<'a> {
    pub account: &'a Account,
    /// Actors whose notices are left out.
    pub hidden: &'a [Account],
    /// Numbers below this.
    pub before: i64,
    pub limit: u32,
}

/// What an account has read of its inbox.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadState {
    /// The number up to which it has read; 0 when nothing.
    pub seq: i64,
    /// The latest time of [`Inbox::viewed`].
    pub viewed_at: Option<Timestamp>,
}

/// A client of version 1, which does not say what was read, opened a socket or showed a frame.
#[derive(Debug, Clone)]
pub struct View {
    pub account: Account,
    pub at: Timestamp,
    /// When the access token of the opened socket was issued: an erasure of the account from after that wins. `None` for a frame, which comes
    /// after the opening of its socket.
    pub authorized_at: Option<Timestamp>,
}

#[async_trait]
pub trait Inbox: Debug + Send + Sync {
    /// Returns the likes of each post as one group, under the number of the newest, and other notices one by one.
    async fn groups(&self, listing: &Listing<'_>) -> Result<Vec<NoticeGroup>, StoreError>;

    /// Returns the likes of the post of that date.
    async fn likes(&self, listing: &Listing<'_>, date: i64) -> Result<Vec<StoredNotice>, StoreError>;

    /// Reads the notices above a number one by one, the lowest first, at most `limit`. Withdrawn ones and those of hidden actors are not
    /// among them, and those that are not valid are logged and left out.
    async fn after(&self, account: &Account, hidden: &[Account], seq: i64, limit: u32)
    -> Result<Following, StoreError>;

    /// Returns the lowest and the highest number that is kept; all between them are.
    async fn kept(&self, account: &Account) -> Result<Option<(i64, i64)>, StoreError>;

    /// Returns the highest numbers of [`Inbox::kept`] of many accounts by one statement. Accounts without notices are left out.
    async fn newest(&self, accounts: &[Account]) -> Result<HashMap<Account, i64>, StoreError>;

    /// Returns those of the events whose notices or messages the account has read, or that were withdrawn.
    async fn handled(&self, account: &Account, events: &[EventId]) -> Result<Vec<EventId>, StoreError>;

    /// Settles the pushes of the account's notices up to a number, and raises the number up to which it has read, at most to its newest. Returns
    /// the notices that were unread until then. The number comes last: after a crash in between they are unread, and the call can be made again.
    ///
    /// Nothing when the account resigned after its access token was issued.
    async fn read(&self, by: &Decision<'_>, seq: i64) -> Result<Vec<EventId>, StoreError>;

    async fn read_state(&self, account: &Account) -> Result<ReadState, StoreError>;

    /// Returns [`ReadState::seq`].
    async fn read_until(&self, account: &Account) -> Result<i64, StoreError> {
        Ok(self.read_state(account).await?.seq)
    }

    /// Counts the notices after a number, of those that happened after `since`. One that happened before, but was consumed after the client's
    /// view at `since`, never counts. It reads what it counts, and not the whole inbox: by the number if it is above 0, else by the time.
    async fn unread(
        &self,
        account: &Account,
        hidden: &[Account],
        read_seq: i64,
        since: Option<Timestamp>,
    ) -> Result<u64, StoreError>;

    /// Counts those of [`Inbox::unread`] that are likes of the post of that date.
    async fn unread_likes(
        &self,
        account: &Account,
        hidden: &[Account],
        date: i64,
        read_seq: i64,
        since: Option<Timestamp>,
    ) -> Result<u64, StoreError>;

    /// Notes when clients of version 1 opened a socket or showed a frame. Nothing for an account that resigned since.
    async fn viewed(&self, views: &[View]) -> Result<(), StoreError>;
}

/// The messages that an account has from a sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    pub account: Account,
    pub sender: Account,
}

/// A message of dm.
#[derive(Debug, Clone)]
pub struct ReceivedMessage {
    /// Also that of its push. Ids ascend within a conversation.
    pub id: EventId,
    pub conversation: Conversation,
    pub occurred_at: Timestamp,
    /// When the sender's access token was issued, where that is known.
    pub authorized_at: Option<Timestamp>,
}

impl ReceivedMessage {
    /// Returns the receiver, and the sender, whose resignations keep it out.
    fn people(&self) -> [Option<AccountAt<'_>>; 2] {
        let Conversation { account, sender } = &self.conversation;
        let sent_at = self.authorized_at.unwrap_or(self.occurred_at);
        [Some((account, self.occurred_at)), Some((sender, sent_at))]
    }
}

/// When an account read messages.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub at: Timestamp,
    /// When its access token was issued: an erasure of the account from after that wins. `at` where that is not known.
    pub authorized_at: Timestamp,
}

impl Reading {
    pub fn of(meta: &Meta) -> Self {
        Self {
            at: meta.occurred_at,
            authorized_at: meta.authorized_at.unwrap_or(meta.occurred_at),
        }
    }
}

/// The messages that an account has in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnRoom {
    pub account: Account,
    /// The room's id.
    pub room: String,
}

/// A message of a room.
#[derive(Debug, Clone)]
pub struct RoomMessage {
    /// The room's id.
    pub room: String,
    /// In the room. Numbers ascend.
    pub number: i64,
    pub sender: Account,
    pub occurred_at: Timestamp,
    /// When the sender's access token was issued, where that is known.
    pub authorized_at: Option<Timestamp>,
    /// The members who get it, at most [`STORED_AT_ONCE`]. The id is that of the push, by which the message of the member is known.
    pub receivers: Vec<(EventId, Account)>,
}

impl RoomMessage {
    fn subjects(&self) -> Vec<Subject<'_>> {
        let receivers = self.receivers.iter();
        let sender = (&self.sender, self.authorized_at.unwrap_or(self.occurred_at));
        let subjects = receivers.map(|(id, account)| Subject {
            people: [Some((account, self.occurred_at)), Some(sender)],
            ids: vec![*id],
            occurred_at: self.occurred_at,
        });
        subjects.collect()
    }
}

/// Which messages of dm an account has not read. Messages are handled when they were read or retracted.
#[async_trait]
pub trait Messages: Debug + Send + Sync {
    /// Adds a message, once. Returns whether it is unread: false also when its receiver or sender resigned since.
    async fn add_message(&self, message: &ReceivedMessage) -> Result<bool, StoreError>;

    /// Marks messages as read up to this one, also those that are added later. [`Messages::unread_until`] has those that were
    /// added before. Nothing when one of the two resigned since.
    async fn raise_read(&self, conversation: &Conversation, up_to: EventId, reading: Reading)
    -> Result<(), StoreError>;

    /// Returns the unread messages of a conversation up to this one.
    async fn unread_until(&self, conversation: &Conversation, up_to: EventId) -> Result<Vec<EventId>, StoreError>;

    /// Adds a message of a room for all of its receivers, once, by a fixed number of statements. Returns the ids of those for whom it is unread, as
    /// [`Messages::add_message`] says it of one.
    async fn add_room_message(&self, message: &RoomMessage) -> Result<HashSet<EventId>, StoreError>;

    /// Marks messages of a room as read up to this number, also those that are added later. [`Messages::unread_in_room`] has those
    /// that were added before. Nothing when the account resigned since.
    async fn raise_room_read(&self, room: &OwnRoom, up_to: i64, reading: Reading) -> Result<(), StoreError>;

    /// Returns the unread messages of a room up to this number.
    async fn unread_in_room(&self, room: &OwnRoom, up_to: i64) -> Result<Vec<EventId>, StoreError>;

    /// Marks messages as handled.
    async fn handle_messages(&self, messages: &[EventId]) -> Result<(), StoreError>;

    /// Counts the messages after `since` that the account has not read, without those of hidden senders, by an index: it reads no
    /// others.
    async fn unread_messages(
        &self,
        account: &Account,
        hidden: &[Account],
        since: Option<Timestamp>,
    ) -> Result<u64, StoreError>;
}

#[async_trait]
pub trait Devices: Debug + Send + Sync {
    /// Sets or removes a device, if the change is the newest of its session. A push token belongs to the session that set it last.
    async fn change(&self, change: &DeviceChange) -> Result<(), StoreError>;

    /// Sessions that the list does not have are closed: their devices are removed, unless the session was opened later. A list older than
    /// the newest one changes nothing.
    async fn list(&self, list: &DeviceList) -> Result<(), StoreError>;

    /// Sets the device of a session, whatever its list in [`Devices::list`] says of it, and takes the push token from every other session.
    /// Returns false when the session was closed or the account erased after the access token was issued.
    async fn register(&self, registration: &Registration) -> Result<bool, StoreError>;

    /// Removes the device of a session, also against a list that still has it. Returns false when the session has none.
    async fn remove(&self, account: &Account, session: Option<SessionId>, now: Timestamp) -> Result<bool, StoreError>;

    /// Returns the devices with a push token, the one that was seen last first.
    async fn own(&self, account: &Account) -> Result<Vec<OwnDevice>, StoreError>;

    /// Writes down that the sessions' devices were seen. Sessions without a device are ignored.
    async fn seen(&self, sessions: &[(Account, SessionId)], now: Timestamp) -> Result<(), StoreError>;

    /// Returns the push token of a session's device.
    async fn token_of(&self, account: &Account, session: SessionId) -> Result<Option<String>, StoreError>;

    /// Returns the devices, each push token once, the newest first, at most [`MOST_DEVICES`].
    async fn of(&self, account: &Account) -> Result<Vec<PushDevice>, StoreError>;

    /// Removes a token that the provider rejects since that moment. A registration after it stays.
    async fn forget(&self, token: &str, since: Option<Timestamp>) -> Result<(), StoreError>;
}

/// The preferences of an account and their version: 0 while they are the default.
#[derive(Debug, Clone, Default)]
pub struct VersionedPreferences {
    pub preferences: Preferences,
    pub version: i64,
}

impl VersionedPreferences {
    fn parse(preferences: &str, version: i64) -> Result<Self, StoreError> {
        let preferences = parse_preferences(preferences)?;
        Ok(Self { preferences, version })
    }
}

fn parse_preferences(stored: &str) -> Result<Preferences, StoreError> {
    serde_json::from_str(stored).map_err(|_| broken("preferences are invalid"))
}

/// What an account wants of notices that one mute silences.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    pub preferences: Preferences,
    pub is_muted: bool,
}

/// An account that reads its inbox or changes its preferences, and when.
#[derive(Debug, Clone, Copy)]
pub struct Decision<'a> {
    pub account: &'a Account,
    /// When its access token was issued: an erasure of the account from after that wins.
    pub authorized_at: Timestamp,
    pub at: Timestamp,
}

/// Whether preferences were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    Yes,
    /// They have another version by now.
    ChangedMeanwhile,
    /// The account was erased.
    Erased,
}

#[async_trait]
pub trait Choices: Debug + Send + Sync {
    async fn preferences(&self, account: &Account) -> Result<VersionedPreferences, StoreError>;

    /// Replaces the preferences of that version.
    async fn set_preferences(
        &self,
        by: &Decision<'_>,
        preferences: &Preferences,
        version: i64,
    ) -> Result<Saved, StoreError>;

    /// Sets or removes a mute. Returns false when one of the accounts was erased.
    async fn mute(&self, by: &Decision<'_>, mute: &Mute, muted: bool) -> Result<bool, StoreError>;

    /// Returns the mutes of an account, in a stable order, without those of [other kinds](Mute::KINDS).
    async fn mutes(&self, account: &Account) -> Result<Vec<Mute>, StoreError>;

    /// Returns the preferences of an account, and whether it has set a mute, by one statement: a frame waits for it.
    async fn choice(&self, account: &Account, mute: Option<&Mute>) -> Result<Choice, StoreError>;
}

/// A take of due pushes.
#[derive(Debug, Clone, Copy)]
pub struct Take {
    pub now: Timestamp,
    /// When they are due again, unless they are settled before: so long no replica takes them again. Later than `now`.
    pub again: Timestamp,
    /// Likes that are due up to this are taken with the due ones of their post. Those that are due later were deferred.
    pub likes_until: Timestamp,
    /// Threads at most.
    pub limit: u32,
}

/// The queue of pushes that wait for their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PushQueue {
    /// Their number, counted up to [`MOST_COUNTED`].
    pub waiting: u64,
    /// When the earliest of them is or was due.
    pub first_due: Option<Timestamp>,
}

#[async_trait]
pub trait Pushes: Debug + Send + Sync {
    /// Queues pushes, each due at that time. Leaves out those whose event was queued or settled before or withdrawn, or whose account or actor has
    /// resigned since. They have different ids, and are at most [`STORED_AT_ONCE`]. After an error some may be queued.
    async fn queue_all(&self, pushes: &[(&WaitingPush, Timestamp)]) -> Result<(), StoreError>;

    /// Queues one push as [`Pushes::queue_all`] does.
    async fn queue(&self, push: &WaitingPush, due: Timestamp) -> Result<(), StoreError> {
        self.queue_all(&[(push, due)]).await
    }

    /// Settles pushes that were sent or are not needed, also those that are queued later.
    async fn settle(&self, events: &[EventId], now: Timestamp) -> Result<(), StoreError>;

    /// Returns whether the push of the event was settled.
    async fn is_settled(&self, event: EventId) -> Result<bool, StoreError>;

    /// Takes the due pushes of at most [`Take::limit`] threads, those that have been due for longest, by a few statements, and counts the attempt. A
    /// due push takes with it those of its thread that were tried and postponed; a due like takes the likes of the post that wait, too.
    async fn take_due(&self, take: Take) -> Result<Vec<PushGroup>, StoreError>;

    /// Returns the size and the earliest time of the queue. It reads one index.
    async fn push_queue(&self) -> Result<PushQueue, StoreError>;

    /// Records that a device got the pushes: a later try leaves it out. Returns whether all of them still wait: one that was read or withdrawn
    /// meanwhile does not.
    async fn sent(&self, events: &[EventId], token: &str) -> Result<bool, StoreError>;

    /// Remembers the banner that a device of the account was sent; it replaces the one of that name on the device. Nothing if the account
    /// was erased after it happened.
    async fn add_banner(&self, account: &Account, banner: &Banner) -> Result<(), StoreError>;

    /// Returns the banners that devices of the account were sent, the oldest first, at most [`MOST_BANNERS`].
    async fn banners(&self, account: &Account) -> Result<Vec<Banner>, StoreError>;

    /// Returns those of the accounts of whom a device was sent the banner of one of these events, by one statement.
    async fn showing(&self, accounts: &[&Account], events: &[EventId]) -> Result<Vec<Account>, StoreError>;

    /// Forgets banners; one that was replaced meanwhile stays.
    async fn remove_banners(&self, account: &Account, banners: &[Banner]) -> Result<(), StoreError>;

    /// Forgets the settled pushes of those of the notices that are withdrawn: one that happens again is pushed again, under the next number.
    async fn forget_withdrawn(&self, events: &[EventId]) -> Result<(), StoreError>;

    /// Makes pushes that could not be sent due at that time.
    async fn postpone(&self, events: &[EventId], due: Timestamp) -> Result<(), StoreError>;

    /// Moves pushes that may not be sent before `due` to that thread. The attempt does not count.
    async fn defer(&self, events: &[EventId], thread: &Thread, due: Timestamp) -> Result<(), StoreError>;

    /// Counts a push of the thread. Returns the end of the minute that began with its first push, if there were `limit` within it.
    async fn admit(&self, thread: &Thread, limit: u32, now: Timestamp) -> Result<Option<Timestamp>, StoreError>;
}

/// Waiting pushes that are counted at most: a longer queue takes no longer to count.
const MOST_COUNTED: u32 = 100_000;

/// Banners of an account that are withdrawn by one call; the next call goes on with the rest.
const MOST_BANNERS: i64 = 1_000;

/// The period of [`Pushes::admit`].
const WINDOW: SignedDuration = SignedDuration::from_mins(1);

/// Pushes that one group has at most; the rest is the next group.
const MOST_GROUPED: u32 = 10_000;

/// Notices that are withdrawn by one statement.
const WITHDRAWN_AT_ONCE: usize = 500;

/// Due pushes that are read at once to find their threads. A thread with more of them may hide others, which the next read finds.
const DUE_AT_ONCE: u32 = 500;

/// Pushes of a group whose content is read to find one that is valid.
const MOST_READ: usize = 10;

/// Returns the first different threads of due pushes.
fn first_threads(due: Vec<String>, limit: usize) -> Vec<String> {
    let mut known = HashSet::new();
    let is_first = |thread: &String| known.insert(thread.clone());
    due.into_iter().filter(is_first).take(limit).collect()
}

/// A push that was taken, without its content.
#[derive(Debug)]
struct TakenPush {
    event: EventId,
    thread: String,
    /// The devices that got it so far, as text; `None` when there is none.
    sent: Option<String>,
    actor: Option<String>,
    /// In milliseconds.
    occurred_at: i64,
    /// With this one.
    attempts: i64,
}

impl TakenPush {
    /// Returns what the pushes of a group have in common.
    fn key(&self) -> (&str, Option<&str>) {
        (&self.thread, self.sent.as_deref())
    }
}

/// Pushes that were taken at once, by group: in the order of the threads, and the newest of each first.
#[derive(Debug)]
struct TakenPushes(Vec<TakenPush>);

impl TakenPushes {
    fn new(threads: &[String], mut pushes: Vec<TakenPush>) -> Self {
        let places: HashMap<&str, usize> = threads.iter().map(String::as_str).zip(0..).collect();
        let place = |push: &TakenPush| places.get(push.thread.as_str()).copied();
        pushes.sort_by(|one, other| {
            let newest_first = other.occurred_at.cmp(&one.occurred_at);
            place(one)
                .cmp(&place(other))
                .then_with(|| one.key().cmp(&other.key()))
                .then(newest_first)
                .then_with(|| one.event.cmp(&other.event))
        });
        Self(pushes)
    }

    fn groups(&self) -> impl Iterator<Item = &[TakenPush]> {
        self.0.chunk_by(|one, other| one.key() == other.key())
    }

    /// Returns the number of threads.
    fn threads(&self) -> usize {
        self.0.chunk_by(|one, other| one.thread == other.thread).count()
    }

    /// Returns the pushes whose content is read.
    fn newest(&self) -> Vec<EventId> {
        let newest = self.groups().flat_map(|group| group.iter().take(MOST_READ));
        newest.map(|push| push.event).collect()
    }

    /// Returns the groups, of those pushes whose content was read. A group without one is left out.
    fn with_content(&self, read: Vec<WaitingPush>) -> Vec<PushGroup> {
        let mut read: HashMap<EventId, WaitingPush> = read.into_iter().map(|push| (push.event, push)).collect();
        let mut groups = Vec::new();
        for group in self.groups() {
            let mut contents = group.iter().filter_map(|push| read.remove(&push.event));
            let Some(newest) = contents.next() else {
                continue;
            };
            let older = contents.collect();
            let attempts = group.iter().map(|push| push.attempts).max().unwrap_or_default();
            // An event that names no account adds none.
            let actor = |push: &TakenPush| push.actor.as_ref()?.parse::<Account>().ok();
            groups.push(PushGroup {
                thread: Thread(group[0].thread.clone()),
                newest: WaitingPush {
                    attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
                    ..newest
                },
                older,
                events: group.iter().map(|push| push.event).collect(),
                actors: group.iter().map(actor).collect(),
            });
        }
        groups
    }
}

#[async_trait]
pub trait Store: Notices + Inbox + Messages + Devices + Choices + Pushes + Ping {
    /// Erases everything that the account caused with access tokens of up to the moment, or received up to it, its devices, preferences and directory
    /// entry, and writes the receipt. The same event again erases nothing more, and writes the receipt again, which auth may have missed.
    async fn erase(&self, erasure: &Erasure, now: Timestamp) -> Result<(), StoreError>;

    /// Returns when a replica opened this inbox for the first time.
    async fn born(&self, now: Timestamp) -> Result<Timestamp, StoreError>;

    /// Deletes data that is older than its horizon, and what others did to accounts in the hour after their resignation. What an account did with
    /// newer access tokens stays, as do its devices, preferences and name: a next one may not be known by name yet.
    async fn sweep(&self, horizons: Horizons) -> Result<(), StoreError>;
}

/// An open store, with the fleet's shared tables in it.
#[derive(Debug, Clone)]
pub struct Opened {
    pub store: Arc<dyn Store>,
    pub outbox: Arc<dyn Outbox>,
    pub directory: Arc<dyn Directory>,
}

/// Opens what `inbox.url` names.
pub async fn open(settings: &InboxSettings, context: &Context) -> anyhow::Result<Opened> {
    match settings.url.scheme() {
        "sqlite" => Ok(sqlite::open(settings, context).await?),
        "mongodb" | "mongodb+srv" => Ok(mongo::open(settings, context).await?),
        _ => bail!("expected sqlite:<file> or mongodb://<host>/<database>"),
    }
}

/// Opens the inbox as [`open`] does, and records the commands to `MongoDB`, where it has no background tasks.
#[cfg(test)]
pub async fn open_observed(
    settings: &InboxSettings,
    context: &Context,
    commands: &sosohappy_testkit::Commands,
) -> anyhow::Result<Opened> {
    if settings.url.scheme() == "sqlite" {
        return open(settings, context).await;
    }
    let handler = commands.handler();
    let opened = mongo::open_with(settings, context, |options| {
        options.command_event_handler = Some(handler);
    });
    Ok(opened.await?)
}

/// Returns the stored form of a push's cause.
fn cause_text(push: &WaitingPush) -> Option<String> {
    let cause = push.cause.as_ref()?;
    Some(json!([&*cause.id, cause.traceparent.as_deref()]).to_string())
}

/// A cause that cannot be read is left out: it is for log lines only.
fn cause(text: Option<&str>) -> Option<Correlation> {
    let (id, traceparent): (String, Option<String>) = serde_json::from_str(text?).ok()?;
    Some(Correlation {
        id: id.into(),
        traceparent: traceparent.map(Into::into),
    })
}

/// Returns the columns of a target: account, token.
fn columns(target: &Target) -> (Option<&str>, Option<&str>) {
    match target {
        Target::Account(account) => (Some(account.as_str()), None),
        Target::Token(token) => (None, Some(token)),
    }
}

fn target(account: Option<String>, token: Option<String>) -> Result<Target, StoreError> {
    match (account, token) {
        (Some(account), _) => Ok(Target::Account(parse_account(&account)?)),
        (None, Some(token)) => Ok(Target::Token(token)),
        (None, None) => Err(broken("a push has no target")),
    }
}

/// A push that cannot be decoded must not block the others: it stays, is tried again later, and is swept in the end.
fn readable(push: Result<WaitingPush, StoreError>) -> Option<WaitingPush> {
    push.inspect_err(|error| tracing::error!(error = error as &dyn std::error::Error, "queued push invalid"))
        .ok()
}

/// Returns whether a stored notice is about the post. An invalid one, which no list has, must not block the withdrawal of the others.
fn is_about(post: EventId, account: &str, actor: Option<&str>, topic: &str, data: &str) -> bool {
    let read = || {
        let (account, actor) = (parse_account(account)?, actor.map(parse_account).transpose()?);
        let data = serde_json::from_str(data).map_err(|_| broken("a notice is not JSON"))?;
        Ok::<_, StoreError>(post_of(&account, actor.as_ref(), topic, &data))
    };
    match read() {
        Ok(about) => about == Some(post),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "stored notice invalid; left out"
            );
            false
        }
    }
}

fn parse_account(text: &str) -> Result<Account, StoreError> {
    text.parse().map_err(|_| broken("an account is not one"))
}

fn timestamp(millis: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis).map_err(|_| broken("a time is not one"))
}

/// Reads a device's columns.
fn own_device(
    session: &str,
    platform: Option<&str>,
    language: Option<&str>,
    seen_at: i64,
) -> Result<OwnDevice, StoreError> {
    let session = (!session.is_empty())
        .then(|| session.parse().map_err(|_| broken("a session id is invalid")))
        .transpose()?;
    Ok(OwnDevice {
        session,
        platform: platform.and_then(Platform::of_name),
        language: language.map(Language::of_tag).unwrap_or_default(),
        seen_at: timestamp(seen_at)?,
    })
}

fn session_key(session: Option<SessionId>) -> String {
    session.map(|session| session.to_string()).unwrap_or_default()
}

fn broken(what: &'static str) -> StoreError {
    StoreError::corrupt(format_args!("in the database {what}"))
}

/// Returns the next number of an inbox. One without notices begins at the present second, so that no number is given twice after all were
/// swept.
fn next_seq(last: Option<i64>, now: Timestamp) -> i64 {
    last.unwrap_or_else(|| now.as_second()) + 1
}
