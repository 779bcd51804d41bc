//! Delivers a notice to its receiver: every replica shows it on the sockets it holds ([`Delivery::show`]), and one replica, the consumer of
//! the record's partition, keeps it in the inbox and queues its push ([`Delivery::keep_all`]).
//!
//! | receiver's sockets | frames | push |
//! | --- | --- | --- |
//! | none | none | due after `push.delivery-timeout` |
//! | version 1 | likes, written by every replica that has one, each once; of other kinds none | the same, unless a socket has shown it by then |
//! | version 2 | written under its number in the inbox, or read from there by a socket that lacks the one before | the same |
//!
//! No replica knows whose sockets the others have: what decides about a push is that a socket has shown the notice. A push without a socket
//! waits as long, and a like `push.like-delay` if that is longer. The first like of a post that is due takes the others of it along, however short
//! they have waited: one that a socket shows in that moment is counted in the push, and has none of its own.
//!
//! A notice is shown when a client of version 2 has acknowledged it, or when a client of version 1 gave a sign of life after the frame
//! ([`sosohappy_realtime::shown`]). The report settles the push, which stays in the queue until then; a crash between any two steps leaves
//! the push in the queue, or the record unacknowledged.
//!
//! The same record can be read again, and by a replica that does not remember it. The inbox decides then ([`Decision`]): the first replica
//! stores the notice, the time of storing tells a duplicate from a new record, and a settled push says that the notice was shown or pushed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use sosohappy_access::{MutedWordLists, Names, Revocations};
use sosohappy_bus::consume::HandleError;
use sosohappy_bus::delivery::Hop;
use sosohappy_common::correlation::{Correlation, correlation};
use sosohappy_common::settings::Live;
use sosohappy_common::{Account, Context, WakeHandle, crash_point};
use sosohappy_events::EventId;
use sosohappy_realtime::dedupe::{Dedupe, Verdict};
use sosohappy_realtime::{Hub, Version};
use sosohappy_store::Directory;

use crate::banners::Banners;
use crate::domain::{Content, Notice, PushContent, Target, WaitingPush};
use crate::metrics::{NoticeMetrics, Outcome};
use crate::settings::Settings;
use crate::shown::ShownReports;
use crate::store::{Added, OwnRoom, Reading, Store, StoredNotice};

/// Notices that were stored longer ago than this count as delivered.
const FRESH: Duration = Duration::from_secs(30);
/// Longer than the clocks of two replicas differ.
const CLOCKS: Duration = Duration::from_secs(1);

/// Whether the version 1 sockets of this replica show a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    Show,
    /// The receiver switched off frames of its kind, or muted its post.
    Unwanted,
    /// It was delivered before.
    Repeated,
    /// The inbox does not keep it: it is withdrawn, too old, or a person in it resigned.
    Over,
}

