use prometheus::{IntCounterVec, IntGauge, Opts};

use super::Metrics;
use crate::settings::Refreshed;

/// What becomes of changed settings in a replica.
#[derive(Debug, Clone)]
pub(crate) struct SettingsMetrics {
    waiting: IntGauge,
    refreshes: IntCounterVec,
}

impl SettingsMetrics {
    pub fn register(metrics: &Metrics) -> Self {
        let waiting = IntGauge::new(
            "settings_waiting_for_restart",
            "Settings that have changed since the start and take effect with the next one",
        );
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
            waiting: metrics.register(waiting.expect("a static metric is valid")),
            refreshes,
        }
    }

    /// None for settings that could not be read.
    pub fn read_again(&self, refreshed: Option<&Refreshed>) {
        let outcome = match refreshed {
            Some(refreshed) if refreshed.changed.is_empty() => "same",
            Some(_) => "changed",
            None => "failed",
        };
        self.refreshes.with_label_values(&[outcome]).inc();
        if let Some(refreshed) = refreshed {
            self.waiting
                .set(i64::try_from(refreshed.needs_restart.len()).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_stays_until_it_is_taken_back() {
        let metrics = Metrics::new("feed-service");
        let settings = SettingsMetrics::register(&metrics);
        let refreshed = Refreshed {
            changed: vec!["server.port".to_owned()],
            needs_restart: vec!["server.port".to_owned()],
            ..Refreshed::default()
        };
        settings.read_again(Some(&refreshed));
        settings.read_again(None);
        let text = metrics.render();
        assert!(
            text.contains("settings_waiting_for_restart{application=\"feed-service\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("settings_refreshes_total{application=\"feed-service\",outcome=\"failed\"} 1"),
            "{text}"
        );
        settings.read_again(Some(&Refreshed::default()));
        let text = metrics.render();
        assert!(
            text.contains("settings_waiting_for_restart{application=\"feed-service\"} 0"),
            "{text}"
        );
    }
}
