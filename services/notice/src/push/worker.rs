//! Brings waiting pushes to the gateway. A push that was taken is due again after a while, so that one whose replica died on the
//! way goes all the same.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use sosohappy_access::Names;
use sosohappy_common::settings::Live;
use sosohappy_common::{Account, Context, WakeHandle};
use sosohappy_store::StoreError;

use super::{Gateway, PushError};
use crate::domain::{PushContent, PushText, Target, WaitingPush};
use crate::metrics::NoticeMetrics;
use crate::settings::Settings;
use crate::store::Store;

/// Without a wake: finds what other replicas queued, and what became due.
const LOOK: Duration = Duration::from_millis(500);

/// One push to all its devices, and a batch, whose pushes are made at once.
const ONE_PUSH: Duration = Duration::from_secs(30);
const BATCH: u32 = 32;

/// Longer than a batch takes.
const TAKEN_FOR: Duration = Duration::from_mins(1);

/// Between tries of one push, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(15);

/// Wakes the worker of this process; called after a push that is due was queued.
pub type PushHandle = WakeHandle;

#[derive(Debug)]
pub struct Worker {
    pub settings: Live<Settings>,
    pub context: Context,
    pub store: Arc<dyn Store>,
    pub names: Arc<dyn Names>,
    pub gateway: Arc<dyn Gateway>,
    pub metrics: NoticeMetrics,
    pub woken: PushHandle,
}

/// How a push ended for now.
enum End {
    /// There is nothing more to do about it.
    Settled(&'static str),
    Later,
}

impl Worker {
    pub fn spawn(self) {
        let lifecycle = self.context.lifecycle.clone();
        lifecycle.spawn("push-worker", self.run());
    }

    async fn run(self) -> anyhow::Result<()> {
        let draining = self.context.lifecycle.draining();
        while !draining.is_cancelled() {
            match self.round().await {
                // There may be more.
                Ok(taken) if taken == BATCH as usize => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "reading push queue failed"),
            }
            tokio::select! {
                () = draining.cancelled() => {}
                () = self.woken.woken() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        Ok(())
    }

    /// Makes the pushes that are due; how many there were.
    pub async fn round(&self) -> Result<usize, StoreError> {
        let now = self.context.clock.now();
        let due = self.store.take_due(now, now + TAKEN_FOR, BATCH).await?;
        let taken = due.len();
        stream::iter(due)
            .for_each_concurrent(None, async |push| {
                if let Err(error) = self.handle(&push).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "push delivery failed; retrying"
                    );
                }
            })
            .await;
        Ok(taken)
    }

    async fn handle(&self, push: &WaitingPush) -> Result<(), StoreError> {
        let now = self.context.clock.now();
        let (kind, max_age) = (push.content.kind(), self.settings.get().push.max_age);
        let end = tokio::time::timeout(ONE_PUSH, self.try_now(push)).await;
        match end.unwrap_or(Ok(End::Later))? {
            End::Settled(outcome) => {
                self.metrics.push(kind, outcome);
                self.store.settle(&[push.event], now).await
            }
            End::Later if now.duration_since(push.queued_at).unsigned_abs() > max_age => {
                tracing::warn!(event = %push.event, attempts = push.attempts, "push expired; giving up");
                self.metrics.push(kind, "given-up");
                self.store.settle(&[push.event], now).await
            }
            End::Later => {
                self.metrics.push(kind, "postponed");
                let pause = FIRST_PAUSE
                    .saturating_mul(1 << push.attempts.saturating_sub(1).min(16))
                    .min(LONGEST_PAUSE);
                self.store.postpone(push.event, now + pause).await
            }
        }
    }

    async fn try_now(&self, push: &WaitingPush) -> Result<End, StoreError> {
        let devices = match &push.target {
            Target::Account(account) => self.store.of(account).await?,
            Target::Token(token) => vec![token.clone()],
        };
        if devices.is_empty() {
            return Ok(End::Settled("no-device"));
        }
        let Some(text) = self.text(push).await else {
            return Ok(End::Later);
        };

        let mut outcome = None;
        let mut later = false;
        for device in devices {
            match self.gateway.push(&device, push.event, &text).await {
                Ok(()) => outcome = Some("sent"),
                Err(PushError::Gone) => self.store.forget(&device).await?,
                Err(PushError::Refused(reason)) => {
                    tracing::warn!(event = %push.event, reason, "push gateway rejected push");
                    outcome = outcome.or(Some("refused"));
                }
                Err(error @ PushError::Unavailable(_)) => {
                    tracing::warn!(event = %push.event, error = &error as &dyn std::error::Error, "push delivery failed");
                    later = true;
                }
            }
        }
        // A device that was reached recognises the repetition by the event.
        Ok(if later {
            End::Later
        } else {
            End::Settled(outcome.unwrap_or("no-device"))
        })
    }

    /// In the names of now; `None` while nobody can tell them.
    async fn text(&self, push: &WaitingPush) -> Option<PushText> {
        match &push.content {
            PushContent::Like { date } => {
                let (Some(liker), Target::Account(author)) = (&push.actor, &push.target) else {
                    return None;
                };
                let [liker, author] = self.nicknames([liker.clone(), author.clone()]).await?;
                Some(PushText::like(&liker?, &author?, *date))
            }
            PushContent::Message { frame } => {
                let message: Message = serde_json::from_str(frame).ok()?;
                let sender = match &push.actor {
                    Some(account) => self.nicknames([account.clone()]).await.and_then(|[name]| name),
                    None => None,
                };
                Some(PushText::message(
                    &sender.unwrap_or(message.sender),
                    &message.text,
                    frame,
                ))
            }
        }
    }

    async fn nicknames<const N: usize>(&self, accounts: [Account; N]) -> Option<[Option<String>; N]> {
        self.names.nicknames_of(&accounts).await.ok()?.try_into().ok()
    }
}

/// What a push needs of a message's frame.
#[derive(serde::Deserialize)]
struct Message {
    sender: String,
    text: String,
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
