//! Store of e-mail accounts: passwords and codes.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::StoreError;

use crate::domain::person::Identity;

/// The code that was last sent to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCode {
    /// By [`Keyring::seal`](crate::keys::Keyring::seal).
    pub seal: [u8; 32],
    pub tries: u32,
    pub expires_at: Timestamp,
}

#[async_trait]
pub trait EmailStore: Send + Sync {
    /// Returns the account that the identity is linked to, and the hash of its password.
    async fn password_of(&self, identity: &Identity) -> Result<Option<(Account, String)>, StoreError>;

    /// Deletes codes that have expired.
    async fn forget_email_codes(&self, now: Timestamp) -> Result<(), StoreError>;
}

#[async_trait]
pub trait EmailTransaction {
    async fn email_code(&mut self, address_key: &[u8; 32]) -> Result<Option<StoredCode>, StoreError>;

    /// Replaces the code that was sent to the address before.
    async fn set_email_code(&mut self, address_key: &[u8; 32], code: &StoredCode) -> Result<(), StoreError>;

    async fn delete_email_code(&mut self, address_key: &[u8; 32]) -> Result<(), StoreError>;

    /// Returns the hash of an account's password.
    async fn password(&mut self, account: &Account) -> Result<Option<String>, StoreError>;

    async fn set_password(&mut self, account: &Account, hash: &str, at: Timestamp) -> Result<(), StoreError>;

    async fn delete_password(&mut self, account: &Account) -> Result<(), StoreError>;
}
