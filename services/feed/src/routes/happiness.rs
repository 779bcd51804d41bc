//! Statistics of a person's happiness.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sosohappy_access::{Act, Caller};
use sosohappy_common::Problem;
use utoipa::ToSchema;

use crate::app::{App, writer};
use crate::domain::companions::recommend;
use crate::domain::happiness::{HappinessPoint, best_categories, of_month, of_year};
use crate::domain::phrases::NOTHING_KNOWN;
use crate::domain::review::{Streaks, YearReview};
use crate::domain::{Day, Days, MonthOf};
use crate::error::Error;
use crate::routes::params::{Own, OwnMonth, OwnYear};

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    #[schema(max_items = 3, example = json!(["coffee"]))]
    best_category_list: Vec<String>,
    #[schema(max_items = 10, example = json!(["커피 한잔 마시고 책 읽기"]))]
    recommend_category_list: Vec<String>,
}

/// Returns a month's best categories, with recommendations. For the same best categories these stay the same until the day ends in Korea (UTC+9),
/// whatever others write meanwhile.
#[utoipa::path(
    post,
    path = "/analysisHappiness",
    tag = "happiness",
    request_body = OwnMonth,
    responses((status = 200, body = Analysis), (status = 400, body = Problem))
)]
pub async fn analysis_happiness(
    State(app): State<App>,
    Act { caller, params }: Act<OwnMonth>,
) -> Result<Json<Analysis>, Error> {
    let MonthOf(month) = params.date;
    let best = best_categories(&app.store.of_posts(&caller.account, month.into()).await?);
    let recommend_category_list = recommendations(&app, caller, &best).await?;
    Ok(Json(Analysis {
        best_category_list: best,
        recommend_category_list,
    }))
}

/// Returns the recommendations that the caller was shown before on this day for these categories, or else new ones.
async fn recommendations(app: &App, caller: Caller, best: &[String]) -> Result<Vec<String>, Error> {
    let today = Day::in_korea(app.now());
    if let Some(shown) = app.store.recommended(&caller.account, today, best).await? {
        return Ok(shown);
    }
    let known = recommend(best, app.store.companions(best).await?, &app.phrases);
    // Not kept: once something is known, it is shown.
    if known.is_empty() {
        return Ok(vec![NOTHING_KNOWN.to_owned()]);
    }
    let kept = app.store.keep_recommended(&writer(caller), today, best, &known).await?;
    Ok(kept)
}

/// Returns the happiness of every day of a month.
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

/// Returns the average happiness of every month of a year.
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

/// Returns a review of a year, with the numbers that it is based on. Takes any date of the year.
#[utoipa::path(
    get,
    path = "/yearReview",
    tag = "happiness",
    params(OwnYear),
    responses((status = 200, body = YearReview), (status = 400, body = Problem))
)]
pub async fn year_review(
    State(app): State<App>,
    Act { caller, params }: Act<OwnYear>,
) -> Result<Json<YearReview>, Error> {
    let posts = app.store.reviewed(&caller.account, params.date.into()).await?;
    Ok(Json(YearReview::of(&posts)))
}

/// Returns the current and the longest number of days in a row on which the caller has written.
#[utoipa::path(
    get,
    path = "/findStreak",
    tag = "happiness",
    params(Own),
    responses((status = 200, body = Streaks), (status = 400, body = Problem))
)]
pub async fn find_streak(State(app): State<App>, Act { caller, .. }: Act<Own>) -> Result<Json<Streaks>, Error> {
    let days = app.store.happiness(&caller.account, Days::ALL).await?;
    let days = days.into_iter().map(|(day, _)| day);
    Ok(Json(Streaks::of(days, Day::last_yesterday(app.now()))))
}
