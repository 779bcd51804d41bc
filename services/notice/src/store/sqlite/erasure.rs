use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::sqlite::{Tx, directory, enqueue, first_time, note_erasure};
use sosohappy_store::{Ping, StoreError, retrying};

use super::SqliteStore;
use crate::domain::OWN_DOING;
use crate::store::{Erasure, Horizons, LATE, Store, parse_account, timestamp};

#[async_trait]
impl Store for SqliteStore {
    async fn erase(&self, erasure: &Erasure, now: Timestamp) -> Result<(), StoreError> {
        retrying(|| self.erase_once(erasure, now)).await
    }

    async fn born(&self, now: Timestamp) -> Result<Timestamp, StoreError> {
        let born_at = retrying(|| async {
            let mut tx = self.database.begin().await?;
            sqlx::query("INSERT INTO birth (id, born_at) VALUES (1, ?) ON CONFLICT (id) DO NOTHING")
                .bind(now.as_millisecond())
                .execute(&mut *tx)
                .await?;
            let born_at: i64 = sqlx::query_scalar("SELECT born_at FROM birth WHERE id = 1")
                .fetch_one(&mut *tx)
                .await?;
            tx.commit().await?;
            Ok::<_, StoreError>(born_at)
        })
        .await?;
        timestamp(born_at)
    }

    async fn sweep(&self, horizons: Horizons) -> Result<(), StoreError> {
        let memory = horizons.memory.as_millisecond();
        for (statement, before) in [
            (
                "DELETE FROM notice WHERE stored_at < ?",
                horizons.notices.as_millisecond(),
            ),
            (
                "DELETE FROM banner WHERE occurred_at < ?",
                horizons.notices.as_millisecond(),
            ),
            ("DELETE FROM push WHERE queued_at < ?", memory),
            ("DELETE FROM withdrawal WHERE stored_at < ?", memory),
            ("DELETE FROM message WHERE handled = 1 AND occurred_at < ?", memory),
            // A member who does not open a room leaves its messages unread.
            (
                "DELETE FROM message WHERE room IS NOT NULL AND occurred_at < ?",
                horizons.notices.as_millisecond(),
            ),
            ("DELETE FROM message_read WHERE read_at < ?", memory),
            ("DELETE FROM room_read WHERE read_at < ?", memory),
            (
                "DELETE FROM push_window WHERE started_at < ?",
                horizons.windows.as_millisecond(),
            ),
            // A device without a token is remembered as long: a list of auth may still have it.
            (
                "DELETE FROM device WHERE changed_at < ?1 AND COALESCE(seen_at, changed_at) < ?1",
                horizons.devices.as_millisecond(),
            ),
            ("DELETE FROM account_mark WHERE marked_at < ?", memory),
        ] {
            retrying(|| async {
                let mut tx = self.database.begin().await?;
                sqlx::query(statement).bind(before).execute(&mut *tx).await?;
                Ok::<_, StoreError>(tx.commit().await?)
            })
            .await?;
        }
        self.erase_gone(horizons.gone).await
    }
}

#[async_trait]
impl Ping for SqliteStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.database.ping().await
    }
}

impl SqliteStore {
    /// Deletes what others did in the hour after the resignation to accounts that resigned before that moment and have no name again.
    async fn erase_gone(&self, before: Timestamp) -> Result<(), StoreError> {
        let noted: Vec<(String, i64)> = sqlx::query_as(
            "SELECT unclaimed, erased_until FROM account_mark WHERE unclaimed IS NOT NULL AND erased_until < ?",
        )
        .bind(before.as_millisecond())
        .fetch_all(self.database.reader())
        .await?;
        for (account, until) in noted {
            let account = parse_account(&account)?;
            let named = self
                .database
                .directory()
                .named_since(&account, timestamp(until)?)
                .await?;
            retrying(|| async {
                let mut tx = self.database.begin().await?;
                if named.is_none() {
                    erase_late(&mut tx, &account, until).await?;
                    note_erasure(&mut tx, self.clock.now()).await?;
                }
                // Not after another resignation meanwhile.
                sqlx::query("UPDATE account_mark SET unclaimed = NULL WHERE person = ? AND erased_until = ?")
                    .bind(account.fingerprint())
                    .bind(until)
                    .execute(&mut *tx)
                    .await?;
                Ok::<_, StoreError>(tx.commit().await?)
            })
            .await?;
        }
        Ok(())
    }

    async fn erase_once(&self, erasure: &Erasure, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.database.begin().await?;
        if first_time(&mut tx, "resign", erasure.event, now).await? {
            erase(&mut tx, &erasure.account, erasure.at).await?;
            note_erasure(&mut tx, now).await?;
        }
        // Again too: a resignation is published again when its receipt has not arrived.
        enqueue(&mut tx, &erasure.receipt, now).await?;
        Ok(tx.commit().await?)
    }
}

