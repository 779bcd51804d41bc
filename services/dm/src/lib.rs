//! The dm service: messages between two people, over sockets, and their history.
//!
//! A message's way: frame of the sender → stored with its event → relay → `directMessage` → every replica → sockets of the
//! receiver. There is no short cut within a replica, so there is one order.

mod app;
mod consumers;
mod domain;
mod error;
pub mod export;
mod history;
mod housekeeping;
pub mod import;
mod legacy_messages;
mod metrics;
mod names;
mod receipts;
mod refusal;
mod routes;
mod scheduled;
mod settings;
mod settling;
mod socket;
mod spring;
mod store;
mod undelivered;
mod unnumbered;

use std::sync::Arc;

use anyhow::Context as _;
use sosohappy_access::Revocations;
use sosohappy_bus::consume::{spawn_consumer, spawn_reader};
use sosohappy_bus::refresh::spawn_refresh;
use sosohappy_bus::relay::spawn_mapping_relay;
use sosohappy_bus::{Bus, Start};
use sosohappy_common::Context;
use sosohappy_common::http::serve::Service;
use sosohappy_common::settings::Live;
use sosohappy_events::Mixed;
use sosohappy_events::types::{
    AccountResigned, ContentModerated, DeviceTokenSet, DirectMessageSent, MessageChanged, SocketFrameSent,
    SocketMessageSent,
};
use sosohappy_realtime::{Hub, spawn_revalidation};

use crate::app::App;
use crate::consumers::device_token::Devices;
use crate::consumers::message_change::MessageChanges;
use crate::consumers::moderated::Moderated;
use crate::consumers::resigned::Resigned;
use crate::consumers::sent::Sent;
use crate::consumers::socket_frame::SocketFrames;
use crate::domain::MessageIds;
use crate::metrics::DmMetrics;
pub use crate::settings::Settings;
use crate::settling::Settling;
use crate::socket::DmProtocol;
use crate::store::Store;
use crate::unnumbered::Unnumbered;

pub const SERVICE: &str = "dm-service";
pub const DEFAULTS: &str = include_str!("settings.toml");

/// Opens the store, starts hub, consumers and background tasks, and puts the service together.
pub async fn build(settings: Live<Settings>, context: Context, bus: Arc<dyn Bus>) -> anyhow::Result<Service> {
    let current = settings.get();
    let server = settings.part(|settings| settings.server.clone());
    let limits = settings.part(|settings| settings.rate_limits.clone());
    let mixed = Mixed::new(settings.part(|settings| settings.fleet.clone()));
    let opened = store::open(&current.messages, &mixed, &context)
        .await
        .context("messages.url")?;
    let metrics = DmMetrics::new(&context.metrics);
    sosohappy_store::check_database(&context.health, &opened.store);

    let records = spring::message_records(&mixed, &opened.store);
    let relay = spawn_mapping_relay(&context, bus.clone(), opened.outbox, records);
    spring::spawn_rewriting(&context, opened.store.clone());
    let revocations = Revocations::start(&context, current.access.token_lifetime, &bus);
    let hub = Hub::new(&context, settings.part(Settings::socket_limits), &revocations);
    housekeeping::spawn(&context, &opened.store, current.access.token_lifetime);
    housekeeping::spawn_positions(&context, &opened.store);
    housekeeping::spawn_repeat_keys(&context, &opened.store);
    let (identity, revalidation, _) = sosohappy_access::identity(
        &context,
        &settings.part(|settings| settings.access.clone()),
        &current.credentials,
        &bus,
        opened.directory.clone(),
        revocations.clone(),
        &mixed,
    )?;

    spawn_revalidation(&context, &hub, revalidation);
    undelivered::spawn(&context, opened.store.clone(), relay.clone());
    legacy_messages::spawn(
        &context,
        opened.store.clone(),
        identity.names.clone(),
        opened.directory.clone(),
    );

    let ids = MessageIds::new(&context);
    let unnumbered = Unnumbered {
        bus: bus.clone(),
        names: identity.names.clone(),
        directory: opened.directory.clone(),
        context: context.clone(),
    };
    let delivered = receipts::spawn_shown_marks(&context, &opened.store, &bus, &unnumbered);
    let sent = Sent::new(
        hub.clone(),
        ids.clone(),
        opened.store.clone(),
        identity.names.clone(),
        delivered.clone(),
        &context,
        metrics.clone(),
    );
    spawn_socket_readers(&context, &bus, sent, &hub, &opened.store);
    spawn_consumer::<ContentModerated>(&context, bus.clone(), Moderated(opened.store.clone()));
    spawn_consumer::<DeviceTokenSet>(&context, bus.clone(), Devices(opened.store.clone()));
    let resigned = Resigned {
        store: opened.store.clone(),
        directory: opened.directory.clone(),
        context: context.clone(),
        relay: relay.clone(),
    };
    spawn_consumer::<AccountResigned>(&context, bus.clone(), resigned);
    spawn_refresh(&context, bus, settings.part(|settings| settings.config.poll));

    let protocol = DmProtocol {
        settings: settings.clone(),
        ids,
        context: context.clone(),
        store: opened.store.clone(),
        directory: opened.directory,
        names: identity.names.clone(),
        revocations,
        mixed,
        relay,
        settling: Settling::spawn(&context, &opened.store),
        delivered,
        unnumbered: unnumbered.clone(),
        metrics: metrics.clone(),
    };
    let protocol = Arc::new(protocol);
    scheduled::spawn(&context, protocol.clone(), metrics);
    let app = App {
        settings,
        context: context.clone(),
        store: opened.store,
        names: identity.names.clone(),
        hub,
        directory: protocol.directory.clone(),
        relay: protocol.relay.clone(),
        protocol,
    };
    Ok(Service::new(
        context,
        server,
        &limits,
        &current.credentials,
        routes::routes(app, identity),
    ))
}

/// Reads the records that the sockets of this replica show.
fn spawn_socket_readers(context: &Context, bus: &Arc<dyn Bus>, sent: Sent, hub: &Hub, store: &Arc<dyn Store>) {
    spawn_reader::<DirectMessageSent>(context, bus.clone(), Start::Latest, sent.clone());
    spawn_reader::<SocketMessageSent>(context, bus.clone(), Start::Latest, sent);
    let changes = MessageChanges {
        hub: hub.clone(),
        store: store.clone(),
    };
    spawn_reader::<MessageChanged>(context, bus.clone(), Start::Latest, changes);
    spawn_reader::<SocketFrameSent>(context, bus.clone(), Start::Latest, SocketFrames(hub.clone()));
}
