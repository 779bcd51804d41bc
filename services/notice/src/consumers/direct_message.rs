//! `directMessage`: a receiver without a socket gets a push, unless the message has a word that the receiver has muted.

use std::time::Duration;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::Envelope;
use sosohappy_events::types::{DirectMessageSent, Recipient};

use crate::delivery::Delivery;
use crate::domain::{PushContent, Target, WaitingPush};

pub struct Push(pub Delivery);

#[async_trait]
impl Consumer<DirectMessageSent> for Push {
    async fn handle(&self, Envelope { event, meta }: Envelope<DirectMessageSent>) -> Result<(), HandleError> {
        let target = match event.recipient {
            // dm saw a socket of theirs when it stored the message.
            Recipient::Account(_) if event.receiver_online => return Ok(()),
            Recipient::Account(account) => Target::Account(account),
            // A Spring dm sends the record only to be pushed.
            Recipient::PushToken(token) => Target::Token(token),
        };
        if let (Target::Account(receiver), Some(sender)) = (&target, &event.sender_account)
            && (receiver == sender || self.0.blocked(sender, receiver).await?)
        {
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
            queued_at: self.0.now(),
            attempts: 0,
            sent: Vec::new(),
        };
        self.0.queue(&push, Duration::ZERO).await
    }
}
