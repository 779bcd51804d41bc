//! Publishes refresh events and values on `configBus`, and states of canaries on `configCanary`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use sosohappy_bus::{Bus, BusError};
use sosohappy_common::Context;
use sosohappy_events::types::{BusMessage, CanaryUpdate, CanaryUpdated, SettingsReport};
use sosohappy_events::{Envelope, Event};
use tokio::sync::Notify;

use crate::domain::canary::Canary;

const PAUSE: Duration = Duration::from_secs(1);

/// Everyone.
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

    /// Tells everyone to read their settings again: soon, or when the bus is back.
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

    /// Asks the other replicas of config to publish the version that `canary.hold` keeps back.
    pub async fn publish_held_version(&self) -> Result<(), BusError> {
        let update = CanaryUpdate::PublishHeldVersion;
        self.publish(vec![CanaryUpdated::new(&self.context, update)]).await
    }

    /// Publishes which flags were evaluated here.
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

    /// Sends what [`Announcer::refresh_all_soon`] asks for. Readiness does not wait for the bus.
    pub fn spawn(&self) {
        let announcer = self.clone();
        let draining = self.context.lifecycle.draining();
        self.context.lifecycle.spawn("config-announcer", async move {
            let mut told = true;
            loop {
                let next = async {
                    if told {
                        announcer.pending.notified().await;
                    } else {
                        tokio::time::sleep(PAUSE).await;
                    }
                };
                if draining.run_until_cancelled(next).await.is_none() {
                    return Ok(());
                }
                match announcer.refresh([ALL]).await {
                    Ok(()) => told = true,
                    Err(error) => {
                        if told {
                            tracing::warn!(%error, "publishing refresh event failed; retrying");
                        }
                        told = false;
                    }
                }
            }
        });
    }
}

/// As Spring completes what it is asked for: with at most one colon, and unless it ends so, everything below is meant.
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
        for (asked, complete_one) in [
            ("", "**"),
            ("**", "**"),
            ("*", "*:**"),
            ("feed-config", "feed-config:**"),
            ("feed-service:8891", "feed-service:8891:**"),
            ("feed-service:**", "feed-service:**"),
            ("feed-service:8891:abc", "feed-service:8891:abc"),
        ] {
            assert_eq!(complete(asked), complete_one, "{asked}");
        }
    }
}
