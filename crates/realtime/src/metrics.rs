//! The sockets' metrics, declared once a service.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts};
use sosohappy_common::metrics::Metrics;

use crate::close::Close;

#[derive(Debug, Clone)]
pub(crate) struct SocketMetrics {
    pub open: IntGauge,
    pub opened: IntCounter,
    closed: IntCounterVec,
    refused: IntCounterVec,
    pub frames_in: IntCounter,
    pub frames_out: IntCounter,
    pub frames_limited: IntCounter,
    /// After a signal that something was stored.
    pub reads: IntCounter,
}

impl SocketMetrics {
    pub fn register(metrics: &Metrics) -> Self {
        let counters = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name, help), &[label]).expect("a static metric is valid")
        };
        let frames = metrics.register(counters(
            "sosohappy_socket_frames_total",
            "Text frames by direction, in or out.",
            "direction",
        ));
        let closed = metrics.register(counters(
            "sosohappy_sockets_closed_total",
            "Sockets that ended, by reason; `gone` without a closing.",
            "reason",
        ));
        let refused = metrics.register(counters(
            "sosohappy_sockets_refused_total",
            "Handshakes that were closed at once, by reason.",
            "reason",
        ));
        // Pre-creates every label value so that series start at 0.
        for reason in Close::ALL.map(Close::label) {
            closed.with_label_values(&[reason]);
            refused.with_label_values(&[reason]);
        }
        Self {
            open: metrics.register(
                IntGauge::new("sosohappy_sockets_open", "Sockets open now.").expect("a static metric is valid"),
            ),
            opened: metrics.register(
                IntCounter::new("sosohappy_sockets_opened_total", "Sockets that were opened.")
                    .expect("a static metric is valid"),
            ),
            closed,
            refused,
            frames_in: frames.with_label_values(&["in"]),
            frames_out: frames.with_label_values(&["out"]),
            frames_limited: metrics.register(
                IntCounter::new(
                    "sosohappy_socket_frames_limited_total",
                    "Text frames from clients over the rate limit of their account.",
                )
                .expect("a static metric is valid"),
            ),
            reads: metrics.register(
                IntCounter::new(
                    "sosohappy_socket_reads_total",
                    "Reads of the store for what a record has announced, each for all version 2 sockets of an account. A frame that came with its record is not read.",
                )
                .expect("a static metric is valid"),
            ),
        }
    }

    pub fn closed(&self, reason: &str) {
        self.closed.with_label_values(&[reason]).inc();
    }

    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }
}
