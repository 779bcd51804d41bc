//! The commands that a client of `MongoDB` sends, as its driver reports them.

use std::sync::Arc;

use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use parking_lot::Mutex;

use crate::statements::Cost;

/// Records the names of commands. Clones share the record.
#[derive(Debug, Clone, Default)]
pub struct Commands(Arc<Mutex<Vec<String>>>);

impl Commands {
    /// Returns the option `command_event_handler` of the client whose commands are recorded.
    #[must_use]
    pub fn handler(&self) -> EventHandler<CommandEvent> {
        let record = self.clone();
        EventHandler::callback(move |event| {
            if let CommandEvent::Started(event) = event {
                record.0.lock().push(event.command_name);
            }
        })
    }

    /// Does work and returns the names of its commands, and of all others that the client has sent meanwhile.
    pub async fn of<T>(&self, work: impl Future<Output = T>) -> (Vec<String>, T) {
        self.0.lock().clear();
        let result = work.await;
        (std::mem::take(&mut *self.0.lock()), result)
    }

    /// Does work and counts its commands as [`statements::cost_of`](crate::statements::cost_of) counts statements.
    pub async fn cost_of<T>(&self, name: &str, work: impl Future<Output = T>) -> (Cost, T) {
        let (commands, result) = self.of(work).await;
        println!("{name} on MongoDB: {commands:?}");
        (Cost::of(&commands), result)
    }
}
