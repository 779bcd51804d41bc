use axum::Json;
use axum::extract::State;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;

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
    Params(parameters): Params<NewestParameters>,
) -> Result<Json<Vec<Entry>>, Error> {
    app.entries(parameters.most(), |_| true).await.map(Json)
}
