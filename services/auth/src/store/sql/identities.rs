//! Linked identities: statements that reads and transactions share.

use sosohappy_common::Account;
use sosohappy_store::StoreError;

use super::{Row, engine, rows};
use crate::domain::person::{Identity, LinkedIdentity};

type Query<'q> = sqlx::query::Query<'q, engine::Engine, <engine::Engine as sqlx::Database>::Arguments>;

pub const LINKED: &str = "SELECT account, subject FROM identity WHERE issuer = ? AND subject = ?";

/// The oldest first: an older release has made a second account where the address of a person had changed.
pub const OWN: &str =
    "SELECT account, subject FROM account WHERE issuer = ? AND subject = ? ORDER BY created_at, account";

/// Accounts with that identity, by [`LINKED`] or [`OWN`].
pub fn owners<'q>(select: &'static str, identity: &'q Identity) -> Query<'q> {
    sqlx::query(select).bind(&identity.issuer).bind(&identity.subject)
}

/// Returns the first account among the rows that has this very subject.
pub fn owner(rows: &[Row], identity: &Identity) -> Result<Option<Account>, StoreError> {
    for row in rows {
        if Some(rows::text(row, "subject")?) == identity.subject {
            return rows::account(row, "account").map(Some);
        }
    }
    Ok(None)
}

pub fn of(account: &Account) -> Query<'_> {
    sqlx::query("SELECT issuer, subject, linked_at FROM identity WHERE account = ?").bind(account.as_str())
}

pub fn linked(row: &Row) -> Result<LinkedIdentity, StoreError> {
    Ok(LinkedIdentity {
        identity: Identity {
            issuer: rows::text(row, "issuer")?,
            subject: Some(rows::text(row, "subject")?),
        },
        linked_at: Some(rows::instant(row, "linked_at")?),
    })
}
