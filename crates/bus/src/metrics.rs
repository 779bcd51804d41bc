//! The metrics of events.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::{Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};
use sosohappy_common::Context;
use sosohappy_common::metrics::Metrics;

use sosohappy_events::Topic;

/// Seconds; most handlers write one row.
const HANDLING: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Of the consumers and readers of a service.
#[derive(Debug, Clone)]
pub(crate) struct Consuming {
    /// By topic, `kind` (`consumer`, `reader`) and `outcome` (`applied`, `malformed`, `newer-version`, `rejected`,
    /// `corrupt`, `unavailable`).
    pub events: IntCounterVec,
    pub seconds: HistogramVec,
    pub dead_letters: IntCounterVec,
    /// Dead letters that the bus took in no form.
    pub lost: IntCounterVec,
    pub lag: IntGaugeVec,
    /// Groups that this replica has been out of for too long.
    #[cfg_attr(
        not(feature = "kafka"),
        allow(dead_code, reason = "the journal's members are never out of a group")
    )]
    pub missing_groups: IntGauge,
    /// Topics that the service consumes in a group.
    pub groups: Arc<Mutex<BTreeSet<Topic>>>,
    /// Topics that this replica reads in full.
    pub readers: Arc<Mutex<BTreeSet<Topic>>>,
}

/// Of the relay of a service.
#[derive(Debug, Clone)]
pub(crate) struct Relaying {
    pub published: IntCounterVec,
    /// By `cause` (`commit`, `hint`, `poll`, `backlog`).
    pub reads: IntCounterVec,
    /// By `outcome` (`sent`, `failed`, `received`, `rejected`).
    pub hints: IntCounterVec,
    pub refused: IntCounterVec,
    pub quarantined: IntCounter,
    pub pending: IntGauge,
    pub oldest: Gauge,
    pub leading: IntGauge,
}

fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("static names are valid")
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect("a static name is valid")
}

impl Consuming {
    pub(crate) fn of(context: &Context) -> Self {
        context.metrics.shared(Self::declare)
    }

    fn declare(metrics: &Metrics) -> Self {
        let seconds = HistogramOpts::new(
            "events_handling_seconds",
            "Time from a record's arrival until it was applied or rejected, retries included",
        )
        .buckets(HANDLING.to_vec());
        let lag = Opts::new(
            "events_consumer_lag_records",
            "Records in the partitions of this replica's consumer that are not done",
        );
        Self {
            events: metrics.register(counter(
                "events_consumed_total",
                "Attempts to apply a consumed record, by outcome",
                &["topic", "kind", "outcome"],
            )),
            seconds: metrics.register(HistogramVec::new(seconds, &["topic", "kind"]).expect("static names are valid")),
            dead_letters: metrics.register(counter(
                "events_dead_letters_total",
                "Records sent to a dead-letter topic",
                &["topic"],
            )),
            lost: metrics.register(counter(
                "events_dead_letters_lost_total",
                "Dead letters that the bus refused even when they were cut",
                &["topic"],
            )),
            missing_groups: metrics.register(gauge(
                "events_consumer_groups_missing",
                "Consumer groups that this replica has been out of for more than 30 s",
            )),
            lag: metrics.register(IntGaugeVec::new(lag, &["topic"]).expect("static names are valid")),
            groups: Arc::default(),
            readers: Arc::default(),
        }
    }
}

impl Relaying {
    pub(crate) fn of(context: &Context) -> Self {
        context.metrics.shared(Self::declare)
    }

    fn declare(metrics: &Metrics) -> Self {
        let oldest = Gauge::new(
            "outbox_oldest_seconds",
            "Age of the oldest outbox record that is not published; 0 without the lease",
        );
        let reads = metrics.register(counter(
            "outbox_reads_total",
            "Reads of the outbox that found rows, by cause: a commit of this replica, a hint of another one, the poll, or rows that the read before found",
            &["cause"],
        ));
        let hints = metrics.register(counter(
            "outbox_hints_total",
            "Hints that the outbox has new rows, from replicas that commit to the one that leads, by outcome",
            &["outcome"],
        ));
        // Pre-creates every label value so that series start at 0.
        for cause in ["commit", "hint", "poll", "backlog"] {
            reads.with_label_values(&[cause]);
        }
        for outcome in ["sent", "failed", "received", "rejected"] {
            hints.with_label_values(&[outcome]);
        }
        Self {
            reads,
            hints,
            published: metrics.register(counter(
                "outbox_published_total",
                "Outbox records published",
                &["topic"],
            )),
            refused: metrics.register(counter(
                "outbox_refused_total",
                "Outbox records the bus refused for good",
                &["topic"],
            )),
            quarantined: metrics.register(
                IntCounter::new(
                    "outbox_quarantined_total",
                    "Outbox rows moved to quarantine because they could not be read",
                )
                .expect("a static name is valid"),
            ),
            pending: metrics.register(gauge(
                "outbox_pending_records",
                "Outbox records at the last read, at most a batch; 0 without the lease",
            )),
            oldest: metrics.register(oldest.expect("a static name is valid")),
            leading: metrics.register(gauge(
                "outbox_relay_leading",
                "Whether this replica holds the relay's lease",
            )),
        }
    }
}
