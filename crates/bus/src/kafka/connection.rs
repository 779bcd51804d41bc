//! The connection of one librdkafka client as it is reported: at most one log line a minute, two gauges, and what the client lacks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use serde::Deserialize;
use sosohappy_common::Context;
use sosohappy_common::metrics::Metrics;

/// A client whose broker is unavailable reports it with every attempt to connect, several times a second: one line of them is logged in
/// this time, with the number of those that were suppressed.
const LOG_PERIOD: Duration = Duration::from_mins(1);

/// Interval of a client's statistics.
pub(super) const STATISTICS_PERIOD: Duration = Duration::from_secs(5);

/// The age from which they are overdue.
const OVERDUE: Duration = STATISTICS_PERIOD.saturating_mul(2);

/// The source of the broker that stands for the coordinator of a consumer's group.
const COORDINATOR: &str = "logical";

/// Of the clients of a bus.
#[derive(Debug, Clone)]
pub(super) struct ClientMetrics {
    clients: IntGauge,
    disconnected: IntGauge,
    suppressed: IntCounter,
    pub replaced: IntCounter,
}

impl ClientMetrics {
    pub(super) fn of(context: &Context) -> Self {
        context.metrics.shared(Self::declare)
    }

    fn declare(metrics: &Metrics) -> Self {
        let gauge = |name, help| IntGauge::new(name, help).expect("a static name is valid");
        let counter = |name, help| IntCounter::new(name, help).expect("a static name is valid");
        Self {
            clients: metrics.register(gauge("events_kafka_clients", "Kafka clients of this process")),
            disconnected: metrics.register(gauge(
                "events_kafka_clients_disconnected",
                "Kafka clients of this process that are connected to no broker",
            )),
            suppressed: metrics.register(counter(
                "events_kafka_log_lines_suppressed_total",
                "Log lines of Kafka clients that were suppressed: one a client and minute is written",
            )),
            replaced: metrics.register(counter(
                "events_kafka_clients_replaced_total",
                "Kafka clients that did not recover though a broker answered another client, and were replaced",
            )),
        }
    }
}

/// The place of this process in a consumer group, across the clients that replace each other.
#[derive(Debug)]
pub(super) struct Membership(Mutex<Absence>);

/// How long a process is out of a group.
#[derive(Debug, Default)]
struct Absence {
    /// `None` while it is in the group.
    since: Option<Instant>,
    /// Clients that have failed since.
    failed: u32,
}

impl Membership {
    /// Of a group that is still to be joined.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Absence {
            since: Some(Instant::now()),
            failed: 0,
        }))
    }

    /// Returns how long this process has been out of the group.
    pub(super) fn missing(&self) -> Duration {
        elapsed(self.0.lock().since)
    }

    /// Returns how many clients have failed since this process has been out of the group.
    fn failed(&self) -> u32 {
        self.0.lock().failed
    }

    /// The client in the group has failed.
    pub(super) fn lose(&self) {
        let mut absence = self.0.lock();
        note(&mut absence.since, true);
        absence.failed = absence.failed.saturating_add(1);
    }

    fn observe(&self, is_member: bool) {
        let mut absence = self.0.lock();
        if is_member {
            *absence = Absence::default();
        } else {
            note(&mut absence.since, true);
        }
    }
}

/// How long a client has lacked what it needs, by its last statistics; zero what it has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Missing {
    /// How old the statistics are.
    pub age: Duration,
    pub broker: Duration,
    /// The coordinator of its group.
    pub coordinator: Duration,
    /// A place in its group, also before this client was made.
    pub group: Duration,
    /// Clients of its group that have failed since this process has been out of it.
    pub failed: u32,
}

impl Missing {
    /// Returns how long the statistics have been overdue.
    pub(super) const fn overdue(&self) -> Duration {
        self.age.saturating_sub(OVERDUE)
    }
}

/// The connection of one client, until it is dropped with it.
#[derive(Debug)]
pub(super) struct Connection {
    metrics: ClientMetrics,
    membership: Option<Arc<Membership>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    observed_at: Instant,
    disconnected_since: Option<Instant>,
    uncoordinated_since: Option<Instant>,
    logged_at: Option<Instant>,
    /// Lines suppressed since then.
    suppressed: u64,
}

/// The part of librdkafka's statistics that is read (`STATISTICS.md`).
#[derive(Deserialize)]
struct Statistics {
    brokers: HashMap<String, Broker>,
    /// Of consumers.
    cgrp: Option<Group>,
}

#[derive(Deserialize)]
struct Broker {
    state: String,
    source: String,
}

#[derive(Deserialize)]
struct Group {
    state: String,
    join_state: String,
}

impl Connection {
    pub(super) fn new(metrics: &ClientMetrics, membership: Option<Arc<Membership>>) -> Self {
        metrics.clients.inc();
        Self {
            metrics: metrics.clone(),
            membership,
            state: Mutex::new(State {
                observed_at: Instant::now(),
                disconnected_since: None,
                uncoordinated_since: None,
                logged_at: None,
                suppressed: 0,
            }),
        }
    }

    /// Returns how many lines were suppressed since the last one, if another may be logged now.
    pub(super) fn may_log(&self) -> Option<u64> {
        let mut state = self.state.lock();
        if state.logged_at.is_some_and(|at| at.elapsed() < LOG_PERIOD) {
            state.suppressed += 1;
            self.metrics.suppressed.inc();
            return None;
        }
        state.logged_at = Some(Instant::now());
        Some(std::mem::take(&mut state.suppressed))
    }

    /// The client was assigned its partitions of the group: it is a member before the next statistics say so.
    pub(super) fn join(&self) {
        if let Some(membership) = &self.membership {
            membership.observe(true);
        }
    }

