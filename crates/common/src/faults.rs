//! Fault switches, `flags.fault.*`: a service fails on purpose, so that its alerts and its recovery can be tried.
//!
//! A switch is a flag: on, off, or on for a share of requests, records, topics or instances. `docs/config.md` lists the alert and the
//! recovery of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{Clock, SystemClock};
use crate::lifecycle::Lifecycle;
use crate::settings::Refresher;

/// How much later a request is handled with [`Fault::Latency`]: more than the objective of a second.
pub const LATENCY: Duration = Duration::from_secs(2);
/// How much longer a write transaction takes with [`Fault::SlowStore`].
pub const SLOW_STORE: Duration = Duration::from_millis(500);
/// How far the clock of a service is ahead with [`Fault::ClockSkew`]: more than the alert allows.
pub const CLOCK_SKEW: Duration = Duration::from_secs(10);
/// Bytes that all services of a process hold at most with [`Fault::MemoryLeak`].
pub const MOST_LEAKED: usize = 256 * 1024 * 1024;
/// Bytes by which a service grows at once with [`Fault::MemoryLeak`], and how often.
const LEAK: usize = 16 * 1024 * 1024;
const LEAK_EVERY: Duration = Duration::from_millis(500);

/// A fault that can be switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Requests are handled [`LATENCY`] later; not those of management and of the config service.
    Latency,
    /// Requests are answered 503 before they are handled; not those of management and of the config service.
    Errors,
    /// Requests are handled and then answered 503: the client does not learn that its write is stored.
    LostAnswer,
    /// The handler of a request panics.
    Panic,
    /// Write transactions of SQL databases take [`SLOW_STORE`] longer, during which they hold their connection.
    SlowStore,
    /// Write transactions of SQL databases fail, as on a full disk; reads go on.
    FullDisk,
    /// Consumers handle no record.
    StalledConsumer,
    /// The relay publishes nothing.
    DeadRelay,
    /// The broker is unavailable: the relay cannot publish, and consumers handle no record.
    BrokerAway,
    /// The relay publishes no heartbeats.
    MissingHeartbeats,
    /// The broker refuses records of the relay: they become dead letters.
    RefusedRecord,
    /// Consumers reject records: they become dead letters.
    PoisonRecord,
    /// Background tasks of auth fail, each round.
    FailingTask,
    /// Calls to auth get no answer.
    AuthAway,
    /// Calls to auth carry a credential that auth refuses.
    WrongCredential,
    /// Clients do not take the frames that are written to their sockets.
    SlowReader,
    /// The clock of the service is [`CLOCK_SKEW`] ahead.
    ClockSkew,
    /// The process holds more and more memory, up to [`MOST_LEAKED`].
    MemoryLeak,
}

impl Fault {
    /// All faults, in the order of the documentation.
    pub const ALL: [Self; 18] = [
        Self::Latency,
        Self::Errors,
        Self::LostAnswer,
        Self::Panic,
        Self::SlowStore,
        Self::FullDisk,
        Self::StalledConsumer,
        Self::DeadRelay,
        Self::BrokerAway,
        Self::MissingHeartbeats,
        Self::RefusedRecord,
        Self::PoisonRecord,
        Self::FailingTask,
        Self::AuthAway,
        Self::WrongCredential,
        Self::SlowReader,
        Self::ClockSkew,
        Self::MemoryLeak,
    ];

    /// Returns the name of the flag, without `flags.`.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Latency => "fault.latency",
            Self::Errors => "fault.errors",
            Self::LostAnswer => "fault.lost-answer",
            Self::Panic => "fault.panic",
            Self::SlowStore => "fault.slow-store",
            Self::FullDisk => "fault.full-disk",
            Self::StalledConsumer => "fault.stalled-consumer",
            Self::DeadRelay => "fault.dead-relay",
            Self::BrokerAway => "fault.broker-away",
            Self::MissingHeartbeats => "fault.missing-heartbeats",
            Self::RefusedRecord => "fault.refused-record",
            Self::PoisonRecord => "fault.poison-record",
            Self::FailingTask => "fault.failing-task",
            Self::AuthAway => "fault.auth-away",
            Self::WrongCredential => "fault.wrong-credential",
            Self::SlowReader => "fault.slow-reader",
            Self::ClockSkew => "fault.clock-skew",
            Self::MemoryLeak => "fault.memory-leak",
        }
    }
}

/// The fault switches of a service. Clones share them.
#[derive(Debug, Clone)]
pub struct Faults(Refresher);

impl Faults {
    pub(crate) fn of(settings: &Refresher) -> Self {
        Self(settings.clone())
    }

    /// Returns whether a fault is on. `key` (a request, record, topic or instance) decides whether it is part of a share.
    #[must_use]
    pub fn has(&self, fault: Fault, key: &str) -> bool {
        self.0.flags().is_on(fault.flag(), key)
    }
}

/// The machine's clock, [`CLOCK_SKEW`] ahead while [`Fault::ClockSkew`] is on. Monotonic times are not affected.
#[derive(Debug)]
pub(crate) struct SkewedClock {
    faults: Faults,
    instance: Arc<str>,
}

impl SkewedClock {
    pub(crate) fn new(faults: Faults, instance: Arc<str>) -> Self {
        Self { faults, instance }
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        let now = SystemClock.now();
        if self.faults.has(Fault::ClockSkew, &self.instance) {
            now + CLOCK_SKEW
        } else {
            now
        }
    }
}

/// Bytes that the services of this process hold by [`Fault::MemoryLeak`]: the bound is that of the process, which may have several services.
static LEAKED: AtomicUsize = AtomicUsize::new(0);

/// Memory that is held on purpose; released when it is dropped.
#[derive(Default)]
struct Leak(Vec<Vec<u8>>);

impl Leak {
    /// Holds [`LEAK`] bytes more, unless the process holds [`MOST_LEAKED`].
    fn grow(&mut self) {
        let grown = |held: usize| held.checked_add(LEAK).filter(|grown| *grown <= MOST_LEAKED);
        if LEAKED.fetch_update(Ordering::SeqCst, Ordering::SeqCst, grown).is_ok() {
            // Pages count as resident once they are written.
            self.0.push(vec![1; LEAK]);
        }
    }
}

impl Drop for Leak {
    fn drop(&mut self) {
        LEAKED.fetch_sub(self.0.len() * LEAK, Ordering::SeqCst);
    }
}

/// Spawns the task that holds memory while [`Fault::MemoryLeak`] is on.
pub(crate) fn spawn_memory_leak(faults: Faults, instance: Arc<str>, lifecycle: &Lifecycle) {
    let mut rounds = lifecycle.rounds(LEAK_EVERY);
    lifecycle.spawn("memory-leak", async move {
        let mut leak = Leak::default();
        while rounds.next().await {
            if faults.has(Fault::MemoryLeak, &instance) {
                leak.grow();
            } else {
                leak = Leak::default();
            }
        }
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_bounded_and_released() {
        let mut leak = Leak::default();
        for _ in 0..2 * MOST_LEAKED / LEAK {
            leak.grow();
        }
        assert_eq!(
            (leak.0.len() * LEAK, LEAKED.load(Ordering::SeqCst)),
            (MOST_LEAKED, MOST_LEAKED)
        );
        drop(leak);
        assert_eq!(LEAKED.load(Ordering::SeqCst), 0);
    }
}
