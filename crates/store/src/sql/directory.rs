//! The directory of accounts, inside a transaction of the service or on its own.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::{Account, NicknameKey};
use sosohappy_events::types::Relation;
use sqlx::{QueryBuilder, Row as _};

use super::{Database, Engine, Tx, dialect};
use crate::directory::{BLOCK, Bearer, FOLLOW, check_length, kind_of, parse_account};
use crate::retry::retrying;
use crate::time::instant;
use crate::{Directory, StoreError};

/// The most accounts of one statement.
const BATCH: usize = 500;

/// [`Directory::set_nickname`] in a transaction.
pub async fn set_nickname(
    tx: &mut Tx,
    account: &Account,
    nickname: Option<&str>,
    at: Timestamp,
) -> Result<(), StoreError> {
    check_length(nickname)?;
    let at = at.as_millisecond();
    let statement = match nickname {
        Some(nickname) => sqlx::query(dialect::SET_NICKNAME)
            .bind(account.fingerprint())
            .bind(account.as_str())
            .bind(nickname)
            .bind(NicknameKey::of(nickname).as_bytes().to_vec())
            .bind(at),
        None => sqlx::query(dialect::SET_RESIGNED)
            .bind(account.fingerprint())
            .bind(at)
            .bind(at),
    };
    statement.execute(&mut **tx).await?;
    Ok(())
}

