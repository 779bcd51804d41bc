//! The messages that one has sent, with their states.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::http::Params;
use sosohappy_common::{Account, Problem};
use utoipa::{IntoParams, ToSchema};

use super::message::TypedMessage;
use super::page;
use crate::app::App;
use crate::error::Error;
use crate::names::PresentNames;

/// Messages of a page, unless asked for otherwise, and the most.
const PAGE: u32 = 20;
const MOST: u32 = 100;
/// Messages that one call looks at for those of a state.
const LOOKED_AT: u32 = 1000;

/// How far a message has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum DeliveryState {
    Stored,
    /// A device of the receiver has shown it.
    Delivered,
    /// The receiver has read it.
    Read,
    Retracted,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MyMessages {
    /// Messages of this state only.
    #[serde(default)]
    state: Option<DeliveryState>,
    /// `start`, or the `nextCursor` of the last answer.
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    #[param(default = 20, minimum = 1, maximum = 100)]
    size: Option<u32>,
}

#[derive(Serialize, ToSchema)]
pub struct OwnMessage {
    state: DeliveryState,
    #[serde(flatten)]
    message: TypedMessage,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnMessages {
    /// Newest first. A page of one state may hold fewer messages than asked for, and still be followed by another.
    content: Vec<OwnMessage>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

/// Lists the messages that the caller has sent, each with its state
///
/// A message that was rejected is not stored, and not among them: its frame is answered with the reason. `scheduled` lists the messages that are
/// sent later, and those that failed at their time, with the reason.
#[utoipa::path(
    get,
    path = "/myMessages",
    tag = "message",
    params(MyMessages),
    responses(
        (status = 200, body = OwnMessages),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn my_messages(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<MyMessages>,
) -> Result<Json<OwnMessages>, Error> {
    let size = page::size(params.size, PAGE, MOST)?;
    let before = page::position(params.cursor.as_deref())?;
    let limit = if params.state.is_some() { LOOKED_AT } else { size };
    let sent = app.store.sent(&caller.account, before.as_ref(), limit).await?;
    let others: Vec<&Account> = sent
        .iter()
        .map(|(stored, _)| &stored.message.receiver.account)
        .collect();
    let marks = app.store.marks(&caller.account, &others).await?;
    let names = PresentNames::of(&*app.names, sent.iter().map(|(stored, _)| &stored.message)).await?;
    let (mut content, mut next) = (Vec::new(), None);
    for (stored, is_delivered) in &sent {
        let read = marks.get(&stored.message.conversation()).map_or(0, |marks| marks.read);
        let state = if stored.state.retracted_at.is_some() {
            DeliveryState::Retracted
        } else if stored.number.is_some_and(|number| number <= read) {
            DeliveryState::Read
        } else if *is_delivered {
            DeliveryState::Delivered
        } else {
            DeliveryState::Stored
        };
        if params.state.is_none_or(|wanted| wanted == state) {
            let message = TypedMessage::new(stored, &names);
            content.push(OwnMessage { state, message });
        }
        next = Some(stored.message.id.position());
        if content.len() >= usize::try_from(size).unwrap_or(usize::MAX) {
            break;
        }
    }
    let last = sent.last().map(|(stored, _)| stored.message.id.position());
    let is_end = next == last && sent.len() < usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Json(OwnMessages {
        content,
        next_cursor: next.filter(|_| !is_end).map(|next| next.as_str().to_owned()),
    }))
}
