//! A member of a consumer group.
//!
//! The partitions of a topic are shared out among the members in the order of their names. A member claims the ones it
//! should have and nobody holds; it gives up the ones that another should have when it asks for its next record, with
//! what it has done written in the same transaction. So no two members ever work on one partition.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use async_trait::async_trait;
use prometheus::IntGauge;
use tokio::sync::watch;

use super::log::{self, Cursor};
use super::reader::wait;
use super::writer::Command;
use super::{Group, Handle, Observed, Part};
use crate::names::Channel;
use crate::{BusError, Member, dead_letter};
use sosohappy_events::Record;

/// A claimed partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// The generation it was claimed in: a later one is another claim.
    pub since: i64,
    /// Everything up to here was done when it was claimed.
    pub done: i64,
}

/// What a member has been given.
#[derive(Debug)]
pub(super) struct Share {
    pub generation: i64,
    pub claims: BTreeMap<Part, Claim>,
}

/// Who asks for a share.
#[derive(Debug, Clone)]
pub(super) struct Who {
    pub group: Group,
    pub member: String,
    pub topics: Vec<i64>,
}

struct Held {
    since: i64,
    /// The last record that was handed out.
    given: i64,
}

pub(super) struct JournalMember {
    handle: Arc<Handle>,
    who: Who,
    generations: watch::Receiver<HashMap<String, i64>>,
    /// The generation of `held`.
    generation: i64,
    held: BTreeMap<Part, Held>,
    follows: Vec<(Cursor, watch::Receiver<i64>)>,
    read: VecDeque<Record>,
    left: bool,
}

impl JournalMember {
    pub(super) async fn join(handle: Arc<Handle>, group: Group, topics: Vec<i64>) -> Result<Self, BusError> {
        let member = handle.state.new_member_name();
        let mut this = Self {
            generations: handle.state.generations.subscribe(),
            generation: 0,
            held: BTreeMap::new(),
            follows: topics
                .iter()
                .map(|&topic| (Cursor { topic, seq: i64::MAX }, handle.state.tails[&topic].subscribe()))
                .collect(),
            read: VecDeque::new(),
            left: false,
            who: Who { group, member, topics },
            handle,
        };
        let who = this.who.clone();
        let share = this
            .handle
            .ask(|reply| Command::Share {
                who,
                joining: true,
                reply,
            })
            .await?;
        this.take(share);
        Ok(this)
    }

    /// Whether the group has changed since the share was given out.
    fn outdated(&mut self) -> bool {
        let generations = self.generations.borrow_and_update();
        generations
            .get(&*self.who.group)
            .is_some_and(|generation| *generation > self.generation)
    }

    fn take(&mut self, share: Share) {
        self.generation = share.generation;
        let same = share.claims.len() == self.held.len()
            && share
                .claims
                .iter()
                .all(|(part, claim)| self.held.get(part).is_some_and(|held| held.since == claim.since));
        if same {
            return;
        }
        let old = std::mem::take(&mut self.held);
        for (part, claim) in share.claims {
            let kept = old.get(&part).filter(|held| held.since == claim.since);
            self.held.insert(
                part,
                Held {
                    since: claim.since,
                    given: kept.map_or(claim.done, |held| held.given),
                },
            );
        }
        // What was read ahead may be another's now, and a new partition may begin further back.
        self.read.clear();
        for (cursor, _) in &mut self.follows {
            let parts = self.held.iter().filter(|((topic, _), _)| *topic == cursor.topic);
            cursor.seq = parts.map(|(_, held)| held.given).min().unwrap_or(i64::MAX);
        }
    }

    /// The next of the records read ahead that is this member's, and was not handed out before.
    fn pop(&mut self) -> Option<Record> {
        while let Some(record) = self.read.pop_front() {
            let part = (
                self.handle.state.number(Channel::live(record.topic)),
                i64::from(record.partition),
            );
            if let Some(held) = self.held.get_mut(&part)
                && record.offset > held.given
            {
                held.given = record.offset;
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
            if self.outdated() {
                let who = self.who.clone();
                // Cancelled here, the generation stays the old one, and the share is asked for again.
                let share = self
                    .handle
                    .ask(|reply| Command::Share {
                        who,
                        joining: false,
                        reply,
                    })
                    .await?;
                self.take(share);
            }
            if let Some(record) = self.pop() {
                return Ok(record);
            }
            for (cursor, tail) in &mut self.follows {
                if *tail.borrow_and_update() > cursor.seq {
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
                changed = self.generations.changed() => changed.map_err(super::unavailable)?,
                waited = wait(self.follows.iter_mut().map(|(cursor, tail)| (tail, cursor.seq))) => waited?,
            }
        }
    }

    async fn done(&mut self, record: &Record) -> Result<(), BusError> {
        let part = (
            self.handle.state.number(Channel::live(record.topic)),
            i64::from(record.partition),
        );
        self.handle.state.note_done(&self.who.group, part, record.offset);
        Ok(())
    }

    async fn dead_letter(&mut self, record: &Record, reason: &str) -> Result<(), BusError> {
        let parcels = vec![dead_letter::parcel(record, &self.who.group, reason)];
        self.handle.ask(|reply| Command::Publish { parcels, reply }).await
    }

    fn observe(&mut self, lag: IntGauge) {
        let observed = Observed {
            group: self.who.group.clone(),
            lag,
        };
        self.handle
            .state
            .observed
            .lock()
            .insert(self.who.member.clone(), observed);
    }

    async fn leave(mut self: Box<Self>) {
        self.left = true;
        let who = self.who.clone();
        if let Err(error) = self
            .handle
            .ask(|reply| Command::Leave {
                who,
                reply: Some(reply),
            })
            .await
        {
            tracing::warn!(%error, group = %self.who.group, "leaving consumer group failed; partitions stay assigned until the process ends");
        }
    }
}

impl Drop for JournalMember {
    fn drop(&mut self) {
        let state = &self.handle.state;
        if let Some(observed) = state.observed.lock().remove(&self.who.member) {
            observed.lag.set(0);
        }
        // As good as dead: its partitions are given to others. Where the writer is too busy to be told, the task that
        // tells it waits.
        if !self.left {
            let (commands, who) = (self.handle.commands.clone(), self.who.clone());
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { commands.send(Command::Leave { who, reply: None }).await.is_ok() });
            }
        }
    }
}
