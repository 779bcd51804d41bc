//! A member of a consumer group.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use prometheus::IntGauge;
use tokio::sync::watch;

use super::groups::MemberId;
use super::log::{self, Cursor};
use super::reader::wait;
use super::writer::{Command, Handle};
use super::{Group, PARTITIONS, Part, unavailable};
use crate::names::Channel;
use crate::{BusError, Member, dead_letter};
use sosohappy_events::Record;

/// How often the group is asked whether it has caught up.
const ASK: Duration = Duration::from_millis(20);

pub(super) struct JournalMember {
    handle: Arc<Handle>,
    id: MemberId,
    /// Marked as changed whenever the partitions have to be shared out again.
    changed: watch::Receiver<u64>,
    /// The partitions of this member, with the last record of each that was handed out.
    held: BTreeMap<Part, i64>,
    follows: Vec<(Cursor, watch::Receiver<i64>)>,
    read: VecDeque<Record>,
}

impl JournalMember {
    pub(super) fn join(handle: Arc<Handle>, group: Group, topics: Vec<i64>) -> Self {
        let follows = topics
            .iter()
            .map(|&topic| (Cursor { topic, seq: i64::MAX }, handle.state.tails[&topic].subscribe()))
            .collect();
        let (id, changed) = handle.state.groups.join(group, topics);
        let mut this = Self {
            handle,
            id,
            changed,
            held: BTreeMap::new(),
            follows,
            read: VecDeque::new(),
        };
        this.share();
        this
    }

    /// Claims the partitions that this member should have, and releases the others.
    fn share(&mut self) {
        // Marked before the partitions are read: a later change is reported again.
        self.changed.mark_unchanged();
        let state = &self.handle.state;
        let parts = state.groups.share(&self.id);
        if parts.iter().eq(self.held.keys()) {
            return;
        }
        // A partition that was held before continues after the last record that was handed out, a new one after the committed offset.
        let old = std::mem::take(&mut self.held);
        let given = |part: Part| match old.get(&part) {
            Some(given) => *given,
            None => state.done(&self.id.group, part),
        };
        self.held = parts.into_iter().map(|part| (part, given(part))).collect();
        // Records read ahead may belong to another member after a rebalance, and a new partition may begin at an earlier record.
        self.read.clear();
        for (cursor, _) in &mut self.follows {
            let parts = self.held.iter().filter(|((topic, _), _)| *topic == cursor.topic);
            cursor.seq = parts.map(|(_, given)| *given).min().unwrap_or(i64::MAX);
        }
    }

    /// The next of the records read ahead that is this member's, and was not handed out before.
    fn pop(&mut self) -> Option<Record> {
        while let Some(record) = self.read.pop_front() {
            let part = (
                self.handle.state.number(Channel::live(record.topic)),
                i64::from(record.partition),
            );
            if let Some(given) = self.held.get_mut(&part)
                && record.offset > *given
            {
                *given = record.offset;
                return Some(record);
            }
        }
        None
    }
}

#[async_trait]
impl Member for JournalMember {
    async fn next(&mut self) -> Result<Record, BusError> {
        loop {
            if self.changed.has_changed().map_err(unavailable)? {
                self.share();
            }
            if let Some(record) = self.pop() {
                return Ok(record);
            }
            for (cursor, tail) in &mut self.follows {
                // The tail is marked as seen before the read: a record that is written meanwhile wakes the wait below.
                if *tail.borrow_and_update() > cursor.seq {
                    // Moved only after the read: a cancelled call reads the same records again.
                    let mut moved = *cursor;
                    let records = log::read_on(&self.handle.state, &mut moved).await?;
                    *cursor = moved;
                    self.read.extend(records);
                }
            }
            if !self.read.is_empty() {
                continue;
            }
            tokio::select! {
                changed = self.changed.changed() => {
                    changed.map_err(unavailable)?;
                    // `changed` has marked it as seen; the next turn of the loop shares out.
                    self.changed.mark_changed();
                },
                waited = wait(self.follows.iter_mut().map(|(cursor, tail)| (tail, cursor.seq))) => waited?,
            }
        }
    }

    fn read_ahead(&mut self) -> Option<Result<Record, BusError>> {
        // After a rebalance `next` decides whose the records are.
        match self.changed.has_changed() {
            Ok(false) => self.pop().map(Ok),
            Ok(true) | Err(_) => None,
        }
    }

    async fn done(&mut self, record: &Record) -> Result<(), BusError> {
        let part = (
            self.handle.state.number(Channel::live(record.topic)),
            i64::from(record.partition),
        );
        self.handle.state.note_done(&self.id.group, part, record.offset);
        Ok(())
    }

    async fn dead_letter(&mut self, record: &Record, reason: &str) -> Result<(), BusError> {
        let records = vec![dead_letter::wire_record(record, &self.id.group, reason)];
        self.handle.ask(|reply| Command::Publish { records, reply }).await
    }

    fn observe(&mut self, lag: IntGauge) {
        self.handle.state.groups.observe(&self.id, lag);
    }

    fn group_caught_up(&self) -> BoxFuture<'static, Result<(), BusError>> {
        let (handle, group) = (self.handle.clone(), self.id.group.clone());
        let topics: Vec<i64> = self.follows.iter().map(|(cursor, _)| cursor.topic).collect();
        Box::pin(async move {
            let state = &handle.state;
            for topic in topics {
                for part in (0..PARTITIONS).map(|part| (topic, part)) {
                    let last = log::last(&state.pool, part).await.map_err(unavailable)?;
                    while state.done(&group, part) < last {
                        tokio::time::sleep(ASK).await;
                    }
                }
            }
            Ok(())
        })
    }

    async fn leave(self: Box<Self>) {
        if let Err(error) = self.handle.ask(|reply| Command::Flush { reply }).await {
            tracing::warn!(%error, group = %self.id.group, "journal flush of leaving member failed; records may be handed out again");
        }
    }
}

impl Drop for JournalMember {
    fn drop(&mut self) {
        self.handle.state.groups.leave(&self.id);
    }
}
