//! Queues of single partitions, split off from the queue of their client.

use std::sync::Arc;

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
pub(super) type Queue = StreamPartitionQueue<Client>;

/// Splits the queue of a partition off. Done before the partition is assigned, so that none of its records reaches the client's
/// own queue.
pub(super) fn split(consumer: &Arc<Consumer>, topic: &str, partition: i32) -> Result<Queue, BusError> {
    consumer
        .split_partition_queue(topic, partition)
        .ok_or_else(|| unavailable(format!("topic {topic} has no partition {partition}")))
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
pub(super) fn discard(consumer: &Arc<Consumer>, topic: &str, partitions: impl IntoIterator<Item = i32>) {
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

/// Gives back a client that was borrowed for a call. It ends if its owners have dropped it meanwhile.
pub(super) fn release(consumer: Arc<Consumer>) {
    if let Some(last) = Arc::into_inner(consumer) {
        end(last);
    }
}
