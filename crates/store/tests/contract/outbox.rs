//! The outbox: committed events are published in order, and deleted only then.

use std::sync::Arc;
use std::time::Duration;

use sosohappy_events::Outgoing;
use sosohappy_store::outbox::Pending;

use crate::bed::{Bed, at, record};
use crate::on_all_engines;

on_all_engines! {
    events_come_in_the_order_written,
    an_event_keeps_its_bytes,
    the_relay_has_a_lease,
    unreadable_rows_are_quarantined,
    many_events_are_forgotten_at_once,
}

fn texts(pending: &[Pending]) -> Vec<String> {
    pending
        .iter()
        .map(|event| String::from_utf8(event.record.value.clone().unwrap()).unwrap())
        .collect()
}

fn rows(pending: &[Pending]) -> Vec<String> {
    pending.iter().map(|event| event.row.clone()).collect()
}

async fn events_come_in_the_order_written(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let outbox = store.outbox();
    assert!(outbox.pending(10).await.unwrap().pending.is_empty());
    for number in 1..=12 {
        store.write(number, &record(&number.to_string(), at(0)), at(0)).await;
    }
    bed.clock.advance(Duration::from_secs(3));
    let first = outbox.pending(5).await.unwrap().pending;
    assert_eq!(texts(&first), ["1", "2", "3", "4", "5"]);
    assert_eq!(first[0].age, Duration::from_secs(3));
    assert_eq!(
        texts(&outbox.pending(5).await.unwrap().pending),
        texts(&first),
        "not published yet"
    );

    outbox.published(&rows(&first)[1..3]).await.unwrap();
    assert_eq!(texts(&outbox.pending(4).await.unwrap().pending), ["1", "4", "5", "6"]);
    outbox.published(&rows(&first)).await.unwrap();
    outbox.published(&rows(&first)).await.unwrap();
    outbox.published(&[]).await.unwrap();

    let seen_by_another = bed.replica().await.outbox().pending(100).await.unwrap().pending;
    assert_eq!(texts(&seen_by_another), ["6", "7", "8", "9", "10", "11", "12"]);
    outbox.published(&rows(&seen_by_another)).await.unwrap();
    store.write(13, &record("13", at(0)), at(0)).await;
    let last = outbox.pending(100).await.unwrap().pending;
    assert_eq!(texts(&last), ["13"]);
    assert!(
        !rows(&seen_by_another).contains(&last[0].row),
        "a row is never used again"
    );
    assert_eq!(store.count().await, 13, "what the events tell stays");
}

async fn an_event_keeps_its_bytes(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let plain = Outgoing {
        topic: "expired".to_owned(),
        key: None,
        value: None,
        headers: Vec::new(),
    };
    let odd = Outgoing {
        topic: "directMessage".to_owned(),
        key: Some("kim@example.com+kakao \u{1f}'\"\\".to_owned()),
        value: Some((0..=255).collect()),
        headers: vec![header("a", "행복 💙\n"), header("a", ""), header("$x.y", "\u{0}")],
    };
    let large = Outgoing {
        value: Some(vec![7; 1_000_000]),
        key: Some(String::new()),
        ..plain.clone()
    };
    let empty = Outgoing {
        value: Some(Vec::new()),
        ..plain.clone()
    };
    let events = [plain, odd, large, empty];
    for (number, event) in (1..).zip(&events) {
        store.write(number, event, at(0)).await;
    }
    let pending = store.outbox().pending(10).await.unwrap().pending;
    assert_eq!(pending.len(), events.len());
    for (pending, event) in pending.iter().zip(&events) {
        assert!(pending.record == *event, "{:?}", event.topic);
    }
}

async fn the_relay_has_a_lease(bed: Arc<Bed>) {
    let (one, two) = (bed.replica().await.outbox(), bed.replica().await.outbox());
    let ttl = Duration::from_secs(5);
    assert_eq!(two.leader().await.unwrap(), None);
    assert!(one.lease("one", ttl).await.unwrap());
    assert!(!two.lease("two", ttl).await.unwrap());
    assert_eq!(two.leader().await.unwrap().as_deref(), Some("one"));
    two.release("two").await.unwrap();
    assert!(!two.lease("two", ttl).await.unwrap(), "it was not two's to release");
    one.release("one").await.unwrap();
    assert!(two.lease("two", ttl).await.unwrap());
    assert!(!one.lease("one", ttl).await.unwrap());
    assert_eq!(one.leader().await.unwrap().as_deref(), Some("two"));
}

async fn many_events_are_forgotten_at_once(bed: Arc<Bed>) {
    let store = bed.replica().await;
    let writes = (1..=520).map(|number| {
        let store = store.clone();
        async move { store.write(number, &record(&number.to_string(), at(0)), at(0)).await }
    });
    futures::StreamExt::collect::<Vec<()>>(futures::StreamExt::buffer_unordered(futures::stream::iter(writes), 8))
        .await;
    let outbox = store.outbox();
    let pending = outbox.pending(1000).await.unwrap().pending;
    assert_eq!(pending.len(), 520);
    outbox.published(&rows(&pending)).await.unwrap();
    assert!(outbox.pending(1000).await.unwrap().pending.is_empty());
}

async fn unreadable_rows_are_quarantined(bed: Arc<Bed>) {
    let store = bed.replica().await;
    for number in 1..=30 {
        store.write(number, &record(&number.to_string(), at(0)), at(0)).await;
    }
    // A whole batch at the front, and one between others.
    for number in (1..=20).chain([25]) {
        store.corrupt_event(number).await;
    }
    let outbox = store.outbox();
    let (mut texts_seen, mut quarantined) = (Vec::new(), 0);
    for _ in 0..8 {
        let batch = outbox.pending(10).await.unwrap();
        quarantined += batch.quarantined.len();
        assert!(batch.quarantined.iter().all(|row| !row.reason.is_empty()));
        texts_seen.extend(texts(&batch.pending));
        outbox.published(&rows(&batch.pending)).await.unwrap();
    }
    assert_eq!(texts_seen, ["21", "22", "23", "24", "26", "27", "28", "29", "30"]);
    assert_eq!((quarantined, store.quarantined().await), (21, 21));
    assert_eq!(store.count().await, 30, "what the events tell stays");
}
