//! `directMessage`: a message was stored; dm delivers it to the receiver's sockets, notice to the push gateway.

use std::borrow::Cow;

use serde::Deserialize;
use sosohappy_common::Account;

use super::parse;
use crate::{Event, Header, Malformed, Record, Topic};

/// The receiver of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    Account(Account),
    /// The push token by which a Spring service keys the record; such a record is only pushed.
    PushToken(String),
}

const MESSAGE_ID: &str = "message-id";
const SENDER_ACCOUNT: &str = "sender-account";
const SENDER_SOCKET: &str = "sender-socket";
pub(crate) const RECEIVER_ONLINE: &str = "receiver-online";
const NUMBERED: &str = "numbered";
const RELEASED: &str = "released";

/// Key: the receiver's account; a push token while the notice service is Spring's, see [`crate::Mixed::direct_messages`]. Value: the
/// message's JSON `{"sender","receiver","date","text"}`. Headers `message-id`, `sender-account`, `sender-socket`, `receiver-online` (`true`
/// when a socket of the receiver was open somewhere), `numbered` (`true` when the message was stored with its frames in the streams of both
/// people; a release without version 2 of the socket stores it without), `released` (`true` of a message that waited in a request: its sender's
/// devices have it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectMessageSent {
    pub recipient: Recipient,
    pub message_id: Option<String>,
    pub sender_account: Option<Account>,
    /// The socket that the message came in on; the other sockets of the sender get it too.
    pub sender_socket: Option<u64>,
    pub receiver_online: bool,
    pub numbered: bool,
    pub released: bool,
    /// The socket frame.
    pub frame: String,
}

/// The required fields of a frame, which is delivered unchanged, unknown fields included.
#[derive(Deserialize)]
#[expect(dead_code, reason = "only whether it can be read counts")]
struct Frame<'a> {
    #[serde(borrow)]
    sender: Cow<'a, str>,
    #[serde(borrow)]
    receiver: Cow<'a, str>,
    date: i64,
    #[serde(borrow)]
    text: Cow<'a, str>,
}

impl Recipient {
    /// Tells a push token from an account: those of FCM and APNs have neither `@` nor `+`. Keys of our own records are always accounts.
    fn decode(key: &str, ours: bool) -> Result<Self, Malformed> {
        match key.parse() {
            Ok(account) if ours || key.contains('@') => Ok(Self::Account(account)),
            _ if key.is_empty() => Err(Malformed::new("the key is empty")),
            _ => Ok(Self::PushToken(key.to_owned())),
        }
    }
}

impl Event for DirectMessageSent {
    const TOPIC: Topic = Topic::DirectMessage;
    const TYPE: &'static str = "DirectMessageSent";

    fn key(&self) -> Option<String> {
        Some(self.aggregate())
    }

    fn value(&self) -> Option<Vec<u8>> {
        Some(self.frame.clone().into_bytes())
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let optional = [
            (MESSAGE_ID, self.message_id.clone()),
            (
                SENDER_ACCOUNT,
                self.sender_account.as_ref().map(|account| account.as_str().to_owned()),
            ),
            (SENDER_SOCKET, self.sender_socket.map(|socket| socket.to_string())),
            (RECEIVER_ONLINE, Some(self.receiver_online.to_string())),
            (NUMBERED, self.numbered.then(|| true.to_string())),
            (RELEASED, self.released.then(|| true.to_string())),
        ];
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    fn aggregate(&self) -> String {
        match &self.recipient {
            Recipient::Account(account) => account.as_str().to_owned(),
            Recipient::PushToken(token) => token.clone(),
        }
    }

    fn decode(record: &Record) -> Result<Self, Malformed> {
        parse::json::<Frame<'_>>(record)?;
        Ok(Self {
            recipient: Recipient::decode(
                record.key_text()?,
                record.header(Header::EVENT_TYPE) == Some(Self::TYPE),
            )?,
            message_id: record.header(MESSAGE_ID).map(str::to_owned),
            sender_account: parse::header_account(record, SENDER_ACCOUNT)?,
            sender_socket: record.header_as(SENDER_SOCKET, |text| text.parse().ok())?,
            receiver_online: record
                .header_as(RECEIVER_ONLINE, |text| text.parse().ok())?
                .unwrap_or(false),
            numbered: record.header_as(NUMBERED, |text| text.parse().ok())?.unwrap_or(false),
            released: record.header_as(RELEASED, |text| text.parse().ok())?.unwrap_or(false),
            frame: record.value_text()?.to_owned(),
        })
    }
}
