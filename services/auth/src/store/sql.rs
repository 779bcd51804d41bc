//! The text that both SQL engines share: reads outside a transaction, and secrets, which need no event. It is compiled
//! once inside `sqlite.rs` and once inside `mysql.rs`, which say what `engine` and `MIGRATIONS` are.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::settings::SecretUrl;
use sosohappy_common::{Account, Context, NicknameKey, NicknameLooks};
use sosohappy_events::Topic;
use sosohappy_events::types::TokenDigest;
use sosohappy_media::ImageId;
use sosohappy_store::outbox::Outbox;
use sosohappy_store::{DueTimer, PRIMARY, Ping, StoreError, retrying};
use sqlx::Row as _;

use super::{MIGRATIONS, engine, last_id};
use crate::domain::code::CodeId;
use crate::domain::muted_word::MutedWord;
use crate::domain::nickname_claim::NicknameClaim;
use crate::domain::page::Page;
use crate::domain::person::{Identity, LinkedIdentity, Person};
use crate::domain::session::Session;
use crate::store::{
    AccessToken, Direction, PendingResignation, RelatedPerson, ResignationProof, Store, Tombstone, Transaction,
    Unfinished,
};

#[path = "sql/connections.rs"]
mod connections;
#[path = "sql/email.rs"]
mod email;
#[path = "sql/external_calls.rs"]
mod external_calls;
#[path = "sql/identities.rs"]
mod identities;
#[path = "sql/imports.rs"]
mod imports;
#[path = "sql/looks.rs"]
mod looks;
#[path = "sql/moderation.rs"]
mod moderation;
#[path = "sql/people.rs"]
mod people;
#[path = "sql/rows.rs"]
mod rows;
#[path = "sql/transaction.rs"]
mod transaction;

type Row = <engine::Engine as sqlx::Database>::Row;

pub async fn open(url: &SecretUrl, max_connections: u32, context: &Context) -> Result<SqlStore, StoreError> {
    let database = engine::Database::open(url, max_connections, &MIGRATIONS, context).await?;
    database.spawn_sweeper(context);
    Ok(SqlStore(database))
}

#[derive(Debug)]
pub struct SqlStore(engine::Database);

#[async_trait]
impl Store for SqlStore {
    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError> {
        Ok(Box::new(transaction::SqlTransaction(self.0.begin().await?)))
    }

    async fn person(&self, account: &Account) -> Result<Option<Person>, StoreError> {
        let row = sqlx::query(rows::select(rows::PERSON, "account = ?"))
            .bind(account.as_str())
            .fetch_optional(self.0.reader())
            .await?;
        rows::person(row.as_ref(), |person| person.account == *account)
    }

    async fn person_named(&self, nickname: &str) -> Result<Option<Person>, StoreError> {
        let key = NicknameKey::of(nickname);
        let row = sqlx::query(rows::select(rows::PERSON, "nickname_key = ?"))
            .bind(key.as_bytes().as_slice())
            .fetch_optional(self.0.reader())
            .await?;
        if let Some(person) = rows::person(row.as_ref(), |person| person.nickname.key() == key)? {
            return Ok(Some(person));
        }
        // A replica of an older release writes a nickname without its key.
        let row = sqlx::query(rows::select(rows::PERSON, "nickname = ?"))
            .bind(nickname)
            .fetch_optional(self.0.reader())
            .await?;
        rows::person(row.as_ref(), |person| person.nickname.as_str() == nickname)
    }

    async fn identities_of(&self, account: &Account) -> Result<Vec<LinkedIdentity>, StoreError> {
        let found = identities::of(account).fetch_all(self.0.reader()).await?;
        found.iter().map(identities::linked).collect()
    }

    async fn without_keys(&self, limit: u32) -> Result<Vec<Account>, StoreError> {
        let found = sqlx::query("SELECT account FROM account WHERE nickname_key IS NULL LIMIT ?")
            .bind(i64::from(limit))
            .fetch_all(self.0.reader())
            .await?;
        found.iter().map(|row| rows::account(row, "account")).collect()
    }

