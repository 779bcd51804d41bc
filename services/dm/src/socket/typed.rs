//! Frames of version 2: `{"topic","id","seq","data"}` (docs/sockets.md).

use serde::Deserialize;
use serde_json::{Value, json};
use sosohappy_realtime::stream::{self, Incoming};

use super::{NotTaken, Refusal};
use crate::domain::Stored;

/// The longest `id` of a client's frame, in bytes.
const LONGEST_ID: usize = 100;

/// The data of a `message` frame from a client.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageData {
    pub receiver: String,
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
pub struct ReadData {
    pub receiver: String,
    /// Also beside the data.
    #[serde(default)]
    pub seq: Option<i64>,
}

/// The data of a `typing` frame from a client.
#[derive(Deserialize)]
pub struct TypingData {
    pub receiver: String,
}

/// Returns the data of a frame; the error names what is missing.
pub fn data<T: serde::de::DeserializeOwned>(frame: &Incoming) -> Result<T, NotTaken> {
    serde_json::from_value(frame.data.clone()).map_err(|_| Refusal::InvalidFrame.into())
}

/// Returns the client's id of a frame that needs one.
pub fn id(frame: &Incoming) -> Result<&str, NotTaken> {
    let id = frame
        .id
        .as_deref()
        .filter(|id| !id.is_empty() && id.len() <= LONGEST_ID);
    id.ok_or(NotTaken::Refused(Refusal::InvalidFrame))
}

/// The answer to a message that is stored.
pub fn accepted(client_id: &str, stored: &Stored, seq: Option<i64>) -> String {
    let message = &stored.message;
    let data = json!({ "messageId": message.id.as_str(), "seq": seq, "date": message.date });
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

/// The frame of a message in the stream of one of its people.
pub fn message(stored: &Stored, seq: i64, sender: Option<&str>, receiver: Option<&str>) -> String {
    let message = &stored.message;
    let mut data = json!({
        "sender": sender.unwrap_or(&message.sender.nickname),
        "receiver": receiver.unwrap_or(&message.receiver.nickname),
        "date": message.date,
        "text": message.text.as_str(),
        "at": stored.stored_at,
    });
    if let Some(number) = stored.number {
        data["number"] = number.into();
    }
    if let Some(answered) = &stored.reply_to {
        data["replyTo"] = Value::from(answered.as_str());
    }
    stream::frame("message", Some(message.id.as_str()), Some(seq), &data)
}
