//! Notices in an `SQLite` file.

mod devices;
mod erasure;
mod inbox;
mod messages;
mod notices;
mod preferences;
mod pushes;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use sosohappy_common::clock::Clock;
use sosohappy_common::{Account, Context};
use sosohappy_events::EventId;
use sosohappy_store::StoreError;
use sosohappy_store::sqlite::{Database, Engine, Tx};
use sqlx::QueryBuilder;
use sqlx::migrate::Migrator;

use self::pushes::event;
use super::{Marks, Opened, Subject, fingerprints, unclaimed, withdrawal_ids};
use crate::domain::AccountAt;
use crate::settings::InboxSettings;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

#[derive(Debug)]
struct SqliteStore {
    database: Database,
    clock: Arc<dyn Clock>,
}

pub(super) async fn open(settings: &InboxSettings, context: &Context) -> Result<Opened, StoreError> {
    let database = Database::open(&settings.url, settings.max_connections, &MIGRATIONS, context).await?;
    database.spawn_sweeper(context);
    Ok(Opened {
        outbox: database.outbox(),
        directory: database.directory(),
        store: Arc::new(SqliteStore {
            database,
            clock: context.clock.clone(),
        }),
    })
}

/// Returns whether one of the accounts resigned at its moment or later. Notes those that are [`unclaimed`].
async fn is_erased(tx: &mut Tx, people: [Option<AccountAt<'_>>; 2]) -> Result<bool, StoreError> {
    let [one, other] = people.map(|person| person.map(|(account, _)| account.fingerprint()));
    let erased: Vec<(String, i64)> = sqlx::query_as(
        "SELECT person, erased_until FROM account_mark WHERE erased_until IS NOT NULL AND person IN (?, ?)",
    )
    .bind(one)
    .bind(other)
    .fetch_all(&mut **tx)
    .await?;
    let erased: HashMap<String, i64> = erased.into_iter().collect();
    let mut people = people.into_iter().flatten();
    note_unclaimed(tx, unclaimed(&erased, people.clone())).await?;
    Ok(people.any(|person| super::is_erased(&erased, person)))
}

/// Notes accounts for the sweep.
async fn note_unclaimed(tx: &mut Tx, accounts: HashSet<&Account>) -> Result<(), StoreError> {
    for account in accounts {
        sqlx::query("UPDATE account_mark SET unclaimed = ? WHERE person = ?")
            .bind(account.as_str())
            .bind(account.fingerprint())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

/// Returns the erasures and withdrawals that concern the subjects. Notes the accounts that are [`unclaimed`].
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
    let marks = Marks {
        erased: erased.into_iter().collect(),
        withdrawn: withdrawn.collect::<Result<_, StoreError>>()?,
    };
    note_unclaimed(tx, marks.unclaimed(subjects)).await?;
    Ok(marks)
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
