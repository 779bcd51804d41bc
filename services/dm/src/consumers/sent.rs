//! `directMessage`: every replica shows the message on the sockets it holds of the receiver, and on those of the sender but the one that
//! sent it.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use sosohappy_access::Names;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_common::clock::Clock;
use sosohappy_common::{Account, Context};
use sosohappy_events::Envelope;
use sosohappy_events::types::{DirectMessageSent, Recipient, SocketMessageSent};
use sosohappy_realtime::dedupe::{Dedupe, Verdict};
use sosohappy_realtime::{Hub, Marks, OnShown, SocketId};

use crate::domain::{MessageId, MessageIds, ShownMessage};
use crate::metrics::DmMetrics;
use crate::socket::Frame;
use crate::store::Store;

/// A record that is read again is not shown again:
///
/// * this replica remembers the records that it has read, and asks the store about records older than its memory;
/// * messages that another replica showed, or this one before it was restarted, are older than the sockets here: a client reads messages
///   older than its socket from the history.
#[derive(Debug, Clone)]
pub struct Sent {
    pub(super) hub: Hub,
    ids: MessageIds,
    pub(super) store: Arc<dyn Store>,
    pub(super) names: Arc<dyn Names>,
    delivered: Marks<ShownMessage>,
    pub(super) clock: Arc<dyn Clock>,
    metrics: DmMetrics,
    dedupe: Arc<Mutex<Dedupe>>,
}

impl Sent {
    pub fn new(
        hub: Hub,
        ids: MessageIds,
        store: Arc<dyn Store>,
        names: Arc<dyn Names>,
        delivered: Marks<ShownMessage>,
        context: &Context,
        metrics: DmMetrics,
    ) -> Self {
        Self {
            hub,
            ids,
            store,
            names,
            delivered,
            clock: context.clock.clone(),
            metrics,
            dedupe: Arc::default(),
        }
    }

    async fn receiver(&self, event: &DirectMessageSent) -> Option<Account> {
        match &event.recipient {
            Recipient::Account(account) => Some(account.clone()),
            // One of ours for a Spring notice; this replica reads it on `socketMessage`.
            Recipient::PushToken(_) if event.message_id.is_some() => None,
            // A Spring replica beside ours stored it and found no socket of the receiver; the key is a push token.
            Recipient::PushToken(_) => {
                let frame = Frame::parse(&event.frame)?;
                match self.names.account_of_patiently(&frame.receiver).await {
                    Ok(account) => account,
                    Err(denied) => {
                        tracing::warn!(%denied, "message from Spring replica not delivered: receiver unknown");
                        None
                    }
                }
            }
        }
    }

    /// Makes the version 2 sockets of both people read their streams. A replica of a release without numbers stores a message without its
    /// frames; every replica that reads its record gives it some, whether one of the people has a socket here or not.
    async fn signal(&self, event: &DirectMessageSent, message: Option<&MessageId>) -> Result<(), HandleError> {
        let Some(message) = message else { return Ok(()) };
        if !event.numbered {
            self.store.enlist(message).await?;
        }
        if let Recipient::Account(receiver) = &event.recipient {
            self.hub.signal(receiver);
        }
        if let Some(sender) = &event.sender_account {
            self.hub.signal(sender);
        }
        Ok(())
    }

    /// Whether a message from before this replica's memory was never shown.
    async fn waits(&self, message: Option<&MessageId>) -> Result<bool, HandleError> {
        match message {
            Some(message) => Ok(self.store.waits(message).await?),
            None => Ok(false),
        }
    }
}

#[async_trait]
impl Consumer<DirectMessageSent> for Sent {
    async fn handle(&self, Envelope { event, meta }: Envelope<DirectMessageSent>) -> Result<(), HandleError> {
        let message = event.message_id.clone().map(MessageId::stored);
        if let Some(message) = &message {
            // Before it is shown: the receiver's answer comes after it.
            self.ids.observe(message);
        }
        self.signal(&event, message.as_ref()).await?;
        let verdict = self.dedupe.lock().verdict(meta.id, meta.occurred_at);
        if verdict == Verdict::Duplicate {
            self.metrics.repeated.inc();
            return Ok(());
        }
        let Some(receiver) = self.receiver(&event).await else {
            return Ok(());
        };
        // A message to oneself is shown on every socket, the sending one included: they are the receiver's.
        let sender = event.sender_account.as_ref().filter(|sender| **sender != receiver);
        // The sender's sockets have shown it when it was stored.
        let sender = sender.filter(|_| !event.released);
        let sender = sender.filter(|sender| self.hub.online(sender));
        if !self.hub.online(&receiver) && sender.is_none() {
            return Ok(());
        }
        if verdict == Verdict::Forgotten && !self.waits(message.as_ref()).await? {
            self.metrics.repeated.inc();
        } else {
            if let Some(sender) = sender {
                // Without a report: only the receiver's sockets decide about a push.
                let origin = event.sender_socket.map(SocketId);
                self.hub.send_to_others(sender, &event.frame, meta.occurred_at, origin);
            }
            let shown = self.metrics.shown.clone();
            let on_shown = match message {
                Some(message) => {
                    let mark = ShownMessage {
                        reader: receiver.clone(),
                        message,
                        is_in_room: false,
                    };
                    self.delivered.on_shown(mark, move || shown.inc())
                }
                None => OnShown::new(move || shown.inc()),
            };
            let queued = self
                .hub
                .send_as_of(&receiver, &event.frame, meta.occurred_at, Some(&on_shown));
            if queued > 0 {
                let age = self.clock.now().duration_since(meta.occurred_at);
                self.metrics.delivery.observe(age.as_secs_f64().max(0.0));
            }
        }
        self.dedupe.lock().remember(meta.id, meta.occurred_at, self.clock.now());
        Ok(())
    }
}

#[async_trait]
impl Consumer<SocketMessageSent> for Sent {
    async fn handle(&self, Envelope { event, meta }: Envelope<SocketMessageSent>) -> Result<(), HandleError> {
        let event = event.0;
        Consumer::<DirectMessageSent>::handle(self, Envelope { event, meta }).await
    }
}
