//! Structured logs, levels that change live, recent spans in memory, and spans to OTLP when configured.

mod counts;
mod levels;
mod otlp;
mod recent;

use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

pub(crate) use counts::logged_by_level;
pub use levels::Levels;
pub use recent::{RecentSpan, RecentSpans};

use crate::settings::{Log, LogFormat, Tracing};

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
    let levels = Levels::new(&log.level)?;
    let exporter = otlp::exporter(service, tracing)?;
    let recent = (tracing.recent_bytes > 0).then(|| RecentSpans::new(tracing.recent_bytes));
    EXPORTS.fetch_or(exporter.is_some(), Ordering::Relaxed);
    let lines = match log.format {
        LogFormat::Json => {
            let lines = fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
                .with_writer(writer);
            recent::JsonLines(lines).boxed()
        }
        LogFormat::Pretty => fmt::layer().with_ansi(colours).with_writer(writer).boxed(),
    };
    let subscriber = tracing_subscriber::registry()
        .with(levels.filter())
        .with(counts::CountLevels)
        .with(recent::KeepSpans(recent.clone()))
        .with(lines)
        .with(exporter.as_ref().map(otlp::layer));
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
