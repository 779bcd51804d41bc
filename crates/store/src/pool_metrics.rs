//! Metrics of connection pools under the names of `HikariCP`, so that dashboards of the Spring fleet keep working.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};
use sosohappy_common::metrics::Metrics;
use sqlx::{Database, Pool};

/// Counts the tasks that wait for a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending(Arc<AtomicI64>);

impl Pending {
    pub(crate) fn wait(&self) -> Waiting<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }
}

#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a Pending);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A measured pool.
#[derive(Debug)]
pub(crate) struct Seen<E: Database> {
    pub label: &'static str,
    pub pool: Pool<E>,
    /// The waiting tasks, where they are counted.
    pub pending: Option<Pending>,
}

/// Reads the state of the pools at each scrape.
struct PoolCollector<E: Database> {
    pools: Arc<[Seen<E>]>,
    total: IntGaugeVec,
    active: IntGaugeVec,
    idle: IntGaugeVec,
    pending: IntGaugeVec,
    max: IntGaugeVec,
}

impl<E: Database> Clone for PoolCollector<E> {
    fn clone(&self) -> Self {
        Self {
            pools: self.pools.clone(),
            total: self.total.clone(),
            active: self.active.clone(),
            idle: self.idle.clone(),
            pending: self.pending.clone(),
            max: self.max.clone(),
        }
    }
}

impl<E: Database> fmt::Debug for PoolCollector<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolCollector").finish_non_exhaustive()
    }
}

impl<E: Database> PoolCollector<E> {
    fn gauges(&self) -> [&IntGaugeVec; 5] {
        [&self.total, &self.active, &self.idle, &self.pending, &self.max]
    }
}

impl<E: Database> Collector for PoolCollector<E> {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for Seen { label, pool, pending } in self.pools.iter() {
            let label = [*label];
            let (total, idle) = (
                i64::from(pool.size()),
                i64::try_from(pool.num_idle()).unwrap_or(i64::MAX),
            );
            self.total.with_label_values(&label).set(total);
            self.active.with_label_values(&label).set((total - idle).max(0));
            self.idle.with_label_values(&label).set(idle);
            self.max
                .with_label_values(&label)
                .set(i64::from(pool.options().get_max_connections()));
            if let Some(pending) = pending {
                self.pending
                    .with_label_values(&label)
                    .set(pending.0.load(Ordering::Relaxed));
            }
        }
        self.gauges().into_iter().flat_map(Collector::collect).collect()
    }
}

/// Registers `hikaricp_connections*{pool}` for these pools. Called once a service.
pub(crate) fn register<E: Database>(metrics: &Metrics, pools: Vec<Seen<E>>) {
    let gauge = |name: &str, help: &str| {
        IntGaugeVec::new(Opts::new(name, help), &["pool"]).expect("static names and labels are valid")
    };
    metrics.register(PoolCollector {
        pools: pools.into(),
        total: gauge("hikaricp_connections", "Connections of a database pool."),
        active: gauge("hikaricp_connections_active", "Connections in use."),
        idle: gauge("hikaricp_connections_idle", "Connections that wait for work."),
        pending: gauge(
            "hikaricp_connections_pending",
            "Write transactions that wait for a connection.",
        ),
        max: gauge("hikaricp_connections_max", "The largest the pool may grow."),
    });
}
