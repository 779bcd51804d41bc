//! Pauses consumers while no broker is available.

use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::client::Settings;
use super::queue::Consumer;

/// Interval of the check whether partitions have leaders again.
const LOOK_FOR_LEADERS: Duration = Duration::from_millis(100);

/// After this time without a leader for some partitions, the others are resumed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Pauses the partitions of a client when it has lost all brokers, and resumes them when each has a leader again.
///
/// A restarted broker accepts connections before it leads anything. Its answer to a fetch then names some leaders and not others,
/// and librdkafka from 2.5 on reads memory it has not written when it handles this answer (its issues 5280 and 5430): about one process in
/// forty crashed. A client that does not fetch gets no such answer.
pub(super) fn pause_during_outages(consumer: &Arc<Consumer>, settings: &Arc<Settings>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(watch(Arc::downgrade(consumer), settings.clone())))
}

async fn watch(consumer: Weak<Consumer>, settings: Arc<Settings>) {
    loop {
        // Upgraded for each step only: the task must not keep a client alive whose members have left.
        let Some(lost) = consumer
            .upgrade()
            .map(|consumer| consumer.client().context().lost_brokers())
        else {
            return;
        };
        lost.notified().await;
        let Some(paused) = consumer.upgrade().map(|consumer| pause(&consumer)) else {
            return;
        };
        let paused = match paused {
            Ok(paused) => paused,
            Err(error) => {
                tracing::warn!(%error, "pausing Kafka consumer failed");
                continue;
            }
        };
        tracing::debug!(
            partitions = paused.count(),
            "all Kafka brokers unavailable; consumer paused"
        );
        // Since a broker serves again: `LONGEST_PAUSE` counts from here, not from the start of the outage.
        let mut served = None;
        loop {
            tokio::time::sleep(LOOK_FOR_LEADERS).await;
            if consumer.strong_count() == 0 {
                return;
            }
            // Not by the consumer itself: each answer that names no brokers yet may make it forget them for good.
            match settings.look_at_cluster().await {
                Some(cluster) if cluster.leads(&paused) => break,
                Some(_) if served.get_or_insert_with(Instant::now).elapsed() > LONGEST_PAUSE => break,
                Some(_) | None => {}
            }
        }
        let Some(consumer) = consumer.upgrade() else { return };
        match consumer.resume(&paused) {
            Ok(()) => tracing::debug!(partitions = paused.count(), "Kafka consumer resumed"),
            Err(error) => tracing::warn!(%error, "resuming Kafka consumer failed"),
        }
    }
}

fn pause(consumer: &Consumer) -> Result<TopicPartitionList, KafkaError> {
    let assignment = consumer.assignment()?;
    consumer.pause(&assignment)?;
    Ok(assignment)
}
