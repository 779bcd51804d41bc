//! Every URL of the tally service.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_common::Problem;
use sosohappy_common::http::{Class, Params};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::posts::Posts;

/// The state that the handlers share.
#[derive(Debug, Clone)]
pub struct App {
    pub posts: Posts,
}

pub fn routes(app: App) -> OpenApiRouter {
    let open = OpenApiRouter::new().routes(Class::Read.of(routes!(today_count)));
    OpenApiRouter::new().nest("/tally-service", open).with_state(app)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TodayCount {
    /// Today on the caller's calendar, `yyyyMMdd`.
    #[param(example = 20_230_905)]
    day: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DayCounted {
    /// Posts of that day, of everybody.
    count: usize,
}

/// Returns how many posts of today there are. Needs no token: a count names no person.
#[utoipa::path(
    get,
    path = "/todayCount",
    tag = "tally",
    params(TodayCount),
    responses((status = 200, body = DayCounted), (status = 400, body = Problem))
)]
pub async fn today_count(
    State(app): State<App>,
    Params(TodayCount { day }): Params<TodayCount>,
) -> Result<Json<DayCounted>, Problem> {
    let count = app.posts.count(day);
    let count = count.ok_or_else(|| Problem::invalid_parameter("day: it is today nowhere"))?;
    Ok(Json(DayCounted { count }))
}
