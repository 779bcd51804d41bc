//! What a service knows of accounts that auth owns: nicknames and who blocks whom. Fed by events, last word wins.

use std::cmp::Reverse;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::{Account, NicknameKey};
use sosohappy_events::types::Relation;

use crate::StoreError;

/// The longest nickname that is kept, in bytes; a longer one is [`StoreError::Invalid`].
pub const MAX_NICKNAME: usize = 1000;

/// One suite of tests runs on all three adapters. Times are compared in milliseconds; of two words at the same one
/// the later call wins, but only a later moment undoes a resignation.
#[async_trait]
pub trait Directory: std::fmt::Debug + Send + Sync {
    /// An older word than the one known changes nothing. `None`: the account resigned at that moment.
    async fn set_nickname(&self, account: &Account, nickname: Option<&str>, at: Timestamp) -> Result<(), StoreError>;

    /// Returns the account that bears this nickname in any spelling ([`NicknameKey`]). Of several, as Spring services allow them, the one
    /// that bears it as given; of two of these (a rename on its way) the one that took it last.
    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, StoreError>;

    /// When the account's present name was told, if that was after this moment: somebody with this address is there since then.
    async fn named_since(&self, account: &Account, moment: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// In the order asked; `None` where unknown or resigned.
    async fn nicknames_of(&self, accounts: &[Account]) -> Result<Vec<Option<String>>, StoreError>;

    /// An older word on the same pair changes nothing, nor does one from before either of them resigned.
    async fn set_relation(
        &self,
        relation: Relation,
        account: &Account,
        other: &Account,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Whether either blocks the other.
    async fn blocked(&self, one: &Account, other: &Account) -> Result<bool, StoreError>;

    /// Everybody whom this account blocks or who blocks it, each once, in no order.
    async fn blocked_with(&self, account: &Account) -> Result<Vec<Account>, StoreError>;

    /// The account resigned at that moment: forgets its nickname and its relations up to then. Idempotent; events from
    /// before the moment that come late bring nothing back.
    async fn erase(&self, account: &Account, at: Timestamp) -> Result<(), StoreError>;
}

/// Somebody whose nickname may be the one asked for.
pub(crate) struct Bearer {
    pub account: Account,
    pub nickname: String,
    pub changed_at: i64,
}

impl Bearer {
    /// Returns whom [`Directory::account_of`] means.
    pub fn choose(bearers: Vec<Self>, asked: &str) -> Option<Account> {
        let key = NicknameKey::of(asked);
        let found = bearers
            .into_iter()
            .filter(|bearer| NicknameKey::of(&bearer.nickname) == key);
        let first = found.min_by(|one, other| {
            let rank = |bearer: &Self| (bearer.nickname != asked, Reverse(bearer.changed_at));
            rank(one)
                .cmp(&rank(other))
                .then_with(|| one.account.cmp(&other.account))
        });
        first.map(|bearer| bearer.account)
    }
}

/// Which relation it is about, and whether it holds.
pub(crate) fn kind_of(relation: Relation) -> (&'static str, bool) {
    match relation {
        Relation::Block => (BLOCK, true),
        Relation::Unblock => (BLOCK, false),
        Relation::Follow => (FOLLOW, true),
        Relation::Unfollow => (FOLLOW, false),
    }
}

pub(crate) const BLOCK: &str = "block";
const FOLLOW: &str = "follow";

pub(crate) fn check_length(nickname: Option<&str>) -> Result<(), StoreError> {
    match nickname {
        Some(name) if name.len() > MAX_NICKNAME => Err(StoreError::Invalid(anyhow::anyhow!(
            "the nickname has {} bytes",
            name.len()
        ))),
        _ => Ok(()),
    }
}

pub(crate) fn parse_account(text: &str) -> Result<Account, StoreError> {
    text.parse()
        .map_err(|_| StoreError::corrupt("an account in the database is not one"))
}
