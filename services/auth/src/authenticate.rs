//! Authenticates callers by auth's own tables.

use std::sync::Arc;

use async_trait::async_trait;
use sosohappy_access::{Authenticator, Caller, Denied, Identity, Names};
use sosohappy_common::Account;
use sosohappy_events::types::TokenDigest;

use crate::app::App;
use crate::domain::claims::Kind;
use crate::error::Error;
use crate::store::AccessToken;

pub fn identity(app: &Arc<App>) -> Identity {
    Identity {
        authenticator: Arc::new(OwnTokens(app.clone())),
        names: Arc::new(OwnNames(app.clone())),
    }
}

/// An access token of that account that lives now.
pub async fn live_token(app: &App, account: &Account, digest: &TokenDigest) -> Result<Option<AccessToken>, Error> {
    let token = app.store.access_token(digest).await?;
    Ok(token.filter(|token| token.account == *account && token.expires_at > app.now()))
}

#[derive(Debug)]
struct OwnTokens(Arc<App>);

#[async_trait]
impl Authenticator for OwnTokens {
    async fn authenticate(&self, account: &Account, token: &str) -> Result<Caller, Denied> {
        // The signature is checked first: an unsigned token costs no query.
        let Some(claims) = self.0.keyring.read(token, Kind::AccessToken) else {
            return self.authenticate_legacy(account, token).await;
        };
        if claims.email != *account {
            return Err(Denied::Refused);
        }
        let digest = TokenDigest::of(token);
        let token = live_token(&self.0, account, &digest).await?.ok_or(Denied::Refused)?;
        Ok(Caller {
            account: token.account,
            token: digest,
            session: token.session,
            role: token.role,
            issued_at: token.issued_at,
            expires_at: token.expires_at,
            bearer: None,
        })
    }
}

impl OwnTokens {
    /// A token of the legacy Spring auth, which kept no list of them: good until it expires, as long as the session of its account that
    /// was imported is not closed.
    async fn authenticate_legacy(&self, account: &Account, token: &str) -> Result<Caller, Denied> {
        let app = &self.0;
        let legacy = app.keyring.read_legacy(token, Kind::AccessToken);
        let legacy = legacy.filter(|legacy| legacy.account == *account && legacy.expires_at > app.now());
        let legacy = legacy.ok_or(Denied::Refused)?;
        let imported = app.store.imported_session(account).await.map_err(Error::from)?;
        let imported = imported.ok_or(Denied::Refused)?;
        Ok(Caller {
            account: legacy.account,
            token: legacy.digest,
            session: imported.session,
            role: imported.role,
            issued_at: imported.imported_at,
            expires_at: legacy.expires_at,
            bearer: None,
        })
    }
}

#[derive(Debug)]
struct OwnNames(Arc<App>);

#[async_trait]
impl Names for OwnNames {
    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        let person = self.0.bearer_of(nickname).await?;
        Ok(person.map(|person| person.account))
    }

    async fn account_of_fresh(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        self.account_of(nickname).await
    }

    async fn nicknames_of(&self, accounts: &[Account]) -> Result<Vec<Option<String>>, Denied> {
        let mut nicknames = Vec::with_capacity(accounts.len());
        for account in accounts {
            let person = self.0.store.person(account).await.map_err(Error::from)?;
            nicknames.push(person.map(|person| person.nickname.as_str().to_owned()));
        }
        Ok(nicknames)
    }
}
