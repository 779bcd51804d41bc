//! Frames that are written to the version 2 sockets of an account, at whichever replica, and kept nowhere: receipts, typing, changes of
//! rooms, and messages that moderators hide.

use std::sync::Arc;

use serde_json::json;
use sosohappy_access::Names;
use sosohappy_bus::Bus;
use sosohappy_common::{Account, Context};
use sosohappy_events::Envelope;
use sosohappy_events::types::SocketFrameSent;
use sosohappy_realtime::stream;
use sosohappy_store::Directory;

use crate::domain::{MessageId, Progress, Receipt};

/// Publishes such frames. Nothing waits for them: a client that misses one reads the watermarks in `catchUp`, or
/// the history.
#[derive(Debug, Clone)]
pub struct Unnumbered {
    pub bus: Arc<dyn Bus>,
    pub names: Arc<dyn Names>,
    pub directory: Arc<dyn Directory>,
    pub context: Context,
}

impl Unnumbered {
    pub fn new(context: &Context, bus: &Arc<dyn Bus>, names: &Arc<dyn Names>, directory: &Arc<dyn Directory>) -> Self {
        Self {
            bus: bus.clone(),
            names: names.clone(),
            directory: directory.clone(),
            context: context.clone(),
        }
    }

    /// Tells the sender of messages how far they came, and of what was read also the reader's own devices.
    pub async fn tell(&self, receipts: &[Receipt]) {
        let mut frames = Vec::new();
        for receipt in receipts {
            match self.frame_of(receipt).await {
                Ok(Some(frame)) => {
                    if receipt.progress == Progress::Read {
                        frames.push((receipt.reader.clone(), frame.clone()));
                    }
                    frames.push((receipt.sender.clone(), frame));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(error = format!("{error:#}"), "receipt not sent"),
            }
        }
        self.publish(frames).await;
    }

    /// Returns `None` for people of whom one has blocked the other.
    async fn frame_of(&self, receipt: &Receipt) -> anyhow::Result<Option<String>> {
        let people = [receipt.reader.clone(), receipt.sender.clone()];
        if self.directory.blocked(&receipt.reader, &receipt.sender).await? {
            return Ok(None);
        }
        let names = self.names.nicknames_of(&people).await?;
        let data = json!({
            "reader": names.first(),
            "sender": names.get(1),
            "state": receipt.progress,
            "messageId": receipt.message.as_str(),
            "number": receipt.number,
            "at": receipt.at,
        });
        Ok(Some(stream::frame("receipt", None, None, &data)))
    }

    /// Tells an account that another one is writing to it.
    pub async fn typing(&self, sender: &str, receiver: Account) {
        let frame = stream::frame("typing", None, None, &json!({ "sender": sender }));
        self.publish(vec![(receiver, frame)]).await;
    }

    /// Tells members of a room that another one is writing to it.
    pub async fn typing_in_room(&self, sender: &str, room: &str, receivers: impl Iterator<Item = Account>) {
        let frame = stream::frame("typing", None, None, &json!({ "sender": sender, "roomId": room }));
        self.publish(receivers.map(|receiver| (receiver, frame.clone())).collect())
            .await;
    }

    /// Tells people that a room was created, or that a member joined or left it.
    pub async fn room(
        &self,
        room: &str,
        change: &str,
        by: Option<String>,
        member: Option<String>,
        receivers: Vec<Account>,
    ) {
        let data = json!({ "roomId": room, "change": change, "by": by, "member": member });
        let frame = stream::frame("room", None, None, &data);
        let frames = receivers.into_iter().map(|receiver| (receiver, frame.clone()));
        self.publish(frames.collect()).await;
    }

    /// Publishes a `hide` or `restore` frame: moderators have hidden a message, or show it again.
    pub async fn moderated(&self, message: &MessageId, hidden: bool, receivers: Vec<Account>) {
        let topic = if hidden { "hide" } else { "restore" };
        let frame = stream::frame(topic, None, None, &json!({ "messageId": message.as_str() }));
        let frames = receivers.into_iter().map(|receiver| (receiver, frame.clone()));
        self.publish(frames.collect()).await;
    }

    async fn publish(&self, frames: Vec<(Account, String)>) {
        if frames.is_empty() {
            return;
        }
        let records: Vec<_> = frames
            .into_iter()
            .map(|(account, frame)| Envelope::new(SocketFrameSent { account, frame }, &self.context).to_outgoing())
            .collect();
        if let Err(error) = self.bus.publish_reports(&records).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "frames without a number not sent"
            );
        }
    }
}
