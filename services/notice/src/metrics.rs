//! What notice counts beside requests and sockets.

use prometheus::{IntCounterVec, Opts};
use sosohappy_common::metrics::Metrics;

#[derive(Debug, Clone)]
pub struct NoticeMetrics {
    notices: IntCounterVec,
    pushes: IntCounterVec,
}

/// What became of a notice at one replica.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// Queued on sockets of the receiver.
    Shown,
    /// Kept by the group's consumer.
    Kept,
    /// Told before, not shown again.
    Repeated,
    /// Somebody in it resigned since, or it is older than notices are kept.
    Over,
    /// The receiver and the actor are the same, or in a block, or one of them is nobody.
    Nobody,
}

impl NoticeMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            metrics.register(IntCounterVec::new(Opts::new(name, help), labels).expect("a static metric is valid"))
        };
        let pushes = counter(
            "notice_pushes_total",
            "Pushes by kind (like, message) and outcome: sent, no-device, postponed, refused, given-up",
            &["kind", "outcome"],
        );
        // All are there from the start, at nothing.
        for kind in ["like", "message"] {
            for outcome in ["sent", "no-device", "postponed", "refused", "given-up"] {
                pushes.with_label_values(&[kind, outcome]);
            }
        }
        Self {
            notices: counter(
                "notices_total",
                "Notices by what became of them: shown (on sockets here), kept, repeated, over, nobody",
                &["outcome"],
            ),
            pushes,
        }
    }

    pub fn notice(&self, outcome: Outcome) {
        let label = match outcome {
            Outcome::Shown => "shown",
            Outcome::Kept => "kept",
            Outcome::Repeated => "repeated",
            Outcome::Over => "over",
            Outcome::Nobody => "nobody",
        };
        self.notices.with_label_values(&[label]).inc();
    }

    pub fn push(&self, kind: &str, outcome: &str) {
        self.pushes.with_label_values(&[kind, outcome]).inc();
    }
}
