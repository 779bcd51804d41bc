//! The loop of a reader of every record.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_common::Context;
use sosohappy_common::lifecycle::{Gate, Stage};

use super::Consumer;
use super::handling::{Handling, Outcome, backoff, pause};
use crate::{Bus, BusError, Reader, Start};
use sosohappy_events::Event;

/// How often a reader that waits is asked whether it has caught up.
const ASK: Duration = Duration::from_millis(5);

pub(super) async fn run<E: Event, C: Consumer<E>>(
    context: Context,
    bus: Arc<dyn Bus>,
    mut start: Start,
    mut gate: Option<Gate>,
    handling: Handling<E, C>,
) -> anyhow::Result<()> {
    let (topic, draining) = (E::TOPIC.default_name(), context.lifecycle.draining_at(Stage::Consuming));
    let mut delays = backoff();
    loop {
        let began = context.clock.now();
        let reading = tokio::select! {
            () = draining.cancelled() => return Ok(()),
            reading = bus.read(&[E::TOPIC], start) => reading,
        };
        let error = match reading {
            Ok(mut reader) => {
                delays = backoff();
                // Records of volatile topics are useful only when they are published: a second reader begins at the present.
                if !E::TOPIC.is_volatile() {
                    start = again(start, began);
                }
                match read(&context, &handling, &mut *reader, &mut gate).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            }
            Err(BusError::Settings(error)) => anyhow::bail!(error),
            Err(error) => error,
        };
        tracing::warn!(%error, topic, "reader failed; reopening");
        if !pause(&mut delays, &draining).await {
            return Ok(());
        }
    }
}

/// Where a second reader begins: where the first did, since partitions are not read in step and any of them may have been
/// far behind. Records that are handled twice change nothing.
fn again(start: Start, began: Timestamp) -> Start {
    /// Producers stamp records by clocks of their own.
    const SKEW: Duration = Duration::from_mins(1);
    match start {
        Start::Latest => Start::At(began.checked_sub(SKEW).unwrap_or(Timestamp::MIN)),
        start => start,
    }
}

/// Handles records until the service drains (`Ok`) or the reader is of no use any more.
async fn read<E: Event, C: Consumer<E>>(
    context: &Context,
    handling: &Handling<E, C>,
    reader: &mut dyn Reader,
    gate: &mut Option<Gate>,
) -> Result<(), BusError> {
    let draining = context.lifecycle.draining_at(Stage::Consuming);
    loop {
        if reader.caught_up()
            && let Some(gate) = gate.take()
        {
            gate.open();
        }
        let record = tokio::select! {
            biased;
            () = draining.cancelled() => return Ok(()),
            record = reader.next() => record?,
            () = tokio::time::sleep(ASK), if gate.is_some() => continue,
        };
        match handling.handle(&record).await {
            Outcome::Applied => {}
            Outcome::Rejected(reason) => tracing::error!(
                topic = E::TOPIC.default_name(),
                partition = record.partition,
                offset = record.offset,
                reason,
                "record rejected; reader skips it"
            ),
            Outcome::Interrupted => return Ok(()),
        }
    }
}
