//! The limit of the process's resident memory, above which liveness fails.

use prometheus::IntGauge;

use crate::Context;
use crate::metrics::resident_bytes;
use crate::settings::{Live, Server};

/// The gauge of the limit, once a service.
#[derive(Debug, Clone)]
struct LimitGauge(IntGauge);

/// Compares the resident memory with `server.memory-limit`. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct MemoryLimit {
    settings: Live<Server>,
    gauge: LimitGauge,
}

impl MemoryLimit {
    pub(super) fn new(context: &Context, settings: &Live<Server>) -> Self {
        Self {
            settings: settings.clone(),
            gauge: context.metrics.shared(|metrics| {
                let gauge = IntGauge::new(
                    "server_memory_limit_bytes",
                    "Resident memory of the process above which liveness fails; 0 without a limit",
                );
                LimitGauge(metrics.register(gauge.expect("a static metric is valid")))
            }),
        }
    }

    /// Sets the gauge to the present limit.
    pub(super) fn measure(&self) {
        let limit = self.settings.get().memory_limit;
        self.gauge.0.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// Returns whether the process has more memory than it may have. False without a limit, and where the system does not report it.
    pub(super) fn is_exceeded(&self) -> bool {
        let limit = self.settings.get().memory_limit;
        if limit == 0 {
            return false;
        }
        let resident = resident_bytes().unwrap_or(0);
        if resident > limit {
            tracing::warn!(
                resident,
                limit,
                "resident memory above server.memory-limit; liveness fails"
            );
        }
        resident > limit
    }
}
