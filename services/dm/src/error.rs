//! The errors of dm and the problems that they become.

use axum::response::{IntoResponse, Response};
use sosohappy_access::Denied;
use sosohappy_common::Problem;
use sosohappy_store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("messageCnt: from 1 to {0}")]
    Count(u32),
    #[error("cursor: `start` or the `nextCursor` of an earlier answer")]
    Cursor,
    #[error("size: from 1 to {0}")]
    Size(u32),
    #[error("no account has the nickname")]
    Nickname,
    #[error(transparent)]
    Names(#[from] Denied),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Count(_) | Error::Cursor | Error::Size(_) => Self::invalid_parameter(error.to_string()),
            Error::Nickname => Self::not_found("nickname-unknown", "Unknown nickname"),
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
