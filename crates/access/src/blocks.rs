//! Blocks that auth has acknowledged and whose event has not arrived.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::Relation;
use sosohappy_store::{Directory, StoreError};

use crate::Revalidation;

/// Returns the directory of a service, which asks auth about a block that it does not know while events of auth may be missing: a block is
/// in force within two seconds as long as auth can be reached. Of lists of blocks it knows only those whose events have arrived.
#[must_use]
pub fn current_blocks(directory: Arc<dyn Directory>, revalidation: &Revalidation) -> Arc<dyn Directory> {
    Arc::new(CurrentBlocks {
        directory,
        revalidation: revalidation.clone(),
    })
}

#[derive(Debug)]
struct CurrentBlocks {
    directory: Arc<dyn Directory>,
    revalidation: Revalidation,
}

#[async_trait]
impl Directory for CurrentBlocks {
    /// A block that auth has lifted meanwhile is in force until its event arrives.
    async fn blocked(&self, one: &Account, other: &Account) -> Result<bool, StoreError> {
        if self.directory.blocked(one, other).await? {
            return Ok(true);
        }
        Ok(self.revalidation.is_needed() && self.revalidation.auth.is_blocked(one, other).await == Some(true))
    }

    async fn set_nickname(&self, account: &Account, nickname: Option<&str>, at: Timestamp) -> Result<(), StoreError> {
        self.directory.set_nickname(account, nickname, at).await
    }

    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, StoreError> {
        self.directory.account_of(nickname).await
    }

    async fn named_since(&self, account: &Account, moment: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        self.directory.named_since(account, moment).await
    }

    async fn nicknames_of(&self, accounts: &[Account]) -> Result<Vec<Option<String>>, StoreError> {
        self.directory.nicknames_of(accounts).await
    }

    async fn set_relation(
        &self,
        relation: Relation,
        account: &Account,
        other: &Account,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.directory.set_relation(relation, account, other, at).await
    }

    async fn blocked_among(&self, pairs: &[(&Account, &Account)]) -> Result<Vec<bool>, StoreError> {
        self.directory.blocked_among(pairs).await
    }

    async fn blocked_with(&self, account: &Account) -> Result<Vec<Account>, StoreError> {
        self.directory.blocked_with(account).await
    }

    async fn friends(&self, one: &Account, other: &Account) -> Result<bool, StoreError> {
        self.directory.friends(one, other).await
    }

    async fn erase(&self, account: &Account, at: Timestamp) -> Result<(), StoreError> {
        self.directory.erase(account, at).await
    }
}