    async fn is_without_looks(&self) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM account WHERE made_looks < ? LIMIT 1")
            .bind(NicknameLooks::VERSION)
            .fetch_optional(self.0.reader())
            .await?;
        Ok(found.is_some())
    }

    async fn is_nickname_kept(&self, claim: &NicknameClaim<'_>) -> Result<bool, StoreError> {
        let mut connection = self.0.reader().acquire().await?;
        looks::is_kept(&mut connection, claim, "").await
    }

    async fn is_blocked(&self, one: &Account, other: &Account) -> Result<bool, StoreError> {
        let found = people::blocks_between(one, other)
            .fetch_optional(self.0.reader())
            .await?;
        Ok(found.is_some())
    }

    async fn blocked_by(&self, account: &Account, page: Page) -> Result<Vec<RelatedPerson>, StoreError> {
        let found = people::page(people::BLOCKED, account, page)
            .fetch_all(self.0.reader())
            .await?;
        found.iter().map(people::related).collect()
    }

    async fn follows_of(
        &self,
        account: &Account,
        direction: Direction,
        page: Page,
    ) -> Result<Vec<RelatedPerson>, StoreError> {
        let list = match direction {
            Direction::Following => people::FOLLOWING,
            Direction::Followers => people::FOLLOWERS,
        };
        let found = people::page(list, account, page).fetch_all(self.0.reader()).await?;
        found.iter().map(people::related).collect()
    }

    async fn muted_words(&self, account: &Account) -> Result<Vec<MutedWord>, StoreError> {
        let found = people::muted_words(account).fetch_all(self.0.reader()).await?;
        found.iter().map(people::muted_word).collect()
    }

    async fn forget_muted_words(&self, now: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            sqlx::query("DELETE FROM muted_word WHERE expires_at <= ?")
                .bind(now.as_millisecond())
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn sessions_of(&self, account: &Account) -> Result<Vec<Session>, StoreError> {
        let found = sqlx::query(rows::select(
            rows::SESSION,
            "account = ? ORDER BY refresh_issued_at, session",
        ))
        .bind(account.as_str())
        .fetch_all(self.0.reader())
        .await?;
        found.iter().map(rows::session).collect()
    }

    async fn access_token(&self, digest: &TokenDigest) -> Result<Option<AccessToken>, StoreError> {
        let row = sqlx::query(
            "SELECT account.account, account.role, session.session, access_token.issued_at, access_token.expires_at
            FROM access_token
            JOIN session ON session.session = access_token.session
            JOIN account ON account.account = session.account
            WHERE access_token.digest = ?
            AND NOT EXISTS (SELECT 1 FROM suspension WHERE suspension.account = account.account)",
        )
        .bind(digest.0.as_slice())
        .fetch_optional(self.0.reader())
        .await?;
        row.as_ref().map(rows::access_token).transpose()
    }

    async fn is_code_used(&self, code: &CodeId) -> Result<bool, StoreError> {
        let found = sqlx::query("SELECT 1 FROM used_code WHERE code = ?")
            .bind(code.as_slice())
            .fetch_optional(self.0.reader())
            .await?;
        Ok(found.is_some())
    }

    async fn owner_of_identity(&self, identity: &Identity) -> Result<Option<Account>, StoreError> {
        for select in [identities::LINKED, identities::OWN] {
            let found = identities::owners(select, identity).fetch_all(self.0.reader()).await?;
            if let Some(owner) = identities::owner(&found, identity)? {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    async fn forget_codes(&self, expired_before: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            sqlx::query("DELETE FROM used_code WHERE expires_at < ?")
                .bind(expired_before.as_millisecond())
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn secret(&self, name: &str, candidate: &[u8]) -> Result<Vec<u8>, StoreError> {
        let inserted = retrying(|| async {
            let mut tx = self.0.begin().await?;
            sqlx::query("INSERT INTO secret (name, secret) VALUES (?, ?)")
                .bind(name)
                .bind(candidate)
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await;
        match inserted {
            Ok(()) => {}
            // Another replica was quicker; its secret counts.
            Err(StoreError::Conflict(rule)) if rule == PRIMARY => {}
            Err(error) => return Err(error),
        }
        let row = sqlx::query("SELECT secret FROM secret WHERE name = ?")
            .bind(name)
            .fetch_one(self.0.reader())
            .await?;
        Ok(row.try_get_unchecked(0)?)
    }

    async fn unfinished_resignations(&self) -> Result<Unfinished, StoreError> {
        let row = sqlx::query("SELECT COUNT(*), MIN(resigned_at) FROM resignation WHERE completed_at IS NULL")
            .fetch_one(self.0.reader())
            .await?;
        let oldest: Option<i64> = row.try_get(1)?;
        Ok(Unfinished {
            count: row.try_get(0)?,
            oldest: oldest.map(rows::from_millis).transpose()?,
        })
    }

    async fn pending_resignations(&self, limit: u32) -> Result<Vec<PendingResignation>, StoreError> {
        let rows = sqlx::query(
            "SELECT pending.resignation, pending.resigned_at, receipt.service FROM (
                SELECT resignation, resigned_at FROM resignation WHERE completed_at IS NULL
                ORDER BY resigned_at, resignation LIMIT ?
            ) pending
            LEFT JOIN resignation_receipt receipt ON receipt.resignation = pending.resignation
            ORDER BY pending.resigned_at, pending.resignation, receipt.service",
        )
        .bind(i64::from(limit))
        .fetch_all(self.0.reader())
        .await?;
        pending(&rows)
    }

    async fn pending_resignations_of(&self, account_hash: &[u8; 32]) -> Result<Vec<PendingResignation>, StoreError> {
        let rows = sqlx::query(
            "SELECT pending.resignation, pending.resigned_at, receipt.service FROM resignation pending
            LEFT JOIN resignation_receipt receipt ON receipt.resignation = pending.resignation
            WHERE pending.account_hash = ? AND pending.completed_at IS NULL
            ORDER BY pending.resigned_at, pending.resignation, receipt.service",
        )
        .bind(account_hash.as_slice())
        .fetch_all(self.0.reader())
        .await?;
        pending(&rows)
    }

    async fn resignation_proofs(&self) -> Result<Vec<ResignationProof>, StoreError> {
        let found = sqlx::query("SELECT account_hash, resigned_at FROM resignation ORDER BY resigned_at")
            .fetch_all(self.0.reader())
            .await?;
        found.iter().map(proof).collect()
    }

    async fn discarded_images(&self, now: Timestamp, limit: u32) -> Result<Vec<ImageId>, StoreError> {
        let images = sqlx::query_scalar("SELECT image FROM discarded_image WHERE due_at <= ? ORDER BY due_at LIMIT ?")
            .bind(now.as_millisecond())
            .bind(i64::from(limit))
            .fetch_all(self.0.reader())
            .await?;
        Ok(images.into_iter().map(ImageId).collect())
    }

    async fn forget_discarded_image(&self, image: ImageId) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.begin().await?;
            tx.keep_image(image).await?;
            tx.commit().await
        })
        .await
    }

    async fn postpone_discarded_image(&self, image: ImageId, due_at: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            sqlx::query("UPDATE discarded_image SET due_at = ? WHERE image = ?")
                .bind(due_at.as_millisecond())
                .bind(image.0)
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn due_timers(&self, kind: &str, now: Timestamp, limit: u32) -> Result<Vec<DueTimer>, StoreError> {
        self.0.due_timers(kind, now, limit).await
    }

    async fn postpone_timer(
        &self,
        kind: &str,
        key: &str,
        now: Timestamp,
        fire_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.0.postpone_timer(kind, key, now, fire_at).await
    }

    async fn quarantine_timer(&self, kind: &str, key: &str) -> Result<(), StoreError> {
        self.0.quarantine_timer(kind, key).await
    }

    async fn forget_reservations(&self, now: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            sqlx::query("DELETE FROM nickname_reservation WHERE reserved_until <= ?")
                .bind(now.as_millisecond())
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    async fn withheld_tombstones(&self, topic: Topic, limit: u32) -> Result<Vec<Tombstone>, StoreError> {
        let found = sqlx::query("SELECT account, occurred_at FROM withheld_tombstone WHERE topic = ? LIMIT ?")
            .bind(topic.default_name())
            .bind(i64::from(limit))
            .fetch_all(self.0.reader())
            .await?;
        let tombstone = |row| {
            Ok(Tombstone {
                account: rows::account(row, "account")?,
                occurred_at: rows::instant(row, "occurred_at")?,
            })
        };
        found.iter().map(tombstone).collect()
    }

    fn outbox(&self) -> Arc<dyn Outbox> {
        self.0.outbox()
    }
}

#[async_trait]
impl Ping for SqlStore {
    async fn ping(&self) -> Result<(), StoreError> {
        self.0.ping().await
    }
}

fn proof(row: &Row) -> Result<ResignationProof, StoreError> {
    let hash: Vec<u8> = row.try_get_unchecked("account_hash")?;
    Ok(ResignationProof {
        account_hash: hash.try_into().map_err(|_| rows::broken("account_hash"))?,
        resigned_at: rows::instant(row, "resigned_at")?,
    })
}

/// Reads resignations, a row for each receipt, in their order.
fn pending(rows: &[Row]) -> Result<Vec<PendingResignation>, StoreError> {
    let mut pending: Vec<PendingResignation> = Vec::new();
    for row in rows {
        let id = rows::text(row, "resignation")?;
        if pending.last().is_none_or(|last| last.id != id) {
            pending.push(PendingResignation {
                id,
                resigned_at: rows::instant(row, "resigned_at")?,
                acknowledged: Vec::new(),
            });
        }
        let service: Option<String> = row.try_get_unchecked("service")?;
        if let (Some(last), Some(service)) = (pending.last_mut(), service) {
            last.acknowledged.push(service);
        }
    }
    Ok(pending)
}
