use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::sqlite::{Engine, Tx};
use sosohappy_store::{StoreError, retrying};
use sqlx::QueryBuilder;

use super::SqliteStore;
use crate::store::{DeviceChange, DeviceList, Devices, MOST_DEVICES, session_key};

#[async_trait]
impl Devices for SqliteStore {
    async fn change(&self, change: &DeviceChange) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            match &change.token {
                None if change.session.is_none() => forget_all(&mut tx, &change.account, change.at).await?,
                token => set(&mut tx, change, token.as_deref()).await?,
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn list(&self, list: &DeviceList) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            if !is_newest_list(&mut tx, &list.account, list.at).await? {
                return Ok(());
            }
            let mut gone = QueryBuilder::<Engine>::new("UPDATE device SET token = NULL, changed_at = ");
            gone.push_bind(list.at.as_millisecond())
                .push(" WHERE account = ")
                .push_bind(list.account.as_str())
                .push(" AND changed_at < ")
                .push_bind(list.at.as_millisecond())
                .push(" AND session NOT IN (");
            let mut keys = gone.separated(", ");
            for key in list.session_keys() {
                keys.push_bind(key);
            }
            gone.push(")").build().execute(&mut *tx).await?;
            for change in list.changes() {
                set(&mut tx, &change, change.token.as_deref()).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn of(&self, account: &Account) -> Result<Vec<String>, StoreError> {
        let tokens = sqlx::query_scalar(
            "SELECT token FROM device WHERE account = ? AND token IS NOT NULL
            GROUP BY token ORDER BY MAX(changed_at) DESC, token LIMIT ?",
        )
        .bind(account.as_str())
        .bind(i64::try_from(MOST_DEVICES).unwrap_or(i64::MAX))
        .fetch_all(self.database.reader())
        .await?;
        Ok(tokens)
    }

    async fn forget(&self, token: &str, since: Option<Timestamp>) -> Result<(), StoreError> {
        let since = since.unwrap_or(Timestamp::MAX).as_millisecond();
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            sqlx::query("UPDATE device SET token = NULL WHERE token = ? AND changed_at <= ?")
                .bind(token)
                .bind(since)
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

async fn set(tx: &mut Tx, change: &DeviceChange, token: Option<&str>) -> Result<(), StoreError> {
    let at = change.at.as_millisecond();
    let marked: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM account_mark WHERE person = ? AND (erased_until >= ? OR devices_forgotten_until >= ?)",
    )
    .bind(change.account.fingerprint())
    .bind(at)
    .bind(at)
    .fetch_optional(&mut **tx)
    .await?;
    if marked.is_some() {
        return Ok(());
    }
    let newer: Option<i64> = sqlx::query_scalar("SELECT 1 FROM device WHERE token = ? AND changed_at > ? LIMIT 1")
        .bind(token)
        .bind(at)
        .fetch_optional(&mut **tx)
        .await?;
    // Somebody else signed in on the device since.
    let token = token.filter(|_| newer.is_none());
    let changed = sqlx::query(
        "INSERT INTO device (account, session, token, changed_at) VALUES (?, ?, ?, ?)
        ON CONFLICT (account, session) DO UPDATE SET token = excluded.token, changed_at = excluded.changed_at
        WHERE excluded.changed_at > device.changed_at",
    )
    .bind(change.account.as_str())
    .bind(session_key(change.session))
    .bind(token)
    .bind(at)
    .execute(&mut **tx)
    .await?;
    if changed.rows_affected() > 0 {
        sqlx::query("UPDATE device SET token = NULL WHERE token = ? AND NOT (account = ? AND session = ?)")
            .bind(token)
            .bind(change.account.as_str())
            .bind(session_key(change.session))
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Whether no newer list of the account's devices was applied; remembers this one then.
async fn is_newest_list(tx: &mut Tx, account: &Account, at: Timestamp) -> Result<bool, StoreError> {
    let at = at.as_millisecond();
    let marked = sqlx::query(
        "INSERT INTO account_mark (person, devices_listed_at, marked_at) VALUES (?, ?, ?)
        ON CONFLICT (person) DO UPDATE SET
            devices_listed_at = excluded.devices_listed_at,
            marked_at = MAX(account_mark.marked_at, excluded.marked_at)
        WHERE account_mark.devices_listed_at IS NULL OR account_mark.devices_listed_at <= excluded.devices_listed_at",
    )
    .bind(account.fingerprint())
    .bind(at)
    .bind(at)
    .execute(&mut **tx)
    .await?;
    Ok(marked.rows_affected() > 0)
}

async fn forget_all(tx: &mut Tx, account: &Account, at: Timestamp) -> Result<(), StoreError> {
    let at = at.as_millisecond();
    sqlx::query(
        "INSERT INTO account_mark (person, devices_forgotten_until, marked_at) VALUES (?, ?, ?)
        ON CONFLICT (person) DO UPDATE SET
            devices_forgotten_until = MAX(COALESCE(account_mark.devices_forgotten_until, excluded.devices_forgotten_until), excluded.devices_forgotten_until),
            marked_at = MAX(account_mark.marked_at, excluded.marked_at)",
    )
    .bind(account.fingerprint())
    .bind(at)
    .bind(at)
    .execute(&mut **tx)
    .await?;
    sqlx::query("DELETE FROM device WHERE account = ? AND changed_at <= ?")
        .bind(account.as_str())
        .bind(at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
