//! Sends scheduled messages when their time has come, at whichever replica.
//!
//! A replica takes messages under a short lease, which it renews while it sends them, some at a time, and deletes them. Messages of a replica
//! that crashed are taken by another one when the lease ends. Due times and leases are the database's, whatever the clocks of replicas say. The message has a [`ClientKey`] of its own: one that a replica sent and did
//! not delete is the same message when another one sends it again.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use sosohappy_common::Context;
use sosohappy_common::correlation::Correlation;
use sosohappy_store::StoreError;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use crate::domain::{ClientKey, MessageDate, Scheduled};
use crate::metrics::DmMetrics;
use crate::refusal::{NotTaken, Refusal};
use crate::socket::{Author, DmProtocol, Draft};

/// How often due messages are taken and leases are renewed. With [`LEASE`], well within the two seconds in which a message has to be sent,
/// also by another replica than the one that took it first.
const EVERY: Duration = Duration::from_millis(250);
const LEASE: SignedDuration = SignedDuration::from_millis(1250);
/// Messages that one replica sends at the same time.
const PARALLEL: usize = 16;
/// A send that takes longer is abandoned, and its lease ends.
const LONGEST: Duration = Duration::from_secs(30);
/// The pause before a message is sent again that could not be sent now. Its sender may stop it meanwhile.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

pub fn spawn(context: &Context, protocol: Arc<DmProtocol>, metrics: DmMetrics) {
    let (context, draining) = (context.clone(), context.lifecycle.draining());
    context.lifecycle.clone().spawn("scheduled-messages", async move {
        // Who is suspended is known then.
        draining.run_until_cancelled(context.lifecycle.ready()).await;
        let mut sending = Sending {
            context,
            protocol,
            metrics,
            tasks: JoinSet::new(),
            taken: HashMap::new(),
            may_be_more: false,
        };
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = draining.cancelled() => break,
                Some(ended) = sending.tasks.join_next_with_id() => {
                    sending.ended(ended);
                    if !sending.may_be_more {
                        continue;
                    }
                }
                _ = tick.tick() => {}
            }
            if let Err(error) = sending.round().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "taking scheduled messages failed; retrying"
                );
            }
        }
        // Begun sends end; no lease has to be waited for.
        while let Some(ended) = sending.tasks.join_next_with_id().await {
            sending.ended(ended);
        }
        Ok(())
    });
}

struct Sending {
    context: Context,
    protocol: Arc<DmProtocol>,
    metrics: DmMetrics,
    tasks: JoinSet<()>,
    /// The message of each task.
    taken: HashMap<Id, String>,
    /// The last round took as many as were free.
    may_be_more: bool,
}

impl Sending {
    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "sending scheduled message failed"
                );
                error.id()
            }
        };
        self.taken.remove(&id);
    }

    /// Renews the leases of the messages that are being sent, and begins to send as many more as may be sent at the same time.
    async fn round(&mut self) -> Result<(), StoreError> {
        let store = &self.protocol.store;
        let now = store.server_time().await?;
        let ids: Vec<&str> = self.taken.values().map(String::as_str).collect();
        store.renew(&ids, now + LEASE).await?;
        let free = PARALLEL.saturating_sub(self.taken.len());
        if free == 0 {
            return Ok(());
        }
        let due = store
            .take_due(now, LEASE, u32::try_from(free).unwrap_or_default())
            .await?;
        self.metrics.quarantined.inc_by(due.quarantined);
        self.may_be_more = due.messages.len() >= free;
        for scheduled in due.messages {
            let id = scheduled.id.clone();
            let (context, protocol) = (self.context.clone(), self.protocol.clone());
            let task = self.tasks.spawn(async move {
                let correlation = Correlation::begin(&*context.entropy);
                let sent = correlation.scope(send_and_finish(&context, &protocol, scheduled, now));
                match tokio::time::timeout(LONGEST, sent).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "finishing scheduled message failed; retrying"
                    ),
                    Err(_) => tracing::warn!("sending scheduled message took too long; retrying"),
                }
            });
            self.taken.insert(task.id(), id);
        }
        Ok(())
    }
}

/// `taken`: when this replica took the message.
async fn send_and_finish(
    context: &Context,
    protocol: &DmProtocol,
    scheduled: Scheduled,
    taken: Timestamp,
) -> Result<(), StoreError> {
    let (store, id) = (&protocol.store, scheduled.id.clone());
    let key = ClientKey::of_scheduled(&scheduled.sender, &id);
    match caught(send(context, protocol, scheduled)).await {
        // Sent, or the sender has resigned since.
        Ok(()) | Err(NotTaken::Closed(_)) => store.finish(&id).await,
        Err(NotTaken::Refused(refusal)) => {
            // A replica that crashed, or a write that failed, may have stored the message all the same: its sender cannot stop it any more.
            let is_stored = store.with_client_key(&key, context.clock.now()).await?.is_some();
            if is_stored {
                store.finish(&id).await
            } else if refusal.is_final() {
                store.fail(&id, taken, refusal.typed_code()).await
            } else {
                tracing::warn!(code = refusal.code(), "scheduled message not sent; retrying");
                store.postpone(&id, taken, store.server_time().await? + RETRY).await
            }
        }
    }
}

/// A panic is a failed send, which is tried again after [`RETRY`], not as soon as its lease ends.
async fn caught(sent: impl Future<Output = Result<(), NotTaken>>) -> Result<(), NotTaken> {
    let sent = AssertUnwindSafe(sent).catch_unwind().await;
    sent.unwrap_or(Err(NotTaken::Refused(Refusal::Unavailable)))
}

async fn send(context: &Context, protocol: &DmProtocol, scheduled: Scheduled) -> Result<(), NotTaken> {
    let author = Author {
        nickname: protocol.nickname(&scheduled.sender).await?,
        authorized_at: scheduled.authorized_at,
        socket: None,
        account: scheduled.sender,
    };
    let draft = Draft {
        client_key: Some(ClientKey::of_scheduled(&author.account, &scheduled.id)),
        receiver: protocol
            .nickname(&scheduled.receiver)
            .await
            .unwrap_or(scheduled.receiver_nickname),
        // The nickname of then may be another person's by now.
        receiver_account: Some(scheduled.receiver),
        date: MessageDate::at(context.clock.now()),
        text: scheduled.text.into_string(),
        reply_to: None,
    };
    protocol.send(author, draft).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_send_that_panics_has_failed_and_is_tried_again() {
        let panicked = caught(async { panic!("index 3 out of range") }).await;
        assert_eq!(panicked, Err(NotTaken::Refused(Refusal::Unavailable)));
        assert!(!Refusal::Unavailable.is_final());
        let refused = Err(NotTaken::Refused(Refusal::Blocked));
        assert_eq!(caught(async { refused }).await, refused);
        assert_eq!(caught(async { Ok(()) }).await, Ok(()));
    }
}
