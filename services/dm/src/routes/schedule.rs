//! Messages that are sent later.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_common::http::params::{instant, optional_instant};
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::{FARTHEST, MessageText, Scheduled};
use crate::error::Error;
use crate::store::ScheduleOutcome;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleMessage {
    /// The nickname of the receiver.
    #[schema(example = "달이")]
    receiver: String,
    #[schema(example = "생일 축하해요")]
    text: String,
    /// In the future, at most 366 days ahead.
    #[schema(value_type = String, format = DateTime, example = "2026-03-01T12:00:00Z")]
    #[serde(deserialize_with = "instant")]
    send_at: Timestamp,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EditScheduled {
    #[schema(example = "01890000-0000-7000-8000-000000000000")]
    id: String,
    #[serde(default)]
    #[schema(example = "생일 축하해요")]
    text: Option<String>,
    #[serde(default, deserialize_with = "optional_instant")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-03-01T12:00:00Z")]
    send_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduledId {
    /// For `editScheduled` and `cancelMessage`.
    id: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledMessage {
    id: String,
    /// The nickname of the receiver when it was scheduled.
    receiver: String,
    text: String,
    #[schema(value_type = String, format = DateTime)]
    send_at: Timestamp,
    /// Why it was not sent, the code of a `rejected` frame; null while it waits.
    failure: Option<String>,
}

fn in_range(send_at: Timestamp, now: Timestamp) -> Result<Timestamp, Error> {
    let is_in_range = send_at > now && send_at.duration_since(now) <= FARTHEST;
    is_in_range.then_some(send_at).ok_or(Error::SendAt)
}

/// Sends a message later
///
/// Within two seconds of `sendAt`, once, also after a restart. A sender has at most 100 of them.
#[utoipa::path(
    post,
    path = "/scheduleMessage",
    tag = "schedule",
    request_body = ScheduleMessage,
    responses(
        (status = 200, body = ScheduledId),
        (status = 400, body = Problem),
        (status = 403, description = "The caller has resigned since the token was issued", body = Problem),
        (status = 404, description = "No account has the nickname, or it is in a block with the caller", body = Problem),
        (status = 409, description = "100 messages are scheduled", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn schedule_message(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ScheduleMessage>,
) -> Result<Json<ScheduledId>, Error> {
    let made_at = app.context.clock.now();
    let text = MessageText::new(params.text, app.settings.get().messages.max_characters)?;
    let send_at = in_range(params.send_at, app.store.server_time().await?)?;
    let receiver = app.names.account_of(&params.receiver).await?.ok_or(Error::Nickname)?;
    if app.directory.blocked(&caller.account, &receiver).await? {
        return Err(Error::Nickname);
    }
    let scheduled = Scheduled {
        id: uuid(&app),
        text,
        send_at,
        receiver,
        receiver_nickname: params.receiver,
        sender: caller.account,
        made_at,
        authorized_at: caller.issued_at,
        failure: None,
    };
    match app.store.schedule(&scheduled).await? {
        ScheduleOutcome::Scheduled => Ok(Json(ScheduledId { id: scheduled.id })),
        ScheduleOutcome::TooMany => Err(Error::TooManyScheduled),
    }
}

fn uuid(app: &App) -> String {
    app.protocol.ids.next().to_string()
}

/// Lists the messages that the caller has scheduled, the earliest first
///
/// Those that could not be sent stay, with the reason, until they are edited or cancelled.
#[utoipa::path(
    get,
    path = "/scheduled",
    tag = "schedule",
    responses((status = 200, body = [ScheduledMessage]), (status = 503, body = Problem)),
)]
pub async fn scheduled(State(app): State<App>, caller: Caller) -> Result<Json<Vec<ScheduledMessage>>, Error> {
    let found = app.store.scheduled(&caller.account).await?;
    let found = found.into_iter().map(|scheduled| ScheduledMessage {
        id: scheduled.id,
        receiver: scheduled.receiver_nickname,
        text: scheduled.text.into_string(),
        send_at: scheduled.send_at,
        failure: scheduled.failure,
    });
    Ok(Json(found.collect()))
}

/// Changes the text or the time of a scheduled message, or both
#[utoipa::path(
    post,
    path = "/editScheduled",
    tag = "schedule",
    request_body = EditScheduled,
    responses(
        (status = 200, body = ScheduledId),
        (status = 400, body = Problem),
        (status = 404, description = "No message of the caller waits under the id", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn edit_scheduled(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<EditScheduled>,
) -> Result<Json<ScheduledId>, Error> {
    if params.text.is_none() && params.send_at.is_none() {
        return Err(Error::NoEdit);
    }
    let most = app.settings.get().messages.max_characters;
    let text = params.text.map(|text| MessageText::new(text, most)).transpose()?;
    let send_at = match params.send_at {
        Some(send_at) => Some(in_range(send_at, app.store.server_time().await?)?),
        None => None,
    };
    let edited = app
        .store
        .reschedule(&caller.account, &params.id, text.as_ref(), send_at)
        .await?;
    if !edited {
        return Err(Error::Message);
    }
    Ok(Json(ScheduledId { id: params.id }))
}
