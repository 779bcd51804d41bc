//! The config service: Spring Cloud Config's HTTP contract over a folder or a git repository held in memory.

mod bus;
mod canary;
pub mod check;
mod convergence;
mod credentials;
mod domain;
mod error;
mod metrics;
mod routes;
mod schemas;
mod settings;
mod source;
mod state;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use sha2::{Digest as _, Sha256};
use sosohappy_bus::Bus;
use sosohappy_bus::refresh::spawn_refresh;
use sosohappy_common::Context;
use sosohappy_common::http::serve::Service;
use sosohappy_common::settings::Live;
use tokio::sync::Semaphore;

use crate::bus::Announcer;
use crate::canary::Canaries;
use crate::convergence::Convergence;
use crate::domain::check::{Checker, FAULT_REFUSED, is_fault_flag};
use crate::domain::environment::{Environment, View};
use crate::domain::flat::{Properties, flatten};
use crate::domain::keyring::KeyRing;
use crate::domain::query::Query;
use crate::error::Error;
use crate::settings::Handling;
pub use crate::settings::Settings;
use crate::source::Source;
use crate::state::flag_uses::FlagUses;
use crate::state::record::Entry;

pub const SERVICE: &str = "config-service";
pub const DEFAULTS: &str = include_str!("settings.toml");

/// The header with the bus id of the client, for canaries. Spring's clients do not send it.
const INSTANCE: &str = "x-config-instance";

/// Interval between two updates of the tracked flags.
const FLAG_INTERVAL: Duration = Duration::from_secs(10);

/// Webhook deliveries in memory, to detect duplicates.
const DELIVERIES: u64 = 10_000;
const DELIVERY_LIFETIME: Duration = Duration::from_hours(24 * 7);

/// State shared by the handlers.
#[derive(Debug, Clone)]
struct App {
    settings: Live<Settings>,
    context: Context,
    source: Source,
    keys: Arc<KeyRing>,
    overrides: Arc<Properties>,
    announcer: Announcer,
    /// Processed webhook deliveries.
    deliveries: moka::sync::Cache<String, ()>,
    /// Digest of everything beside the source that affects a response: overrides and keys.
    revision: Arc<str>,
    convergence: Convergence,
    canaries: Canaries,
    flag_uses: FlagUses,
    /// Permits of [`App::compute`].
    compute_permits: Arc<Semaphore>,
}

impl App {
    /// Returns the files for each label of a query.
    async fn views(&self, query: &Query, headers: &HeaderMap) -> Result<Vec<View>, Error> {
        let instance = headers.get(INSTANCE).and_then(|instance| instance.to_str().ok());
        let mut views = Vec::new();
        for label in query.labels() {
            views.push(self.source.view(label.as_deref(), instance).await?);
        }
        Ok(views)
    }

    /// Runs work of more than a millisecond on the blocking pool, at most one task per core: the async workers stay available for health checks
    /// and sockets, and requests beyond the limit wait without a thread.
    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let permit = self.compute_permits.clone().acquire_owned().await;
        let permit = permit.map_err(|closed| Error::State(closed.to_string()))?;
        Ok(source::blocking(move || {
            // Released when the work ends, even when the client disconnects first.
            let _permit = permit;
            work()
        })
        .await)
    }

    /// Returns the sources for a query with the overrides, secrets still encrypted.
    fn assembled(&self, query: Query, views: &[View]) -> Environment {
        let mut environment = Environment::assemble(views, query, &self.source.origin(), false);
        environment.override_with(&self.overrides);
        environment
    }

    /// Returns the sources for a query with the overrides, secrets decrypted when `encrypt.enabled` is set.
    fn environment(&self, query: Query, views: &[View], with_origins: bool) -> Result<Environment, Error> {
        let settings = self.settings.get();
        let mut environment = Environment::assemble(views, query, &self.source.origin(), with_origins);
        if environment.sources.is_empty() && !settings.source.accept_empty {
            return Err(Error::NothingFound);
        }
        environment.override_with(&self.overrides);
        if settings.encrypt.enabled {
            environment.decrypt(&self.keys);
        }
        Ok(environment)
    }
}

impl App {
    /// Adds an entry to the audit record. Called before the action: an action that cannot be recorded is not performed.
    async fn record(&self, entry: Entry) -> Result<(), Error> {
        let record = self.source.record().clone();
        let written = tokio::task::spawn_blocking(move || record.add(&entry)).await;
        let written = written.map_err(|panic| Error::State(panic.to_string()))?;
        written.map_err(|error| Error::State(error.to_string()))
    }

