//! Structured logs, levels that change live, recent spans in memory, and spans to OTLP when configured.

mod counts;
mod otlp;
mod recent;

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use opentelemetry_sdk::trace::SdkTracerProvider;
use parking_lot::Mutex;
use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

pub(crate) use counts::logged_by_level;
pub use recent::{RecentSpan, RecentSpans};

use crate::settings::{Log, LogFormat, Tracing, valid};

/// The handle to the levels of the one subscriber of the process.
static LEVELS: OnceLock<Levels> = OnceLock::new();
/// The recent spans of the one subscriber of the process.
static RECENT: OnceLock<Arc<RecentSpans>> = OnceLock::new();
/// Whether the subscriber of this process exports spans.
static EXPORTS: AtomicBool = AtomicBool::new(false);

/// The installed telemetry; flush it before the process ends.
#[derive(Debug)]
pub struct Telemetry {
    exporter: Option<SdkTracerProvider>,
}

/// The log levels by target; they change while the process runs.
#[derive(Debug)]
pub struct Levels {
    handle: reload::Handle<EnvFilter, Registry>,
    current: Mutex<String>,
}

/// A subscriber that is not installed yet.
struct Built<S> {
    subscriber: S,
    levels: Levels,
    exporter: Option<SdkTracerProvider>,
    recent: Option<Arc<RecentSpans>>,
}

impl Telemetry {
    /// Installs the global subscriber, once a process. `service` is its name in exported spans.
    pub fn install(service: &str, log: &Log, tracing: &Tracing) -> anyhow::Result<Self> {
        let colours = std::io::stdout().is_terminal();
        let built = build(service, log, tracing, std::io::stdout, colours)?;
        built.subscriber.try_init()?;
        LEVELS.get_or_init(|| built.levels);
        if let Some(recent) = built.recent {
            RECENT.get_or_init(|| recent);
        }
        log_panics();
        Ok(Self {
            exporter: built.exporter,
        })
    }

    /// Exports the buffered spans.
    pub fn flush(&self) {
        if let Some(exporter) = &self.exporter
            && let Err(error) = exporter.force_flush()
        {
            tracing::warn!(%error, "span export failed");
        }
    }
}

/// Logs the work of this thread until the guard is dropped: for work before [`Telemetry::install`].
pub(crate) fn meanwhile(service: &str, log: &Log) -> anyhow::Result<tracing::subscriber::DefaultGuard> {
    let nowhere = Tracing {
        otlp_endpoint: None,
        sample_ratio: 0.0,
        recent_bytes: 0,
    };
    let built = build(service, log, &nowhere, std::io::stdout, std::io::stdout().is_terminal())?;
    Ok(tracing::subscriber::set_default(built.subscriber))
}

fn build<W>(
    service: &str,
    log: &Log,
    tracing: &Tracing,
    writer: W,
    colours: bool,
) -> anyhow::Result<Built<impl Subscriber + Send + Sync + use<W>>>
where
    W: for<'writer> fmt::MakeWriter<'writer> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(valid::parse_log_directives(&log.level)?);
    let exporter = otlp::exporter(service, tracing)?;
    let recent = (tracing.recent_bytes > 0).then(|| RecentSpans::new(tracing.recent_bytes));
    EXPORTS.fetch_or(exporter.is_some(), Ordering::Relaxed);
    let lines = match log.format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(writer)
            .boxed(),
        LogFormat::Pretty => fmt::layer().with_ansi(colours).with_writer(writer).boxed(),
    };
    let subscriber = tracing_subscriber::registry()
        .with(filter)
        .with(counts::CountLevels)
        .with(lines)
        .with(recent.clone().map(recent::KeepRecent))
        .with(exporter.as_ref().map(otlp::layer));
    let levels = Levels {
        handle,
        current: Mutex::new(log.level.clone()),
    };
    Ok(Built {
        subscriber,
        levels,
        exporter,
        recent,
    })
}

/// Returns whether spans are exported to a collector.
pub(crate) fn exports() -> bool {
    EXPORTS.load(Ordering::Relaxed)
}

/// Returns the recent spans of this process; `None` before [`Telemetry::install`], or if `tracing.recent-bytes` is 0.
#[must_use]
pub fn recent_spans() -> Option<&'static RecentSpans> {
    RECENT.get().map(|recent| &**recent)
}

/// Returns the levels of this process; `None` before [`Telemetry::install`].
#[must_use]
pub fn levels() -> Option<&'static Levels> {
    LEVELS.get()
}

/// Applies valid directives; does nothing before [`Telemetry::install`].
pub(crate) fn apply_level(directives: &str) {
    if let Some(levels) = LEVELS.get()
        && let Err(error) = levels.set(directives)
    {
        tracing::error!(%error, "failed to change log level");
    }
}

impl Levels {
    /// Replaces all directives; keeps the old ones where one does not parse.
    pub fn set(&self, directives: &str) -> anyhow::Result<()> {
        let mut current = self.current.lock();
        self.handle.reload(valid::parse_log_directives(directives)?)?;
        directives.clone_into(&mut current);
        Ok(())
    }

    /// Returns the present directives, as in `RUST_LOG`.
    #[must_use]
    pub fn directives(&self) -> String {
        self.current.lock().clone()
    }
}

/// Logs panics as errors.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string);
        tracing::error!(
            location,
            reason = crate::lifecycle::panic_message(panic.payload()),
            "panicked"
        );
    }));
}

#[cfg(test)]
#[path = "telemetry/tests.rs"]
mod tests;
