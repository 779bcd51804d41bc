//! Tests of the journal only: its file, its lock, retention and compaction.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_bus::{Bus, BusError, Start};
use sosohappy_common::Context;
use sosohappy_common::clock::{Clock, ManualClock};
use sosohappy_events::{Outgoing, Topic};
use support::{Bench, on_journal, read, record, soon, take, values};

const DAY: Duration = Duration::from_hours(24);

fn at(bench: &Bench, clock: &Arc<ManualClock>) -> Bench {
    let clock: Arc<dyn Clock> = clock.clone();
    Bench {
        context: Context {
            clock,
            ..bench.context.clone()
        },
        ..bench.clone()
    }
}

/// All there is in a topic, once it is no more than `count`.
async fn shrunk(bus: &Arc<dyn Bus>, topic: Topic, count: usize) -> Vec<String> {
    soon(async {
        loop {
            let mut reader = bus.read(&[topic], Start::Earliest).await.unwrap();
            let mut records = Vec::new();
            while !reader.caught_up() {
                records.extend(read(&mut *reader, 1).await);
            }
            if records.len() <= count {
                return values(&records);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test]
async fn records_are_deleted_after_their_retention() {
    on_journal(async |bench: Bench| {
        let clock = ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap());
        let bench = at(&bench, &clock);
        let bus = bench.open().await;
        let old: Vec<_> = (0..1500)
            .map(|number| record(Topic::AccessToken, &number.to_string(), "old"))
            .collect();
        bus.publish(&old).await.unwrap();
        bus.publish(&[record(Topic::Notice, "key", "a week is not over")])
            .await
            .unwrap();
        let mut group = bus.join("group", &[Topic::AccessToken]).await.unwrap();
        take(&mut *group, 1500).await;
        group.leave().await;
        clock.advance(DAY + DAY / 2);
        bus.publish(&[record(Topic::AccessToken, "key", "new")]).await.unwrap();
        clock.advance(DAY);
        drop(bus);
        // Looks after its file as soon as it is opened.
        let bus = bench.open().await;
        assert_eq!(shrunk(&bus, Topic::AccessToken, 1).await, ["new"]);
        assert_eq!(shrunk(&bus, Topic::Notice, 1).await, ["a week is not over"]);
        // A group goes on where it was, behind what is no more.
        let mut group = bus.join("group", &[Topic::AccessToken]).await.unwrap();
        assert_eq!(values(&take(&mut *group, 1).await), ["new"]);
    })
    .await;
}

#[tokio::test]
async fn compacted_topics_keep_the_last_record_of_each_key() {
    on_journal(async |bench: Bench| {
        let clock = ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap());
        let bench = at(&bench, &clock);
        let bus = bench.open().await;
        let records: Vec<_> = (0..1800)
            .map(|number| {
                record(
                    Topic::EmailAndNickname,
                    &format!("key-{}", number % 3),
                    &number.to_string(),
                )
            })
            .collect();
        bus.publish(&records).await.unwrap();
        let forget = Outgoing {
            value: None,
            ..record(Topic::EmailAndNickname, "key-1", "")
        };
        bus.publish(&[forget]).await.unwrap();
        clock.advance(DAY * 30);
        bus.publish(&[record(Topic::EmailAndNickname, "key-2", "last")])
            .await
            .unwrap();
        drop(bus);
        let bus = bench.open().await;
        assert_eq!(
            shrunk(&bus, Topic::EmailAndNickname, 2).await,
            ["1797", "last"],
            "a null value goes after a while"
        );
    })
    .await;
}

#[tokio::test]
async fn a_second_holder_of_the_file_is_refused() {
    on_journal(async |bench: Bench| {
        let bus = bench.open().await;
        let refused = bench.try_open().await.unwrap_err();
        assert!(matches!(refused, BusError::Settings(_)));
        assert!(
            refused
                .to_string()
                .ends_with(&format!("events.db: in use by process {}", std::process::id())),
            "{refused}"
        );
        // A member that is still held keeps the file as well.
        let member = bus.join("group", &[Topic::Notice]).await.unwrap();
        drop(bus);
        assert!(bench.try_open().await.is_err());
        drop(member);
        bench.open().await;
    })
    .await;
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn nothing_but_the_journal_stays_behind() {
    on_journal(async |bench: Bench| {
        let folder = Path::new(bench.url.trim_start_matches("journal:"))
            .parent()
            .unwrap()
            .to_owned();
        let bus = bench.open().await;
        let mut member = bus.join("group", &[Topic::Notice]).await.unwrap();
        bus.publish(&[record(Topic::Notice, "key", "1")]).await.unwrap();
        take(&mut *member, 1).await;
        drop((bus, member));
        soon(async {
            while files(&folder) != ["events.db", "events.db.lock"] {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        // The graceful shutdown wrote the committed offsets.
        let bus = bench.open().await;
        let mut member = bus.join("group", &[Topic::Notice]).await.unwrap();
        bus.publish(&[record(Topic::Notice, "key", "2")]).await.unwrap();
        assert_eq!(values(&take(&mut *member, 1).await), ["2"]);
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_journal_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("text"), "not a database ".repeat(100)).unwrap();
    for path in ["text", "text/events.db", ""] {
        let url = if path.is_empty() {
            "journal:".to_owned()
        } else {
            format!("journal:{}", folder.path().join(path).display())
        };
        let bench = Bench::new(url, String::new());
        let settings = sosohappy_common::settings::Events::new(&bench.url, "");
        let outcome = sosohappy_bus::open(&settings, &bench.context).await;
        assert!(matches!(outcome, Err(BusError::Settings(_))), "{path}: {outcome:?}");
    }
}

#[tokio::test]
async fn heartbeats_reach_present_readers_and_not_the_disk() {
    on_journal(async |bench: Bench| {
        let bus = bench.open().await;
        let mut reader = bus
            .read(&[Topic::Heartbeat, Topic::Notice], Start::Latest)
            .await
            .unwrap();
        assert!(reader.caught_up());
        for number in 0..3 {
            let heartbeat = record(Topic::Heartbeat, "auth-service", &number.to_string());
            bus.publish(&[heartbeat]).await.unwrap();
        }
        assert_eq!(values(&read(&mut *reader, 3).await), ["0", "1", "2"]);
        let mixed = [
            record(Topic::Notice, "key", "stored"),
            record(Topic::Heartbeat, "auth-service", "3"),
        ];
        bus.publish(&mixed).await.unwrap();
        let mut both = values(&read(&mut *reader, 2).await);
        both.sort();
        assert_eq!(both, ["3", "stored"]);

        let mut all = bus
            .read(&[Topic::Heartbeat, Topic::Notice], Start::Earliest)
            .await
            .unwrap();
        assert_eq!(values(&read(&mut *all, 1).await), ["stored"]);
        assert!(all.caught_up());
    })
    .await;
}
