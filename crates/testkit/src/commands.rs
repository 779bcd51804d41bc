//! The commands that a client of `MongoDB` sends, as its driver reports them.

use std::sync::Arc;

use mongodb::bson::Document;
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use parking_lot::Mutex;

use crate::statements::Cost;

/// Records commands with their names. Clones share the record.
#[derive(Debug, Clone, Default)]
pub struct Commands(Arc<Mutex<Vec<(String, Document)>>>);

impl Commands {
    /// Returns the option `command_event_handler` of the client whose commands are recorded.
    #[must_use]
    pub fn handler(&self) -> EventHandler<CommandEvent> {
        let record = self.clone();
        EventHandler::callback(move |event| {
            if let CommandEvent::Started(event) = event {
                record.0.lock().push((event.command_name, event.command));
            }
        })
    }

    /// Does work and returns its commands with their names, and all others that the client has sent meanwhile.
    pub async fn documents_of<T>(&self, work: impl Future<Output = T>) -> (Vec<(String, Document)>, T) {
        self.0.lock().clear();
        let result = work.await;
        (std::mem::take(&mut *self.0.lock()), result)
    }

    /// Does work and returns the names of its commands.
    pub async fn of<T>(&self, work: impl Future<Output = T>) -> (Vec<String>, T) {
        let (commands, result) = self.documents_of(work).await;
        (commands.into_iter().map(|(name, _)| name).collect(), result)
    }

    /// Does work and counts its commands as [`statements::cost_of`](crate::statements::cost_of) counts statements.
    pub async fn cost_of<T>(&self, name: &str, work: impl Future<Output = T>) -> (Cost, T) {
        let (commands, result) = self.of(work).await;
        println!("{name} on MongoDB: {commands:?}");
        (Cost::of(&commands), result)
    }
}
