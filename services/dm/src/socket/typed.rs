//! Frames of version 2: `{"topic","id","seq","data"}` (docs/sockets.md).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sosohappy_realtime::stream::{self, Incoming};
use utoipa::ToSchema;

use crate::domain::{
    ChangeKind, Changed, MessageDate, MessageId, MessageState, MessageText, Party, RoomMessage, Stored, is_portable,
};
use crate::names::PresentNames;
use crate::refusal::{NotTaken, Refusal};
use crate::store::{FrameContent, Framed};

/// The longest `id` of a client's frame, in bytes.
const LONGEST_ID: usize = 100;

/// The data of a `message` frame from a client.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageData {
    /// Of a message to one person.
    #[serde(default)]
    pub receiver: Option<String>,
    /// Of a message to a room.
    #[serde(default)]
    pub room_id: Option<String>,
    pub text: String,
    /// Of the client's clock; the server's without it.
    #[serde(default)]
    pub date: Option<i64>,
    /// The id of the message that it answers.
    #[serde(default)]
    pub reply_to: Option<String>,
}

/// The data of a `read` frame from a client.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadData {
    #[serde(default)]
    pub receiver: Option<String>,
    #[serde(default)]
    pub room_id: Option<String>,
    /// Also beside the data.
    #[serde(default)]
    pub seq: Option<i64>,
}

/// The data of a `typing` frame from a client.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TypingData {
    #[serde(default)]
    pub receiver: Option<String>,
    #[serde(default)]
    pub room_id: Option<String>,
}

/// Whom a frame is for.
pub enum Target {
    /// The person with the nickname.
    Person(String),
    /// The room with the id.
    Room(String),
}

/// Returns a topic that clients send; `unknown` for a text of theirs.
pub fn known(topic: &str) -> &str {
    match topic {
        "message" | "read" | "typing" => topic,
        _ => "unknown",
    }
}

/// Returns the one of the two that is given.
pub fn target(receiver: Option<String>, room: Option<String>) -> Result<Target, NotTaken> {
    match (receiver, room) {
        (Some(receiver), None) => Ok(Target::Person(receiver)),
        (None, Some(room)) => Ok(Target::Room(room)),
        (Some(_), Some(_)) | (None, None) => Err(Refusal::InvalidFrame.into()),
    }
}

/// Returns the data of a frame; the error names what is missing.
pub fn data<T: serde::de::DeserializeOwned>(frame: &Incoming) -> Result<T, NotTaken> {
    // A structure would also be read from an array of its fields.
    if !frame.data.is_object() {
        return Err(Refusal::InvalidFrame.into());
    }
    serde_json::from_value(frame.data.clone()).map_err(|_| Refusal::InvalidFrame.into())
}

/// Returns the client's id of a frame that needs one: 1 to 100 bytes without U+0000.
pub fn id(frame: &Incoming) -> Result<&str, NotTaken> {
    let id = frame
        .id
        .as_deref()
        .filter(|id| !id.is_empty() && id.len() <= LONGEST_ID && is_portable(id));
    id.ok_or(NotTaken::Refused(Refusal::InvalidFrame))
}

/// The answer to a message that is stored.
pub fn accepted(client_id: &str, message: &MessageId, sent_at: MessageDate, seq: Option<i64>) -> String {
    let data = json!({ "messageId": message.as_str(), "seq": seq, "date": sent_at });
    stream::frame("accepted", Some(client_id), None, &data)
}

/// The answer to a frame that was not taken: `rejected` if a repetition changes nothing, else `error`.
pub fn refused(client_id: Option<&str>, refusal: Refusal) -> String {
    let (code, reason) = (refusal.typed_code(), refusal.typed_detail());
    match client_id {
        Some(id) if refusal.is_final() => {
            stream::frame("rejected", Some(id), None, &json!({ "code": code, "reason": reason }))
        }
        _ => stream::error(client_id, code, reason),
    }
}

/// The frame of a message in the stream of one of its people, or of a change of it.
pub fn framed(Framed { seq, content }: &Framed, names: &PresentNames) -> String {
    match content {
        FrameContent::Message(stored) => {
            let data = json!(SentMessage::new(stored, names));
            stream::frame("message", Some(stored.message.id.as_str()), Some(*seq), &data)
        }
        FrameContent::RoomMessage(message) => room_message(*seq, &message.id, &room_message_data(message, names)),
        FrameContent::Change(stored, change) => {
            let message = &stored.message;
            changed(*seq, &message.id, &message.text, change, names)
        }
        FrameContent::RoomChange(message, change) => changed(*seq, &message.id, &message.text, change, names),
    }
}

