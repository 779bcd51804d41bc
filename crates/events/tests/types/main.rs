//! The events' exact bytes on the wire; no record that is read causes a panic.

mod hostile;
mod wire;

use bytes::Bytes;
use jiff::Timestamp;
use sosohappy_common::{Account, Context};
use sosohappy_events::{Envelope, Event, Headers, Outgoing, Record, Topic, Unreadable};

const KIM: &str = "kim@example.com+kakao";
const LEE: &str = "lee@example.com+google";

fn account(text: &str) -> Account {
    text.parse().unwrap()
}

fn millis(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(millis).unwrap()
}

fn record(topic: Topic, key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
    let owned = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    Record {
        topic,
        partition: 0,
        offset: 7,
        key: key.map(owned),
        value: value.map(owned),
        headers: Headers::default(),
        timestamp: millis(1_700_000_000_000),
    }
}

fn with_headers(mut record: Record, headers: &[(&str, &str)]) -> Record {
    record.headers = headers.iter().copied().collect();
    record
}

fn read(sent: &Outgoing) -> Record {
    let topic = Topic::ALL
        .into_iter()
        .find(|topic| topic.default_name() == sent.topic)
        .unwrap();
    let headers: Vec<_> = sent
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    with_headers(
        record(topic, sent.key.as_deref().map(str::as_bytes), sent.value.as_deref()),
        &headers,
    )
}

/// A Spring service's record: bytes only.
fn spring<E: Event>(key: &str, value: Option<&str>) -> Result<E, Unreadable> {
    Envelope::decode(&record(E::TOPIC, Some(key.as_bytes()), value.map(str::as_bytes))).map(|envelope| {
        assert!(envelope.meta.foreign);
        envelope.event
    })
}

/// Sends, compares key, value and own headers, reads back.
fn golden<E: Event + Clone + PartialEq + std::fmt::Debug>(
    event: &E,
    key: Option<&str>,
    value: Option<&str>,
    headers: &[(&str, &str)],
) {
    let sent = Envelope::new(event.clone(), &Context::system("test", 0)).to_outgoing();
    assert_eq!(sent.topic, E::TOPIC.default_name());
    assert_eq!(sent.key.as_deref(), key);
    assert_eq!(
        sent.value.as_deref().map(|value| std::str::from_utf8(value).unwrap()),
        value
    );
    let own: Vec<_> = sent.headers[5..]
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(own, headers);
    let back = Envelope::<E>::decode(&read(&sent)).unwrap();
    assert_eq!(back.event, *event);
    assert!(!back.meta.foreign);
}
