use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_access::Caller;
use sosohappy_common::Account;
use sosohappy_common::http::{Params, Problem};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::profile::Nickname;
use crate::error::Error;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CheckDuplicateNickname {
    #[param(min_length = 1, max_length = 100)]
    nickname: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// Only when the nickname is the caller's own: who else bears it is nobody's business.
    #[schema(value_type = Option<String>)]
    email: Option<Account>,
    is_present: bool,
}

/// Whether somebody bears this nickname.
#[utoipa::path(
    get,
    path = "/checkDuplicateNickname",
    tag = "profile",
    params(CheckDuplicateNickname),
    responses((status = 200, body = Presence), (status = 400, body = Problem)),
)]
pub async fn check_duplicate_nickname(
    State(app): State<Arc<App>>,
    caller: Caller,
    Params(asked): Params<CheckDuplicateNickname>,
) -> Result<Json<Presence>, Error> {
    let nickname = Nickname::try_from(asked.nickname)?;
    let bearer = app.store.person_named(&nickname).await?.map(|person| person.account);
    Ok(Json(Presence {
        is_present: bearer.is_some(),
        email: bearer.filter(|account| *account == caller.account),
    }))
}
