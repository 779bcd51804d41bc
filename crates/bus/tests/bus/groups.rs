//! Consumer groups: assignment of partitions, and the offset from which a member continues.

use std::collections::BTreeMap;
use std::time::Duration;

use sosohappy_events::{Record, Topic};

use crate::spread;
use crate::support::{Bench, assert_in_order, numbers, quiet, record, soon, take, value, values};

crate::on_both!(
    keeps_the_order_of_each_key,
    gives_each_group_everything,
    shares_a_topic_out_among_members,
    takes_over_from_a_member_that_was_dropped,
    begins_again_behind_what_was_done,
    continues_a_moved_partition_behind_what_was_done,
    leaves_with_everything_flushed,
    begins_a_new_group_at_the_first_record,
    reports_its_lag,
);

async fn keeps_the_order_of_each_key(bench: Bench) {
    let bus = bench.open().await;
    let mut member = bus.join("group", &[Topic::Notice]).await.unwrap();
    for batch in 0..20_u32 {
        let records: Vec<_> = (0..10)
            .map(|index| {
                record(
                    Topic::Notice,
                    &format!("key-{}", index % 5),
                    &(batch * 10 + index).to_string(),
                )
            })
            .collect();
        bus.publish(&records).await.unwrap();
    }
    let records = take(&mut *member, 200).await;
    assert_eq!(values(&records), numbers(0..200));
    assert_in_order(&records);
}

async fn gives_each_group_everything(bench: Bench) {
    let bus = bench.open().await;
    let mut first = bus.join("first", &[Topic::Notice]).await.unwrap();
    let mut second = bus.join("second", &[Topic::Notice]).await.unwrap();
    bus.publish(&[record(Topic::Notice, "a", "1"), record(Topic::Notice, "b", "2")])
        .await
        .unwrap();
    assert_eq!(values(&take(&mut *first, 2).await), ["1", "2"]);
    assert_eq!(values(&take(&mut *second, 2).await), ["1", "2"]);
}