impl Decision {
    /// The outcome that is counted instead of a frame.
    const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Show => None,
            Self::Unwanted => Some(Outcome::Unwanted),
            Self::Repeated => Some(Outcome::Repeated),
            Self::Over => Some(Outcome::Over),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Delivery {
    pub settings: Live<Settings>,
    pub context: Context,
    pub store: Arc<dyn Store>,
    pub directory: Arc<dyn Directory>,
    pub names: Arc<dyn Names>,
    pub muted_words: MutedWordLists,
    pub hub: Hub,
    pub banners: Banners,
    pub revocations: Revocations,
    pub pushes: WakeHandle,
    pub metrics: NoticeMetrics,
    pub shown: ShownReports,
    pub dedupe: Arc<Mutex<Dedupe>>,
    /// Withdrawals that this replica has read; it need not ask the inbox about them.
    pub withdrawn: Arc<Mutex<Dedupe>>,
    /// When this replica was started.
    pub started: Timestamp,
    /// When the inbox was created.
    pub born: Timestamp,
    /// Whether a Spring notice pushes the likes and messages that this replica reads.
    pub is_beside_spring_notice: Live<bool>,
}

impl Delivery {
    /// Shows a notice on the receiver's sockets at this replica. Duplicates of the record are not shown again.
    pub async fn show(&self, notice: &Notice) -> Result<(), HandleError> {
        let verdict = self.dedupe.lock().verdict(notice.event, notice.occurred_at);
        if verdict == Verdict::Duplicate {
            self.metrics.notice(Outcome::Repeated);
            return Ok(());
        }
        if !self.hub.online(&notice.receiver) {
            return Ok(());
        }
        self.metrics.reached(Hop::Consumed, notice.occurred_at, self.now());
        self.shown.consumed(notice.event, notice.occurred_at);
        // The published app knows the frames of likes only.
        let shows_old_frame =
            matches!(notice.content, Content::Like { .. }) && self.hub.has(&notice.receiver, Version::One);
        let shows_new_frame = self.hub.has(&notice.receiver, Version::Two);
        let is_wanted = async {
            if shows_old_frame || shows_new_frame {
                self.is_wanted(notice).await
            } else {
                Ok(true)
            }
        };
        // At the same time: a frame waits for each look-up.
        let (is_for_receiver, name, is_wanted) =
            tokio::join!(self.is_for_receiver(notice), self.name_of_actor(notice), is_wanted);
        if !is_for_receiver? {
            self.metrics.notice(Outcome::Nobody);
            return Ok(());
        }
        if name.is_none() && matches!(notice.content, Content::Follow { .. }) {
            // The follower has resigned or has no known name yet. The inbox lists the notice once there is a name.
            self.metrics.notice(Outcome::Nobody);
            return Ok(());
        }
        let is_wanted = is_wanted?;
        // Version 2 comes first: when the inbox is unavailable, the record is handled again, and no version 1 socket may have shown it.
        if self.hub.has(&notice.receiver, Version::Two) {
            let kept = self.put(notice, self.now()).await?;
            // One that the receiver does not want has a number only.
            let frame = kept.filter(|_| shows_new_frame && is_wanted).and_then(|kept| {
                self.shown
                    .numbered(&StoredNotice::of(notice, kept.seq)?, name.as_deref())
            });
            match frame {
                Some(frame) => self.hub.signal_with(&notice.receiver, frame),
                None => self.hub.signal(&notice.receiver),
            }
        }
        if shows_old_frame {
            if let Some(outcome) = self.decide(notice, is_wanted, verdict).await?.outcome() {
                self.metrics.notice(outcome);
            } else {
                let frame = notice.content.frame(name.as_deref());
                let on_shown = self
                    .shown
                    .queued_to_view(&notice.receiver, notice.event, notice.occurred_at);
                self.hub.send_reporting(&notice.receiver, &frame, &on_shown);
            }
        }
        // Only now: an error above leaves the record to be handled again.
        self.dedupe
            .lock()
            .remember(notice.event, notice.occurred_at, self.now());
        Ok(())
    }

    /// Decides whether version 1 sockets show a notice of which this replica remembers no duplicate:
    ///
    /// | receiver wants it | remembered | this replica knows it is new | inbox | decision |
    /// | --- | --- | --- | --- | --- |
    /// | no | any | any | not asked | unwanted |
    /// | yes | no, and its memory reaches back that far | yes | not asked | show |
    /// | yes | any | no | does not keep it | over |
    /// | yes | no, and its memory reaches back that far | no, but the sockets were open well before it happened | keeps it, stored when it happened or later | show |
    /// | yes | any | no | stored within [`FRESH`] and since this start, and the sockets were open when it happened | show |
    /// | yes | any | no | stored within [`FRESH`] and since this start, push not settled | show |
    /// | yes | any | no | else | repeated |
    async fn decide(&self, notice: &Notice, is_wanted: bool, verdict: Verdict) -> Result<Decision, HandleError> {
        if !is_wanted {
            return Ok(Decision::Unwanted);
        }
        if verdict == Verdict::New && self.knows_new(notice) {
            return Ok(Decision::Show);
        }
        let now = self.now();
        let Some(Kept { stored_at, .. }) = self.put(notice, now).await? else {
            return Ok(Decision::Over);
        };
        // Read late, after an outage: another replica may have stored it long ago, and these sockets have not shown it. A like that was taken back
        // and given again keeps the time of the first one, which was delivered.
        if verdict == Verdict::New
            && self.hub.online_well_before(&notice.receiver, notice.occurred_at)
            && !is_older(stored_at, CLOCKS, notice.occurred_at)
        {
            return Ok(Decision::Show);
        }
        let is_fresh = stored_at >= self.started && now.duration_since(stored_at).unsigned_abs() <= FRESH;
        // Where the sockets here were open, another replica may have settled it since: its sockets have shown it, these have not.
        let were_open = self.hub.online_before(&notice.receiver, notice.occurred_at);
        if is_fresh && (were_open || !self.store.is_settled(notice.event).await?) {
            Ok(Decision::Show)
        } else {
            Ok(Decision::Repeated)
        }
    }

