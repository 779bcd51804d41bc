//! `directMessage`: the receiver gets a push when no socket of dm has shown the message in time, which `messageReceipt` says, unless the
//! message has a word that the receiver has muted.
//!
//! | record | push |
//! | --- | --- |
//! | of our dm | due after `push.delivery-timeout`, unless a receipt settles it before |
//! | of our dm, with `receiver-online: true` | none: dm publishes the record again, without it, if a push is due (earlier releases; `fleet.spring` had notice) |
//! | of a Spring dm, keyed by a push token | due at once: it is published to be pushed only |
//! | of either, while `fleet.spring` has had notice since this replica's start | none: the Spring notice pushes it |

use std::time::Duration;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_common::correlation::correlation;
use sosohappy_events::Envelope;
use sosohappy_events::types::{DirectMessageSent, Recipient};

use crate::delivery::Delivery;
use crate::domain::{PushContent, Target, WaitingPush};
use crate::store::{Conversation, ReceivedMessage};

pub struct Push(pub Delivery);

#[async_trait]
impl Consumer<DirectMessageSent> for Push {
    async fn handle(&self, Envelope { event, meta }: Envelope<DirectMessageSent>) -> Result<(), HandleError> {
        let target = match event.recipient {
            Recipient::Account(account) => Target::Account(account),
            Recipient::PushToken(token) => Target::Token(token),
        };
        if let (Target::Account(receiver), Some(sender)) = (&target, &event.sender_account) {
            if receiver == sender {
                return Ok(());
            }
            let received = ReceivedMessage {
                id: meta.id,
                conversation: Conversation {
                    account: receiver.clone(),
                    sender: sender.clone(),
                },
                occurred_at: meta.occurred_at,
                authorized_at: meta.authorized_at,
            };
            let is_unread = self.0.store.add_message(&received).await?;
            if !is_unread || self.0.blocked(sender, receiver).await? {
                return Ok(());
            }
        }
        if matches!(target, Target::Account(_)) && event.receiver_online {
            return Ok(());
        }
        let content = PushContent::Message { frame: event.frame };
        if let (Target::Account(receiver), Some(text)) = (&target, content.message_text())
            && self.0.muted_words.of(receiver).await.is_in(&text, self.0.now())
        {
            return Ok(());
        }
        let push = WaitingPush {
            event: meta.id,
            target,
            actor: event.sender_account,
            content,
            occurred_at: meta.occurred_at,
            authorized_at: meta.authorized_at,
            queued_at: self.0.now(),
            attempts: 0,
            sent: Vec::new(),
            cause: correlation(),
        };
        let wait = match &push.target {
            Target::Account(_) => self.0.settings.get().push.delivery_timeout,
            Target::Token(_) => Duration::ZERO,
        };
        self.0.queue(&push, wait).await
    }
}
