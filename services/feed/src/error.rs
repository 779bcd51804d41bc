//! The errors of feed and the problems that they become.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use sosohappy_access::Denied;
use sosohappy_common::Problem;
use sosohappy_media::ImageError;
use sosohappy_store::StoreError;

use crate::archive::InvalidArchive;
use crate::domain::paging::InvalidCursor;
use crate::domain::post::InvalidPost;
use crate::domain::repeat::InvalidKey;
use crate::store::{CommentError, WriteError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Post(#[from] InvalidPost),
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    #[error(transparent)]
    Key(#[from] InvalidKey),
    #[error("there is no such post")]
    NoSuchPost,
    #[error("the view of posts from before it existed is not built yet")]
    ViewNotBuilt,
    #[error("there is no such comment")]
    NoSuchComment,
    #[error("there is no open report of content of this number")]
    NoSuchReport,
    #[error("nothing of this id waits for review")]
    NothingHeld,
    #[error("the post was changed since it was listed")]
    HeldChanged,
    #[error("moderators do not decide about their own content")]
    OwnContent,
    #[error(transparent)]
    Archive(#[from] InvalidArchive),
    #[error("the archive is of another account")]
    ForeignArchive,
    #[error("the post takes no comments")]
    CommentsClosed,
    #[error("there is no such draft")]
    NoSuchDraft,
    #[error("an account has drafts of at most {0} days")]
    TooManyDrafts(usize),
    #[error("there is no such image")]
    NoSuchImage,
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Names(#[from] Denied),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CommentError> for Error {
    fn from(error: CommentError) -> Self {
        match error {
            CommentError::NoSuchPost => Self::NoSuchPost,
            CommentError::Closed => Self::CommentsClosed,
            CommentError::Write(error) => error.into(),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Post(invalid) => Self::invalid_parameter(invalid.to_string()),
            Error::Cursor(invalid) => Self::invalid_parameter(invalid.to_string()),
            Error::Key(invalid) => Self::invalid_parameter(invalid.to_string()),
            Error::NoSuchPost => Self::not_found("no-such-post", "Post not found"),
            Error::ViewNotBuilt => {
                tracing::warn!("post view is not built yet");
                Self::unavailable()
            }
            Error::NoSuchComment => Self::not_found("no-such-comment", "Comment not found"),
            Error::NoSuchReport => Self::not_found("no-such-report", "Report not found"),
            Error::NothingHeld => Self::not_found("nothing-held", "Nothing to review"),
            Error::HeldChanged => Self::new(
                StatusCode::CONFLICT,
                "held-content-changed",
                "The post was changed since it was listed",
            ),
            own @ Error::OwnContent => Self::role_required().detail(own.to_string()),
            Error::Archive(invalid) => Self::invalid_parameter(invalid.to_string()),
            Error::ForeignArchive => Self::not_yourself(),
            Error::CommentsClosed => Self::new(StatusCode::CONFLICT, "comments-closed", "The post takes no comments"),
            Error::NoSuchDraft => Self::not_found("no-such-draft", "Draft not found"),
            many @ Error::TooManyDrafts(_) => {
                Self::new(StatusCode::CONFLICT, "too-many-drafts", "Too many drafts").detail(many.to_string())
            }
            Error::NoSuchImage => Self::not_found("no-such-image", "Image not found"),
            Error::Image(
                bad @ (ImageError::UnknownType
                | ImageError::TooManyPixels(_)
                | ImageError::TooManyFrames(_)
                | ImageError::TooLarge(_)
                | ImageError::Broken),
            ) => Self::invalid_parameter(format!("imageList: {bad}")),
            Error::Image(ImageError::Processing(reason)) => {
                tracing::warn!(reason, "image not processed");
                Self::unavailable()
            }
            Error::Image(ImageError::Store(cause)) => {
                tracing::error!(error = &cause as &dyn std::error::Error, "image store failed");
                Self::unavailable()
            }
            Error::Image(ImageError::Settings(reason)) => {
                tracing::error!(reason, "image store misconfigured");
                Self::internal()
            }
            Error::Names(denied) => denied.into(),
            Error::Write(WriteError::Resigned) => Self::access_denied(),
            Error::Write(WriteError::KeyReused) => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The idempotency key names another request",
            ),
            Error::Write(WriteError::ImagesGivenUp) => {
                tracing::warn!("image reservation expired during upload");
                Self::unavailable()
            }
            Error::Write(WriteError::Store(error)) | Error::Store(error) => Self::from(&error),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}
