//! The config service: Spring Cloud Config's HTTP contract over a folder of files held in memory.

mod convergence;
mod credentials;
mod domain;
mod error;
mod routes;
mod settings;
mod source;

use std::sync::Arc;

use secrecy::ExposeSecret as _;
use sosohappy_common::Context;
use sosohappy_common::http::serve::Service;
use sosohappy_common::settings::Live;
use sosohappy_events::Bus;
use sosohappy_events::refresh::spawn_refresh;

use crate::convergence::Convergence;
use crate::domain::cipher::Cipher;
use crate::domain::environment::Environment;
use crate::domain::query::Query;
use crate::error::Error;
pub use crate::settings::Settings;
use crate::source::Source;

pub const SERVICE: &str = "config-service";
pub const DEFAULTS: &str = include_str!("settings.toml");

/// What the handlers share.
#[derive(Debug, Clone)]
struct App {
    settings: Live<Settings>,
    context: Context,
    source: Source,
    cipher: Option<Arc<Cipher>>,
    convergence: Convergence,
}

impl App {
    /// The sources that answer a query, with secrets opened when the service is the one to do so.
    fn environment(&self, query: Query) -> Result<Environment, Error> {
        let settings = self.settings.get();
        let mut environment = Environment::assemble(&self.source.snapshot(), query, &self.source.origin())?;
        if environment.sources.is_empty() && !settings.source.accept_empty {
            return Err(Error::NothingFound);
        }
        if settings.encrypt.enabled {
            environment.decrypt(self.cipher.as_deref());
        }
        Ok(environment)
    }
}

/// Reads the source and puts the service together. It needs nothing else to be running.
pub async fn build(settings: Live<Settings>, context: Context, bus: Arc<dyn Bus>) -> anyhow::Result<Service> {
    let current = settings.get();
    let source = Source::open(&current.source.url).await?;
    source.spawn_watch(&context, current.source.poll);
    let cipher = match &current.encrypt.key {
        Some(key) => Some(Arc::new(Cipher::new(key.expose_secret(), &current.encrypt.salt)?)),
        None => None,
    };
    spawn_refresh(&context, bus.clone(), current.config.poll);
    let served = source.clone();
    let convergence = Convergence::spawn(&context, bus, settings.clone(), move || {
        served.snapshot().version.clone()
    });
    let app = App {
        settings,
        context: context.clone(),
        source,
        cipher,
        convergence,
    };
    Ok(Service::new(
        context,
        current.server.clone(),
        &current.credentials,
        routes::routes(app),
    ))
}
