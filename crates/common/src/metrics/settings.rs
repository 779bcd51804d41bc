use prometheus::{IntCounterVec, IntGauge, Opts};

use super::Metrics;

/// Which settings a replica runs on.
#[derive(Debug, Clone)]
pub(crate) struct SettingsMetrics {
    fingerprint: IntGauge,
    waiting: IntGauge,
    refreshes: IntCounterVec,
}

impl SettingsMetrics {
    pub fn register(metrics: &Metrics) -> Self {
        let gauge =
            |name: &str, help: &str| metrics.register(IntGauge::new(name, help).expect("a static metric is valid"));
        let refreshes = Opts::new(
            "settings_refreshes_total",
            "Times the settings were read again, by outcome: changed, same, failed (they stay as they were)",
        );
        let refreshes =
            metrics.register(IntCounterVec::new(refreshes, &["outcome"]).expect("a static metric is valid"));
        // All are there from the start, at nothing.
        for outcome in ["changed", "same", "failed"] {
            refreshes.with_label_values(&[outcome]);
        }
        Self {
            fingerprint: gauge(
                "settings_fingerprint",
                "Of what the config service answered; replicas of a service that show different ones run on different settings",
            ),
            waiting: gauge(
                "settings_waiting_for_restart",
                "Settings that have changed since the start and take effect with the next one",
            ),
            refreshes,
        }
    }

    /// The fingerprint has 48 bits: nothing is lost on its way into a gauge.
    pub fn runs_on(&self, fingerprint: u64, waiting: usize) {
        self.fingerprint.set(i64::try_from(fingerprint).unwrap_or(i64::MAX));
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    pub fn read_again(&self, changed: bool) {
        let outcome = if changed { "changed" } else { "same" };
        self.refreshes.with_label_values(&[outcome]).inc();
    }

    pub fn failed(&self) {
        self.refreshes.with_label_values(&["failed"]).inc();
    }
}
