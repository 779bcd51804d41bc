//! The notice service: notices reach their receiver on a socket or as a push.

mod app;
mod banners;
mod consumers;
mod delivery;
mod domain;
mod error;
mod housekeeping;
mod metrics;
mod names;
mod push;
mod routes;
mod seen;
mod settings;
mod shown;
mod shows;
mod socket;
mod store;

use std::sync::Arc;

use anyhow::Context as _;
use sosohappy_access::Revocations;
use sosohappy_bus::Bus;
use sosohappy_bus::refresh::spawn_refresh;
use sosohappy_bus::relay::{Hints, spawn_relay};
use sosohappy_common::http::serve::Service;
use sosohappy_common::settings::Live;
use sosohappy_common::{Context, WakeHandle};
use sosohappy_events::Mixed;
use sosohappy_realtime::{Hub, spawn_revalidation};

use crate::app::App;
use crate::banners::Banners;
use crate::delivery::Delivery;
use crate::metrics::NoticeMetrics;
use crate::push::Worker;
use crate::seen::SeenDevices;
pub use crate::settings::Settings;
use crate::shown::ShownReports;
use crate::socket::{NoticeProtocol, Resuming};

pub const SERVICE: &str = "notice-service";
pub const DEFAULTS: &str = include_str!("settings.toml");

/// Opens the inbox and the push gateway, starts consumers and background tasks, and puts the service together.
pub async fn build(settings: Live<Settings>, context: Context, bus: Arc<dyn Bus>) -> anyhow::Result<Service> {
    let current = settings.get();
    let server = settings.part(|settings| settings.server.clone());
    let limits = settings.part(|settings| settings.rate_limits.clone());
    let mixed = Mixed::new(settings.part(|settings| settings.fleet.clone()));
    let poll = settings.part(|settings| settings.config.poll);
    let inbox = store::open(&current.inbox, &context).await.context("inbox.url")?;
    let born = inbox.store.born(context.clock.now()).await?;
    let metrics = NoticeMetrics::new(&context.metrics);
    let gateway = push::open(&current.push, &context, &metrics)?;
    sosohappy_store::check_database(&context.health, &inbox.store);

    let revocations = Revocations::start(&context, current.access.token_lifetime, &bus);
    let (identity, revalidation, muted_words) = sosohappy_access::identity(
        &context,
        &settings.part(|settings| settings.access.clone()),
        &current.credentials,
        &bus,
        inbox.directory.clone(),
        revocations.clone(),
        &mixed,
    )?;
    let hub = Hub::new(&context, settings.part(|settings| settings.sockets), &revocations);
    spawn_revalidation(&context, &hub, revalidation);
    let hints = Hints::open(&current.server, &current.credentials).await;
    let relay = spawn_relay(&context, bus.clone(), inbox.outbox, hints);
    let pushes = WakeHandle::default();
    let worker = Worker {
        settings: settings.clone(),
        context: context.clone(),
        store: inbox.store.clone(),
        directory: inbox.directory.clone(),
        names: identity.names.clone(),
        revocations: revocations.clone(),
        gateway,
        metrics: metrics.clone(),
        woken: pushes.clone(),
    };
    worker.spawn();
    housekeeping::spawn(&context, settings.clone(), inbox.store.clone(), metrics.clone());
    let shown = ShownReports::spawn(&context, &inbox.store, &metrics);
    let banners = Banners {
        store: inbox.store.clone(),
        pushes: pushes.clone(),
    };
    let delivery = Delivery {
        settings,
        context: context.clone(),
        store: inbox.store,
        directory: inbox.directory,
        names: identity.names.clone(),
        muted_words,
        hub: hub.clone(),
        banners,
        revocations,
        pushes,
        metrics,
        shown,
        dedupe: Arc::default(),
        withdrawn: Arc::default(),
        started: context.clock.now(),
        born,
        is_beside_spring_notice: mixed.is_beside_spring_notice(),
    };
    consumers::spawn(&bus, &delivery, relay);
    spawn_refresh(&context, bus, poll);

    let protocol = NoticeProtocol {
        store: delivery.store.clone(),
        directory: delivery.directory.clone(),
        names: identity.names.clone(),
        shown: delivery.shown.clone(),
        seen: SeenDevices::spawn(&context, &delivery.store),
        resuming: Resuming::new(&delivery.store, &delivery.names, &delivery.metrics),
    };
    let app = App {
        banners: delivery.banners,
        context: context.clone(),
        store: delivery.store,
        directory: delivery.directory,
        hub,
        names: identity.names.clone(),
        protocol: Arc::new(protocol),
    };
    Ok(Service::new(
        context,
        server,
        &limits,
        &current.credentials,
        routes::routes(app, identity),
    ))
}
