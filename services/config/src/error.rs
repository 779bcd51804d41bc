//! What the config service answers when it cannot answer.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use sosohappy_common::Problem;

use crate::domain::cipher::CipherError;
use crate::domain::placeholders::Unresolvable;
use crate::domain::query::InvalidQuery;
use crate::domain::webhook::Unverified;
use crate::routes::NotAText;
use crate::source::{CanaryError, ViewError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Query(#[from] InvalidQuery),
    #[error(transparent)]
    View(#[from] ViewError),
    #[error("nothing is configured for this application")]
    NothingFound,
    #[error("no such file")]
    NoFile,
    #[error(transparent)]
    Placeholders(#[from] Unresolvable),
    #[error("no encryption key is set")]
    NoKey,
    #[error(transparent)]
    Cipher(#[from] CipherError),
    #[error("credentials are missing or wrong")]
    Unauthorized,
    #[error("the configuration of another application")]
    NotYourApplication,
    #[error(transparent)]
    Unverified(#[from] Unverified),
    #[error("the body is not what a webhook sends")]
    NotAWebhook,
    #[error(transparent)]
    Canary(#[from] CanaryError),
    #[error(transparent)]
    NotAText(#[from] NotAText),
    #[error("{0}")]
    Parameter(String),
    #[error("no such version")]
    NoVersion,
    #[error("the version is not one to serve: {0}")]
    BadVersion(String),
    /// What has to be kept on disk or read from there.
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
            // 500 is what Spring's server answers, and its client tries again on.
            Error::View(ViewError::NotYet | ViewError::Refused { .. } | ViewError::Clone(_)) => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "source-unavailable",
                "The source cannot be served from",
            ),
            Error::NothingFound => Problem::not_found("no-configuration", "No configuration for this application"),
            Error::NoFile => Problem::not_found("no-such-file", "File not found"),
            // The client can do nothing about it, and neither can a second try: 500 would make it try.
            Error::Placeholders(unresolvable) => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "unresolvable-placeholders",
                "Placeholders cannot be resolved",
            )
            .detail(unresolvable.to_string()),
            Error::NoKey | Error::Cipher(CipherError::NoKey) => {
                Problem::not_found("no-key", "Encryption key not found")
            }
            Error::Cipher(CipherError::NotOurs | CipherError::Salt) => Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid-cipher",
                "Not a ciphertext of this key",
            ),
            Error::Unauthorized => Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "Credentials are missing or wrong",
            ),
            Error::NotYourApplication => Problem::new(
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
            Error::NotAWebhook => Problem::invalid_parameter("the body is not what a webhook sends"),
            Error::Canary(
                reason @ (CanaryError::Running
                | CanaryError::NotRunning
                | CanaryError::Refused
                | CanaryError::NoInstance),
            ) => Problem::new(StatusCode::CONFLICT, "canary", "Canary not possible now").detail(reason.to_string()),
            Error::NotAText(reason) => Problem::invalid_parameter(reason.to_string()),
            Error::Parameter(what) => Problem::invalid_parameter(what.clone()),
            Error::NoVersion => Problem::not_found("no-such-version", "Version not found"),
            Error::BadVersion(why) => Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "bad-version",
                "Configuration version invalid",
            )
            .detail(why.clone()),
            Error::State(_) | Error::Canary(CanaryError::State(_)) => Problem::internal(),
            Error::Bus(_) | Error::Canary(CanaryError::Away | CanaryError::NotYet) => Problem::unavailable(),
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
