//! The SQL stores' contract on `MySQL`, and tests of this engine only.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sosohappy_store::{StoreError, mysql as engine};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::bed::{Bed, Engine, Store, run, things};

const ENGINE: Engine = Engine::Mysql;

#[path = "sql.rs"]
#[expect(clippy::duplicate_mod, reason = "one text, compiled for both engines")]
mod sql;

fn of(store: &Store) -> &engine::Database {
    match store {
        Store::Mysql(database) => database,
        _ => unreachable!("opened by its bed"),
    }
}

/// A process was killed after the change of a table, which commits at once, or before it.
#[tokio::test]
async fn an_interrupted_migration_is_done_again() {
    run(ENGINE, async |bed: Arc<Bed>| {
        let store = bed.replica().await;
        let mut tx = of(&store).begin().await.unwrap();
        for statement in [
            "DROP TABLE timer",
            "DROP INDEX thing_account_day ON thing",
            "UPDATE _sqlx_migrations SET success = FALSE WHERE version IN (4, 6, 1001)",
        ] {
            sqlx::query(statement).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();

        let store = bed.replica().await;
        let begun: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM _sqlx_migrations WHERE success = FALSE")
            .fetch_one(of(&store).reader())
            .await
            .unwrap();
        assert_eq!(begun, 0);
        let timers: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM timer")
            .fetch_one(of(&store).reader())
            .await
            .unwrap();
        assert_eq!(timers, 0);
    })
    .await;
}

#[tokio::test]
async fn a_deadlock_may_be_tried_again() {
    run(ENGINE, async |bed: Arc<Bed>| {
        let store = bed.replica().await;
        let database = of(&store);
        let mut tx = database.begin().await.unwrap();
        sqlx::query("INSERT INTO thing (id, account, day) VALUES (1, 'a', 1), (2, 'b', 1)")
            .execute(&mut *tx)
            .await
            .unwrap();
        tx.commit().await.unwrap();

        let update = async |tx: &mut engine::Tx, id: i64| -> Result<(), StoreError> {
            sqlx::query("UPDATE thing SET day = day + 1 WHERE id = ?")
                .bind(id)
                .execute(&mut **tx)
                .await?;
            Ok(())
        };
        let (mut one, mut other) = (database.begin().await.unwrap(), database.begin().await.unwrap());
        update(&mut one, 1).await.unwrap();
        update(&mut other, 2).await.unwrap();
        let (first, second) = tokio::join!(update(&mut one, 2), update(&mut other, 1));
        let refused: Vec<_> = [first, second].into_iter().filter_map(Result::err).collect();
        assert!(matches!(refused.as_slice(), [StoreError::Retry(_)]), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn a_value_that_is_too_long_is_invalid() {
    run(ENGINE, async |bed: Arc<Bed>| {
        let store = bed.replica().await;
        let mut tx = of(&store).begin().await.unwrap();
        let insert = sqlx::query("INSERT INTO thing (id, account, day) VALUES (1, ?, 1)").bind("a".repeat(51));
        let refused = insert.execute(&mut *tx).await.map_err(StoreError::from);
        assert!(matches!(refused, Err(StoreError::Invalid(_))), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_killed_is_unavailable() {
    run(ENGINE, async |bed: Arc<Bed>| {
        let store = bed.replica().await;
        let mut tx = of(&store).begin().await.unwrap();
        let id: u64 = sqlx::query_scalar("SELECT CONNECTION_ID()")
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        let kill = sqlx::AssertSqlSafe(format!("KILL {id}"));
        sqlx::raw_sql(kill).execute(of(&store).reader()).await.unwrap();
        let lost = sqlx::query("SELECT 1")
            .execute(&mut *tx)
            .await
            .map_err(StoreError::from);
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
    })
    .await;
}

/// Forwards connections to a server. After a notification that the server has gone, those that are open stay so, and nothing passes through them.
async fn forward(listener: TcpListener, server: String, gone: Arc<Notify>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let mut server = TcpStream::connect(&server).await.unwrap();
        let gone = gone.clone();
        tokio::spawn(async move {
            let is_closed = tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => true,
                () = gone.notified() => false,
            };
            if !is_closed {
                std::future::pending::<()>().await;
            }
        });
    }
}

#[tokio::test]
async fn a_connection_whose_server_has_gone_is_replaced_in_seconds() {
    run(ENGINE, async |bed: Arc<Bed>| {
        let mut url = url::Url::parse(&bed.url).unwrap();
        let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(3306));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let gone = Arc::new(Notify::new());
        let forwarding = tokio::spawn(forward(listener, server, gone.clone()));
        let database = engine::Database::open(&url.as_str().into(), 1, &things(), &bed.context())
            .await
            .unwrap();
        let ask =
            async || -> Result<i64, sqlx::Error> { sqlx::query_scalar("SELECT 1").fetch_one(database.reader()).await };
        assert_eq!(ask().await.unwrap(), 1);
        // sqlx tests a connection that is given back, for as long as it takes.
        while database.reader().num_idle() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }

        gone.notify_waiters();
        // A connection that was idle for less than a second is used without a test.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let began = Instant::now();
        assert_eq!(ask().await.unwrap(), 1);
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());

        // Its only connection is in use when the server fails.
        let asking = sqlx::query("SELECT SLEEP(60)").execute(database.reader());
        let (asked, ()) = tokio::join!(tokio::time::timeout(Duration::from_millis(500), asking), async {
            tokio::time::sleep(Duration::from_millis(250)).await;
            gone.notify_waiters();
        });
        assert!(asked.is_err(), "{asked:?}");
        let began = Instant::now();
        assert_eq!(ask().await.unwrap(), 1);
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        forwarding.abort();
    })
    .await;
}

#[tokio::test]
async fn a_url_names_a_database() {
    let context = sosohappy_common::Context::system("test-service", 0);
    for url in [
        "mysql://root@127.0.0.1:1",
        "mysql://root@127.0.0.1:1/",
        "sqlite:a.db",
        "",
    ] {
        let refused = engine::Database::open(&url.into(), 1, &things(), &context).await;
        assert!(matches!(refused, Err(StoreError::Settings(_))), "{url}");
    }
}
