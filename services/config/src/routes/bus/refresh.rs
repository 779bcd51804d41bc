use axum::extract::{Path, State};
use http::StatusCode;
use sosohappy_common::Problem;

use crate::App;
use crate::credentials::Operator;
use crate::error::Error;
use crate::state::record::{Action, Entry};

/// Tells everyone to read their settings again.
#[utoipa::path(
    post,
    path = "/actuator/busrefresh",
    tag = "bus",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    responses((status = 204, description = "published"), (status = 401, body = Problem), (status = 503, body = Problem))
)]
pub async fn refresh_all(operator: Operator, State(app): State<App>) -> Result<StatusCode, Error> {
    refresh(&app, &operator, "**").await
}

/// Tells one destination, `feed-service/8891` for `feed-service:8891:**`.
#[utoipa::path(
    post,
    path = "/actuator/busrefresh/{*destination}",
    tag = "bus",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(("destination" = String, Path)),
    responses((status = 204, description = "published"), (status = 401, body = Problem), (status = 503, body = Problem))
)]
pub async fn refresh_some(
    operator: Operator,
    State(app): State<App>,
    Path(destination): Path<String>,
) -> Result<StatusCode, Error> {
    refresh(&app, &operator, &destination.replace('/', ":")).await
}

async fn refresh(app: &App, operator: &Operator, destination: &str) -> Result<StatusCode, Error> {
    let entry = Entry::new(app.context.clock.now(), &operator.name, Action::BusRefresh).detail(destination);
    app.record(entry).await?;
    app.announcer.refresh([destination]).await?;
    Ok(StatusCode::NO_CONTENT)
}
