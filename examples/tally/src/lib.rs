//! An example of a sixth service: it counts the posts of each day.
//!
//! It has no database: each replica reads the last days of the topic when it starts, and is not ready before it has caught up.

mod posts;
mod routes;
mod settings;

use std::sync::Arc;

use sosohappy_bus::consume::spawn_reader;
use sosohappy_bus::refresh::spawn_refresh;
use sosohappy_bus::{Bus, Start};
use sosohappy_common::Context;
use sosohappy_common::http::serve::Service;
use sosohappy_common::settings::Live;
use sosohappy_events::types::PostChanged;

use crate::posts::Posts;
use crate::routes::App;
pub use crate::settings::Settings;

pub const SERVICE: &str = "tally-service";
pub const DEFAULTS: &str = include_str!("settings.toml");

/// Starts the consumers, and puts the service together.
pub fn build(settings: &Live<Settings>, context: Context, bus: Arc<dyn Bus>) -> Service {
    let current = settings.get();
    let server = settings.part(|settings| settings.server.clone());
    let limits = settings.part(|settings| settings.rate_limits.clone());
    let posts = Posts::new(context.clock.clone());
    let start = Start::At(posts.horizon());
    spawn_reader::<PostChanged>(&context, bus.clone(), start, posts.clone());
    spawn_refresh(&context, bus, settings.part(|settings| settings.config.poll));
    let app = App { posts };
    Service::new(context, server, &limits, &current.credentials, routes::routes(app))
}
