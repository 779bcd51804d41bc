//! What the config service answers when it cannot answer.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use sosohappy_common::Problem;

use crate::domain::cipher::CipherError;
use crate::domain::environment::UnknownLabel;
use crate::domain::query::InvalidQuery;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Query(#[from] InvalidQuery),
    #[error(transparent)]
    UnknownLabel(#[from] UnknownLabel),
    #[error("nothing is configured for this application")]
    NothingFound,
    #[error("no such file")]
    NoFile,
    #[error("no encryption key is set")]
    NoKey,
    #[error(transparent)]
    Cipher(#[from] CipherError),
    #[error("credentials are missing or wrong")]
    Unauthorized,
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        match error {
            Error::Query(invalid) => Problem::invalid_parameter(invalid.to_string()),
            Error::UnknownLabel(_) => Problem::not_found("unknown-label", "The source has no such label"),
            Error::NothingFound => Problem::not_found("no-configuration", "Nothing is configured for this application"),
            Error::NoFile => Problem::not_found("no-such-file", "The source has no such file"),
            Error::NoKey => Problem::not_found("no-key", "No encryption key is set"),
            Error::Cipher(_) => Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid-cipher",
                "The text is not a cipher text of this key",
            ),
            Error::Unauthorized => Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "Credentials are missing or wrong",
            ),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response = Problem::from(&self).into_response();
        if matches!(self, Self::Unauthorized) {
            let challenge = HeaderValue::from_static("Basic realm=\"config\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
