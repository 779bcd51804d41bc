//! Runs all five services in one process, on embedded engines.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use sosohappy_bus::Bus;
use sosohappy_common::Context;
use sosohappy_common::file_lock::FileLock;
use sosohappy_common::http::serve::Service;
use sosohappy_common::lifecycle::Lifecycle;
use sosohappy_common::run::{Leave, Running, prepare, start, supervise};
use sosohappy_common::settings::{self, Live, Sources};
use sosohappy_common::telemetry::Telemetry;
use sosohappy_events::mixed::bus_settings;
use tokio_util::task::AbortOnDropHandle;

use crate::entry;
use crate::secrets::Secrets;

/// The ledger of resignations (`resignation.ledger` of auth) in the data folder.
pub(crate) const LEDGER: &str = "resigned";

/// Runs the fleet, and the entry if it has an address, until a signal asks for shutdown.
pub async fn run(data: &Path, entry: Option<entry::Settings>) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut leave = Leave::listen()?;
    create_folder(data)?;
    let data = data.canonicalize()?;
    let _lock = FileLock::take(&data.join("fleet.lock"))
        .await
        .with_context(|| format!("data folder {}", data.display()))?;
    let launcher = Launcher::new(&data)?;
    let shared = settings::peek(&launcher.sources("config", sosohappy_config::DEFAULTS, &[]))?;
    let telemetry = Telemetry::install("fleet", &shared.log, &shared.tracing)?;

    warn_of_unknown_variables();

    let running = tokio::select! {
        running = Box::pin(launcher.start(entry)) => running,
        () = leave.asked() => return Ok(()),
    };
    let outcome = match running {
        Ok(running) => {
            let announcing = AbortOnDropHandle::new(tokio::spawn(announce(
                StartingService::all_of(&running),
                data.clone(),
                began,
            )));
            let outcome = supervise(running, leave).await;
            drop(announcing);
            outcome
        }
        Err(error) => Err(error),
    };
    telemetry.flush();
    outcome
}

/// Warns of environment variables with our prefix that no service reads: most likely a misspelt setting.
fn warn_of_unknown_variables() {
    const OWN: [&str; 5] = ["DATA", "ENTRY", "ENTRY_ORIGINS", "SERVICE_TOKEN", "OPERATOR_TOKEN"];
    const SERVICES: [&str; 5] = ["AUTH__", "CONFIG__", "DM__", "FEED__", "NOTICE__"];
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let Some(key) = name.strip_prefix("SOSOHAPPY_") else {
            continue;
        };
        let known = OWN.contains(&key) || SERVICES.iter().any(|service| key.starts_with(service));
        if !known && !key.starts_with("TEST_") {
            tracing::warn!(%name, "unknown environment variable: SOSOHAPPY_<SERVICE>__<SECTION>__<KEY> is expected");
        }
    }
}

/// Returns the sources of a service's settings in the fleet of that data folder, which it creates if it is missing.
pub(crate) fn sources(data: &Path, service: &'static str, defaults: &'static str) -> anyhow::Result<Sources> {
    create_folder(data)?;
    Ok(Launcher::new(&data.canonicalize()?)?.sources(service, defaults, &[]))
}

/// Creates the data folder, readable by its owner only: it holds keys, accounts and messages.
fn create_folder(data: &Path) -> anyhow::Result<()> {
    let mut folder = std::fs::DirBuilder::new();
    let created = folder.recursive(true).mode(0o700).create(data);
    created.with_context(|| format!("--data {}", data.display()))
}

#[derive(Debug)]
struct Launcher {
    data: PathBuf,
    secrets: Secrets,
}

