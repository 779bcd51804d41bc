//! `fleet import spring`: takes over accounts, posts and messages of the legacy Spring services.
//!
//! Each run looks at every row and writes what has changed since the run before: the first while Spring serves, again as often as
//! wanted, the last after it has stopped. A run that is killed is run again.

pub(crate) mod accounts;
mod apis;
pub(crate) mod exclusive;
pub(crate) mod messages;
mod names;
pub(crate) mod posts;
mod report;
mod sample;
pub(crate) mod source;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::de::DeserializeOwned;
use sosohappy_common::settings;
use sosohappy_common::{Account, Context};

use self::apis::Apis;
pub use self::apis::Options as ApiOptions;
pub(crate) use self::names::Names;
pub(crate) use self::report::Report;
use crate::launch;

/// Options of `fleet import spring`.
#[derive(Debug, Clone)]
pub struct Options {
    /// MySQL of the legacy auth.
    pub auth: Option<String>,
    /// MySQL of the legacy feed.
    pub feed: Option<String>,
    /// MongoDB of the legacy dm.
    pub messages: Option<String>,
    /// Nicknames that the operator has assigned.
    pub bearers: Vec<(String, Account)>,
    /// Where both fleets answer, to compare some rows through their APIs.
    pub apis: Option<ApiOptions>,
    /// Where the fleet keeps everything that the environment does not place elsewhere.
    pub data: PathBuf,
    pub report: PathBuf,
    pub dry_run: bool,
}

/// A pass over the legacy databases on its way.
pub(crate) struct Pass {
    context: Context,
    report: Report,
    dry_run: bool,
    /// None if nothing is compared through them.
    apis: Option<Apis>,
}

/// A progress bar, which is only drawn on a terminal. It ends when it is dropped.
struct Stage(ProgressBar);

impl Stage {
    fn begin(name: &'static str, rows: u64) -> Self {
        let bar = ProgressBar::new(rows).with_prefix(name);
        let style = ProgressStyle::with_template("{prefix:10} {wide_bar} {pos}/{len} {per_sec} {eta}");
        Self(style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style)))
    }

    fn inc(&self, rows: u64) {
        self.0.inc(rows);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Runs the import and prints what came of it.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut pass = Pass {
        context: context(),
        report: Report::create(&options.report)?,
        dry_run: options.dry_run,
        apis: options.apis.as_ref().map(Apis::new).transpose()?,
    };
    let auth = open_auth(&options.data).await?;
    exclusive::run(&auth, Box::pin(take_over(&options, &mut pass, &auth))).await?;
    let report = pass.report.finish()?;
    print!("{report}");
    println!("report: {}", options.report.display());
    if options.dry_run {
        println!("dry run: nothing was written");
    }
    let different = pass.apis.map_or(0, |apis| apis.different);
    ensure!(
        different == 0,
        "check: the fleets answer differently for {different} rows; the report names their fields"
    );
    Ok(())
}

async fn take_over(options: &Options, pass: &mut Pass, auth: &sosohappy_auth::import::Importer) -> anyhow::Result<()> {
    if let Some(url) = &options.auth {
        let pool = source::open("--auth", url).await?;
        if !auth.takes_sessions() {
            println!("tokens.legacy-key is not set: no session is taken over, and everybody has to sign in again");
        }
        accounts::import(pass, &pool, auth).await?;
        pool.close().await;
    }
    let read_at = pass.context.clock.now();
    let names = Names::new(auth.known_names().await?, &options.bearers);
    if let Some(url) = &options.feed {
        let pool = source::open("--feed", url).await?;
        let feed = open_feed(&options.data).await?;
        if !pass.dry_run {
            feed.set_names(names.here(), read_at).await?;
        }
        posts::import(pass, &pool, &feed, &names).await?;
        pool.close().await;
    }
    if let Some(url) = &options.messages {
        let collection = messages::open(url).await?;
        let dm = open_dm(&options.data).await?;
        if !pass.dry_run {
            dm.set_names(names.here(), read_at).await?;
        }
        messages::import(pass, &collection, &dm, &names).await?;
    }
    Ok(())
}

/// One for each database: a pool registers its metrics once a context.
pub(crate) fn context() -> Context {
    Context::system("fleet", 0)
}

/// Opens auth's database and photos. Each of the three says where its data are: a variable that is missing would leave them in the data
/// folder, unnoticed.
pub(crate) async fn open_auth(data: &Path) -> anyhow::Result<sosohappy_auth::import::Importer> {
    let settings = service::<sosohappy_auth::Settings>(data, "auth", sosohappy_auth::DEFAULTS).await?;
    let (database, images) = (&settings.database.url, &settings.images.url);
    eprintln!("auth of this fleet: database {database:?}, photos {images:?}");
    Box::pin(sosohappy_auth::import::Importer::open(settings, &context())).await
}

/// As [`open_auth`], feed's database and pictures.
pub(crate) async fn open_feed(data: &Path) -> anyhow::Result<sosohappy_feed::import::Importer> {
    let settings = service::<sosohappy_feed::Settings>(data, "feed", sosohappy_feed::DEFAULTS).await?;
    let (database, images) = (&settings.database.url, &settings.images.url);
    eprintln!("feed of this fleet: database {database:?}, pictures {images:?}");
    Box::pin(sosohappy_feed::import::Importer::open(settings, &context())).await
}

/// As [`open_auth`], dm's messages.
pub(crate) async fn open_dm(data: &Path) -> anyhow::Result<sosohappy_dm::import::Importer> {
    let settings = service::<sosohappy_dm::Settings>(data, "dm", sosohappy_dm::DEFAULTS).await?;
    eprintln!("dm of this fleet: messages {:?}", settings.messages.url);
    Box::pin(sosohappy_dm::import::Importer::open(&settings, &context())).await
}

/// Reads the settings of a service as the launcher gives them: everything in the data folder, unless the environment says otherwise.
pub(crate) async fn service<S: DeserializeOwned + Clone>(
    data: &Path,
    service: &'static str,
    defaults: &'static str,
) -> anyhow::Result<S> {
    let sources = launch::sources(data, service, defaults)?;
    let live = settings::load::<S>(&sources).await.context(service)?;
    Ok(S::clone(&live.get()))
}
