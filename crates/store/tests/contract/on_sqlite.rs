//! The SQL stores' contract on `SQLite`, and tests of this engine only.

use std::sync::Arc;

use sosohappy_store::{StoreError, sqlite as engine};

use crate::bed::{Bed, Engine, Store, run, things};

const ENGINE: Engine = Engine::Sqlite;

#[path = "sql.rs"]
mod sql;

fn of(store: &Store) -> &engine::Database {
    match store {
        Store::Sqlite(database) => database,
        _ => unreachable!("opened by its bed"),
    }
}

#[tokio::test]
async fn a_reader_does_not_write() {
    run(ENGINE, async |bed: Arc<Bed>| {
        let store = bed.replica().await;
        let write = "INSERT INTO thing (id, account, day) VALUES (1, 'a', 1)";
        assert!(sqlx::query(write).execute(of(&store).reader()).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn a_commit_is_on_disk() {
    run(ENGINE, async |bed: Arc<Bed>| {
        let store = bed.replica().await;
        let mut tx = of(&store).begin().await.unwrap();
        let pragma = async |tx: &mut engine::Tx, name: &'static str| -> String {
            use sqlx::Row as _;
            let row = sqlx::query(name).fetch_one(&mut **tx).await.unwrap();
            row.try_get_unchecked::<String, _>(0).unwrap()
        };
        assert_eq!(pragma(&mut tx, "PRAGMA journal_mode").await, "wal");
        assert_eq!(
            pragma(&mut tx, "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous").await,
            "2"
        );
        assert_eq!(
            pragma(&mut tx, "SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys").await,
            "1"
        );
    })
    .await;
}

/// The database ends the transaction by itself then, unnoticed by its holder.
#[tokio::test]
async fn a_full_disk_that_has_room_again_is_written_to() {
    run(ENGINE, async |bed: Arc<Bed>| {
        let store = bed.replica().await;
        let mut tx = of(&store).begin().await.unwrap();
        let pages = sqlx::query("PRAGMA max_page_count = 1").execute(&mut *tx);
        pages.await.expect("it goes down to what there is");
        let fill = "INSERT INTO thing (id, account, day) VALUES (1, printf('%.*c', 1000000, 'a'), 1)";
        let refused = sqlx::query(fill).execute(&mut *tx).await.unwrap_err();
        assert!(refused.to_string().contains("disk is full"), "{refused}");
        assert!(matches!(refused.into(), StoreError::Unavailable(_)));
        drop(tx);

        let mut tx = of(&store).begin().await.expect("a connection that is of use");
        let write = "INSERT INTO thing (id, account, day) VALUES (2, 'a', 1)";
        sqlx::query(write).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn only_a_file_is_understood() {
    let context = sosohappy_common::Context::system("test-service", 0);
    for url in [
        "sqlite::memory:",
        "sqlite:",
        "sqlite://",
        "mysql://h/d",
        "sqlite:a.db?mode=ro",
        "",
    ] {
        let refused = engine::Database::open(&url.into(), 1, &things(), &context).await;
        assert!(matches!(refused, Err(StoreError::Settings(_))), "{url}");
    }
}
