//! What the config service counts.

use prometheus::{IntCounter, IntGauge};
use sosohappy_common::metrics::Metrics;

#[derive(Debug, Clone)]
pub struct SourceMetrics {
    pub refused: IntCounter,
    pub away: IntGauge,
}

impl SourceMetrics {
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let refused = IntCounter::new(
            "config_refused_versions_total",
            "Versions of the configuration that were not published because they are wrong",
        );
        let away = IntGauge::new("config_source_away", "1 while the source cannot be read");
        Self {
            refused: metrics.register(refused.expect("a static name is valid")),
            away: metrics.register(away.expect("a static name is valid")),
        }
    }
}