    /// Returns whether this replica knows by itself that a notice is new, so that the frame need not wait for the inbox. All of these hold:
    /// it happened within [`FRESH`] and since this replica was started; the receiver's sockets were open well before, so that an earlier
    /// copy would have been read here and be remembered; no withdrawal of it was read here; neither its actor nor its receiver has resigned since.
    ///
    /// With a socket of the last moments the inbox is asked: an earlier copy found no socket here and was not remembered, and the
    /// withdrawal may have been read by another replica only.
    fn knows_new(&self, notice: &Notice) -> bool {
        let since = notice.occurred_at;
        let is_withdrawn = || {
            let withdrawn = self.withdrawn.lock();
            let mut ids = notice.withdrawal_ids().into_iter();
            ids.any(|id| withdrawn.verdict(id, since) != Verdict::New)
        };
        if since < self.started || is_withdrawn() {
            return false;
        }
        let mut people = notice.people().into_iter().flatten();
        let resigned = people.any(|(account, at)| self.revocations.is_account_revoked_since(account, at));
        !is_older(since, FRESH, self.now()) && !resigned && self.hub.online_well_before(&notice.receiver, since)
    }

    /// Keeps a notice in the inbox and queues its push, as [`Delivery::keep_all`] does.
    pub async fn keep(&self, notice: Notice) -> Result<(), HandleError> {
        let cause = correlation();
        let kept = self.keep_all(vec![Raised { notice, cause }]).await?;
        self.metrics.notices(Outcome::Kept, kept);
        Ok(())
    }

    /// Keeps notices in their inboxes and queues their pushes, each due after the time in which a replica with a socket of the receiver reports
    /// that the notice was shown. They are at most [`STORED_AT_ONCE`](crate::store::STORED_AT_ONCE).
    ///
    /// Returns how many the inbox keeps. The caller counts them as [`Outcome::Kept`] once everything that it handles together is applied: after an
    /// error all of it is handled again.
    pub async fn keep_all(&self, raised: Vec<Raised>) -> Result<usize, HandleError> {
        crash_point("notice.consumed");
        // All notices come before all pushes: a crash in between leaves the records unacknowledged, and they are handled again.
        let now = self.now();
        let kept = self.put_all(self.for_receivers(latest(raised)).await?, now).await?;
        crash_point("notice.stored");
        let pushes: Vec<WaitingPush> = kept.iter().filter_map(|raised| raised.push(now)).collect();
        let (delivery_timeout, like_wait) = {
            let push = &self.settings.get().push;
            (push.delivery_timeout, push.like_wait())
        };
        let wait = |push: &WaitingPush| match push.content {
            // Likes are collected: those of one post are one push, and one that is withdrawn meanwhile is none.
            PushContent::Like { .. } => like_wait,
            PushContent::Message { .. }
            | PushContent::RoomMessage { .. }
            | PushContent::Notice { .. }
            | PushContent::Handled { .. } => delivery_timeout,
        };
        let waits: Vec<_> = pushes.iter().map(|push| (push, wait(push))).collect();
        self.queue_all(&waits).await?;
        crash_point("notice.push-queued");
        Ok(kept.len())
    }

    /// Stores notices. Returns those that the inbox keeps.
    async fn put_all(&self, mut raised: Vec<Raised>, now: Timestamp) -> Result<Vec<Raised>, HandleError> {
        let retention = self.settings.get().inbox.retention;
        // The inbox deletes notices of that age: it could not recognise a duplicate.
        raised.retain(|raised| !is_older(raised.notice.occurred_at, retention, now));
        if raised.is_empty() {
            return Ok(raised);
        }
        let notices: Vec<&Notice> = raised.iter().map(|raised| &raised.notice).collect();
        let added = self.store.add_all(&notices, now).await?;
        let kept = raised.into_iter().zip(added).filter(|(_, added)| added.is_kept());
        Ok(kept.map(|(raised, _)| raised).collect())
    }

    /// Returns those of the notices that their receivers get, as [`Delivery::is_for_receiver`] does of one.
    async fn for_receivers(&self, mut raised: Vec<Raised>) -> Result<Vec<Raised>, HandleError> {
        let notices = raised.iter().map(|raised| &raised.notice);
        let pairs: Vec<(&Account, &Account)> = notices
            .filter_map(|notice| Some((notice.content.actor()?, &notice.receiver)))
            .collect();
        let mut blocked = self.directory.blocked_among(&pairs).await?.into_iter();
        raised.retain(|Raised { notice, .. }| {
            let actor = notice.content.actor();
            actor.is_none_or(|actor| blocked.next() == Some(false) && *actor != notice.receiver)
        });
        Ok(raised)
    }

