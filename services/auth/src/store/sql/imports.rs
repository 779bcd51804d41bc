//! The tables of the import.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use sosohappy_common::Account;
use sosohappy_events::types::SessionId;
use sosohappy_store::StoreError;
use sqlx::{QueryBuilder, Row as _};

use super::transaction::SqlTransaction;
use super::{Row, SqlStore, engine, rows};
use crate::domain::person::Person;
use crate::store::Transaction as _;
use crate::store::imports::{
    Fingerprint, ImportTransaction, ImportedAccount, ImportedSession, Imports, KnownName, NameOf,
};

const IMPORTED: &str =
    "SELECT legacy_id, person, account, session, source, photo, written, imported_at FROM imported_account WHERE ";

/// The lease that keeps two imports apart.
const LEASE: &str = "import";

/// Ids of one statement.
const BATCH: usize = 500;

#[async_trait]
impl Imports for SqlStore {
    async fn lease_import(&self, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        self.0.lease(LEASE, holder, ttl).await
    }

    async fn release_import(&self, holder: &str) -> Result<(), StoreError> {
        self.0.release_lease(LEASE, holder).await
    }

    async fn imported(&self, legacy_ids: &[i64]) -> Result<HashMap<i64, ImportedAccount>, StoreError> {
        let mut all = HashMap::with_capacity(legacy_ids.len());
        for batch in legacy_ids.chunks(BATCH) {
            let mut query = QueryBuilder::<engine::Engine>::new(IMPORTED);
            query.push("legacy_id IN (");
            let mut ids = query.separated(", ");
            for id in batch {
                ids.push_bind(id);
            }
            query.push(")");
            for row in query.build().fetch_all(self.0.reader()).await? {
                let imported = imported(&row)?;
                all.insert(imported.legacy_id, imported);
            }
        }
        Ok(all)
    }

    async fn imported_between(&self, after: i64, until: i64) -> Result<Vec<i64>, StoreError> {
        let ids = sqlx::query_scalar(
            "SELECT legacy_id FROM imported_account WHERE legacy_id > ? AND legacy_id <= ? ORDER BY legacy_id",
        )
        .bind(after)
        .bind(until)
        .fetch_all(self.0.reader())
        .await?;
        Ok(ids)
    }

    async fn accounts_after(&self, after: &str, limit: u32) -> Result<Vec<Account>, StoreError> {
        let found = sqlx::query("SELECT account FROM account WHERE account > ? ORDER BY account LIMIT ?")
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(self.0.reader())
            .await?;
        found.iter().map(|row| rows::account(row, "account")).collect()
    }

    async fn resigned_imports(&self) -> Result<Vec<(i64, String)>, StoreError> {
        let found =
            sqlx::query("SELECT legacy_id, person FROM imported_account WHERE account IS NULL ORDER BY legacy_id")
                .fetch_all(self.0.reader())
                .await?;
        found
            .iter()
            .map(|row| Ok((row.try_get("legacy_id")?, rows::text(row, "person")?)))
            .collect()
    }

    async fn imported_session(&self, account: &Account) -> Result<Option<ImportedSession>, StoreError> {
        let row = sqlx::query(
            "SELECT session.session, account.account, account.role, imported_account.imported_at FROM imported_account
            JOIN session ON session.session = imported_account.session
            JOIN account ON account.account = session.account
            WHERE imported_account.account = ?
            AND NOT EXISTS (SELECT 1 FROM suspension WHERE suspension.account = account.account)",
        )
        .bind(account.as_str())
        .fetch_optional(self.0.reader())
        .await?;
        let session = row.map(|row| {
            Ok(ImportedSession {
                session: rows::session_id(&row)?,
                role: rows::role(&row)?,
                imported_at: rows::instant(&row, "imported_at")?,
            })
        });
        session.transpose()
    }

    async fn known_names(&self) -> Result<Vec<KnownName>, StoreError> {
        // An account that cannot bear its legacy nickname here bears it there until it is given another one here.
        const LEGACY: &str = "SELECT imported_name.nickname, account.account,
            CASE WHEN imported_name.present = 2 OR imported_name.present = 1 AND
            (account.profile_set = 0 OR account.nickname = imported_name.nickname) THEN 1 ELSE 0 END AS present
            FROM imported_name JOIN account ON account.account = imported_name.account";
        const HERE: &str = "SELECT nickname, account, 1 AS present FROM account";
        let mut names = Vec::new();
        for (select, here) in [(LEGACY, false), (HERE, true)] {
            for row in sqlx::query(select).fetch_all(self.0.reader()).await? {
                let present: i64 = row.try_get_unchecked("present")?;
                names.push(KnownName {
                    nickname: rows::text(&row, "nickname")?,
                    account: rows::account(&row, "account")?,
                    present: present == 1,
                    here,
                });
            }
        }
        Ok(names)
    }
}

/// Returns the value of `imported_name.present`; 0 is a nickname that the account had before.
const fn present(of: NameOf) -> i64 {
    match of {
        NameOf::TheAccount => 1,
        NameOf::FurtherRow => 2,
    }
}

