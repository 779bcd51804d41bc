//! Readers of every record: where they begin, and that they miss nothing.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use sosohappy_bus::Start;
use sosohappy_events::Topic;

use crate::spread;
use crate::support::{Bench, assert_in_order, numbers, read, record, soon, take, value, values};

crate::on_both!(
    gives_every_reader_everything,
    reads_batches_of_what_is_there,
    adds_no_further_record_to_a_megabyte,
    reads_from_a_time,
    reads_what_comes_after_the_present_moment,
    is_caught_up_at_once_where_there_is_nothing,
    reads_several_topics,
    begins_at_once_beside_readers_that_wait,
);

async fn gives_every_reader_everything(bench: Bench) {
    let (here, there) = (bench.open().await, bench.open().await);
    here.publish(&spread(0..100)).await.unwrap();
    let mut readers = Vec::new();
    for bus in [&here, &there] {
        let mut reader = bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
        assert!(!reader.caught_up());
        let records = read(&mut *reader, 100).await;
        assert_eq!(values(&records), numbers(0..100));
        assert_in_order(&records);
        readers.push(reader);
    }
    here.publish(&spread(100..101)).await.unwrap();
    for reader in &mut readers {
        assert_eq!(value(&soon(reader.next()).await.unwrap()), "100");
        assert!(reader.caught_up());
    }
    // Another process sees what this one publishes while it waits.
    let mut reader = there.read(&[Topic::Notice], Start::Latest).await.unwrap();
    let waiting = tokio::spawn(async move { reader.next().await.map(|record| value(&record)) });
    tokio::time::sleep(Duration::from_millis(100)).await;
    here.publish(&spread(500..501)).await.unwrap();
    assert_eq!(soon(waiting).await.unwrap().unwrap(), "500");
}

async fn reads_batches_of_what_is_there(bench: Bench) {
    const MOST: usize = 100;
    let bus = bench.open().await;
    bus.publish(&spread(0..600)).await.unwrap();
    let mut reader = bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    let (mut records, mut batches) = (Vec::new(), 0);
    while records.len() < 600 {
        assert!(!reader.caught_up());
        let batch = soon(reader.next_batch(MOST)).await.unwrap();
        assert!((1..=MOST).contains(&batch.len()), "{}", batch.len());
        records.extend(batch);
        batches += 1;
    }
    assert_eq!(values(&records), numbers(0..600));
    assert_in_order(&records);
    assert!(reader.caught_up());
    assert!(batches < 600, "each record by itself");
    bus.publish(&spread(600..601)).await.unwrap();
    let batch = soon(reader.next_batch(MOST)).await.unwrap();
    assert_eq!(values(&batch), ["600"], "no record is waited for");
}

async fn adds_no_further_record_to_a_megabyte(bench: Bench) {
    const SIZE: usize = 300_000;
    let bus = bench.open().await;
    let large: Vec<_> = (0..12)
        .map(|number| record(Topic::Notice, "key", &format!("{number}{}", "x".repeat(SIZE))))
        .collect();
    bus.publish(&large).await.unwrap();
    let mut reader = bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    let mut read = 0;
    while read < large.len() {
        let batch = soon(reader.next_batch(100)).await.unwrap();
        assert!(batch.len() <= (1 << 20) / SIZE + 1, "{}", batch.len());
        read += batch.len();
    }
    assert!(reader.caught_up());
}

async fn reads_from_a_time(bench: Bench) {
    let bus = bench.open().await;
    bus.publish(&spread(0..40)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let between = bench.context.clock.now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    bus.publish(&spread(40..60)).await.unwrap();
    let mut reader = bus.read(&[Topic::Notice], Start::At(between)).await.unwrap();
    let records = read(&mut *reader, 20).await;
    assert_eq!(values(&records), numbers(40..60));
    assert!(records.iter().all(|record| record.timestamp >= between));
    let mut all = bus.read(&[Topic::Notice], Start::At(Timestamp::MIN)).await.unwrap();
    assert_eq!(read(&mut *all, 60).await.len(), 60);
    let later = bench.context.clock.now() + Duration::from_hours(1);
    let mut none = bus.read(&[Topic::Notice], Start::At(later)).await.unwrap();
    assert!(none.caught_up());
    bus.publish(&spread(60..61)).await.unwrap();
    assert_eq!(
        value(&soon(none.next()).await.unwrap()),
        "60",
        "a reader follows what comes, whenever it is stamped"
    );
}

async fn reads_what_comes_after_the_present_moment(bench: Bench) {
    let bus = bench.open().await;
    bus.publish(&spread(0..40)).await.unwrap();
    let mut reader = bus.read(&[Topic::Notice], Start::Latest).await.unwrap();
    assert!(reader.caught_up());
    // Before anybody asks for the next record.
    bus.publish(&spread(40..80)).await.unwrap();
    assert_eq!(values(&read(&mut *reader, 40).await), numbers(40..80));
}

async fn is_caught_up_at_once_where_there_is_nothing(bench: Bench) {
    let bus = bench.open().await;
    for start in [Start::Earliest, Start::Latest, Start::At(bench.context.clock.now())] {
        assert!(
            bus.read(&[Topic::Erased], start).await.unwrap().caught_up(),
            "{start:?}"
        );
    }
}

async fn begins_at_once_beside_readers_that_wait(bench: Bench) {
    let bus = bench.open().await;
    let topics = [Topic::Expired, Topic::Resign, Topic::AccountState, Topic::Notice];
    bus.create_topics(&topics).await.unwrap();
    let mut waiting = Vec::new();
    let mut took = Vec::new();
    for topic in topics {
        let began = Instant::now();
        let mut reader = bus.read(&[topic], Start::Latest).await.unwrap();
        took.push(began.elapsed());
        waiting.push(tokio::spawn(async move { reader.next().await }));
        // It waits for records by now.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Behind the fetches of the others each would take three seconds longer than the first.
    let longer: Duration = took.iter().map(|later| later.saturating_sub(took[0])).sum();
    assert!(longer < Duration::from_secs(8), "{took:?}");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn reads_several_topics(bench: Bench) {
    let bus = bench.open().await;
    bus.publish(&[record(Topic::Expired, "a", "1"), record(Topic::Resign, "a", "2")])
        .await
        .unwrap();
    let mut reader = bus
        .read(&[Topic::Expired, Topic::Resign], Start::Earliest)
        .await
        .unwrap();
    assert!(!reader.caught_up());
    let mut records = read(&mut *reader, 2).await;
    assert!(reader.caught_up());
    bus.publish(&[record(Topic::Expired, "a", "3")]).await.unwrap();
    records.extend(read(&mut *reader, 1).await);
    let topics: Vec<_> = records.iter().map(|record| (value(record), record.topic)).collect();
    assert!(topics.contains(&("1".into(), Topic::Expired)) && topics.contains(&("2".into(), Topic::Resign)));
    assert_eq!(topics[2], ("3".into(), Topic::Expired));
    let mut member = bus.join("group", &[Topic::Expired, Topic::Resign]).await.unwrap();
    assert_eq!(values(&take(&mut *member, 3).await), ["1", "2", "3"]);
}
