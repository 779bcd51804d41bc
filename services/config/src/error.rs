//! The errors of the config service and their problem responses.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use sosohappy_common::Problem;

use crate::domain::cipher::CipherError;
use crate::domain::placeholders::Unresolvable;
use crate::domain::query::InvalidQuery;
use crate::domain::webhook::Unverified;
use crate::source::{CanaryError, ViewError};

/// Errors of a body that is not a text to encrypt or decrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    #[error(
        "ambiguous form body; send the text itself: printf %s \"$SECRET\" | curl --data-binary @- -H 'Content-Type: \
         text/plain' …"
    )]
    Ambiguous,
    #[error(
        "the body is empty: curl --data-binary @- -H 'Content-Type: text/plain' … reads the text from standard input"
    )]
    Empty,
    #[error("the body is not valid in its declared character set (UTF-8 by default)")]
    Charset,
    #[error("text/plain is expected: curl --data-binary @- -H 'Content-Type: text/plain' …")]
    Type,
    #[error("a text of at most {0} bytes is expected")]
    Long(usize),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Query(#[from] InvalidQuery),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("no configuration for this application")]
    NothingFound,
    #[error("file not found")]
    NoFile,
    #[error(transparent)]
    Placeholders(#[from] Unresolvable),
    #[error("no encryption key is set")]
    NoKey,
    #[error(transparent)]
    Cipher(#[from] CipherError),
    #[error("credentials are missing or wrong")]
    Unauthorized,
    #[error("credential not valid for this application")]
    OtherApplication,
    #[error(transparent)]
    Unverified(#[from] Unverified),
    #[error("the body is not a webhook")]
    InvalidWebhook,
    #[error(transparent)]
    Canary(#[from] CanaryError),
    #[error(transparent)]
    InvalidText(#[from] InvalidText),
    #[error("{0}")]
    Parameter(String),
    #[error("version not found")]
    NoVersion,
    #[error("configuration version invalid: {0}")]
    BadVersion(String),
    /// Reading or writing a file in `state.folder` failed.
    #[error("state: {0}")]
    State(String),
    #[error("the bus: {0}")]
    Bus(#[from] sosohappy_bus::BusError),
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        match error {
            Error::Query(invalid) => Problem::invalid_parameter(invalid.to_string()),
            Error::View(ViewError::UnknownLabel(_)) => Problem::not_found("unknown-label", "Label not found"),
            // 500 as Spring's server responds: its client retries on it.
            Error::View(ViewError::NothingServed | ViewError::Refused { .. } | ViewError::Clone(_)) => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "source-unavailable",
                "Configuration source unavailable",
            ),
            Error::NothingFound => Problem::not_found("no-configuration", "No configuration for this application"),
            Error::NoFile => Problem::not_found("no-such-file", "File not found"),
            // Not 500, on which a Spring client retries: the response would be the same.
            Error::Placeholders(unresolvable) => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unresolvable-placeholders",
                "Placeholders cannot be resolved",
            )
            .detail(unresolvable.to_string()),
            Error::NoKey | Error::Cipher(CipherError::NoKey) => {
                Problem::not_found("no-key", "Encryption key not found")
            }
            Error::Cipher(CipherError::InvalidCiphertext | CipherError::Salt) => Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid-cipher",
                "Ciphertext invalid for this key",
            ),
            Error::Unauthorized => Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "Credentials are missing or wrong",
            ),
            Error::OtherApplication => Problem::new(
                StatusCode::FORBIDDEN,
                "not-your-application",
                "Credential not valid for this application",
            ),
            Error::Unverified(unverified) => Problem::new(
                StatusCode::FORBIDDEN,
                "webhook-not-verified",
                "Webhook signature missing or invalid",
            )
            .detail(unverified.to_string()),
            Error::InvalidWebhook => Problem::invalid_parameter("the body is not a webhook"),
            Error::Canary(
                reason @ (CanaryError::Running
                | CanaryError::NotRunning
                | CanaryError::Refused
                | CanaryError::NoInstance),
            ) => Problem::new(StatusCode::CONFLICT, "canary", "Canary conflict").detail(reason.to_string()),
            Error::InvalidText(reason) => Problem::invalid_parameter(reason.to_string()),
            Error::Parameter(reason) => Problem::invalid_parameter(reason.clone()),
            Error::NoVersion => Problem::not_found("no-such-version", "Version not found"),
            Error::BadVersion(reason) => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad-version",
                "Configuration version invalid",
            )
            .detail(reason.clone()),
            Error::State(_) | Error::Canary(CanaryError::State(_)) => Problem::internal(),
            Error::Bus(_) | Error::Canary(CanaryError::Unavailable | CanaryError::NothingServed) => {
                Problem::unavailable()
            }
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let problem = Problem::from(&self);
        if problem.status().is_server_error() {
            tracing::error!(error = %self, "request failed");
        }
        let mut response = problem.into_response();
        if matches!(self, Self::Unauthorized) {
            let challenge = HeaderValue::from_static("Basic realm=\"config\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
