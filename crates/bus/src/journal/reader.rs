//! A reader of every record.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::select_all;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::log::{self, Cursor};
use super::unavailable;
use super::writer::Handle;
use crate::{BusError, Reader, Start};
use sosohappy_events::{Record, Topic};

/// One topic of a reader.
struct Follow {
    cursor: Cursor,
    /// Caught up once the cursor is here.
    target: i64,
    tail: watch::Receiver<i64>,
}

pub(super) struct JournalReader {
    handle: Arc<Handle>,
    follows: Vec<Follow>,
    read: VecDeque<Record>,
    volatile: Option<Volatile>,
}

/// A reader's subscription to volatile topics, from the moment it began.
struct Volatile {
    topics: Vec<Topic>,
    records: broadcast::Receiver<Record>,
}

impl Volatile {
    /// Safe to cancel.
    async fn next(&mut self) -> Result<Record, BusError> {
        loop {
            match self.records.recv().await {
                Ok(record) if self.topics.contains(&record.topic) => return Ok(record),
                // A slow reader misses the oldest ones.
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(error @ RecvError::Closed) => return Err(unavailable(error)),
            }
        }
    }
}

impl JournalReader {
    pub(super) async fn begin(handle: Arc<Handle>, topics: &[i64], start: Start) -> Result<Self, BusError> {
        let mut follows = Vec::new();
        for &topic in topics {
            let tail = handle.state.tails[&topic].subscribe();
            let (cursor, target) = log::begin(&handle.state, topic, start).await?;
            follows.push(Follow { cursor, target, tail });
        }
        Ok(Self {
            handle,
            follows,
            read: VecDeque::new(),
            volatile: None,
        })
    }

    /// Reads these volatile topics as well.
    pub(super) fn with_volatile(mut self, topics: Vec<Topic>) -> Self {
        if !topics.is_empty() {
            let records = self.handle.state.volatile.subscribe();
            self.volatile = Some(Volatile { topics, records });
        }
        self
    }
}

#[async_trait]
impl Reader for JournalReader {
    async fn next_batch(&mut self, most: usize) -> Result<Vec<Record>, BusError> {
        loop {
            if !self.read.is_empty() {
                let count = self.read.len().min(most);
                return Ok(self.read.drain(..count).collect());
            }
            for follow in &mut self.follows {
                if *follow.tail.borrow_and_update() > follow.cursor.seq {
                    // The cursor moves only together with the records that were read: a cancelled read is repeated.
                    let mut cursor = follow.cursor;
                    let records = log::read_on(&self.handle.state, &mut cursor).await?;
                    follow.cursor = cursor;
                    self.read.extend(records);
                }
            }
            if self.read.is_empty() {
                let tails = self.follows.iter_mut();
                let stored = wait(tails.map(|follow| (&mut follow.tail, follow.cursor.seq)));
                let Some(volatile) = &mut self.volatile else {
                    stored.await?;
                    continue;
                };
                tokio::select! {
                    further = stored => further?,
                    record = volatile.next() => return record.map(|record| vec![record]),
                }
            }
        }
    }

    fn caught_up(&self) -> bool {
        self.read.is_empty() && self.follows.iter().all(|follow| follow.cursor.seq >= follow.target)
    }
}

/// Waits until one of the topics has gone on beyond its cursor.
pub(super) async fn wait(tails: impl Iterator<Item = (&mut watch::Receiver<i64>, i64)>) -> Result<(), BusError> {
    let waits: Vec<_> = tails
        .map(|(tail, seq)| Box::pin(async move { tail.wait_for(|tail| *tail > seq).await.map(|_| ()) }))
        .collect();
    if waits.is_empty() {
        return std::future::pending().await;
    }
    let (outcome, ..) = select_all(waits).await;
    outcome.map_err(unavailable)
}
