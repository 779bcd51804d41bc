//! Pauses consumers while no broker is available.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::client::Settings;
use super::queue::{Consumer, Owner};
use super::{blocking, unavailable};
use crate::BusError;

/// Interval of the check whether partitions have leaders again. It doubles with each check that finds a broker and not all leaders, up to
/// [`LONGEST_INTERVAL`]: each of them is a connection for each consumer of each replica, which would keep a broker from coming back.
const LOOK_FOR_LEADERS: Duration = Duration::from_millis(100);

const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// How long a look at the cluster is shared by the clients of a process that wait for leaders.
const FRESH: Duration = Duration::from_millis(250);

/// After this time without a leader for some partitions, the others are resumed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Pauses the partitions of a client when it has lost all brokers, and resumes them when each has a leader again.
///
/// A restarted broker accepts connections before it leads anything. Its answer to a fetch then names some leaders and not others,
/// and librdkafka from 2.5 on reads memory it has not written when it handles this answer (its issues 5280 and 5430): about one process in
/// forty crashed. A client that does not fetch gets no such answer.
///
/// Metadata are not enough to go by: a broker names itself there as the leader of all partitions, and then becomes it of one after the other,
/// which takes a busy machine a while. So each partition is also asked for its offsets, which only a leader tells.
pub(super) fn pause_during_outages(consumer: &Owner, settings: &Arc<Settings>) -> AbortOnDropHandle<()> {
    let lost = consumer.client().context().lost_brokers();
    AbortOnDropHandle::new(tokio::spawn(watch(Arc::downgrade(consumer), lost, settings.clone())))
}

/// The client is upgraded for each step only: the task must not keep one alive whose members have left.
async fn watch(consumer: Weak<Consumer>, lost: Arc<Notify>, settings: Arc<Settings>) {
    loop {
        lost.notified().await;
        let paused = match with(&consumer, pause).await {
            Some(Ok(paused)) => paused,
            Some(Err(error)) => {
                tracing::warn!(%error, "pausing Kafka consumer failed");
                continue;
            }
            None => return,
        };
        let partitions = numbers(&paused);
        tracing::debug!(
            partitions = partitions.len(),
            "all Kafka brokers unavailable; consumer paused"
        );
        // Since a broker serves again: `LONGEST_PAUSE` counts from here, not from the start of the outage.
        let mut served = None;
        let mut interval = LOOK_FOR_LEADERS;
        loop {
            tokio::time::sleep(interval).await;
            if consumer.strong_count() == 0 {
                return;
            }
            // Not by the consumer itself: each answer that names no brokers yet may make it forget them for good.
            let Some(cluster) = settings.look_at_cluster(FRESH).await else {
                served = None;
                continue;
            };
            let is_led = cluster.leads(&partitions) && settings.leaders_serve(partitions.clone()).await;
            if is_led || served.get_or_insert_with(Instant::now).elapsed() > LONGEST_PAUSE {
                break;
            }
            interval = interval.saturating_mul(2).min(LONGEST_INTERVAL);
        }
        let resume = move |consumer: &Consumer| consumer.resume(&paused);
        match with(&consumer, resume).await {
            Some(Ok(())) => tracing::debug!(partitions = partitions.len(), "Kafka consumer resumed"),
            Some(Err(error)) => tracing::warn!(%error, "resuming Kafka consumer failed"),
            None => return,
        }
    }
}

/// Makes a call on a client, if there still is one, in a thread that may block: the call waits for the client's main thread.
async fn with<T: Send + 'static>(
    consumer: &Weak<Consumer>,
    call: impl FnOnce(&Consumer) -> Result<T, KafkaError> + Send + 'static,
) -> Option<Result<T, BusError>> {
    let consumer = Owner::upgrade(consumer)?;
    Some(blocking(move || call(&consumer).map_err(unavailable)).await)
}

fn pause(consumer: &Consumer) -> Result<TopicPartitionList, KafkaError> {
    let assignment = consumer.assignment()?;
    consumer.pause(&assignment)?;
    Ok(assignment)
}

/// Returns the partitions by topic and number.
fn numbers(partitions: &TopicPartitionList) -> Vec<(String, i32)> {
    let elements = partitions.elements();
    let numbers = elements
        .iter()
        .map(|element| (element.topic().to_owned(), element.partition()));
    numbers.collect()
}
