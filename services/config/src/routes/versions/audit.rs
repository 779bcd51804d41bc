use axum::Json;
use axum::extract::{Query as UrlQuery, State};
use sosohappy_common::Problem;

use super::history::NewestParameters;
use crate::App;
use crate::credentials::Operator;
use crate::error::Error;
use crate::state::record::Entry;

/// Who did what when, newest first.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "versions",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(NewestParameters),
    responses((status = 200, body = Vec<Entry>), (status = 401, body = Problem))
)]
pub async fn show_audit(
    _: Operator,
    State(app): State<App>,
    UrlQuery(parameters): UrlQuery<NewestParameters>,
) -> Result<Json<Vec<Entry>>, Error> {
    app.entries(parameters.most(), |_| true).await.map(Json)
}