impl Launcher {
    fn new(data: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            data: data.to_owned(),
            secrets: Secrets::find(data)?,
        })
    }

    /// Starts config first; then auth, which reads its settings from config; then the others, which also call auth; the entry last.
    async fn start(&self, entry: Option<entry::Settings>) -> anyhow::Result<Vec<Running>> {
        let config = self.sources("config", sosohappy_config::DEFAULTS, &[]);
        let (settings, context) = prepare::<sosohappy_config::Settings>(sosohappy_config::SERVICE, &config).await?;
        let events = bus_of(&settings, |own| (&own.events, &own.fleet));
        let bus = SharedBus {
            bus: open(&events, &context).await?,
            events,
        };
        let server = settings.part(|own| own.server.clone());
        let config = start(settings, context, with_bus(bus.bus.clone(), sosohappy_config::build)).await?;

        let at_config = [("config.url", format!("http://{}/config-service", config.address))];
        let auth = self.sources("auth", sosohappy_auth::DEFAULTS, &at_config);
        let auth = launch(
            sosohappy_auth::SERVICE,
            &auth,
            &bus,
            |own| (&own.events, &own.fleet),
            sosohappy_auth::build,
        )
        .await?;

        let [config_url] = at_config;
        let at_both = [config_url, ("access.auth-url", format!("http://{}", auth.address))];
        let feed = self.sources("feed", sosohappy_feed::DEFAULTS, &at_both);
        let dm = self.sources("dm", sosohappy_dm::DEFAULTS, &at_both);
        let notice = self.sources("notice", sosohappy_notice::DEFAULTS, &at_both);
        let (feed, dm, notice) = tokio::try_join!(
            launch(
                sosohappy_feed::SERVICE,
                &feed,
                &bus,
                |own| (&own.events, &own.fleet),
                sosohappy_feed::build
            ),
            launch(
                sosohappy_dm::SERVICE,
                &dm,
                &bus,
                |own| (&own.events, &own.fleet),
                sosohappy_dm::build
            ),
            launch(
                sosohappy_notice::SERVICE,
                &notice,
                &bus,
                |own| (&own.events, &own.fleet),
                sosohappy_notice::build
            ),
        )?;
        let mut running = vec![config, auth, feed, dm, notice];
        if let Some(entry) = entry {
            let operators = entry::Operators {
                token: self.secrets.operator_token.clone().into(),
                bus: bus.bus,
            };
            let entry = entry::start(entry, &running, server, operators).await?;
            running.push(entry);
        }
        Ok(running)
    }

    /// Returns the sources of a service's settings: all data in the data folder, unless the environment overrides it.
    fn sources(&self, service: &'static str, defaults: &'static str, more: &[(&str, String)]) -> Sources {
        let inside = |scheme: &str, name: &str| format!("{scheme}:{}", self.data.join(name).display());
        let mut overrides = BTreeMap::from([
            ("credentials.service-token", self.secrets.service_token.clone()),
            ("credentials.operator-token", self.secrets.operator_token.clone()),
            ("events.url", inside("journal", "events.db")),
        ]);
        if std::io::stdout().is_terminal() {
            overrides.insert("log.format", "pretty".to_owned());
        }
        overrides.extend(match service {
            "auth" => vec![
                ("database.url", inside("sqlite", "auth.db")),
                ("images.url", inside("file", "images/auth")),
                // Sign-in needs no proof: the launcher is for one machine on which every user may read the data folder.
                ("sign-in.proof", "none".to_owned()),
                ("mail.url", "log:".to_owned()),
                ("resignation.ledger", self.data.join(LEDGER).display().to_string()),
            ],
            "feed" => vec![
                ("database.url", inside("sqlite", "feed.db")),
                ("images.url", inside("file", "images/feed")),
            ],
            "dm" => vec![("messages.url", inside("sqlite", "dm.db"))],
            "notice" => vec![("inbox.url", inside("sqlite", "notice.db"))],
            _ => vec![
                ("source.url", inside("file", "config")),
                ("state.folder", self.data.join("config-state").display().to_string()),
            ],
        });
        overrides.extend(more.iter().map(|(key, value)| (*key, value.clone())));
        let overrides = overrides
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        Sources {
            service,
            defaults,
            file: None,
            overrides,
            environment: true,
        }
    }
}

/// The bus of config, which all services with the same settings share. In one process the journal wakes a consumer as soon as another
/// service publishes.
struct SharedBus {
    events: settings::Events,
    bus: Arc<dyn Bus>,
}

