//! The context of a service: its name, clock, randomness, metrics and lifecycle.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Entropy, SystemClock, SystemEntropy};
use crate::faults::{Faults, SkewedClock};
use crate::health::Health;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::settings::Refresher;

/// The context of one service in one process; cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// `auth-service`, `feed-service`, … as in URLs, metrics and bus destinations.
    pub service: &'static str,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
    pub metrics: Metrics,
    pub lifecycle: Lifecycle,
    /// Checks behind `/actuator/health`.
    pub health: Health,
    /// Re-reads the service's settings, for `/actuator/refresh` and bus refreshes.
    pub settings: Refresher,
    /// `<service>:<port>:<random>`, unique to this process and service: the origin of bus messages, the holder of leases.
    pub instance: Arc<str>,
    /// How long after a resignation a byte of the account may stay in a file of an embedded engine: `erasure.deadline`.
    pub erasure_deadline: Duration,
}

/// The default of `erasure.deadline`, for contexts without settings.
const ERASURE_DEADLINE: Duration = Duration::from_hours(24);

impl Context {
    /// Returns the service's fault switches.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults::of(&self.settings)
    }

    /// Creates a context with the clock and the randomness of the machine. A fault switch sets the clock ahead.
    #[must_use]
    pub fn system(service: &'static str, port: u16) -> Self {
        let mut context = Self::with(service, port, Arc::new(SystemClock), Arc::new(SystemEntropy));
        context.clock = Arc::new(SkewedClock::new(context.faults(), context.instance.clone()));
        context
    }

    /// Creates a context with this clock and randomness.
    #[must_use]
    pub fn with(service: &'static str, port: u16, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let instance: Arc<str> = format!("{service}:{port}:{}", entropy.hex(8)).into();
        Self {
            service,
            clock,
            entropy,
            metrics: Metrics::new(service),
            lifecycle: Lifecycle::new(service),
            health: Health::default(),
            settings: Refresher::of(instance.clone()),
            instance,
            erasure_deadline: ERASURE_DEADLINE,
        }
    }
}