    /// Returns whether the receiver wants frames of such notices, and of the post that this one is about.
    async fn is_wanted(&self, notice: &Notice) -> Result<bool, HandleError> {
        let mute = notice.content.mute();
        let choice = self.store.choice(&notice.receiver, mute.as_ref()).await?;
        Ok(!choice.is_muted && choice.preferences.shows(notice.content.topic()))
    }

    /// Remembers a withdrawal. Every replica does.
    pub fn note_withdrawal(&self, notice: EventId, at: Timestamp) {
        self.withdrawn.lock().remember(notice, at, self.now());
    }

    /// Withdraws a notice or message, as [`Delivery::withdraw_all`] does.
    pub async fn withdraw(&self, receiver: &Account, notice: EventId, at: Timestamp) -> Result<(), HandleError> {
        let receiver = receiver.clone();
        self.withdraw_all(&[Withdrawal { receiver, notice, at }]).await?;
        self.metrics.notice(Outcome::Withdrawn);
        Ok(())
    }

    /// Withdraws notices or messages: their inbox entries and their pushes, or the banners of pushes that were sent. The caller counts them, as
    /// for [`Delivery::keep_all`].
    pub async fn withdraw_all(&self, withdrawals: &[Withdrawal]) -> Result<(), HandleError> {
        if withdrawals.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let withdrawn: Vec<_> = withdrawals.iter().map(|each| (each.notice, each.at)).collect();
        self.store.withdraw_all(&withdrawn, now).await?;
        let ids: Vec<EventId> = withdrawals.iter().map(|each| each.notice).collect();
        self.store.handle_messages(&ids).await?;
        let receivers: HashSet<&Account> = withdrawals.iter().map(|each| &each.receiver).collect();
        let receivers: Vec<&Account> = receivers.into_iter().collect();
        for receiver in self.store.showing(&receivers, &ids).await? {
            self.banners.withdraw_handled(&receiver, None, now).await?;
        }
        Ok(())
    }

    /// Marks the messages of a room as read up to a number, as [`Delivery::messages_read`] does.
    pub async fn read_room(&self, room: &OwnRoom, up_to: i64, reading: Reading) -> Result<(), HandleError> {
        self.store.raise_room_read(room, up_to, reading).await?;
        let read = self.store.unread_in_room(room, up_to).await?;
        self.messages_read(&room.account, &read).await
    }

    /// Settles the pushes of messages that the account has read, and removes their banners. The messages are handled after their pushes are
    /// settled: a crash in between leaves them unread, and the record is handled again.
    pub async fn messages_read(&self, account: &Account, read: &[EventId]) -> Result<(), HandleError> {
        let now = self.now();
        if !read.is_empty() {
            self.store.settle(read, now).await?;
            self.store.handle_messages(read).await?;
        }
        Ok(self.banners.withdraw_handled(account, None, now).await?)
    }

    /// Withdraws the notices about a deleted post, with their pushes and banners. Its author has likes and comments of it, and the accounts that
    /// saved it have notices of that, which have neither.
    pub async fn withdraw_post(&self, author: &Account, date: i64, at: Timestamp) -> Result<(), HandleError> {
        let now = self.now();
        self.store.withdraw_post(author, date, at, now).await?;
        self.banners.withdraw_handled(author, None, now).await?;
        self.metrics.notice(Outcome::Withdrawn);
        Ok(())
    }

    /// Queues a push as [`Delivery::queue_all`] does.
    pub async fn queue(&self, push: &WaitingPush, wait: Duration) -> Result<(), HandleError> {
        self.queue_all(&[(push, wait)]).await
    }

    /// Queues pushes that are due after a time, except those that are too old, or that a Spring notice pushes: likes and messages while one runs
    /// beside this replica, and everything that happened before this inbox was created.
    pub async fn queue_all(&self, pushes: &[(&WaitingPush, Duration)]) -> Result<(), HandleError> {
        let max_age = self.settings.get().push.max_age;
        let is_beside_spring = *self.is_beside_spring_notice.get();
        let is_springs = |push: &WaitingPush| {
            let is_read_by_spring = matches!(push.content, PushContent::Like { .. } | PushContent::Message { .. });
            push.occurred_at < self.born || (is_beside_spring && is_read_by_spring)
        };
        let is_due = |push: &WaitingPush| !is_springs(push) && !is_older(push.occurred_at, max_age, push.queued_at);
        let due = pushes.iter().filter(|(push, _)| is_due(push));
        let due: Vec<(&WaitingPush, Timestamp)> = due.map(|(push, wait)| (*push, push.queued_at + *wait)).collect();
        if due.is_empty() {
            return Ok(());
        }
        self.store.queue_all(&due).await?;
        if pushes.iter().any(|(_, wait)| wait.is_zero()) {
            self.pushes.wake();
        }
        Ok(())
    }

