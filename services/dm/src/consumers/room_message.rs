//! `roomMessage`: every replica completes a message or a change, and makes the version 2 sockets that it holds of the members read their
//! streams. The frame of a message comes with the signal where several members have sockets: it is read once for all of them.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_bus::consume::{Consumer, HandleError};
use sosohappy_common::Account;
use sosohappy_events::Envelope;
use sosohappy_events::types::RoomMessageSent;
use sosohappy_realtime::{Hub, Numbered, Version};

use crate::domain::MessageId;
use crate::socket::DmProtocol;

#[derive(Debug)]
pub struct RoomMessages {
    pub hub: Hub,
    pub protocol: Arc<DmProtocol>,
}

#[async_trait]
impl Consumer<RoomMessageSent> for RoomMessages {
    async fn handle(&self, Envelope { event, .. }: Envelope<RoomMessageSent>) -> Result<(), HandleError> {
        let message = MessageId::stored(event.message);
        let store = &self.protocol.store;
        if event.change.is_some() {
            store.complete(&message).await?;
            for member in &event.members {
                self.hub.signal(member);
            }
            return Ok(());
        }
        let late = store.enlist_late(&event.room, &message, &event.members).await?;
        let members: Vec<&Account> = event.members.iter().chain(&late).collect();
        let mut frames = self.frames(&message, &members).await;
        for member in members {
            match frames.remove(member) {
                Some(frame) => self.hub.signal_with(member, frame),
                None => self.hub.signal(member),
            }
        }
        Ok(())
    }
}

impl RoomMessages {
    /// Returns the frames of a message for the members with sockets here, if there are several. Without them each reads its stream.
    async fn frames(&self, message: &MessageId, members: &[&Account]) -> HashMap<Account, Numbered> {
        let here = members.iter().copied();
        let here: Vec<&Account> = here.filter(|member| self.hub.has(member, Version::Two)).collect();
        if here.len() < 2 {
            return HashMap::new();
        }
        let frames = self.protocol.room_frames(message, &here).await;
        frames.unwrap_or_else(|error| {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "reading frames of a room failed"
            );
            HashMap::new()
        })
    }
}
