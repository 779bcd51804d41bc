//! What dm answers when it cannot answer.

use axum::response::{IntoResponse, Response};
use sosohappy_access::Denied;
use sosohappy_common::Problem;
use sosohappy_store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("messageCnt: from 1 to {0}")]
    Count(u32),
    #[error(transparent)]
    Names(#[from] Denied),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Count(_) => Self::invalid_parameter(error.to_string()),
            Error::Names(denied) => denied.into(),
            // Tried again as often as is good for others.
            Error::Store(cause @ StoreError::Retry(_)) => {
                tracing::warn!(error = &cause as &dyn std::error::Error, "the store is too busy");
                Self::unavailable()
            }
            Error::Store(cause @ StoreError::Failed(_)) => {
                tracing::error!(error = %cause, "the store is away");
                Self::unavailable()
            }
            Error::Store(cause @ (StoreError::Settings(_) | StoreError::Conflict(_) | StoreError::Unfit(_))) => {
                tracing::error!(error = %cause, "the store refused what it was given");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
