//! The accounts with an open socket on any replica. Rows of a replica that crashed expire.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;

use crate::StoreError;

#[async_trait]
pub trait Presence: std::fmt::Debug + Send + Sync {
    /// Registers sockets of these accounts on this replica until a moment.
    async fn hold(&self, instance: &str, accounts: &[Account], until: Timestamp) -> Result<(), StoreError>;

    /// Removes the registration of this account on this replica.
    async fn release(&self, instance: &str, account: &Account) -> Result<(), StoreError>;

    /// Returns whether any replica has a socket of this account.
    async fn online(&self, account: &Account, now: Timestamp) -> Result<bool, StoreError>;
}
