//! Start, run and graceful shutdown of a process.

use std::fmt::Debug;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use futures::future::{join_all, select_all};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use crate::Context;
use crate::faults;
use crate::http::serve::Service;
use crate::lifecycle::Lifecycle;
use crate::settings::{self, Live, Server, Shared, Sources};
use crate::telemetry::{self, Telemetry};

/// A service's binary.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// `feed-service`: in URLs, metrics, bus destinations.
    pub service: &'static str,
    /// `feed`: in environment keys and the config service.
    pub name: &'static str,
    /// The embedded `settings.toml`.
    pub defaults: &'static str,
}

#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A TOML file of settings over the embedded defaults
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Shows the settings as they come out of all layers, secrets left out, and ends
    #[arg(long)]
    print_settings: bool,
    /// Shows the JSON schema of the settings and ends
    #[arg(long)]
    settings_schema: bool,
}

/// Runs a service as its `main`: arguments, telemetry, settings, build, serve, drain, flush.
///
/// Drains on SIGTERM and SIGINT, and exits with success; a second signal ends the process at once. An error is printed as one line, and
/// the exit code is a failure.
pub fn run<S, B, F>(program: Program, build: B) -> ExitCode
where
    S: DeserializeOwned + JsonSchema + Debug + Send + Sync + 'static,
    B: FnOnce(Live<S>, Context) -> F,
    F: Future<Output = anyhow::Result<Service>>,
{
    let matches = Arguments::command().name(program.service).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    if arguments.settings_schema {
        print(&settings::schema::of::<S>());
        return ExitCode::SUCCESS;
    }
    finish(program.service, block_on(main::<S, B, F>(program, arguments, build)))
}

/// Runs a future on a runtime of its own.
pub fn block_on<F: Future<Output = anyhow::Result<()>>>(main: F) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let outcome = runtime.block_on(main);
    // Does not wait for blocking work of libraries: all work of the service has been drained.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// Prints an error as one line on standard error: the log may not be installed yet, or be flushed already.
