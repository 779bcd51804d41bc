//! Reported messages, for moderators.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::Moderator;
use sosohappy_common::Problem;
use sosohappy_common::http::Params;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::error::Error;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FindReported {
    /// The number of the report, from auth's `admin/reports`.
    report: i64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct Reported {
    /// As it was when it was reported.
    text: String,
    /// As the sender's phone had it.
    #[schema(example = 2_023_090_513_248_392_i64)]
    date: i64,
}

/// Shows the message of an open report
///
/// 404 when the reporter did not receive the message, or has joined its room after it or left it before, it was retracted before, the report is decided, or author or
/// reporter has resigned. For moderators.
#[utoipa::path(
    get,
    path = "/admin/reportedContent",
    tag = "moderation",
    params(FindReported),
    responses(
        (status = 200, body = Reported),
        (status = 400, body = Problem),
        (status = 404, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub async fn find_reported_content(
    State(app): State<App>,
    _moderator: Moderator,
    Params(asked): Params<FindReported>,
) -> Result<Json<Reported>, Error> {
    let reported = app.store.reported(asked.report).await?.ok_or(Error::NoSuchReport)?;
    Ok(Json(Reported {
        text: reported.text,
        date: reported.date,
    }))
}
