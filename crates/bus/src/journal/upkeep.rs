//! Measures lag, keeps the log within its retention, and erases what all consumers have handled before `erasure.deadline`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::state::State;
use super::writer::{Command, Reply};
use super::{Positions, log};
use sosohappy_events::topic::{Retention, TOMBSTONE_RETENTION};

const MEASURE_LAG: Duration = Duration::from_secs(5);
const TIDY: Duration = Duration::from_mins(5);

/// Beyond this a lag is only "large".
const LARGEST_LAG: i64 = 100_000;

/// Steps of an erasure deadline. Records are removed after four of them, the file is rewritten after at most three more.
const STEPS: u32 = 8;
const REMOVED_AFTER: u32 = 4;
const APART: u32 = 3;

/// The shortest step.
const SHORTEST: Duration = Duration::from_millis(500);

/// How long the consumers of a process may take to join.
const STARTING: Duration = Duration::from_secs(10);

pub(super) struct Upkeep {
    state: Arc<State>,
    step: Duration,
    /// When the file was rewritten last, and whether records were removed since. After a start that is not known.
    rewritten: Option<Instant>,
    has_removed: bool,
}

impl Upkeep {
    pub fn new(state: Arc<State>, erasure_deadline: Duration) -> Self {
        Self {
            state,
            step: (erasure_deadline / STEPS).max(SHORTEST),
            rewritten: None,
            has_removed: true,
        }
    }

    pub async fn run(mut self, commands: mpsc::WeakSender<Command>, end: CancellationToken) {
        let [mut lag, mut tidy, mut erase] = [MEASURE_LAG, TIDY, self.step].map(|period| {
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        });
        // The consumers of this process join first: records that they have not handled are kept.
        erase.reset_after(self.step.max(STARTING));
        loop {
            let outcome = tokio::select! {
                () = end.cancelled() => return,
                _ = lag.tick() => measure_lag(&self.state).await,
                _ = tidy.tick() => self.tidy_up(&commands).await,
                _ = erase.tick() => self.erase(&commands).await,
            };
            // The pool closes when the last handle is dropped.
            if let Err(error) = outcome
                && !end.is_cancelled()
            {
                tracing::warn!(%error, "journal maintenance failed");
            }
        }
    }

    /// Removes what is past its retention.
    async fn tidy_up(&mut self, commands: &mpsc::WeakSender<Command>) -> anyhow::Result<()> {
        let topics: Vec<_> = self
            .state
            .channels
            .iter()
            .map(|(topic, channel)| (*topic, *channel))
            .collect();
        for (topic, channel) in topics {
            let (keep, tombstones) = match channel.retention() {
                Retention::For(time) => (time, false),
                Retention::Compacted => {
                    compact(&self.state, topic, commands).await?;
                    (TOMBSTONE_RETENTION, true)
                }
            };
            self.trim(commands, topic, keep, tombstones, [i64::MAX; 4]).await?;
        }
        Ok(())
    }

    /// Removes what all consumers have handled half a deadline after it was published, tombstones and dead letters too, then rewrites the
    /// file and cuts the log.
    async fn erase(&mut self, commands: &mpsc::WeakSender<Command>) -> anyhow::Result<()> {
        let topics: Vec<_> = self
            .state
            .channels
            .iter()
            .map(|(topic, channel)| (*topic, *channel))
            .collect();
        for (topic, channel) in topics {
            let is_compacted = matches!(channel.retention(), Retention::Compacted);
            if is_compacted {
                compact(&self.state, topic, commands).await?;
            }
            let done = self.state.done_by_all(topic);
            self.trim(commands, topic, self.step * REMOVED_AFTER, is_compacted, done)
                .await?;
        }
        let is_apart = self.rewritten.is_none_or(|at| at.elapsed() >= self.step * APART);
        if self.has_removed && is_apart {
            ask(commands, |reply| Command::Rewrite { reply }).await?;
            self.has_removed = false;
            self.rewritten = Some(Instant::now());
        }
        ask(commands, |reply| Command::CutLog { reply }).await?;
        Ok(())
    }

    /// Removes records that are older, in small transactions between those of others.
    async fn trim(
        &mut self,
        commands: &mpsc::WeakSender<Command>,
        topic: i64,
        keep: Duration,
        tombstones: bool,
        done: Positions,
    ) -> anyhow::Result<()> {
        let now = self.state.clock.now().as_millisecond();
        let before = now.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        while ask(commands, |reply| Command::Trim {
            topic,
            before,
            tombstones,
            done,
            reply,
        })
        .await?
        .is_some_and(|removed| removed > 0)
        {
            self.has_removed = true;
        }
        Ok(())
    }
}

async fn measure_lag(state: &State) -> anyhow::Result<()> {
    for (member, parts) in state.groups.observed() {
        let mut lag = 0;
        for part in parts {
            let done = state.done(&member.group, part);
            lag += log::count_after(&state.pool, part, done, LARGEST_LAG - lag).await?;
        }
        state.groups.set_lag(&member, lag);
    }
    Ok(())
}

/// Of each key of a compacted topic the last record stays.
async fn compact(state: &State, topic: i64, commands: &mpsc::WeakSender<Command>) -> anyhow::Result<()> {
    let outdated: Vec<i64> = sqlx::query_scalar(
        "SELECT seq FROM (SELECT seq, LEAD(seq) OVER (PARTITION BY key ORDER BY seq) AS later FROM records
                          WHERE topic = ? AND key IS NOT NULL)
         WHERE later IS NOT NULL",
    )
    .bind(topic)
    .fetch_all(&state.pool)
    .await?;
    for seqs in outdated.chunks(500) {
        ask(commands, |reply| Command::Remove {
            topic,
            seqs: seqs.to_vec(),
            reply,
        })
        .await?;
    }
    Ok(())
}

/// `None` when the bus is being closed.
async fn ask<T>(
    commands: &mpsc::WeakSender<Command>,
    command: impl FnOnce(Reply<T>) -> Command,
) -> anyhow::Result<Option<T>> {
    let Some(commands) = commands.upgrade() else {
        return Ok(None);
    };
    let (reply, answer) = oneshot::channel();
    commands.send(command(reply)).await?;
    Ok(Some(answer.await??))
}
