//! Follows. Two accounts that follow each other are friends.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use sosohappy_access::{Act, Caller};
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_events::types::Relation;
use utoipa::ToSchema;

use super::block::{Pair, PeoplePage};
use crate::app::App;
use crate::domain::page::Page;
use crate::error::Error;
use crate::relations;
use crate::store::{Direction, RelatedPerson};

#[derive(Debug, Serialize, ToSchema)]
pub struct Followed {
    /// False when the nickname is unknown or the caller's own, or one of the two blocks the other: the answers do not differ.
    success: bool,
}

/// Follows a person, who gets a notice.
#[utoipa::path(
    post,
    path = "/follow",
    tag = "people",
    request_body = Pair,
    responses((status = 200, body = Followed), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem)),
)]
pub async fn follow(State(app): State<Arc<App>>, act: Act<Pair>) -> Result<Json<Followed>, Error> {
    let success = relations::set(&app, &act.caller.account, &act.params.dst_nickname, Relation::Follow).await?;
    Ok(Json(Followed { success }))
}

/// Ends following a person.
#[utoipa::path(
    post,
    path = "/unfollow",
    tag = "people",
    request_body = Pair,
    responses((status = 200, body = Followed), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem)),
)]
pub async fn unfollow(State(app): State<Arc<App>>, act: Act<Pair>) -> Result<Json<Followed>, Error> {
    let success = relations::set(&app, &act.caller.account, &act.params.dst_nickname, Relation::Unfollow).await?;
    Ok(Json(Followed { success }))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct FollowedPerson {
    nickname: String,
    /// Whether each follows the other.
    friend: bool,
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

impl From<RelatedPerson> for FollowedPerson {
    fn from(person: RelatedPerson) -> Self {
        Self {
            nickname: person.nickname,
            friend: person.friend,
            since: person.since,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FollowList {
    content: Vec<FollowedPerson>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

/// Lists the people that the caller follows, the newest first.
#[utoipa::path(
    get,
    path = "/findFollowing",
    tag = "people",
    params(PeoplePage),
    responses((status = 200, body = FollowList), (status = 400, body = Problem), (status = 503, body = Problem)),
)]
pub async fn find_following(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(asked): Params<PeoplePage>,
) -> Result<Json<FollowList>, Error> {
    list(&app, &caller, Direction::Following, asked.page()).await.map(Json)
}

/// Lists the followers of the caller, the newest first.
#[utoipa::path(
    get,
    path = "/findFollower",
    tag = "people",
    params(PeoplePage),
    responses((status = 200, body = FollowList), (status = 400, body = Problem), (status = 503, body = Problem)),
)]
pub async fn find_follower(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(asked): Params<PeoplePage>,
) -> Result<Json<FollowList>, Error> {
    list(&app, &caller, Direction::Followers, asked.page()).await.map(Json)
}

async fn list(app: &App, caller: &Caller, direction: Direction, page: Page) -> Result<FollowList, Error> {
    let mut people = app.store.follows_of(&caller.account, direction, page).await?;
    let next_cursor = page.cut(&mut people, |person| person.since);
    Ok(FollowList {
        content: people.into_iter().map(FollowedPerson::from).collect(),
        next_cursor,
    })
}
