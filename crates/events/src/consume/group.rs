//! The loop of a group's member.

use std::sync::Arc;

use sosohappy_common::Context;

use super::Consumer;
use super::handling::{Handling, Outcome, backoff, pause};
use crate::bus::Member;
use crate::{Bus, BusError, Event, Record};

pub(super) async fn run<E: Event, C: Consumer<E>>(
    context: Context,
    bus: Arc<dyn Bus>,
    handling: Handling<E, C>,
) -> anyhow::Result<()> {
    let (topic, draining) = (E::TOPIC.default_name(), context.lifecycle.draining());
    let group = format!("{}.{topic}", context.service);
    // There from the start, at nothing.
    handling.metrics.dead_letters.with_label_values(&[topic]);
    let mut delays = backoff();
    loop {
        let joined = tokio::select! {
            () = draining.cancelled() => return Ok(()),
            joined = bus.join(&group, &[E::TOPIC]) => joined,
        };
        let error = match joined {
            Ok(mut member) => {
                member.observe(handling.metrics.lag.with_label_values(&[topic]));
                delays = backoff();
                let ended = consume(&context, &handling, &mut *member).await;
                member.leave().await;
                match ended {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                }
            }
            Err(BusError::Settings(error)) => anyhow::bail!(error),
            Err(error) => error,
        };
        tracing::warn!(%error, topic, "consuming begins again");
        if !pause(&mut delays, &draining).await {
            return Ok(());
        }
    }
}

/// Handles records until the service drains (`Ok`) or the member is of no use any more.
async fn consume<E: Event, C: Consumer<E>>(
    context: &Context,
    handling: &Handling<E, C>,
    member: &mut dyn Member,
) -> Result<(), BusError> {
    let draining = context.lifecycle.draining();
    loop {
        let record = tokio::select! {
            biased;
            () = draining.cancelled() => return Ok(()),
            record = member.next() => record?,
        };
        match handling.handle(&record).await {
            Outcome::Applied => {}
            Outcome::Hopeless(reason) => {
                if !bury(context, handling, member, &record, &reason).await {
                    return Ok(());
                }
            }
            Outcome::Undone => return Ok(()),
        }
        member.done(&record).await?;
    }
}

/// False when the service drains before the bus has taken the dead letter.
async fn bury<E: Event, C: Consumer<E>>(
    context: &Context,
    handling: &Handling<E, C>,
    member: &mut dyn Member,
    record: &Record,
    reason: &str,
) -> bool {
    let (topic, draining) = (E::TOPIC.default_name(), context.lifecycle.draining());
    tracing::error!(
        topic,
        partition = record.partition,
        offset = record.offset,
        reason,
        "a record goes to the dead letters"
    );
    let mut delays = backoff();
    loop {
        let sent = tokio::select! {
            () = draining.cancelled() => return false,
            sent = member.dead_letter(record, reason) => sent,
        };
        match sent {
            Ok(()) => {
                handling.metrics.dead_letters.with_label_values(&[topic]).inc();
                return true;
            }
            Err(error) => tracing::warn!(%error, topic, "the dead letter waits"),
        }
        if !pause(&mut delays, &draining).await {
            return false;
        }
    }
}
