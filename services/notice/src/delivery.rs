//! A notice's way to its receiver: every replica shows it on the sockets it holds, one of them keeps it and sees to the push.
//!
//! A replica remembers the records of the last minute that concern accounts connected to it. About others (its sockets are younger than
//! the notice) it asks the inbox: the replica that comes first stores the notice, the time it was stored tells a duplicate from a new
//! record, and a settled push says that the notice was shown or pushed already.
//!
//! Sockets of version 2 read the inbox: for them the record is a signal only, and the notice is put into the inbox first.
//!
//! A notice counts as shown when a version 2 client acknowledged it, or when an old client gave a sign of life after the frame ([`sosohappy_realtime::shown`]); until then its push stays
//! in the queue, due after `push.delivery-timeout`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use sosohappy_access::{MutedWordLists, Names, Revocations};
use sosohappy_bus::consume::HandleError;
use sosohappy_common::settings::Live;
use sosohappy_common::{Account, Context};
use sosohappy_events::EventId;
use sosohappy_realtime::dedupe::{Dedupe, Verdict};
use sosohappy_realtime::{Hub, Present, Version};
use sosohappy_store::Directory;

use crate::domain::{Content, Notice, Target, WaitingPush};
use crate::metrics::{Hop, NoticeMetrics, Outcome};
use crate::push::PushHandle;
use crate::settings::Settings;
use crate::shown::ShownReports;
use crate::store::{Added, Store};

/// A notice that was put into the inbox this long ago was shown, or pushed, then.
const FRESH: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Delivery {
    pub settings: Live<Settings>,
    pub context: Context,
    pub store: Arc<dyn Store>,
    pub directory: Arc<dyn Directory>,
    pub names: Arc<dyn Names>,
    pub muted_words: MutedWordLists,
    pub hub: Hub,
    pub revocations: Revocations,
    pub present: Present,
    pub pushes: PushHandle,
    pub metrics: NoticeMetrics,
    pub shown: ShownReports,
    pub dedupe: Arc<Mutex<Dedupe>>,
    /// Withdrawals that were read here, of which the inbox need not be asked.
    pub withdrawn: Arc<Mutex<Dedupe>>,
    /// When this replica was started.
    pub started: Timestamp,
    /// When the inbox was made.
    pub born: Timestamp,
}

