//! The dm service: messages between two people, over sockets, and their history.
//!
//! The path of a message: frame of the sender → stored with its event → relay → `directMessage` → every replica → sockets of the
//! receiver. A replica has no shorter path to its own sockets, so that all sockets see one order.

mod app;
mod consumers;
mod domain;
mod error;
mod events;
pub mod export;
mod history;
mod housekeeping;
pub mod import;
mod legacy_messages;
mod metrics;
mod names;
mod receipts;
mod refusal;
mod requests;
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
use sosohappy_access::{Revocations, current_blocks};
use sosohappy_bus::consume::{spawn_consumer, spawn_reader};
use sosohappy_bus::refresh::spawn_refresh;
use sosohappy_bus::relay::{Hints, spawn_mapping_relay};
use sosohappy_bus::{Bus, Start};
use sosohappy_common::Context;
use sosohappy_common::http::serve::Service;
use sosohappy_common::settings::Live;
use sosohappy_events::Mixed;
use sosohappy_events::types::{
    AccountResigned, ContentModerated, DeviceTokenSet, DirectMessageSent, FollowChanged, MessageChanged,
    MessageRequestChanged, RoomMessageSent, SocketFrameSent, SocketMessageSent,
};
use sosohappy_realtime::{Hub, spawn_revalidation};

use crate::app::App;
use crate::consumers::device_token::Devices;
use crate::consumers::follow::Friendships;
use crate::consumers::message_change::MessageChanges;
use crate::consumers::message_request::MessageRequests;
use crate::consumers::moderated::Moderated;
use crate::consumers::resigned::Resigned;
use crate::consumers::room_message::RoomMessages;
use crate::consumers::sent::Sent;
use crate::consumers::socket_frame::SocketFrames;
use crate::domain::MessageIds;
use crate::metrics::DmMetrics;
use crate::requests::Requests;
pub use crate::settings::Settings;
use crate::settling::Settling;
use crate::socket::DmProtocol;
use crate::unnumbered::Unnumbered;

pub const SERVICE: &str = "dm-service";
pub const DEFAULTS: &str = include_str!("settings.toml");

/// Opens the store, starts hub, consumers and background tasks, and puts the service together.
pub async fn build(settings: Live<Settings>, context: Context, bus: Arc<dyn Bus>) -> anyhow::Result<Service> {
    let current = settings.get();
    let server = settings.part(|settings| settings.server.clone());
    let limits = settings.part(|settings| settings.rate_limits.clone());
    let mixed = Mixed::new(settings.part(|settings| settings.fleet.clone()));
    let mut opened = store::open(&current, &mixed, &context).await.context("messages.url")?;
    let metrics = DmMetrics::new(&context.metrics);
    sosohappy_store::check_database(&context.health, &opened.store);

    let records = spring::message_records(&mixed, &opened.store);
    let hints = Hints::open(&current.server, &current.credentials).await;
    let relay = spawn_mapping_relay(&context, bus.clone(), opened.outbox, hints, records);
    spring::spawn_rewriting(&context, opened.store.clone());
    let revocations = Revocations::start(&context, current.access.token_lifetime, &bus);
    let hub = Hub::new(&context, settings.part(Settings::socket_limits), &revocations);
    housekeeping::spawn(&context, &opened.store, current.access.token_lifetime);
    let (identity, revalidation, _) = sosohappy_access::identity(
        &context,
        &settings.part(|settings| settings.access.clone()),
        &current.credentials,
        &bus,
        opened.directory.clone(),
        revocations.clone(),
        &mixed,
    )?;
    opened.directory = current_blocks(opened.directory, &revalidation);
    spawn_revalidation(&context, &hub, revalidation);
    undelivered::spawn(&context, opened.store.clone(), relay.clone());
    let names = identity.names.clone();
    legacy_messages::spawn(&context, opened.store.clone(), names.clone(), opened.directory.clone());

    let ids = MessageIds::new(&context);
    let unnumbered = Unnumbered::new(&context, &bus, &names, &opened.directory);
    let delivered = receipts::spawn_shown_marks(&context, &opened.store, &bus, &unnumbered);
    let sent = Sent::new(
        hub.clone(),
        ids.clone(),
        opened.store.clone(),
        names.clone(),
        delivered.clone(),
        &context,
        metrics.clone(),
    );
    let requests = Requests {
        settings: settings.clone(),
        context: context.clone(),
        ids: ids.clone(),
        store: opened.store.clone(),
        directory: opened.directory.clone(),
        mixed: mixed.clone(),
        relay: relay.clone(),
        idle_rounds: Arc::default(),
    };
    let resigned = Resigned {
        store: opened.store.clone(),
        directory: opened.directory.clone(),
        context: context.clone(),
        relay: relay.clone(),
    };
    spawn_consumers(&context, &bus, resigned, unnumbered.clone(), requests.clone());
    requests.spawn();
    let protocol = DmProtocol {
        requests,
        settings: settings.clone(),
        ids,
        context: context.clone(),
        store: opened.store.clone(),
        directory: opened.directory,
        names: names.clone(),
        revocations,
        mixed,
        relay,
        settling: Settling::spawn(&context, &opened.store),
        delivered,
        unnumbered: unnumbered.clone(),
        metrics: metrics.clone(),
    };
    let protocol = Arc::new(protocol);
    spawn_socket_readers(&context, &bus, sent, &hub, &protocol);
    spawn_refresh(&context, bus, settings.part(|settings| settings.config.poll));
    scheduled::spawn(&context, protocol.clone(), metrics);
    let app = App {
        settings,
        context: context.clone(),
        store: opened.store,
        names: names.clone(),
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

/// Consumes the records that one replica handles for all.
fn spawn_consumers(
    context: &Context,
    bus: &Arc<dyn Bus>,
    resigned: Resigned,
    unnumbered: Unnumbered,
    requests: Requests,
) {
    let moderated = Moderated {
        store: resigned.store.clone(),
        unnumbered,
    };
    spawn_consumer::<ContentModerated>(context, bus.clone(), moderated);
    spawn_consumer::<DeviceTokenSet>(context, bus.clone(), Devices(resigned.store.clone()));
    spawn_consumer::<AccountResigned>(context, bus.clone(), resigned);
    spawn_consumer::<FollowChanged>(context, bus.clone(), Friendships(requests));
}

/// Reads the records that the sockets of this replica show.
fn spawn_socket_readers(context: &Context, bus: &Arc<dyn Bus>, sent: Sent, hub: &Hub, protocol: &Arc<DmProtocol>) {
    spawn_reader::<MessageRequestChanged>(context, bus.clone(), Start::Latest, MessageRequests::new(&sent));
    spawn_reader::<DirectMessageSent>(context, bus.clone(), Start::Latest, sent.clone());
    spawn_reader::<SocketMessageSent>(context, bus.clone(), Start::Latest, sent);
    let changes = MessageChanges {
        hub: hub.clone(),
        store: protocol.store.clone(),
    };
    spawn_reader::<MessageChanged>(context, bus.clone(), Start::Latest, changes);
    let room_messages = RoomMessages::new(hub, protocol);
    spawn_reader::<RoomMessageSent>(context, bus.clone(), Start::Latest, room_messages);
    spawn_reader::<SocketFrameSent>(context, bus.clone(), Start::Latest, SocketFrames(hub.clone()));
}
