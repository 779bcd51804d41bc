//! The auth service: accounts, sessions and their tokens, profiles, blocks, and leaving for good.

mod app;
mod audit;
mod authenticate;
mod connections;
mod consumers;
mod domain;
mod email_accounts;
mod error;
pub mod export;
mod external_calls;
mod id_tokens;
mod identities;
pub mod import;
mod keys;
mod ledger;
mod mailer;
mod metrics;
mod moderation;
mod nicknames;
mod notifications;
mod passwords;
mod provider_tokens;
mod providers;
mod relations;
mod resignations;
mod routes;
mod sessions;
mod settings;
mod store;
mod timers;

use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Map;
use sosohappy_bus::Bus;
use sosohappy_bus::refresh::spawn_refresh;
use sosohappy_bus::relay::{Hints, spawn_relay_with_heartbeats};
use sosohappy_common::Context;
use sosohappy_common::http::serve::Service;
use sosohappy_common::rate::{Key, KeyedLimiter, Rate};
use sosohappy_common::settings::Live;
use sosohappy_events::Mixed;
use sosohappy_media::Images;
use tokio::sync::Notify;

use crate::app::App;
use crate::domain::hash::AccountHasher;
use crate::id_tokens::IdTokens;
use crate::keys::{Keyring, SECRET_BYTES};
use crate::ledger::Ledger;
use crate::mailer::Mailer;
use crate::metrics::Metrics;
use crate::passwords::Passwords;
use crate::provider_tokens::ProviderTokens;
use crate::providers::Providers;
pub use crate::settings::Settings;
use crate::store::Store;

pub const SERVICE: &str = "auth-service";
pub const DEFAULTS: &str = include_str!("settings.toml");

/// Accounts or sessions that a replica counts for one limit: about 300 bytes each.
const MOST_COUNTED: u64 = 20_000;

/// Opens the store and puts the service together; relay, consumer and timers live on the context.
pub async fn build(settings: Live<Settings>, context: Context, bus: Arc<dyn Bus>) -> anyhow::Result<Service> {
    let current = settings.get();
    let server = settings.part(|settings| settings.server.clone());
    let limits = settings.part(|settings| settings.rate_limits.clone());
    let poll = settings.part(|settings| settings.config.poll);
    let id_tokens = IdTokens::of(&current.sign_in, &context.clock)?;
    let store = store::open(&current.database.url, current.database.max_connections, &context)
        .await
        .context("database.url")?;
    nicknames::make_keys(store.as_ref(), &context)
        .await
        .context("canonical keys of nicknames")?;
    let hash_key = shared_secret(store.as_ref(), &context, "account-hash").await?;
    let stored_key = shared_secret(store.as_ref(), &context, "signing-key").await?;
    let provider_key = shared_secret(store.as_ref(), &context, "provider-tokens").await?;
    let keyring = Keyring::of(&current.tokens.keys, &stored_key)?.with_legacy(&current.tokens.legacy_key)?;
    let hints = Hints::open(&current.server, &current.credentials).await;
    let metrics = Metrics::register(&context.metrics);
    let app = Arc::new(App {
        images: Images::open(&current.images.url, &context).context("images.url")?,
        keyring,
        id_tokens,
        mailer: Mailer::of(&current.mail, &current.sign_in).context("mail.url")?,
        passwords: Passwords::new(&current.passwords, metrics.password_hashes.clone()),
        email_codes: limit(&settings, &context, |settings| settings.email.codes_per_minute),
        reissues: limit(&settings, &context, |settings| settings.sessions.reissues_per_minute),
        hasher: AccountHasher::new(&hash_key),
        relay: spawn_relay_with_heartbeats(&context, bus.clone(), store.outbox(), hints),
        metrics,
        failed_sign_ins: limit(&settings, &context, |settings| settings.sign_in.failures_per_minute),
        failed_sign_ins_of_all: {
            let clock = context.clock.clone();
            settings.follow(move |settings, before| {
                KeyedLimiter::renewed(before, settings.sign_in.failures_of_all_per_minute, 1, &clock)
            })
        },
        reports: limit(&settings, &context, |settings| settings.moderation.reports_per_minute),
        mixed: Mixed::new(settings.part(|settings| settings.fleet.clone())),
        provider_tokens: ProviderTokens::of(&current.tokens.provider_keys, &provider_key)?,
        providers: Providers::of(&current)?,
        external_calls: Notify::new(),
        ledger: current.resignation.ledger.clone().map(Ledger::new),
        store,
        settings,
        context: context.clone(),
    });
    Box::pin(resignations::lost::reconcile(&app))
        .await
        .context("resignation.ledger")?;
    register_health(&app);
    consumers::spawn(&app, &bus);
    timers::spawn(&app);
    external_calls::spawn(&app);
    spawn_refresh(&context, bus, poll);
    let routes = routes::routes(app, &current.credentials);
    Ok(Service::new(context, server, &limits, &current.credentials, routes))
}

/// The database, and how many resignations wait for a service: those are for operators to see, and no reason to be down.
fn register_health(app: &Arc<App>) {
    sosohappy_store::check_database(&app.context.health, &app.store);
    let asked = app.store.clone();
    app.context.health.register("resignations", move || {
        let store = asked.clone();
        async move {
            let unfinished = store
                .unfinished_resignations()
                .await
                .map_err(|error| error.to_string())?;
            let oldest = unfinished.oldest.map(|oldest| oldest.to_string());
            Ok(Map::from_iter([
                ("unfinished".into(), unfinished.count.into()),
                ("oldest".into(), oldest.into()),
            ]))
        }
    });
}

/// Returns a limit by account, or by session, that follows its setting.
fn limit<K: Key>(
    settings: &Live<Settings>,
    context: &Context,
    rate: impl Fn(&Settings) -> Rate + Send + Sync + 'static,
) -> Live<KeyedLimiter<K>> {
    let clock = context.clock.clone();
    settings.follow(move |settings, before| KeyedLimiter::renewed(before, rate(settings), MOST_COUNTED, &clock))
}

/// A secret that the first replica creates, the same for all replicas.
async fn shared_secret(store: &dyn Store, context: &Context, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut candidate = [0; SECRET_BYTES];
    context.entropy.fill(&mut candidate);
    Ok(store.secret(name, &candidate).await?)
}
