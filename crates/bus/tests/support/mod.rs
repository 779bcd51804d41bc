//! A bus of either kind for a test, with topics of its own that are deleted when the test ends.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of it")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt as _;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::metadata::MetadataTopic;
use sosohappy_bus::{Bus, BusError, Member, Reader};
use sosohappy_common::Context;
use sosohappy_common::settings::{Events, Security};
use sosohappy_events::{Outgoing, Record, Topic};
use tokio::sync::Mutex;

/// How long anything may take on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A bus that several "processes" of a test may open.
#[derive(Debug, Clone)]
pub struct Bench {
    pub url: String,
    pub prefix: String,
    pub context: Context,
    pub security: Security,
    /// The journal, which has one process and so one bus.
    pub journal: Arc<Mutex<Option<Weak<dyn Bus>>>>,
}

impl Bench {
    pub fn new(url: String, prefix: String) -> Self {
        Self {
            url,
            prefix,
            context: Context::system("test-service", 0),
            security: Security::default(),
            journal: Arc::default(),
        }
    }

    /// As another process would open it. The journal is opened once, and again after its last user has dropped it.
    pub async fn open(&self) -> Arc<dyn Bus> {
        if self.is_kafka() {
            return self.open_as(&self.prefix).await;
        }
        let mut journal = self.journal.lock().await;
        if let Some(open) = journal.as_ref().and_then(Weak::upgrade) {
            return open;
        }
        let opened = self.open_as(&self.prefix).await;
        *journal = Some(Arc::downgrade(&opened));
        opened
    }

    /// Waits for a holder of the journal that was dropped: its last records are being written.
    pub async fn open_as(&self, prefix: &str) -> Arc<dyn Bus> {
        soon(async {
            loop {
                match self.try_open_as(prefix).await {
                    Err(BusError::Settings(reason)) if reason.contains("in use by process") => {}
                    opened => return opened.unwrap(),
                }
            }
        })
        .await
    }

    pub async fn try_open(&self) -> Result<Arc<dyn Bus>, BusError> {
        self.try_open_as(&self.prefix).await
    }

    async fn try_open_as(&self, prefix: &str) -> Result<Arc<dyn Bus>, BusError> {
        let settings = Events {
            security: self.security.clone(),
            ..Events::new(&self.url, prefix)
        };
        sosohappy_bus::open(&settings, &self.context).await
    }

    pub fn is_kafka(&self) -> bool {
        self.url.starts_with("kafka:")
    }

    pub fn brokers(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.url.trim_start_matches("kafka:"));
        config
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.brokers().create().unwrap()
    }

    async fn clean_up(&self) {
        let admin = self.admin();
        let metadata = admin.inner().fetch_metadata(None, PATIENCE).unwrap();
        let ours: Vec<_> = metadata
            .topics()
            .iter()
            .map(MetadataTopic::name)
            .filter(|name| name.starts_with(&self.prefix))
            .collect();
        if !ours.is_empty() {
            admin.delete_topics(&ours, &AdminOptions::new()).await.unwrap();
        }
    }
}

pub async fn on_journal<F: Future<Output = ()>>(test: impl FnOnce(Bench) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data").join("events.db");
    test(Bench::new(format!("journal:{}", path.display()), "t-".to_owned())).await;
}

pub async fn on_kafka<F: Future<Output = ()>>(test: impl FnOnce(Bench) -> F) {
    let Ok(url) = std::env::var("SOSOHAPPY_TEST_KAFKA") else {
        assert!(
            std::env::var("SOSOHAPPY_TEST_REQUIRE_ENGINES").is_err(),
            "SOSOHAPPY_TEST_KAFKA is not set"
        );
        println!("skipped: SOSOHAPPY_TEST_KAFKA is not set");
        return;
    };
    let prefix = format!("test-{}-", Context::system("test", 0).entropy.hex(6));
    let bench = Bench::new(url, prefix);
    let outcome = AssertUnwindSafe(test(bench.clone())).catch_unwind().await;
    bench.clean_up().await;
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// Makes two tests of each `async fn(Bench)`: one on the journal, one on Kafka. What several processes do with one bus is
/// for Kafka only.
#[macro_export]
macro_rules! on_both {
    ($($test:ident),* $(,)?) => { $crate::on_both!($($test),*; kafka only:); };
    ($($test:ident),* $(,)?; kafka only: $($of_kafka:ident),* $(,)?) => {
        mod journal {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { $crate::support::on_journal(super::$test).await; })*
        }
        mod kafka {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $of_kafka() { $crate::support::on_kafka(super::$of_kafka).await; })*
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() { $crate::support::on_kafka(super::$test).await; })*
        }
    };
}

/// The value of a metric's line that has all these labels; 0 when there is none.
pub fn counted(context: &Context, name: &str, labels: &[&str]) -> f64 {
    let text = context.metrics.render();
    let line = text.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{'))
            && labels.iter().all(|label| line.contains(label))
    });
    line.and_then(|line| line.rsplit_once(' '))
        .map_or(0.0, |(_, value)| value.parse().unwrap())
}

/// Metrics count whole things; floats of them compare exactly.
pub fn assert_counted(context: &Context, name: &str, labels: &[&str], count: u32) {
    let counted = counted(context, name, labels);
    assert!(
        (counted - f64::from(count)).abs() < f64::EPSILON,
        "{name}{labels:?} is {counted}, not {count}"
    );
}

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes too long")
}

pub fn record(topic: Topic, key: &str, value: &str) -> Outgoing {
    Outgoing {
        topic: topic.default_name().to_owned(),
        key: Some(key.to_owned()),
        value: Some(value.as_bytes().to_vec()),
        headers: vec![("event-id".to_owned(), format!("{key}-{value}"))],
    }
}

pub fn value(record: &Record) -> String {
    String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()
}

/// Key and value, for comparison.
pub fn key_and_value(record: &Record) -> (String, String) {
    (record.key_text().unwrap().to_owned(), value(record))
}

pub async fn take(member: &mut dyn Member, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let record = soon(member.next()).await.unwrap();
        member.done(&record).await.unwrap();
        records.push(record);
    }
    records
}

pub async fn read(reader: &mut dyn Reader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        records.push(soon(reader.next()).await.unwrap());
    }
    records
}

/// Whether nothing comes for a while. A wait that is too short can only hide a failure, never make one.
pub async fn quiet<T: Debug>(next: impl Future<Output = T>) {
    if let Ok(came) = tokio::time::timeout(Duration::from_millis(700), next).await {
        panic!("{came:?}");
    }
}

pub fn values(records: &[Record]) -> Vec<String> {
    let mut values: Vec<_> = records.iter().map(value).collect();
    values.sort_unstable();
    values
}

pub fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    let mut values: Vec<_> = range.map(|number| number.to_string()).collect();
    values.sort_unstable();
    values
}

/// Asserts that the values of each key, which are numbers, only grow.
pub fn assert_in_order(records: &[Record]) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for record in records {
        let (key, value) = key_and_value(record);
        let value: u64 = value.parse().unwrap();
        let before = last.insert(key.clone(), value);
        assert!(
            before.is_none_or(|before| before < value),
            "{key}: {value} after {before:?}"
        );
    }
}
