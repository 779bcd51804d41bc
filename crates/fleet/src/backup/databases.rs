//! The databases of a data folder.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Sqlite, Transaction};

use super::{DATABASES, files};

/// How long one lock is waited for. All of them take less than the 5 s that services wait for theirs, which this process holds meanwhile.
const BUSY: Duration = Duration::from_millis(500);

/// How often the locks are tried, and the time in between: a database that is written anew after an erasure is locked for seconds.
const TRIES: u32 = 60;
const APART: Duration = Duration::from_millis(500);

/// How far numbers that the database gives out go on behind those of the backup: more than were given after it.
const SKIPPED: i64 = 1_000_000;

/// Copies the databases as they are at one moment. Returns what `locked` returns, which runs while nothing is written, and for how long
/// nothing was.
///
/// The write locks of all databases are held until there is a snapshot of each, which is then copied while others write. A copy is in memory as
/// a whole before it is written: a database of more than 2 GB is refused.
pub(crate) async fn copy<T>(
    data: &Path,
    into: &Path,
    locked: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, Duration)> {
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for name in DATABASES {
        let file = data.join(name);
        writers.push(open(&file).await.with_context(|| file.display().to_string())?);
        readers.push(open(&file).await.with_context(|| file.display().to_string())?);
    }
    let mut tries = 1;
    let (locks, began) = loop {
        let began = Instant::now();
        match lock(&mut writers).await {
            Ok(locks) => break (locks, began),
            Err(error) if tries == TRIES => return Err(error).context("the databases cannot be locked together"),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(APART).await;
    };
    let mut snapshots = Vec::new();
    for reader in &mut readers {
        let mut snapshot = reader.begin().await?;
        // A snapshot is taken by the first read.
        sqlx::query("SELECT COUNT(*) FROM sqlite_schema")
            .fetch_one(&mut *snapshot)
            .await?;
        snapshots.push(snapshot);
    }
    let done = locked()?;
    for lock in locks {
        lock.rollback().await?;
    }
    let paused = began.elapsed();
    for (name, mut snapshot) in DATABASES.into_iter().zip(snapshots) {
        let bytes = snapshot.serialize(None).await.context(name)?;
        files::write(&into.join(name), &bytes)?;
        snapshot.rollback().await?;
    }
    for connection in writers.into_iter().chain(readers) {
        connection.close().await?;
    }
    Ok((done, paused))
}

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(file).busy_timeout(BUSY)
}

async fn open(file: &Path) -> sqlx::Result<SqliteConnection> {
    options(file).connect().await
}

/// Takes the write lock of each, or none.
async fn lock(writers: &mut [SqliteConnection]) -> sqlx::Result<Vec<Transaction<'_, Sqlite>>> {
    let mut locks = Vec::new();
    for writer in writers {
        locks.push(writer.begin_with("BEGIN IMMEDIATE").await?);
    }
    Ok(locks)
}

/// Fails unless every page, index and reference of a copy that nothing has open is sound.
pub(crate) async fn check(file: &Path) -> anyhow::Result<()> {
    let mut connection = options(file).read_only(true).immutable(true).connect().await?;
    let found: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_all(&mut connection)
        .await?;
    ensure!(found == ["ok"], "{}: {}", file.display(), found.join("; "));
    let dangling = sqlx::query("PRAGMA foreign_key_check")
        .fetch_all(&mut connection)
        .await?;
    ensure!(
        dangling.is_empty(),
        "{}: {} rows refer to missing ones",
        file.display(),
        dangling.len()
    );
    connection.close().await?;
    Ok(())
}

