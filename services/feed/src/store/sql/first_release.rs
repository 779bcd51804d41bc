//! A replica of the first release, for tests of migrations that run while it serves.

use std::sync::atomic::Ordering;

use sosohappy_common::settings::SecretUrl;
use sosohappy_common::{Account, Context};
use sosohappy_store::{StoreError, retrying};
use sqlx::migrate::Migrator;

use super::{MIGRATIONS, engine};
use crate::store::migration_tests::Progress;

/// Its last migration.
const LAST: i64 = 1009;

const INSERT: &str = "INSERT INTO post (account, day, date, weather, happiness, text, is_public, categories, images, made_at) \
    VALUES (?, ?, ?, 'sunny', 3, 'first', 1, '[\"sea\"]', '[]', 0)";
const UPDATE: &str = "UPDATE post SET text = 'second', happiness = 4 WHERE account = ? AND day = ? AND date = ?";
const LIKE: &str = "INSERT INTO post_like (post_id, account, liked_at, made_at) \
    SELECT id, 'liker@example.com+kakao', 1, 1 FROM post WHERE account = ? AND day = ? AND date = ?";
const DELETE: &str = "DELETE FROM post WHERE account = ? AND day = ? AND date = ?";

/// Opens the database as the first release did, and writes posts with its statements until it is stopped. Returns the dates of the posts that
/// it has not deleted.
pub async fn serve_first_release(
    url: &SecretUrl,
    context: &Context,
    account: &Account,
    progress: &Progress,
) -> Result<Vec<i64>, StoreError> {
    let known = MIGRATIONS.iter().filter(|migration| migration.version <= LAST);
    let migrations = Migrator::with_migrations(known.cloned().collect());
    let database = engine::Database::open(url, 2, &migrations, context).await?;
    progress.is_open.store(true, Ordering::SeqCst);
    let mut left = Vec::new();
    for number in 0.. {
        if progress.stops.load(Ordering::SeqCst) {
            break;
        }
        let date = 2_000_010_112_000_000
            + number % 28 * 100_000_000
            + number / 28 % 12 * 10_000_000_000
            + number / 336 * 1_000_000_000_000;
        let write = async |statement: &'static str| {
            let rows = run(&database, statement, account, date).await?;
            assert_eq!(rows, 1, "{statement}");
            Ok::<_, StoreError>(())
        };
        write(INSERT).await?;
        write(LIKE).await?;
        write(UPDATE).await?;
        let text: String = sqlx::query_scalar("SELECT text FROM post WHERE account = ? AND date = ?")
            .bind(account.as_str())
            .bind(date)
            .fetch_one(database.reader())
            .await?;
        assert_eq!(text, "second");
        if number % 3 == 0 {
            write(DELETE).await?;
        } else {
            left.push(date);
        }
        progress.posts.fetch_add(1, Ordering::SeqCst);
    }
    Ok(left)
}

async fn run(
    database: &engine::Database,
    statement: &'static str,
    account: &Account,
    date: i64,
) -> Result<u64, StoreError> {
    retrying(async || {
        let mut tx = database.begin().await?;
        let done = sqlx::query(statement)
            .bind(account.as_str())
            .bind(date / 100_000_000)
            .bind(date)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok::<_, StoreError>(done.rows_affected())
    })
    .await
}
