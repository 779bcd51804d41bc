//! `messageRequest`: every replica tells the sockets that it holds of both people.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use sosohappy_access::Names;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_common::clock::Clock;
use sosohappy_events::types::{MessageRequestChanged, RequestChange};
use sosohappy_events::{Envelope, Meta};
use sosohappy_realtime::dedupe::{Dedupe, Verdict};
use sosohappy_realtime::{Hub, SocketId, stream};

use super::sent::Sent;
use crate::domain::MessageId;
use crate::store::Store;

#[derive(Debug)]
pub struct MessageRequests {
    hub: Hub,
    store: Arc<dyn Store>,
    names: Arc<dyn Names>,
    clock: Arc<dyn Clock>,
    dedupe: Mutex<Dedupe>,
}

impl MessageRequests {
    /// On the hub and store of another reader.
    pub fn new(sent: &Sent) -> Self {
        Self {
            hub: sent.hub.clone(),
            store: sent.store.clone(),
            names: sent.names.clone(),
            clock: sent.clock.clone(),
            dedupe: Mutex::default(),
        }
    }
}

#[async_trait]
impl Consumer<MessageRequestChanged> for MessageRequests {
    async fn handle(&self, Envelope { event, meta }: Envelope<MessageRequestChanged>) -> Result<(), HandleError> {
        let verdict = self.dedupe.lock().verdict(meta.id, meta.occurred_at);
        if verdict == Verdict::Duplicate {
            return Ok(());
        }
        if event.change == RequestChange::Asked && verdict != Verdict::Forgotten {
            self.hub.signal(&event.asker);
            self.show_to_asker(&event, &meta).await?;
        }
        self.tell(&event).await;
        let now = self.clock.now();
        self.dedupe.lock().remember(meta.id, meta.occurred_at, now);
        Ok(())
    }
}

impl MessageRequests {
    /// Shows a message that waits on the asker's version 1 sockets, but the one that sent it.
    async fn show_to_asker(&self, event: &MessageRequestChanged, meta: &Meta) -> Result<(), HandleError> {
        let Some(message) = event.message.clone().filter(|_| self.hub.online(&event.asker)) else {
            return Ok(());
        };
        if let Some(stored) = self.store.message(&MessageId::stored(message)).await? {
            let frame = stored.message.shown(None, None).frame();
            let origin = event.socket.map(SocketId);
            self.hub.send_to_others(&event.asker, &frame, meta.occurred_at, origin);
        }
        Ok(())
    }

    /// Writes a `request` frame to the version 2 sockets of the receiver, and of a decision also to those of the asker.
    async fn tell(&self, event: &MessageRequestChanged) {
        let people = match event.change {
            RequestChange::Asked => [Some(&event.receiver), None],
            RequestChange::Accepted | RequestChange::Refused => [Some(&event.receiver), Some(&event.asker)],
        };
        if people.iter().flatten().all(|account| !self.hub.online(account)) {
            return;
        }
        let both = [event.asker.clone(), event.receiver.clone()];
        let names = match self.names.nicknames_of(&both).await {
            Ok(names) => names,
            Err(denied) => {
                // A client reads `findRequest`.
                tracing::warn!(%denied, "request frame not sent");
                return;
            }
        };
        let data = json!({
            "requestId": event.request,
            "state": event.change,
            "sender": names.first(),
            "receiver": names.get(1),
        });
        let frame = stream::frame("request", None, None, &data);
        for account in people.into_iter().flatten() {
            self.hub.send_unnumbered(account, &frame);
        }
    }
}
