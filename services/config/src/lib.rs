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

/// The bus id of the instance that asks, for canaries. Spring's clients do not send it.
const INSTANCE: &str = "x-config-instance";

/// How often the flags that are set are compared with those that are remembered.
const FLAG_LOOK: Duration = Duration::from_secs(10);

/// Webhooks that are remembered, so that none is acted on twice.
const DELIVERIES: u64 = 10_000;
const DELIVERY_LIFETIME: Duration = Duration::from_hours(24 * 7);

/// What the handlers share.
#[derive(Debug, Clone)]
struct App {
    settings: Live<Settings>,
    context: Context,
    source: Source,
    keys: Arc<KeyRing>,
    overrides: Arc<Properties>,
    announcer: Announcer,
    /// Webhooks that were acted on.
    deliveries: moka::sync::Cache<String, ()>,
    /// Changes with whatever but the source has a part in an answer.
    revision: Arc<str>,
    convergence: Convergence,
    canaries: Canaries,
    flag_uses: FlagUses,
    /// See [`App::compute`].
    computing: Arc<Semaphore>,
}

impl App {
    /// The files for each label of a query.
    async fn views(&self, query: &Query, headers: &HeaderMap) -> Result<Vec<View>, Error> {
        let instance = headers.get(INSTANCE).and_then(|instance| instance.to_str().ok());
        let mut views = Vec::new();
        for label in query.labels() {
            views.push(self.source.view(label.as_deref(), instance).await?);
        }
        Ok(views)
    }

    /// Runs what takes more than a millisecond on a thread that may block, as many at a time as there are cores: the workers that answer
    /// health checks and sockets stay free.
    async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let permit = self.computing.clone().acquire_owned().await;
        let permit = permit.map_err(|closed| Error::State(closed.to_string()))?;
        Ok(source::blocking(move || {
            let _held = permit;
            work()
        })
        .await)
    }

    /// The sources that answer a query, with overrides, as they are.
    fn assembled(&self, query: Query, views: &[View]) -> Environment {
        let mut environment = Environment::assemble(views, query, &self.source.origin(), false);
        environment.override_with(&self.overrides);
        environment
    }

    /// The sources that answer a query, with secrets opened when the service is the one to do so.
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
    /// Writes down who does what: before it is done, so that nothing is done that is not written down.
    async fn record(&self, entry: Entry) -> Result<(), Error> {
        let record = self.source.record().clone();
        let written = tokio::task::spawn_blocking(move || record.add(&entry)).await;
        let written = written.map_err(|panic| Error::State(panic.to_string()))?;
        written.map_err(|error| Error::State(error.to_string()))
    }

    async fn entries(
        &self,
        most: usize,
        wanted: impl Fn(&Entry) -> bool + Send + 'static,
    ) -> Result<Vec<Entry>, Error> {
        let record = self.source.record().clone();
        let read = tokio::task::spawn_blocking(move || record.newest(most, wanted)).await;
        let read = read.map_err(|panic| Error::State(panic.to_string()))?;
        read.map_err(|error| Error::State(error.to_string()))
    }
}

/// Reads the source and puts the service together. It needs nothing else to be running.
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
    let changed = announcer.clone();
    source.spawn_watch(move || changed.refresh_all_soon());
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
        computing: Arc::new(Semaphore::new(cores)),
    };
    Ok(Service::new(
        context,
        server,
        &limits,
        &current.credentials,
        routes::routes(app),
    ))
}

/// Keeps the list of flags to those that are set, and when they were evaluated on disk.
fn spawn_flag_uses(context: &Context, source: Source, uses: FlagUses, announcer: Announcer) {
    let (clock, draining) = (context.clock.clone(), context.lifecycle.draining());
    context.lifecycle.spawn("config-flags", async move {
        loop {
            let untold = uses.take_untold();
            if !untold.is_empty()
                && let Err(error) = announcer.flags(untold).await
            {
                tracing::warn!(%error, "publishing evaluated flags failed");
            }
            let (served, uses) = (source.served(None), uses.clone());
            let now = clock.now();
            source::blocking(move || {
                if let Some(served) = served {
                    uses.keep(served.flags().keys().map(String::as_str), now);
                }
                uses.flush();
            })
            .await;
            if draining
                .run_until_cancelled(tokio::time::sleep(FLAG_LOOK))
                .await
                .is_none()
            {
                return Ok(());
            }
        }
    });
}

/// What answers hang on beside the source and switches that change live, the same in every replica. Keys are of it: with the right one a value can be opened that
/// could not before.
fn revision(overrides: &Properties, keys: &KeyRing) -> String {
    let parts = serde_json::json!([overrides, keys.fingerprint()]);
    hex::encode(&Sha256::digest(parts.to_string())[..8])
}
