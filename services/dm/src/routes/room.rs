//! Rooms: conversations of up to a hundred people. Their messages are frames of version 2.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::http::Params;
use sosohappy_common::http::params::comma_list;
use sosohappy_common::{Account, Problem};
use utoipa::{IntoParams, ToSchema};

use super::page;
use crate::app::App;
use crate::domain::{Joining, MOST_MEMBERS, Member, Room, RoomMessage, RoomName};
use crate::error::Error;
use crate::names::PresentNames;
use crate::receipts;
use crate::socket::SentRoomMessage;
use crate::store::{JoinOutcome, RoomOutcome, WriteError};

/// Messages of a page, unless asked for otherwise, and the most.
const PAGE: u32 = 20;
const MOST: u32 = 100;

#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateRoom {
    /// 1 to 50 user-perceived characters and at most 2,000 bytes, without control characters.
    #[schema(example = "우리반")]
    name: String,
    /// Nicknames of the other members, separated by commas or given several times.
    #[serde(default, deserialize_with = "comma_list")]
    #[schema(example = json!(["달이", "해님"]))]
    members: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RoomShown {
    #[schema(example = "01890000-0000-7000-8000-000000000000")]
    room_id: String,
    #[schema(example = "우리반")]
    name: String,
    /// The present nickname; null of an account that has none.
    owner: Option<String>,
    /// Present nicknames, in the order in which they joined.
    members: Vec<String>,
    /// The number of the newest message; 0 if there is none.
    number: i64,
    /// Messages that the caller has not read, of those that `findRoomMessage` shows and that are not retracted; of the newest 1,000 of the room.
    unread: u64,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

async fn shown(app: &App, rooms: &[Room], caller: &Account) -> Result<Vec<RoomShown>, Error> {
    let people = rooms.iter().flat_map(|room| &room.members);
    let names = PresentNames::of_people(&*app.names, people.map(|member| member.account.clone())).await?;
    let blocked = app.directory.blocked_with(caller).await?;
    let unread = app.store.unread_in_rooms(caller, rooms, &blocked).await?;
    let shown = rooms.iter().map(|room| RoomShown {
        room_id: room.id.clone(),
        name: room.name.as_str().to_owned(),
        owner: room.owner().and_then(|owner| names.get(owner)).map(str::to_owned),
        members: room
            .members
            .iter()
            .filter_map(|member| names.get(&member.account))
            .map(str::to_owned)
            .collect(),
        number: room.last_number,
        unread: unread.get(&room.id).copied().unwrap_or_default(),
        created_at: room.created_at,
    });
    Ok(shown.collect())
}

async fn own(app: &App, room: &str, caller: &Caller) -> Result<Room, Error> {
    let room = app.store.room(room).await?;
    let own = room.filter(|room| room.member(&caller.account).is_some());
    own.ok_or(Error::Room)
}

/// Returns the account of a nickname, if the caller may write to it, and while requests are on without one.
async fn invited(app: &App, caller: &Caller, nickname: &str) -> Result<Account, Error> {
    let account = app.names.account_of(nickname).await?.ok_or(Error::Nickname)?;
    if app.directory.blocked(&caller.account, &account).await?
        || !app.protocol.requests.may_write(&caller.account, &account).await?
    {
        return Err(Error::Nickname);
    }
    Ok(account)
}

/// `at`: before the account was looked up.
fn joining<'a>(room: &'a str, account: &'a Account, caller: &'a Caller, at: Timestamp) -> Joining<'a> {
    Joining {
        room,
        account,
        by: &caller.account,
        authorized_at: caller.issued_at,
        at,
    }
}

