//! The protocol of the socket: frames of messages in, the same frames and errors out.

mod frame;
mod refusal;

use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use sosohappy_access::{Acting, Caller, Denied, Names, act};
use sosohappy_bus::relay::RelayHandle;
use sosohappy_common::Context;
use sosohappy_common::correlation::Correlation;
use sosohappy_common::settings::Live;
use sosohappy_events::Envelope;
use sosohappy_events::types::{DirectMessageSent, Recipient};
use sosohappy_realtime::{Close, Origin, Present, Protocol, SocketId};
use sosohappy_store::{Directory, StoreError};

use crate::domain::{InvalidText, Message, MessageDate, MessageIds, MessageText, NewMessage, Party, RepeatKey};
use crate::metrics::DmMetrics;
use crate::settings::Settings;
use crate::settling::Settling;
use crate::store::{Outcome, Store, WriteError};
pub use frame::Frame;
pub use refusal::Refusal;

#[derive(Debug)]
pub struct DmProtocol {
    pub settings: Live<Settings>,
    pub context: Context,
    pub ids: MessageIds,
    pub store: Arc<dyn Store>,
    pub directory: Arc<dyn Directory>,
    pub names: Arc<dyn Names>,
    pub present: Present,
    pub relay: RelayHandle,
    pub settling: Settling,
    pub metrics: DmMetrics,
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotTaken {
    /// The sender is told, the socket stays.
    Refused(Refusal),
    Closed(Close),
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Denied> for NotTaken {
    fn from(_denied: Denied) -> Self {
        Self::Refused(Refusal::Unavailable)
    }
}

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "storing message failed");
        Self::Refused(Refusal::Unavailable)
    }
}

impl From<WriteError> for NotTaken {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Resigned => Self::Closed(Close::Policy),
            WriteError::ReceiverResigned => Self::Refused(Refusal::ReceiverUnknown),
            WriteError::Store(error) => error.into(),
        }
    }
}

impl Protocol for DmProtocol {
    /// Before the client has its connection: who writes to it from then on knows that a socket is there.
    async fn opened(&self, caller: &Caller) {
        self.present.opened(&caller.account).await;
    }

    async fn frame(&self, caller: &Caller, origin: Origin<'_>, text: &str) -> Result<Option<String>, Close> {
        // Each frame is a request of its own.
        let correlation = Correlation::begin(&*self.context.entropy);
        match correlation.scope(self.take(caller, origin, text)).await {
            Ok(()) => Ok(None),
            Err(NotTaken::Refused(refusal)) => {
                self.metrics.refused(refusal);
                Ok(Some(refusal.frame()))
            }
            Err(NotTaken::Closed(reason)) => Err(reason),
        }
    }

    fn overdue(&self) -> Option<String> {
        self.metrics.refused(Refusal::Overdue);
        Some(Refusal::Overdue.frame())
    }

    fn over_limit(&self) -> Option<String> {
        self.metrics.refused(Refusal::RateLimited);
        Some(Refusal::RateLimited.frame())
    }

    async fn closed(&self, caller: &Caller) {
        self.present.closed(&caller.account).await;
    }
}

impl DmProtocol {
    /// Nothing is answered to a message that was taken: the published app expects nothing.
    async fn take(&self, caller: &Caller, origin: Origin<'_>, text: &str) -> Result<(), NotTaken> {
        let frame = Frame::parse(text).ok_or(NotTaken::Closed(Close::BadFrame))?;
        let sender = self.own(caller, origin, frame.sender).await?;
        let date = MessageDate::try_from(frame.date).ok().filter(|date| date.exists());
        let date = date.ok_or(Refusal::InvalidDate)?;
        let text =
            MessageText::new(frame.text, self.settings.get().messages.max_characters).map_err(|error| match error {
                InvalidText::Empty => Refusal::EmptyText,
                InvalidText::TooLong(_) => Refusal::TextTooLong,
            })?;
        let receiver = self
            .names
            .account_of(&frame.receiver)
            .await?
            .ok_or(Refusal::ReceiverUnknown)?;
        let (blocked, online) = futures::try_join!(
            self.directory.blocked(&caller.account, &receiver),
            self.present.anywhere(&receiver)
        )?;
        if blocked {
            return Err(Refusal::Blocked.into());
        }
        let message = Message {
            id: self.ids.next(),
            sender: Party {
                account: caller.account.clone(),
                nickname: sender,
            },
            receiver: Party {
                account: receiver,
                nickname: frame.receiver,
            },
            date,
            text,
        };
        self.keep(caller, origin, message, online).await
    }

    /// Returns the caller's nickname as it is now. A client that was renamed has frames on the way with the name it had before: they count,
    /// under the present name, because another account may have taken the former one.
    async fn own(&self, caller: &Caller, origin: Origin<'_>, sender: String) -> Result<String, NotTaken> {
        match act::own(caller, &*self.names, Acting::Nickname(&sender)).await {
            Ok(()) => {
                origin.had_nickname(&sender);
                Ok(sender)
            }
            Err(problem) if problem.status() == StatusCode::FORBIDDEN && origin.has_had_nickname(&sender) => {
                // Of the directory, not of its cache: the name that was just refused must not come back as the present one.
                let present = self
                    .directory
                    .nicknames_of(std::slice::from_ref(&caller.account))
                    .await?;
                let present = present.into_iter().flatten().find(|present| *present != sender);
                Ok(present.ok_or(Refusal::Unavailable)?)
            }
            Err(problem) if problem.status() == StatusCode::FORBIDDEN => Err(NotTaken::Closed(Close::Policy)),
            Err(_) => Err(Refusal::Unavailable.into()),
        }
    }

    async fn keep(
        &self,
        caller: &Caller,
        origin: Origin<'_>,
        message: Message,
        receiver_online: bool,
    ) -> Result<(), NotTaken> {
        let stored_at = self.context.clock.now();
        let event = event(&message, stored_at, receiver_online, Some(origin.id()), &self.context);
        let delivery_timeout = self.settings.get().messages.delivery_timeout;
        let message = NewMessage {
            repeat_key: Some(RepeatKey::of(&message)),
            message,
            authorized_at: caller.issued_at,
            stored_at,
            push_due: receiver_online.then(|| stored_at + delivery_timeout),
        };
        match self.store.keep(&message, &event.to_outgoing()).await? {
            Outcome::Stored => {
                self.relay.wake();
                self.metrics.stored.inc();
                self.settling.settle(message.message.conversation());
            }
            Outcome::Repeated => self.metrics.resent.inc(),
        }
        Ok(())
    }
}

/// Makes the event of a message. Its id is the message's, however often it is published.
pub fn event(
    message: &Message,
    stored_at: Timestamp,
    receiver_online: bool,
    origin: Option<SocketId>,
    context: &Context,
) -> Envelope<DirectMessageSent> {
    let event = DirectMessageSent {
        recipient: Recipient::Account(message.receiver.account.clone()),
        message_id: Some(message.id.to_string()),
        sender_account: Some(message.sender.account.clone()),
        sender_socket: origin.map(|origin| origin.0),
        receiver_online,
        frame: frame::render(&message.clone().shown(None, None)),
    };
    let mut envelope = Envelope::new(event, context);
    envelope.meta.id = message.id.event().unwrap_or(envelope.meta.id);
    envelope.meta.occurred_at = stored_at;
    envelope
}
