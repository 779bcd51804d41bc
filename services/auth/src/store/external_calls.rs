//! Calls of other systems that a committed change owes.

use std::str::FromStr;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_events::EventId;
use sosohappy_store::StoreError;
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Sends a mail with a code.
    Mail,
    /// Revokes a refresh token at Apple.
    AppleRevocation,
    /// Unlinks a person at Kakao.
    KakaoUnlink,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Mail, Self::AppleRevocation, Self::KakaoUnlink];

    /// As the database, the metric and the receipt of a resignation name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mail => "mail",
            Self::AppleRevocation => "apple-revocation",
            Self::KakaoUnlink => "kakao-unlink",
        }
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or(())
    }
}

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
    /// Returns calls of a kind that are due, the earliest first. Another replica may be about to claim them.
    async fn due_calls(&self, kind: Kind, now: Timestamp, limit: u32) -> Result<Vec<ExternalCall>, StoreError>;

    /// Moves a due call to the end of an attempt and counts the attempt; false where another replica was quicker.
    async fn claim_call(&self, call: &ExternalCall, until: Timestamp) -> Result<bool, StoreError>;

    /// Moves a claimed call to its next attempt, unless its claim has ended and another replica has claimed it.
    async fn postpone_call(&self, call: &ExternalCall, due_at: Timestamp) -> Result<(), StoreError>;
}

#[async_trait]
pub trait ExternalCallTransaction {
    async fn insert_call(&mut self, call: &ExternalCall) -> Result<(), StoreError>;

    async fn delete_call(&mut self, id: Uuid) -> Result<(), StoreError>;

    /// Returns the kinds of the calls that a resignation still waits for.
    async fn pending_calls(&mut self, resignation: EventId) -> Result<Vec<String>, StoreError>;
}