async fn shares_a_topic_out_among_members(bench: Bench) {
    // Two processes with a member each.
    let (here, there) = (bench.open().await, bench.open().await);
    let mut members = vec![
        here.join("group", &[Topic::Notice]).await.unwrap(),
        there.join("group", &[Topic::Notice]).await.unwrap(),
    ];
    // Both are heard of by all once each has been given something.
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    for (index, mut member) in members.drain(..).enumerate() {
        let sender = sender.clone();
        tasks.push(tokio::spawn(async move {
            loop {
                let record = member.next().await.unwrap();
                member.done(&record).await.unwrap();
                sender.send((index, record)).unwrap();
            }
        }));
    }
    // Until both have something to do; records may be delivered twice while partitions move.
    let mut number = 1_000_000;
    let mut seen = [false; 2];
    while seen != [true; 2] {
        here.publish(&spread(number..number + 40)).await.unwrap();
        number += 40;
        tokio::time::sleep(Duration::from_millis(100)).await;
        while let Ok((index, _)) = received.try_recv() {
            seen[index] = true;
        }
    }
    here.publish(&spread(0..400)).await.unwrap();
    let mut records = Vec::new();
    let mut by = [0; 2];
    while records.len() < 400 {
        let (index, record) = soon(received.recv()).await.unwrap();
        if value(&record).len() < 7 {
            by[index] += 1;
            records.push(record);
        }
    }
    assert_eq!(values(&records), numbers(0..400), "each once");
    assert!(by.iter().all(|count| *count > 0), "{by:?}");
    let old = |record: &Record| value(record).len() >= 7;
    quiet(async { while received.recv().await.is_some_and(|(_, record)| old(&record)) {} }).await;
    for index in 0..40 {
        let key = format!("key-{index}");
        let of_key: Vec<_> = records
            .iter()
            .filter(|record| record.key_text().unwrap() == key)
            .cloned()
            .collect();
        assert_in_order(&of_key);
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
}

async fn takes_over_from_a_member_that_was_dropped(bench: Bench) {
    let bus = bench.open().await;
    bus.publish(&spread(0..80)).await.unwrap();
    let mut lost = bus.join("group", &[Topic::Notice]).await.unwrap();
    soon(lost.next()).await.unwrap();
    let mut heir = bus.join("group", &[Topic::Notice]).await.unwrap();
    drop(lost);
    assert_eq!(values(&take(&mut *heir, 80).await), numbers(0..80));
}

async fn begins_again_behind_what_was_done(bench: Bench) {
    let bus = bench.open().await;
    let records: Vec<_> = (0..10)
        .map(|number| record(Topic::Notice, "key", &number.to_string()))
        .collect();
    bus.publish(&records).await.unwrap();
    let mut member = bus.join("group", &[Topic::Notice]).await.unwrap();
    take(&mut *member, 4).await;
    let undone = soon(member.next()).await.unwrap();
    assert_eq!(value(&undone), "4");
    // Committed offsets may take a second to be written, and longer on a busy machine.
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(member);
    let mut member = bus.join("group", &[Topic::Notice]).await.unwrap();
    let again: Vec<_> = take(&mut *member, 6).await.iter().map(value).collect();
    assert_eq!(again, ["4", "5", "6", "7", "8", "9"]);
}

/// A rebalance commits what was acknowledged and nothing else: neither what a member has received, nor what waits in its queues.
async fn continues_a_moved_partition_behind_what_was_done(bench: Bench) {
    const ALL: u32 = 400;
    const DONE: u32 = 120;
    let number = |record: &Record| value(record).parse::<u32>().unwrap();
    let (here, there) = (bench.open().await, bench.open().await);
    here.publish(&spread(0..ALL)).await.unwrap();
    let mut first = here.join("group", &[Topic::Notice]).await.unwrap();
    // Each partition has its records in the order of their numbers, so that those below `DONE` come first in all of them.
    let mut undone: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for _ in 0..ALL {
        let record = soon(first.next()).await.unwrap();
        if number(&record) < DONE {
            first.done(&record).await.unwrap();
        } else {
            undone.entry(record.partition).or_default().push(number(&record));
        }
    }

    // Joining moves some of the partitions, while the first member stays.
    let mut second = there.join("group", &[Topic::Notice]).await.unwrap();
    let mut moved: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    let is_complete = |moved: &BTreeMap<i32, Vec<u32>>| {
        !moved.is_empty()
            && moved
                .iter()
                .all(|(partition, numbers)| numbers.len() >= undone[partition].len())
    };
    while !is_complete(&moved) {
        // The first member asks as well: a member of the journal gives partitions up only then.
        let record = tokio::select! {
            record = soon(second.next()) => record.unwrap(),
            record = first.next() => panic!("received again: {record:?}"),
        };
        moved.entry(record.partition).or_default().push(number(&record));
    }
    for (partition, numbers) in &moved {
        assert_eq!(numbers, &undone[partition], "partition {partition}");
    }
    second.leave().await;
    first.leave().await;
}

async fn leaves_with_everything_flushed(bench: Bench) {
    let bus = bench.open().await;
    bus.publish(&spread(0..40)).await.unwrap();
    let mut member = bus.join("group", &[Topic::Notice]).await.unwrap();
    take(&mut *member, 40).await;
    member.leave().await;
    let mut member = bus.join("group", &[Topic::Notice]).await.unwrap();
    bus.publish(&[record(Topic::Notice, "key", "new")]).await.unwrap();
    assert_eq!(value(&soon(member.next()).await.unwrap()), "new");
}

async fn begins_a_new_group_at_the_first_record(bench: Bench) {
    let bus = bench.open().await;
    bus.publish(&[record(Topic::Resign, "a", "1")]).await.unwrap();
    let mut member = bus.join("late", &[Topic::Resign]).await.unwrap();
    assert_eq!(value(&soon(member.next()).await.unwrap()), "1");
}

async fn reports_its_lag(bench: Bench) {
    let bus = bench.open().await;
    bus.publish(&spread(0..50)).await.unwrap();
    let mut member = bus.join("group", &[Topic::Notice]).await.unwrap();
    let lag = prometheus::IntGauge::new("lag", "Lag").unwrap();
    member.observe(lag.clone());
    let becomes = async |records| {
        while lag.get() != records {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    take(&mut *member, 20).await;
    soon(becomes(30)).await;
    take(&mut *member, 30).await;
    soon(becomes(0)).await;
    bus.publish(&spread(0..5)).await.unwrap();
    soon(becomes(5)).await;
    drop(member);
    assert_eq!(lag.get(), 0, "somebody else's now");
}
