//! Statements of the import of legacy accounts.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::{Role, SessionId};
use sosohappy_store::StoreError;

use crate::domain::person::Person;

/// The first half of a SHA-256: tells whether something is as it was.
pub type Fingerprint = [u8; 16];

/// A row of the legacy table `user` that was taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedAccount {
    pub legacy_id: i64,
    /// [`Account::fingerprint`].
    pub person: String,
    /// None once it is gone.
    pub account: Option<Account>,
    pub session: Option<SessionId>,
    pub source: Fingerprint,
    pub photo: Option<Fingerprint>,
    pub written: Fingerprint,
    pub imported_at: Timestamp,
}

/// The session that legacy access tokens of an account belong to.
#[derive(Debug, Clone, Copy)]
pub struct ImportedSession {
    pub session: SessionId,
    pub role: Role,
    pub imported_at: Timestamp,
}

/// A nickname and an account that bears it, or bore it.
#[derive(Debug, Clone)]
pub struct KnownName {
    pub nickname: String,
    pub account: Account,
    /// Whether it bears it now, here or in the legacy fleet.
    pub present: bool,
    /// Whether it bears it here.
    pub here: bool,
}

/// Which legacy row of an account has a nickname.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameOf {
    /// The row that is the account: it bears the nickname until it is renamed here.
    TheAccount,
    /// A further row of its address: rows under the nickname there belong to the account.
    FurtherRow,
}

/// Reads outside a transaction.
#[async_trait]
pub trait Imports {
    /// Takes or renews the lease of the import; false while another holder has it.
    async fn lease_import(&self, holder: &str, ttl: Duration) -> Result<bool, StoreError>;

    /// Releases it, if this holder still has it.
    async fn release_import(&self, holder: &str) -> Result<(), StoreError>;

    /// By legacy id.
    async fn imported(&self, legacy_ids: &[i64]) -> Result<HashMap<i64, ImportedAccount>, StoreError>;

    /// Legacy ids that were taken over, greater than `after` and up to `until`, in order.
    async fn imported_between(&self, after: i64, until: i64) -> Result<Vec<i64>, StoreError>;

    /// Accounts after this one, in order.
    async fn accounts_after(&self, after: &str, limit: u32) -> Result<Vec<Account>, StoreError>;

    /// Legacy ids whose accounts are gone, with the SHA-256 of the account.
    async fn resigned_imports(&self) -> Result<Vec<(i64, String)>, StoreError>;

    /// None where the account was not imported, had no session, is suspended, or the session was closed.
    async fn imported_session(&self, account: &Account) -> Result<Option<ImportedSession>, StoreError>;

    /// Every nickname with every account that bears it here or bore it in the legacy fleet; some twice.
    async fn known_names(&self) -> Result<Vec<KnownName>, StoreError>;
}

#[async_trait]
pub trait ImportTransaction {
    async fn imported_as(&mut self, account: &Account) -> Result<Option<ImportedAccount>, StoreError>;

    /// Inserts or replaces the row of that legacy id, and deletes any other row of the person.
    async fn set_imported(&mut self, imported: &ImportedAccount) -> Result<(), StoreError>;

    async fn forget_imported(&mut self, legacy_id: i64) -> Result<(), StoreError>;

    /// The account bears none of the nicknames of its own row any more that were remembered.
    async fn renamed(&mut self, account: &Account) -> Result<(), StoreError>;

    /// No further row of an address has a nickname any more.
    async fn forget_further_rows(&mut self) -> Result<(), StoreError>;

    /// The account bears this nickname in the legacy fleet.
    async fn remember_name(&mut self, nickname: &str, account: &Account, of: NameOf) -> Result<(), StoreError>;

    /// Writes everything of a person but account, role and time of creation.
    async fn rewrite_person(&mut self, person: &Person) -> Result<(), StoreError>;

    async fn delete_device(&mut self, session: SessionId) -> Result<(), StoreError>;

    async fn provider_token(&mut self, account: &Account) -> Result<Option<String>, StoreError>;

    async fn set_provider_token(&mut self, account: &Account, sealed: &str) -> Result<(), StoreError>;

    async fn delete_provider_token(&mut self, account: &Account) -> Result<(), StoreError>;
}
