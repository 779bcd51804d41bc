//! Metrics of notice beside those of requests and sockets.

use jiff::Timestamp;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use sosohappy_common::metrics::Metrics;

use crate::domain::{HANDLED, Kind};

#[derive(Debug, Clone)]
pub struct NoticeMetrics {
    notices: IntCounterVec,
    pushes: IntCounterVec,
    broken_credentials: IntGaugeVec,
    dropped_tokens: IntCounterVec,
    delivery: HistogramVec,
}

/// The outcome of a notice at one replica.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// Queued on sockets of the receiver.
    Shown,
    /// Kept by the group's consumer.
    Kept,
    /// Delivered before, not shown again.
    Repeated,
    /// The like was taken back, or the follow ended.
    Withdrawn,
    /// A person in it resigned, it was withdrawn, or it is older than notices are kept.
    Over,
    /// The receiver switched off frames of its kind, or muted its post.
    Unwanted,
    /// The receiver and the actor are the same or in a block, or one of them is unknown.
    Nobody,
}

/// A point on the way of a notice or message. Each is measured from the moment at which it happened, so that a hop's share is the difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// A replica with a socket of the receiver has read the record.
    Consumed,
    /// Its frame is queued for a socket, or was read from the inbox for one.
    Queued,
    /// The first client acknowledged it, or gave a sign of life after it.
    Acknowledged,
    /// A provider accepted the push for a device; with the time that pushes wait for sockets and are collected.
    Pushed,
}

impl Hop {
    const ALL: [Self; 4] = [Self::Consumed, Self::Queued, Self::Acknowledged, Self::Pushed];

    const fn label(self) -> &'static str {
        match self {
            Self::Consumed => "consumed",
            Self::Queued => "queued",
            Self::Acknowledged => "acknowledged",
            Self::Pushed => "pushed",
        }
    }
}

impl NoticeMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            metrics.register(IntCounterVec::new(Opts::new(name, help), labels).expect("a static metric is valid"))
        };
        let pushes = counter(
            "notice_pushes_total",
            "Pushes by kind (like, message, comment and other notices; handled removes banners) and outcome: sent, grouped (counted in another one), no-device, postponed, limited, quiet (deferred by quiet hours or at night), unwanted (off, muted or without consent), refused, given-up",
            &["kind", "outcome"],
        );
        // Pre-creates every label value so that series start at 0.
        for kind in Kind::ALL.into_iter().map(Kind::as_str).chain([HANDLED]) {
            for outcome in [
                "sent",
                "grouped",
                "no-device",
                "postponed",
                "limited",
                "quiet",
                "unwanted",
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
        let delivery = HistogramOpts::new(
            "notice_delivery_seconds",
            "From what happened to each point of its way to the receiver, by hop: consumed, queued, acknowledged, pushed",
        )
        .buckets(vec![0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0]);
        let delivery = metrics.register(HistogramVec::new(delivery, &["hop"]).expect("a static metric is valid"));
        for hop in Hop::ALL {
            delivery.with_label_values(&[hop.label()]);
        }
        Self {
            delivery,
            broken_credentials,
            dropped_tokens,
            notices: counter(
                "notices_total",
                "Notices by outcome: shown (on sockets here), kept, repeated, withdrawn, over, unwanted (off or muted), nobody",
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
            Outcome::Unwanted => "unwanted",
            Outcome::Nobody => "nobody",
        };
        self.notices.with_label_values(&[label]).inc();
    }

    /// Observes that a notice or message of that time has reached a hop.
    pub fn reached(&self, hop: Hop, since: Timestamp, now: Timestamp) {
        let seconds = now.duration_since(since).as_secs_f64().max(0.0);
        self.delivery.with_label_values(&[hop.label()]).observe(seconds);
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
