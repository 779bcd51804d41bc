//! The other way in: one file an event.

mod erased;
mod moderation_applied;

use std::sync::Arc;

use sosohappy_bus::Bus;
use sosohappy_bus::consume::spawn_consumer;

use crate::app::App;

pub fn spawn(app: &Arc<App>, bus: &Arc<dyn Bus>) {
    spawn_consumer(&app.context, bus.clone(), erased::CountReceipt(app.clone()));
    spawn_consumer(&app.context, bus.clone(), moderation_applied::NoteApplied(app.clone()));
}
