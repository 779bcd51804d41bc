//! Who may read configuration, and who may encrypt: as Bearer or as the password of Basic, as Spring clients send it.

use axum::extract::{FromRef, FromRequestParts};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header;
use http::request::Parts;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::App;
use crate::error::Error;

/// A service of the fleet, or an operator.
#[derive(Debug, Clone, Copy)]
pub struct Reader;

/// An operator.
#[derive(Debug, Clone, Copy)]
pub struct Operator;

impl<S: Send + Sync> FromRequestParts<S> for Reader
where
    App: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let credentials = &App::from_ref(state).settings.get().credentials;
        let shown = shown(parts).ok_or(Error::Unauthorized)?;
        let known = same(&shown, &credentials.service_token) | same(&shown, &credentials.operator_token);
        if known { Ok(Self) } else { Err(Error::Unauthorized) }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Operator
where
    App: FromRef<S>,
{
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let credentials = &App::from_ref(state).settings.get().credentials;
        let shown = shown(parts).ok_or(Error::Unauthorized)?;
        if same(&shown, &credentials.operator_token) {
            Ok(Self)
        } else {
            Err(Error::Unauthorized)
        }
    }
}

/// The secret a request shows.
fn shown(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(_, password)| password.to_owned())
}

fn same(shown: &str, secret: &SecretString) -> bool {
    shown.as_bytes().ct_eq(secret.expose_secret().as_bytes()).into()
}
