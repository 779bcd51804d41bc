//! The metrics of dm beside requests and sockets.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts};
use sosohappy_common::metrics::Metrics;

use crate::refusal::Refusal;

#[derive(Debug, Clone)]
pub struct DmMetrics {
    pub stored: IntCounter,
    refused: IntCounterVec,
    pub shown: IntCounter,
    pub repeated: IntCounter,
    pub resent: IntCounter,
    pub quarantined: IntCounter,
    /// Seconds.
    pub delivery: Histogram,
}

impl DmMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let counter = |name: &str, help: &str| {
            metrics.register(IntCounter::new(name, help).expect("a static metric name is valid"))
        };
        let refused = Opts::new(
            "dm_messages_refused_total",
            "Messages that were answered with an error frame, by its code",
        );
        let delivery = HistogramOpts::new(
            "dm_delivery_seconds",
            "From a message's storing to its queueing on a socket here",
        )
        .buckets(vec![0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0]);
        let refused = metrics.register(IntCounterVec::new(refused, &["code"]).expect("static label names are valid"));
        // Pre-creates every label value so that series start at 0.
        for refusal in Refusal::ALL {
            refused.with_label_values(&[refusal.code()]);
        }
        Self {
            stored: counter("dm_messages_stored_total", "Messages that were stored"),
            refused,
            shown: counter(
                "dm_messages_shown_total",
                "Messages that a socket of their receiver here has shown: the client gave a sign of life after the frame",
            ),
            repeated: counter(
                "dm_messages_repeated_total",
                "Records that were read again and not shown again",
            ),
            resent: counter(
                "dm_messages_resent_total",
                "Frames that were not stored because the same message was stored within the last ten minutes",
            ),
            quarantined: counter(
                "dm_scheduled_messages_quarantined_total",
                "Scheduled messages whose rows could not be decoded: they are kept and not sent",
            ),
            delivery: metrics.register(Histogram::with_opts(delivery).expect("static buckets are valid")),
        }
    }

    pub fn refused(&self, refusal: Refusal) {
        self.refused.with_label_values(&[refusal.code()]).inc();
    }
}
