//! Marking as read, counting what is unread, and catching up.

use std::collections::HashSet;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::http::Params;
use sosohappy_common::{Account, Problem};
use unicode_segmentation::UnicodeSegmentation as _;
use utoipa::{IntoParams, ToSchema};

use super::page;
use crate::app::App;
use crate::domain::{Marks, MessageDate, MessageId, Party, Position, Stored};
use crate::error::Error;
use crate::names::PresentNames;
use crate::store::Newest;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MarkRead {
    /// The nickname of the other person.
    #[schema(example = "달이")]
    receiver: String,
    /// The newest message that was read; without it all are.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "01890000-0000-7000-8000-000000000000")]
    message_id: Option<Position>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UnreadMessages {
    /// Messages of all conversations that the caller has not read, without those of people in a block with the caller.
    count: u64,
}

/// Marks the messages that the caller has from a person as read, on all devices
///
/// The person's and the caller's sockets of version 2 get a `receipt`. An older message than before changes nothing.
#[utoipa::path(
    post,
    path = "/markRead",
    tag = "receipt",
    request_body = MarkRead,
    responses(
        (status = 200, body = UnreadMessages),
        (status = 400, body = Problem),
        (status = 404, description = "No account has the nickname, or it is in a block with the caller and they have no conversation", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn mark_read(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<MarkRead>,
) -> Result<Json<UnreadMessages>, Error> {
    let other = app.names.account_of(&params.receiver).await?.ok_or(Error::Nickname)?;
    if app.protocol.is_unknown_to(&caller.account, &other).await? {
        return Err(Error::Nickname);
    }
    app.protocol
        .mark_read(&caller, &other, params.message_id.as_ref())
        .await?;
    unread(&app, &caller).await
}

/// Counts the messages that the caller has not read
#[utoipa::path(
    get,
    path = "/unreadCount",
    tag = "receipt",
    responses((status = 200, body = UnreadMessages), (status = 503, body = Problem)),
)]
pub async fn unread_count(State(app): State<App>, caller: Caller) -> Result<Json<UnreadMessages>, Error> {
    unread(&app, &caller).await
}

async fn unread(app: &App, caller: &Caller) -> Result<Json<UnreadMessages>, Error> {
    let blocked = app.directory.blocked_with(&caller.account).await?;
    let count = app.store.unread(&caller.account, &blocked).await?;
    Ok(Json(UnreadMessages { count }))
}

/// Conversations that are read for one answer.
const MOST_CONVERSATIONS: u32 = 200;
/// Bytes of the conversations of one answer.
const MOST_BYTES: usize = 49 * 1024;
/// The text of a message in an answer: user-perceived characters, and bytes.
const PREVIEW: (usize, usize) = (200, 1000);

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CatchUp {
    /// `start`, or the `nextCursor` of the last answer.
    #[serde(default)]
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaughtUp {
    /// The newest number of the caller's stream when the call began: `since` of a socket that is opened next.
    seq: i64,
    /// With the newest message first; at most 50 KB.
    conversations: Vec<Conversation>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conversation {
    /// The present nickname of the other person.
    with: String,
    message: Preview,
    /// Messages that the caller has not read; 0 of a person in a block with the caller.
    unread: u64,
    /// Up to which `number` the devices of the other person have shown the conversation; 0 if none.
    delivered: i64,
    /// Up to which `number` the other person has read it.
    read: i64,
}

/// A message whose text may be cut.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    id: String,
    sender: String,
    receiver: String,
    date: MessageDate,
    text: String,
    is_cut: bool,
    /// Null of a message of an earlier release.
    number: Option<i64>,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
}

impl Preview {
    pub fn new(stored: &Stored, names: &PresentNames) -> Self {
        let message = &stored.message;
        let name = |party: &Party| names.get(&party.account).unwrap_or(&party.nickname).to_owned();
        let (text, is_cut) = cut(message.text.as_str());
        Self {
            id: message.id.to_string(),
            sender: name(&message.sender),
            receiver: name(&message.receiver),
            date: message.date,
            text,
            is_cut,
            number: stored.number,
            at: stored.stored_at,
        }
    }
}

/// Returns a text's beginning, and whether there is more.
fn cut(text: &str) -> (String, bool) {
    let mut end = 0;
    for (number, (start, character)) in text.grapheme_indices(true).enumerate() {
        if number >= PREVIEW.0 || start + character.len() > PREVIEW.1 {
            return (text[..end].to_owned(), true);
        }
        end = start + character.len();
    }
    (text.to_owned(), false)
}

/// Returns the newest message and the unread count of each conversation, for a client that was offline for long
///
/// In pages of at most 50 KB, the conversation with the newest message first; texts are cut after 200 characters.
#[utoipa::path(
    get,
    path = "/catchUp",
    tag = "receipt",
    params(CatchUp),
    responses(
        (status = 200, body = CaughtUp),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn catch_up(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<CatchUp>,
) -> Result<Json<CaughtUp>, Error> {
    let before = page::position(params.cursor.as_deref())?;
    // Before the conversations: what comes between is in the stream.
    let seq = app.store.kept(&caller.account).await?.map_or(0, |(_, newest)| newest);
    let Newest { messages, mut next } = app
        .store
        .newest(&caller.account, before.as_ref(), MOST_CONVERSATIONS)
        .await?;
    let others: Vec<&Account> = messages.iter().map(|stored| other(stored, &caller.account)).collect();
    let marks = app.store.marks(&caller.account, &others).await?;
    let blocked: HashSet<Account> = app.directory.blocked_with(&caller.account).await?.into_iter().collect();
    let names = PresentNames::of(&*app.names, messages.iter().map(|stored| &stored.message)).await?;
    let (mut conversations, mut bytes) = (Vec::new(), 0);
    let mut last: Option<&MessageId> = None;
    for stored in &messages {
        let mut marks = marks.get(&stored.message.conversation()).copied().unwrap_or_default();
        if blocked.contains(other(stored, &caller.account)) {
            marks.unread = 0;
        }
        let conversation = conversation(stored, &caller.account, marks, &names);
        bytes += serde_json::to_vec(&conversation).map_or(0, |json| json.len() + 1);
        if bytes > MOST_BYTES
            && let Some(last) = last
        {
            next = Some(last.position());
            break;
        }
        last = Some(&stored.message.id);
        conversations.push(conversation);
    }
    Ok(Json(CaughtUp {
        seq,
        conversations,
        next_cursor: next.map(|next| next.as_str().to_owned()),
    }))
}

fn other<'a>(stored: &'a Stored, account: &Account) -> &'a Account {
    let (sender, receiver) = (&stored.message.sender.account, &stored.message.receiver.account);
    if sender == account { receiver } else { sender }
}

fn conversation(stored: &Stored, account: &Account, marks: Marks, names: &PresentNames) -> Conversation {
    let preview = Preview::new(stored, names);
    let is_sender = stored.message.sender.account == *account;
    let with = if is_sender { &preview.receiver } else { &preview.sender };
    Conversation {
        with: with.clone(),
        message: preview,
        unread: marks.unread,
        delivered: marks.delivered,
        read: marks.read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("안녕"), ("안녕".to_owned(), false));
        let (text, is_cut) = cut(&"행".repeat(201));
        assert_eq!((text.chars().count(), is_cut), (200, true));
        let family = "👨\u{200d}👩\u{200d}👧\u{200d}👦";
        let (text, is_cut) = cut(&family.repeat(100));
        assert!(
            is_cut && text.len() <= 1000 && text.len() % family.len() == 0,
            "{}",
            text.len()
        );
        assert_eq!(cut(&format!("a{}", "\u{301}".repeat(1000))), (String::new(), true));
    }
}
