//! Contract tests of both SQL stores beside the ports; compiled for each.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use sosohappy_events::EventId;
use sosohappy_store::{StoreError, Timer, retrying};
use sqlx::{AssertSqlSafe, SqlSafeStr as _};
use tokio::task::JoinSet;

use super::{ENGINE, engine, of};
use crate::bed::{Bed, Engine, Store, at, now, record, things};

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
    a_rolled_back_write_leaves_nothing,
    a_cancelled_write_is_whole_or_not_there,
    a_cancelled_statement_costs_no_connection,
    a_cancelled_begin_leaves_no_transaction_open,
    an_event_is_applied_once,
    of_two_consumers_at_once_one_applies,
    a_timer_is_set_moved_and_cleared,
    a_timer_that_is_not_committed_fires_again,
    a_failing_timer_is_postponed,
    a_timer_with_an_invalid_key_is_quarantined,
    two_replicas_never_take_the_same_timer,
    a_timer_fires_once_with_clocks_apart,
    errors_say_what_happened,
    a_conflict_names_its_constraint,
    both_engines_mean_the_same,
    old_applied_events_are_deleted,
    the_latest_erasure_counts,
    a_reader_of_the_ledger_waits_for_an_erasure,
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
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
    bed.replica().await;
}

async fn a_rolled_back_write_leaves_nothing(bed: Arc<Bed>) {
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

    assert!(database.outbox().pending(10).await.unwrap().pending.is_empty());
    assert_eq!(database.directory().account_of("kim").await.unwrap(), None);
    let mut tx = database.begin().await.unwrap();
    assert!(!engine::take_timer(&mut tx, "k", "a", at(1)).await.unwrap());
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
    let (things, events) = (store.count().await, store.outbox().pending(1000).await.unwrap().pending);
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

/// A later write without a transaction must not wait for a transaction that was left open.
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

fn timer(key: &str, millis: i64) -> Timer {
    Timer {
        kind: "expiry".to_owned(),
        key: key.to_owned(),
        fire_at: at(millis),
    }
}

async fn set(database: &engine::Database, timers: &[Timer]) {
    let mut tx = database.begin().await.unwrap();
    for timer in timers {
        engine::set_timer(&mut tx, timer).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Keys and attempts of the timers due at that moment.
async fn due(database: &engine::Database, millis: i64) -> Vec<(String, u32)> {
    let due = database.due_timers("expiry", at(millis), 10).await.unwrap();
    due.into_iter().map(|timer| (timer.key, timer.attempts)).collect()
}

async fn a_timer_is_set_moved_and_cleared(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let database = of(&store);
    set(
        database,
        &[
            timer("late", 100),
            timer("early", 20),
            timer("moved", 1),
            timer("cleared", 1),
            timer("A", 30),
            timer("a", 30),
        ],
    )
    .await;
    set(
        database,
        &[
            timer("moved", 500),
            Timer {
                kind: "other".to_owned(),
                ..timer("early", 1)
            },
        ],
    )
    .await;
    let mut tx = database.begin().await.unwrap();
    engine::clear_timer(&mut tx, "expiry", "cleared").await.unwrap();
    engine::clear_timer(&mut tx, "expiry", "unknown").await.unwrap();
    tx.commit().await.unwrap();

    let keys = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), 0)).collect::<Vec<_>>();
    assert_eq!(due(database, 19).await, []);
    assert_eq!(due(database, 20).await, keys(&["early"]));
    assert_eq!(due(database, 500).await, keys(&["early", "A", "a", "late", "moved"]));
    let first = database.due_timers("expiry", at(500), 1).await.unwrap();
    assert_eq!(first[0].key, "early");

    let mut tx = database.begin().await.unwrap();
    assert!(!engine::take_timer(&mut tx, "expiry", "early", at(19)).await.unwrap());
    assert!(engine::take_timer(&mut tx, "expiry", "early", at(20)).await.unwrap());
    assert!(!engine::take_timer(&mut tx, "expiry", "early", at(20)).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(due(database, 100).await, keys(&["A", "a", "late"]));
}

async fn a_timer_that_is_not_committed_fires_again(bed: Arc<Bed>) {
    let store = bed.replica().await;
    set(of(&store), &[timer("a", 1)]).await;
    for _ in 0..2 {
        let mut tx = of(&store).begin().await.unwrap();
        assert!(engine::take_timer(&mut tx, "expiry", "a", at(1)).await.unwrap());
        drop(tx);
    }
}

async fn a_failing_timer_is_postponed(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let database = of(&store);
    set(database, &[timer("bad", 1), timer("good", 2)]).await;
    database.postpone_timer("expiry", "bad", at(5), at(50)).await.unwrap();
    assert_eq!(due(database, 49).await, [("good".to_owned(), 0)]);
    assert_eq!(due(database, 50).await[1], ("bad".to_owned(), 1));
    // It is not due any more, so another replica has postponed or set it.
    database.postpone_timer("expiry", "bad", at(5), at(900)).await.unwrap();
    assert_eq!(due(database, 50).await[1], ("bad".to_owned(), 1));
    set(database, &[timer("bad", 3)]).await;
    assert_eq!(due(database, 3).await[1], ("bad".to_owned(), 0), "set anew");
}

async fn a_timer_with_an_invalid_key_is_quarantined(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let database = of(&store);
    set(database, &[timer("not a session", 1), timer("good", 2)]).await;
    let mut tx = database.begin().await.unwrap();
    // Bytes that are no text, in a column that may hold them.
    let text = if ENGINE == Engine::Sqlite {
        "CAST(X'ff' AS TEXT)"
    } else {
        "X'ff'"
    };
    for kind in ["expiry", "quarantined:expiry"] {
        let insert = AssertSqlSafe(format!(
            "INSERT INTO timer (kind, timer_key, fire_at) VALUES ('{kind}', {text}, 1)"
        ));
        sqlx::query(insert.into_sql_str()).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    database.quarantine_timer("expiry", "not a session").await.unwrap();
    assert_eq!(due(database, 10).await, [("good".to_owned(), 0)]);

    let kept: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM timer WHERE kind = 'quarantined:expiry'")
        .fetch_one(database.reader())
        .await
        .unwrap();
    assert_eq!(kept, 2, "the one that was there before is the same");
}

async fn two_replicas_never_take_the_same_timer(bed: Arc<Bed>) {
    let (one, two) = (bed.replica().await, bed.replica().await);
    let keys: Vec<String> = (0..60).map(|number| number.to_string()).collect();
    set(of(&one), &keys.iter().map(|key| timer(key, 1)).collect::<Vec<_>>()).await;
    let mut takers = JoinSet::new();
    for number in 0..4 {
        let database = of(if number % 2 == 0 { &one } else { &two }).clone();
        let keys = keys.clone();
        takers.spawn(async move {
            let mut taken = Vec::new();
            for key in keys {
                let first = retrying(|| async {
                    let mut tx = database.begin().await?;
                    let first = engine::take_timer(&mut tx, "expiry", &key, at(1)).await?;
                    tx.commit().await?;
                    Ok::<_, StoreError>(first)
                });
                if first.await.unwrap() {
                    taken.push(key);
                }
            }
            taken
        });
    }
    let mut taken: Vec<String> = takers.join_all().await.into_iter().flatten().collect();
    taken.sort_by_key(|key| key.parse::<u32>().unwrap());
    assert_eq!(taken, keys, "each once");
}

/// One replica's clock is 30 s ahead of the other's.
async fn a_timer_fires_once_with_clocks_apart(bed: Arc<Bed>) {
    let (ahead, right) = (bed.replica().await, bed.replica().await);
    let (early, now) = (at(31_000), at(1000));
    set(
        of(&right),
        &[timer("early", 20_000), timer("failing", 500), timer("renewed", 20_000)],
    )
    .await;
    let take = async |store: &Store, key: &str, now| {
        let mut tx = of(store).begin().await.unwrap();
        let taken = engine::take_timer(&mut tx, "expiry", key, now).await.unwrap();
        tx.commit().await.unwrap();
        taken
    };

    assert!(!take(&right, "early", now).await, "it is not due here yet");
    assert!(take(&ahead, "early", early).await);
    assert!(!take(&right, "early", at(40_000)).await, "it has fired");

    // Postponed by the clock that is ahead, it is late by as much, and fires.
    of(&ahead)
        .postpone_timer("expiry", "failing", early, at(61_000))
        .await
        .unwrap();
    assert!(!take(&right, "failing", at(60_999)).await);
    assert!(take(&right, "failing", at(61_000)).await);

    // Taken early and set again by its own work, it fires again at the new time only.
    assert!(take(&ahead, "renewed", early).await);
    set(of(&ahead), &[timer("renewed", 90_000)]).await;
    assert!(!take(&right, "renewed", at(89_999)).await);
    assert!(take(&right, "renewed", at(90_000)).await);
}

/// The kind of an error decides what follows: unavailable is retried, corrupt needs an operator.
async fn errors_say_what_happened(bed: Arc<Bed>) {
    let store = bed.replica().await;
    store.write(1, &record("1", at(0)), at(0)).await;
    let reader = of(&store).reader();
    for wrong in ["SELECT nothing FROM thing", "SELECT 1 FROM nothing", "SELEKT 1"] {
        let error = StoreError::from(sqlx::query(wrong).fetch_all(reader).await.unwrap_err());
        assert!(matches!(error, StoreError::Corrupt(_)), "{wrong}: {error:?}");
    }
    let undecodable = sqlx::query_scalar::<_, i64>("SELECT account FROM thing").fetch_all(reader);
    let error = StoreError::from(undecodable.await.unwrap_err());
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    let column = sqlx::query_as::<_, Columns>("SELECT id FROM thing").fetch_all(reader);
    let error = StoreError::from(column.await.unwrap_err());
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");

    of(&store).close().await;
    let error = of(&store).ping().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
}

#[derive(Debug, sqlx::FromRow)]
struct Columns {
    #[expect(dead_code, reason = "only read from a row that lacks it")]
    account: String,
}

async fn a_conflict_names_its_constraint(bed: Arc<Bed>) {
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
    assert!(matches!(null, Err(StoreError::Invalid(_))), "{null:?}");
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

async fn old_applied_events_are_deleted(bed: Arc<Bed>) {
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

async fn the_latest_erasure_counts(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let (kim, lee) = (crate::bed::account("kim"), crate::bed::account("lee"));
    let both = [kim.clone(), lee.clone()];
    let mut tx = of(&store).begin().await.unwrap();
    assert_eq!(
        engine::erased_accounts::erased_until(&mut tx, &kim).await.unwrap(),
        None
    );
    for until in [2, 5, 3] {
        engine::erased_accounts::close(&mut tx, &kim, at(until)).await.unwrap();
    }
    engine::erased_accounts::close(&mut tx, &lee, at(1)).await.unwrap();
    assert_eq!(
        engine::erased_accounts::erased_until(&mut tx, &kim).await.unwrap(),
        Some(at(5))
    );
    for (since, erased) in [(1, &both[..]), (5, &both[..1]), (6, &[])] {
        let found = engine::erased_accounts::erased_since(&mut tx, &both, at(since))
            .await
            .unwrap();
        assert_eq!(found, erased.iter().cloned().collect(), "since {since}");
    }
    engine::erased_accounts::forget(&mut tx, at(5)).await.unwrap();
    assert_eq!(
        engine::erased_accounts::erased_until(&mut tx, &kim).await.unwrap(),
        Some(at(5))
    );
    assert_eq!(
        engine::erased_accounts::erased_until(&mut tx, &lee).await.unwrap(),
        None
    );
}

/// On `MySQL` by its lock; on `SQLite` the write transaction itself waits.
async fn a_reader_of_the_ledger_waits_for_an_erasure(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let kim = crate::bed::account("kim");
    let mut tx = of(&store).begin().await.unwrap();
    engine::erased_accounts::close(&mut tx, &kim, at(1)).await.unwrap();
    let (other, account) = (store.clone(), kim.clone());
    let read = tokio::spawn(async move {
        let mut tx = of(&other).begin().await?;
        engine::erased_accounts::erased_until(&mut tx, &account).await
    });
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(!read.is_finished(), "it waits for the transaction that erases");
    }
    tx.commit().await.unwrap();
    assert_eq!(read.await.unwrap().unwrap(), Some(at(1)));
}

async fn the_pool_is_measured(bed: Arc<Bed>) {
    let context = bed.context();
    let database = engine::Database::open(&bed.secret_url(), 3, &things(), &context)
        .await
        .unwrap();
    let tx = database.begin().await.unwrap();
    let active = |text: &str| {
        text.lines()
            .any(|line| line.starts_with("hikaricp_connections_active") && line.ends_with(" 1"))
    };
    // The connection that has opened the database returns to the pool on a task of its own.
    let mut busy = context.metrics.render();
    for _ in 0..1000 {
        if active(&busy) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        busy = context.metrics.render();
    }
    drop(tx);
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
