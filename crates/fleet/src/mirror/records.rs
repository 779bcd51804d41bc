//! Compares what both sides publish: a record of one side is waited for on the other side for a while.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use sosohappy_bus::Reader;
use sosohappy_common::clock::Clock;
use sosohappy_events::{Record, Topic};

use super::report::Reporter;
use super::rules::{Part, TopicRule};
use super::sides::Side;

/// Records that wait for the other side's; more are not compared.
const MOST_WAITING: usize = 100_000;
/// How often it is looked for records that have waited long enough.
const SWEEP: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordCounts {
    pub equal: u64,
    pub only_spring: u64,
    pub only_ours: u64,
    /// Delivered again by the same side within the window.
    pub repeated: u64,
    pub dropped: u64,
}

/// Identity of a record, the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    topic: Topic,
    key: Option<Bytes>,
    value: Option<Bytes>,
}

#[derive(Debug)]
struct Waiting {
    side: Side,
    since: Duration,
    matched: bool,
    record: Record,
}

/// The records of the last while.
#[derive(Debug)]
pub struct Records {
    rules: BTreeMap<Topic, TopicRule>,
    window: Duration,
    reporter: Reporter,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<Identity, Waiting>,
    /// In the order of their coming; all wait equally long.
    order: VecDeque<Identity>,
    counts: BTreeMap<&'static str, RecordCounts>,
}

impl Records {
    pub fn new(rules: &[TopicRule], window: Duration, reporter: Reporter, clock: Arc<dyn Clock>) -> Self {
        Self {
            rules: rules.iter().map(|rule| (rule.topic, rule.clone())).collect(),
            window,
            reporter,
            clock,
            state: Mutex::default(),
        }
    }

    pub fn topics(&self) -> Vec<Topic> {
        self.rules.keys().copied().collect()
    }

    pub fn counts(&self) -> BTreeMap<&'static str, RecordCounts> {
        self.state.lock().counts.clone()
    }

    /// Takes in what one side publishes, until its reader fails.
    pub async fn follow(&self, side: Side, mut reader: Box<dyn Reader>) -> anyhow::Result<()> {
        loop {
            self.add(side, reader.next().await?);
        }
    }

    /// Reports the records that have waited long enough, again and again.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.expire(self.window);
        }
    }

    /// Reports all that still wait.
    pub fn finish(&self) {
        self.expire(Duration::ZERO);
    }

    fn add(&self, side: Side, record: Record) {
        let Some(rule) = self.rules.get(&record.topic) else {
            return;
        };
        let identity = Identity {
            topic: record.topic,
            key: part(&rule.key, record.key.as_ref()),
            value: part(&rule.value, record.value.as_ref()),
        };
        let since = self.clock.monotonic();
        let mut state = self.state.lock();
        let State { waiting, order, counts } = &mut *state;
        let counts = counts.entry(record.topic.default_name()).or_default();
        let is_full = waiting.len() >= MOST_WAITING;
        match waiting.get_mut(&identity) {
            Some(other) if other.side != side && !other.matched => {
                other.matched = true;
                counts.equal += 1;
            }
            Some(_) => counts.repeated += 1,
            None if is_full => counts.dropped += 1,
            None => {
                let new = Waiting {
                    side,
                    since,
                    matched: false,
                    record,
                };
                waiting.insert(identity.clone(), new);
                order.push_back(identity);
            }
        }
    }

    fn expire(&self, window: Duration) {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        let State { waiting, order, counts } = &mut *state;
        while let Some(identity) = order.front() {
            let is_due = waiting.get(identity).is_none_or(|record| record.since + window <= now);
            if !is_due {
                break;
            }
            let gone = order.pop_front().and_then(|identity| waiting.remove(&identity));
            let Some(gone) = gone.filter(|gone| !gone.matched) else {
                continue;
            };
            let topic = gone.record.topic.default_name();
            let counts = counts.entry(topic).or_default();
            match gone.side {
                Side::Spring => counts.only_spring += 1,
                Side::Ours => counts.only_ours += 1,
            }
            let text = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let (key, value) = (text(&gone.record.key), text(&gone.record.value));
            self.reporter.record(topic, gone.side, key.as_deref(), value.as_deref());
        }
    }
}

/// Returns what of a key or value is compared.
fn part(part: &Part, bytes: Option<&Bytes>) -> Option<Bytes> {
    let bytes = bytes?;
    match part {
        Part::Any => None,
        Part::Equal => Some(bytes.clone()),
        Part::Last => {
            let last = bytes.rsplit(|byte| *byte == b',').next().unwrap_or_default();
            Some(bytes.slice_ref(last))
        }
        Part::Fields(names) => {
            let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
            let fields = names.iter().map(|name| value.get(name).cloned().unwrap_or_default());
            Some(fields.collect::<Value>().to_string().into())
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use sosohappy_common::clock::{ManualClock, SystemEntropy};
    use sosohappy_events::Headers;

    use super::super::report::Redaction;
    use super::super::rules::Rules;
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn record(topic: Topic, key: &str, value: &str) -> Record {
        Record {
            topic,
            partition: 0,
            offset: 0,
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Headers::default(),
            timestamp: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn records_are_matched_by_what_both_sides_have_in_common() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("differences.jsonl");
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        let (reporter, writer) = Reporter::open(&file, clock.clone(), Redaction::new(false, &SystemEntropy)).unwrap();
        let rules = Rules::read(None).unwrap();
        let records = Records::new(&rules.topics, WINDOW, reporter, clock.clone());

        records.add(
            Side::Spring,
            record(Topic::NoticeLike, "kim", "lee@x+kakao,2023090513248392"),
        );
        records.add(Side::Ours, record(Topic::NoticeLike, "kim", "lee,2023090513248392"));
        records.add(Side::Ours, record(Topic::NoticeLike, "kim", "lee,2023090513248392"));
        records.add(Side::Ours, record(Topic::NoticeLike, "kim", "lee,2023090513248393"));
        let message =
            |more: &str| format!("{{\"sender\":\"kim\",\"receiver\":\"lee\",\"date\":1,\"text\":\"secret\"{more}}}");
        records.add(Side::Spring, record(Topic::DirectMessage, "push-token", &message("")));
        records.add(
            Side::Ours,
            record(Topic::DirectMessage, "lee@x+kakao", &message(",\"seq\":7")),
        );
        records.add(Side::Spring, record(Topic::Resign, "kim@x+kakao", "kim"));
        records.add(Side::Ours, record(Topic::Heartbeat, "auth", "{}"));

        records.expire(WINDOW);
        clock.advance(WINDOW);
        records.expire(WINDOW);
        let counts = records.counts();
        let of = |topic: &str| {
            let counts = &counts[topic];
            (counts.equal, counts.only_spring, counts.only_ours, counts.repeated)
        };
        assert_eq!(of("noticeLike"), (1, 0, 1, 1));
        assert_eq!(of("directMessage"), (1, 0, 0, 0));
        assert_eq!(of("resign"), (0, 1, 0, 0));
        assert!(!counts.contains_key("heartbeat"), "ours alone");

        drop(records);
        writer.join().unwrap();
        let report = std::fs::read_to_string(file).unwrap();
        assert_eq!(report.lines().count(), 2, "{report}");
        assert!(!report.contains("lee") && !report.contains("kim"), "{report}");
    }
}