/// The data of the frames of a message of a room, which are the same for all members who see it and its reactions.
pub fn room_message_data(message: &RoomMessage, names: &PresentNames) -> Value {
    json!(SentRoomMessage::new(message, names))
}

/// The frame of a message of a room in the stream of a member.
pub fn room_message(seq: i64, message: &MessageId, data: &Value) -> String {
    stream::frame("message", Some(message.as_str()), Some(seq), data)
}

fn changed(seq: i64, message: &MessageId, text: &MessageText, change: &Changed, names: &PresentNames) -> String {
    let id = message.as_str();
    let (topic, data) = match change.kind {
        ChangeKind::Retracted => ("retract", json!({ "messageId": id, "at": change.at })),
        ChangeKind::Edited => (
            "edit",
            json!({ "messageId": id, "text": text.as_str(), "at": change.at }),
        ),
        ChangeKind::Reacted => {
            let by = names.get(&change.by);
            (
                "reaction",
                json!({ "messageId": id, "by": by, "reaction": change.content, "at": change.at }),
            )
        }
    };
    stream::frame(topic, Some(&format!("{id}:{}", change.revision)), Some(seq), &data)
}

/// A message of a room, in frames and in the history.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SentRoomMessage {
    room_id: String,
    /// The present nickname.
    #[schema(example = "별이")]
    sender: String,
    date: MessageDate,
    /// Empty of a retracted message.
    #[schema(example = "오늘 하루도 수고했어요")]
    text: String,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// In the room, without a gap.
    number: i64,
    /// The id of the message that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    edited_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    retracted_at: Option<Timestamp>,
    /// Without those of people in a block with the reader.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reactions: Vec<PersonsReaction>,
}

impl SentRoomMessage {
    pub fn new(message: &RoomMessage, names: &PresentNames) -> Self {
        let sender = names.get(&message.sender.account).unwrap_or(&message.sender.nickname);
        Self {
            room_id: message.room.clone(),
            sender: sender.to_owned(),
            date: message.date,
            text: message.text.as_str().to_owned(),
            at: message.stored_at,
            number: message.number,
            reply_to: message.reply_to.as_ref().map(ToString::to_string),
            edited_at: message.state.edited_at,
            retracted_at: message.state.retracted_at,
            reactions: reactions(&message.state, names),
        }
    }
}

/// A message as it is now, in frames and in the history.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SentMessage {
    /// The present nickname.
    #[schema(example = "별이")]
    sender: String,
    #[schema(example = "달이")]
    receiver: String,
    date: MessageDate,
    /// Empty of a retracted message.
    #[schema(example = "오늘 하루도 수고했어요")]
    text: String,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// In the conversation, without a gap. A message of an earlier release has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<i64>,
    /// The id of the message that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    edited_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    retracted_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reactions: Vec<PersonsReaction>,
}

#[derive(Debug, Serialize, ToSchema)]
struct PersonsReaction {
    /// The present nickname; null of an account that has none.
    by: Option<String>,
    #[schema(example = "🩷")]
    reaction: String,
}

fn reactions(state: &MessageState, names: &PresentNames) -> Vec<PersonsReaction> {
    let reactions = state.reactions.iter().map(|(by, reaction)| PersonsReaction {
        by: names.get(by).map(str::to_owned),
        reaction: reaction.clone(),
    });
    reactions.collect()
}

impl SentMessage {
    pub fn new(stored: &Stored, names: &PresentNames) -> Self {
        let (message, state) = (&stored.message, &stored.state);
        let name = |party: &Party| names.get(&party.account).unwrap_or(&party.nickname).to_owned();
        Self {
            sender: name(&message.sender),
            receiver: name(&message.receiver),
            date: message.date,
            text: message.text.as_str().to_owned(),
            at: stored.stored_at,
            number: stored.number,
            reply_to: stored.reply_to.as_ref().map(ToString::to_string),
            edited_at: state.edited_at,
            retracted_at: state.retracted_at,
            reactions: reactions(state, names),
        }
    }
}
