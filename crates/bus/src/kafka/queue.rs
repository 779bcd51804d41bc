//! Clients that consume, and queues of single partitions, split off from the queue of their client.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use futures::FutureExt as _;
use futures::future::select_all;
use rdkafka::consumer::StreamConsumer;
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use tokio::sync::oneshot;

use super::client::Client;
use super::unavailable;
use crate::BusError;

pub(super) type Consumer = StreamConsumer<Client>;

/// An owner of a client. The last one, wherever it is dropped, ends the client in a thread that nothing waits for: a runtime that shuts down
/// drops its tasks in its own threads, and would wait for the end, in the worst case for ever.
#[derive(Clone)]
pub(super) struct Owner(Option<Arc<Consumer>>);

impl Owner {
    pub(super) fn new(consumer: Consumer) -> Self {
        Self(Some(Arc::new(consumer)))
    }

    /// Returns an owner of a client that has not ended.
    pub(super) fn upgrade(consumer: &Weak<Consumer>) -> Option<Self> {
        consumer.upgrade().map(|consumer| Self(Some(consumer)))
    }

    /// Gives the client up, and resolves when it has ended, or has other owners.
    pub(super) fn end(mut self) -> oneshot::Receiver<()> {
        end(self.0.take().and_then(Arc::into_inner))
    }
}

impl Deref for Owner {
    type Target = Arc<Consumer>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("it is taken only when the client is given up")
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(last) = self.0.take().and_then(Arc::into_inner) {
            end(last);
        }
    }
}

/// The queue of a partition.
pub(super) struct Queue {
    // Before the owner: it owns the client, too.
    queue: StreamPartitionQueue<Client>,
    _consumer: Owner,
}

impl Deref for Queue {
    type Target = StreamPartitionQueue<Client>;

    fn deref(&self) -> &Self::Target {
        &self.queue
    }
}

/// Splits the queue of a partition off. Done before the partition is assigned, so that none of its records reaches the client's
/// own queue.
pub(super) fn split(consumer: &Owner, topic: &str, partition: i32) -> Result<Queue, BusError> {
    let queue = consumer
        .split_partition_queue(topic, partition)
        .ok_or_else(|| unavailable(format!("topic {topic} has no partition {partition}")))?;
    Ok(Queue {
        queue,
        _consumer: consumer.clone(),
    })
}

/// Waits for the first queue with a record, and returns its index. The one at `turn` is polled first, so that a busy
/// partition does not hold up the others. Safe to cancel.
///
/// # Panics
/// Without queues.
pub(super) async fn first<'a>(
    queues: impl ExactSizeIterator<Item = &'a Queue>,
    turn: usize,
) -> (usize, Result<BorrowedMessage<'a>, KafkaError>) {
    let mut waits: Vec<_> = queues
        .enumerate()
        .map(|(index, queue)| Box::pin(async move { (index, queue.recv().await) }))
        .collect();
    waits.rotate_left(turn);
    select_all(waits).await.0
}

/// Discards the records left in the queues of partitions that are no longer assigned. librdkafka may wait at its end for ever for a record
/// in a queue that was split off: it refers to the partition that owns the queue (compare its pull request 4724).
pub(super) fn discard(consumer: &Owner, topic: &str, partitions: impl IntoIterator<Item = i32>) {
    for partition in partitions {
        match split(consumer, topic, partition) {
            Ok(queue) => while queue.recv().now_or_never().is_some() {},
            Err(error) => tracing::debug!(%error, topic, partition, "discarding records failed"),
        }
    }
}

/// Ends a client: a member's client commits acknowledged records and leaves its group. The end blocks, in the worst case for ever
/// (see [`discard`]), and so runs in a thread that no runtime waits for.
pub(super) fn end(client: impl Send + 'static) -> oneshot::Receiver<()> {
    let (sender, ended) = oneshot::channel();
    std::thread::spawn(move || {
        drop(client);
        // Fails when the caller does not wait for it.
        let _ = sender.send(());
    });
    ended
}
