//! Notices in an `SQLite` file.

mod devices;
mod erasure;
mod inbox;
mod messages;
mod notices;
mod preferences;
mod pushes;

use std::sync::Arc;

use jiff::Timestamp;
use sosohappy_common::Context;
use sosohappy_events::EventId;
use sosohappy_store::StoreError;
use sosohappy_store::sqlite::{Database, Engine, Tx};
use sqlx::QueryBuilder;
use sqlx::migrate::Migrator;

use self::pushes::event;
use super::{Marks, Opened, Subject, fingerprints, withdrawal_ids};
use crate::domain::AccountAt;
use crate::settings::InboxSettings;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

#[derive(Debug)]
struct SqliteStore {
    database: Database,
}

pub(super) async fn open(settings: &InboxSettings, context: &Context) -> Result<Opened, StoreError> {
    let database = Database::open(&settings.url, settings.max_connections, &MIGRATIONS, context).await?;
    database.spawn_sweeper(context);
    Ok(Opened {
        outbox: database.outbox(),
        directory: database.directory(),
        store: Arc::new(SqliteStore { database }),
    })
}

/// Returns whether one of the accounts resigned at its moment or later.
async fn is_erased(tx: &mut Tx, people: [Option<AccountAt<'_>>; 2]) -> Result<bool, StoreError> {
    let [one, other] = people.map(|person| person.map(|(account, at)| (account.fingerprint(), at.as_millisecond())));
    let ((one, one_at), (other, other_at)) = (one.unzip(), other.unzip());
    let erased: Option<i64> = sqlx::query_scalar(
        "SELECT erased_until FROM account_mark
        WHERE (person = ? AND erased_until >= ?) OR (person = ? AND erased_until >= ?) LIMIT 1",
    )
    .bind(one)
    .bind(one_at)
    .bind(other)
    .bind(other_at)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(erased.is_some())
}

/// Returns the erasures and withdrawals that concern the subjects.
async fn marks(tx: &mut Tx, subjects: &[Subject<'_>]) -> Result<Marks, StoreError> {
    let mut query = QueryBuilder::<Engine>::new(
        "SELECT person, erased_until FROM account_mark WHERE erased_until IS NOT NULL AND person IN (",
    );
    let mut people = query.separated(", ");
    for person in fingerprints(subjects) {
        people.push_bind(person);
    }
    let erased: Vec<(String, i64)> = query.push(")").build_query_as().fetch_all(&mut **tx).await?;
    let ids: Vec<EventId> = withdrawal_ids(subjects).into_iter().collect();
    let mut query = QueryBuilder::<Engine>::new("SELECT event_id, withdrawn_until FROM withdrawal WHERE event_id IN (");
    push_events(&mut query, &ids);
    let rows: Vec<(Vec<u8>, i64)> = query.push(")").build_query_as().fetch_all(&mut **tx).await?;
    let withdrawn = rows.into_iter().map(|(id, until)| Ok((event(id)?, until)));
    Ok(Marks {
        erased: erased.into_iter().collect(),
        withdrawn: withdrawn.collect::<Result<_, StoreError>>()?,
    })
}

/// Returns whether one of these was withdrawn at that moment or later.
async fn is_withdrawn(tx: &mut Tx, ids: &[EventId], occurred_at: Timestamp) -> Result<bool, StoreError> {
    let mut query = QueryBuilder::<Engine>::new("SELECT 1 FROM withdrawal WHERE withdrawn_until >= ");
    query.push_bind(occurred_at.as_millisecond()).push(" AND event_id IN (");
    push_events(&mut query, ids);
    let withdrawn: Option<i64> = query
        .push(") LIMIT 1")
        .build_query_scalar()
        .fetch_optional(&mut **tx)
        .await?;
    Ok(withdrawn.is_some())
}

fn push_events(query: &mut QueryBuilder<Engine>, events: &[EventId]) {
    let mut ids = query.separated(", ");
    for event in events {
        ids.push_bind(event.0.as_bytes().to_vec());
    }
}
