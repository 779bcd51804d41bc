//! Nicknames to accounts and back: the directory first, auth for what it does not know.

use async_trait::async_trait;
use sosohappy_common::Account;

use crate::Denied;

/// Two implementations: [`crate::directory::DirectoryNames`] (feed, dm, notice) and auth's own table.
#[async_trait]
pub trait Names: std::fmt::Debug + Send + Sync {
    /// Who bears this nickname now; `None` when nobody does.
    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, Denied>;

    /// Like [`Names::account_of`], but asks auth again: for a nickname that may have changed a moment ago.
    async fn account_of_fresh(&self, nickname: &str) -> Result<Option<Account>, Denied>;

    /// In the order asked; `None` for a resigned or unknown account.
    async fn nicknames_of(&self, accounts: &[Account]) -> Result<Vec<Option<String>>, Denied>;
}