/// [`Directory::set_relation`] in a transaction.
pub async fn set_relation(
    tx: &mut Tx,
    relation: Relation,
    account: &Account,
    other: &Account,
    at: Timestamp,
) -> Result<(), StoreError> {
    let (kind, active) = kind_of(relation);
    sqlx::query(dialect::SET_RELATION)
        .bind(account.as_str())
        .bind(other.as_str())
        .bind(kind)
        .bind(active)
        .bind(at.as_millisecond())
        .execute(&mut **tx)
        .await?;

    // Writes first, then compares. Of a concurrent resignation, either this transaction sees its row (and deletes the relation below), or
    // the resignation sees the relation and deletes it.
    let resigned: Vec<i64> = sqlx::query_scalar(dialect::LAST_RESIGNED)
        .bind(account.fingerprint())
        .bind(other.fingerprint())
        .fetch_all(&mut **tx)
        .await?;
    if let Some(moment) = resigned.into_iter().max() {
        sqlx::query("DELETE FROM directory_relation WHERE account = ? AND other = ? AND kind = ? AND changed_at <= ?")
            .bind(account.as_str())
            .bind(other.as_str())
            .bind(kind)
            .bind(moment)
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// [`Directory::erase`] in a transaction.
pub async fn erase(tx: &mut Tx, account: &Account, at: Timestamp) -> Result<(), StoreError> {
    set_nickname(tx, account, None, at).await?;
    for statement in [
        "DELETE FROM directory_relation WHERE account = ? AND changed_at <= ?",
        "DELETE FROM directory_relation WHERE other = ? AND changed_at <= ?",
    ] {
        sqlx::query(statement)
            .bind(account.as_str())
            .bind(at.as_millisecond())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Makes the keys of names that were stored before there were keys.
pub(super) async fn make_keys(database: &Database) -> Result<(), StoreError> {
    loop {
        let rows = sqlx::query(
            "SELECT person, nickname FROM directory WHERE nickname_key IS NULL AND nickname IS NOT NULL LIMIT ?",
        )
        .bind(i64::try_from(BATCH).unwrap_or(i64::MAX))
        .fetch_all(database.reader())
        .await?;
        retrying(|| async {
            let mut tx = database.begin().await?;
            for row in &rows {
                // Bytes on MySQL: nothing says that they are text.
                let (person, nickname): (Vec<u8>, Vec<u8>) = (row.try_get_unchecked(0)?, row.try_get_unchecked(1)?);
                let (person, nickname) = (String::from_utf8_lossy(&person), String::from_utf8_lossy(&nickname));
                sqlx::query("UPDATE directory SET nickname_key = ? WHERE person = ? AND nickname_key IS NULL")
                    .bind(NicknameKey::of(&nickname).as_bytes().to_vec())
                    .bind(person.into_owned())
                    .execute(&mut *tx)
                    .await?;
            }
            Ok::<_, StoreError>(tx.commit().await?)
        })
        .await?;
        if rows.len() < BATCH {
            return Ok(());
        }
    }
}

#[derive(Debug)]
pub(super) struct SqlDirectory(pub Database);

#[async_trait]
impl Directory for SqlDirectory {
    async fn set_nickname(&self, account: &Account, nickname: Option<&str>, at: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            set_nickname(&mut tx, account, nickname, at).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, StoreError> {
        let key = NicknameKey::of(nickname);
        // By the text too: a row that a replica of an older release has written has no key, or that of its name before.
        let rows = sqlx::query(
            "SELECT account, nickname, changed_at FROM directory WHERE nickname = ?
            UNION SELECT account, nickname, changed_at FROM directory WHERE nickname_key = ?",
        )
        .bind(nickname)
        .bind(key.as_bytes().as_slice())
        .fetch_all(self.0.reader())
        .await?;
        let mut bearers = Vec::with_capacity(rows.len());
        for row in rows {
            bearers.push(Bearer {
                account: parse_account(row.try_get_unchecked(0)?)?,
                nickname: row.try_get_unchecked(1)?,
                changed_at: row.try_get(2)?,
            });
        }
        Ok(Bearer::choose(bearers, nickname))
    }

    async fn named_since(&self, account: &Account, moment: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let changed_at: Option<i64> = sqlx::query_scalar(
            "SELECT changed_at FROM directory WHERE person = ? AND nickname IS NOT NULL AND changed_at > ?",
        )
        .bind(account.fingerprint())
        .bind(moment.as_millisecond())
        .fetch_optional(self.0.reader())
        .await?;
        changed_at.map(instant).transpose()
    }

    async fn nicknames_of(&self, accounts: &[Account]) -> Result<Vec<Option<String>>, StoreError> {
        let mut known: HashMap<String, String> = HashMap::with_capacity(accounts.len());
        for accounts in accounts.chunks(BATCH) {
            let mut select = QueryBuilder::<Engine>::new(
                "SELECT account, nickname FROM directory WHERE nickname IS NOT NULL AND person IN (",
            );
            let mut list = select.separated(", ");
            for account in accounts {
                list.push_bind(account.fingerprint());
            }
            for row in select.push(")").build().fetch_all(self.0.reader()).await? {
                known.insert(row.try_get_unchecked(0)?, row.try_get_unchecked(1)?);
            }
        }
        Ok(accounts
            .iter()
            .map(|account| known.get(account.as_str()).cloned())
            .collect())
    }

    async fn set_relation(
        &self,
        relation: Relation,
        account: &Account,
        other: &Account,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            set_relation(&mut tx, relation, account, other, at).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn blocked(&self, one: &Account, other: &Account) -> Result<bool, StoreError> {
        let row = sqlx::query(
            "SELECT 1 FROM directory_relation WHERE kind = ? AND active
                AND ((account = ? AND other = ?) OR (account = ? AND other = ?)) LIMIT 1",
        )
        .bind(BLOCK)
        .bind(one.as_str())
        .bind(other.as_str())
        .bind(other.as_str())
        .bind(one.as_str())
        .fetch_optional(self.0.reader())
        .await?;
        Ok(row.is_some())
    }

    async fn blocked_among(&self, pairs: &[(&Account, &Account)]) -> Result<Vec<bool>, StoreError> {
        let mut blocks: HashSet<(String, String)> = HashSet::new();
        for pairs in pairs.chunks(BATCH) {
            let mut select = QueryBuilder::<Engine>::new("SELECT account, other FROM directory_relation WHERE kind = ");
            select.push_bind(BLOCK).push(" AND active AND (");
            // Not a list of rows: SQLite reads the whole table for one. One term a pair: SQLite takes a depth of 1,000.
            let mut either = select.separated(" OR ");
            for (one, other) in pairs {
                either
                    .push("((account = ")
                    .push_bind_unseparated(one.as_str())
                    .push_unseparated(" AND other = ")
                    .push_bind_unseparated(other.as_str())
                    .push_unseparated(") OR (account = ")
                    .push_bind_unseparated(other.as_str())
                    .push_unseparated(" AND other = ")
                    .push_bind_unseparated(one.as_str())
                    .push_unseparated("))");
            }
            for row in select.push(")").build().fetch_all(self.0.reader()).await? {
                blocks.insert((row.try_get_unchecked(0)?, row.try_get_unchecked(1)?));
            }
        }
        let is_blocked = |(one, other): &(&Account, &Account)| {
            let (one, other) = (one.as_str().to_owned(), other.as_str().to_owned());
            blocks.contains(&(one.clone(), other.clone())) || blocks.contains(&(other, one))
        };
        Ok(pairs.iter().map(is_blocked).collect())
    }

    async fn blocked_with(&self, account: &Account) -> Result<Vec<Account>, StoreError> {
        let rows = sqlx::query(
            "SELECT other FROM directory_relation WHERE account = ? AND kind = ? AND active
            UNION SELECT account FROM directory_relation WHERE other = ? AND kind = ? AND active",
        )
        .bind(account.as_str())
        .bind(BLOCK)
        .bind(account.as_str())
        .bind(BLOCK)
        .fetch_all(self.0.reader())
        .await?;
        rows.iter()
            .map(|row| parse_account(row.try_get_unchecked(0)?))
            .collect()
    }

    async fn friends(&self, one: &Account, other: &Account) -> Result<bool, StoreError> {
        let follows = sqlx::query(
            "SELECT 1 FROM directory_relation WHERE kind = ? AND active
                AND ((account = ? AND other = ?) OR (account = ? AND other = ?)) LIMIT 2",
        )
        .bind(FOLLOW)
        .bind(one.as_str())
        .bind(other.as_str())
        .bind(other.as_str())
        .bind(one.as_str())
        .fetch_all(self.0.reader())
        .await?;
        Ok(follows.len() == 2)
    }

    async fn erase(&self, account: &Account, at: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            erase(&mut tx, account, at).await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}
