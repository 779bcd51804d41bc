//! Answers to the orders of moderators.

use sosohappy_bus::consume::HandleError;
use sosohappy_bus::{Bus, BusError};
use sosohappy_common::{Account, Context};
use sosohappy_events::types::{ModerationApplied, ModerationOutcome};
use sosohappy_events::{Envelope, EventId};

/// Publishes `moderationApplied` for auth: what became of an order about content of that author. The record of the order is consumed after that:
/// the answer may come twice, but comes. A bus that refuses it (without the topic or the right to write it) does not stop later orders: the audit
/// keeps the state `ordered`.
///
/// # Errors
/// [`HandleError::Unavailable`] while the bus is unavailable.
pub async fn acknowledge_order(
    bus: &dyn Bus,
    context: &Context,
    author: &Account,
    order: EventId,
    outcome: ModerationOutcome,
) -> Result<(), HandleError> {
    let applied = ModerationApplied {
        author: author.clone(),
        service: context.service.to_owned(),
        order,
        decision: None,
        outcome: Some(outcome),
    };
    match bus.publish(&[Envelope::new(applied, context).to_outgoing()]).await {
        Err(error @ BusError::Refused(_)) => {
            tracing::error!(%error, "moderationApplied not published");
            Ok(())
        }
        published => published.map_err(|error| HandleError::Unavailable(error.into())),
    }
}
