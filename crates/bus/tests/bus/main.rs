//! Contract tests of every bus, on the journal and on Kafka.

#[path = "../support/mod.rs"]
mod support;

mod crashes;
mod groups;
mod readers;
mod records;

use sosohappy_events::{Outgoing, Topic};
use support::record;

/// Keys that spread over all partitions of either bus.
fn spread(range: std::ops::Range<u32>) -> Vec<Outgoing> {
    range
        .map(|number| record(Topic::Notice, &format!("key-{}", number % 40), &number.to_string()))
        .collect()
}
