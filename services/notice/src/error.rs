//! What notice answers when it cannot answer.

use axum::response::{IntoResponse, Response};
use sosohappy_access::Denied;
use sosohappy_common::Problem;
use sosohappy_store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Names(#[from] Denied),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Names(denied) => denied.into(),
            Error::Store(error) => Self::from(&error),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
