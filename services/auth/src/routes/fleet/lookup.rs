use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use sosohappy_access::introspection::{LookupRequest, LookupResponse};
use sosohappy_common::http::{Params, Problem};

use crate::app::App;
use crate::error::Error;

/// The account behind a nickname, or the nickname of an account; both null when there is no such person.
#[utoipa::path(
    post,
    path = "/lookup",
    tag = "fleet",
    request_body = LookupRequest,
    responses((status = 200, body = LookupResponse), (status = 400, body = Problem), (status = 401, body = Problem)),
)]
pub async fn lookup(
    State(app): State<Arc<App>>,
    Params(request): Params<LookupRequest>,
) -> Result<Json<LookupResponse>, Error> {
    let person = match (request.nickname, request.account) {
        (Some(nickname), None) => app.bearer_of(&nickname).await?,
        (None, Some(account)) => app.store.person(&account.parse()?).await?,
        _ => return Err(Error::InvalidParameter("either nickname or account")),
    };
    Ok(Json(LookupResponse {
        account: person.as_ref().map(|person| person.account.as_str().to_owned()),
        nickname: person.map(|person| person.nickname.as_str().to_owned()),
    }))
}
