//! Looks for what other processes wrote and whether they live, measures lag, and keeps the log within its retention.

use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::writer::Command;
use super::{State, log, process};
use sosohappy_events::topic::{Retention, TOMBSTONE_RETENTION};

/// How long a record of another process may stay unseen.
const LOOK: Duration = Duration::from_millis(50);
const LOOK_FOR_DEAD: Duration = Duration::from_millis(500);
const MEASURE_LAG: Duration = Duration::from_secs(5);
const TIDY: Duration = Duration::from_mins(5);

/// Beyond this a lag is only "large".
const LARGEST_LAG: i64 = 100_000;

pub(super) async fn run(
    state: Arc<State>,
    mut connection: SqliteConnection,
    commands: mpsc::WeakSender<Command>,
    end: CancellationToken,
) {
    let [mut look, mut bodies, mut lag, mut tidy] = [LOOK, LOOK_FOR_DEAD, MEASURE_LAG, TIDY].map(|period| {
        let mut interval = interval(period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    });
    let mut version = 0;
    loop {
        let outcome = tokio::select! {
            () = end.cancelled() => return,
            _ = look.tick() => look_around(&state, &mut connection, &mut version).await,
            _ = bodies.tick() => bury_dead(&state, &mut connection, &commands).await,
            _ = lag.tick() => measure_lag(&state, &mut connection).await,
            _ = tidy.tick() => tidy_up(&state, &commands).await,
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "journal maintenance failed");
        }
    }
}

/// Wakes those who wait for records and changes of groups, whoever wrote them.
async fn look_around(state: &State, connection: &mut SqliteConnection, seen: &mut i64) -> anyhow::Result<()> {
    // Changes whenever another connection, of this process or of another, has committed; no I/O where nothing has.
    let version: i64 = sqlx::query_scalar("PRAGMA data_version")
        .fetch_one(&mut *connection)
        .await?;
    if version == *seen {
        return Ok(());
    }
    for &topic in state.channels.keys() {
        state.advance(topic, log::tail(&mut *connection, topic).await?);
    }
    let generations: Vec<(String, i64)> = sqlx::query_as("SELECT grp, value FROM generations")
        .fetch_all(&mut *connection)
        .await?;
    for (group, generation) in generations {
        state.learn_generation(group, generation);
    }
    *seen = version;
    Ok(())
}

async fn bury_dead(
    state: &State,
    connection: &mut SqliteConnection,
    commands: &mpsc::WeakSender<Command>,
) -> anyhow::Result<()> {
    let others: Vec<String> = sqlx::query_scalar("SELECT id FROM processes WHERE id <> ?")
        .bind(&state.process)
        .fetch_all(connection)
        .await?;
    let mut processes = Vec::new();
    for other in others {
        if process::dead(&state.path, &other)? {
            tracing::info!(process = other, "journal process ended; partitions reassigned");
            processes.push(other);
        }
    }
    let (Some(commands), false) = (commands.upgrade(), processes.is_empty()) else {
        return Ok(());
    };
    let buried = processes.clone();
    commands.send(Command::Bury { processes }).await?;
    for process in buried {
        process::bury(&state.path, &process);
    }
    Ok(())
}

async fn measure_lag(state: &State, connection: &mut SqliteConnection) -> anyhow::Result<()> {
    let observed: Vec<_> = state
        .observed
        .lock()
        .iter()
        .map(|(member, observed)| (member.clone(), observed.clone()))
        .collect();
    for (member, observed) in observed {
        let lag: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM (
                 SELECT 1 FROM claims LEFT JOIN offsets USING (grp, topic, part)
                 JOIN records ON records.topic = claims.topic AND records.part = claims.part
                                 AND records.seq > COALESCE(offsets.done, 0)
                 WHERE claims.grp = ? AND claims.member = ? LIMIT ?)",
        )
        .bind(&*observed.group)
        .bind(&member)
        .bind(LARGEST_LAG)
        .fetch_one(&mut *connection)
        .await?;
        // The member may have gone meanwhile, and its gauge be back at nothing.
        if state.observed.lock().contains_key(&member) {
            observed.lag.set(lag);
        }
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
    command: impl FnOnce(oneshot::Sender<Result<T, crate::BusError>>) -> Command,
) -> anyhow::Result<Option<T>> {
    let Some(commands) = commands.upgrade() else {
        return Ok(None);
    };
    let (reply, answer) = oneshot::channel();
    commands.send(command(reply)).await?;
    Ok(Some(answer.await??))
}
