//! Follows the config service: messages of Spring Cloud Bus, and for those that were missed a look from time to time.
//!
//! A service handles a message as Spring's services do (spring-cloud-bus, `RefreshListener`, `EnvironmentChangeListener`,
//! `TraceListener`): act when it is meant and not its own, and acknowledge. Every look and every message ends in a
//! [`SettingsReport`], so that the config service can tell who runs on what.

mod destination;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus::{IntCounterVec, IntGauge, Opts};
use sosohappy_common::Context;
use sosohappy_common::settings::{Live, Refreshed, SettingsError};

use crate::consume::{Consumer, HandleError, spawn_listener};
use crate::{Bus, Start};
use sosohappy_events::types::{BusMessage, SettingsReport};
use sosohappy_events::{Envelope, Outgoing};

/// Reads the settings again on a message for this service, and every `poll`. Readiness does not wait for the bus.
pub fn spawn_refresh(context: &Context, bus: Arc<dyn Bus>, poll: Live<Duration>) {
    let follower = Follower {
        context: context.clone(),
        bus: bus.clone(),
        metrics: RefreshMetrics::of(context),
    };
    // The settings are of a moment before now: a message from now on is not missed, however long the bus takes.
    spawn_listener::<BusMessage>(context, bus, Start::At(context.clock.now()), follower.clone());
    context.lifecycle.spawn("settings", follower.look(poll));
}

#[derive(Debug, Clone)]
struct Follower {
    context: Context,
    bus: Arc<dyn Bus>,
    metrics: RefreshMetrics,
}

#[derive(Debug, Clone)]
struct RefreshMetrics {
    refreshes: IntCounterVec,
    refused: IntGauge,
    needs_restart: IntGauge,
}

#[async_trait]
impl Consumer<BusMessage> for Follower {
    async fn handle(&self, Envelope { event: message, .. }: Envelope<BusMessage>) -> Result<(), HandleError> {
        let destination = message.destination_service.as_deref();
        let acts = matches!(&*message.kind, BusMessage::REFRESH | BusMessage::ENVIRONMENT_CHANGE);
        if !acts || !destination::means(destination, &self.context) {
            return Ok(());
        }
        let report = if message.origin_service == *self.context.instance {
            None
        } else {
            let refreshed = match &*message.kind {
                BusMessage::ENVIRONMENT_CHANGE => self.context.settings.set(message.values()).await,
                _ => self.context.settings.refresh().await,
            };
            self.report(refreshed).await
        };
        let ack = Some(BusMessage::ack(&self.context, &message));
        self.tell(ack.into_iter().chain(report)).await;
        Ok(())
    }
}

impl Follower {
    /// Reports the settings that the service started with, and then polls for versions that no message announced.
    async fn look(self, poll: Live<Duration>) -> anyhow::Result<()> {
        let draining = self.context.lifecycle.draining();
        let started = SettingsReport {
            version: self.context.settings.version().await,
            ..SettingsReport::default()
        };
        let mut report = Some(BusMessage::report(&self.context, &started));
        loop {
            self.tell(report.into_iter()).await;
            tokio::select! {
                () = draining.cancelled() => return Ok(()),
                () = tokio::time::sleep(*poll.get()) => {}
            }
            let refreshed = self.context.settings.refresh().await;
            report = self.report(refreshed).await;
        }
    }

    /// None when there are no settings to be refreshed.
    async fn report(&self, refreshed: Option<Result<Refreshed, SettingsError>>) -> Option<BusMessage> {
        let (outcome, report) = match refreshed? {
            Ok(refreshed) => {
                let outcome = if refreshed.changed.is_empty() {
                    "unchanged"
                } else {
                    "applied"
                };
                self.metrics
                    .needs_restart
                    .set(i64::try_from(refreshed.needs_restart.len()).unwrap_or(i64::MAX));
                let report = SettingsReport {
                    version: refreshed.version,
                    needs_restart: refreshed.needs_restart,
                    refused: None,
                    health: Some(self.health().await),
                    flags: self.context.settings.flags().take_evaluated(),
                };
                (outcome, report)
            }
            Err(error) => {
                let report = SettingsReport {
                    version: self.context.settings.version().await,
                    needs_restart: Vec::new(),
                    refused: Some(error.to_string()),
                    health: Some(self.health().await),
                    flags: self.context.settings.flags().take_evaluated(),
                };
                ("refused", report)
            }
        };
        self.metrics.refreshes.with_label_values(&[outcome]).inc();
        self.metrics.refused.set(i64::from(report.refused.is_some()));
        Some(BusMessage::report(&self.context, &report))
    }

    /// `UP`, or what is wrong, without the reasons: they are for operators.
    async fn health(&self) -> String {
        let report = self.context.health.report().await;
        let failed = report.0.iter().filter(|(_, checked)| checked.is_err());
        let failed: Vec<_> = failed.map(|(name, _)| *name).collect();
        if !failed.is_empty() {
            format!("DOWN: {}", failed.join(", "))
        } else if self.context.lifecycle.readiness().ready {
            "UP".to_owned()
        } else {
            "OUT_OF_SERVICE".to_owned()
        }
    }

    async fn tell(&self, messages: impl Iterator<Item = BusMessage>) {
        let records: Vec<Outgoing> = messages
            .map(|message| Envelope::new(message, &self.context).to_outgoing())
            .collect();
        // A lost report does no harm: the next one contains the same.
        if let Err(error) = self.bus.publish_reports(&records).await {
            tracing::warn!(%error, "failed to publish settings report");
        }
    }
}

impl RefreshMetrics {
    fn of(context: &Context) -> Self {
        let refreshes = Opts::new(
            "settings_refreshes_total",
            "Times the settings were read again, by outcome",
        );
        let gauge = |name, help| IntGauge::new(name, help).expect("a static name is valid");
        let metrics = &context.metrics;
        let refreshes = metrics.register(IntCounterVec::new(refreshes, &["outcome"]).expect("a static name is valid"));
        // Pre-creates every label value so that series start at 0.
        for outcome in ["applied", "unchanged", "refused"] {
            refreshes.with_label_values(&[outcome]);
        }
        Self {
            refreshes,
            refused: metrics.register(gauge(
                "settings_refused",
                "Whether the newest settings were refused and the older ones are in effect",
            )),
            needs_restart: metrics.register(gauge(
                "settings_needing_restart",
                "Changed keys that take effect with the next start",
            )),
        }
    }
}
