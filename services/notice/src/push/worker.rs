//! Brings waiting pushes to the gateway, a number of them at once: a slow device delays no other. A push that was taken is due again after
//! a while, so that another replica sends it when the first was killed. Pushes of one thread that are due are one push; likes of a post
//! that wait go with the first that is due. A thread and an account get so many a minute: the rest waits, and is one push then.
//!
//! | answer of the provider | the device | the push |
//! | --- | --- | --- |
//! | accepted | recorded, left out of later tries | settled when every device has an answer |
//! | gone, of another sender | its token is deleted | as if it had none |
//! | rejected | stays: the payload is our error | settled as refused |
//! | credential rejected | stays | waits, for up to `push.max-age`, without growing pauses |
//! | unavailable, over quota | stays | waits for `Retry-After`, or a pause that doubles, with jitter |
//! | none: the call panics, or does not end | stays | waits for a pause that doubles, with jitter |

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
#[cfg(test)]
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use sosohappy_access::{Names, Revocations};
use sosohappy_bus::delivery::Hop;
use sosohappy_common::correlation::{self, Correlation};
use sosohappy_common::rate::Rate;
use sosohappy_common::settings::Live;
use sosohappy_common::{Account, Context, WakeHandle, crash_point};
use sosohappy_events::EventId;
use sosohappy_store::{Directory, StoreError};
use tokio::task::JoinSet;
use tracing::{Instrument as _, Span};

use super::{Gateway, PushError};
use crate::banners::Banners;
use crate::domain::{
    Banner, Gate, Language, PushContent, PushDevice, PushGroup, PushMessage, PushText, RoomFrame, Target, Thread,
    WaitingPush, Wording,
};
use crate::metrics::NoticeMetrics;
use crate::settings::Settings;
use crate::store::{Store, Take};

/// Without a wake: finds what other replicas queued, and what became due.
const LOOK: Duration = Duration::from_millis(500);

/// One push to all its devices, and how many are made at once.
const ONE_PUSH: Duration = Duration::from_secs(30);
const BATCH: u32 = 32;

/// Longer than a push takes, with what is read before it and recorded after it: a push that was taken begins at once.
const TAKEN_FOR: Duration = Duration::from_mins(1);

/// Between tries of one push, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(15);

#[derive(Debug)]
pub struct Worker {
    pub settings: Live<Settings>,
    pub context: Context,
    pub store: Arc<dyn Store>,
    pub directory: Arc<dyn Directory>,
    pub names: Arc<dyn Names>,
    pub revocations: Revocations,
    pub gateway: Arc<dyn Gateway>,
    pub metrics: NoticeMetrics,
    /// Called after a push that is due was queued.
    pub woken: WakeHandle,
}

/// How a push ended for now.
enum End {
    /// There is nothing more to do about it.
    Settled(&'static str),
    Later(Pause),
}

/// When a push is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// Doubled with each try.
    Growing,
    /// As long as the provider asks for, at least as long as the growing one.
    AtLeast(Duration),
    /// The credential is rejected: the tries before it is replaced do not count.
    Credential,
}

/// While a credential is rejected.
const CREDENTIAL_PAUSE: Duration = Duration::from_secs(10);

/// What an account has not read.
#[derive(Debug, Clone, Copy)]
struct Unread {
    /// The number on the icon.
    all: u64,
    /// The likes of the post that was asked about.
    likes: usize,
}

/// How a device answered.
enum Answer {
    Sent,
    Dropped,
    Refused,
    Later(Pause),
}

impl Worker {
    pub fn spawn(self) {
        let lifecycle = self.context.lifecycle.clone();
        lifecycle.spawn("push-worker", self.run());
    }

