use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::IntoParams;

use crate::App;
use crate::credentials::Operator;
use crate::error::Error;
use crate::state::record::{Action, Entry};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NewestParameters {
    /// How many, 100 unless told; at most 1,000.
    #[serde(default = "hundred")]
    pub limit: usize,
}

fn hundred() -> usize {
    100
}

impl NewestParameters {
    pub fn most(&self) -> usize {
        self.limit.clamp(1, 1_000)
    }
}

/// Returns the versions that were published or refused, newest first.
#[utoipa::path(
    get,
    path = "/history",
    tag = "versions",
    security(("operatorToken" = []), ("operatorBasic" = [])),
    params(NewestParameters),
    responses((status = 200, body = Vec<Entry>), (status = 401, body = Problem))
)]
pub async fn show_history(
    _: Operator,
    State(app): State<App>,
    Params(parameters): Params<NewestParameters>,
) -> Result<Json<Vec<Entry>>, Error> {
    let is_history = |entry: &Entry| Action::is_history(entry.action);
    app.entries(parameters.most(), is_history).await.map(Json)
}
