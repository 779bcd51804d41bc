//! The documents of messages in rooms: how they are read.

use std::collections::HashMap;

use anyhow::Context as _;
use mongodb::bson::{Bson, Document};
use sosohappy_store::StoreError;

use super::documents::{hidden_at, id_of, state_of, timestamp};
use super::fields::NUMBER;
use crate::domain::{MessageDate, MessageId, MessageText, Party, RoomMessage};
use crate::store::decoded;

/// Decodes messages of rooms; `None` for one that cannot be decoded, which is logged.
pub(super) fn room_messages_of(documents: &[Document]) -> Result<HashMap<MessageId, Option<RoomMessage>>, StoreError> {
    let read = |document: &Document| {
        let id = id_of(document).map_err(StoreError::Corrupt)?;
        let message = decoded(&id, message_of(document));
        Ok((id, message))
    };
    documents.iter().map(read).collect()
}

/// A server may store the greater of two numbers in the width of either.
pub(super) fn number(document: &Document, field: &str) -> anyhow::Result<i64> {
    match document.get(field) {
        Some(Bson::Int64(number)) => Ok(*number),
        Some(Bson::Int32(number)) => Ok((*number).into()),
        _ => anyhow::bail!("{field} is no number"),
    }
}

pub(super) fn message_of(document: &Document) -> Result<RoomMessage, StoreError> {
    let read = || -> anyhow::Result<RoomMessage> {
        let text = |field: &str| -> anyhow::Result<String> { Ok(document.get_str(field)?.to_owned()) };
        Ok(RoomMessage {
            id: MessageId::stored(text("_id")?),
            room: text("room")?,
            sender: Party {
                account: text("senderAccount")?.parse()?,
                nickname: text("sender")?,
            },
            date: MessageDate::try_from(document.get_i64("date")?)?,
            text: MessageText::stored(text("text")?),
            number: number(document, NUMBER)?,
            stored_at: timestamp(document, "storedAt")?,
            reply_to: document
                .get_str("replyTo")
                .ok()
                .map(|id| MessageId::stored(id.to_owned())),
            state: state_of(document)?,
        }
        .hidden_since(hidden_at(document)?))
    };
    read()
        .context("a message of a room in the database is not one")
        .map_err(StoreError::Corrupt)
}
