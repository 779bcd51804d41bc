//! What both SQL stores promise beside the ports; compiled for each.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use sosohappy_events::EventId;
use sosohappy_store::{StoreError, Timer, retrying};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};
use tokio::task::JoinSet;

use super::{ENGINE, engine, of};
use crate::bed::{Bed, at, now, record, things};

macro_rules! tests {
    ($($test:ident),+ $(,)?) => { mod test { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            crate::bed::run(super::ENGINE, super::$test).await;
        }
    )+ } };
}

tests! {
    five_replicas_start_at_once,
    an_older_replica_starts_beside_a_newer_one,
    a_service_keeps_to_its_versions,
    what_is_rolled_back_was_never_there,
    a_cancelled_write_is_whole_or_not_there,
    a_cancelled_statement_costs_no_connection,
    a_cancelled_begin_leaves_no_transaction_open,
    an_event_is_applied_once,
    of_two_consumers_at_once_one_applies,
    a_timer_is_set_moved_and_cleared,
    a_timer_that_is_not_committed_fires_again,
    two_replicas_never_take_the_same_timer,
    a_conflict_is_told_by_name,
    both_engines_mean_the_same,
    old_applied_events_go,
    the_pool_is_measured,
}

fn event(number: u128) -> EventId {
    EventId(uuid::Uuid::from_u128(number))
}

async fn five_replicas_start_at_once(bed: Arc<Bed>) {
    let mut replicas = JoinSet::new();
    for _ in 0..5 {
        let bed = bed.clone();
        replicas.spawn(async move { bed.try_replica().await.map(|_| ()) });
    }
    for started in replicas.join_all().await {
        started.expect("all of them start");
    }
}

async fn an_older_replica_starts_beside_a_newer_one(bed: Arc<Bed>) {
    let newer = bed.replica().await;
    let none = sqlx::migrate::Migrator::with_migrations(Vec::new());
    let older = engine::Database::open(&bed.secret_url(), 2, &none, &bed.context())
        .await
        .unwrap();
    older.ping().await.unwrap();
    assert_eq!(newer.count().await, 0);
}

async fn a_service_keeps_to_its_versions(bed: Arc<Bed>) {
    let mut migrations: Vec<_> = things().iter().cloned().collect();
    migrations[0].version = 7;
    let migrations = sqlx::migrate::Migrator::with_migrations(migrations);
    let refused = engine::Database::open(&bed.secret_url(), 2, &migrations, &bed.context()).await;
    assert!(matches!(refused, Err(StoreError::Failed(_))), "{refused:?}");
    bed.replica().await;
}

