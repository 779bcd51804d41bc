//! Measures lag, and keeps the log within its retention.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::log;
use super::state::State;
use super::writer::{Command, Reply};
use sosohappy_events::topic::{Retention, TOMBSTONE_RETENTION};

const MEASURE_LAG: Duration = Duration::from_secs(5);
const TIDY: Duration = Duration::from_mins(5);

/// Beyond this a lag is only "large".
const LARGEST_LAG: i64 = 100_000;

pub(super) async fn run(state: Arc<State>, commands: mpsc::WeakSender<Command>, end: CancellationToken) {
    let [mut lag, mut tidy] = [MEASURE_LAG, TIDY].map(|period| {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    });
    loop {
        let outcome = tokio::select! {
            () = end.cancelled() => return,
            _ = lag.tick() => measure_lag(&state).await,
            _ = tidy.tick() => tidy_up(&state, &commands).await,
        };
        // The pool closes when the last handle is dropped.
        if let Err(error) = outcome
            && !end.is_cancelled()
        {
            tracing::warn!(%error, "journal maintenance failed");
        }
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

/// Removes what is past its retention, in small transactions between those of others.
async fn tidy_up(state: &State, commands: &mpsc::WeakSender<Command>) -> anyhow::Result<()> {
    let now = state.clock.now().as_millisecond();
    for (&topic, channel) in &state.channels {
        let (keep, tombstones) = match channel.retention() {
            Retention::For(time) => (time, false),
            Retention::Compacted => {
                compact(state, topic, commands).await?;
                (TOMBSTONE_RETENTION, true)
            }
        };
        let before = now.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX));
        while ask(commands, |reply| Command::Trim {
            topic,
            before,
            tombstones,
            reply,
        })
        .await?
        .is_some_and(|removed| removed > 0)
        {}
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
