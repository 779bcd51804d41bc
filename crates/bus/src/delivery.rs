//! The time that a notice takes from what happened to its receiver: one histogram over all services on its way.

use jiff::Timestamp;
use prometheus::{HistogramOpts, HistogramVec};
use sosohappy_common::metrics::Metrics;
use sosohappy_events::{Header, Outgoing, Topic};

/// Seconds.
const BUCKETS: [f64; 13] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// A point on the way of a notice. Each is measured from the event's `occurred-at`, which is stamped in the call that caused it, so that the
/// share of a hop is the difference to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// The event is committed together with the change, and the call is answered.
    Committed,
    /// The relay has published the event.
    Published,
    /// A replica with a socket of the receiver has read the record.
    Consumed,
    /// The frame is written to the connection of a client.
    Written,
    /// The first client acknowledged it, or gave a sign of life after it.
    Acknowledged,
    /// A provider accepted the push for a device; with the time that pushes wait for sockets and are collected.
    Pushed,
}

impl Hop {
    const ALL: [Self; 6] = [
        Self::Committed,
        Self::Published,
        Self::Consumed,
        Self::Written,
        Self::Acknowledged,
        Self::Pushed,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Published => "published",
            Self::Consumed => "consumed",
            Self::Written => "written",
            Self::Acknowledged => "acknowledged",
            Self::Pushed => "pushed",
        }
    }
}

/// The histogram of a service; clones share it.
#[derive(Debug, Clone)]
pub struct DeliveryTimes(HistogramVec);

impl DeliveryTimes {
    #[must_use]
    pub fn of(metrics: &Metrics) -> Self {
        metrics.shared(|metrics| {
            let options = HistogramOpts::new(
                "notice_delivery_seconds",
                "From what happened to each point of its way to the receiver, by hop: committed, published, consumed, written, acknowledged, pushed",
            )
            .buckets(BUCKETS.to_vec());
            let histogram = HistogramVec::new(options, &["hop"]).expect("a static metric is valid");
            let histogram = metrics.register(histogram);
            // Pre-creates every label value so that series start at 0.
            for hop in Hop::ALL {
                histogram.with_label_values(&[hop.label()]);
            }
            Self(histogram)
        })
    }

    /// Observes that a notice of that time has reached a hop.
    pub fn reached(&self, hop: Hop, since: Timestamp, now: Timestamp) {
        let seconds = now.duration_since(since).as_secs_f64().max(0.0);
        self.0.with_label_values(&[hop.label()]).observe(seconds);
    }

    /// Observes that a record has reached a hop, if its event causes a notice.
    pub fn record_reached(&self, hop: Hop, record: &Outgoing, now: Timestamp) {
        let causes_notice = [Topic::NoticeLike, Topic::Notice, Topic::Follow]
            .iter()
            .any(|topic| topic.default_name() == record.topic);
        let occurred_at = record.headers.iter().find(|(name, _)| name == Header::OCCURRED_AT);
        let occurred_at = occurred_at.and_then(|(_, millis)| Timestamp::from_millisecond(millis.parse().ok()?).ok());
        if let Some(occurred_at) = occurred_at.filter(|_| causes_notice) {
            self.reached(hop, occurred_at, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_records_that_cause_a_notice_are_measured() {
        let metrics = Metrics::new("test-service");
        let times = DeliveryTimes::of(&metrics);
        let record = |topic: Topic, occurred_at: &str| Outgoing {
            topic: topic.default_name().to_owned(),
            key: None,
            value: None,
            headers: vec![(Header::OCCURRED_AT.to_owned(), occurred_at.to_owned())],
        };
        let now = Timestamp::from_millisecond(1_700_000_000_300).unwrap();
        for (topic, occurred_at) in [
            (Topic::NoticeLike, "1700000000000"),
            (Topic::Post, "1700000000000"),
            (Topic::NoticeLike, "yesterday"),
            // A clock that is ahead.
            (Topic::Notice, "1700000009000"),
        ] {
            times.record_reached(Hop::Published, &record(topic, occurred_at), now);
        }
        let rendered = metrics.render();
        for line in [
            r#"notice_delivery_seconds_bucket{hop="published",application="test-service",le="0.005"} 1"#,
            r#"notice_delivery_seconds_bucket{hop="published",application="test-service",le="0.5"} 2"#,
            r#"notice_delivery_seconds_count{hop="published",application="test-service"} 2"#,
            r#"notice_delivery_seconds_count{hop="committed",application="test-service"} 0"#,
        ] {
            assert!(rendered.contains(line), "{line}:\n{rendered}");
        }
    }
}
