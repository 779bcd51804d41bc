//! Tests of Kafka only: creation of topics, partitions of keys, and records of other programs.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewPartitions, ResourceSpecifier};
use rdkafka::producer::{FutureProducer, FutureRecord};
use sosohappy_bus::Start;
use sosohappy_events::{Outgoing, Topic};
use support::{Bench, on_kafka, read, record, soon, value};

async fn setting(bench: &Bench, topic: &str, name: &str) -> String {
    let topic = format!("{}{topic}", bench.prefix);
    let found = bench
        .admin()
        .describe_configs(&[ResourceSpecifier::Topic(&topic)], &AdminOptions::new())
        .await
        .unwrap();
    found
        .into_iter()
        .next()
        .unwrap()
        .unwrap()
        .get(name)
        .unwrap()
        .value
        .clone()
        .unwrap()
}

#[tokio::test]
async fn topics_are_made_as_the_table_says() {
    on_kafka(async |bench: Bench| {
        let bus = bench.open().await;
        bus.create_topics(&[Topic::AccessToken, Topic::Relation]).await.unwrap();
        assert_eq!(setting(&bench, "accessToken", "retention.ms").await, "172800000");
        assert_eq!(setting(&bench, "accessToken", "cleanup.policy").await, "delete");
        assert_eq!(setting(&bench, "relation", "cleanup.policy").await, "compact");
        assert_eq!(setting(&bench, "relation.dlt", "cleanup.policy").await, "delete");
        assert_eq!(setting(&bench, "relation.dlt", "retention.ms").await, "2592000000");
        let admin = bench.admin();
        let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(10)).unwrap();
        let made: BTreeMap<_, _> = metadata.topics().iter().map(|topic| (topic.name(), topic)).collect();
        assert_eq!(made[format!("{}relation", bench.prefix).as_str()].partitions().len(), 6);
        assert_eq!(
            made[format!("{}relation.dlt", bench.prefix).as_str()]
                .partitions()
                .len(),
            1
        );
    })
    .await;
}

/// Pairs of a key and its partition of six, from the hashes in Apache Kafka's own `UtilsTest`.
const JAVA: [(&str, i32); 5] = [
    ("21", 1_173_551_340 % 6),
    ("foobar", 1_357_151_166 % 6),
    ("a-little-bit-long-string", 1_161_502_112 % 6),
    ("a-little-bit-longer-string", 661_178_819 % 6),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 2_088_585_677 % 6),
];

#[tokio::test]
async fn a_key_has_the_partition_of_javas_clients() {
    on_kafka(async |bench: Bench| {
        let bus = bench.open().await;
        let records: Vec<_> = JAVA.iter().map(|(key, _)| record(Topic::Notice, key, "1")).collect();
        bus.publish(&records).await.unwrap();
        let mut reader = bus.read(&[Topic::Notice], Start::Earliest).await.unwrap();
        for record in read(&mut *reader, JAVA.len()).await {
            let (_, partition) = JAVA
                .into_iter()
                .find(|(key, _)| *key == record.key_text().unwrap())
                .unwrap();
            assert_eq!(record.partition, partition, "{record:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_reader_finds_partitions_that_are_added() {
    on_kafka(async |bench: Bench| {
        let bus = bench.open().await;
        let mut reader = bus.read(&[Topic::Notice], Start::Latest).await.unwrap();
        let topic = format!("{}notice", bench.prefix);
        bench
            .admin()
            .create_partitions(&[NewPartitions::new(&topic, 7)], &AdminOptions::new())
            .await
            .unwrap();
        let producer: FutureProducer = bench.brokers().create().unwrap();
        let sent = FutureRecord::to(&topic).partition(6).key("key").payload("there");
        soon(producer.send(sent, Duration::from_secs(30))).await.unwrap();
        let came = soon(reader.next()).await.unwrap();
        assert_eq!((came.partition, value(&came).as_str()), (6, "there"));
    })
    .await;
}

#[tokio::test]
async fn publishing_continues_after_a_topic_was_deleted() {
    on_kafka(async |bench: Bench| {
        let bus = bench.open().await;
        bus.publish(&[record(Topic::Notice, "key", "1")]).await.unwrap();
        bench
            .admin()
            .delete_topics(&[&format!("{}notice", bench.prefix)], &AdminOptions::new())
            .await
            .unwrap();
        let again = Outgoing {
            value: Some(b"2".to_vec()),
            ..record(Topic::Notice, "key", "")
        };
        // As the relay would: again, until it is there. A broker that is still deleting may take a record, and delete it, or still show the former
        // one.
        soon(async {
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                if bus.publish(std::slice::from_ref(&again)).await.is_err() {
                    continue;
                }
                let Ok(mut reader) = bus.read(&[Topic::Notice], Start::Earliest).await else {
                    continue;
                };
                let came = tokio::time::timeout(Duration::from_secs(5), reader.next()).await;
                if came.is_ok_and(|came| came.is_ok_and(|record| value(&record) == "2")) {
                    return;
                }
            }
        })
        .await;
    })
    .await;
}