async fn what_is_rolled_back_was_never_there(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let database = of(&store);
    let mut tx = database.begin().await.unwrap();
    engine::enqueue(&mut tx, &record("never", at(0)), at(0)).await.unwrap();
    let timer = Timer {
        kind: "k".to_owned(),
        key: "a".to_owned(),
        fire_at: at(0),
    };
    engine::set_timer(&mut tx, &timer).await.unwrap();
    assert!(engine::first_time(&mut tx, "c", event(1), at(0)).await.unwrap());
    engine::directory::set_nickname(&mut tx, &crate::bed::account("kim"), Some("kim"), at(0))
        .await
        .unwrap();
    drop(tx);

    assert!(database.outbox().pending(10).await.unwrap().is_empty());
    assert_eq!(database.directory().account_of("kim").await.unwrap(), None);
    let mut tx = database.begin().await.unwrap();
    assert!(
        engine::take_due_timers(&mut tx, "k", at(1), 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(engine::first_time(&mut tx, "c", event(1), at(0)).await.unwrap());
}

/// A request that runs out of time is dropped anywhere between two awaits.
async fn a_cancelled_write_is_whole_or_not_there(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let mut finished = 0;
    for number in 1..=200 {
        let record = record(&number.to_string(), at(0));
        let budget = Duration::from_micros(u64::try_from(number % 50).unwrap() * 50);
        let write = tokio::time::timeout(budget, store.write(number, &record, at(0)));
        finished += i64::from(write.await.is_ok());
    }
    store.write(1000, &record("last", at(0)), at(0)).await;
    let (things, events) = (store.count().await, store.outbox().pending(1000).await.unwrap());
    assert_eq!(things, i64::try_from(events.len()).unwrap());
    assert!(things > finished, "what was told to be written is there");
}

/// Each is dropped somewhere between its first packet and its last: being prepared, being run, being read.
async fn a_cancelled_statement_costs_no_connection(bed: Arc<Bed>) {
    let database = engine::Database::open(&bed.secret_url(), 2, &things(), &bed.context())
        .await
        .unwrap();
    for number in 0..400_u64 {
        // A text of its own is prepared anew.
        let text = AssertSqlSafe(format!(
            "SELECT id, account, {number} FROM thing WHERE id = ? OR day = ?"
        ));
        let text = text.into_sql_str();
        let budget = Duration::from_micros(number % 40 * 25);
        let select = async {
            let mut tx = database.begin().await?;
            sqlx::query(text.clone()).bind(1).bind(2).fetch_all(&mut *tx).await?;
            sqlx::query(text).bind(1).bind(2).fetch_all(database.reader()).await?;
            Ok::<_, StoreError>(())
        };
        if let Ok(outcome) = tokio::time::timeout(budget, select).await {
            outcome.unwrap();
        }
    }
    let tx = database.begin().await.unwrap();
    sqlx::query("SELECT 1").execute(database.reader()).await.unwrap();
    drop(tx);
}

/// What is written without a transaction afterwards must not wait for the end of one that nobody knows of.
async fn a_cancelled_begin_leaves_no_transaction_open(bed: Arc<Bed>) {
    let (url, context) = (bed.secret_url(), bed.context());
    let database = engine::Database::open(&url, 1, &things(), &context).await.unwrap();
    let other = of(&bed.replica().await).clone();
    let ttl = Duration::from_secs(30);
    for number in 0..60_u64 {
        let budget = Duration::from_micros(number * 10);
        _ = tokio::time::timeout(budget, database.begin()).await;
        let name = number.to_string();
        assert!(database.lease(&name, "one", ttl).await.unwrap());
        assert!(!other.lease(&name, "other", ttl).await.unwrap(), "{number}");
    }
}

async fn an_event_is_applied_once(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let mut tx = of(&store).begin().await.unwrap();
    assert!(engine::first_time(&mut tx, "resign", event(1), at(0)).await.unwrap());
    assert!(!engine::first_time(&mut tx, "resign", event(1), at(0)).await.unwrap());
    assert!(
        engine::first_time(&mut tx, "relation", event(1), at(0)).await.unwrap(),
        "another consumer"
    );
    assert!(
        engine::first_time(&mut tx, "resign", event(2), at(0)).await.unwrap(),
        "the transaction lives on"
    );
    tx.commit().await.unwrap();

    let mut tx = of(&store).begin().await.unwrap();
    assert!(!engine::first_time(&mut tx, "resign", event(2), at(5)).await.unwrap());
    assert!(
        engine::first_time(&mut tx, "resign", event(u128::MAX), at(5))
            .await
            .unwrap()
    );
}

async fn of_two_consumers_at_once_one_applies(bed: Arc<Bed>) {
    let (one, two) = (bed.replica().await, bed.replica().await);
    let mut consumers = JoinSet::new();
    for number in 0..8 {
        let database = of(if number % 2 == 0 { &one } else { &two }).clone();
        consumers.spawn(async move {
            retrying(|| async {
                let mut tx = database.begin().await?;
                let first = engine::first_time(&mut tx, "resign", event(1), at(0)).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
                tx.commit().await?;
                Ok::<_, StoreError>(first)
            })
            .await
            .unwrap()
        });
    }
    let applied = consumers.join_all().await.into_iter().filter(|first| *first).count();
    assert_eq!(applied, 1);
}

fn timer(key: &str, fire_at: i64) -> Timer {
    Timer {
        kind: "expiry".to_owned(),
        key: key.to_owned(),
        fire_at: at(fire_at),
    }
}

async fn a_timer_is_set_moved_and_cleared(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let mut tx = of(&store).begin().await.unwrap();
    for timer in [
        timer("late", 100),
        timer("moved", 10),
        timer("early", 20),
        timer("cleared", 5),
        timer("moved", 30),
    ] {
        engine::set_timer(&mut tx, &timer).await.unwrap();
    }
    engine::set_timer(
        &mut tx,
        &Timer {
            kind: "other".to_owned(),
            ..timer("early", 1)
        },
    )
    .await
    .unwrap();
    engine::clear_timer(&mut tx, "expiry", "cleared").await.unwrap();
    engine::clear_timer(&mut tx, "expiry", "unknown").await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = of(&store).begin().await.unwrap();
    assert!(
        engine::take_due_timers(&mut tx, "expiry", at(19), 10)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        engine::take_due_timers(&mut tx, "expiry", at(20), 10).await.unwrap(),
        [timer("early", 20)]
    );
    assert_eq!(
        engine::take_due_timers(&mut tx, "expiry", at(500), 1).await.unwrap(),
        [timer("moved", 30)]
    );
    assert_eq!(
        engine::take_due_timers(&mut tx, "expiry", at(500), 9).await.unwrap(),
        [timer("late", 100)]
    );
    assert!(
        engine::take_due_timers(&mut tx, "expiry", at(500), 9)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_timer_that_is_not_committed_fires_again(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let mut tx = of(&store).begin().await.unwrap();
    engine::set_timer(&mut tx, &timer("a", 1)).await.unwrap();
    tx.commit().await.unwrap();
    let take = async || {
        let mut tx = of(&store).begin().await.unwrap();
        let taken = engine::take_due_timers(&mut tx, "expiry", at(1), 10).await.unwrap();
        (tx, taken.len())
    };
    let (tx, taken) = take().await;
    assert_eq!(taken, 1);
    tx.rollback().await.unwrap();
    let (tx, taken) = take().await;
    assert_eq!(taken, 1);
    drop(tx);
    // On `MySQL` a dropped transaction is rolled back a moment later; until then its rows are passed over.
    let again = async {
        while take().await.1 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again)
        .await
        .expect("it fires again");
}

async fn two_replicas_never_take_the_same_timer(bed: Arc<Bed>) {
    let (one, two) = (bed.replica().await, bed.replica().await);
    let mut tx = of(&one).begin().await.unwrap();
    for number in 0..200 {
        engine::set_timer(&mut tx, &timer(&number.to_string(), number))
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();

    let mut sweepers = JoinSet::new();
    for number in 0..4 {
        let database = of(if number % 2 == 0 { &one } else { &two }).clone();
        sweepers.spawn(async move {
            let mut taken = Vec::new();
            loop {
                let batch = retrying(|| async {
                    let mut tx = database.begin().await?;
                    let batch = engine::take_due_timers(&mut tx, "expiry", at(1000), 7).await?;
                    tokio::task::yield_now().await;
                    tx.commit().await?;
                    Ok::<_, StoreError>(batch)
                })
                .await
                .unwrap();
                if batch.is_empty() {
                    return taken;
                }
                taken.extend(batch.into_iter().map(|timer| timer.key));
            }
        });
    }
    let mut taken = sweepers.join_all().await.concat();
    let all = taken.len();
    taken.sort();
    taken.dedup();
    assert_eq!((all, taken.len()), (200, 200), "each once");
}

async fn a_conflict_is_told_by_name(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let mut tx = of(&store).begin().await.unwrap();
    let mut insert = async |id: i64, account: &str| -> Result<(), StoreError> {
        sqlx::query("INSERT INTO thing (id, account, day) VALUES (?, ?, 7)")
            .bind(id)
            .bind(account)
            .execute(&mut *tx)
            .await?;
        Ok(())
    };
    insert(1, "a").await.unwrap();
    let same_day = insert(2, "a").await;
    assert!(
        matches!(&same_day, Err(StoreError::Conflict(name)) if name == "thing_account_day"),
        "{same_day:?}"
    );
    let same_id = insert(1, "b").await;
    assert!(
        matches!(&same_id, Err(StoreError::Conflict(name)) if name == "PRIMARY"),
        "{same_id:?}"
    );
    insert(3, "A").await.expect("a conflict does not end the transaction");

    let null = sqlx::query("INSERT INTO thing (id, account, day) VALUES (9, NULL, 1)")
        .execute(&mut *tx)
        .await;
    let null = null.map_err(StoreError::from);
    assert!(matches!(null, Err(StoreError::Unfit(_))), "{null:?}");
}

async fn both_engines_mean_the_same(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let mut tx = of(&store).begin().await.unwrap();
    let insert = r#"INSERT INTO "thing" ("id", account, day) VALUES (1, 'a\' || ?, 1)"#;
    sqlx::query(insert).bind("_b").execute(&mut *tx).await.unwrap();
    let select = r"SELECT account FROM thing WHERE account = 'a\_b' AND account LIKE 'a\!_b' ESCAPE '!'";
    let text: String = sqlx::query_scalar(select).fetch_one(&mut *tx).await.unwrap();
    assert_eq!(text, r"a\_b");
}

async fn old_applied_events_go(bed: Arc<Bed>) {
    const DAY: SignedDuration = SignedDuration::from_hours(24);
    let old = now() - 9 * DAY;
    let store = bed.replica().await;
    let mut tx = of(&store).begin().await.unwrap();
    for number in 0..2500 {
        engine::first_time(
            &mut tx,
            "old",
            event(number),
            old + SignedDuration::from_millis(i64::try_from(number).unwrap()),
        )
        .await
        .unwrap();
    }
    engine::first_time(&mut tx, "young", event(1), now() - 7 * DAY)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    store.sweep().await;

    let left: Vec<String> = sqlx::query_scalar("SELECT consumer FROM event_inbox")
        .fetch_all(of(&store).reader())
        .await
        .unwrap();
    assert_eq!(left, ["young"]);
}

async fn the_pool_is_measured(bed: Arc<Bed>) {
    let context = bed.context();
    let database = engine::Database::open(&bed.secret_url(), 3, &things(), &context)
        .await
        .unwrap();
    let tx = database.begin().await.unwrap();
    let busy = context.metrics.render();
    drop(tx);
    let active = |text: &str| {
        text.lines()
            .any(|line| line.starts_with("hikaricp_connections_active") && line.ends_with(" 1"))
    };
    assert!(active(&busy), "{busy}");
    for name in [
        "hikaricp_connections{",
        "hikaricp_connections_idle{",
        "hikaricp_connections_pending{",
        "hikaricp_connections_max{",
    ] {
        assert!(busy.contains(name), "{name}: {busy}");
    }
}
