//! The ledger of erased accounts, in the table `erased_account` of a service that erases what its accounts wrote: by SHA-256 of the
//! account, the moment up to which it is erased.
//!
//! A write and a resignation that cross: the write inserts its row and reads the ledger last, waiting for an uncommitted [`close`];
//! [`close`] is committed before the erasure looks for rows. So either the write sees the resignation, or the erasure the row.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use sosohappy_common::Account;
use sqlx::{QueryBuilder, Row as _};

use super::dialect::{ERASED_AT_THE_LATEST, FOR_SHARE};
use super::{Engine, Tx};
use crate::StoreError;
use crate::time::instant;

/// Accounts of one statement.
const BATCH: usize = 500;

/// Writes down that the account is erased up to this moment. A later moment that is in the ledger stays.
pub async fn close(tx: &mut Tx, account: &Account, until: Timestamp) -> Result<(), StoreError> {
    let mut query = QueryBuilder::<Engine>::new("INSERT INTO erased_account (account, erased_until) VALUES (");
    query
        .push_bind(account.fingerprint())
        .push(", ")
        .push_bind(until.as_millisecond())
        .push(")");
    query.push(ERASED_AT_THE_LATEST).build().execute(&mut **tx).await?;
    Ok(())
}

/// Returns the moment up to which the account is erased, and keeps others from changing it until the transaction ends.
pub async fn erased_until(tx: &mut Tx, account: &Account) -> Result<Option<Timestamp>, StoreError> {
    let mut query = QueryBuilder::<Engine>::new("SELECT erased_until FROM erased_account WHERE account = ");
    query.push_bind(account.fingerprint()).push(FOR_SHARE);
    let until: Option<i64> = query.build_query_scalar().fetch_optional(&mut **tx).await?;
    until.map(instant).transpose()
}

/// Appends a condition: the account is not erased up to `at` or later. In a statement after the write's own rows, it does what [`erased_until`]
/// does, without a statement of its own. It waits for no [`close`]: an erasure must look for rows with locking reads.
pub fn push_not_erased(query: &mut QueryBuilder<Engine>, account: &Account, at: Timestamp) {
    query
        .push("NOT EXISTS (SELECT 1 FROM erased_account erased WHERE erased.account = ")
        .push_bind(account.fingerprint())
        .push(" AND erased.erased_until >= ")
        .push_bind(at.as_millisecond())
        .push(")");
}

/// Returns which of the accounts are erased up to `at` or later, and keeps others from changing them until the transaction ends.
pub async fn erased_since(tx: &mut Tx, accounts: &[Account], at: Timestamp) -> Result<HashSet<Account>, StoreError> {
    let mut erased = erased_moments(tx, accounts).await?;
    erased.retain(|_, until| *until >= at);
    Ok(erased.into_keys().collect())
}

/// [`erased_until`] of many accounts, without those that are not erased.
pub async fn erased_moments(tx: &mut Tx, accounts: &[Account]) -> Result<HashMap<Account, Timestamp>, StoreError> {
    let mut erased = HashMap::new();
    for batch in accounts.chunks(BATCH) {
        let mut query =
            QueryBuilder::<Engine>::new("SELECT account, erased_until FROM erased_account WHERE account IN (");
        let mut list = query.separated(", ");
        for account in batch {
            list.push_bind(account.fingerprint());
        }
        query.push(")").push(FOR_SHARE);
        let mut found = HashMap::new();
        for row in query.build().fetch_all(&mut **tx).await? {
            // Unchecked: MySQL has bytes in this column.
            let account: String = row.try_get_unchecked(0)?;
            found.insert(account, instant(row.try_get(1)?)?);
        }
        let of_batch = batch
            .iter()
            .filter_map(|account| Some((account.clone(), *found.get(&account.fingerprint())?)));
        erased.extend(of_batch);
    }
    Ok(erased)
}

/// Deletes the entries of accounts that were erased up to a moment before this one: no token of theirs is valid any more.
pub async fn forget(tx: &mut Tx, before: Timestamp) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM erased_account WHERE erased_until < ?")
        .bind(before.as_millisecond())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
