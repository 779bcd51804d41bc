//! A reader of every record.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::select_all;
use tokio::sync::watch;

use super::log::{self, Cursor};
use super::{Handle, unavailable};
use crate::{BusError, Reader, Start};
use sosohappy_events::Record;

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
        })
    }
}

#[async_trait]
impl Reader for JournalReader {
    async fn next(&mut self) -> Result<Record, BusError> {
        loop {
            if let Some(record) = self.read.pop_front() {
                return Ok(record);
            }
            for follow in &mut self.follows {
                if *follow.tail.borrow_and_update() > follow.cursor.seq {
                    // The cursor moves only together with what was read: a cancelled read is begun again.
                    let mut cursor = follow.cursor;
                    let records = log::read_on(&self.handle.state, &mut cursor).await?;
                    follow.cursor = cursor;
                    self.read.extend(records);
                }
            }
            if self.read.is_empty() {
                wait(
                    self.follows
                        .iter_mut()
                        .map(|follow| (&mut follow.tail, follow.cursor.seq)),
                )
                .await?;
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
