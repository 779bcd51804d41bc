use std::sync::Arc;

use axum::extract::State;
use http::{HeaderMap, HeaderName};
use sosohappy_common::{Account, Problem};

use super::{EMAIL, REFRESH, TokenHeaders};
use crate::app::App;
use crate::error::Error;
use crate::sessions;

/// Fresh tokens for a refresh token, which is replaced. Shown again within the grace it gives the same successor (the answer was
/// lost); shown later it closes the session.
#[utoipa::path(
    get,
    path = "/reIssueToken",
    tag = "session",
    params(
        ("email" = String, Header, description = "The account, `email+provider`"),
        ("authorization-refresh" = String, Header, description = "`Bearer <refresh token>`"),
    ),
    responses(
        (status = 200, headers(
            ("authorization" = String, description = "`Bearer <access token>`"),
            ("authorization-refresh" = String, description = "`Bearer <refresh token>`"),
            ("email" = String, description = "The account"),
        )),
        (status = 403, body = Problem),
    ),
)]
pub async fn reissue_token(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<TokenHeaders, Error> {
    let account = text(&headers, &EMAIL).and_then(|email| email.parse::<Account>().ok());
    let refresh = text(&headers, &REFRESH).and_then(bearer);
    let (Some(account), Some(refresh)) = (account, refresh) else {
        return Err(Error::RefreshRefused);
    };
    sessions::renew(&app, &account, refresh).await.map(TokenHeaders)
}

/// An address may hold more than ASCII, so the bytes are read as UTF-8.
fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    std::str::from_utf8(headers.get(name)?.as_bytes()).ok()
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
