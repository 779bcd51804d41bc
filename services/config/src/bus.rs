//! Publishes refresh events and values on `configBus`, and canary states on `configCanary`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use sosohappy_bus::{Bus, BusError};
use sosohappy_common::Context;
use sosohappy_events::types::{BusMessage, CanaryUpdate, CanaryUpdated, SettingsReport};
use sosohappy_events::{Envelope, Event};
use tokio::sync::Notify;

use crate::domain::canary::Canary;

/// Pause before a failed refresh event is retried.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The destination of all instances.
pub const ALL: &str = "**";

#[derive(Debug, Clone)]
pub struct Announcer {
    bus: Arc<dyn Bus>,
    context: Context,
    pending: Arc<Notify>,
}

impl Announcer {
    #[must_use]
    pub fn new(bus: Arc<dyn Bus>, context: Context) -> Self {
        Self {
            bus,
            context,
            pending: Arc::default(),
        }
    }

    /// Requests a refresh event to all instances, which [`Announcer::spawn`] publishes and retries.
    pub fn refresh_all_soon(&self) {
        self.pending.notify_one();
    }

    pub async fn refresh<'a>(&self, destinations: impl IntoIterator<Item = &'a str>) -> Result<(), BusError> {
        let destinations = destinations.into_iter().map(complete);
        let messages = destinations.map(|destination| BusMessage::refresh(&self.context, &destination));
        self.publish(messages.collect()).await
    }

    pub async fn environment(&self, destination: &str, name: &str, value: &str) -> Result<(), BusError> {
        let values = Map::from_iter([(name.to_owned(), Value::from(value))]);
        let message = BusMessage::environment_change(&self.context, &complete(destination), values);
        self.publish(vec![message]).await
    }

    /// Publishes the state of a canary to the other replicas of config.
    pub async fn canary(&self, canary: &Canary) -> Result<(), BusError> {
        let canary = serde_json::to_value(canary).expect("a canary is made of strings and numbers");
        let update = CanaryUpdate::State { canary };
        self.publish(vec![CanaryUpdated::new(&self.context, update)]).await
    }

    /// Requests that the other replicas of config publish the version held back by `canary.hold`.
    pub async fn publish_held_version(&self) -> Result<(), BusError> {
        let update = CanaryUpdate::PublishHeldVersion;
        self.publish(vec![CanaryUpdated::new(&self.context, update)]).await
    }

    /// Publishes the names of flags that this replica has evaluated.
    pub async fn flags(&self, flags: Vec<String>) -> Result<(), BusError> {
        let report = SettingsReport {
            flags,
            ..SettingsReport::default()
        };
        self.publish(vec![BusMessage::report(&self.context, &report)]).await
    }

    async fn publish<E: Event>(&self, events: Vec<E>) -> Result<(), BusError> {
        let records: Vec<_> = events
            .into_iter()
            .map(|event| Envelope::new(event, &self.context).to_outgoing())
            .collect();
        self.bus.publish_reports(&records).await
    }

    /// Publishes the events that [`Announcer::refresh_all_soon`] requests. Readiness does not depend on the bus.
    pub fn spawn(&self) {
        let announcer = self.clone();
        let draining = self.context.lifecycle.draining();
        self.context.lifecycle.spawn("config-announcer", async move {
            // False while an event is to be retried; only the first failure of a row is logged.
            let mut is_published = true;
            loop {
                let next = async {
                    if is_published {
                        announcer.pending.notified().await;
                    } else {
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                };
                if draining.run_until_cancelled(next).await.is_none() {
                    return Ok(());
                }
                match announcer.refresh([ALL]).await {
                    Ok(()) => is_published = true,
                    Err(error) => {
                        if is_published {
                            tracing::warn!(%error, "publishing refresh event failed; retrying");
                        }
                        is_published = false;
                    }
                }
            }
        });
    }
}

/// Completes a destination as Spring does: `:**` is appended to one with at most one colon that does not end with it.
fn complete(destination: &str) -> String {
    let destination = destination.trim();
    if destination.is_empty() || destination == ALL {
        ALL.to_owned()
    } else if destination.matches(':').count() <= 1 && !destination.ends_with(":**") {
        format!("{destination}:**")
    } else {
        destination.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_completed_as_spring_does() {
        for (destination, expected) in [
            ("", "**"),
            ("**", "**"),
            ("*", "*:**"),
            ("feed-config", "feed-config:**"),
            ("feed-service:8891", "feed-service:8891:**"),
            ("feed-service:**", "feed-service:**"),
            ("feed-service:8891:abc", "feed-service:8891:abc"),
        ] {
            assert_eq!(complete(destination), expected, "{destination}");
        }
    }
}