impl Delivery {
    /// Shows it on the receiver's sockets here, if there are any. A duplicate of the record is not shown again.
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
        if !self.is_for(notice).await? {
            self.metrics.notice(Outcome::Nobody);
            return Ok(());
        }
        let name = self.name_of_actor(notice).await;
        if name.is_none() && matches!(notice.content, Content::Follow { .. }) {
            // Resigned, or not known yet: the inbox lists the notice once there is a name.
            self.metrics.notice(Outcome::Nobody);
            return Ok(());
        }
        // First: what fails here is handled again, and must not have shown a frame.
        if self.hub.has(&notice.receiver, Version::Two) {
            self.put(notice, self.now()).await?;
            self.hub.signal(&notice.receiver);
        }
        if self.hub.has(&notice.receiver, Version::One)
            && self.is_wanted(notice).await?
            && self.is_new(notice, verdict).await?
        {
            let frame = notice.content.frame(name.as_deref());
            let on_shown = self.shown.queued(notice.event, notice.occurred_at);
            self.hub.send_reporting(&notice.receiver, &frame, &on_shown);
        }
        self.dedupe
            .lock()
            .remember(notice.event, notice.occurred_at, self.now());
        Ok(())
    }

    /// Whether sockets of version 1 have to show a notice that this replica does not remember.
    async fn is_new(&self, notice: &Notice, verdict: Verdict) -> Result<bool, HandleError> {
        match verdict {
            Verdict::Duplicate => Ok(false),
            Verdict::New if self.knows_new(notice) => Ok(true),
            Verdict::New | Verdict::Forgotten => self.inbox_says_new(notice).await,
        }
    }

    /// Whether this replica knows by itself that it is new, so that the frame need not wait for the inbox: it happened not long ago and
    /// since this replica was started, the receiver's sockets are older, so that an earlier copy would have been read here and be
    /// remembered, no withdrawal of it was read here, and the actor has not resigned since.
    fn knows_new(&self, notice: &Notice) -> bool {
        let since = notice.occurred_at;
        if since < self.started || self.withdrawn.lock().verdict(notice.event, since) != Verdict::New {
            return false;
        }
        let resigned = notice
            .content
            .actor()
            .is_some_and(|actor| self.revocations.is_account_revoked_since(actor, since));
        !is_older(since, FRESH, self.now()) && !resigned && self.hub.online_since(&notice.receiver, since)
    }

    /// Whether the inbox has it since a moment ago, and since this replica was started, and it was neither shown nor pushed.
    async fn inbox_says_new(&self, notice: &Notice) -> Result<bool, HandleError> {
        let now = self.now();
        let Some(stored_at) = self.put(notice, now).await? else {
            self.metrics.notice(Outcome::Over);
            return Ok(false);
        };
        let new = stored_at >= self.started && now.duration_since(stored_at).unsigned_abs() <= FRESH;
        let new = new && !self.store.is_settled(notice.event).await?;
        if !new {
            self.metrics.notice(Outcome::Repeated);
        }
        Ok(new)
    }

    /// Keeps it and queues the push: for somebody who is away at once, for somebody with a socket after a while in which the socket's
    /// replica says that it was shown.
    pub async fn keep(&self, notice: &Notice) -> Result<(), HandleError> {
        if !self.is_for(notice).await? {
            return Ok(());
        }
        let now = self.now();
        if self.put(notice, now).await?.is_none() {
            return Ok(());
        }
        self.metrics.notice(Outcome::Kept);
        let Some(content) = notice.content.push() else {
            return Ok(());
        };
        let push = WaitingPush {
            event: notice.event,
            target: Target::Account(notice.receiver.clone()),
            actor: notice.content.actor().cloned(),
            content,
            occurred_at: notice.occurred_at,
            queued_at: now,
            attempts: 0,
            sent: Vec::new(),
        };
        let online = self.present.anywhere(&notice.receiver).await?;
        let wait = {
            let push = &self.settings.get().push;
            // Likes are collected: those of one post are one push, and one that is taken back meanwhile is none.
            let delay = match notice.content {
                Content::Like { .. } => push.like_delay,
                Content::Follow { .. } | Content::Other { .. } => Duration::ZERO,
            };
            if online {
                push.delivery_timeout.max(delay)
            } else {
                delay
            }
        };
        self.queue(&push, wait).await
    }

    /// Returns whether the receiver wants frames of such notices, and of the post that this one is about.
    async fn is_wanted(&self, notice: &Notice) -> Result<bool, HandleError> {
        let preferences = self.store.preferences(&notice.receiver).await?.preferences;
        if !preferences.shows(notice.content.topic()) {
            return Ok(false);
        }
        Ok(match notice.content.mute() {
            Some(mute) => !self.store.is_muted(&notice.receiver, &mute).await?,
            None => true,
        })
    }

    /// Remembers a withdrawal, at every replica.
    pub fn note_withdrawal(&self, notice: EventId, at: Timestamp) {
        self.withdrawn.lock().remember(notice, at, self.now());
    }

    /// Takes a notice back: its inbox entry and, unless it was sent already, its push.
    pub async fn withdraw(&self, notice: EventId, at: Timestamp) -> Result<(), HandleError> {
        self.store.withdraw(notice, at, self.now()).await?;
        self.metrics.notice(Outcome::Withdrawn);
        Ok(())
    }

    /// Unless it is too late for a push, or happened before this inbox was there: then the legacy notice service has pushed it.
    pub async fn queue(&self, push: &WaitingPush, wait: Duration) -> Result<(), HandleError> {
        if push.occurred_at < self.born || is_older(push.occurred_at, self.settings.get().push.max_age, push.queued_at)
        {
            return Ok(());
        }
        self.store.queue(push, push.queued_at + wait).await?;
        if wait.is_zero() {
            self.pushes.wake();
        }
        Ok(())
    }

    /// Whether one of the two blocks the other; nobody hears of whom they block.
    pub async fn blocked(&self, one: &Account, other: &Account) -> Result<bool, HandleError> {
        Ok(self.directory.blocked(one, other).await?)
    }

    pub fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    /// Nobody is told of their own doing, or of that of somebody they block or who blocks them.
    async fn is_for(&self, notice: &Notice) -> Result<bool, HandleError> {
        let Some(actor) = notice.content.actor() else {
            return Ok(true);
        };
        Ok(*actor != notice.receiver && !self.blocked(actor, &notice.receiver).await?)
    }

    /// When it was put into the inbox; `None` when it does not belong there (any more).
    async fn put(&self, notice: &Notice, now: Timestamp) -> Result<Option<Timestamp>, HandleError> {
        // What the inbox has forgotten cannot be recognised there.
        if is_older(notice.occurred_at, self.settings.get().inbox.retention, now) {
            return Ok(None);
        }
        match self.store.add(notice, now).await? {
            Added::Kept { stored_at, .. } => Ok(Some(stored_at)),
            Added::Erased | Added::Withdrawn => Ok(None),
        }
    }

    /// The actor's present nickname: the one they did it under, if that is still theirs. The directory may not have heard of that one yet,
    /// and tell the one before.
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

fn is_older(at: Timestamp, than: Duration, now: Timestamp) -> bool {
    now.duration_since(at) > jiff::SignedDuration::try_from(than).unwrap_or(jiff::SignedDuration::MAX)
}
