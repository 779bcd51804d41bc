//! The owner rule: a request whose parameters name another actor than the caller is refused.

use axum::RequestExt;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;
use sosohappy_common::Problem;
use sosohappy_common::http::{Files, Params, Upload};

use crate::protect::KnownNames;
use crate::{Caller, Denied, Names};

/// How a request names its actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acting<'a> {
    /// By account: `email`.
    Account(&'a str),
    /// By nickname: `nickname` in own-data calls, `srcNickname`, `sender`. Resolved by the directory, then by auth (for a nickname
    /// that was changed a moment ago).
    Nickname(&'a str),
    /// Not at all: the caller acts.
    Caller,
}

/// Names the actor that request parameters claim; one line a request type.
pub trait Actor {
    fn acting(&self) -> Acting<'_>;
}

/// The first of two structures of parameters names the actor; the second is a common one, such as a page.
impl<T: Actor, P> Actor for (T, P) {
    fn acting(&self) -> Acting<'_> {
        self.0.acting()
    }
}

/// Extracts the caller and parameters that name the caller as the actor; refuses others with 403 `not-yourself`.
#[derive(Debug, Clone)]
pub struct Act<T> {
    pub caller: Caller,
    pub params: T,
}

impl<S: Send + Sync, T: DeserializeOwned + Actor + Send> FromRequest<S> for Act<T> {
    type Rejection = Problem;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let (caller, names) = known(&mut request).await?;
        let Params(params) = Params::<T>::from_request(request, state).await?;
        own(&caller, names.0.as_ref(), params.acting()).await?;
        Ok(Self { caller, params })
    }
}

/// [`Act`] with the files of a multipart body.
#[derive(Debug)]
pub struct ActUpload<T> {
    pub caller: Caller,
    pub params: T,
    pub files: Files,
}

impl<S: Send + Sync, T: DeserializeOwned + Actor + Send> FromRequest<S> for ActUpload<T> {
    type Rejection = Problem;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let (caller, names) = known(&mut request).await?;
        let upload = Upload::<T>::from_request(request, state).await?;
        own(&caller, names.0.as_ref(), upload.params.acting()).await?;
        Ok(Self {
            caller,
            params: upload.params,
            files: upload.files,
        })
    }
}

async fn known(request: &mut Request) -> Result<(Caller, KnownNames), Problem> {
    let caller = request.extract_parts::<Caller>().await?;
    let names = request
        .extensions()
        .get::<KnownNames>()
        .cloned()
        .ok_or_else(Problem::access_denied)?;
    Ok((caller, names))
}

/// Refuses with 403 `not-yourself` a request that names another actor than the caller. For handlers that read their parameters by
/// another extractor (a socket's handshake).
pub async fn own(caller: &Caller, names: &dyn Names, acting: Acting<'_>) -> Result<(), Problem> {
    match acting {
        Acting::Caller => Ok(()),
        Acting::Account(account) if caller.account.is_named_by(account) => Ok(()),
        Acting::Account(_) => Err(Problem::not_yourself()),
        Acting::Nickname(nickname) => own_nickname(caller, names, nickname).await,
    }
}

async fn own_nickname(caller: &Caller, names: &dyn Names, nickname: &str) -> Result<(), Problem> {
    // Asked first: the last names may be read between a look-up that has missed them and the answer.
    let is_catching_up = names.is_catching_up();
    let known = match names.account_of(nickname).await {
        // Auth is asked below, whatever the directory does not know yet.
        Err(Denied::Unavailable) if is_catching_up => None,
        known => known?,
    };
    if known.as_ref() == Some(&caller.account) {
        return Ok(());
    }
    match names.account_of_caller(caller, nickname).await {
        Ok(account) if account.as_ref() == Some(&caller.account) => Ok(()),
        // The caller's name may not have been read yet, and the account known to have it may have had it before.
        Ok(None) | Err(Denied::Unavailable) if is_catching_up => Err(Problem::unavailable()),
        // Auth is unavailable. A nickname that the directory knows belongs to another account (refused below); an unknown one may be
        // the caller's new nickname, so the client has to retry.
        Err(Denied::Unavailable) if known.is_none() => Err(Problem::unavailable()),
        Err(Denied::Internal) if known.is_none() => Err(Problem::internal()),
        Ok(_) | Err(Denied::Unavailable | Denied::Refused | Denied::Internal) => Err(Problem::not_yourself()),
    }
}
