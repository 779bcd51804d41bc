//! `roomMessage`: every replica completes a message or a change, and makes the version 2 sockets that it holds of the members read their
//! streams. The frame of a message comes with the signal where several members have sockets: it is read once for all of them, while the records
//! behind it are handled.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_common::Account;
use sosohappy_events::Envelope;
use sosohappy_events::types::RoomMessageSent;
use sosohappy_realtime::{Hub, Lanes, Version};

use crate::domain::MessageId;
use crate::socket::DmProtocol;
use crate::store::Store;

#[derive(Debug)]
pub struct RoomMessages {
    hub: Hub,
    store: Arc<dyn Store>,
    /// By the first member with a socket here: those of a room in order, and those of other rooms at the same time.
    posted: Lanes<Posted>,
}

/// A message, and the members with version 2 sockets here, who are several.
struct Posted {
    message: MessageId,
    here: Vec<Account>,
}

impl RoomMessages {
    pub fn new(hub: &Hub, protocol: &Arc<DmProtocol>) -> Self {
        let (shown_on, read_by) = (hub.clone(), protocol.clone());
        let posted = Lanes::new(&protocol.context, move |posted| {
            let (hub, protocol) = (shown_on.clone(), read_by.clone());
            Box::pin(async move { show(&hub, &protocol, &posted).await })
        });
        Self {
            hub: hub.clone(),
            store: protocol.store.clone(),
            posted,
        }
    }

    fn signal<'a>(&self, members: impl IntoIterator<Item = &'a Account>) {
        for member in members {
            self.hub.signal(member);
        }
    }
}

#[async_trait]
impl Consumer<RoomMessageSent> for RoomMessages {
    async fn handle(&self, Envelope { event, .. }: Envelope<RoomMessageSent>) -> Result<(), HandleError> {
        let message = MessageId::stored(event.message);
        if event.change.is_some() {
            self.store.complete(&message).await?;
            self.signal(&event.members);
            return Ok(());
        }
        let late = self.store.enlist_late(&event.room, &message, &event.members).await?;
        let members = event.members.iter().chain(&late);
        let here = members.filter(|member| self.hub.has(member, Version::Two));
        let here: Vec<Account> = here.cloned().collect();
        // One alone reads its stream.
        let is_taken = here.len() > 1 && {
            let here = here.clone();
            self.posted.push(&here[0].clone(), Posted { message, here })
        };
        if !is_taken {
            self.signal(&here);
        }
        Ok(())
    }
}

/// Signals with the frames of a message. Members without one read their streams.
async fn show(hub: &Hub, protocol: &DmProtocol, Posted { message, here }: &Posted) {
    let members: Vec<&Account> = here.iter().collect();
    let frames = protocol.room_frames(message, &members).await;
    let mut frames = frames.unwrap_or_else(|error| {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "reading frames of a room failed"
        );
        HashMap::new()
    });
    for member in here {
        match frames.remove(member) {
            Some(frame) => hub.signal_with(member, frame),
            None => hub.signal(member),
        }
    }
}
