//! Published records are read back unchanged, are refused, or are dead letters.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_bus::{BusError, Start};
use sosohappy_events::record::MAX_RECORD_BYTES;
use sosohappy_events::{Header, Headers, Outgoing, Topic};

use crate::spread;
use crate::support::{Bench, assert_in_order, key_and_value, numbers, quiet, read, record, soon, take, value, values};

crate::on_both!(
    keeps_bytes_headers_and_nulls,
    puts_dead_letters_aside_as_they_were,
    refuses_what_can_never_be_published,
    carries_the_largest_record_and_buries_it,
    outlives_the_process_that_published,
    loses_nothing_when_waiting_is_cancelled,
    publishes_for_many_at_once,
    answers_a_ping_and_makes_topics_twice,
    ; kafka only: keeps_prefixes_apart
);

async fn keeps_bytes_headers_and_nulls(bench: Bench) {
    let bus = bench.open().await;
    let headers = vec![
        ("event-id".to_owned(), "1".to_owned()),
        ("이름".to_owned(), "별이".to_owned()),
        ("event-id".to_owned(), String::new()),
    ];
    let sent = [
        Outgoing {
            topic: "notice".into(),
            key: Some("키".into()),
            value: Some(vec![0, 0xff, 0xfe]),
            headers,
        },
        Outgoing {
            topic: "notice".into(),
            key: Some("키".into()),
            value: None,
            headers: vec![],
        },
        Outgoing {
            topic: "notice".into(),
            key: Some("키".into()),
            value: Some(vec![]),
            headers: vec![],
        },
        Outgoing {
            topic: "notice".into(),
            key: None,
            value: Some(b"no key".to_vec()),
            headers: vec![],
        },
    ];
    let before = Timestamp::from_millisecond(bench.context.clock.now().as_millisecond()).unwrap();
    bus.publish(&sent).await.unwrap();
    let mut reader = bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    let mut records = read(&mut *reader, 4).await;
    records.sort_by_key(|record| (record.key.is_none(), record.offset));
    for (record, sent) in records.iter().zip(&sent) {
        assert_eq!(record.key.as_deref(), sent.key.as_deref().map(str::as_bytes));
        assert_eq!(record.value.as_deref(), sent.value.as_deref());
        let headers: Headers = sent.headers.iter().map(|(name, value)| (name, value)).collect();
        assert_eq!(record.headers, headers);
        assert!(record.timestamp >= before && record.timestamp <= bench.context.clock.now());
    }
}

async fn puts_dead_letters_aside_as_they_were(bench: Bench) {
    let bus = bench.open().await;
    let mut poison = record(Topic::Resign, "key", "");
    poison.value = Some(b"\xff\xfe".to_vec());
    bus.publish(&[
        record(Topic::Resign, "key", "before"),
        poison,
        record(Topic::Resign, "key", "after"),
    ])
    .await
    .unwrap();
    let mut member = bus.join("group", &[Topic::Resign]).await.unwrap();
    take(&mut *member, 1).await;
    let bad = soon(member.next()).await.unwrap();
    member.dead_letter(&bad, "it is not UTF-8").await.unwrap();
    member.done(&bad).await.unwrap();
    assert_eq!(value(&take(&mut *member, 1).await[0]), "after");

    let mut dead = bus.read_dead_letters(&[Topic::Resign]).await.unwrap();
    let letter = soon(dead.next()).await.unwrap();
    assert_eq!(letter.topic, Topic::Resign);
    assert_eq!((&letter.key, &letter.value), (&bad.key, &bad.value));
    assert!(letter.headers.iter().take(bad.headers.len()).eq(bad.headers.iter()));
    assert_eq!(letter.header(Header::DLT_REASON), Some("it is not UTF-8"));
    assert!(letter.header(Header::DLT_GROUP).unwrap().ends_with("group"));
    assert_eq!(
        letter.header(Header::DLT_PARTITION),
        Some(bad.partition.to_string().as_str())
    );
    assert_eq!(letter.header(Header::DLT_OFFSET), Some(bad.offset.to_string().as_str()));
    assert!(dead.caught_up());
}

async fn refuses_what_can_never_be_published(bench: Bench) {
    let bus = bench.open().await;
    let mut unknown = record(Topic::Notice, "key", "1");
    unknown.topic = "gossip".into();
    let large = record(Topic::Notice, "key", &"x".repeat(MAX_RECORD_BYTES));
    for refused in [unknown, large] {
        let outcome = bus.publish(&[record(Topic::Notice, "key", "0"), refused]).await;
        assert!(matches!(outcome, Err(BusError::Refused(_))), "{outcome:?}");
    }
    // A batch is looked at before any of it is sent.
    bus.publish(&[record(Topic::Notice, "key", "1")]).await.unwrap();
    let mut reader = bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    assert_eq!(value(&soon(reader.next()).await.unwrap()), "1");
}

