//! The errors of notice's routes and their problems.

use axum::response::{IntoResponse, Response};
use sosohappy_access::Denied;
use sosohappy_common::Problem;
use sosohappy_store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Names(#[from] Denied),
    /// A parameter does not fit the state of the account.
    #[error("{0}")]
    InvalidParameter(&'static str),
    /// The session ended after its access token was accepted.
    #[error("the session was closed")]
    SessionClosed,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Names(denied) => denied.into(),
            Error::InvalidParameter(reason) => Self::invalid_parameter(reason),
            Error::SessionClosed => Self::access_denied(),
            Error::Store(error) => Self::from(&error),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
