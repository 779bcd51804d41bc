use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use sosohappy_common::http::{Params, Problem};
use utoipa::ToSchema;

use crate::app::{App, later};
use crate::domain::challenge::Challenge;
use crate::domain::code::Code;
use crate::error::Error;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GetAuthorizeCode {
    /// SHA-512 of the verifier in 64 to 128 hex digits, or with `S256` its SHA-256 in 43 characters of unpadded base64url.
    #[schema(min_length = 43, max_length = 128, pattern = "^[0-9A-Za-z_-]+$")]
    code_challenge: String,
    /// `SHA512` (also when left out or empty) or `S256` (RFC 7636).
    #[schema(pattern = "^(SHA512|S256)?$")]
    code_challenge_method: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizeCode {
    /// Good for one sign-in within ten minutes; up to 256 characters.
    authorize_code: String,
}

/// Issues a code for `signIn`, which only the maker of the challenge can use. Nothing is stored.
#[utoipa::path(
    post,
    path = "/getAuthorizeCode",
    tag = "session",
    request_body = GetAuthorizeCode,
    responses((status = 200, body = AuthorizeCode), (status = 400, body = Problem)),
)]
pub async fn get_authorize_code(
    State(app): State<Arc<App>>,
    Params(asked): Params<GetAuthorizeCode>,
) -> Result<Json<AuthorizeCode>, Error> {
    let method = asked
        .code_challenge_method
        .as_deref()
        .filter(|method| !method.is_empty());
    let challenge = Challenge::parse(&asked.code_challenge, method)?;
    let mut id = [0; 16];
    app.context.entropy.fill(&mut id);
    let code = Code {
        id,
        challenge,
        expires_at: later(app.now(), app.settings.get().sign_in.code_lifetime),
    };
    Ok(Json(AuthorizeCode {
        authorize_code: code.seal(&app.keyring),
    }))
}
