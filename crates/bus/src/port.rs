//! The port between services. Below its adapters: it knows none of them.

use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use prometheus::IntGauge;
use sosohappy_events::{Outgoing, Record, Topic};

#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("events: {0}")]
    Settings(String),
    /// The broker or the journal cannot be reached or answered with an error; trying again may help.
    #[error("the bus is unavailable: {0}")]
    Unavailable(String),
    /// This record can never be published (too large, unknown topic).
    #[error("the bus refused the record: {0}")]
    Refused(String),
}

/// Where a reader of every record begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record stamped at or after this time.
    At(Timestamp),
    Earliest,
    /// After the last record of this moment.
    Latest,
}

/// Bytes of records from which on no further one is added to them.
pub(crate) const MOST_BYTES: usize = 1 << 20;

/// How long a report may wait for the bus.
pub(crate) const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes and reads records. One suite of tests runs on both adapters.
#[async_trait]
pub trait Bus: std::fmt::Debug + Send + Sync {
    /// Resolves when all are durable, in the given order per key. On an error any number of them may have
    /// been published.
    ///
    /// Waits while a broker is unavailable, in order. Dropping the future cancels records that the broker has not received.
    async fn publish(&self, records: &[Outgoing]) -> Result<(), BusError>;

    /// Publishes records that their sender repeats or can do without: settings reports, acknowledgements, heartbeats. Gives up after
    /// five seconds, and never delays or takes back a record of [`Bus::publish`].
    async fn publish_reports(&self, records: &[Outgoing]) -> Result<(), BusError> {
        tokio::time::timeout(REPORT_TIMEOUT, self.publish(records))
            .await
            .unwrap_or_else(|_| Err(BusError::Unavailable("the report timed out".to_owned())))
    }

    /// Joins a consumer group: each record is delivered to one member, partitions are assigned among members, order is kept per
    /// key, and the partitions of a crashed member are reassigned. A new group begins at the earliest record.
    async fn join(&self, group: &str, topics: &[Topic]) -> Result<Box<dyn Member>, BusError>;

    /// Reads every partition without a group; positions are not kept. They are fixed when this resolves: every
    /// record published from then on is delivered. A volatile topic ([`Topic::is_volatile`]) may deliver only those.
    async fn read(&self, topics: &[Topic], start: Start) -> Result<Box<dyn Reader>, BusError>;

    /// Reads all dead letters of these topics; a record's `topic` is its original one, its headers `dlt-…` hold the reason
    /// and the original position.
    async fn read_dead_letters(&self, topics: &[Topic]) -> Result<Box<dyn Reader>, BusError>;

    /// Creates missing topics (and their `.dlt`). Idempotent. `publish`, `join` and `read` call it for the topics that they
    /// use for the first time.
    async fn create_topics(&self, topics: &[Topic]) -> Result<(), BusError>;

    /// Checks that the bus is available, for health.
    async fn ping(&self) -> Result<(), BusError>;
}

/// A member of a consumer group. Dropped without [`Member::leave`] it is taken for dead.
#[async_trait]
pub trait Member: Send {
    /// The next record; waits for it. Safe to cancel. An error means that this member is of no use any more.
    async fn next(&mut self) -> Result<Record, BusError>;

    /// Returns the next record if it was read ahead, without waiting for one.
    fn read_ahead(&mut self) -> Option<Result<Record, BusError>> {
        self.next().now_or_never()
    }

    /// Marks a record, and all before it in its partition, as done: a later member of the group starts behind it.
    /// May be flushed up to a second later; a redelivery after a crash is the consumer's to recognise.
    async fn done(&mut self, record: &Record) -> Result<(), BusError>;

    /// Puts a record as it was on `<topic>.dlt` with headers `dlt-reason`, `dlt-group`, `dlt-partition`,
    /// `dlt-offset`, durably. A value that does not fit is cut, and `dlt-value-bytes` says so.
    async fn dead_letter(&mut self, record: &Record, reason: &str) -> Result<(), BusError>;

    /// From now on keeps the gauge at the number of records that are not done in this member's partitions, a few
    /// seconds late.
    fn observe(&mut self, lag: IntGauge);

    /// Resolves when the group, this member and all others, has done everything that was published to the member's topics before this
    /// call. May be a second late.
    fn group_caught_up(&self) -> BoxFuture<'static, Result<(), BusError>>;

    /// Flushes what was done and leaves.
    async fn leave(self: Box<Self>);
}

/// Reads every record of its topics.
#[async_trait]
pub trait Reader: Send {
    /// Returns the next records, at least one and at most `most`; waits for the first, and never for a further one. They are in the order of
    /// their partitions. No record is added to 1 MiB or more. Safe to cancel. An error means that this reader is of no use any more.
    async fn next_batch(&mut self, most: usize) -> Result<Vec<Record>, BusError>;

    /// Returns the next record alone. Safe to cancel.
    async fn next(&mut self) -> Result<Record, BusError> {
        let mut batch = self.next_batch(1).await?;
        Ok(batch.pop().expect("a batch has a record"))
    }

    /// Whether everything that was there when the reader began has been read. It may become true while
    /// [`Reader::next_batch`] waits, so it is asked again then.
    fn caught_up(&self) -> bool;
}
