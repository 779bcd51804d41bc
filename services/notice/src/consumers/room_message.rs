//! `roomMessage`: the members of a room get a push of a message when no socket of dm has shown it to them in time, unless it has a word that they
//! have muted. A message that its sender retracted, or that moderators hide, gets none any more, its banners are removed, and it does not count as unread.
//!
//! Dm says who gets a push. It does so since it publishes `push`: messages of an earlier release have none.

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_common::Account;
use sosohappy_common::correlation::correlation;
use sosohappy_events::types::{MessageChange, RoomMessageSent, RoomPush};
use sosohappy_events::{Envelope, EventId, Meta};

use crate::delivery::{Delivery, Withdrawal};
use crate::domain::{PushContent, RoomFrame, Target, WaitingPush};
use crate::store::{OwnRoom, Reading, RoomMessage, STORED_AT_ONCE};

pub struct Push(pub Delivery);

#[async_trait]
impl Consumer<RoomMessageSent> for Push {
    async fn handle(&self, Envelope { event, meta }: Envelope<RoomMessageSent>) -> Result<(), HandleError> {
        let message: EventId = event
            .message
            .parse()
            .map_err(|_| HandleError::Rejected("the id of the message is not one".to_owned()))?;
        match (event.change, event.push) {
            (Some(MessageChange::Retracted), _) => self.withdraw(message, event.members, meta.occurred_at).await,
            (Some(MessageChange::Edited | MessageChange::Reacted), _) | (None, None) => Ok(()),
            (None, Some(push)) => self.push(&event.room, message, &push, &meta).await,
        }
    }
}

impl Push {
    /// Withdraws the pushes of members who were in the room when the message was retracted. Those of a member who left before were withdrawn then.
    async fn withdraw(&self, message: EventId, members: Vec<Account>, at: Timestamp) -> Result<(), HandleError> {
        let withdrawals = members.into_iter().map(|receiver| Withdrawal {
            notice: RoomMessageSent::push_id(message, &receiver),
            receiver,
            at,
        });
        let withdrawals: Vec<Withdrawal> = withdrawals.collect();
        for part in withdrawals.chunks(STORED_AT_ONCE) {
            self.0.withdraw_all(part).await?;
        }
        Ok(())
    }

    /// Each step may be done again: a push that was settled is not queued.
    async fn push(&self, room: &str, message: EventId, push: &RoomPush, meta: &Meta) -> Result<(), HandleError> {
        for receivers in push.receivers.chunks(STORED_AT_ONCE) {
            self.push_to(room, message, push, receivers, meta).await?;
        }
        // By sending it the sender has read the room.
        let own = OwnRoom {
            account: push.sender.clone(),
            room: room.to_owned(),
        };
        self.0.read_room(&own, push.number, Reading::of(meta)).await
    }

    async fn push_to(
        &self,
        room: &str,
        message: EventId,
        push: &RoomPush,
        receivers: &[Account],
        meta: &Meta,
    ) -> Result<(), HandleError> {
        let received = RoomMessage {
            room: room.to_owned(),
            number: push.number,
            sender: push.sender.clone(),
            occurred_at: meta.occurred_at,
            authorized_at: meta.authorized_at,
            receivers: receivers
                .iter()
                .map(|account| (RoomMessageSent::push_id(message, account), account.clone()))
                .collect(),
        };
        let unread = self.0.store.add_room_message(&received).await?;
        let unread: Vec<(EventId, Account)> = received
            .receivers
            .into_iter()
            .filter(|(id, _)| unread.contains(id))
            .collect();
        let now = self.0.now();
        let is_muted = unread.iter().map(|(_, account)| async move {
            let words = self.0.muted_words.of(account).await;
            words.is_in(&push.text, now)
        });
        let is_muted = join_all(is_muted).await;
        let frame = RoomFrame::new(room, message, push);
        let pushes: Vec<WaitingPush> = unread
            .into_iter()
            .zip(is_muted)
            .filter(|(_, is_muted)| !is_muted)
            .map(|((event, receiver), _)| WaitingPush {
                event,
                target: Target::Account(receiver),
                actor: Some(push.sender.clone()),
                content: PushContent::RoomMessage {
                    name: push.room_name.clone(),
                    frame: frame.clone(),
                },
                occurred_at: meta.occurred_at,
                authorized_at: meta.authorized_at,
                queued_at: now,
                attempts: 0,
                sent: Vec::new(),
                cause: correlation(),
            })
            .collect();
        let wait = self.0.settings.get().push.delivery_timeout;
        let waits: Vec<_> = pushes.iter().map(|push| (push, wait)).collect();
        self.0.queue_all(&waits).await
    }
}
