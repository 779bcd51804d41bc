//! Log levels by target, which change while the process runs.
//!
//! The filter decides by the metadata of spans and events alone, once for each place in the code: neither the beginning nor the end of a span
//! takes a lock here, as they do with directives that name spans (`EnvFilter`).

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer};

use crate::settings::valid;

/// The log levels by target; they change while the process runs.
#[derive(Debug)]
pub struct Levels {
    targets: Arc<RwLock<Targets>>,
    current: Mutex<String>,
}

impl Levels {
    /// # Errors
    /// Directives that do not parse.
    pub(super) fn new(directives: &str) -> anyhow::Result<Self> {
        Ok(Self {
            targets: Arc::new(RwLock::new(valid::parse_log_directives(directives)?)),
            current: Mutex::new(directives.to_owned()),
        })
    }

    /// Returns the layer that applies the levels, also after they have changed.
    pub(super) fn filter(&self) -> FilterByTarget {
        FilterByTarget(self.targets.clone())
    }

    /// Replaces all directives; keeps the old ones where one does not parse.
    pub fn set(&self, directives: &str) -> anyhow::Result<()> {
        let mut current = self.current.lock();
        *self.targets.write() = valid::parse_log_directives(directives)?;
        tracing_core::callsite::rebuild_interest_cache();
        directives.clone_into(&mut current);
        Ok(())
    }

    /// Returns the present directives, as in `RUST_LOG`.
    #[must_use]
    pub fn directives(&self) -> String {
        self.current.lock().clone()
    }
}

pub(super) struct FilterByTarget(Arc<RwLock<Targets>>);

impl<S: Subscriber> Layer<S> for FilterByTarget {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        Layer::<S>::register_callsite(&*self.0.read(), metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        Layer::<S>::enabled(&*self.0.read(), metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<S>::max_level_hint(&*self.0.read())
    }
}
