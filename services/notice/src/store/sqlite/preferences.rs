use async_trait::async_trait;
use sosohappy_common::Account;
use sosohappy_store::{StoreError, retrying};

use super::{SqliteStore, is_erased};
use crate::domain::{Mute, Preferences};
use crate::store::{Choice, Choices, Decision, Saved, VersionedPreferences, broken, parse_preferences};

#[async_trait]
impl Choices for SqliteStore {
    async fn preferences(&self, account: &Account) -> Result<VersionedPreferences, StoreError> {
        let found: Option<(String, i64)> =
            sqlx::query_as("SELECT preferences, version FROM preference WHERE account = ?")
                .bind(account.as_str())
                .fetch_optional(self.database.reader())
                .await?;
        found.map_or(Ok(VersionedPreferences::default()), |(preferences, version)| {
            VersionedPreferences::parse(&preferences, version)
        })
    }

    async fn set_preferences(
        &self,
        by: &Decision<'_>,
        preferences: &Preferences,
        version: i64,
    ) -> Result<Saved, StoreError> {
        let preferences = serde_json::to_string(preferences).expect("preferences are JSON");
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            if is_erased(&mut tx, [Some((by.account, by.authorized_at)), None]).await? {
                return Ok(Saved::Erased);
            }
            // Of a stored version only that one is replaced; version 0 is that of no row.
            let written = sqlx::query(
                "INSERT INTO preference (account, preferences, version, changed_at) VALUES (?1, ?2, ?3 + 1, ?4)
                ON CONFLICT (account) DO UPDATE SET
                    preferences = excluded.preferences, version = excluded.version, changed_at = excluded.changed_at
                WHERE preference.version = ?3",
            )
            .bind(by.account.as_str())
            .bind(&preferences)
            .bind(version)
            .bind(by.authorized_at.as_millisecond())
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(match written.rows_affected() {
                0 => Saved::ChangedMeanwhile,
                _ => Saved::Yes,
            })
        })
        .await
    }

    async fn mute(&self, by: &Decision<'_>, mute: &Mute, muted: bool) -> Result<bool, StoreError> {
        retrying(|| async {
            let mut tx = self.database.begin().await?;
            let other = mute.other().map(|other| (other, by.at));
            if is_erased(&mut tx, [Some((by.account, by.authorized_at)), other]).await? {
                return Ok(false);
            }
            let statement = if muted {
                "INSERT INTO mute (account, kind, target, authorized_at, muted_at) VALUES (?1, ?2, ?3, ?4, ?5)
                ON CONFLICT (account, kind, target) DO UPDATE
                SET authorized_at = excluded.authorized_at, muted_at = excluded.muted_at"
            } else {
                "DELETE FROM mute WHERE account = ?1 AND kind = ?2 AND target = ?3"
            };
            let query = sqlx::query(statement)
                .bind(by.account.as_str())
                .bind(mute.kind())
                .bind(mute.target());
            let query = if muted {
                query
                    .bind(by.authorized_at.as_millisecond())
                    .bind(by.at.as_millisecond())
            } else {
                query
            };
            query.execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(true)
        })
        .await
    }

    async fn mutes(&self, account: &Account) -> Result<Vec<Mute>, StoreError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT kind, target FROM mute WHERE account = ? ORDER BY kind, target")
                .bind(account.as_str())
                .fetch_all(self.database.reader())
                .await?;
        let mute =
            |(kind, target): &(String, String)| Mute::of(kind, target).ok_or_else(|| broken("a mute is invalid"));
        let known = rows.iter().filter(|(kind, _)| Mute::KINDS.contains(&kind.as_str()));
        known.map(mute).collect()
    }

    async fn choice(&self, account: &Account, mute: Option<&Mute>) -> Result<Choice, StoreError> {
        let (preferences, muted): (Option<String>, Option<i64>) = sqlx::query_as(
            "SELECT (SELECT preferences FROM preference WHERE account = ?1), \
             (SELECT 1 FROM mute WHERE account = ?1 AND kind = ?2 AND target = ?3)",
        )
        .bind(account.as_str())
        .bind(mute.map(Mute::kind))
        .bind(mute.map(Mute::target))
        .fetch_one(self.database.reader())
        .await?;
        Ok(Choice {
            preferences: preferences
                .as_deref()
                .map_or(Ok(Preferences::default()), parse_preferences)?,
            is_muted: muted.is_some(),
        })
    }
}
