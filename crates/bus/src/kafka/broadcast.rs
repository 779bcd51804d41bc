//! The client that the readers of a process share, with a queue for each partition, so that a slow reader holds up no other.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use super::client::Settings;
use super::outage::pause_during_outages;
use super::queue::{self, Consumer, Owner, Queue, split};
use super::recovery::{Role, stuck};
use super::{Inner, unavailable};
use crate::BusError;

/// A client without a group, and the topics assigned to it.
struct Broadcast {
    consumer: Owner,
    topics: Mutex<BTreeSet<String>>,
    failed: CancellationToken,
    _pausing: AbortOnDropHandle<()>,
    /// Ends [`serve`].
    _serving: DropGuard,
}

/// The clients of a process: one, and another for each further reader of the same topic.
#[derive(Default)]
pub(super) struct Broadcasts(Mutex<Vec<Weak<Broadcast>>>);

/// A topic that one reader has to itself on its client. Dropped, it is unassigned, and the last one ends the client.
pub(super) struct Assigned {
    broadcast: Option<Arc<Broadcast>>,
    topic: String,
}

impl Broadcasts {
    /// Reserves a topic on the first client that does not read it yet.
    pub(super) fn reserve(&self, inner: &Inner, topic: String) -> Result<Assigned, BusError> {
        let mut clients = self.0.lock();
        clients.retain(|client| client.strong_count() > 0);
        let free = clients
            .iter()
            .filter_map(Weak::upgrade)
            .find(|client| !client.failed.is_cancelled() && client.topics.lock().insert(topic.clone()));
        let broadcast = if let Some(broadcast) = free {
            broadcast
        } else {
            let broadcast = Arc::new(Broadcast::create(inner)?);
            broadcast.topics.lock().insert(topic.clone());
            clients.push(Arc::downgrade(&broadcast));
            broadcast
        };
        Ok(Assigned {
            broadcast: Some(broadcast),
            topic,
        })
    }
}

impl Broadcast {
    fn create(inner: &Inner) -> Result<Self, BusError> {
        // librdkafka looks for the coordinator of the group though none is joined, so that the name is one of the service's own.
        let group = inner.names.group(&format!("{}.reader", inner.service));
        let consumer: Consumer = inner
            .settings
            .reader(&group)
            .create_with_context(inner.settings.client())
            .map_err(|error| BusError::Settings(error.to_string()))?;
        let (consumer, failed, stop) = (Owner::new(consumer), CancellationToken::new(), CancellationToken::new());
        let settings = inner.settings.clone();
        tokio::spawn(serve(consumer.clone(), settings, failed.clone(), stop.clone()));
        Ok(Self {
            _pausing: pause_during_outages(&consumer, &inner.settings),
            consumer,
            topics: Mutex::default(),
            failed,
            _serving: stop.drop_guard(),
        })
    }
}

/// Serves the events of the client. Records do not come here: the queues of partitions are split off before they are assigned.
async fn serve(consumer: Owner, settings: Arc<Settings>, failed: CancellationToken, stop: CancellationToken) {
    let connection = consumer.client().context().connection();
    let mut recovery = std::pin::pin!(stuck(settings.clone(), connection, Role::Independent));
    loop {
        let came = tokio::select! {
            () = stop.cancelled() => break,
            reason = &mut recovery => {
                tracing::warn!(%reason, group = "reader", "Kafka client does not recover; replacing it");
                settings.count_replaced();
                failed.cancel();
                break;
            }
            came = consumer.recv() => came.map(drop),
        };
        match came {
            Ok(()) | Err(KafkaError::MessageConsumptionFatal(_)) => {
                failed.cancel();
                break;
            }
            Err(error) => consumer.client().context().warn(&error, "reader"),
        }
    }
}

impl Assigned {
    fn broadcast(&self) -> &Arc<Broadcast> {
        self.broadcast.as_ref().expect("it is taken only when dropped")
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) fn consumer(&self) -> &Owner {
        &self.broadcast().consumer
    }

    /// Resolves when the client is of no use any more.
    pub(super) async fn failed(&self) {
        self.broadcast().failed.cancelled().await;
    }

    /// Assigns partitions of the topic, and returns their queues.
    pub(super) fn assign(&self, partitions: &TopicPartitionList) -> Result<Vec<(i32, Queue)>, BusError> {
        let consumer = self.consumer();
        let mut queues = Vec::with_capacity(partitions.count());
        for partition in partitions.elements() {
            let number = partition.partition();
            queues.push((number, split(consumer, &self.topic, number)?));
        }
        consumer.incremental_assign(partitions).map_err(unavailable)?;
        Ok(queues)
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        let (broadcast, topic) = (self.broadcast.take(), std::mem::take(&mut self.topic));
        // Unassigning blocks, for ever if the client hangs: in a thread that no runtime waits for.
        if let Some(broadcast) = broadcast {
            std::thread::spawn(move || unassign(&broadcast, &topic));
        }
    }
}

fn unassign(broadcast: &Broadcast, topic: &str) {
    let unassigned = broadcast.consumer.assignment().and_then(|assignment| {
        let mut partitions = TopicPartitionList::new();
        for partition in assignment.elements_for_topic(topic) {
            partitions.add_partition(topic, partition.partition());
        }
        if partitions.count() == 0 {
            return Ok(());
        }
        broadcast.consumer.incremental_unassign(&partitions)?;
        let numbers = partitions.elements().into_iter().map(|partition| partition.partition());
        queue::discard(&broadcast.consumer, topic, numbers);
        Ok(())
    });
    match unassigned {
        // Only now another reader may have it.
        Ok(()) => {
            broadcast.topics.lock().remove(topic);
        }
        Err(error) => tracing::warn!(%error, topic, "unassigning topic failed"),
    }
}
