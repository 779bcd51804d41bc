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
            Error::Store(cause @ StoreError::Retry(_)) => {
                tracing::warn!(
                    error = &cause as &dyn std::error::Error,
                    "database transaction rolled back too often"
                );
                Self::unavailable()
            }
            Error::Store(cause @ StoreError::Unavailable(_)) => {
                tracing::error!(error = %cause, "database unavailable");
                Self::unavailable()
            }
            Error::Store(
                cause @ (StoreError::Settings(_)
                | StoreError::Conflict(_)
                | StoreError::Invalid(_)
                | StoreError::Corrupt(_)),
            ) => {
                let kind = cause.kind();
                tracing::error!(
                    error = &cause as &dyn std::error::Error,
                    kind,
                    "database request failed"
                );
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
