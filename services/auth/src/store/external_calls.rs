//! Calls of other systems that a committed change owes.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_events::EventId;
use sosohappy_store::StoreError;
use uuid::Uuid;

use crate::external_calls::Kind;

#[derive(Debug, Clone)]
pub struct ExternalCall {
    pub id: Uuid,
    pub kind: Kind,
    /// The resignation that this call is a step of.
    pub resignation: Option<EventId>,
    /// Secrets of the call, encrypted and bound to `id`.
    pub sealed: String,
    pub created_at: Timestamp,
    /// From then on it is no longer tried.
    pub expires_at: Option<Timestamp>,
    pub due_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
}

/// Outside a transaction.
#[async_trait]
pub trait ExternalCalls {
    /// Returns calls that are due, the earliest first. Another replica may be about to claim them.
    async fn due_calls(&self, now: Timestamp, limit: u32) -> Result<Vec<ExternalCall>, StoreError>;

    /// Moves a due call to the end of an attempt and counts the attempt; false where another replica was quicker.
    async fn claim_call(&self, call: &ExternalCall, until: Timestamp) -> Result<bool, StoreError>;

    async fn postpone_call(&self, id: Uuid, due_at: Timestamp) -> Result<(), StoreError>;
}

#[async_trait]
pub trait ExternalCallTransaction {
    async fn insert_call(&mut self, call: &ExternalCall) -> Result<(), StoreError>;

    async fn delete_call(&mut self, id: Uuid) -> Result<(), StoreError>;

    /// Returns the kinds of the calls that a resignation still waits for.
    async fn pending_calls(&mut self, resignation: EventId) -> Result<Vec<String>, StoreError>;
}
