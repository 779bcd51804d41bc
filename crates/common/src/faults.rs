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
}

impl Fault {
    /// All faults, in the order of the documentation.
    pub const ALL: [Self; 15] = [
        Self::Latency,
        Self::Errors,
        Self::LostAnswer,
        Self::Panic,
        Self::SlowStore,
        Self::FullDisk,
        Self::StalledConsumer,
        Self::DeadRelay,
        Self::MissingHeartbeats,
        Self::RefusedRecord,
        Self::PoisonRecord,
        Self::FailingTask,
        Self::AuthAway,
        Self::WrongCredential,
        Self::SlowReader,
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
            Self::MissingHeartbeats => "fault.missing-heartbeats",
            Self::RefusedRecord => "fault.refused-record",
            Self::PoisonRecord => "fault.poison-record",
            Self::FailingTask => "fault.failing-task",
            Self::AuthAway => "fault.auth-away",
            Self::WrongCredential => "fault.wrong-credential",
            Self::SlowReader => "fault.slow-reader",
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