#[must_use]
pub fn finish(name: &str, outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write as _;
            // Standard error may be closed; there is no other place for the message.
            let _told = writeln!(std::io::stderr(), "{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn main<S, B, F>(program: Program, arguments: Arguments, build: B) -> anyhow::Result<()>
where
    S: DeserializeOwned + Debug + Send + Sync + 'static,
    B: FnOnce(Live<S>, Context) -> F,
    F: Future<Output = anyhow::Result<Service>>,
{
    let sources = Sources {
        service: program.name,
        defaults: program.defaults,
        file: arguments.settings,
        overrides: Vec::new(),
        environment: true,
    };
    let shared = settings::peek(&sources)?;
    if arguments.print_settings {
        let settings = settings::load::<S>(&sources).await?;
        print(&format!("{:#?}\n", settings.get()));
        return Ok(());
    }
    // Registered first, so that a signal during a long start is not lost.
    let mut leave = Leave::listen()?;
    // The final settings of telemetry may come from the config service, and the wait for it is logged: until then the layers at hand
    // decide.
    let meanwhile = telemetry::meanwhile(program.service, &shared.log)?;
    let (settings, context) = tokio::select! {
        prepared = prepare::<S>(program.service, &sources) => prepared?,
        () = leave.asked() => return Ok(()),
    };
    drop(meanwhile);
    let shared = settings.shared().unwrap_or(&shared).clone();
    let telemetry = Telemetry::install(program.service, &shared.log, &shared.tracing)?;
    let outcome = live(settings, context, leave, build).await;
    telemetry.flush();
    outcome
}

async fn live<S, B, F>(settings: Live<S>, context: Context, mut leave: Leave, build: B) -> anyhow::Result<()>
where
    B: FnOnce(Live<S>, Context) -> F,
    F: Future<Output = anyhow::Result<Service>>,
{
    let running = tokio::select! {
        running = start(settings, context, build) => running?,
        () = leave.asked() => return Ok(()),
    };
    supervise(vec![running], leave).await
}

/// Reads the settings, and creates the context through which they are refreshed.
pub async fn prepare<S>(service: &'static str, sources: &Sources) -> anyhow::Result<(Live<S>, Context)>
where
    S: DeserializeOwned + Debug + Send + Sync + 'static,
{
    crate::tls::install_provider();
    let settings = settings::load::<S>(sources).await?;
    let port = settings.shared().map_or(0, |shared: &Shared| shared.server.port);
    let mut context = Context::system(service, port);
    if let Some(shared) = settings.shared() {
        context.erasure_deadline = shared.erasure.deadline;
    }
    context.settings.attach(&settings);
    context.settings.on_log_level(telemetry::apply_level);
    if let Some((levels, shared)) = telemetry::levels().zip(settings.shared())
        && levels.directives() != shared.log.level
    {
        // A launcher installs telemetry before any of its services has asked the config service.
        levels.set(&shared.log.level)?;
    }
    tracing::debug!(service, settings = ?settings.get(), "settings");
    Ok((settings, context))
}

/// Builds a service, binds its port and serves it. Stops the spawned tasks when the build fails.
pub async fn start<S, B, F>(settings: Live<S>, context: Context, build: B) -> anyhow::Result<Running>
where
    B: FnOnce(Live<S>, Context) -> F,
    F: Future<Output = anyhow::Result<Service>>,
{
    let lifecycle = context.lifecycle.clone();
    faults::spawn_memory_leak(context.faults(), context.instance.clone(), &lifecycle);
    let started = async {
        let service = build(settings, context).await?;
        let listener = bind(&service.settings.get()).await?;
        Running::serve(service, listener)
    };
    let started = started.await;
    if started.is_err() {
        lifecycle.shutdown(Duration::ZERO).await;
    }
    started
}

/// Binds the port of a service.
pub async fn bind(settings: &Server) -> anyhow::Result<TcpListener> {
    let address = (settings.host, settings.port);
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("server.port: cannot listen on {}:{}", settings.host, settings.port))
}

/// A running service.
#[derive(Debug)]
pub struct Running {
    pub service: &'static str,
    /// The address of the listener: has the actual port where the settings have 0.
    pub address: std::net::SocketAddr,
    pub lifecycle: Lifecycle,
    settings: Live<Server>,
    serving: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Serves on a task.
    pub fn serve(service: Service, listener: TcpListener) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let (name, lifecycle) = (service.context.service, service.context.lifecycle.clone());
        let settings = service.settings.clone();
        Ok(Self {
            service: name,
            address,
            lifecycle,
            settings,
            serving: tokio::spawn(service.serve(listener)),
        })
    }

    /// Resolves with the first failure: of a task, or of the server of the port.
    async fn failed(&mut self) -> anyhow::Error {
        let service = self.service;
        tokio::select! {
            failure = self.lifecycle.failed() => failure,
            ended = &mut self.serving => match ended {
                Ok(Ok(())) => anyhow::anyhow!("{service}: stopped serving unasked"),
                Ok(Err(error)) => error.context(service),
                Err(panic) => anyhow::Error::new(panic).context(service),
            },
        }
    }

    /// Shuts down gracefully: becomes unready, refuses new connections after `server.drain-delay`, and waits for requests in flight and
    /// tasks until `server.drain-budget` is spent.
    ///
    /// # Errors
    /// When tasks were aborted, or failed meanwhile.
    pub async fn drain(mut self) -> anyhow::Result<()> {
        self.lifecycle.leave();
        let settings = self.settings.get();
        tokio::time::sleep(settings.drain_delay).await;
        let dropped = self.lifecycle.shutdown(settings.drain_budget).await;
        if !self.serving.is_finished() {
            (&mut self.serving).await??;
        }
        anyhow::ensure!(
            dropped.is_empty(),
            "{}: dropped after the drain budget: {}",
            self.service,
            dropped.join(", ")
        );
        match self.lifecycle.failure() {
            Some(failure) => Err(failure.into()),
            None => Ok(()),
        }
    }
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Leave {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Leave {
    /// Takes over the signals, which no longer end the process by themselves.
    pub fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be listened to");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Resolves with the next signal.
    pub async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for a signal or a failure, then drains all services together. A second signal ends the wait.
pub async fn supervise(mut services: Vec<Running>, mut leave: Leave) -> anyhow::Result<()> {
    let failure = {
        let failed = select_all(services.iter_mut().map(|service| Box::pin(service.failed())));
        tokio::select! {
            (failure, ..) = failed => Some(failure),
            () = leave.asked() => None,
        }
    };
    if let Some(failure) = &failure {
        tracing::error!(reason = format!("{failure:#}"), "shutting down: task failed");
    } else {
        tracing::info!("shutting down: signal received");
    }
    let drained = tokio::select! {
        drained = join_all(services.into_iter().map(Running::drain)) => drained,
        () = leave.asked() => vec![Err(anyhow::anyhow!("asked twice to leave: not drained"))],
    };
    match failure {
        Some(failure) => Err(failure),
        None => drained.into_iter().collect(),
    }
}

fn print(text: &str) {
    use std::io::Write as _;
    // A reader that closes the pipe wants no more output: no error.
    let _told = std::io::stdout().write_all(text.as_bytes());
}
