//! A notice's way to its receiver: every replica shows it on the sockets it holds, one of them keeps it and sees to the push.
//!
//! A replica remembers what it has read a moment ago. What it cannot remember (its sockets are younger than the notice) the inbox tells:
//! whoever comes first puts the notice there, and the time it was put there tells a repeated record from a new one.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moka::future::Cache;
use sosohappy_access::{Names, Revocations};
use sosohappy_bus::consume::HandleError;
use sosohappy_common::settings::Live;
use sosohappy_common::{Account, Context};
use sosohappy_events::EventId;
use sosohappy_sockets::{Hub, Present};
use sosohappy_store::Directory;

use crate::domain::{Content, Notice, PushContent, Target, WaitingPush};
use crate::metrics::{NoticeMetrics, Outcome};
use crate::push::PushHandle;
use crate::settings::Settings;
use crate::store::{Added, Store};

/// A notice that was put into the inbox this long ago was shown, or pushed, then.
const FRESH: Duration = Duration::from_secs(30);

/// Notices that this replica remembers to have read, for as long as a repetition could be taken for new.
const READ: u64 = 20_000;

#[derive(Debug, Clone)]
pub struct Delivery {
    pub settings: Live<Settings>,
    pub context: Context,
    pub store: Arc<dyn Store>,
    pub directory: Arc<dyn Directory>,
    pub names: Arc<dyn Names>,
    pub hub: Hub,
    pub revocations: Revocations,
    pub present: Present,
    pub pushes: PushHandle,
    pub metrics: NoticeMetrics,
    pub read: Read,
    /// When this replica was started.
    pub started: Timestamp,
    /// When the inbox was made.
    pub born: Timestamp,
}

/// What this replica has read a moment ago, and whether it has shown it.
#[derive(Debug, Clone)]
pub struct Read(Cache<EventId, bool>);

impl Default for Read {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(READ).time_to_live(FRESH * 2).build())
    }
}

impl Delivery {
    /// Shows it on the receiver's sockets here, if there are any.
    ///
    /// A copy of the record is not shown again, wherever the receiver's socket was when the first one came: what this replica has read
    /// it remembers, and what was in the inbox before it was started was others' to show.
    pub async fn show(&self, notice: &Notice) -> Result<(), HandleError> {
        match self.read.0.get(&notice.event).await {
            // The attempt that showed it could not say so.
            Some(true) => return self.settle(notice).await,
            Some(false) => {
                self.metrics.notice(Outcome::Repeated);
                return Ok(());
            }
            None => {}
        }
        let shown = self.show_now(notice).await?;
        self.read.0.insert(notice.event, shown).await;
        if shown {
            self.metrics.notice(Outcome::Shown);
            self.settle(notice).await?;
        }
        Ok(())
    }

    async fn show_now(&self, notice: &Notice) -> Result<bool, HandleError> {
        if !self.hub.online(&notice.receiver) {
            return Ok(false);
        }
        if !self.is_for(notice).await? {
            self.metrics.notice(Outcome::Nobody);
            return Ok(false);
        }
        let name = self.name_of_actor(notice).await;
        if !self.knows_new(notice) && !self.is_new(notice).await? {
            return Ok(false);
        }
        let frame = notice.content.frame(name.as_deref());
        Ok(self.hub.send(&notice.receiver, &frame) > 0)
    }

    /// Whether this replica knows by itself that it is new, so that the frame need not wait for the inbox: it happened not long ago, the
    /// receiver's sockets are older, so that an earlier copy would have come by here and be remembered, and the actor has not
    /// resigned since.
    fn knows_new(&self, notice: &Notice) -> bool {
        let since = notice.occurred_at;
        let resigned = notice
            .content
            .actor()
            .is_some_and(|actor| self.revocations.is_account_revoked_since(actor, since));
        !is_older(since, FRESH, self.now()) && !resigned && self.hub.online_since(&notice.receiver, since)
    }

    /// Whether it is the inbox's since a moment ago, and since this replica was started: no other has shown it.
    async fn is_new(&self, notice: &Notice) -> Result<bool, HandleError> {
        let now = self.now();
        let Some(stored_at) = self.put(notice, now).await? else {
            self.metrics.notice(Outcome::Over);
            return Ok(false);
        };
        let new = stored_at >= self.started && now.duration_since(stored_at).unsigned_abs() <= FRESH;
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
        let Content::Like { date, .. } = &notice.content else {
            // The contract has no words for a push of anything else.
            return Ok(());
        };
        let push = WaitingPush {
            event: notice.event,
            target: Target::Account(notice.receiver.clone()),
            actor: notice.content.actor().cloned(),
            content: PushContent::Like { date: *date },
            occurred_at: notice.occurred_at,
            queued_at: now,
            attempts: 0,
        };
        let wait = if self.present.anywhere(&notice.receiver).await? {
            self.settings.get().push.grace
        } else {
            Duration::ZERO
        };
        self.queue(&push, wait).await
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
            Added::Erased => Ok(None),
        }
    }

    /// The actor's present nickname: the one they did it under, if that is still theirs. The directory may not have heard of that one yet,
    /// and tell the one before.
    async fn name_of_actor(&self, notice: &Notice) -> Option<String> {
        let Content::Like { liker, known_as, .. } = &notice.content else {
            return None;
        };
        if let Ok(Some(bearer)) = self.names.account_of(known_as).await
            && bearer == *liker
        {
            return Some(known_as.clone());
        }
        let names = self.names.nicknames_of(std::slice::from_ref(liker)).await;
        names.ok()?.into_iter().next()?
    }

    async fn settle(&self, notice: &Notice) -> Result<(), HandleError> {
        match notice.content {
            Content::Like { .. } => Ok(self.store.settle(notice.event, self.now()).await?),
            Content::Other { .. } => Ok(()),
        }
    }
}

fn is_older(at: Timestamp, than: Duration, now: Timestamp) -> bool {
    now.duration_since(at) > jiff::SignedDuration::try_from(than).unwrap_or(jiff::SignedDuration::MAX)
}