    /// Returns whether one account blocks the other: neither gets notices of the other then.
    pub async fn blocked(&self, one: &Account, other: &Account) -> Result<bool, HandleError> {
        Ok(self.directory.blocked(one, other).await?)
    }

    pub fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    /// Returns whether the receiver gets the notice: it is not of the receiver's own doing, and its actor is in no block with the receiver.
    async fn is_for_receiver(&self, notice: &Notice) -> Result<bool, HandleError> {
        let Some(actor) = notice.content.actor() else {
            return Ok(true);
        };
        Ok(*actor != notice.receiver && !self.blocked(actor, &notice.receiver).await?)
    }

    /// Stores a notice if it is not in the inbox yet; `None` when the inbox does not keep it.
    async fn put(&self, notice: &Notice, now: Timestamp) -> Result<Option<Kept>, HandleError> {
        // The inbox deletes notices of that age: it could not recognise a duplicate.
        if is_older(notice.occurred_at, self.settings.get().inbox.retention, now) {
            return Ok(None);
        }
        match self.store.add(notice, now).await? {
            Added::Kept { seq, stored_at } => Ok(Some(Kept { seq, stored_at })),
            Added::Erased | Added::Withdrawn => Ok(None),
        }
    }

    /// Returns the actor's present nickname: the one of the record if it is still the actor's, because the directory may not have read that one
    /// yet and return the one before.
    async fn name_of_actor(&self, notice: &Notice) -> Option<String> {
        if matches!(notice.content, Content::Other { .. }) {
            return None;
        }
        let actor = notice.content.actor()?;
        if let Content::Like { known_as, .. } = &notice.content
            && let Ok(Some(bearer)) = self.names.account_of(known_as).await
            && bearer == *actor
        {
            return Some(known_as.clone());
        }
        let names = self.names.nicknames_of(std::slice::from_ref(actor)).await;
        names.ok()?.into_iter().next()?
    }
}

/// The number of a notice in the inbox, and since when it is there.
#[derive(Debug, Clone, Copy)]
struct Kept {
    seq: i64,
    stored_at: Timestamp,
}

/// A notice or message that is withdrawn as far as it happened up to that time.
#[derive(Debug)]
pub struct Withdrawal {
    pub receiver: Account,
    pub notice: EventId,
    pub at: Timestamp,
}

/// A notice, and the request that caused it.
#[derive(Debug)]
pub struct Raised {
    pub notice: Notice,
    pub cause: Option<Correlation>,
}

impl Raised {
    /// Returns the push of the notice, if it has one.
    fn push(&self, now: Timestamp) -> Option<WaitingPush> {
        let notice = &self.notice;
        Some(WaitingPush {
            event: notice.event,
            target: Target::Account(notice.receiver.clone()),
            actor: notice.content.actor().cloned(),
            content: notice.content.push()?,
            occurred_at: notice.occurred_at,
            authorized_at: notice.authorized_at,
            queued_at: now,
            attempts: 0,
            sent: Vec::new(),
            cause: self.cause.clone(),
        })
    }
}

/// Leaves one of the copies of each notice: the latest, in the place of the first.
fn latest(raised: Vec<Raised>) -> Vec<Raised> {
    let mut kept: Vec<Raised> = Vec::with_capacity(raised.len());
    let mut places = HashMap::with_capacity(raised.len());
    for raised in raised {
        match places.entry(raised.notice.event) {
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(raised);
            }
            Entry::Occupied(place) => {
                let earlier = &mut kept[*place.get()];
                if earlier.notice.occurred_at < raised.notice.occurred_at {
                    *earlier = raised;
                }
            }
        }
    }
    kept
}

fn is_older(at: Timestamp, than: Duration, now: Timestamp) -> bool {
    now.duration_since(at) > jiff::SignedDuration::try_from(than).unwrap_or(jiff::SignedDuration::MAX)
}
