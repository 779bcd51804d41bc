//! A person's own messages as data.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::{IntoParams, ToSchema};

use super::message::TypedMessage;
use super::room::RoomMessageShown;
use crate::app::App;
use crate::domain::{MessageId, Position, RoomMessage};
use crate::error::Error;
use crate::names::PresentNames;

/// Messages of a page.
const PAGE: u32 = 500;
/// The cursor into messages of rooms is this and a message's id.
const ROOMS: &str = "rooms:";

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Export {
    /// `start`, or the `nextCursor` of the last answer.
    #[serde(default)]
    cursor: Option<String>,
}

/// A page of an export.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExportPage {
    /// Of the form of this document; a form that only adds fields has the same number.
    #[schema(example = 1)]
    version: u32,
    /// Messages that the caller sent or received, the newest first.
    messages: Vec<TypedMessage>,
    /// Messages that the caller sent to rooms, the oldest first: on the pages after all of the others.
    room_messages: Vec<RoomMessageShown>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

/// Where a page begins.
enum PageStart {
    Messages(Option<Position>),
    /// After the message with the id.
    Rooms(MessageId),
}

fn page_start(cursor: Option<&str>) -> Result<PageStart, Error> {
    match cursor.and_then(|cursor| cursor.strip_prefix(ROOMS)) {
        Some("") => Ok(PageStart::Rooms(MessageId::stored(String::new()))),
        Some(id) => {
            let position: Position = id.parse().map_err(|_| Error::Cursor)?;
            Ok(PageStart::Rooms(MessageId::stored(position.as_str().to_owned())))
        }
        None => Ok(PageStart::Messages(super::page::position(cursor)?)),
    }
}

/// Exports the caller's messages: those of conversations, sent and received, and those that the caller sent to rooms
///
/// In pages of at most 500; `nextCursor` goes on until it is null.
#[utoipa::path(
    get,
    path = "/export",
    tag = "message",
    params(Export),
    responses(
        (status = 200, body = ExportPage),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn export(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<Export>,
) -> Result<Json<ExportPage>, Error> {
    let mut page = ExportPage {
        version: 1,
        messages: Vec::new(),
        room_messages: Vec::new(),
        next_cursor: None,
    };
    let is_full = |rows: usize| rows >= usize::try_from(PAGE).unwrap_or(usize::MAX);
    match page_start(params.cursor.as_deref())? {
        PageStart::Messages(before) => {
            let own = app.store.own(&caller.account, before.as_ref(), PAGE).await?;
            let names = PresentNames::of(&*app.names, own.iter().map(|stored| &stored.message)).await?;
            let last = own.last().filter(|_| is_full(own.len()));
            page.next_cursor = Some(last.map_or_else(
                || ROOMS.to_owned(),
                |last| last.message.id.position().as_str().to_owned(),
            ));
            page.messages = own.iter().map(|stored| TypedMessage::new(stored, &names)).collect();
        }
        PageStart::Rooms(after) => {
            let mut sent = app.store.sent_in_rooms(&caller.account, &after, PAGE).await?;
            let blocked = app.directory.blocked_with(&caller.account).await?;
            for message in &mut sent {
                message.hide_reactions_of(&blocked);
            }
            let people = sent.iter().flat_map(RoomMessage::people).cloned();
            let names = PresentNames::of_people(&*app.names, people).await?;
            let last = sent.last().filter(|_| is_full(sent.len()));
            page.next_cursor = last.map(|last| format!("{ROOMS}{}", last.id));
            page.room_messages = sent
                .iter()
                .map(|message| RoomMessageShown::new(message, &names))
                .collect();
        }
    }
    Ok(Json(page))
}
