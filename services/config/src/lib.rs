//! The config service: Spring Cloud Config's HTTP contract over a folder or a git repository held in memory.

mod credentials;
mod domain;
mod error;
mod metrics;
mod routes;
mod settings;
mod source;
mod state;

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use sosohappy_common::Context;
use sosohappy_common::http::serve::Service;
use sosohappy_common::settings::Live;
use sosohappy_events::Bus;
use sosohappy_events::refresh::spawn_refresh;

use crate::domain::check::Checker;
use crate::domain::environment::Environment;
use crate::domain::flat::{Properties, flatten};
use crate::domain::keyring::KeyRing;
use crate::domain::query::Query;
use crate::error::Error;
pub use crate::settings::Settings;
use crate::source::{Source, View};

pub const SERVICE: &str = "config-service";
pub const DEFAULTS: &str = include_str!("settings.toml");

/// What the handlers share.
#[derive(Debug, Clone)]
struct App {
    settings: Live<Settings>,
    context: Context,
    source: Source,
    keys: Arc<KeyRing>,
    overrides: Arc<Properties>,
    /// Changes with whatever but the source has a part in an answer.
    revision: Arc<str>,
}

impl App {
    /// The files for each label of a query.
    async fn views(&self, query: &Query) -> Result<Vec<View>, Error> {
        let mut views = Vec::new();
        for label in query.labels() {
            views.push(self.source.view(label).await?);
        }
        Ok(views)
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

/// Reads the source and puts the service together. It needs nothing else to be running.
pub async fn build(settings: Live<Settings>, context: Context, bus: Arc<dyn Bus>) -> anyhow::Result<Service> {
    let current = settings.get();
    let keys = KeyRing::new(
        current.encrypt.key.as_ref(),
        &current.encrypt.keys,
        &current.encrypt.salt,
    )?;
    let overrides = flatten(serde_json::Value::Object(current.overrides.clone()));
    let source = Source::open(&current, &context, Checker::new(Vec::new(), true)).await?;
    source.register_health();
    source.spawn_watch(|| async {});
    spawn_refresh(&context, bus, current.config.poll);
    let app = App {
        settings,
        context: context.clone(),
        source,
        revision: revision(&current, &overrides).into(),
        keys: Arc::new(keys),
        overrides: Arc::new(overrides),
    };
    Ok(Service::new(
        context,
        current.server.clone(),
        &current.credentials,
        routes::routes(app),
    ))
}

/// Which keys are there matters too: a value that could not be opened may be one that can. Their aliases tell; a key that was
/// replaced under its alias comes with a restart, whose number is in the instance's name.
fn revision(settings: &Settings, overrides: &Properties) -> String {
    let aliases: Vec<_> = settings.encrypt.keys.keys().collect();
    let parts = serde_json::json!([
        overrides,
        settings.encrypt.enabled,
        settings.encrypt.key.is_some(),
        aliases
    ]);
    hex::encode(&Sha256::digest(parts.to_string())[..8])
}
