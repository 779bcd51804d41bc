//! Writes down which devices were seen: those whose session opened a socket, once a day.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use sosohappy_access::Caller;
use sosohappy_common::clock::Clock;
use sosohappy_common::{Account, Context};
use sosohappy_events::types::SessionId;
use sosohappy_realtime::Marks;

use crate::store::Store;

/// A device that was seen is not written again within this time by the same replica.
const ONCE_IN: Duration = Duration::from_hours(24);

/// Sessions of the last day that a replica remembers. Beyond it forgets all, and writes them once more.
const REMEMBERED: usize = 200_000;

/// Clones share the queue and the memory.
#[derive(Debug, Clone)]
pub struct SeenDevices {
    marks: Marks<(Account, SessionId)>,
    written: Arc<Mutex<HashMap<SessionId, Timestamp>>>,
    clock: Arc<dyn Clock>,
}

impl SeenDevices {
    pub fn spawn(context: &Context, store: &Arc<dyn Store>) -> Self {
        let store = store.clone();
        let marks = Marks::spawn(context, move |sessions: Vec<(Account, SessionId)>, at| {
            let store = store.clone();
            Box::pin(async move { store.seen(&sessions, at).await })
        });
        Self {
            marks,
            written: Arc::default(),
            clock: context.clock.clone(),
        }
    }

    /// Notes that a session opened a socket. Does not wait for the store.
    pub fn note(&self, caller: &Caller) {
        let now = self.clock.now();
        {
            let mut written = self.written.lock();
            let last = written.get(&caller.session);
            if last.is_some_and(|last| now.duration_since(*last).unsigned_abs() < ONCE_IN) {
                return;
            }
            if written.len() >= REMEMBERED {
                written.clear();
            }
            written.insert(caller.session, now);
        }
        self.marks.mark((caller.account.clone(), caller.session));
    }
}
