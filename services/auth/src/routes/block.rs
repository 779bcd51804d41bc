//! Blocks between accounts.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_access::{Act, Acting, Actor, Caller};
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use sosohappy_events::types::Relation;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::page::{Cursor, Page, PageSize};
use crate::error::Error;
use crate::relations;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pair {
    /// The caller's own nickname.
    src_nickname: String,
    pub(super) dst_nickname: String,
}

impl Actor for Pair {
    fn acting(&self) -> Acting<'_> {
        Acting::Nickname(&self.src_nickname)
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Blocked {
    /// False when the nickname is unknown or the caller's own.
    success: bool,
}

/// Blocks a person: neither sees or reaches the other any more, and neither follows the other.
#[utoipa::path(
    post,
    path = "/block",
    tag = "people",
    request_body = Pair,
    responses((status = 200, body = Blocked), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem)),
)]
pub async fn block(State(app): State<Arc<App>>, act: Act<Pair>) -> Result<Json<Blocked>, Error> {
    let success = relations::set(&app, &act.caller.account, &act.params.dst_nickname, Relation::Block).await?;
    Ok(Json(Blocked { success }))
}

/// Lifts a block. Follows that the block has ended stay ended.
#[utoipa::path(
    post,
    path = "/unblock",
    tag = "people",
    request_body = Pair,
    responses((status = 200, body = Blocked), (status = 400, body = Problem), (status = 401, body = Problem), (status = 503, body = Problem)),
)]
pub async fn unblock(State(app): State<Arc<App>>, act: Act<Pair>) -> Result<Json<Blocked>, Error> {
    let success = relations::set(&app, &act.caller.account, &act.params.dst_nickname, Relation::Unblock).await?;
    Ok(Json(Blocked { success }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PeoplePage {
    /// `start`, or what the last answer gave as `nextCursor`; the first page when it is left out.
    #[param(value_type = Option<String>, pattern = "^(start|[0-9]+)$", example = "start")]
    cursor: Option<Cursor>,
    #[serde(default)]
    #[param(inline, required = false)]
    size: PageSize,
}

impl PeoplePage {
    pub(super) fn page(&self) -> Page {
        Page::new(self.cursor, self.size)
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct BlockedPerson {
    nickname: String,
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockList {
    content: Vec<BlockedPerson>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

/// Lists the accounts that the caller blocks, the newest block first. Accounts that block the caller are not shown.
#[utoipa::path(
    get,
    path = "/blockList",
    tag = "people",
    params(PeoplePage),
    responses((status = 200, body = BlockList), (status = 400, body = Problem), (status = 503, body = Problem)),
)]
pub async fn list_blocks(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(asked): Params<PeoplePage>,
) -> Result<Json<BlockList>, Error> {
    let page = asked.page();
    let mut people = app.store.blocked_by(&caller.account, page).await?;
    let next_cursor = page.cut(&mut people, |person| person.since);
    let blocked = people.into_iter().map(|person| BlockedPerson {
        nickname: person.nickname,
        since: person.since,
    });
    Ok(Json(BlockList {
        content: blocked.collect(),
        next_cursor,
    }))
}