    /// Takes the client's statistics, as JSON. The client of statistics that cannot be read is taken for one that lacks nothing: another client
    /// would report the same.
    pub(super) fn observe(&self, statistics: &[u8]) {
        let Statistics { brokers, cgrp } = match serde_json::from_slice(statistics) {
            Ok(statistics) => statistics,
            Err(error) => {
                if let Some(suppressed) = self.may_log() {
                    tracing::error!(%error, suppressed, "statistics of a Kafka client cannot be read");
                }
                return self.note(false, true, true);
            }
        };
        let is_up = |broker: &Broker| broker.state == "UP";
        let is_disconnected = !brokers.values().any(is_up);
        // The group alone may be up while the connection is still being set up.
        let has_coordinator = cgrp.as_ref().is_some_and(|group| group.state == "up")
            && brokers
                .values()
                .any(|broker| broker.source == COORDINATOR && is_up(broker));
        let is_member = has_coordinator && cgrp.is_some_and(|group| group.join_state == "steady");
        self.note(is_disconnected, has_coordinator, is_member);
    }

    fn note(&self, is_disconnected: bool, has_coordinator: bool, is_member: bool) {
        if let Some(membership) = &self.membership {
            membership.observe(is_member);
        }
        let mut state = self.state.lock();
        if state.disconnected_since.is_some() != is_disconnected {
            self.metrics.disconnected.add(if is_disconnected { 1 } else { -1 });
        }
        state.observed_at = Instant::now();
        note(&mut state.disconnected_since, is_disconnected);
        note(&mut state.uncoordinated_since, !has_coordinator);
    }

    pub(super) fn missing(&self) -> Missing {
        let membership = self.membership.as_ref();
        let (group, failed) = membership.map_or((Duration::ZERO, 0), |membership| {
            (membership.missing(), membership.failed())
        });
        let state = self.state.lock();
        Missing {
            age: state.observed_at.elapsed(),
            broker: elapsed(state.disconnected_since),
            coordinator: elapsed(state.uncoordinated_since),
            group,
            failed,
        }
    }
}

/// Keeps the time at which something began to be missing.
fn note(since: &mut Option<Instant>, is_missing: bool) {
    if is_missing {
        since.get_or_insert_with(Instant::now);
    } else {
        *since = None;
    }
}

fn elapsed(since: Option<Instant>) -> Duration {
    since.map_or(Duration::ZERO, |since| since.elapsed())
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.clients.dec();
        if self.state.get_mut().disconnected_since.is_some() {
            self.metrics.disconnected.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(broker: &str, coordinator: &str, group: &str, join: &str) -> String {
        let brokers = format!(
            r#"{{"kafka:9092/1":{{"state":"{broker}","source":"learned"}},"GroupCoordinator":{{"state":"{coordinator}","source":"logical"}}}}"#
        );
        format!(r#"{{"brokers":{brokers},"cgrp":{{"state":"{group}","join_state":"{join}"}}}}"#)
    }

    /// What is missing: a broker, the coordinator, the place in the group.
    fn lacks(connection: &Connection) -> [bool; 3] {
        let missing = connection.missing();
        assert_eq!(missing.overdue(), Duration::ZERO);
        [missing.broker, missing.coordinator, missing.group].map(|time| time > Duration::ZERO)
    }

    #[test]
    fn statistics_say_what_a_client_lacks() {
        let context = Context::system("test-service", 0);
        let metrics = ClientMetrics::of(&context);
        let membership = Arc::new(Membership::new());
        let connection = Connection::new(&metrics, Some(membership.clone()));
        assert_eq!(lacks(&connection), [false, false, true], "it has not joined yet");
        for (broker, coordinator, group, join, lacking) in [
            ("UP", "UP", "up", "wait-join", [false, false, true]),
            ("UP", "UP", "up", "steady", [false, false, false]),
            ("UP", "APIVERSION_QUERY", "up", "steady", [false, true, true]),
            ("UP", "UP", "wait-broker-transport", "steady", [false, true, true]),
            ("CONNECT", "INIT", "query-coord", "init", [true, true, true]),
            ("UP", "UP", "up", "steady", [false, false, false]),
        ] {
            connection.observe(statistics(broker, coordinator, group, join).as_bytes());
            assert_eq!(lacks(&connection), lacking, "{broker} {coordinator} {group} {join}");
        }

        membership.lose();
        drop(connection);
        let next = Connection::new(&metrics, Some(membership.clone()));
        assert_eq!(lacks(&next), [false, false, true], "the group of the client before");
        membership.lose();
        assert_eq!(next.missing().failed, 2);
        next.observe(statistics("UP", "UP", "up", "wait-join").as_bytes());
        assert_eq!(next.missing().failed, 2, "it is not in the group yet");
        next.observe(statistics("UP", "UP", "up", "steady").as_bytes());
        assert_eq!(next.missing().failed, 0);

        membership.lose();
        next.join();
        assert_eq!((lacks(&next), next.missing().failed), ([false, false, false], 0));

        // Of a librdkafka that reports in another form.
        membership.lose();
        next.observe(br#"{"brokers":[]}"#);
        assert_eq!(lacks(&next), [false, false, false]);

        let producer = Connection::new(&metrics, None);
        producer.observe(br#"{"brokers":{"kafka:9092/bootstrap":{"state":"DOWN","source":"configured"}}}"#);
        assert!(lacks(&producer)[0], "it has no broker");
        assert_eq!(metrics.disconnected.get(), 1);
        drop(producer);
        assert_eq!((metrics.disconnected.get(), metrics.clients.get()), (0, 1));
    }
}
