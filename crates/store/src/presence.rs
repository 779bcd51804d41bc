//! Which accounts have a socket open on some replica. Rows of a replica that died run out.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;

use crate::StoreError;

#[async_trait]
pub trait Presence: std::fmt::Debug + Send + Sync {
    /// This replica holds sockets of these accounts until then.
    async fn hold(&self, instance: &str, accounts: &[Account], until: Timestamp) -> Result<(), StoreError>;

    /// This replica holds no socket of this account any more.
    async fn release(&self, instance: &str, account: &Account) -> Result<(), StoreError>;

    /// Whether any replica holds a socket of this account.
    async fn online(&self, account: &Account, now: Timestamp) -> Result<bool, StoreError>;
}
