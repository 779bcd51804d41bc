//! A service's copy of nicknames and relations of accounts, which auth owns. Fed by events; the newest event wins.

use std::cmp::Reverse;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::{Account, NicknameKey};
use sosohappy_events::types::Relation;

use crate::StoreError;

/// The longest nickname that is kept, in bytes; a longer one is [`StoreError::Invalid`].
pub const MAX_NICKNAME: usize = 1000;

/// One suite of tests runs on all three adapters. Times are compared in milliseconds; of two events of the same millisecond the later
/// call wins, but only an event of a later millisecond undoes a resignation.
#[async_trait]
pub trait Directory: std::fmt::Debug + Send + Sync {
    /// Sets the nickname as of that moment; `None`: the account resigned. Ignores an event older than the stored one.
    async fn set_nickname(&self, account: &Account, nickname: Option<&str>, at: Timestamp) -> Result<(), StoreError>;

    /// Returns the account that has this nickname in any spelling ([`NicknameKey`]). Of several, as Spring services allow them, the one
    /// that has it as given; of two of these (while a rename is in progress) the one that took it last.
    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, StoreError>;

    /// Returns the time of the event that set the account's present nickname, if it is later than `moment`: the account has signed up again
    /// since then.
    async fn named_since(&self, account: &Account, moment: Timestamp) -> Result<Option<Timestamp>, StoreError>;

    /// Returns nicknames in the order of `accounts`; `None` for an unknown or resigned account.
    async fn nicknames_of(&self, accounts: &[Account]) -> Result<Vec<Option<String>>, StoreError>;

    /// Sets a relation as of that moment. Ignores an event older than the stored one of the pair, or than a resignation of either account.
    async fn set_relation(
        &self,
        relation: Relation,
        account: &Account,
        other: &Account,
        at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Returns whether either account blocks the other.
    async fn blocked(&self, one: &Account, other: &Account) -> Result<bool, StoreError>;

    /// Returns of each pair what [`Directory::blocked`] does, in the order of `pairs`, by one statement for up to 500 of them.
    async fn blocked_among(&self, pairs: &[(&Account, &Account)]) -> Result<Vec<bool>, StoreError>;

    /// Returns the accounts that this account blocks or that block it, each once, in no order.
    async fn blocked_with(&self, account: &Account) -> Result<Vec<Account>, StoreError>;

    /// Returns whether each account follows the other.
    async fn friends(&self, one: &Account, other: &Account) -> Result<bool, StoreError>;

    /// Deletes the nickname and the relations of an account that resigned at that moment. Idempotent; earlier events that arrive later
    /// restore nothing.
    async fn erase(&self, account: &Account, at: Timestamp) -> Result<(), StoreError>;
}

/// An account whose nickname may be the one asked for.
pub(crate) struct Bearer {
    pub account: Account,
    pub nickname: String,
    pub changed_at: i64,
}

impl Bearer {
    /// Returns the account that [`Directory::account_of`] chooses.
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

/// Returns the stored kind of a relation, and whether it is active.
pub(crate) fn kind_of(relation: Relation) -> (&'static str, bool) {
    match relation {
        Relation::Block => (BLOCK, true),
        Relation::Unblock => (BLOCK, false),
        Relation::Follow => (FOLLOW, true),
        Relation::Unfollow => (FOLLOW, false),
    }
}

pub(crate) const BLOCK: &str = "block";
pub(crate) const FOLLOW: &str = "follow";

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
    text.parse().map_err(|_| StoreError::corrupt("stored account invalid"))
}
