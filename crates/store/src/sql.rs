//! The code that both SQL engines share. It is compiled once inside `sqlite.rs` and once inside `mysql.rs`, which define `Engine`, `Tx`,
//! `connect` and `dialect`.

use std::sync::Arc;
use std::time::Duration;

use crate::outbox::Outbox;
use sosohappy_common::Context;
use sosohappy_common::clock::Clock;
use sosohappy_common::faults::{Fault, Faults, SLOW_STORE};
use sosohappy_common::settings::SecretUrl;
use sqlx::migrate::Migrator;

use super::connect::Pools;
use super::{Engine, Pool, Tx, dialect};
use crate::clock_difference;
use crate::pool_metrics::{self, Pending, Seen};
use crate::time::instant;
use crate::{Directory, DueTimer, StoreError};

#[path = "sql/directory.rs"]
pub mod directory;
#[path = "sql/erased_accounts.rs"]
pub mod erased_accounts;
#[path = "sql/inbox.rs"]
mod inbox;
#[path = "sql/lease.rs"]
mod lease;
#[path = "sql/outbox.rs"]
mod outbox;
#[path = "sql/sweeper.rs"]
mod sweeper;
#[path = "sql/timers.rs"]
pub(super) mod timers;

pub use inbox::first_time;
pub use outbox::{enqueue, enqueue_all};

/// An open database with the fleet's shared tables and the service's own. Clones share it.
#[derive(Debug, Clone)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pools: Pools,
    pending: Pending,
    clock: Arc<dyn Clock>,
    instance: Arc<str>,
    faults: Faults,
}

impl Database {
    /// Opens the pool, runs the shared migrations, then the service's (its `migrations/<engine>`, versions from
    /// 1000), one replica at a time. Waits half a minute for an engine that is still starting. Creates the file
    /// (`SQLite`) or database (`MySQL`) of the URL if it is missing, and registers the pool's metrics: once a
    /// context.
    pub async fn open(
        url: &SecretUrl,
        max_connections: u32,
        migrations: &Migrator,
        context: &Context,
    ) -> Result<Self, StoreError> {
        let pools = Pools::open(url, max_connections, migrations).await?;
        if let Some(folder) = &pools.folder {
            context.health.watch_disk(folder);
        }
        let pending = Pending::default();
        let seen = pools.labelled().into_iter().map(|(label, pool, waits)| Seen {
            label,
            pool: pool.clone(),
            pending: waits.then(|| pending.clone()),
        });
        pool_metrics::register::<Engine>(&context.metrics, seen.collect());
        let this = Self(Arc::new(Inner {
            pools,
            pending,
            clock: context.clock.clone(),
            instance: context.instance.clone(),
            faults: context.faults(),
        }));
        directory::make_keys(&this).await?;
        Ok(this)
    }

    /// Returns the pool for reads outside a transaction. On `SQLite` it refuses writes.
    #[must_use]
    pub fn reader(&self) -> &Pool {
        &self.0.pools.reader
    }

    /// Begins a write transaction (`BEGIN IMMEDIATE` on `SQLite`, READ COMMITTED on `MySQL`). It is rolled back when it is dropped without
    /// a commit.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        if self.0.faults.has(Fault::FullDisk, &self.0.instance) {
            return Err(StoreError::Unavailable(anyhow::anyhow!(
                "the fault switch fault.full-disk is on"
            )));
        }
        let waiting = self.0.pending.wait();
        let transaction = self.0.pools.begin().await?;
        drop(waiting);
        if self.0.faults.has(Fault::SlowStore, &self.0.instance) {
            tokio::time::sleep(SLOW_STORE).await;
        }
        Ok(transaction)
    }

    /// Returns the outbox of [`enqueue`], for the relay.
    #[must_use]
    pub fn outbox(&self) -> Arc<dyn Outbox> {
        Arc::new(outbox::SqlOutbox(self.clone()))
    }

    #[must_use]
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::new(directory::SqlDirectory(self.clone()))
    }

    /// Takes or renews a named lease; false while another holds it. Times are those of the database's clock, so that
    /// the clocks of replicas may differ. A lease that claims to last longer than `ttl` from now (the database's clock
    /// was set back) is void: all holders of a name ask for the same `ttl`.
    pub async fn lease(&self, name: &str, holder: &str, ttl: Duration) -> Result<bool, StoreError> {
        lease::take(self, name, holder, ttl).await
    }

    /// Releases a lease before it expires, if `holder` still has it.
    pub async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        lease::release(self, name, holder).await
    }

    /// Returns the holder of a lease, which may have expired.
    pub(crate) async fn lease_holder(&self, name: &str) -> Result<Option<String>, StoreError> {
        lease::holder(self, name).await
    }

    /// Returns due timers of a kind, the earliest first. One whose key is not text is quarantined.
    pub async fn due_timers(&self, kind: &str, now: jiff::Timestamp, limit: u32) -> Result<Vec<DueTimer>, StoreError> {
        timers::due(self, kind, now, limit).await
    }

    /// Sets a due timer that has failed to a later moment.
    pub async fn postpone_timer(
        &self,
        kind: &str,
        key: &str,
        now: jiff::Timestamp,
        fire_at: jiff::Timestamp,
    ) -> Result<(), StoreError> {
        timers::postpone(self, kind, key, now, fire_at).await
    }

    /// Moves a timer whose key cannot be read to the kind `quarantined:<kind>`, where it never fires.
    pub async fn quarantine_timer(&self, kind: &str, key: &str) -> Result<(), StoreError> {
        timers::quarantine(self, kind, key.as_bytes()).await
    }

    /// Spawns the tasks that delete old inbox rows, expired leases, and resignations older than any event that could
    /// contradict them (one replica at a time), and that overwrite what was erased; and the one that compares the clock with the database's.
    pub fn spawn_sweeper(&self, context: &Context) {
        sweeper::spawn(self, context);
        let database = self.clone();
        clock_difference::spawn(context, move || {
            let database = database.clone();
            async move { database.server_time().await }
        });
        super::eraser::spawn(self, context);
    }

    /// Deletes once what the task of [`Self::spawn_sweeper`] deletes every ten minutes.
    pub async fn sweep(&self) -> Result<(), StoreError> {
        sweeper::sweep(self).await
    }

    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(self.reader()).await?;
        Ok(())
    }

    /// Closes all connections; later statements fail.
    pub async fn close(&self) {
        self.0.pools.close().await;
    }

    /// Returns the pool for single statements that need no transaction.
    pub(super) fn writer(&self) -> &Pool {
        &self.0.pools.writer
    }

    /// Returns the time of the database's clock.
    pub async fn server_time(&self) -> Result<jiff::Timestamp, StoreError> {
        instant(sqlx::query_scalar(dialect::NOW).fetch_one(self.reader()).await?)
    }

    fn now(&self) -> jiff::Timestamp {
        self.0.clock.now()
    }

    fn instance(&self) -> &str {
        &self.0.instance
    }
}
