//! Requests: messages of people whom the caller does not follow, or who do not follow the caller, wait until they are accepted.

use axum::Json;
use axum::extract::State;
use futures::StreamExt as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::{IntoParams, ToSchema};

use super::page;
use super::receipt::Preview;
use crate::app::App;
use crate::domain::{Request, RequestState};
use crate::error::Error;
use crate::names::PresentNames;
use crate::store::Range;

/// Requests of a page, unless asked for otherwise, and the most.
const PAGE: u32 = 20;
const MOST: u32 = 50;
/// Profiles that are fetched at the same time.
const AT_ONCE: usize = 8;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FindRequest {
    /// `start`, or the `nextCursor` of the last answer.
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    #[param(default = 20, minimum = 1, maximum = 50)]
    size: Option<u32>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundRequests {
    /// Newest first.
    content: Vec<WaitingRequest>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

/// The person who asks.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Asker {
    #[schema(example = "별이")]
    nickname: String,
    /// Null where it is unknown.
    introduction: Option<String>,
    /// Whether auth has just answered the profile; false of one as it was last known.
    is_live: bool,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingRequest {
    /// For `acceptRequest` and `refuseRequest`.
    #[schema(example = "01890000-0000-7000-8000-000000000000")]
    id: String,
    asker: Asker,
    #[schema(value_type = String, format = DateTime)]
    asked_at: Timestamp,
    /// The newest message that waits; its text may be cut.
    message: Preview,
}

/// Lists the requests that wait for the caller's decision, with the present profile of each asker
///
/// While auth is unavailable a profile is the one that was last known.
#[utoipa::path(
    get,
    path = "/findRequest",
    tag = "request",
    params(FindRequest),
    responses(
        (status = 200, body = FoundRequests),
        (status = 400, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn find_request(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<FindRequest>,
) -> Result<Json<FoundRequests>, Error> {
    let size = page::size(params.size, PAGE, MOST)?;
    let before = page::position(params.cursor.as_deref())?;
    let found = app.store.requests_to(&caller.account, before.as_ref(), size).await?;
    let is_full = found.len() >= usize::try_from(size).unwrap_or(usize::MAX);
    let next_cursor = found.last().filter(|_| is_full).map(|last| last.id.clone());
    let mut content = Vec::with_capacity(found.len());
    let mut waiting = futures::stream::iter(found)
        .map(|request| waiting(&app, request))
        .buffered(AT_ONCE);
    while let Some(request) = waiting.next().await {
        content.extend(request?);
    }
    Ok(Json(FoundRequests { content, next_cursor }))
}

/// Returns `None` for a request without a message, or across a block.
async fn waiting(app: &App, request: Request) -> Result<Option<WaitingRequest>, Error> {
    let (asker, receiver) = (&request.asker.account, &request.receiver.account);
    if app.directory.blocked(asker, receiver).await? {
        return Ok(None);
    }
    let any = Range::default();
    let newest = app.store.newest_within(&request.conversation(), asker, &any, 1).await?;
    let Some(newest) = newest.first() else { return Ok(None) };
    let names = PresentNames::of(&*app.names, std::iter::once(&newest.message)).await?;
    Ok(Some(WaitingRequest {
        message: Preview::new(newest, &names),
        asker: profile(app, &request).await,
        asked_at: request.asked_at,
        id: request.id,
    }))
}

/// Returns the profile that auth answers, and remembers it; the one that was last known if auth does not answer in time.
async fn profile(app: &App, request: &Request) -> Asker {
    let account = &request.asker.account;
    let Ok(Some(profile)) = app.names.profile_of(account).await else {
        // Also where auth is Spring, which answers none.
        let present = app.names.nicknames_of(std::slice::from_ref(account)).await;
        let present = present.ok().and_then(|names| names.into_iter().flatten().next());
        return Asker {
            nickname: present.unwrap_or_else(|| request.asker.nickname.clone()),
            introduction: request.introduction.clone(),
            is_live: false,
        };
    };
    let is_known = profile.nickname == request.asker.nickname && profile.introduction == request.introduction;
    if !is_known {
        let introduction = profile.introduction.as_deref();
        let remembered = app
            .store
            .set_introduction(&request.conversation(), &profile.nickname, introduction)
            .await;
        if let Err(error) = remembered {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "storing asker's profile failed"
            );
        }
    }
    Asker {
        nickname: profile.nickname,
        introduction: profile.introduction,
        is_live: true,
    }
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct DecideRequest {
    /// Of a request to the caller.
    #[schema(example = "01890000-0000-7000-8000-000000000000")]
    id: String,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum DecidedState {
    Accepted,
    Refused,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DecidedRequest {
    id: String,
    state: DecidedState,
    /// False if it was in that state already.
    changed: bool,
}

/// Accepts a request: its messages are delivered, and later ones are without a request
///
/// Also one that was refused. The asker gets a notice `request`.
#[utoipa::path(
    post,
    path = "/acceptRequest",
    tag = "request",
    request_body = DecideRequest,
    responses(
        (status = 200, body = DecidedRequest),
        (status = 400, body = Problem),
        (status = 404, description = "The caller has no request with the id", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn accept_request(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<DecideRequest>,
) -> Result<Json<DecidedRequest>, Error> {
    decide(&app, &caller, params.id, true).await
}

/// Refuses a request: its messages stay with the asker, who cannot send more until the caller writes
///
/// The asker gets a notice `request`.
#[utoipa::path(
    post,
    path = "/refuseRequest",
    tag = "request",
    request_body = DecideRequest,
    responses(
        (status = 200, body = DecidedRequest),
        (status = 400, body = Problem),
        (status = 404, description = "The caller has no request with the id", body = Problem),
        (status = 409, description = "The request was accepted", body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn refuse_request(
    State(app): State<App>,
    caller: Caller,
    Params(params): Params<DecideRequest>,
) -> Result<Json<DecidedRequest>, Error> {
    decide(&app, &caller, params.id, false).await
}

async fn decide(app: &App, caller: &Caller, id: String, accepted: bool) -> Result<Json<DecidedRequest>, Error> {
    let request = app.store.request_with_id(&id).await?;
    let is_open = |request: &Request| {
        // A replica of a later release decides about the others.
        request.receiver.account == caller.account && request.state != RequestState::Unknown
    };
    let request = request.filter(is_open).ok_or(Error::Request)?;
    if accepted && app.directory.blocked(&caller.account, &request.asker.account).await? {
        return Err(Error::Request);
    }
    let requests = &app.protocol.requests;
    let changed = requests.decide(&request, accepted, caller.issued_at).await?;
    let state = if accepted {
        DecidedState::Accepted
    } else {
        DecidedState::Refused
    };
    if !changed && !accepted {
        let present = app.store.request_with_id(&id).await?;
        if present.is_some_and(|request| request.state == RequestState::Accepted) {
            return Err(Error::RequestAccepted);
        }
    }
    Ok(Json(DecidedRequest { id, state, changed }))
}
