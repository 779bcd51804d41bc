//! Metrics of notice beside those of requests and sockets.

use jiff::Timestamp;
use prometheus::{Gauge, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use sosohappy_bus::delivery::{DeliveryTimes, Hop};
use sosohappy_common::metrics::Metrics;

use crate::domain::{HANDLED, Kind};
use crate::store::PushQueue;

#[derive(Debug, Clone)]
pub struct NoticeMetrics {
    notices: IntCounterVec,
    pushes: IntCounterVec,
    waiting_pushes: IntGauge,
    push_overdue: Gauge,
    broken_credentials: IntGaugeVec,
    dropped_tokens: IntCounterVec,
    delivery: DeliveryTimes,
    looks: IntCounterVec,
    resume_lookups: IntCounterVec,
}

/// The outcome of a look for missed notices.
#[derive(Debug, Clone, Copy)]
pub enum Look {
    /// The inbox has nothing that was not written to the socket: it was not read.
    NothingNew,
    Read,
}

impl Look {
    const ALL: [Self; 2] = [Self::NothingNew, Self::Read];

    const fn label(self) -> &'static str {
        match self {
            Self::NothingNew => "nothing-new",
            Self::Read => "read",
        }
    }
}

/// The values of `by` of the lookups of opening sockets.
const LOOKUPS: [&str; 2] = ["statement", "joined"];

/// The outcome of a notice at one replica.
#[derive(Debug, Clone, Copy)]
pub enum Outcome {
    /// Queued on sockets of the receiver.
    Shown,
    /// Kept by the group's consumer.
    Kept,
    /// Delivered before, not shown again.
    Repeated,
    /// Withdrawn: the like was taken back, the follow ended, or the message was retracted.
    Withdrawn,
    /// A person in it resigned, it was withdrawn, or it is older than notices are kept.
    Over,
    /// The receiver switched off frames of its kind, or muted its post.
    Unwanted,
    /// The receiver and the actor are the same or in a block, or one of them is unknown.
    Nobody,
}

impl NoticeMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            metrics.register(IntCounterVec::new(Opts::new(name, help), labels).expect("a static metric is valid"))
        };
        let pushes = counter(
            "notice_pushes_total",
            "Pushes by kind (like, message, comment and other notices; handled removes banners) and outcome: sent, grouped (counted in another one), no-device, postponed, limited, quiet (deferred by quiet hours or at night), unwanted (off, muted, without consent or to a suspended account), refused, given-up",
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
        let waiting_pushes = IntGauge::new(
            "notice_pushes_waiting",
            "Pushes in the queue of all replicas, also those of quiet hours and later tries; counted up to 100,000",
        );
        let push_overdue = Gauge::new(
            "notice_push_overdue_seconds",
            "For how long the push that has been due for longest was not taken; 0 when none is due",
        );
        let dropped_tokens = counter(
            "notice_push_tokens_dropped_total",
            "Push tokens that a provider no longer takes, by reason: gone, foreign (of another sender or app)",
            &["reason"],
        );
        let looks = counter(
            "notice_looks_total",
            "Looks of version 2 sockets for missed notices, when they are opened and soon after, by outcome: nothing-new (the inbox was not read) or read",
            &["outcome"],
        );
        for look in Look::ALL {
            looks.with_label_values(&[look.label()]);
        }
        let resume_lookups = counter(
            "notice_resume_lookups_total",
            "Lookups of opening sockets (nickname, newest notice) by who made the statement: the lookup itself, or another one that it joined",
            &["by"],
        );
        for by in LOOKUPS {
            resume_lookups.with_label_values(&[by]);
        }
        for reason in ["gone", "foreign"] {
            dropped_tokens.with_label_values(&[reason]);
        }
        for provider in ["fcm", "apns"] {
            broken_credentials.with_label_values(&[provider]);
        }
        Self {
            delivery: DeliveryTimes::of(metrics),
            waiting_pushes: metrics.register(waiting_pushes.expect("a static metric is valid")),
            push_overdue: metrics.register(push_overdue.expect("a static metric is valid")),
            broken_credentials,
            dropped_tokens,
            notices: counter(
                "notices_total",
                "Notices by outcome: shown (on sockets here), kept, repeated, withdrawn, over, unwanted (off or muted), or for no receiver",
                &["outcome"],
            ),
            pushes,
            looks,
            resume_lookups,
        }
    }

    pub fn look(&self, look: Look) {
        self.looks.with_label_values(&[look.label()]).inc();
    }

    pub fn resume_lookup(&self, joined: bool) {
        self.resume_lookups
            .with_label_values(&[LOOKUPS[usize::from(joined)]])
            .inc();
    }

    pub fn notice(&self, outcome: Outcome) {
        self.notices(outcome, 1);
    }

    pub fn notices(&self, outcome: Outcome, times: usize) {
        let times = u64::try_from(times).unwrap_or(u64::MAX);
        let label = match outcome {
            Outcome::Shown => "shown",
            Outcome::Kept => "kept",
            Outcome::Repeated => "repeated",
            Outcome::Withdrawn => "withdrawn",
            Outcome::Over => "over",
            Outcome::Unwanted => "unwanted",
            Outcome::Nobody => "nobody",
        };
        self.notices.with_label_values(&[label]).inc_by(times);
    }

    /// Observes that a notice of that time has reached a hop.
    pub fn reached(&self, hop: Hop, since: Timestamp, now: Timestamp) {
        self.delivery.reached(hop, since, now);
    }

    /// Sets the gauges of the queue of pushes.
    pub fn queued(&self, queue: PushQueue, now: Timestamp) {
        self.waiting_pushes
            .set(i64::try_from(queue.waiting).unwrap_or(i64::MAX));
        let overdue = queue.first_due.map_or(0.0, |due| now.duration_since(due).as_secs_f64());
        self.push_overdue.set(overdue.max(0.0));
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
