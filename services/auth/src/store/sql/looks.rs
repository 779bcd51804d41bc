//! Nicknames that belong to others, and their looks: statements that reads and transactions share.

use std::collections::BTreeSet;

use sosohappy_common::{Account, Look};
use sosohappy_store::StoreError;
use sqlx::QueryBuilder;

use super::engine;
use crate::domain::nickname_claim::NicknameClaim;

pub type Query = QueryBuilder<engine::Engine>;

type Connection = <engine::Engine as sqlx::Database>::Connection;

/// Returns whether the nickname is reserved for another account, or one that looks like it is borne by another account or reserved for one. The
/// rows of looks that others bear are locked by `lock`.
pub async fn is_kept(
    connection: &mut Connection,
    claim: &NicknameClaim<'_>,
    lock: &'static str,
) -> Result<bool, StoreError> {
    if claim.is_another_name() {
        let reserved = sqlx::query(
            "SELECT 1 FROM nickname_reservation WHERE nickname_key = ? AND reserved_until > ? AND (bearer IS NULL OR bearer <> ?)",
        )
        .bind(claim.new.key().as_bytes().to_vec())
        .bind(claim.at.as_millisecond())
        .bind(claim.bearer.to_vec())
        .fetch_optional(&mut *connection)
        .await?;
        if reserved.is_some() {
            return Ok(true);
        }
    }
    let looks = claim.looks();
    if looks.is_empty() {
        return Ok(false);
    }
    let mut borne = borne_by_others(&looks, claim.account);
    borne.push(lock);
    if borne.build().fetch_optional(&mut *connection).await?.is_some() {
        return Ok(true);
    }
    let mut reserved = reserved_for_others(&looks, claim);
    Ok(reserved.build().fetch_optional(&mut *connection).await?.is_some())
}

/// Selects other accounts whose nicknames have one of the looks.
fn borne_by_others(looks: &BTreeSet<Look>, account: &Account) -> Query {
    let mut query = Query::new("SELECT account FROM nickname_look WHERE account <> ");
    query.push_bind(account.as_str().to_owned());
    query.push(" AND ");
    push_any(&mut query, looks);
    query
}

/// Selects reservations of nicknames that have one of the looks, but for those of the claiming account.
fn reserved_for_others(looks: &BTreeSet<Look>, claim: &NicknameClaim<'_>) -> Query {
    let mut query = Query::new(
        "SELECT 1 FROM reserved_look
        JOIN nickname_reservation ON nickname_reservation.nickname_key = reserved_look.nickname_key
        WHERE reserved_until > ",
    );
    query.push_bind(claim.at.as_millisecond());
    query.push(" AND (bearer IS NULL OR bearer <> ");
    query.push_bind(claim.bearer.to_vec());
    query.push(") AND ");
    push_any(&mut query, looks);
    query
}

fn push_any(query: &mut Query, looks: &BTreeSet<Look>) {
    query.push("look IN (");
    let mut listed = query.separated(", ");
    for look in looks {
        listed.push_bind(look.as_bytes().to_vec());
    }
    query.push(")");
}

/// Inserts looks with the column that says whose they are: of accounts, or of reservations.
pub fn insert<'a, O>(into: &'static str, looks: impl Iterator<Item = (&'a Look, O)>) -> Query
where
    O: for<'t> sqlx::Encode<'t, engine::Engine> + sqlx::Type<engine::Engine>,
{
    let mut query = Query::new(into);
    query.push_values(looks, |mut row, (look, owner)| {
        row.push_bind(look.as_bytes().to_vec()).push_bind(owner);
    });
    query
}
