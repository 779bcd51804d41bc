//! Search in one's own messages.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::{IntoParams, ToSchema};

use super::message::TypedMessage;
use super::page;
use crate::app::App;
use crate::domain::{Position, Stored, Words};
use crate::error::Error;
use crate::names::PresentNames;

/// Messages of a page, unless asked for otherwise, and the most.
const PAGE: u32 = 20;
const MOST: u32 = 100;
/// Messages that one call reads, in steps.
const READ: usize = 4000;
const STEP: u32 = 500;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SearchMessages {
    /// Words that a message has all of, in any letter case.
    text: String,
    /// `start`, or the `nextCursor` of the last answer.
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    #[param(default = 20, minimum = 1, maximum = 100)]
    size: Option<u32>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundMessages {
    /// Newest first. A page may hold fewer messages than asked for, and still be followed by another.
    content: Vec<TypedMessage>,
    /// Null when all messages were searched.
    next_cursor: Option<String>,
}

/// Searches the messages that the caller has sent or received
///
/// A call reads at most 4,000 messages, the newest first; `nextCursor` goes on.
#[utoipa::path(
    get,
    path = "/searchMessages",
    tag = "message",
    params(SearchMessages),
    responses(
        (status = 200, body = FoundMessages),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn search_messages(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<SearchMessages>,
) -> Result<Json<FoundMessages>, Error> {
    let words = Words::new(&params.text).ok_or(Error::Words)?;
    let size = usize::try_from(page::size(params.size, PAGE, MOST)?).unwrap_or(usize::MAX);
    let mut before = page::position(params.cursor.as_deref())?;
    let (mut found, mut read): (Vec<Stored>, usize) = (Vec::new(), 0);
    let next: Option<Position> = loop {
        let step = app.store.own(&caller.account, before.as_ref(), STEP).await?;
        let is_end = step.len() < usize::try_from(STEP).unwrap_or(usize::MAX);
        read += step.len();
        for stored in step {
            before = Some(stored.message.id.position());
            if words.are_in(stored.message.text.as_str()) {
                found.push(stored);
                if found.len() >= size {
                    break;
                }
            }
        }
        if found.len() >= size || read >= READ {
            break before;
        }
        if is_end {
            break None;
        }
    };
    let names = PresentNames::of(&*app.names, found.iter().map(|stored| &stored.message)).await?;
    Ok(Json(FoundMessages {
        content: found.iter().map(|stored| TypedMessage::new(stored, &names)).collect(),
        next_cursor: next.map(|next| next.as_str().to_owned()),
    }))
}
