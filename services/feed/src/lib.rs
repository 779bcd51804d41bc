//! The feed service: posts, likes, pictures, and statistics of happiness.

mod app;
mod archive;
mod consumers;
mod copies;
mod domain;
mod error;
pub mod export;
mod housekeeping;
pub mod import;
mod metrics;
mod routes;
mod settings;
mod store;
pub mod views;

use std::sync::Arc;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use sosohappy_access::Revocations;
use sosohappy_bus::Bus;
use sosohappy_bus::consume::spawn_consumer;
use sosohappy_bus::refresh::spawn_refresh;
use sosohappy_bus::relay::{Hints, spawn_relay};
use sosohappy_common::Context;
use sosohappy_common::http::serve::Service;
use sosohappy_common::settings::Live;
use sosohappy_events::Mixed;
use sosohappy_events::types::{AccountResigned, AccountStateChanged, ContentModerated, PostChanged};
use sosohappy_media::Images;

use crate::app::App;
use crate::consumers::moderated::Moderated;
use crate::consumers::resigned::Resigned;
use crate::consumers::suspended::Suspended;
use crate::consumers::viewed::Viewed;
use crate::domain::Cursors;
use crate::domain::phrases::Phrases;
use crate::metrics::FeedMetrics;
use crate::settings::Recommendations;
pub use crate::settings::Settings;

pub const SERVICE: &str = "feed-service";
pub const DEFAULTS: &str = include_str!("settings.toml");

/// Opens the database and the image store, starts consumers and background tasks, and puts the service together.
pub async fn build(settings: Live<Settings>, context: Context, bus: Arc<dyn Bus>) -> anyhow::Result<Service> {
    let current = settings.get();
    let server = settings.part(|settings| settings.server.clone());
    let limits = settings.part(|settings| settings.rate_limits.clone());
    let mixed = Mixed::new(settings.part(|settings| settings.fleet.clone()));
    let database = store::open(&current.database.url, current.database.max_connections, &context)
        .await
        .context("database.url")?;
    let images = Images::open(&current.images.url, &context).context("images.url")?;
    let phrases = phrases(&current.recommendations).context("recommendations.phrases")?;
    let metrics = FeedMetrics::new(&context.metrics);
    sosohappy_store::check_database(&context.health, &database.store);

    let hints = Hints::open(&current.server, &current.credentials).await;
    let relay = spawn_relay(&context, bus.clone(), database.outbox.clone(), hints);
    let garbage = housekeeping::spawn(
        &context,
        &database.store,
        &images,
        &metrics,
        current.access.token_lifetime,
    );
    housekeeping::count_held(&context, &database.store, &metrics, &settings);
    let revocations = Revocations::start(&context, current.access.token_lifetime, &bus);
    let (identity, _, muted_words) = sosohappy_access::identity(
        &context,
        &settings.part(|settings| settings.access.clone()),
        &current.credentials,
        &bus,
        database.directory.clone(),
        revocations.clone(),
        &mixed,
    )?;
    let resigned = Resigned {
        store: database.store.clone(),
        directory: database.directory,
        context: context.clone(),
        relay: relay.clone(),
        garbage: garbage.clone(),
    };
    spawn_consumer::<AccountResigned>(&context, bus.clone(), resigned);
    let renewals = housekeeping::renew_images(&context, &database.store, &images, &garbage, &relay, &metrics);
    let moderated = Moderated {
        store: database.store.clone(),
        bus: bus.clone(),
        images: images.clone(),
        context: context.clone(),
        relay: relay.clone(),
        garbage: garbage.clone(),
        renewals: renewals.clone(),
        metrics: metrics.clone(),
    };
    spawn_consumer::<ContentModerated>(&context, bus.clone(), moderated);
    let suspended = Suspended {
        store: database.store.clone(),
        renewals,
    };
    spawn_consumer::<AccountStateChanged>(&context, bus.clone(), suspended);
    let viewed = Viewed {
        store: database.store.clone(),
        context: context.clone(),
    };
    spawn_consumer::<PostChanged>(&context, bus.clone(), viewed);
    spawn_refresh(&context, bus, settings.part(|settings| settings.config.poll));

    let app = App {
        mixed,
        settings,
        context: context.clone(),
        store: database.store,
        images,
        names: identity.names.clone(),
        muted_words,
        revocations,
        identity: identity.clone(),
        relay,
        garbage,
        metrics,
        phrases: Arc::new(phrases),
        cursors: Cursors::new(current.credentials.service_token.expose_secret().as_bytes()),
    };
    Ok(Service::new(
        context,
        server,
        &limits,
        &current.credentials,
        routes::routes(app, identity),
    ))
}

fn phrases(settings: &Recommendations) -> anyhow::Result<Phrases> {
    let Some(file) = &settings.phrases else {
        return Ok(Phrases::default());
    };
    let json = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Phrases::parse(&json).with_context(|| file.display().to_string())
}
