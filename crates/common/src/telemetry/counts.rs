//! Counts of log events by level, under the name of Spring's dashboards.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// The counts of the one subscriber of the process; indexed by [`index`].
static LOGGED: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
const NAMES: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

pub(super) struct CountLevels;

impl<S: Subscriber> Layer<S> for CountLevels {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        LOGGED[index(*event.metadata().level())].fetch_add(1, Ordering::Relaxed);
    }
}

fn index(level: Level) -> usize {
    match level {
        Level::ERROR => 0,
        Level::WARN => 1,
        Level::INFO => 2,
        Level::DEBUG => 3,
        Level::TRACE => 4,
    }
}

/// Level and count since the process began.
pub(crate) fn logged_by_level() -> impl Iterator<Item = (&'static str, u64)> {
    NAMES
        .into_iter()
        .zip(LOGGED.iter().map(|count| count.load(Ordering::Relaxed)))
}