    async fn entries(
        &self,
        limit: usize,
        wanted: impl Fn(&Entry) -> bool + Send + 'static,
    ) -> Result<Vec<Entry>, Error> {
        let record = self.source.record().clone();
        let read = tokio::task::spawn_blocking(move || record.newest(limit, wanted)).await;
        let read = read.map_err(|panic| Error::State(panic.to_string()))?;
        read.map_err(|error| Error::State(error.to_string()))
    }
}

/// Builds the service. It starts without any other service; a repository is read later, in the background.
pub async fn build(settings: Live<Settings>, context: Context, bus: Arc<dyn Bus>) -> anyhow::Result<Service> {
    let current = settings.get();
    let server = settings.part(|settings| settings.server.clone());
    let limits = settings.part(|settings| settings.rate_limits.clone());
    let keys = KeyRing::new(
        current.encrypt.key.as_ref(),
        &current.encrypt.keys,
        &current.encrypt.salt,
    )?;
    let overrides = flatten(serde_json::Value::Object(current.overrides.clone()));
    let checker = if current.check.enabled {
        Checker::new(schemas::all()?, current.check.unknown_keys == Handling::Refuse)
    } else {
        Checker::none()
    };
    let refuses_faults = current.check.fault_flags == Handling::Refuse;
    let checker = checker.refusing_fault_flags(refuses_faults);
    if let Some(key) = overrides.keys().find(|key| refuses_faults && is_fault_flag(key)) {
        anyhow::bail!(
            "overrides.{}: {FAULT_REFUSED}",
            sosohappy_common::settings::keys::shown(key)
        );
    }
    let source = Source::open(&settings, &context, checker).await?;
    source.register_health();
    let announcer = Announcer::new(bus.clone(), context.clone());
    let on_change = announcer.clone();
    source.spawn_watch(move || on_change.refresh_all_soon());
    announcer.spawn();
    spawn_refresh(&context, bus.clone(), settings.part(|settings| settings.config.poll));
    let folder = std::path::PathBuf::from(&current.state.folder);
    let flag_uses = source::blocking(move || FlagUses::open(folder.join("flags.json"))).await;
    let convergence = Convergence::spawn(
        &context,
        bus.clone(),
        settings.clone(),
        source.clone(),
        flag_uses.clone(),
    );
    let canaries = Canaries::spawn(
        &context,
        bus,
        settings.part(|settings| settings.canary.clone()),
        source.clone(),
        convergence.clone(),
        announcer.clone(),
    );
    spawn_flag_uses(&context, source.clone(), flag_uses.clone(), announcer.clone());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let app = App {
        settings,
        context: context.clone(),
        source,
        revision: revision(&overrides, &keys).into(),
        keys: Arc::new(keys),
        announcer,
        deliveries: moka::sync::Cache::builder()
            .max_capacity(DELIVERIES)
            .time_to_live(DELIVERY_LIFETIME)
            .build(),
        overrides: Arc::new(overrides),
        convergence,
        canaries,
        flag_uses,
        compute_permits: Arc::new(Semaphore::new(cores)),
    };
    Ok(Service::new(
        context,
        server,
        &limits,
        &current.credentials,
        routes::routes(app),
    ))
}

/// Starts the task that tracks the served flags, saves their uses, and publishes those of this replica.
fn spawn_flag_uses(context: &Context, source: Source, uses: FlagUses, announcer: Announcer) {
    let (clock, draining) = (context.clock.clone(), context.lifecycle.draining());
    context.lifecycle.spawn("config-flags", async move {
        loop {
            let unpublished = uses.take_unpublished();
            if !unpublished.is_empty()
                && let Err(error) = announcer.flags(unpublished).await
            {
                tracing::warn!(%error, "publishing evaluated flags failed");
            }
            let (served, uses) = (source.served(None), uses.clone());
            let now = clock.now();
            source::blocking(move || {
                if let Some(served) = served {
                    uses.retain(served.flags().keys().map(String::as_str), now);
                }
                uses.flush();
            })
            .await;
            if draining
                .run_until_cancelled(tokio::time::sleep(FLAG_INTERVAL))
                .await
                .is_none()
            {
                return Ok(());
            }
        }
    });
}

/// Returns a digest of the overrides and keys, the same on every replica. Live settings are added per request, see [`routes::etag`]. Keys count
/// because a new one decrypts values that were `invalid.<key>` before.
fn revision(overrides: &Properties, keys: &KeyRing) -> String {
    let parts = serde_json::json!([overrides, keys.fingerprint()]);
    hex::encode(&Sha256::digest(parts.to_string())[..8])
}
