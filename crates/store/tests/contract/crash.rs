//! A process that is killed while it writes: acknowledged rows are stored, with their events.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, io};

use crate::bed::{Bed, Engine, at, record, run};
use crate::on_all_engines;

on_all_engines! { an_acknowledged_write_survives_a_kill }

const URL: &str = "SOSOHAPPY_STORE_TEST_CHILD_URL";

/// Whether the child takes a lease instead of writing.
const LEASE: &str = "SOSOHAPPY_STORE_TEST_CHILD_LEASE";

const TTL: Duration = Duration::from_mins(5);

/// The process that is killed. A test like any other, which does something only with a URL in its environment.
#[tokio::test]
async fn child() {
    let Ok(url) = env::var(URL) else { return };
    let engine = match url.split(':').next() {
        Some("sqlite") => Engine::Sqlite,
        Some("mysql") => Engine::Mysql,
        _ => Engine::Mongodb,
    };
    let store = Bed::again(engine, url).replica().await;
    if env::var_os(LEASE).is_some() {
        assert!(store.lease("sweep", "child", TTL).await);
        writeln!(io::stdout(), "leased").unwrap();
        std::future::pending::<()>().await;
    }
    let first = store.count().await + 1;
    for number in first.. {
        store.write(number, &record(&number.to_string(), at(0)), at(0)).await;
        writeln!(io::stdout(), "stored {number}").unwrap();
    }
}

async fn an_acknowledged_write_survives_a_kill(bed: Arc<Bed>) {
    bed.replica().await;
    let mut acknowledged = 0;
    for round in 1..=3 {
        acknowledged = write_until_killed(&bed.url, 40 * round).max(acknowledged);
        let store = bed.replica().await;
        let stored = store.count().await;
        assert!(stored >= acknowledged, "{stored} of {acknowledged}");

        let pending = store.outbox().pending(100_000).await.unwrap().pending;
        let told: Vec<i64> = pending
            .iter()
            .map(|event| {
                String::from_utf8_lossy(event.record.value.as_deref().unwrap())
                    .parse()
                    .unwrap()
            })
            .collect();
        assert_eq!(told, (1..=stored).collect::<Vec<_>>(), "each has its event, in order");
    }
}

/// The last number that the child reported as stored.
fn write_until_killed(url: &str, writes: usize) -> i64 {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture"])
        .env(URL, url)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = 0;
    let mut seen = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(number) = line.split("stored ").nth(1).and_then(|number| number.parse().ok()) {
            acknowledged = number;
            seen += 1;
        }
        if seen == writes {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(seen >= writes, "the child ended after {seen} writes");
    acknowledged
}

/// The clock of the dead process is irrelevant: the kernel knows that it is dead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leases_of_a_killed_embedded_process_are_free_at_once() {
    run(Engine::Sqlite, async |bed: Arc<Bed>| {
        bed.replica().await;
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--nocapture"])
            .env(URL, &bed.url)
            .env(LEASE, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("leased")));

        let beside = bed.replica().await;
        assert!(!beside.lease("sweep", "one", TTL).await, "its holder lives");
        drop(beside);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(bed.replica().await.lease("sweep", "one", TTL).await);
    })
    .await;
}
