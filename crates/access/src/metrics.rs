//! Metrics of the registry, the heartbeats and the client of auth.

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};
use sosohappy_common::metrics::Metrics;

/// The token registry of one service.
#[derive(Debug, Clone)]
pub struct RegistryMetrics {
    pub tokens: IntGauge,
    pub hits: IntCounter,
    pub misses: IntCounter,
    pub refused: IntCounter,
}

impl RegistryMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let tokens = IntGauge::new(
            "access_registry_tokens",
            "Access tokens in the registry of this replica",
        )
        .expect("a static metric is valid");
        let lookups = counter(
            "access_registry_lookups_total",
            "Access checks by result of the registry: hit, miss (auth is asked), refused (expired or revoked)",
            "outcome",
        );
        let lookups = metrics.register(lookups);
        Self {
            tokens: metrics.register(tokens),
            hits: lookups.with_label_values(&["hit"]),
            misses: lookups.with_label_values(&["miss"]),
            refused: lookups.with_label_values(&["refused"]),
        }
    }
}

/// Heartbeats of auth's relay.
#[derive(Debug, Clone)]
pub struct HeartbeatMetrics {
    pub age: Gauge,
}

impl HeartbeatMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let age = Gauge::new(
            "access_heartbeat_age_seconds",
            "Time since the last heartbeat of auth's relay, or since the start before the first; without one auth is asked again about known tokens",
        );
        Self {
            age: metrics.register(age.expect("a static metric is valid")),
        }
    }
}

/// Calls to auth.
#[derive(Debug, Clone)]
pub struct AuthMetrics {
    /// By `outcome`: active, inactive, unavailable.
    pub introspections: IntCounterVec,
    /// By `outcome`: active, inactive, unsupported, unavailable.
    pub confirmations: IntCounterVec,
    /// By `outcome`: found, unknown, unavailable.
    pub lookups: IntCounterVec,
    /// By `outcome`: answered, unavailable.
    pub muted_words: IntCounterVec,
    pub seconds: Histogram,
    /// Calls that were not made because auth does not answer.
    pub rejected: IntCounter,
}

impl AuthMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let seconds = HistogramOpts::new(
            "access_auth_call_seconds",
            "Introspection and look-up calls to auth, in seconds",
        )
        .buckets(vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5]);
        let rejected = IntCounter::new(
            "access_auth_calls_rejected_total",
            "Calls to auth that the circuit breaker held back",
        )
        .expect("a static metric is valid");
        let introspections = metrics.register(counter(
            "access_introspections_total",
            "Tokens asked of auth by outcome: active, inactive, unavailable",
            "outcome",
        ));
        let lookups = metrics.register(counter(
            "access_name_lookups_total",
            "Names asked of auth by outcome: found, unknown, unavailable",
            "outcome",
        ));
        let confirmations = metrics.register(counter(
            "access_confirmations_total",
            "Known tokens asked of auth again while heartbeats were missing, by outcome: active, inactive (revoked), unsupported, unavailable",
            "outcome",
        ));
        let muted_words = metrics.register(counter(
            "access_muted_words_calls_total",
            "Muted words asked of auth by outcome: answered, unavailable (the last answer is used, or none)",
            "outcome",
        ));
        // Pre-creates every label value so that series start at 0.
        for outcome in ["active", "inactive", "unavailable"] {
            introspections.with_label_values(&[outcome]);
        }
        for outcome in ["active", "inactive", "unsupported", "unavailable"] {
            confirmations.with_label_values(&[outcome]);
        }
        for outcome in ["found", "unknown", "unavailable"] {
            lookups.with_label_values(&[outcome]);
        }
        for outcome in ["answered", "unavailable"] {
            muted_words.with_label_values(&[outcome]);
        }
        Self {
            introspections,
            confirmations,
            lookups,
            muted_words,
            seconds: metrics.register(Histogram::with_opts(seconds).expect("a static metric is valid")),
            rejected: metrics.register(rejected),
        }
    }
}

fn counter(name: &str, help: &str, label: &str) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), &[label]).expect("a static metric is valid")
}
