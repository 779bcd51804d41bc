//! Metrics of the configuration source.

use prometheus::{IntCounter, IntGauge};
use sosohappy_common::metrics::Metrics;

#[derive(Debug, Clone)]
pub struct SourceMetrics {
    pub refused: IntCounter,
    pub unavailable: IntGauge,
}

impl SourceMetrics {
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let refused = IntCounter::new(
            "config_refused_versions_total",
            "Configuration versions that were refused by the checks",
        );
        let unavailable = IntGauge::new("config_source_away", "1 while the configuration source is unavailable");
        Self {
            refused: metrics.register(refused.expect("a static name is valid")),
            unavailable: metrics.register(unavailable.expect("a static name is valid")),
        }
    }
}
