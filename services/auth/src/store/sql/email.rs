//! The tables of e-mail accounts.

use async_trait::async_trait;
use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_store::{StoreError, retrying};
use sqlx::Row as _;

use super::transaction::SqlTransaction;
use super::{Row, SqlStore, rows};
use crate::domain::person::Identity;
use crate::store::email::{EmailStore, EmailTransaction, StoredCode};

const CODE: &str = "SELECT seal, tries, expires_at FROM email_code";
const PASSWORD: &str = "SELECT hash FROM password";

#[async_trait]
impl EmailStore for SqlStore {
    async fn password_of(&self, identity: &Identity) -> Result<Option<(Account, String)>, StoreError> {
        let found = sqlx::query(
            "SELECT password.account, password.hash, identity.subject FROM identity
            JOIN password ON password.account = identity.account
            WHERE identity.issuer = ? AND identity.subject = ?",
        )
        .bind(&identity.issuer)
        .bind(&identity.subject)
        .fetch_optional(self.0.reader())
        .await?;
        let Some(row) = found else { return Ok(None) };
        if Some(rows::text(&row, "subject")?) != identity.subject {
            return Ok(None);
        }
        Ok(Some((rows::account(&row, "account")?, rows::text(&row, "hash")?)))
    }

    async fn forget_email_codes(&self, now: Timestamp) -> Result<(), StoreError> {
        retrying(|| async {
            let mut tx = self.0.begin().await?;
            // `mail` is the queue of an older build, whose replicas may still write it during a roll-out.
            for statement in [
                "DELETE FROM email_code WHERE expires_at <= ?",
                "DELETE FROM mail WHERE expires_at <= ?",
            ] {
                sqlx::query(statement)
                    .bind(now.as_millisecond())
                    .execute(&mut *tx)
                    .await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }
}

#[async_trait]
impl EmailTransaction for SqlTransaction {
    async fn email_code(&mut self, address_key: &[u8; 32]) -> Result<Option<StoredCode>, StoreError> {
        let row = sqlx::query(rows::lock(CODE, "address_key = ?"))
            .bind(address_key.as_slice())
            .fetch_optional(&mut *self.0)
            .await?;
        let code = |row: &Row| {
            let seal: Vec<u8> = row.try_get_unchecked("seal")?;
            Ok(StoredCode {
                seal: seal.try_into().map_err(|_| rows::broken("seal"))?,
                tries: count(row, "tries")?,
                expires_at: rows::instant(row, "expires_at")?,
            })
        };
        row.as_ref().map(code).transpose()
    }

    async fn set_email_code(&mut self, address_key: &[u8; 32], code: &StoredCode) -> Result<(), StoreError> {
        let replace = sqlx::query("REPLACE INTO email_code (address_key, seal, tries, expires_at) VALUES (?, ?, ?, ?)")
            .bind(address_key.as_slice())
            .bind(code.seal.as_slice())
            .bind(i64::from(code.tries))
            .bind(code.expires_at.as_millisecond());
        replace.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn delete_email_code(&mut self, address_key: &[u8; 32]) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM email_code WHERE address_key = ?").bind(address_key.as_slice());
        delete.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn password(&mut self, account: &Account) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(rows::lock(PASSWORD, "account = ?"))
            .bind(account.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        row.as_ref().map(|row| rows::text(row, "hash")).transpose()
    }

    async fn set_password(&mut self, account: &Account, hash: &str, at: Timestamp) -> Result<(), StoreError> {
        let replace = sqlx::query("REPLACE INTO password (account, hash, changed_at) VALUES (?, ?, ?)")
            .bind(account.as_str())
            .bind(hash)
            .bind(at.as_millisecond());
        replace.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn delete_password(&mut self, account: &Account) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM password WHERE account = ?").bind(account.as_str());
        delete.execute(&mut *self.0).await?;
        Ok(())
    }
}

fn count(row: &Row, column: &str) -> Result<u32, StoreError> {
    let count: i64 = row.try_get_unchecked(column)?;
    u32::try_from(count).map_err(|_| rows::broken(column))
}
