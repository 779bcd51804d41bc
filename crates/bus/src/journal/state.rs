//! The state that the tasks of a journal share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;
use sosohappy_common::clock::Clock;
use sosohappy_events::Record;
use sqlx::sqlite::SqlitePool;
use tokio::sync::{broadcast, watch};

use super::groups::Groups;
use super::{Group, PARTITIONS, Part, Positions};
use crate::names::{Channel, Names, WireRecord};

/// Volatile records that a slow reader may be behind.
const VOLATILE: usize = 64;

#[derive(Debug)]
pub(super) struct State {
    pub path: PathBuf,
    pub names: Names,
    /// By number in the file.
    pub channels: BTreeMap<i64, Channel>,
    pub clock: Arc<dyn Clock>,
    pub pool: SqlitePool,
    /// The last record of each topic.
    pub tails: HashMap<i64, watch::Sender<i64>>,
    pub groups: Groups,
    offsets: Mutex<Offsets>,
    /// Records of volatile topics: for the readers of this moment, never on the disk.
    pub volatile: broadcast::Sender<Record>,
    volatile_count: AtomicI64,
}

/// The offsets up to which each group has acknowledged each partition.
#[derive(Debug, Default)]
struct Offsets {
    done: HashMap<(Group, Part), i64>,
    /// Not yet on the disk: written with the next commit, or with the next tick of the writer.
    unwritten: BTreeSet<(Group, Part)>,
}

impl State {
    pub fn new(
        path: PathBuf,
        names: Names,
        clock: Arc<dyn Clock>,
        pool: SqlitePool,
        topics: BTreeMap<i64, (Channel, i64)>,
        done: HashMap<(Group, Part), i64>,
    ) -> Self {
        let tails = topics
            .iter()
            .map(|(topic, (_, tail))| (*topic, watch::Sender::new(*tail)));
        Self {
            path,
            names,
            clock,
            pool,
            tails: tails.collect(),
            channels: topics
                .into_iter()
                .map(|(topic, (channel, _))| (topic, channel))
                .collect(),
            groups: Groups::default(),
            offsets: Mutex::new(Offsets {
                done,
                unwritten: BTreeSet::new(),
            }),
            volatile: broadcast::Sender::new(VOLATILE),
            volatile_count: AtomicI64::new(0),
        }
    }

    pub fn advance(&self, topic: i64, seq: i64) {
        if let Some(tail) = self.tails.get(&topic) {
            tail.send_if_modified(|known| {
                let further = seq > *known;
                *known = seq.max(*known);
                further
            });
        }
    }

    pub fn number(&self, channel: Channel) -> i64 {
        let found = self.channels.iter().find(|(_, known)| **known == channel);
        *found.expect("every channel was numbered when the journal was opened").0
    }

    /// Hands a record to those who read now; no reader is no error.
    pub fn broadcast(&self, record: WireRecord) {
        let record = Record {
            topic: record.channel.topic,
            partition: 0,
            offset: self.volatile_count.fetch_add(1, Ordering::Relaxed),
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp: self.clock.now(),
        };
        let _ = self.volatile.send(record);
    }

    /// Marks records as done without waiting for the disk.
    pub fn note_done(&self, group: &Group, part: Part, seq: i64) {
        let key = (group.clone(), part);
        let mut offsets = self.offsets.lock();
        let known = offsets.done.entry(key.clone()).or_insert(seq);
        *known = seq.max(*known);
        offsets.unwritten.insert(key);
    }

    /// The last record of a partition that the group has done; 0 before the first.
    pub fn done(&self, group: &Group, part: Part) -> i64 {
        let offsets = self.offsets.lock();
        offsets.done.get(&(group.clone(), part)).copied().unwrap_or(0)
    }

    /// The last record of each partition of a topic that every group with a member has done; `i64::MAX` where there is no group.
    pub fn done_by_all(&self, topic: i64) -> Positions {
        let groups = self.groups.of_topic(topic);
        let mut positions = [i64::MAX; 4];
        for (part, position) in (0..PARTITIONS).zip(&mut positions) {
            let done = groups.iter().map(|group| self.done(group, (topic, part))).min();
            *position = done.unwrap_or(i64::MAX);
        }
        positions
    }

    pub fn has_unwritten_offsets(&self) -> bool {
        !self.offsets.lock().unwritten.is_empty()
    }

    /// Takes the offsets that have to be written. The caller owns them until [`State::unwrite`] gives them back.
    pub fn take_unwritten(&self) -> Vec<((Group, Part), i64)> {
        let mut offsets = self.offsets.lock();
        let unwritten = std::mem::take(&mut offsets.unwritten);
        unwritten
            .into_iter()
            .map(|key| {
                let done = offsets.done.get(&key).copied().unwrap_or(0);
                (key, done)
            })
            .collect()
    }

    pub fn unwrite(&self, failed: impl IntoIterator<Item = (Group, Part)>) {
        self.offsets.lock().unwritten.extend(failed);
    }
}
