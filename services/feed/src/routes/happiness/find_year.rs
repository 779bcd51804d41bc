use axum::Json;
use axum::extract::State;
use sosohappy_access::Act;
use sosohappy_common::Problem;

use crate::app::App;
use crate::domain::happiness::{HappinessPoint, of_year};
use crate::error::Error;
use crate::routes::params::OwnYear;

/// The average happiness of every month of a year.
#[utoipa::path(
    post,
    path = "/findYearHappiness",
    tag = "happiness",
    request_body = OwnYear,
    responses((status = 200, body = Vec<HappinessPoint>), (status = 400, body = Problem))
)]
pub async fn find_year_happiness(
    State(app): State<App>,
    Act { caller, params }: Act<OwnYear>,
) -> Result<Json<Vec<HappinessPoint>>, Error> {
    let days = app.store.happiness(&caller.account, params.date.into()).await?;
    Ok(Json(of_year(&days)))
}