#[async_trait]
impl ImportTransaction for SqlTransaction {
    async fn imported_as(&mut self, account: &Account) -> Result<Option<ImportedAccount>, StoreError> {
        let mut query = QueryBuilder::<engine::Engine>::new(IMPORTED);
        query.push("person = ").push_bind(account.fingerprint());
        let row = query.build().fetch_optional(&mut *self.0).await?;
        row.as_ref().map(imported).transpose()
    }

    async fn set_imported(&mut self, imported: &ImportedAccount) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM imported_account WHERE legacy_id = ? OR person = ?")
            .bind(imported.legacy_id)
            .bind(&imported.person);
        delete.execute(&mut *self.0).await?;
        let insert = sqlx::query(
            "INSERT INTO imported_account (legacy_id, person, account, session, source, photo, written, imported_at)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(imported.legacy_id)
        .bind(&imported.person)
        .bind(imported.account.as_ref().map(Account::as_str))
        .bind(imported.session.map(|session| session.to_string()))
        .bind(imported.source.as_slice())
        .bind(imported.photo.as_ref().map(<[u8; 16]>::as_slice))
        .bind(imported.written.as_slice())
        .bind(imported.imported_at.as_millisecond());
        insert.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn forget_imported(&mut self, legacy_id: i64) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM imported_account WHERE legacy_id = ?").bind(legacy_id);
        delete.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn renamed(&mut self, account: &Account) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE imported_name SET present = 0 WHERE account = ? AND present = ?")
            .bind(account.as_str())
            .bind(present(NameOf::TheAccount));
        update.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn forget_further_rows(&mut self) -> Result<(), StoreError> {
        let update =
            sqlx::query("UPDATE imported_name SET present = 0 WHERE present = ?").bind(present(NameOf::FurtherRow));
        update.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn remember_name(&mut self, nickname: &str, account: &Account, of: NameOf) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM imported_name WHERE nickname = ? AND account = ?")
            .bind(nickname)
            .bind(account.as_str());
        delete.execute(&mut *self.0).await?;
        let insert = sqlx::query("INSERT INTO imported_name (nickname, account, present) VALUES (?, ?, ?)")
            .bind(nickname)
            .bind(account.as_str())
            .bind(present(of));
        insert.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn rewrite_person(&mut self, person: &Person) -> Result<(), StoreError> {
        let update = sqlx::query(
            "UPDATE account SET issuer = ?, subject = ?, nickname = ?, nickname_key = ?, profile_set = ?,
            introduction = ?, image = ?, changed_at = ? WHERE account = ?",
        )
        .bind(&person.identity.issuer)
        .bind(&person.identity.subject)
        .bind(person.nickname.as_str())
        .bind(person.nickname.key().as_bytes().to_vec())
        .bind(person.profile_set)
        .bind(person.introduction.as_str())
        .bind(person.image.map(|image| image.0))
        .bind(person.changed_at.as_millisecond())
        .bind(person.account.as_str());
        update.execute(&mut *self.0).await?;
        self.set_looks(&person.account, &person.nickname).await
    }

    async fn delete_device(&mut self, session: SessionId) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM device WHERE session = ?").bind(session.to_string());
        delete.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn provider_token(&mut self, account: &Account) -> Result<Option<String>, StoreError> {
        let found = sqlx::query("SELECT sealed FROM provider_token WHERE account = ?")
            .bind(account.as_str())
            .fetch_optional(&mut *self.0)
            .await?;
        found.map(|row| rows::text(&row, "sealed")).transpose()
    }

    async fn set_provider_token(&mut self, account: &Account, sealed: &str) -> Result<(), StoreError> {
        self.delete_provider_token(account).await?;
        let insert = sqlx::query("INSERT INTO provider_token (account, sealed) VALUES (?, ?)")
            .bind(account.as_str())
            .bind(sealed);
        insert.execute(&mut *self.0).await?;
        Ok(())
    }

    async fn delete_provider_token(&mut self, account: &Account) -> Result<(), StoreError> {
        let delete = sqlx::query("DELETE FROM provider_token WHERE account = ?").bind(account.as_str());
        delete.execute(&mut *self.0).await?;
        Ok(())
    }
}

fn imported(row: &Row) -> Result<ImportedAccount, StoreError> {
    let fingerprint = |column: &str| -> Result<Fingerprint, StoreError> {
        let bytes: Vec<u8> = row.try_get_unchecked(column)?;
        bytes.try_into().map_err(|_| rows::broken("a fingerprint"))
    };
    let photo: Option<Vec<u8>> = row.try_get_unchecked("photo")?;
    let session: Option<String> = row.try_get_unchecked("session")?;
    let account: Option<String> = row.try_get_unchecked("account")?;
    Ok(ImportedAccount {
        legacy_id: row.try_get("legacy_id")?,
        person: rows::text(row, "person")?,
        account: account
            .map(|text| text.parse().map_err(|_| rows::broken("account")))
            .transpose()?,
        session: session
            .map(|text| text.parse().map_err(|_| rows::broken("session")))
            .transpose()?,
        source: fingerprint("source")?,
        photo: photo.map(|_| fingerprint("photo")).transpose()?,
        written: fingerprint("written")?,
        imported_at: rows::instant(row, "imported_at")?,
    })
}
