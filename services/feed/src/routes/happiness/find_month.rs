use axum::Json;
use axum::extract::State;
use sosohappy_access::Act;
use sosohappy_common::Problem;

use crate::app::App;
use crate::domain::MonthOf;
use crate::domain::happiness::{HappinessPoint, of_month};
use crate::error::Error;
use crate::routes::params::OwnMonth;

/// The happiness of every day of a month.
#[utoipa::path(
    post,
    path = "/findMonthHappiness",
    tag = "happiness",
    request_body = OwnMonth,
    responses((status = 200, body = Vec<HappinessPoint>), (status = 400, body = Problem))
)]
pub async fn find_month_happiness(
    State(app): State<App>,
    Act { caller, params }: Act<OwnMonth>,
) -> Result<Json<Vec<HappinessPoint>>, Error> {
    let MonthOf(month) = params.date;
    let days = app.store.happiness(&caller.account, month.into()).await?;
    Ok(Json(of_month(month, &days)))
}
