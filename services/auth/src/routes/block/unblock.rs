use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use sosohappy_access::Act;
use sosohappy_common::Problem;
use sosohappy_events::types::Relation;

use super::{Blocked, Pair, set};
use crate::app::App;
use crate::error::Error;

/// Lifts a block.
#[utoipa::path(
    post,
    path = "/unblock",
    tag = "block",
    request_body = Pair,
    responses((status = 200, body = Blocked), (status = 400, body = Problem), (status = 401, body = Problem)),
)]
pub async fn unblock(State(app): State<Arc<App>>, act: Act<Pair>) -> Result<Json<Blocked>, Error> {
    set(&app, &act.caller.account, &act.params.dst_nickname, Relation::Unblock)
        .await
        .map(Json)
}