/// Makes a restored database give out no number again that it gave out after the backup, as clients may know it: of a post, a comment, a report,
/// or of a frame of a stream. A client that resumes behind a frame from before is asked to read anew (`resync`).
pub(crate) async fn skip_numbers(folder: &Path, name: &str) -> anyhow::Result<()> {
    let mut connection = open(&folder.join(name)).await?;
    let numbers = sqlx::query("SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_sequence'")
        .fetch_optional(&mut connection)
        .await?;
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    if numbers.is_some() {
        sqlx::query(
            "INSERT INTO sqlite_sequence (name, seq) SELECT name, 0 FROM sqlite_schema
             WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%' AND name NOT IN (SELECT name FROM sqlite_sequence)",
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query("UPDATE sqlite_sequence SET seq = seq + ?")
            .bind(SKIPPED)
            .execute(&mut *tx)
            .await?;
    }
    for statement in of_streams(name) {
        sqlx::query(*statement).bind(SKIPPED).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    connection.close().await?;
    Ok(())
}

/// Returns the statements that move all numbers of the streams in a database.
fn of_streams(name: &str) -> &'static [&'static str] {
    match name {
        "dm.db" => &["UPDATE stream_frame SET seq = seq + ?"],
        "notice.db" => &[
            "UPDATE notice SET seq = seq + ?",
            "UPDATE inbox_read SET read_seq = read_seq + ? WHERE read_seq > 0",
        ],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};

    use super::*;

    async fn counter(file: &Path) -> SqliteConnection {
        let options = options(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Off)
            .busy_timeout(Duration::from_secs(5));
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE counter (id INTEGER PRIMARY KEY AUTOINCREMENT, steps INTEGER NOT NULL); INSERT INTO counter (steps) VALUES (0)")
            .execute(&mut connection)
            .await
            .unwrap();
        connection
    }

    async fn steps(file: &Path) -> i64 {
        let mut connection = options(file).read_only(true).immutable(true).connect().await.unwrap();
        sqlx::query_scalar("SELECT steps FROM counter")
            .fetch_one(&mut connection)
            .await
            .unwrap()
    }

    /// Each database makes a step after the one before it, as a consumer after a service. In a copy of one moment none is ahead of the one before
    /// it, and the last is at most a step behind the first.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn copies_of_databases_that_are_written_are_of_one_moment() {
        let folder = tempfile::tempdir().unwrap();
        let mut databases = Vec::new();
        for name in DATABASES {
            databases.push(counter(&folder.path().join(name)).await);
        }
        let ended = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn({
            let ended = ended.clone();
            async move {
                while !ended.load(Ordering::Relaxed) {
                    for database in &mut databases {
                        sqlx::query("UPDATE counter SET steps = steps + 1")
                            .execute(&mut *database)
                            .await
                            .unwrap();
                    }
                }
            }
        });
        let mut last = 0;
        for number in 0..40 {
            let into = folder.path().join(format!("copy-{number}"));
            std::fs::create_dir(&into).unwrap();
            copy(folder.path(), &into, || Ok(())).await.unwrap();
            let mut found = Vec::new();
            for name in DATABASES {
                check(&into.join(name)).await.unwrap();
                found.push(steps(&into.join(name)).await);
            }
            let is_of_one_moment = found.is_sorted_by(|one, next| one >= next) && found[0] - found[4] <= 1;
            assert!(is_of_one_moment, "{found:?}");
            assert!(found[4] >= last);
            last = found[4];
        }
        assert!(last > 0, "it was written meanwhile");
        ended.store(true, Ordering::Relaxed);
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn a_restored_database_gives_no_number_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("auth.db");
        let mut database = counter(&file).await;
        sqlx::raw_sql("CREATE TABLE unused (id INTEGER PRIMARY KEY AUTOINCREMENT)")
            .execute(&mut database)
            .await
            .unwrap();
        database.close().await.unwrap();
        skip_numbers(folder.path(), "auth.db").await.unwrap();

        let mut database = open(&file).await.unwrap();
        for (insert, number) in [
            ("INSERT INTO counter (steps) VALUES (0)", SKIPPED + 2),
            ("INSERT INTO unused DEFAULT VALUES", SKIPPED + 1),
        ] {
            let inserted = sqlx::query(insert).execute(&mut database).await.unwrap();
            assert_eq!(inserted.last_insert_rowid(), number);
        }
        database.close().await.unwrap();
        // Without numbers there is nothing to do.
        let other = folder.path().join("events.db");
        let mut database = options(&other).create_if_missing(true).connect().await.unwrap();
        sqlx::raw_sql("CREATE TABLE counters (name TEXT PRIMARY KEY)")
            .execute(&mut database)
            .await
            .unwrap();
        database.close().await.unwrap();
        skip_numbers(folder.path(), "events.db").await.unwrap();
    }

    #[tokio::test]
    async fn a_damaged_copy_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("auth.db");
        let mut database = counter(&file).await;
        sqlx::raw_sql("CREATE TABLE step (counter INTEGER NOT NULL REFERENCES counter (id)); PRAGMA foreign_keys = OFF; INSERT INTO step VALUES (7)")
            .execute(&mut database)
            .await
            .unwrap();
        database.close().await.unwrap();
        let refused = check(&file).await.unwrap_err().to_string();
        assert!(refused.ends_with("1 rows refer to missing ones"), "{refused}");
    }
}
