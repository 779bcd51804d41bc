//! For the other services of the fleet, with the service credential.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use sosohappy_access::introspection::{
    IntrospectRequest, IntrospectResponse, LookupRequest, LookupResponse, MutedWordsRequest, MutedWordsResponse,
};
use sosohappy_common::http::{Params, Problem};
use sosohappy_events::types::TokenDigest;

use super::muted_words::listed;
use crate::app::App;
use crate::authenticate::live_token;
use crate::error::Error;

/// Returns whether a token is active and belongs to this account, for a service whose registry does not know it yet.
#[utoipa::path(
    post,
    path = "/introspect",
    tag = "fleet",
    request_body = IntrospectRequest,
    responses((status = 200, body = IntrospectResponse), (status = 400, body = Problem), (status = 401, body = Problem)),
)]
pub async fn introspect(
    State(app): State<Arc<App>>,
    Params(request): Params<IntrospectRequest>,
) -> Result<Json<IntrospectResponse>, Error> {
    let account = request.account.parse()?;
    let digest: TokenDigest = request
        .token_digest
        .parse()
        .map_err(|_| Error::InvalidParameter("tokenDigest: sha256:<64 hex digits>"))?;
    let token = live_token(&app, &account, &digest).await?;
    Ok(Json(IntrospectResponse {
        active: token.is_some(),
        session: token.as_ref().map(|token| token.session.to_string()),
        issued_at: token.as_ref().map(|token| token.issued_at.as_millisecond()),
        expires_at: token.as_ref().map(|token| token.expires_at.as_millisecond()),
        role: token.map(|token| token.role.to_string()),
    }))
}

/// Returns the account of a nickname, or the nickname of an account; both null when there is no such person. With `other`, returns also whether one
/// of the two accounts blocks the other.
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
    let is_blocked = match (&person, request.other) {
        (Some(person), Some(other)) => Some(app.store.is_blocked(&person.account, &other.parse()?).await?),
        _ => None,
    };
    Ok(Json(LookupResponse {
        account: person.as_ref().map(|person| person.account.as_str().to_owned()),
        nickname: person.as_ref().map(|person| person.nickname.as_str().to_owned()),
        introduction: person
            .map(|person| person.introduction.as_str().to_owned())
            .filter(|introduction| !introduction.is_empty()),
        is_blocked,
    }))
}

/// Returns the muted words of an account that have not expired, for services that show or push texts to it; none for an unknown account.
#[utoipa::path(
    post,
    path = "/mutedWordsOf",
    tag = "fleet",
    request_body = MutedWordsRequest,
    responses((status = 200, body = MutedWordsResponse), (status = 400, body = Problem), (status = 401, body = Problem)),
)]
pub async fn muted_words_of(
    State(app): State<Arc<App>>,
    Params(request): Params<MutedWordsRequest>,
) -> Result<Json<MutedWordsResponse>, Error> {
    let words = app.store.muted_words(&request.account.parse()?).await?;
    Ok(Json(listed(words, app.now())))
}
