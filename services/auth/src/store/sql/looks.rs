//! Looks of nicknames: statements that reads and transactions share.

use std::collections::BTreeSet;

use jiff::Timestamp;
use sosohappy_common::{Account, Look};
use sqlx::QueryBuilder;

use super::engine;

pub type Query = QueryBuilder<engine::Engine>;

/// Selects other accounts whose nicknames have one of the looks.
pub fn borne_by_others(looks: &BTreeSet<Look>, account: &Account) -> Query {
    let mut query = Query::new("SELECT account FROM nickname_look WHERE account <> ");
    query.push_bind(account.as_str().to_owned());
    query.push(" AND ");
    push_any(&mut query, looks);
    query
}

/// Selects reservations of nicknames that have one of the looks, but for those of the account of the hash `bearer`.
pub fn reserved_for_others(looks: &BTreeSet<Look>, bearer: &[u8; 32], now: Timestamp) -> Query {
    let mut query = Query::new(
        "SELECT 1 FROM reserved_look
        JOIN nickname_reservation ON nickname_reservation.nickname_key = reserved_look.nickname_key
        WHERE reserved_until > ",
    );
    query.push_bind(now.as_millisecond());
    query.push(" AND (bearer IS NULL OR bearer <> ");
    query.push_bind(bearer.to_vec());
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