/// Creates a room, which the caller owns
///
/// Of at most 100 people; an account is a member of at most 100 rooms. The members' sockets of version 2 get a `room`. While requests are on, the
/// caller adds only people to whom a message of the caller needs none.
#[utoipa::path(
    post,
    path = "/createRoom",
    tag = "room",
    request_body = CreateRoom,
    responses(
        (status = 200, body = RoomShown),
        (status = 400, body = Problem),
        (status = 404, description = "No account to which the caller may write has the nickname of a member", body = Problem),
        (status = 409, description = "The room has too many members, or the caller too many rooms", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn create_room(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<CreateRoom>,
) -> Result<Json<RoomShown>, Error> {
    let name = RoomName::new(&params.name).ok_or(Error::RoomName)?;
    if params.members.len() >= MOST_MEMBERS {
        return Err(Error::RoomFull);
    }
    let now = app.context.clock.now();
    let mut people = vec![caller.account.clone()];
    for nickname in &params.members {
        let account = invited(&app, &caller, nickname).await?;
        if !people.contains(&account) {
            people.push(account);
        }
    }
    let member = |account: &Account| Member {
        account: account.clone(),
        joined_at: now,
        joined_after: 0,
        read: 0,
    };
    let room = Room {
        id: app.protocol.ids.next().to_string(),
        name,
        creator: caller.account.clone(),
        created_at: now,
        // Those who have too many rooms are not added.
        members: vec![member(&caller.account)],
        last_number: 0,
    };
    match app.store.create_room(&room, caller.issued_at).await? {
        RoomOutcome::Created => {}
        RoomOutcome::TooMany => return Err(Error::TooManyRooms),
    }
    for account in people.iter().skip(1) {
        match app.store.join_room(&joining(&room.id, account, &caller, now)).await {
            // One who has resigned meanwhile is not added either.
            Ok(_) | Err(WriteError::ReceiverResigned) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let room = own(&app, &room.id, &caller).await?;
    tell(&app, &room, "created", &caller.account, None).await?;
    let shown = shown(&app, std::slice::from_ref(&room), &caller.account).await?;
    shown.into_iter().next().map(Json).ok_or(Error::Room)
}

/// Tells the members' devices of a change of a room.
async fn tell(
    app: &App,
    room: &Room,
    change: &'static str,
    by: &Account,
    member: Option<&Account>,
) -> Result<(), Error> {
    let people = [Some(by), member].into_iter().flatten().cloned();
    let names = PresentNames::of_people(&*app.names, people).await?;
    let name = |account: &Account| names.get(account).map(str::to_owned);
    let (actor, subject) = (name(by), member.and_then(name));
    let mut receivers: Vec<Account> = room.members.iter().map(|member| member.account.clone()).collect();
    receivers.extend(member.filter(|member| room.member(member).is_none()).cloned());
    app.protocol
        .unnumbered
        .room(&room.id, change, actor, subject, receivers)
        .await;
    Ok(())
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InviteRoom {
    /// Of a room that the caller owns.
    #[schema(example = "01890000-0000-7000-8000-000000000000")]
    room_id: String,
    /// The nickname of the new member.
    #[schema(example = "달이")]
    member: String,
}

/// Adds a member to a room that the caller owns
///
/// The member sees messages from then on. The members' sockets of version 2 get a `room`. A member who is there already changes nothing. While
/// requests are on, the caller adds only people to whom a message of the caller needs none.
#[utoipa::path(
    post,
    path = "/inviteRoom",
    tag = "room",
    request_body = InviteRoom,
    responses(
        (status = 200, body = RoomShown),
        (status = 400, body = Problem),
        (status = 404, description = "The caller owns no room with the id, or no account to which the caller may write has the nickname", body = Problem),
        (status = 409, description = "The room has 100 members, or the person 100 rooms", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn invite_room(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<InviteRoom>,
) -> Result<Json<RoomShown>, Error> {
    let room = own(&app, &params.room_id, &caller).await?;
    if room.owner() != Some(&caller.account) {
        return Err(Error::Room);
    }
    let now = app.context.clock.now();
    let account = invited(&app, &caller, &params.member).await?;
    let joined = app.store.join_room(&joining(&room.id, &account, &caller, now)).await?;
    match joined {
        JoinOutcome::Joined | JoinOutcome::Already => {}
        JoinOutcome::NoRoom => return Err(Error::Room),
        JoinOutcome::Full => return Err(Error::RoomFull),
    }
    let room = own(&app, &room.id, &caller).await?;
    if joined == JoinOutcome::Joined {
        tell(&app, &room, "joined", &caller.account, Some(&account)).await?;
    }
    let shown = shown(&app, std::slice::from_ref(&room), &caller.account).await?;
    shown.into_iter().next().map(Json).ok_or(Error::Room)
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeaveRoom {
    #[schema(example = "01890000-0000-7000-8000-000000000000")]
    room_id: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeftRoom {
    room_id: String,
}

/// Leaves a room
///
/// After its creator has left, the member who joined first owns it. A room without members is deleted with its messages. What the caller has
/// not read there is not pushed any more.
#[utoipa::path(
    post,
    path = "/leaveRoom",
    tag = "room",
    request_body = LeaveRoom,
    responses(
        (status = 200, body = LeftRoom),
        (status = 400, body = Problem),
        (status = 404, description = "The caller is in no room with the id", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn leave_room(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<LeaveRoom>,
) -> Result<Json<LeftRoom>, Error> {
    let mut room = own(&app, &params.room_id, &caller).await?;
    let event_of =
        |number: i64| receipts::room_read_event(&caller.account, caller.issued_at, &room.id, number, &app.context);
    let now = app.context.clock.now();
    if !app.store.leave_room(&room.id, &caller.account, now, &event_of).await? {
        return Err(Error::Room);
    }
    app.relay.wake();
    room.members.retain(|member| member.account != caller.account);
    tell(&app, &room, "left", &caller.account, Some(&caller.account)).await?;
    Ok(Json(LeftRoom { room_id: room.id }))
}

/// Lists the rooms of the caller, the oldest first
#[utoipa::path(
    get,
    path = "/rooms",
    tag = "room",
    responses((status = 200, body = [RoomShown]), (status = 503, body = Problem)),
)]
pub async fn rooms(State(app): State<App>, caller: Caller) -> Result<Json<Vec<RoomShown>>, Error> {
    let rooms = app.store.rooms_of(&caller.account).await?;
    Ok(Json(shown(&app, &rooms, &caller.account).await?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub struct FindRoomMessage {
    room_id: String,
    /// Messages with numbers below this one.
    #[serde(default)]
    before: Option<i64>,
    #[serde(default)]
    #[param(default = 20, minimum = 1, maximum = 100)]
    size: Option<u32>,
}

/// A message of a room with its id.
#[derive(Serialize, ToSchema)]
pub struct RoomMessageShown {
    #[schema(example = "01890000-0000-7000-8000-000000000000")]
    id: String,
    #[serde(flatten)]
    message: SentRoomMessage,
}

impl RoomMessageShown {
    pub fn new(message: &RoomMessage, names: &PresentNames) -> Self {
        Self {
            id: message.id.to_string(),
            message: SentRoomMessage::new(message, names),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundRoomMessages {
    /// Newest first, without those of people in a block with the caller.
    content: Vec<RoomMessageShown>,
    /// `before` of the next page; null on the last one.
    next_before: Option<i64>,
}

/// Pages backwards through the messages of a room since the caller joined it
#[utoipa::path(
    get,
    path = "/findRoomMessage",
    tag = "room",
    params(FindRoomMessage),
    responses(
        (status = 200, body = FoundRoomMessages),
        (status = 400, body = Problem),
        (status = 404, description = "The caller is in no room with the id", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn find_room_message(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<FindRoomMessage>,
) -> Result<Json<FoundRoomMessages>, Error> {
    let size = page::size(params.size, PAGE, MOST)?;
    let room = own(&app, &params.room_id, &caller).await?;
    let joined_after = room
        .member(&caller.account)
        .map_or(i64::MAX, |member| member.joined_after);
    let mut found = app.store.room_page(&room.id, joined_after, params.before, size).await?;
    let is_full = found.len() >= usize::try_from(size).unwrap_or(usize::MAX);
    let next_before = found.last().filter(|_| is_full).map(|last| last.number);
    let blocked = app.directory.blocked_with(&caller.account).await?;
    for message in &mut found {
        message.hide_reactions_of(&blocked);
    }
    let people = found.iter().flat_map(RoomMessage::people).cloned();
    let names = PresentNames::of_people(&*app.names, people).await?;
    let content = found
        .iter()
        .filter(|message| !blocked.contains(&message.sender.account))
        .map(|message| RoomMessageShown::new(message, &names));
    Ok(Json(FoundRoomMessages {
        content: content.collect(),
        next_before,
    }))
}
