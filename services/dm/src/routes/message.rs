//! The history.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, Acting, Actor, Denied, Names};
use sosohappy_common::{Account, Problem};
use utoipa::ToSchema;

use super::page;
use crate::app::App;
use crate::domain::{Boundary, ConversationId, Message, Position, Shown, Stored};
use crate::error::Error;
use crate::history;
use crate::names::PresentNames;
use crate::socket::SentMessage;
use crate::store::{Newest, Range};

/// Puts the present nicknames into messages. A person whose nickname is unknown keeps the one of the message.
async fn shown(names: &dyn Names, messages: Vec<Message>) -> Result<Vec<Shown>, Denied> {
    let present = PresentNames::of(names, messages.iter()).await?;
    let name = |account: &Account| present.get(account).map(str::to_owned);
    Ok(messages
        .into_iter()
        .map(|message| {
            let (sender, receiver) = (name(&message.sender.account), name(&message.receiver.account));
            message.shown(sender, receiver)
        })
        .collect())
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FindDirectMessage {
    /// The caller's own nickname.
    #[schema(example = "별이")]
    sender: String,
    /// The nickname of the other one.
    #[schema(example = "달이")]
    receiver: String,
    /// Messages from before the one of this date; without it the newest.
    #[serde(default)]
    #[schema(example = 2_023_090_513_248_392_i64)]
    time_boundary: Option<i64>,
    /// At most 500, unless set otherwise.
    #[serde(default = "twenty")]
    #[schema(default = 20, minimum = 1)]
    message_cnt: u32,
    /// `start`, or the `nextCursor` of the last answer: answers a page of typed messages instead of a list, and `timeBoundary` counts for nothing.
    #[serde(default)]
    #[schema(example = "start")]
    cursor: Option<String>,
}

/// Messages of a conversation.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum Messages {
    /// Without `cursor`: oldest first.
    List(Vec<Shown>),
    /// Newest first.
    #[serde(rename_all = "camelCase")]
    Page {
        content: Vec<TypedMessage>,
        /// Null on the last page.
        next_cursor: Option<String>,
    },
}

/// A message with its id.
#[derive(Serialize, ToSchema)]
pub struct TypedMessage {
    #[schema(example = "01890000-0000-7000-8000-000000000000")]
    id: String,
    #[serde(flatten)]
    message: SentMessage,
}

impl TypedMessage {
    pub fn new(stored: &Stored, names: &PresentNames) -> Self {
        Self {
            id: stored.message.id.to_string(),
            message: SentMessage::new(stored, names),
        }
    }
}

const fn twenty() -> u32 {
    20
}

impl Actor for FindDirectMessage {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(&self.sender)
    }
}

/// Pages backwards through a conversation: the newest messages from before the one of a date, oldest first
///
/// The order is the server's; dates are those of the senders' phones. A page holds more messages than asked for when several have the date
/// of its oldest, so that paging by the date of the oldest message loses none. With `cursor` a page `{"content", "nextCursor"}`, newest first, of
/// messages with their ids, numbers, edits and reactions.
#[utoipa::path(
    post,
    path = "/findDirectMessage",
    tag = "message",
    request_body = FindDirectMessage,
    responses(
        (status = 200, body = Messages),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn find_direct_message(
    State(app): State<App>,
    Act { caller, params }: Act<FindDirectMessage>,
) -> Result<Json<Messages>, Error> {
    let most = app.settings.get().history.max_count;
    if !(1..=most).contains(&params.message_cnt) {
        return Err(Error::Count(most));
    }
    let Some(other) = app.names.account_of(&params.receiver).await? else {
        return Ok(Json(match params.cursor {
            None => Messages::List(Vec::new()),
            Some(_) => Messages::Page {
                content: Vec::new(),
                next_cursor: None,
            },
        }));
    };
    if params.cursor.is_some() {
        let before = page::position(params.cursor.as_deref())?;
        return typed_page(&app, &caller.account, &other, before, params.message_cnt).await;
    }
    let boundary = params
        .time_boundary
        .map(|date| Boundary::new(date, app.context.clock.now()));
    let messages = history::page(&*app.store, (&caller.account, &other), boundary, params.message_cnt).await?;
    Ok(Json(Messages::List(shown(&*app.names, messages).await?)))
}

async fn typed_page(
    app: &App,
    account: &Account,
    other: &Account,
    before: Option<Position>,
    size: u32,
) -> Result<Json<Messages>, Error> {
    let range = Range {
        before,
        ..Range::default()
    };
    let conversation = ConversationId::between(account, other);
    let found = app.store.newest_within(&conversation, account, &range, size).await?;
    let names = PresentNames::of(&*app.names, found.iter().map(|stored| &stored.message)).await?;
    let is_last = found.len() < usize::try_from(size).unwrap_or(usize::MAX);
    let last = found
        .last()
        .filter(|_| !is_last)
        .map(|stored| stored.message.id.position());
    Ok(Json(Messages::Page {
        content: found.iter().map(|stored| TypedMessage::new(stored, &names)).collect(),
        next_cursor: last.map(|position| position.as_str().to_owned()),
    }))
}

/// Conversations of a page, unless asked for otherwise.
const PAGE: u32 = 100;
/// Conversations of an answer without a cursor, and the most of a page.
const MOST_CONVERSATIONS: u32 = 1000;

#[derive(Debug, Deserialize, ToSchema)]
pub struct FindMultipleDirectMessage {
    /// The caller's own nickname.
    #[schema(example = "별이")]
    sender: String,
    /// `start`, or the `nextCursor` of the last answer: answers a page instead of a list.
    #[serde(default)]
    #[schema(example = "start")]
    cursor: Option<String>,
    /// Conversations of a page.
    #[serde(default)]
    #[schema(default = 100, minimum = 1, maximum = 1000)]
    size: Option<u32>,
}

/// The newest message of each conversation, newest first.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum Conversations {
    /// Without `cursor`: the newest 1,000.
    List(Vec<Shown>),
    #[serde(rename_all = "camelCase")]
    Page {
        content: Vec<Shown>,
        /// Null on the last page.
        next_cursor: Option<String>,
    },
}

impl Actor for FindMultipleDirectMessage {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(&self.sender)
    }
}

/// Lists the newest message of each of one's conversations, newest first
///
/// A list of at most 1,000; with `cursor` a page `{"content", "nextCursor"}`, by which all are reached.
#[utoipa::path(
    post,
    path = "/findMultipleDirectMessage",
    tag = "message",
    request_body = FindMultipleDirectMessage,
    responses(
        (status = 200, body = Conversations),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn find_multiple_direct_message(
    State(app): State<App>,
    Act { caller, params }: Act<FindMultipleDirectMessage>,
) -> Result<Json<Conversations>, Error> {
    let before = page::position(params.cursor.as_deref())?;
    let is_list = params.cursor.is_none();
    let default = if is_list { MOST_CONVERSATIONS } else { PAGE };
    let size = page::size(params.size, default, MOST_CONVERSATIONS)?;
    let Newest { messages, next } = app.store.newest(&caller.account, before.as_ref(), size).await?;
    let messages = messages.into_iter().map(|stored| stored.message).collect();
    let content = shown(&*app.names, messages).await?;
    Ok(Json(if is_list {
        Conversations::List(content)
    } else {
        Conversations::Page {
            content,
            next_cursor: next.map(|next| next.as_str().to_owned()),
        }
    }))
}
