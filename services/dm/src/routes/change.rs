//! Retracting, editing and reacting to messages, and the messages that one has sent.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_events::Envelope;
use sosohappy_events::types::{MessageChange, MessageChanged, RoomMessageSent};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::{Change, ChangeKind, MessageId, MessageText, NewChange, Reaction, RoomMessage, Stored};
use crate::error::Error;

#[derive(Debug, Deserialize, ToSchema)]
pub struct CancelMessage {
    /// Of one's own message, sent or scheduled.
    #[schema(example = "01890000-0000-7000-8000-000000000000")]
    id: String,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct EditMessage {
    /// Of one's own message.
    #[schema(example = "01890000-0000-7000-8000-000000000000")]
    id: String,
    #[schema(example = "오늘 하루도 수고했어요")]
    text: String,
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct ReactMessage {
    /// Of a message that one sent or received, also in a room.
    #[schema(example = "01890000-0000-7000-8000-000000000000")]
    id: String,
    /// One user-perceived character of at most 40 bytes, in place of the caller's former reaction; without it the caller's is taken back.
    #[serde(default)]
    #[schema(example = "🩷")]
    reaction: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangedMessage {
    message_id: String,
    /// False if the message was in that state already.
    changed: bool,
}

/// Stops a scheduled message, or retracts one that was sent: its text is deleted for everybody, and its pending push is withdrawn
///
/// Of a call and the sending of a scheduled message at once one takes effect: 404 says that it is being sent. Both people's sockets of version 2, of a message in a room those of its members, get a `retract`, and the history has a message without a text in its place.
#[utoipa::path(
    post,
    path = "/cancelMessage",
    tag = "change",
    request_body = CancelMessage,
    responses(
        (status = 200, body = ChangedMessage),
        (status = 400, body = Problem),
        (status = 404, description = "The caller has sent no message with the id", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn cancel_message(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<CancelMessage>,
) -> Result<Json<ChangedMessage>, Error> {
    if app.store.unschedule(&caller.account, &params.id).await? {
        return Ok(Json(ChangedMessage {
            message_id: params.id,
            changed: true,
        }));
    }
    change(&app, &caller, params.id, Change::Retract).await
}

/// Edits a message
///
/// Both people's sockets of version 2, of a message in a room those of its members, get an `edit`; `findMessageHistory` has the texts before it.
#[utoipa::path(
    post,
    path = "/editMessage",
    tag = "change",
    request_body = EditMessage,
    responses(
        (status = 200, body = ChangedMessage),
        (status = 400, body = Problem),
        (status = 404, description = "The caller has sent no message with the id", body = Problem),
        (status = 409, description = "The message has been retracted, or has changed too often", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn edit_message(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<EditMessage>,
) -> Result<Json<ChangedMessage>, Error> {
    let text = MessageText::new(params.text, app.settings.get().messages.max_characters)?;
    change(&app, &caller, params.id, Change::Edit(text)).await
}

/// Reacts to a message, or takes the reaction back
///
/// A person has one reaction to a message. Both people's sockets of version 2, of a message in a room those of its members, get a `reaction`.
#[utoipa::path(
    post,
    path = "/reactMessage",
    tag = "change",
    request_body = ReactMessage,
    responses(
        (status = 200, body = ChangedMessage),
        (status = 400, body = Problem),
        (status = 404, description = "The caller has sent or received no message with the id", body = Problem),
        (status = 409, description = "The message has been retracted, or has changed too often", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn react_message(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<ReactMessage>,
) -> Result<Json<ChangedMessage>, Error> {
    let reaction = match params.reaction.filter(|reaction| !reaction.is_empty()) {
        Some(text) => Some(Reaction::new(text).ok_or(Error::Reaction)?),
        None => None,
    };
    change(&app, &caller, params.id, Change::React(reaction)).await
}

async fn change(app: &App, caller: &Caller, id: String, change: Change) -> Result<Json<ChangedMessage>, Error> {
    let id = MessageId::stored(id);
    let Some(stored) = app.store.message(&id).await? else {
        return change_in_room(app, caller, id, change).await;
    };
    let (sender, receiver) = (stored.message.sender.account, stored.message.receiver.account);
    // A person who was blocked may take back what was sent, and nothing else.
    if change != Change::Retract && app.directory.blocked(&sender, &receiver).await? {
        return Err(Error::Message);
    }
    let event = MessageChanged {
        message: id.to_string(),
        sender,
        receiver,
        change: published(&change),
    };
    let change = NewChange {
        message: id,
        by: caller.account.clone(),
        change,
        authorized_at: caller.issued_at,
        // Not before the message, whatever the clocks of two replicas say: the withdrawal of a push is compared with it.
        at: app.context.clock.now().max(stored.stored_at),
    };
    let mut event = Envelope::new(event, &app.context);
    event.meta.occurred_at = change.at;
    let changed = app.store.change(&change, &event.to_outgoing()).await?;
    if changed.is_some() {
        app.relay.wake();
    }
    Ok(Json(ChangedMessage {
        message_id: change.message.to_string(),
        changed: changed.is_some(),
    }))
}

async fn change_in_room(
    app: &App,
    caller: &Caller,
    id: MessageId,
    change: Change,
) -> Result<Json<ChangedMessage>, Error> {
    let message = app.store.room_message(&id).await?.ok_or(Error::Message)?;
    let room = app.store.room(&message.room).await?.ok_or(Error::Message)?;
    // A person who has left may take back what was sent, and nothing else.
    if change != Change::Retract && room.member(&caller.account).is_none() {
        return Err(Error::Message);
    }
    // The caller does not see messages of people in a block.
    if matches!(change, Change::React(_)) && app.directory.blocked(&caller.account, &message.sender.account).await? {
        return Err(Error::Message);
    }
    let event = RoomMessageSent {
        room: room.id,
        message: id.to_string(),
        members: room.members.into_iter().map(|member| member.account).collect(),
        change: Some(published(&change)),
        push: None,
    };
    let change = NewChange {
        message: id,
        by: caller.account.clone(),
        change,
        authorized_at: caller.issued_at,
        at: app.context.clock.now().max(message.stored_at),
    };
    let mut event = Envelope::new(event, &app.context);
    event.meta.occurred_at = change.at;
    let changed = app.store.change_in_room(&change, &event.to_outgoing()).await?;
    if changed.is_some() {
        app.relay.wake();
    }
    Ok(Json(ChangedMessage {
        message_id: change.message.to_string(),
        changed: changed.is_some(),
    }))
}

fn published(change: &Change) -> MessageChange {
    match change.kind() {
        ChangeKind::Retracted => MessageChange::Retracted,
        ChangeKind::Edited => MessageChange::Edited,
        ChangeKind::Reacted => MessageChange::Reacted,
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FindMessageHistory {
    /// Of a message that one sent or received, also in a room.
    id: String,
}

/// A text that a message had.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FormerText {
    text: String,
    /// When it was replaced.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
}

/// Lists the texts that a message had before it was edited, the first one first
///
/// Of a retracted message there are none, nor of one that moderators hide.
#[utoipa::path(
    get,
    path = "/findMessageHistory",
    tag = "change",
    params(FindMessageHistory),
    responses(
        (status = 200, body = [FormerText]),
        (status = 400, body = Problem),
        (status = 404, description = "The caller has sent or received no message with the id", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn find_message_history(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<FindMessageHistory>,
) -> Result<Json<Vec<FormerText>>, Error> {
    let id = MessageId::stored(params.id);
    let state = match app.store.message(&id).await? {
        Some(stored) if is_of(&stored, &caller) => stored.state,
        Some(_) => return Err(Error::Message),
        None => seen_in_room(&app, &caller, &id).await?.ok_or(Error::Message)?.state,
    };
    let changes = app.store.changes(&id).await?;
    let texts = changes
        .into_iter()
        .filter(|change| change.kind == ChangeKind::Edited && !state.is_hidden)
        .filter_map(|change| {
            Some(FormerText {
                text: change.content?,
                until: change.at,
            })
        });
    Ok(Json(texts.collect()))
}

/// Returns a message of a room in which the caller sees it.
async fn seen_in_room(app: &App, caller: &Caller, id: &MessageId) -> Result<Option<RoomMessage>, Error> {
    let Some(message) = app.store.room_message(id).await? else {
        return Ok(None);
    };
    let room = app.store.room(&message.room).await?;
    let is_viewer = room.is_some_and(|room| room.viewers(message.number).any(|viewer| *viewer == caller.account));
    let is_seen = is_viewer && !app.directory.blocked(&caller.account, &message.sender.account).await?;
    Ok(is_seen.then_some(message))
}

fn is_of(stored: &Stored, caller: &Caller) -> bool {
    stored.message.people().any(|account| *account == caller.account)
}
