//! The loop of a reader of every record.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_common::Context;
use sosohappy_common::lifecycle::{Gate, Stage};

use super::Consumer;
use super::handling::{Handling, Outcome, Spans, backoff, pause};
use crate::{Bus, BusError, Reader, Start};
use sosohappy_events::{Event, Record};

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
        let has_caught_up = reader.caught_up();
        if has_caught_up && let Some(gate) = gate.take() {
            gate.open();
        }
        let records = tokio::select! {
            biased;
            () = draining.cancelled() => return Ok(()),
            records = reader.next_batch(C::MOST_AT_ONCE) => records?,
            () = tokio::time::sleep(ASK), if gate.is_some() => continue,
        };
        let spans = if has_caught_up { Spans::Each } else { Spans::Together };
        if apply(handling, &records, spans).await.is_break() {
            return Ok(());
        }
        // Records that are read ahead are no reason to wait: without this no other task of this thread runs until all are applied.
        if records.len() > 1 {
            tokio::task::yield_now().await;
        }
    }
}

/// Applies records together, or each by itself: where there is only one, or where one of them could not be applied with the others. `Break` when
/// the service drains before all are applied.
async fn apply<E: Event, C: Consumer<E>>(
    handling: &Handling<E, C>,
    records: &[Record],
    spans: Spans,
) -> ControlFlow<()> {
    let topic = E::TOPIC.default_name();
    if records.len() > 1 {
        match handling.handle_together(records, spans).await {
            Ok(()) => return ControlFlow::Continue(()),
            Err(error) => {
                tracing::debug!(%error, topic, records = records.len(), "records not applied together; applying each");
            }
        }
    }
    for record in records {
        match handling.handle(record).await {
            Outcome::Applied => {}
            Outcome::Rejected(reason) => tracing::error!(
                topic,
                partition = record.partition,
                offset = record.offset,
                reason,
                "record rejected; reader skips it"
            ),
            Outcome::Interrupted => return ControlFlow::Break(()),
        }
    }
    ControlFlow::Continue(())
}
