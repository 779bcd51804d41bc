//! The connection of one librdkafka client as it is reported: at most one log line a minute, and two gauges.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use serde::Deserialize;
use sosohappy_common::Context;
use sosohappy_common::metrics::Metrics;

/// A client whose broker is unavailable reports it with every attempt to connect, several times a second: one line of them is logged in
/// this time, with the number of those that were suppressed.
const LOG_PERIOD: Duration = Duration::from_mins(1);

/// Of the clients of a bus.
#[derive(Debug, Clone)]
pub(super) struct ClientMetrics {
    clients: IntGauge,
    disconnected: IntGauge,
    suppressed: IntCounter,
}

impl ClientMetrics {
    pub(super) fn of(context: &Context) -> Self {
        context.metrics.shared(Self::declare)
    }

    fn declare(metrics: &Metrics) -> Self {
        let gauge = |name, help| IntGauge::new(name, help).expect("a static name is valid");
        let suppressed = IntCounter::new(
            "events_kafka_log_lines_suppressed_total",
            "Log lines of Kafka clients that were suppressed: one a client and minute is written",
        );
        Self {
            clients: metrics.register(gauge("events_kafka_clients", "Kafka clients of this process")),
            disconnected: metrics.register(gauge(
                "events_kafka_clients_disconnected",
                "Kafka clients of this process that are connected to no broker",
            )),
            suppressed: metrics.register(suppressed.expect("a static name is valid")),
        }
    }
}

/// The connection of one client, until it is dropped with it.
#[derive(Debug)]
pub(super) struct Connection {
    metrics: ClientMetrics,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_disconnected: bool,
    logged_at: Option<Instant>,
    /// Lines suppressed since then.
    suppressed: u64,
}

/// The part of librdkafka's statistics that is read (`STATISTICS.md`).
#[derive(Deserialize)]
struct Statistics {
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    state: String,
}

impl Connection {
    pub(super) fn new(metrics: &ClientMetrics) -> Self {
        metrics.clients.inc();
        Self {
            metrics: metrics.clone(),
            state: Mutex::default(),
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

    /// Takes the client's statistics, as JSON.
    pub(super) fn observe(&self, statistics: &[u8]) {
        let Ok(Statistics { brokers }) = serde_json::from_slice(statistics) else {
            return;
        };
        let is_disconnected = brokers.values().all(|broker| broker.state != "UP");
        let mut state = self.state.lock();
        if state.is_disconnected != is_disconnected {
            state.is_disconnected = is_disconnected;
            self.metrics.disconnected.add(if is_disconnected { 1 } else { -1 });
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.metrics.clients.dec();
        if self.state.get_mut().is_disconnected {
            self.metrics.disconnected.dec();
        }
    }
}
