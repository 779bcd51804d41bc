//! One Prometheus registry a service; everything in it carries the label `application`.

mod http;
mod log;
mod process;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{Registry, TextEncoder};

pub(crate) use http::HttpMetrics;
pub(crate) use process::{max_files, resident_bytes};

/// The metrics of one service. Clones share the registry.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    shared: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Creates a registry with the metrics of the process and its log.
    #[must_use]
    pub fn new(application: &str) -> Self {
        let labels = HashMap::from([("application".to_owned(), application.to_owned())]);
        let registry = Registry::new_custom(None, Some(labels)).expect("a static label name is valid");
        let metrics = Self {
            registry,
            shared: Arc::default(),
        };
        metrics.add(process::Process::new());
        metrics.add(log::Logged::new());
        #[cfg(target_os = "linux")]
        metrics.add(prometheus::process_collector::ProcessCollector::for_self());
        metrics
    }

    /// Registers a collector, and returns it.
    ///
    /// # Panics
    /// When the same metric is registered twice: each is declared once, at start.
    pub fn register<C: Collector + Clone + 'static>(&self, collector: C) -> C {
        self.add(collector.clone());
        collector
    }

    /// Returns the metrics of a part that a service has several of (for example its consumers): created by the first call, shared by later
    /// ones.
    pub fn shared<T: Clone + Send + Sync + 'static>(&self, declare: impl FnOnce(&Self) -> T) -> T {
        let mut shared = self.shared.lock();
        let entry = shared
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Box::new(declare(self)));
        entry
            .downcast_ref::<T>()
            .expect("the entry is kept by its type")
            .clone()
    }

    fn add<C: Collector + 'static>(&self, collector: C) {
        self.registry
            .register(Box::new(collector))
            .expect("each metric is declared once");
    }

    /// Encodes the metrics in the text exposition format.
    #[must_use]
    pub fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_else(|error| {
                tracing::error!(%error, "rendering metrics failed");
                String::new()
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_metrics_are_declared_once() {
        let metrics = Metrics::new("feed-service");
        let count = || {
            metrics.shared(|metrics| {
                metrics.register(prometheus::IntCounter::new("hits_total", "Hits").expect("a static name is valid"))
            })
        };
        count().inc();
        count().inc();
        assert!(metrics.render().contains("hits_total{application=\"feed-service\"} 2"));
    }

    #[test]
    fn metrics_of_process_and_log_have_micrometers_names() {
        let text = Metrics::new("feed-service").render();
        for name in [
            "process_uptime_seconds",
            "process_start_time_seconds",
            "process_cpu_usage",
            "system_cpu_usage",
            "system_cpu_count",
            "process_files_open_files",
            "process_files_max_files",
            "process_resident_memory_bytes",
            "logback_events_total",
        ] {
            let line = text
                .lines()
                .find(|line| line.starts_with(name))
                .unwrap_or_else(|| panic!("no {name}: {text}"));
            assert!(line.contains("application=\"feed-service\""), "{line}");
        }
    }
}
