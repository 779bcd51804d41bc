//! Fault switches, `flags.fault.*`: a service fails on purpose, so that its alerts and its recovery can be tried.
//!
//! A switch is a flag: on, off, or on for a share of requests, records, topics or instances. `docs/config.md` lists the alert and the
//! recovery of each.

use std::time::Duration;

use crate::settings::Refresher;

/// How much later a request is handled with [`Fault::Latency`]: more than the objective of a second.
pub const LATENCY: Duration = Duration::from_secs(2);
/// How much longer a write transaction takes with [`Fault::SlowStore`].
pub const SLOW_STORE: Duration = Duration::from_millis(500);

/// A fault that can be switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Requests are handled [`LATENCY`] later; not those of management and of the config service.
    Latency,
    /// Requests are answered 503 before they are handled; not those of management and of the config service.
    Errors,
    /// Write transactions of SQL databases take [`SLOW_STORE`] longer, during which they hold their connection.
    SlowStore,
    /// Consumers handle no record.
    StalledConsumer,
    /// The relay publishes nothing.
    DeadRelay,
    /// Consumers reject records: they become dead letters.
    PoisonRecord,
}

impl Fault {
    /// All faults, in the order of the documentation.
    pub const ALL: [Self; 6] = [
        Self::Latency,
        Self::Errors,
        Self::SlowStore,
        Self::StalledConsumer,
        Self::DeadRelay,
        Self::PoisonRecord,
    ];

    /// Returns the name of the flag, without `flags.`.
    #[must_use]
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Latency => "fault.latency",
            Self::Errors => "fault.errors",
            Self::SlowStore => "fault.slow-store",
            Self::StalledConsumer => "fault.stalled-consumer",
            Self::DeadRelay => "fault.dead-relay",
            Self::PoisonRecord => "fault.poison-record",
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