    async fn run(self) -> anyhow::Result<()> {
        let draining = self.context.lifecycle.draining();
        // Who is suspended is known then.
        draining.run_until_cancelled(self.context.lifecycle.ready()).await;
        let worker = Arc::new(self);
        // A spawned task does not inherit the span, which names the service.
        let span = Span::current();
        let mut running = JoinSet::new();
        while !draining.is_cancelled() {
            while running.try_join_next().is_some() {}
            let room = BATCH.saturating_sub(u32::try_from(running.len()).unwrap_or(BATCH));
            let taken = if room == 0 {
                Ok(Vec::new())
            } else {
                worker.take(room).await
            };
            let count = match taken {
                Ok(pushes) => {
                    let count = pushes.len();
                    for group in pushes {
                        let worker = worker.clone();
                        let handled = async move { worker.handle_logged(&group).await };
                        running.spawn(handled.instrument(span.clone()));
                    }
                    count
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "reading push queue failed");
                    0
                }
            };
            // As many as there was room for: more may be due. They are taken when half of those that run have ended, and not one by one.
            let is_full = count >= room as usize;
            let ended = is_full.then_some((running.len() / 2).max(1));
            worker.wait(&mut running, ended).await;
        }
        while running.join_next().await.is_some() {}
        Ok(())
    }

    /// Waits for the next take: until a push is due that this process has queued, until that many running ones have ended, or for [`LOOK`].
    async fn wait(&self, running: &mut JoinSet<()>, ended: Option<usize>) {
        let look = tokio::time::sleep(LOOK);
        tokio::pin!(look);
        let draining = self.context.lifecycle.draining();
        let mut left = ended;
        while left != Some(0) {
            tokio::select! {
                () = draining.cancelled() => return,
                () = self.woken.woken() => return,
                () = &mut look => return,
                Some(_) = running.join_next() => left = left.map(|left| left - 1),
            }
        }
    }

    async fn take(&self, limit: u32) -> Result<Vec<PushGroup>, StoreError> {
        let now = self.context.clock.now();
        let take = Take {
            now,
            again: now + TAKEN_FOR,
            likes_until: now + self.settings.get().push.like_wait(),
            limit,
        };
        self.store.take_due(take).await
    }

    /// Handles a group in the correlation, and below the trace, of the request that caused its newest push.
    async fn handle_logged(&self, group: &PushGroup) {
        let push = &group.newest;
        let cause = push
            .cause
            .clone()
            .unwrap_or_else(|| Correlation::begin(&*self.context.entropy));
        let span = tracing::info_span!(
            "push",
            id = %push.event,
            kind = push.content.label(),
            request_id = &*cause.id,
            trace_id = cause.traceparent.as_deref().and_then(correlation::trace_id),
        );
        if let Some(traceparent) = &cause.traceparent {
            correlation::continue_trace(&span, traceparent);
        }
        let handled = async {
            if let Err(error) = self.handle(group).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "push delivery failed; retrying"
                );
            }
        };
        cause.scope(handled).instrument(span).await;
    }

    /// Makes the pushes that are due; how many there were.
    #[cfg(test)]
    pub async fn round(&self) -> Result<usize, StoreError> {
        let due = self.take(BATCH).await?;
        let taken = due.len();
        stream::iter(due)
            .for_each_concurrent(None, async |group| self.handle_logged(&group).await)
            .await;
        Ok(taken)
    }

    async fn handle(&self, group: &PushGroup) -> Result<(), StoreError> {
        crash_point("notice.push-taken");
        let now = self.context.clock.now();
        let (kind, max_age) = (group.newest.content.label(), self.settings.get().push.max_age);
        let (gate, hidden) = tokio::try_join!(self.gate(&group.newest, now), self.hidden(&group.newest.target))?;
        let asked = group.newest.event;
        // They acted before the block; the receiver hears nothing of it any more.
        let (allowed, blocked) = group.without(&hidden);
        if !blocked.is_empty() {
            self.metrics.push(kind, "blocked");
            self.store.settle(&blocked, now).await?;
        }
        let Some(group) = &allowed else {
            if blocked.len() < group.events.len() {
                // The content of the others was not read: the next take reads it.
                self.store.defer(&group.events, &group.thread, now).await?;
            }
            return Ok(());
        };
        let push = &group.newest;
        let gate = if push.event == asked {
            gate
        } else {
            self.gate(push, now).await?
        };
        match gate {
            Gate::Send => {}
            Gate::Refuse => {
                self.metrics.push(kind, "unwanted");
                return self.store.settle(&group.events, now).await;
            }
            Gate::Defer(until) => {
                self.metrics.push(kind, "quiet");
                return self.store.defer(&group.events, &group.thread, until).await;
            }
        }
        // A push that was tried before was within the limits then.
        if push.attempts <= 1
            && push.content.kind().is_some()
            && let Some((thread, due)) = self.over_limit(group, now).await?
        {
            self.metrics.push(kind, "limited");
            return self.store.defer(&group.events, &thread, due).await;
        }
        // A panic is a failure as others: else the push would be tried again without growing pauses, and never given up.
        let tried = AssertUnwindSafe(self.try_now(group, &hidden)).catch_unwind();
        let end = match tokio::time::timeout(ONE_PUSH, tried).await {
            Ok(Ok(end)) => end?,
            Ok(Err(_)) | Err(_) => End::Later(Pause::Growing),
        };
        match end {
            End::Settled(outcome) => {
                self.store.settle(&group.events, now).await?;
                crash_point("notice.push-settled");
                self.metrics.push(kind, outcome);
                self.metrics.grouped(kind, group.events.len() - 1);
                Ok(())
            }
            End::Later(_) if now.duration_since(push.queued_at).unsigned_abs() > max_age => {
                tracing::warn!(event = %push.event, attempts = push.attempts, "push expired; giving up");
                self.metrics.push(kind, "given-up");
                self.store.settle(&group.events, now).await
            }
            End::Later(pause) => {
                self.metrics.push(kind, "postponed");
                self.store
                    .postpone(&group.events, now + self.pause(pause, push.attempts))
                    .await
            }
        }
    }

    /// Asks the receiver's preferences and mutes; nothing is sent to a suspended account. A push to a token (of a Spring dm) names no account,
    /// and has none.
    async fn gate(&self, push: &WaitingPush, now: Timestamp) -> Result<Gate, StoreError> {
        if let Target::Account(account) = &push.target
            && self.revocations.is_suspended(account)
        {
            return Ok(Gate::Refuse);
        }
        let (Target::Account(account), Some(kind)) = (&push.target, push.content.kind()) else {
            return Ok(Gate::Send);
        };
        let choice = self.store.choice(account, push.mute().as_ref()).await?;
        if choice.is_muted {
            return Ok(Gate::Refuse);
        }
        Ok(choice.preferences.gate(kind, now))
    }

    /// Returns the accounts that are in a block with the receiver. A push to a token (of a Spring dm) names no receiver.
    async fn hidden(&self, target: &Target) -> Result<Vec<Account>, StoreError> {
        match target {
            Target::Account(account) => self.directory.blocked_with(account).await,
            Target::Token(_) => Ok(Vec::new()),
        }
    }

    /// Returns in which thread a group has to wait, and until when, if it is over a limit:
    ///
    /// | group | limit reached | waits in |
    /// | --- | --- | --- |
    /// | of one thread | of the thread | its thread, until the thread's minute ends |
    /// | of one thread | of the account | the thread of its kind, until the account's minute ends |
    /// | of a kind | of the kind's thread | the same, until its minute ends; the account's limit was applied before |
    async fn over_limit(&self, group: &PushGroup, now: Timestamp) -> Result<Option<(Thread, Timestamp)>, StoreError> {
        let (per_thread, per_account) = {
            let push = &self.settings.get().push;
            (push.per_thread, push.per_account)
        };
        if let Rate::PerMinute(limit) = per_thread
            && let Some(end) = self.store.admit(&group.thread, limit.get(), now).await?
        {
            return Ok(Some((group.thread.clone(), end)));
        }
        let of_kind = group.newest.kind_thread();
        if let Rate::PerMinute(limit) = per_account
            && group.thread != of_kind
            && let Some(end) = self
                .store
                .admit(&Thread::whole(&group.newest.target), limit.get(), now)
                .await?
        {
            return Ok(Some((of_kind, end)));
        }
        Ok(None)
    }

    /// With a quarter of jitter on top, so that a provider that comes back is not met by all at once.
    fn pause(&self, pause: Pause, attempts: u32) -> Duration {
        let growing = FIRST_PAUSE
            .saturating_mul(1 << attempts.saturating_sub(1).min(16))
            .min(LONGEST_PAUSE);
        let pause = match pause {
            Pause::Growing => growing,
            Pause::AtLeast(asked) => growing.max(asked),
            Pause::Credential => CREDENTIAL_PAUSE,
        };
        let permille = u32::try_from(self.context.entropy.u64() % 251).unwrap_or_default();
        pause + pause * permille / 1000
    }

    async fn try_now(&self, group: &PushGroup, hidden: &[Account]) -> Result<End, StoreError> {
        let push = &group.newest;
        let devices = match &push.target {
            Target::Account(account) => self.store.of(account).await?,
            Target::Token(token) => vec![PushDevice {
                token: token.clone(),
                language: Language::default(),
            }],
        };
        if let PushContent::Handled { events, tokens } = &push.content {
            let shown_on = devices.iter().filter(|device| tokens.contains(&device.token));
            let open: Vec<&str> = shown_on
                .map(|device| device.token.as_str())
                .filter(|token| !push.sent.iter().any(|sent| sent == token))
                .collect();
            return self.send_handled(group, events, &open, hidden).await;
        }
        if devices.is_empty() {
            return Ok(End::Settled("no-device"));
        }
        let liked = match push.content {
            PushContent::Like { date } => Some(date),
            _ => None,
        };
        let unread = async {
            match &push.target {
                Target::Account(account) => self.unread(account, hidden, liked).await.map(Some),
                Target::Token(_) => Ok(None),
            }
        };
        let (wording, unread) = tokio::join!(self.wording(group), unread);
        let Some(mut wording) = wording else {
            return Ok(End::Later(Pause::Growing));
        };
        let unread = unread?;
        if let (Wording::Like { others, .. }, Some(unread)) = (&mut wording, unread) {
            // The banner replaces the one of the likes before, which are unread, too.
            *others = (*others).max(unread.likes.saturating_sub(1));
        }
        let badge = unread.map(|unread| unread.all);

        let open = devices.iter().filter(|device| !push.sent.contains(&device.token));
        let answers = join_all(open.map(|device| {
            let text = PushText {
                badge,
                ..wording.text(device.language)
            };
            async move {
                let banner = Banner {
                    event: push.event,
                    token: device.token.clone(),
                    name: text.collapse.clone().unwrap_or_else(|| push.event.to_string()),
                    occurred_at: push.occurred_at,
                };
                let answer = self.send(group, &device.token, &[PushMessage::Alert(text)]).await?;
                if matches!(answer, Answer::Sent)
                    && !self.record(group, &banner).await?
                    && let Target::Account(account) = &push.target
                {
                    self.withdraw_if_handled(account, push.event).await?;
                }
                Ok(answer)
            }
        }))
        .await;
        Self::end(push, answers)
    }

    /// Removes banners of a push that was read or withdrawn while it was sent: what handled it may not have seen them. It settles or withdraws
    /// the push before it looks for banners, and the banner of a push is recorded before it is asked whether the push waits: so one of the two
    /// sees the other.
    async fn withdraw_if_handled(&self, account: &Account, event: EventId) -> Result<(), StoreError> {
        if self.store.handled(account, &[event]).await?.is_empty() {
            return Ok(());
        }
        let banners = Banners {
            store: self.store.clone(),
            pushes: self.woken.clone(),
        };
        banners.withdraw_handled(account, None, self.context.clock.now()).await
    }

    /// Records that a device was sent the push: its banner first, so that a crash in between loses no banner. Returns whether the push waits.
    async fn record(&self, group: &PushGroup, banner: &Banner) -> Result<bool, StoreError> {
        let now = self.context.clock.now();
        self.metrics.reached(Hop::Pushed, banner.occurred_at, now);
        if let Target::Account(account) = &group.newest.target {
            self.store.add_banner(account, banner).await?;
        }
        crash_point("notice.banner-recorded");
        let waits = self.store.sent(&group.events, &banner.token).await?;
        crash_point("notice.push-recorded");
        Ok(waits)
    }

    /// Wakes the devices that show the banners, and sets the number on their icons.
    async fn send_handled(
        &self,
        group: &PushGroup,
        events: &[EventId],
        tokens: &[&str],
        hidden: &[Account],
    ) -> Result<End, StoreError> {
        let push = &group.newest;
        let Target::Account(account) = &push.target else {
            return Ok(End::Settled("no-device"));
        };
        let badge = self.unread(account, hidden, None).await?.all;
        let messages = [
            PushMessage::Handled {
                events: events.to_vec(),
                badge,
            },
            PushMessage::Badge(badge),
        ];
        let messages = &messages;
        let answers = join_all(tokens.iter().map(|token| async move {
            let answer = self.send(group, token, messages).await?;
            if matches!(answer, Answer::Sent) {
                self.store.sent(&group.events, token).await?;
            }
            Ok(answer)
        }))
        .await;
        Self::end(push, answers)
    }

    /// Concludes from the answers of all devices.
    fn end(push: &WaitingPush, answers: Vec<Result<Answer, StoreError>>) -> Result<End, StoreError> {
        let mut outcome = (!push.sent.is_empty()).then_some("sent");
        let mut later = None;
        for answer in answers {
            match answer? {
                Answer::Sent => outcome = Some("sent"),
                Answer::Dropped => {}
                Answer::Refused => outcome = outcome.or(Some("refused")),
                Answer::Later(pause) => later = Some(longer(later, pause)),
            }
        }
        Ok(match later {
            Some(pause) => End::Later(pause),
            None => End::Settled(outcome.unwrap_or("no-device")),
        })
    }

    /// Sends the messages of a push to a device, until one of them fails. The caller records the push.
    async fn send(&self, group: &PushGroup, device: &str, messages: &[PushMessage]) -> Result<Answer, StoreError> {
        let push = &group.newest;
        let mut result = Ok(());
        for message in messages {
            result = self.gateway.push(device, push.event, message).await;
            if result.is_err() {
                break;
            }
        }
        crash_point("notice.push-answered");
        Ok(match result {
            Ok(()) => Answer::Sent,
            Err(PushError::Gone { since }) => {
                self.metrics.dropped_token("gone");
                self.store.forget(device, since).await?;
                Answer::Dropped
            }
            Err(PushError::ForeignToken) => {
                tracing::error!(event = %push.event, "push token of another sender deleted");
                self.metrics.dropped_token("foreign");
                self.store.forget(device, None).await?;
                Answer::Dropped
            }
            Err(PushError::Refused(reason)) => {
                tracing::error!(event = %push.event, reason, "push provider rejected push");
                Answer::Refused
            }
            // The gateway logs it once.
            Err(PushError::Credential(_)) => Answer::Later(Pause::Credential),
            Err(PushError::Unavailable { retry_after, source }) => {
                tracing::warn!(event = %push.event, error = %source, "push delivery failed; retrying");
                Answer::Later(retry_after.map_or(Pause::Growing, Pause::AtLeast))
            }
        })
    }

    /// Counts what the account has not read: notices and messages, as `unreadCount` of notice and dm do, and messages of rooms as `rooms` of dm
    /// does, but only since the last view of a client of version 1, which does not say what was read. What happened before that view but was
    /// consumed after it never counts, nor does what the `hidden` accounts caused.
    async fn unread(&self, account: &Account, hidden: &[Account], post: Option<i64>) -> Result<Unread, StoreError> {
        let read = self.store.read_state(account).await?;
        let of_post = async {
            let Some(date) = post else { return Ok(0) };
            self.store
                .unread_likes(account, hidden, date, read.seq, read.viewed_at)
                .await
        };
        let (notices, messages, likes) = tokio::try_join!(
            self.store.unread(account, hidden, read.seq, read.viewed_at),
            self.store.unread_messages(account, hidden, read.viewed_at),
            of_post,
        )?;
        Ok(Unread {
            all: notices + messages,
            likes: usize::try_from(likes).unwrap_or(usize::MAX),
        })
    }

    /// Returns the content with the present nicknames; `None` while they are not available.
    async fn wording(&self, group: &PushGroup) -> Option<Wording> {
        let push = &group.newest;
        match &push.content {
            PushContent::Like { date } => {
                let (Some(liker), Target::Account(author)) = (&push.actor, &push.target) else {
                    return None;
                };
                let [liker, author] = self.nicknames([liker.clone(), author.clone()]).await?;
                let others = group.people().saturating_sub(1);
                Some(Wording::Like {
                    liker: liker?,
                    others,
                    author: author?,
                    date: *date,
                })
            }
            PushContent::Handled { .. } => None,
            PushContent::RoomMessage { name, frame } => {
                let sender = self.actor_name(push).await;
                let is_of_room = group.thread == push.thread();
                Some(Wording::RoomMessages {
                    name: is_of_room.then(|| name.clone()),
                    count: group.events.len(),
                    newest: RoomFrame {
                        sender: sender.unwrap_or_else(|| frame.sender.clone()),
                        ..frame.clone()
                    },
                })
            }
            PushContent::Notice {
                notice,
                date,
                title,
                text,
            } => {
                let who = match &push.actor {
                    Some(actor) => {
                        let [name] = self.nicknames([actor.clone()]).await?;
                        // Without a name yet, the push waits for it.
                        Some(name?)
                    }
                    None => None,
                };
                Some(Wording::Notice {
                    kind: *notice,
                    who,
                    others: group.people().saturating_sub(1),
                    date: *date,
                    title: title.clone(),
                    text: text.clone(),
                })
            }
            PushContent::Message { frame } => {
                let message: Message = serde_json::from_str(frame).ok()?;
                let sender = self.actor_name(push).await.unwrap_or(message.sender);
                let frame = frame.clone();
                Some(match group.events.len() {
                    1 => Wording::Message {
                        sender,
                        text: message.text,
                        frame,
                    },
                    count => Wording::Messages {
                        sender: (group.people() <= 1).then_some(sender),
                        count,
                        frame,
                    },
                })
            }
        }
    }

    /// Returns the present nickname of the account that caused a push, if it is known.
    async fn actor_name(&self, push: &WaitingPush) -> Option<String> {
        let [name] = self.nicknames([push.actor.clone()?]).await?;
        name
    }

    async fn nicknames<const N: usize>(&self, accounts: [Account; N]) -> Option<[Option<String>; N]> {
        self.names.nicknames_of(&accounts).await.ok()?.try_into().ok()
    }
}

/// The pause of a push of which several devices have to wait.
fn longer(one: Option<Pause>, other: Pause) -> Pause {
    match (one, other) {
        (None, pause) => pause,
        (Some(Pause::AtLeast(one)), Pause::AtLeast(other)) => Pause::AtLeast(one.max(other)),
        (Some(Pause::AtLeast(asked)), _) | (_, Pause::AtLeast(asked)) => Pause::AtLeast(asked),
        (Some(Pause::Credential), _) | (_, Pause::Credential) => Pause::Credential,
        (Some(Pause::Growing), Pause::Growing) => Pause::Growing,
    }
}

/// The fields of a message's frame that a push shows.
#[derive(serde::Deserialize)]
struct Message {
    sender: String,
    text: String,
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
