//! Claims of a token.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_common::Account;
use sosohappy_events::types::SessionId;

use super::session::RefreshId;

/// Distinguished by the subject, as in the legacy Spring services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    AccessToken,
    RefreshToken,
}

/// The claims of both kinds of tokens. Times in seconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub sub: Kind,
    /// The account, `email+provider`.
    pub email: Account,
    pub iat: i64,
    pub exp: i64,
    /// 32 hex digits.
    pub jti: String,
    /// The session, 16 hex digits.
    pub sid: SessionId,
}

impl Claims {
    pub fn access(
        account: &Account,
        session: SessionId,
        jti: String,
        issued_at: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        Self::new(Kind::AccessToken, account, session, jti, issued_at, expires_at)
    }

    pub fn refresh(
        account: &Account,
        session: SessionId,
        id: &RefreshId,
        issued_at: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        Self::new(
            Kind::RefreshToken,
            account,
            session,
            id.0.clone(),
            issued_at,
            expires_at,
        )
    }

    fn new(
        sub: Kind,
        account: &Account,
        sid: SessionId,
        jti: String,
        issued_at: Timestamp,
        expires_at: Timestamp,
    ) -> Self {
        Self {
            sub,
            email: account.clone(),
            iat: issued_at.as_second(),
            exp: expires_at.as_second(),
            jti,
            sid,
        }
    }
}
