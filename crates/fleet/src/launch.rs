//! All five services in one process, on engines that need no installing.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use sosohappy_common::Context;
use sosohappy_common::http::serve::Service;
use sosohappy_common::run::{Leave, Running, prepare, start, supervise};
use sosohappy_common::settings::{self, Live, Sources};
use sosohappy_common::telemetry::Telemetry;
use sosohappy_events::Bus;

use crate::secrets::Secrets;

/// Runs the fleet until it is asked to leave.
pub async fn run(data: &Path) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut leave = Leave::listen()?;
    std::fs::create_dir_all(data).with_context(|| format!("--data {}", data.display()))?;
    let data = data.canonicalize()?;
    let launcher = Launcher::new(&data)?;
    let shared = settings::peek(&launcher.sources("config", sosohappy_config::DEFAULTS, &[]))?;
    let telemetry = Telemetry::install("fleet", &shared.log, &shared.tracing)?;

    let running = tokio::select! {
        running = launcher.start() => running,
        () = leave.asked() => return Ok(()),
    };
    let outcome = match running {
        Ok(running) => {
            for service in &running {
                service.lifecycle.ready().await;
            }
            announce(&running, &data, began);
            supervise(running, leave).await
        }
        Err(error) => Err(error),
    };
    telemetry.flush();
    outcome
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

    /// Config first, which needs nobody; then the others, which ask it for their settings.
    async fn start(&self) -> anyhow::Result<Vec<Running>> {
        let config = self.sources("config", sosohappy_config::DEFAULTS, &[]);
        let (settings, context) = prepare::<sosohappy_config::Settings>(sosohappy_config::SERVICE, &config).await?;
        let bus = self.bus(&settings.get().events).await?;
        let config = start(settings, context, with_bus(&bus, sosohappy_config::build)).await?;

        let at_config = [("config.url", format!("http://{}/config-service", config.address))];
        let auth = self.sources("auth", sosohappy_auth::DEFAULTS, &at_config);
        let auth = launch(sosohappy_auth::SERVICE, &auth, &bus, sosohappy_auth::build).await?;

        let [config_url] = at_config;
        let at_both = [config_url, ("access.auth-url", format!("http://{}", auth.address))];
        let feed = self.sources("feed", sosohappy_feed::DEFAULTS, &at_both);
        let dm = self.sources("dm", sosohappy_dm::DEFAULTS, &at_both);
        let notice = self.sources("notice", sosohappy_notice::DEFAULTS, &at_both);
        let (feed, dm, notice) = tokio::try_join!(
            launch(sosohappy_feed::SERVICE, &feed, &bus, sosohappy_feed::build),
            launch(sosohappy_dm::SERVICE, &dm, &bus, sosohappy_dm::build),
            launch(sosohappy_notice::SERVICE, &notice, &bus, sosohappy_notice::build),
        )?;
        Ok(vec![config, auth, feed, dm, notice])
    }

    /// One bus for all five, which is what wakes a consumer the moment a neighbour publishes.
    async fn bus(&self, events: &settings::Events) -> anyhow::Result<Arc<dyn Bus>> {
        let context = Context::system("fleet", 0);
        Ok(sosohappy_events::open(events, &context).await?)
    }

    /// A service's settings in this fleet: everything in the data folder, unless the environment says otherwise.
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
                // One machine, with nobody on it who could not read the data folder as well.
                ("sign-in.proof", "none".to_owned()),
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

async fn launch<S, B, F>(
    service: &'static str,
    sources: &Sources,
    bus: &Arc<dyn Bus>,
    build: B,
) -> anyhow::Result<Running>
where
    S: DeserializeOwned + Debug + Send + Sync + 'static,
    B: FnOnce(Live<S>, Context, Arc<dyn Bus>) -> F,
    F: Future<Output = anyhow::Result<Service>>,
{
    let (settings, context) = prepare::<S>(service, sources).await.context(service)?;
    start(settings, context, with_bus(bus, build)).await.context(service)
}

fn with_bus<S, B, F>(bus: &Arc<dyn Bus>, build: B) -> impl FnOnce(Live<S>, Context) -> F
where
    B: FnOnce(Live<S>, Context, Arc<dyn Bus>) -> F,
{
    let bus = bus.clone();
    |settings, context| build(settings, context, bus)
}

/// Says where everything is and how to try it.
fn announce(running: &[Running], data: &Path, began: Instant) {
    println!(
        "\nSoSoHappy is ready after {} ms; data in {}\n",
        began.elapsed().as_millis(),
        data.display()
    );
    for service in running {
        println!(
            "  {:<15} http://{}/{}/docs",
            service.service, service.address, service.service
        );
    }
    println!("\n  try it:         fleet demo          (in another terminal; or: make demo)");
    println!("  operator token: {}", data.join("operator-token").display());
    println!("  stop:           Ctrl-C\n");
}
