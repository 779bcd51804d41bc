//! Nicknames to accounts and back: the directory first, auth for what it does not know.

use std::time::Duration;

use async_trait::async_trait;
use sosohappy_common::Account;

use crate::{Caller, Denied};

/// Two implementations: [`crate::directory::DirectoryNames`] (feed, dm, notice) and auth's own table.
#[async_trait]
pub trait Names: std::fmt::Debug + Send + Sync {
    /// Who bears this nickname now; `None` when nobody does.
    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, Denied>;

    /// Like [`Names::account_of`], but asks auth again: for a nickname that may have changed a moment ago.
    async fn account_of_fresh(&self, nickname: &str) -> Result<Option<Account>, Denied>;

    /// Like [`Names::account_of_fresh`], for the nickname that a caller gives as their own.
    async fn account_of_caller(&self, _caller: &Caller, nickname: &str) -> Result<Option<Account>, Denied> {
        self.account_of_fresh(nickname).await
    }

    /// [`Names::account_of`] for the name in a record of a Spring service: tried a few times while nobody can tell, within
    /// three seconds, for a record that waits holds up all behind it.
    async fn account_of_patiently(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        let mut pause = Duration::from_millis(100);
        loop {
            match self.account_of(nickname).await {
                Err(_) if pause < Duration::from_secs(2) => tokio::time::sleep(pause).await,
                known => return known,
            }
            pause *= 2;
        }
    }

    /// In the order asked; `None` for a resigned or unknown account.
    async fn nicknames_of(&self, accounts: &[Account]) -> Result<Vec<Option<String>>, Denied>;
}
