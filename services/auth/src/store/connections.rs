//! Store of the connection log.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_store::StoreError;

/// An entry as it is stored.
#[derive(Debug, Clone)]
pub struct SealedConnection {
    /// 32 hex digits.
    pub entry: String,
    pub account_hash: [u8; 32],
    pub sealed: String,
    pub expires_at: Timestamp,
}

#[async_trait]
pub trait Connections {
    /// Returns the sealed entries of an account that have not expired, the newest first.
    async fn connections_of(
        &self,
        account_hash: &[u8; 32],
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<String>, StoreError>;

    /// Deletes entries that have expired.
    async fn forget_connections(&self, now: Timestamp) -> Result<(), StoreError>;
}

#[async_trait]
pub trait ConnectionTransaction {
    async fn insert_connection(&mut self, connection: &SealedConnection) -> Result<(), StoreError>;
}
