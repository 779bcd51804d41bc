//! Nicknames to accounts and back: by the directory, and by auth for names that the directory does not know.

use std::time::Duration;

use async_trait::async_trait;
use sosohappy_common::Account;

use crate::{Caller, Denied};

/// What others see of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub nickname: String,
    /// `None` where auth does not answer it.
    pub introduction: Option<String>,
}

/// Two implementations: [`crate::directory::DirectoryNames`] (feed, dm, notice) and auth's own table.
#[async_trait]
pub trait Names: std::fmt::Debug + Send + Sync {
    /// Returns the account that has this nickname now; `None` when no account has it, [`Denied::Unavailable`] when that is not known yet
    /// ([`Names::is_catching_up`]).
    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, Denied>;

    /// Like [`Names::account_of`], but always asks auth: for a nickname that may have changed a moment ago.
    async fn account_of_fresh(&self, nickname: &str) -> Result<Option<Account>, Denied>;

    /// Like [`Names::account_of_fresh`], for a nickname that the caller claims.
    async fn account_of_caller(&self, _caller: &Caller, nickname: &str) -> Result<Option<Account>, Denied> {
        self.account_of_fresh(nickname).await
    }

    /// [`Names::account_of`] for the name in a record of a Spring service: retries while auth is unavailable, for at most four seconds,
    /// because a record that waits blocks its partition.
    async fn account_of_patiently(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        let asked = async {
            let mut pause = Duration::from_millis(100);
            loop {
                match self.account_of(nickname).await {
                    Err(_) if pause < Duration::from_secs(2) => tokio::time::sleep(pause).await,
                    known => return known,
                }
                pause *= 2;
            }
        };
        let known = tokio::time::timeout(Duration::from_secs(4), asked).await;
        known.unwrap_or(Err(Denied::Unavailable))
    }

    /// Returns whether names that were published before this process started may not have been read yet: an unknown nickname may have a
    /// bearer then, and a known one another bearer.
    fn is_catching_up(&self) -> bool {
        false
    }

    /// Returns the profile of an account as auth has it now, without a cache; `None` for an unknown account.
    async fn profile_of(&self, account: &Account) -> Result<Option<Profile>, Denied> {
        let nicknames = self.nicknames_of(std::slice::from_ref(account)).await?;
        Ok(nicknames.into_iter().flatten().next().map(|nickname| Profile {
            nickname,
            introduction: None,
        }))
    }

    /// Returns nicknames in the order of `accounts`; `None` for a resigned or unknown account.
    async fn nicknames_of(&self, accounts: &[Account]) -> Result<Vec<Option<String>>, Denied>;
}
