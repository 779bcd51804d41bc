//! What notice counts beside requests and sockets.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts};
use sosohappy_common::metrics::Metrics;

#[derive(Debug, Clone)]
pub struct NoticeMetrics {
    notices: IntCounterVec,
    pushes: IntCounterVec,
    broken_credentials: IntGaugeVec,
    dropped_tokens: IntCounterVec,
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
    /// The like was taken back, or the follow ended.
    Withdrawn,
    /// Somebody in it resigned since, it was taken back, or it is older than notices are kept.
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
            "Pushes by kind (like, message) and outcome: sent, grouped (counted in another one), no-device, postponed, limited, refused, given-up",
            &["kind", "outcome"],
        );
        // All are there from the start, at nothing.
        for kind in ["like", "message"] {
            for outcome in [
                "sent",
                "grouped",
                "no-device",
                "postponed",
                "limited",
                "refused",
                "given-up",
            ] {
                pushes.with_label_values(&[kind, outcome]);
            }
        }
        let broken = Opts::new(
            "notice_push_credential_broken",
            "1 while the provider (fcm, apns) does not accept our credential",
        );
        let broken_credentials =
            metrics.register(IntGaugeVec::new(broken, &["provider"]).expect("a static metric is valid"));
        let dropped_tokens = counter(
            "notice_push_tokens_dropped_total",
            "Push tokens that a provider no longer takes, by reason: gone, foreign (of another sender or app)",
            &["reason"],
        );
        for reason in ["gone", "foreign"] {
            dropped_tokens.with_label_values(&[reason]);
        }
        for provider in ["fcm", "apns"] {
            broken_credentials.with_label_values(&[provider]);
        }
        Self {
            broken_credentials,
            dropped_tokens,
            notices: counter(
                "notices_total",
                "Notices by what became of them: shown (on sockets here), kept, repeated, withdrawn, over, nobody",
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
            Outcome::Withdrawn => "withdrawn",
            Outcome::Over => "over",
            Outcome::Nobody => "nobody",
        };
        self.notices.with_label_values(&[label]).inc();
    }

    pub fn broken_credential(&self, provider: &str) -> IntGauge {
        self.broken_credentials.with_label_values(&[provider])
    }

    pub fn dropped_token(&self, reason: &str) {
        self.dropped_tokens.with_label_values(&[reason]).inc();
    }

    pub fn push(&self, kind: &str, outcome: &str) {
        self.pushes.with_label_values(&[kind, outcome]).inc();
    }

    /// Counts pushes that were sent as part of another one.
    pub fn grouped(&self, kind: &str, pushes: usize) {
        let pushes = u64::try_from(pushes).unwrap_or(u64::MAX);
        self.pushes.with_label_values(&[kind, "grouped"]).inc_by(pushes);
    }
}