/// Erases an account up to that moment. It is unclaimed if something later is left.
async fn erase(tx: &mut Tx, erased: &Account, moment: Timestamp) -> Result<(), StoreError> {
    let (account, at) = (erased.as_str(), moment.as_millisecond());
    sqlx::query(
        "INSERT INTO account_mark (person, erased_until, marked_at) VALUES (?, ?, ?)
            ON CONFLICT (person) DO UPDATE SET
                erased_until = MAX(COALESCE(account_mark.erased_until, excluded.erased_until), excluded.erased_until),
                marked_at = MAX(account_mark.marked_at, excluded.marked_at)",
    )
    .bind(erased.fingerprint())
    .bind(at)
    .bind(at)
    .execute(&mut **tx)
    .await?;
    for statement in [
        "DELETE FROM notice WHERE account = ? AND COALESCE(account_at, occurred_at) <= ?",
        "DELETE FROM inbox_read WHERE account = ? AND read_at <= ?",
        // Settled pushes have no account; a like of the next account of the address is another notice.
        "DELETE FROM push WHERE event_id IN (
            SELECT event_id FROM notice WHERE actor = ? AND COALESCE(actor_at, occurred_at) <= ?)",
        // The number stays: the receiver's next notice gets another one.
        "UPDATE notice SET withdrawn = 1, actor = NULL, data = '{}'
        WHERE actor = ? AND COALESCE(actor_at, occurred_at) <= ?",
        "DELETE FROM device WHERE account = ? AND COALESCE(authorized_at, changed_at) <= ?",
        "DELETE FROM banner WHERE account = ? AND occurred_at <= ?",
        "DELETE FROM message WHERE account = ? AND occurred_at <= ?",
        "DELETE FROM message WHERE sender = ? AND COALESCE(authorized_at, occurred_at) <= ?",
        "DELETE FROM message_read WHERE account = ? AND COALESCE(authorized_at, read_at) <= ?",
        "DELETE FROM message_read WHERE sender = ? AND read_at <= ?",
        "DELETE FROM room_read WHERE account = ? AND COALESCE(authorized_at, read_at) <= ?",
        "DELETE FROM preference WHERE account = ? AND changed_at <= ?",
        "DELETE FROM mute WHERE account = ? AND authorized_at <= ?",
        "DELETE FROM mute WHERE kind = 'conversation' AND target = ? AND muted_at <= ?",
        "DELETE FROM push WHERE account = ? AND occurred_at <= ?",
        "DELETE FROM push WHERE actor = ? AND COALESCE(authorized_at, occurred_at) <= ?",
    ] {
        sqlx::query(statement).bind(account).bind(at).execute(&mut **tx).await?;
    }
    sqlx::query(
        "UPDATE account_mark SET unclaimed = CASE WHEN
            EXISTS (SELECT 1 FROM notice WHERE account = ?1) OR EXISTS (SELECT 1 FROM notice WHERE actor = ?1)
            OR EXISTS (SELECT 1 FROM message WHERE account = ?1) OR EXISTS (SELECT 1 FROM message WHERE sender = ?1)
            OR EXISTS (SELECT 1 FROM message_read WHERE sender = ?1)
            OR EXISTS (SELECT 1 FROM mute WHERE kind = 'conversation' AND target = ?1)
        THEN ?1 END WHERE person = ?2",
    )
    .bind(account)
    .bind(erased.fingerprint())
    .execute(&mut **tx)
    .await?;
    directory::erase(tx, erased, moment).await
}

async fn erase_late(tx: &mut Tx, account: &Account, until: i64) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM push WHERE account = ? AND occurred_at > ? AND occurred_at <= ?",
        "DELETE FROM banner WHERE account = ? AND occurred_at > ? AND occurred_at <= ?",
        "DELETE FROM message WHERE account = ? AND occurred_at > ? AND occurred_at <= ?",
        "DELETE FROM message_read WHERE sender = ? AND read_at > ? AND read_at <= ?",
        "DELETE FROM mute WHERE kind = 'conversation' AND target = ? AND muted_at > ? AND muted_at <= ?",
        "DELETE FROM notice WHERE account = ? AND occurred_at > ? AND occurred_at <= ?",
    ] {
        sqlx::query(statement)
            .bind(account.as_str())
            .bind(until)
            .bind(until + LATE)
            .execute(&mut **tx)
            .await?;
    }
    let [bookmark, canceled] = OWN_DOING;
    sqlx::query(
        "UPDATE notice SET withdrawn = 1, actor = NULL, data = '{}'
        WHERE actor = ? AND topic IN (?, ?) AND occurred_at > ? AND occurred_at <= ?",
    )
    .bind(account.as_str())
    .bind(bookmark)
    .bind(canceled)
    .bind(until)
    .bind(until + LATE)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
