use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::SessionId;
use sosohappy_store::sqlite::{Engine, Tx};
use sosohappy_store::{StoreError, retrying};
use sqlx::QueryBuilder;

use super::SqliteStore;
use crate::domain::{Language, OwnDevice, PushDevice, Registration};
use crate::store::{DeviceChange, DeviceList, Devices, MOST_DEVICES, broken, own_device, session_key};

#[derive(sqlx::FromRow)]
struct OwnRow {
    session: String,
    platform: Option<String>,
    language: Option<String>,
    seen_at: i64,
}

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
            if !is_newest_list(&mut tx, list).await? {
                return Ok(());
            }
            let mut gone = QueryBuilder::<Engine>::new("UPDATE device SET token = NULL, changed_at = MAX(changed_at, ");
            gone.push_bind(list.at.as_millisecond())
                .push(") WHERE account = ")
                .push_bind(list.account.as_str())
                // A registration counts from when its access token was issued: both times are by auth's clock.
                .push(" AND COALESCE(authorized_at, changed_at) < ")
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

    async fn register(&self, registration: &Registration) -> Result<bool, StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            if is_closed(&mut tx, registration).await? {
                return Ok(false);
            }
            let (account, session) = (registration.account.as_str(), session_key(Some(registration.session)));
            sqlx::query(
                "INSERT INTO device (account, session, token, changed_at, language, platform, seen_at, authorized_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?4, ?7)
                ON CONFLICT (account, session) DO UPDATE SET
                    token = excluded.token, changed_at = MAX(device.changed_at, excluded.changed_at),
                    language = excluded.language, platform = excluded.platform, seen_at = excluded.seen_at,
                    authorized_at = excluded.authorized_at",
            )
            .bind(account)
            .bind(&session)
            .bind(&registration.token)
            .bind(registration.at.as_millisecond())
            .bind(registration.language.as_str())
            .bind(registration.platform.as_str())
            .bind(registration.authorized_at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            take_from_others(&mut tx, &registration.token, account, &session).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    async fn remove(&self, account: &Account, session: Option<SessionId>, now: Timestamp) -> Result<bool, StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            // The row stays, so that a list of auth, which still has the token, does not bring it back.
            let removed = sqlx::query(
                "UPDATE device SET token = NULL, changed_at = MAX(changed_at, ?)
                WHERE account = ? AND session = ? AND token IS NOT NULL",
            )
            .bind(now.as_millisecond())
            .bind(account.as_str())
            .bind(session_key(session))
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(removed.rows_affected() > 0)
        })
        .await
    }

    async fn own(&self, account: &Account) -> Result<Vec<OwnDevice>, StoreError> {
        let rows: Vec<OwnRow> = sqlx::query_as(
            "SELECT session, platform, language, COALESCE(seen_at, changed_at) AS seen_at FROM device
            WHERE account = ? AND token IS NOT NULL ORDER BY COALESCE(seen_at, changed_at) DESC, session",
        )
        .bind(account.as_str())
        .fetch_all(self.database.reader())
        .await?;
        let own = |row: &OwnRow| {
            own_device(
                &row.session,
                row.platform.as_deref(),
                row.language.as_deref(),
                row.seen_at,
            )
        };
        rows.iter().map(own).collect()
    }

    async fn seen(&self, sessions: &[(Account, SessionId)], now: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            for (account, session) in sessions {
                sqlx::query(
                    "UPDATE device SET seen_at = MAX(COALESCE(seen_at, 0), ?) WHERE account = ? AND session = ?",
                )
                .bind(now.as_millisecond())
                .bind(account.as_str())
                .bind(session_key(Some(*session)))
                .execute(&mut *tx)
                .await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn token_of(&self, account: &Account, session: SessionId) -> Result<Option<String>, StoreError> {
        let token =
            sqlx::query_scalar("SELECT token FROM device WHERE account = ? AND session = ? AND token IS NOT NULL")
                .bind(account.as_str())
                .bind(session_key(Some(session)))
                .fetch_optional(self.database.reader())
                .await?;
        Ok(token)
    }

    async fn of(&self, account: &Account) -> Result<Vec<PushDevice>, StoreError> {
        // The language of the newest of the rows with that token: with one MAX, SQLite takes the other columns from its row.
        let rows: Vec<(String, Option<String>, i64)> = sqlx::query_as(
            "SELECT token, language, MAX(changed_at) FROM device WHERE account = ? AND token IS NOT NULL
            GROUP BY token ORDER BY MAX(changed_at) DESC, token LIMIT ?",
        )
        .bind(account.as_str())
        .bind(i64::try_from(MOST_DEVICES).unwrap_or(i64::MAX))
        .fetch_all(self.database.reader())
        .await?;
        let devices = rows.into_iter().map(|(token, language, _)| PushDevice {
            token,
            language: language.as_deref().map(Language::of_tag).unwrap_or_default(),
        });
        Ok(devices.collect())
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
    // Another account signed in on the device since.
    let token = token.filter(|_| newer.is_none());
    let session = session_key(change.session);
    let changed = sqlx::query(
        "INSERT INTO device (account, session, token, changed_at, seen_at) VALUES (?1, ?2, ?3, ?4, ?4)
        ON CONFLICT (account, session) DO UPDATE SET
            token = excluded.token, changed_at = excluded.changed_at,
            seen_at = MAX(COALESCE(device.seen_at, 0), excluded.seen_at)
        WHERE excluded.changed_at > device.changed_at",
    )
    .bind(change.account.as_str())
    .bind(&session)
    .bind(token)
    .bind(at)
    .execute(&mut **tx)
    .await?;
    if let Some(token) = token
        && changed.rows_affected() > 0
    {
        take_from_others(tx, token, change.account.as_str(), &session).await?;
    }
    Ok(())
}

/// Leaves a push token to one session only.
async fn take_from_others(tx: &mut Tx, token: &str, account: &str, session: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE device SET token = NULL WHERE token = ? AND NOT (account = ? AND session = ?)")
        .bind(token)
        .bind(account)
        .bind(session)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Returns whether the session was closed, or the account erased, after the access token was issued.
async fn is_closed(tx: &mut Tx, registration: &Registration) -> Result<bool, StoreError> {
    type Mark = (Option<i64>, Option<i64>, Option<String>);
    let mark: Option<Mark> =
        sqlx::query_as("SELECT erased_until, devices_listed_at, open_sessions FROM account_mark WHERE person = ?")
            .bind(registration.account.fingerprint())
            .fetch_optional(&mut **tx)
            .await?;
    let Some((erased_until, listed_at, open)) = mark else {
        return Ok(false);
    };
    let issued = registration.authorized_at.as_millisecond();
    let open: Option<Vec<String>> = open
        .map(|open| serde_json::from_str(&open).map_err(|_| broken("a list of sessions is invalid")))
        .transpose()?;
    let is_listed = |open: &Vec<String>| open.contains(&session_key(Some(registration.session)));
    let is_closed = listed_at.is_some_and(|at| at > issued) && !open.as_ref().is_none_or(is_listed);
    Ok(is_closed || erased_until.is_some_and(|until| until >= issued))
}

/// Returns whether no newer list of the account's devices was applied; remembers this one then.
async fn is_newest_list(tx: &mut Tx, list: &DeviceList) -> Result<bool, StoreError> {
    let at = list.at.as_millisecond();
    let marked = sqlx::query(
        "INSERT INTO account_mark (person, devices_listed_at, open_sessions, marked_at) VALUES (?1, ?2, ?3, ?2)
        ON CONFLICT (person) DO UPDATE SET
            devices_listed_at = excluded.devices_listed_at,
            open_sessions = excluded.open_sessions,
            marked_at = MAX(account_mark.marked_at, excluded.marked_at)
        WHERE account_mark.devices_listed_at IS NULL OR account_mark.devices_listed_at <= excluded.devices_listed_at",
    )
    .bind(list.account.fingerprint())
    .bind(at)
    .bind(list.open_sessions())
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
    sqlx::query("DELETE FROM device WHERE account = ? AND COALESCE(authorized_at, changed_at) <= ?")
        .bind(account.as_str())
        .bind(at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
