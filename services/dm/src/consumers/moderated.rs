//! `moderation`: a reported message is copied for the decision, and the copy deleted after it; messages are hidden and restored, on open
//! sockets and in pushes too.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_access::acknowledge_order;
use sosohappy_bus::BusError;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_events::types::{
    ContentModerated, MessageChange, MessageChanged, ModeratedContent, ModerationAction, ModerationOutcome,
    RoomMessageSent,
};
use sosohappy_events::{Envelope, Event};

use crate::domain::MessageId;
use crate::store::Store;
use crate::store::reports::{Moderation, NewReport, Reportable};
use crate::unnumbered::Unnumbered;

#[derive(Debug)]
pub struct Moderated {
    pub store: Arc<dyn Store>,
    pub unnumbered: Unnumbered,
}

impl Moderated {
    async fn publish<E: Event>(&self, event: &Envelope<E>) -> Result<(), BusError> {
        self.unnumbered.bus.publish(&[event.to_outgoing()]).await
    }

    /// Publishes a `hide` or `restore` frame for the open sockets of those who see the message, and withdraws the pushes of a hidden one. A client
    /// that connects later reads the present state of the message. A decision that is redelivered is published again, which changes nothing for
    /// clients.
    async fn tell(&self, moderation: &Moderation) -> Result<(), HandleError> {
        let Some(message) = self.store.reportable(&moderation.message).await? else {
            return Ok(());
        };
        if moderation.hidden {
            self.withdraw_pushes(moderation, &message).await?;
        }
        let viewers = match message {
            Reportable::Direct(stored) => stored.message.viewers(stored.is_held).cloned().collect(),
            Reportable::InRoom {
                message, mut members, ..
            } => {
                // Members in a block with the sender do not see it.
                let directory = &self.unnumbered.directory;
                let blocked = directory.blocked_with(&message.sender.account).await?;
                members.retain(|member| !blocked.contains(member));
                members
            }
        };
        self.unnumbered
            .moderated(&moderation.message, moderation.hidden, viewers)
            .await;
        Ok(())
    }

    /// Publishes for notice what a retraction publishes: pushes and banners of the message are withdrawn, and it does not count as unread. A restored
    /// message gets no push.
    async fn withdraw_pushes(&self, moderation: &Moderation, message: &Reportable) -> Result<(), HandleError> {
        let context = &self.unnumbered.context;
        // Not before the message, whatever the clocks of two services say: the withdrawal of a push is compared with it.
        let published = match message {
            Reportable::Direct(stored) => {
                let event = MessageChanged {
                    message: moderation.message.to_string(),
                    sender: stored.message.sender.account.clone(),
                    receiver: stored.message.receiver.account.clone(),
                    change: MessageChange::Retracted,
                };
                let mut event = Envelope::new(event, context);
                event.meta.occurred_at = moderation.at.max(stored.stored_at);
                self.publish(&event).await
            }
            Reportable::InRoom { message, members, .. } => {
                // Also members in a block with the sender: they may have had a push before it.
                let event = RoomMessageSent {
                    room: message.room.clone(),
                    message: moderation.message.to_string(),
                    members: members.clone(),
                    change: Some(MessageChange::Retracted),
                    push: None,
                };
                let mut event = Envelope::new(event, context);
                event.meta.occurred_at = moderation.at.max(message.stored_at);
                self.publish(&event).await
            }
        };
        published.map_err(|error| HandleError::Unavailable(error.into()))
    }
}

#[async_trait]
impl Consumer<ContentModerated> for Moderated {
    async fn handle(&self, Envelope { event, meta }: Envelope<ContentModerated>) -> Result<(), HandleError> {
        let ModeratedContent::Message { message } = event.content else {
            // feed holds posts and comments.
            return Ok(());
        };
        let number = || {
            event
                .report
                .ok_or_else(|| HandleError::Rejected("the number of the report is missing".into()))
        };
        match (event.action, event.reporter) {
            (ModerationAction::Reported, Some(reporter)) => {
                let report = NewReport {
                    report: number()?,
                    message: MessageId::stored(message),
                    author: event.author,
                    reporter,
                    at: meta.occurred_at,
                };
                if !self.store.keep_reported(&report).await? {
                    tracing::info!(
                        report = report.report,
                        "no copy of reported message: not the reporter's or deleted"
                    );
                }
            }
            (ModerationAction::Reported, None) => {
                // An auth of an older release: whether the reporter took part is not known.
                tracing::warn!(
                    report = event.report,
                    "no copy of reported message: the event names no reporter"
                );
            }
            (ModerationAction::Closed, _) => self.store.close_reported(number()?, meta.occurred_at).await?,
            (action @ (ModerationAction::Hidden | ModerationAction::Restored), reporter) => {
                let moderation = Moderation {
                    message: MessageId::stored(message),
                    author: event.author,
                    reporter,
                    hidden: action == ModerationAction::Hidden,
                    at: meta.occurred_at,
                };
                let outcome = self.store.moderate(&moderation).await?;
                if outcome == ModerationOutcome::Applied {
                    self.tell(&moderation).await?;
                } else {
                    tracing::info!(outcome = outcome.as_str(), "moderation order not applied");
                }
                let Unnumbered { bus, context, .. } = &self.unnumbered;
                acknowledge_order(&**bus, context, &moderation.author, meta.id, outcome).await?;
            }
        }
        Ok(())
    }
}