impl SharedBus {
    /// Returns the shared bus if these settings lead to it, else opens another one.
    async fn bus(&self, events: &settings::Events, context: &Context) -> anyhow::Result<Arc<dyn Bus>> {
        let of = |events: &settings::Events| (events.url.clone(), events.prefix.clone(), events.topics.clone());
        if of(events) == of(&self.events) && !is_secured(events) {
            return Ok(self.bus.clone());
        }
        open(events, context).await
    }
}

/// Returns whether the broker is secured: each service is then another principal, and needs its own bus and consumer groups.
fn is_secured(events: &settings::Events) -> bool {
    events.security.protocol() != settings::Protocol::Plaintext
}

async fn open(events: &settings::Events, service: &Context) -> anyhow::Result<Arc<dyn Bus>> {
    let mut shared = Context::system("fleet", 0);
    shared.erasure_deadline = service.erasure_deadline;
    let context = if is_secured(events) { service } else { &shared };
    Ok(sosohappy_bus::open(events, context).await?)
}

/// Returns the settings of a service's bus.
fn bus_of<S>(settings: &Live<S>, parts: fn(&S) -> (&settings::Events, &settings::Fleet)) -> settings::Events {
    let current = settings.get();
    let (events, fleet) = parts(&current);
    bus_settings(events, fleet)
}

/// Starts a service with its bus.
async fn launch<S, B, F>(
    service: &'static str,
    sources: &Sources,
    bus: &SharedBus,
    events: fn(&S) -> (&settings::Events, &settings::Fleet),
    build: B,
) -> anyhow::Result<Running>
where
    S: DeserializeOwned + Debug + Send + Sync + 'static,
    B: FnOnce(Live<S>, Context, Arc<dyn Bus>) -> F,
    F: Future<Output = anyhow::Result<Service>>,
{
    let (settings, context) = prepare::<S>(service, sources).await.context(service)?;
    let current = settings.get();
    let (events, fleet) = events(&current);
    let bus = bus.bus(&bus_settings(events, fleet), &context).await.context(service)?;
    start(settings, context, with_bus(bus, build)).await.context(service)
}

fn with_bus<S, B, F>(bus: Arc<dyn Bus>, build: B) -> impl FnOnce(Live<S>, Context) -> F
where
    B: FnOnce(Live<S>, Context, Arc<dyn Bus>) -> F,
{
    |settings, context| build(settings, context, bus)
}

/// A service that is starting.
struct StartingService {
    service: &'static str,
    address: SocketAddr,
    lifecycle: Lifecycle,
}

impl StartingService {
    fn all_of(running: &[Running]) -> Vec<Self> {
        let of_one = |running: &Running| Self {
            service: running.service,
            address: running.address,
            lifecycle: running.lifecycle.clone(),
        };
        running.iter().map(of_one).collect()
    }
}

/// Waits until all services are ready, then prints their URLs and the next commands.
async fn announce(services: Vec<StartingService>, data: PathBuf, began: Instant) {
    for service in &services {
        service.lifecycle.ready().await;
    }
    println!(
        "\nSoSoHappy is ready after {} ms; data in {}\n",
        began.elapsed().as_millis(),
        data.display()
    );
    for StartingService { service, address, .. } in &services {
        match *service {
            entry::SERVICE => println!("  {:<15} http://{address}", "console"),
            service => println!("  {service:<15} http://{address}/{service}/docs"),
        }
    }
    println!("\n  try it:         fleet demo          (in another terminal, with the same environment; or: make demo)");
    println!(
        "  operator token: {}   (for the page Operations of the console)",
        data.join("operator-token").display()
    );
    println!("  stop:           Ctrl-C\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_second_launcher_on_the_same_data_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _first = FileLock::take(&folder.path().join("fleet.lock")).await.unwrap();
        let refused = run(folder.path(), None).await.unwrap_err();
        assert_eq!(
            format!("{refused:#}"),
            format!(
                "data folder {}: in use by process {}",
                folder.path().display(),
                std::process::id()
            )
        );
    }
}
