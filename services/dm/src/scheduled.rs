//! Sends scheduled messages when their time has come, at whichever replica.
//!
//! A replica takes a message for a while, sends it, and deletes it. The message has a [`ClientKey`] of its own: one that a replica sent
//! and did not delete before it ended is the same message when another one sends it again.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use sosohappy_common::Context;
use sosohappy_common::correlation::Correlation;
use sosohappy_store::StoreError;
use tokio::time::MissedTickBehavior;

use crate::domain::{ClientKey, MessageDate, Scheduled};
use crate::socket::{Author, DmProtocol, Draft, NotTaken};

/// Well within the two seconds in which a message has to be sent.
const EVERY: Duration = Duration::from_millis(500);
const LEASE: SignedDuration = SignedDuration::from_secs(30);
const AT_ONCE: u32 = 50;

pub fn spawn(context: &Context, protocol: Arc<DmProtocol>) {
    let (context, draining) = (context.clone(), context.lifecycle.draining());
    context.lifecycle.clone().spawn("scheduled-messages", async move {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while draining.run_until_cancelled(tick.tick()).await.is_some() {
            let correlation = Correlation::begin(&*context.entropy);
            if let Err(error) = correlation.scope(send_due(&context, &protocol)).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "sending scheduled messages failed; retrying"
                );
            }
        }
        Ok(())
    });
}

async fn send_due(context: &Context, protocol: &DmProtocol) -> Result<(), StoreError> {
    let due = protocol.store.take_due(context.clock.now(), LEASE, AT_ONCE).await?;
    for scheduled in due {
        let id = scheduled.id.clone();
        match send(context, protocol, scheduled).await {
            // Sent, or the sender has resigned since.
            Ok(()) | Err(NotTaken::Closed(_)) => protocol.store.finish(&id, None).await?,
            Err(NotTaken::Refused(refusal)) if refusal.is_final() => {
                protocol.store.finish(&id, Some(refusal.typed_code())).await?;
            }
            // Sent again when the lease ends.
            Err(NotTaken::Refused(refusal)) => {
                tracing::warn!(code = refusal.code(), "scheduled message not sent; retrying");
            }
        }
    }
    Ok(())
}

async fn send(context: &Context, protocol: &DmProtocol, scheduled: Scheduled) -> Result<(), NotTaken> {
    let author = Author {
        nickname: protocol.nickname(&scheduled.sender).await?,
        authorized_at: scheduled.authorized_at,
        socket: None,
        account: scheduled.sender,
    };
    let draft = Draft {
        client_key: Some(ClientKey::of(&author.account, &format!("scheduled:{}", scheduled.id))),
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
