//! Structured logs, levels that change live, and spans to OTLP when configured.

mod counts;
mod otlp;

use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry_sdk::trace::SdkTracerProvider;
use parking_lot::Mutex;
use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

pub(crate) use counts::logged_by_level;

use crate::settings::{Log, LogFormat, Tracing, valid};

/// The subscriber is one a process, so is the handle to its levels.
static LEVELS: OnceLock<Levels> = OnceLock::new();
/// Whether there is a subscriber in this process that exports spans.
static EXPORTS: AtomicBool = AtomicBool::new(false);

/// Keeps telemetry going; flush it before the process ends.
#[derive(Debug)]
pub struct Telemetry {
    exporter: Option<SdkTracerProvider>,
}

/// What is logged, by target; changes while the process runs.
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
}

impl Telemetry {
    /// Installs the global subscriber. Once a process; `service` names it where spans are collected.
    pub fn install(service: &str, log: &Log, tracing: &Tracing) -> anyhow::Result<Self> {
        let colours = std::io::stdout().is_terminal();
        let built = build(service, log, tracing, std::io::stdout, colours)?;
        built.subscriber.try_init()?;
        LEVELS.get_or_init(|| built.levels);
        log_panics();
        Ok(Self {
            exporter: built.exporter,
        })
    }

    /// Sends the spans that still wait.
    pub fn flush(&self) {
        if let Some(exporter) = &self.exporter
            && let Err(error) = exporter.force_flush()
        {
            tracing::warn!(%error, "span export failed");
        }
    }
}

/// Logs what this thread does until the guard is dropped: for what comes before [`Telemetry::install`].
pub(crate) fn meanwhile(service: &str, log: &Log) -> anyhow::Result<tracing::subscriber::DefaultGuard> {
    let nowhere = Tracing {
        otlp_endpoint: None,
        sample_ratio: 0.0,
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
        .with(exporter.as_ref().map(otlp::layer));
    let levels = Levels {
        handle,
        current: Mutex::new(log.level.clone()),
    };
    Ok(Built {
        subscriber,
        levels,
        exporter,
    })
}

/// Whether spans go to a collector, or end in this process.
pub(crate) fn exports() -> bool {
    EXPORTS.load(Ordering::Relaxed)
}

/// The levels of this process; none before [`Telemetry::install`].
#[must_use]
pub fn levels() -> Option<&'static Levels> {
    LEVELS.get()
}

/// Applies directives that were found valid; does nothing before [`Telemetry::install`].
pub(crate) fn apply_level(directives: &str) {
    if let Some(levels) = LEVELS.get()
        && let Err(error) = levels.set(directives)
    {
        tracing::error!(%error, "failed to change log level");
    }
}

impl Levels {
    /// Replaces all directives; one that does not parse is refused and the old ones stay.
    pub fn set(&self, directives: &str) -> anyhow::Result<()> {
        let mut current = self.current.lock();
        self.handle.reload(valid::parse_log_directives(directives)?)?;
        directives.clone_into(&mut current);
        Ok(())
    }

    /// The directives of this moment, as in `RUST_LOG`.
    #[must_use]
    pub fn directives(&self) -> String {
        self.current.lock().clone()
    }
}

/// A panic becomes a log line like any other.
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
