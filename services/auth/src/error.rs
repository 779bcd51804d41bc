//! Errors of the auth service and their answers.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use sosohappy_access::Denied;
use sosohappy_common::Problem;
use sosohappy_common::account::InvalidAccount;
use sosohappy_common::nickname::InvalidNickname;
use sosohappy_media::ImageError;
use sosohappy_store::{StoreError, Transient};

use crate::domain::challenge::InvalidChallenge;
use crate::domain::email::{InvalidAddress, InvalidPassword};
use crate::domain::id_token::{InvalidIdToken, UnverifiedAddress};
use crate::domain::moderation::Suspension;
use crate::domain::muted_word::InvalidWord;
use crate::domain::notification::InvalidNotification;
use crate::domain::person::InvalidSubject;
use crate::domain::profile::InvalidIntroduction;
use crate::domain::system_notice::InvalidSystemNotice;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    InvalidParameter(&'static str),
    #[error(transparent)]
    InvalidAccount(#[from] InvalidAccount),
    #[error(transparent)]
    InvalidChallenge(#[from] InvalidChallenge),
    #[error(transparent)]
    InvalidNickname(#[from] InvalidNickname),
    #[error(transparent)]
    InvalidIntroduction(#[from] InvalidIntroduction),
    #[error(transparent)]
    InvalidSubject(#[from] InvalidSubject),
    #[error(transparent)]
    InvalidWord(#[from] InvalidWord),
    #[error(transparent)]
    InvalidSystemNotice(#[from] InvalidSystemNotice),
    #[error(transparent)]
    InvalidAddress(#[from] InvalidAddress),
    #[error(transparent)]
    InvalidPassword(#[from] InvalidPassword),
    /// The code of a mail is wrong, used, too old, or was tried too often.
    #[error("the code is not valid")]
    InvalidEmailCode,
    #[error("the address or the password is wrong")]
    InvalidCredentials,
    #[error("the address has an account")]
    AccountExists,
    #[error("the account has no password")]
    NoPassword,
    #[error("this fleet sends no mail (mail.url)")]
    NoEmailAccounts,
    #[error("too many passwords are being hashed")]
    PasswordsBusy,
    /// A hash cannot be computed, or the stored one cannot be read.
    #[error("password hashing failed: {0}")]
    Hashing(String),
    #[error("provider: apple, google, kakao or email")]
    UnknownProvider,
    /// The code is unknown, used or too old, or the verifier does not answer its challenge.
    #[error("the authorize code is not valid")]
    InvalidCode,
    /// The identity belongs to another account.
    #[error("this account is linked to another identity")]
    OtherIdentity,
    #[error("the identity belongs to another account")]
    IdentityTaken,
    #[error("an account keeps one identity")]
    LastIdentity,
    /// The ID token proves nothing, or not what the request claims.
    #[error("ID token: {0}")]
    InvalidIdToken(#[from] InvalidIdToken),
    #[error("notification: {0}")]
    InvalidNotification(#[from] InvalidNotification),
    #[error("the authorization code of Apple is not valid")]
    InvalidAuthorizationCode,
    /// The address of the request is not one that the provider has verified.
    #[error("address: {0}")]
    UnverifiedAddress(UnverifiedAddress),
    #[error("the sign-in provider is unavailable")]
    ProviderUnavailable,
    #[error("the refresh token is missing, wrong or expired")]
    RefreshRefused,
    #[error("the account is unknown or has resigned")]
    UnknownAccount,
    #[error("{0}")]
    Suspended(Suspension),
    #[error("there is no such photo")]
    NoSuchPhoto,
    #[error("there is no such person")]
    NoSuchPerson,
    #[error("there is no such report")]
    NoSuchReport,
    #[error("there is no such application")]
    NoSuchApplication,
    /// A problem of a shared crate.
    #[error("{}", .0.status())]
    Problem(Box<Problem>),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl Error {
    pub fn hashing(cause: impl std::fmt::Display) -> Self {
        Self::Hashing(cause.to_string())
    }
}

impl Transient for Error {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_transient())
    }
}

impl From<&Error> for Problem {
    #[expect(clippy::too_many_lines, reason = "one arm for each error")]
    fn from(error: &Error) -> Self {
        match error {
            Error::Problem(problem) => Problem::clone(problem),
            Error::InvalidParameter(_)
            | Error::InvalidAccount(_)
            | Error::InvalidChallenge(_)
            | Error::InvalidNickname(_)
            | Error::InvalidIntroduction(_)
            | Error::InvalidSubject(_)
            | Error::InvalidWord(_)
            | Error::InvalidSystemNotice(_)
            | Error::InvalidAddress(_)
            | Error::Image(
                ImageError::UnknownType
                | ImageError::TooManyPixels(_)
                | ImageError::TooManyFrames(_)
                | ImageError::TooLarge(_)
                | ImageError::Broken,
            ) => Problem::invalid_parameter(error.to_string()),
            Error::InvalidPassword(_) => Problem::new(
                StatusCode::BAD_REQUEST,
                "weak-password",
                "The password is too short, too long or too easily guessed",
            )
            .detail(error.to_string()),
            Error::InvalidEmailCode => Problem::new(
                StatusCode::FORBIDDEN,
                "invalid-email-code",
                "The code is wrong, used or too old",
            ),
            Error::InvalidCredentials => Problem::new(
                StatusCode::FORBIDDEN,
                "invalid-credentials",
                "The address or the password is wrong",
            ),
            Error::AccountExists => Problem::new(StatusCode::CONFLICT, "account-exists", "The address has an account"),
            Error::NoPassword => Problem::new(StatusCode::CONFLICT, "no-password", "The account has no password"),
            Error::UnknownProvider | Error::NoEmailAccounts => Problem::new(
                StatusCode::FORBIDDEN,
                "unknown-provider",
                "Sign-in through this provider is not supported",
            )
            .detail(error.to_string()),
            Error::InvalidCode => Problem::new(
                StatusCode::FORBIDDEN,
                "invalid-code",
                "The authorize code or its verifier is wrong or too old",
            ),
            Error::OtherIdentity => Problem::new(
                StatusCode::FORBIDDEN,
                "other-identity",
                "The account is linked to another identity",
            ),
            Error::IdentityTaken => Problem::new(
                StatusCode::CONFLICT,
                "identity-taken",
                "The identity belongs to another account",
            ),
            Error::LastIdentity => Problem::new(
                StatusCode::CONFLICT,
                "last-identity",
                "The last identity of an account cannot be unlinked",
            ),
            // The reason is no help to the app, and to an attacker it is.
            Error::InvalidIdToken(_) => Problem::new(
                StatusCode::FORBIDDEN,
                "invalid-id-token",
                "The ID token or its nonce is missing, wrong or expired",
            ),
            Error::InvalidNotification(_) => Problem::new(
                StatusCode::FORBIDDEN,
                "invalid-notification",
                "The notification is not one of the provider for this app",
            ),
            Error::InvalidAuthorizationCode => Problem::new(
                StatusCode::FORBIDDEN,
                "invalid-authorization-code",
                "Apple's authorization code is wrong, used or expired",
            ),
            Error::UnverifiedAddress(_) => Problem::new(
                StatusCode::FORBIDDEN,
                "unverified-address",
                "The address is not verified by the provider",
            ),
            Error::RefreshRefused => Problem::new(
                StatusCode::FORBIDDEN,
                "refresh-denied",
                "The refresh token is missing, wrong or expired",
            ),
            Error::UnknownAccount => Problem::new(
                StatusCode::UNAUTHORIZED,
                "unknown-account",
                "The account is unknown or has resigned",
            ),
            Error::Suspended(_) => {
                Problem::new(StatusCode::FORBIDDEN, "suspended", "The account is suspended").detail(error.to_string())
            }
            Error::NoSuchPhoto => Problem::not_found("no-such-photo", "Photo not found"),
            Error::NoSuchPerson => Problem::not_found("no-such-person", "Person not found"),
            Error::NoSuchReport => Problem::not_found("no-such-report", "Report not found"),
            Error::NoSuchApplication => Problem::not_found("no-such-application", "Application not found"),
            Error::ProviderUnavailable
            | Error::PasswordsBusy
            | Error::Image(ImageError::Store(_) | ImageError::Processing(_))
            | Error::Store(StoreError::Retry(_) | StoreError::Unavailable(_)) => Problem::unavailable(),
            Error::Hashing(_)
            | Error::Image(ImageError::Settings(_))
            | Error::Store(
                StoreError::Settings(_) | StoreError::Conflict(_) | StoreError::Invalid(_) | StoreError::Corrupt(_),
            ) => Problem::internal(),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let problem = Problem::from(&self);
        if problem.status().is_server_error() {
            tracing::error!(error = &self as &dyn std::error::Error, "request failed");
        }
        problem.into_response()
    }
}

/// For the ports that the access rules ask.
impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "authentication failed");
        if Problem::from(&error).status() == StatusCode::SERVICE_UNAVAILABLE {
            Self::Unavailable
        } else {
            Self::Internal
        }
    }
}
