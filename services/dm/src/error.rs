//! The errors of dm and the problems that they become.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sosohappy_access::Denied;
use sosohappy_common::Problem;
use sosohappy_store::StoreError;

use crate::domain::InvalidText;
use crate::store::{ChangeError, WriteError};

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
    #[error("no message of the caller has the id")]
    Message,
    #[error("no open report of a message has the number")]
    NoSuchReport,
    #[error("text: from 1 to 10 words, at most 200 bytes, without U+0000")]
    Words,
    #[error("sendAt: in the future, at most 366 days ahead")]
    SendAt,
    #[error("text or sendAt: at least one of them")]
    NoEdit,
    #[error("no request to the caller has the id")]
    Request,
    #[error("the request was accepted")]
    RequestAccepted,
    #[error("the caller is in no room with the id")]
    Room,
    #[error(
        "name: 1 to 50 user-perceived characters and at most 2000 bytes, with a visible character and without control characters"
    )]
    RoomName,
    #[error("the room has too many members")]
    RoomFull,
    #[error("the account is in too many rooms")]
    TooManyRooms,
    #[error("too many messages are scheduled")]
    TooManyScheduled,
    #[error("reaction: one user-perceived character of at most 40 bytes")]
    Reaction,
    #[error("text: {0}")]
    Text(#[from] InvalidText),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Names(#[from] Denied),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Count(_)
            | Error::Cursor
            | Error::Size(_)
            | Error::Reaction
            | Error::Words
            | Error::SendAt
            | Error::NoEdit
            | Error::RoomName
            | Error::Text(_) => Self::invalid_parameter(error.to_string()),
            Error::Write(WriteError::Resigned) => Self::access_denied(),
            // The order of a conversation is no matter of the caller.
            Error::Write(WriteError::Behind(_) | WriteError::RequestDecided | WriteError::Unreleased) => {
                Self::unavailable()
            }
            Error::Nickname | Error::Write(WriteError::ReceiverResigned) => {
                Self::not_found("nickname-unknown", "Unknown nickname")
            }
            Error::Message | Error::Change(ChangeError::Unknown) => {
                Self::not_found("message-unknown", "Unknown message")
            }
            Error::NoSuchReport => Self::not_found("no-such-report", "Report not found"),
            Error::Request => Self::not_found("request-unknown", "Unknown request"),
            Error::RequestAccepted => Self::new(StatusCode::CONFLICT, "request-accepted", "The request was accepted"),
            Error::Room => Self::not_found("room-unknown", "Unknown room"),
            Error::RoomFull => Self::new(StatusCode::CONFLICT, "room-full", "The room has too many members"),
            Error::TooManyRooms => Self::new(
                StatusCode::CONFLICT,
                "too-many-rooms",
                "The account is in too many rooms",
            ),
            Error::TooManyScheduled => Self::new(
                StatusCode::CONFLICT,
                "too-many-scheduled",
                "Too many messages are scheduled",
            ),
            Error::Change(ChangeError::Retracted) => Self::new(
                StatusCode::CONFLICT,
                "message-retracted",
                "The message has been retracted",
            ),
            Error::Change(ChangeError::TooOften) => Self::new(
                StatusCode::CONFLICT,
                "message-changed-too-often",
                "The message has changed too often",
            ),
            Error::Names(denied) => denied.into(),
            Error::Change(ChangeError::Store(error)) | Error::Write(WriteError::Store(error)) | Error::Store(error) => {
                Self::from(&error)
            }
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