async fn carries_the_largest_record_and_buries_it(bench: Bench) {
    let bus = bench.open().await;
    let mut large = record(Topic::Notice, "key", "");
    large.headers.clear();
    large.value = Some(vec![b'x'; MAX_RECORD_BYTES - "key".len()]);
    bus.publish(&[large.clone(), record(Topic::Notice, "key", "after")])
        .await
        .unwrap();
    let mut member = bus.join("group", &[Topic::Notice]).await.unwrap();
    let came = soon(member.next()).await.unwrap();
    assert_eq!(came.value.as_deref(), large.value.as_deref());
    member.dead_letter(&came, &"a long reason ".repeat(1000)).await.unwrap();
    let mut dead = bus.read_dead_letters(&[Topic::Notice]).await.unwrap();
    assert_eq!(
        soon(dead.next()).await.unwrap().value.as_deref(),
        large.value.as_deref()
    );
    assert_eq!(value(&soon(member.next()).await.unwrap()), "after");
}

async fn keeps_prefixes_apart(bench: Bench) {
    let (ours, theirs) = (
        bench.open().await,
        bench.open_as(&format!("{}other-", bench.prefix)).await,
    );
    let mut reader = theirs.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    let mut member = theirs.join("group", &[Topic::Notice]).await.unwrap();
    ours.publish(&[record(Topic::Notice, "key", "ours")]).await.unwrap();
    theirs.publish(&[record(Topic::Notice, "key", "theirs")]).await.unwrap();
    assert_eq!(value(&soon(reader.next()).await.unwrap()), "theirs");
    assert_eq!(value(&soon(member.next()).await.unwrap()), "theirs");
    quiet(reader.next()).await;
}

async fn outlives_the_process_that_published(bench: Bench) {
    let bus = bench.open().await;
    bus.publish(&spread(0..40)).await.unwrap();
    drop(bus);
    let bus = bench.open().await;
    let mut reader = bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    assert_eq!(values(&read(&mut *reader, 40).await), numbers(0..40));
}

async fn loses_nothing_when_waiting_is_cancelled(bench: Bench) {
    let bus = bench.open().await;
    let mut member = bus.join("group", &[Topic::Notice]).await.unwrap();
    let mut reader = bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move {
            for number in 0..200 {
                bus.publish(&spread(number..number + 1)).await.unwrap();
            }
        }
    });
    let (mut of_member, mut of_reader) = (Vec::new(), Vec::new());
    let impatience = |count: usize| Duration::from_micros(1 + (count as u64 * 37) % 900);
    let mut tries = 0_usize;
    soon(async {
        while of_member.len() < 200 || of_reader.len() < 200 {
            tries += 1;
            if let Ok(record) = tokio::time::timeout(impatience(tries), member.next()).await {
                let record = record.unwrap();
                member.done(&record).await.unwrap();
                of_member.push(record);
            }
            if let Ok(batch) = tokio::time::timeout(impatience(tries + 11), reader.next_batch(3)).await {
                of_reader.extend(batch.unwrap());
            }
        }
    })
    .await;
    publishing.await.unwrap();
    for records in [of_member, of_reader] {
        assert_eq!(values(&records), numbers(0..200));
        assert_in_order(&records);
    }
}

async fn publishes_for_many_at_once(bench: Bench) {
    let bus = bench.open().await;
    let publishers: Vec<_> = (0..8_u32)
        .map(|publisher| {
            let bus = bus.clone();
            tokio::spawn(async move {
                for number in 0..25 {
                    bus.publish(&[record(Topic::Notice, &format!("key-{publisher}"), &number.to_string())])
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    let mut reader = bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
    let records = read(&mut *reader, 200).await;
    for publisher in publishers {
        publisher.await.unwrap();
    }
    assert_in_order(&records);
    let distinct: BTreeSet<_> = records.iter().map(key_and_value).collect();
    assert_eq!(distinct.len(), 200);
}

async fn answers_a_ping_and_makes_topics_twice(bench: Bench) {
    let (bus, other) = (bench.open().await, bench.open().await);
    bus.ping().await.unwrap();
    let (first, second) = tokio::join!(
        bus.create_topics(&[Topic::Resign]),
        other.create_topics(&[Topic::Resign])
    );
    first.and(second).unwrap();
    bus.create_topics(&[Topic::Resign]).await.unwrap();
}
