//! Where configuration lives: snapshots in memory, swapped whole when the source changes. No request touches a network, and
//! none the disk but the first that names a label.

mod canary;
mod folder;
mod git;
mod keeping;
mod labels;
mod refresh;
mod submodules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use sosohappy_common::Context;
use sosohappy_common::settings::Live;

pub use self::canary::CanaryError;
use self::canary::{Held, Planned};
pub use self::folder::{FolderError, read as read_folder};
use self::git::{Git, GitError, Heads};
pub use self::labels::ViewError;
use self::refresh::Refreshing;
pub use self::refresh::{Look, Outcome};
use crate::domain::check::Checker;
use crate::domain::finding::Finding;
use crate::domain::snapshot::Snapshot;
use crate::metrics::SourceMetrics;
use crate::settings::{Settings, SourceSettings};
use crate::state::archive::Archive;
use crate::state::record::Record;

/// More than this is not configuration.
pub const MOST_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("source.url: {0} is not supported; file:<folder> and git:<repository> are")]
    Scheme(String),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("state.folder: {0}")]
    State(String),
    #[error("source.url: {0}")]
    Unusable(String),
}

#[derive(Debug)]
enum Backend {
    Folder(PathBuf),
    Git(Box<Git>),
}

/// What is served.
#[derive(Debug, Clone)]
pub struct Published {
    /// The newest good version: what a request without a label gets.
    pub main: Arc<Snapshot>,
    /// Empty for a folder. A branch whose newest commit was refused stands at the one before.
    heads: Heads,
}

/// A version that is not served.
#[derive(Debug, Clone)]
pub struct RefusedVersion {
    pub version: String,
    pub label: Option<String>,
    pub findings: Vec<Finding>,
}

impl std::fmt::Display for RefusedVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.version)?;
        if let Some(label) = &self.label {
            write!(f, " ({label})")?;
        }
        let mut before = ": ";
        for finding in &self.findings {
            write!(f, "{before}{finding}")?;
            before = "; ";
        }
        Ok(())
    }
}

/// How the source is doing.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// Since when, and why.
    pub away: Option<(jiff::Timestamp, String)>,
    /// By label; none for the main one. They stay until that label gets a good version.
    pub refused: Vec<RefusedVersion>,
}

/// Clones share what is published.
#[derive(Debug, Clone)]
pub struct Source {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    backend: Backend,
    default_label: Option<String>,
    settings: Live<SourceSettings>,
    /// How often it is looked at unless settings say.
    every: Duration,
    checker: Checker,
    context: Context,
    metrics: SourceMetrics,
    archive: Archive,
    record: Record,
    published: RwLock<Option<Arc<Published>>>,
    condition: Mutex<Condition>,
    /// Where branches and tags stood at the last fetch, what was refused included.
    fetched: Mutex<BTreeMap<String, String>>,
    /// Labels that were asked for: their new commits are checked before they are served.
    used: Mutex<BTreeSet<String>>,
    labels: labels::Cache,
    /// What is served has changed, and nobody was told yet.
    news: AtomicBool,
    /// A version that waits for `busrefresh`, with `canary.hold`.
    waiting: Mutex<Option<String>>,
    canary: RwLock<Option<Held>>,
    planned: Mutex<Planned>,
    /// Held while a canary is started: one at a time.
    starting: tokio::sync::Mutex<()>,
    holds: Live<bool>,
    /// `state.folder`.
    folder: PathBuf,
    /// Objects were missing in the clone: the next look makes it anew.
    damaged: AtomicBool,
    refreshing: tokio::sync::Mutex<Refreshing>,
}

impl Source {
    /// Opens what is kept on disk and, for a folder, reads it. A repository is fetched by [`Source::spawn_watch`], so that config
    /// starts when it is away.
    pub async fn open(live: &Live<Settings>, context: &Context, checker: Checker) -> Result<Self, SourceError> {
        let settings = live.get();
        let folder = PathBuf::from(&settings.state.folder);
        let state = |error: &dyn std::error::Error| SourceError::State(error.to_string());
        let backend = backend(&settings.source, &folder)?;
        // The version before the newest is what a canary goes back to.
        let versions = settings.state.versions.max(2);
        let state_folder = folder.clone();
        let opened = blocking(move || {
            let archive = Archive::open(folder.join("versions"), versions).map_err(|error| state(&error))?;
            let record = Record::open(folder.join("record.jsonl")).map_err(|error| state(&error))?;
            Ok::<_, SourceError>((archive, record))
        });
        let (archive, record) = opened.await?;
        let every = match backend {
            Backend::Folder(_) => Duration::from_secs(1),
            Backend::Git(_) => Duration::from_secs(30),
        };
        let source = Self {
            inner: Arc::new(Inner {
                backend,
                default_label: settings.source.default_label.clone(),
                settings: live.part(|settings| settings.source.clone()),
                every,
                checker,
                context: context.clone(),
                metrics: SourceMetrics::new(&context.metrics),
                archive,
                record,
                published: RwLock::new(None),
                condition: Mutex::default(),
                fetched: Mutex::default(),
                used: Mutex::default(),
                labels: labels::Cache::new(),
                waiting: Mutex::default(),
                canary: RwLock::new(None),
                planned: Planned::none(),
                starting: tokio::sync::Mutex::default(),
                holds: live.part(|settings| settings.canary.hold),
                folder: state_folder,
                damaged: AtomicBool::new(false),
                news: AtomicBool::new(false),
                refreshing: tokio::sync::Mutex::default(),
            }),
        };
        source.recover().await?;
        source.recover_canary().await;
        if let Backend::Folder(folder) = &source.inner.backend {
            if source.published().is_none() {
                // A new installation: the folder is made, so that it is clear where files go.
                tokio::fs::create_dir_all(folder)
                    .await
                    .map_err(|error| SourceError::Unusable(format!("{}: {error}", folder.display())))?;
            }
            let recovered = source.published().is_some();
            let outcome = source.refresh().await;
            // Changed while no config was there to tell.
            let news = recovered && outcome == Outcome::Changed;
            source.inner.news.store(news, std::sync::atomic::Ordering::Relaxed);
            if source.published().is_none() {
                return Err(SourceError::Unusable(source.why_not()));
            }
        }
        Ok(source)
    }

    /// None while a repository has never been reached.
    #[must_use]
    pub fn published(&self) -> Option<Arc<Published>> {
        self.inner.published.read().clone()
    }

    #[must_use]
    pub fn condition(&self) -> Condition {
        self.inner.condition.lock().clone()
    }

    #[must_use]
    pub fn record(&self) -> &Record {
        &self.inner.record
    }

    #[must_use]
    pub fn checker(&self) -> &Checker {
        &self.inner.checker
    }

    /// Whether what is known of a branch is this commit; always for a folder, which has none.
    #[must_use]
    pub fn stands_at(&self, branch: &str, commit: &str) -> bool {
        let Backend::Git(_) = &self.inner.backend else {
            return true;
        };
        self.inner.fetched.lock().get(branch).is_some_and(|head| head == commit)
    }

    /// A version that is not served until `busrefresh` says so.
    #[must_use]
    pub fn waiting(&self) -> Option<String> {
        self.inner.waiting.lock().clone()
    }

    /// What names of property sources begin with; no credentials.
    #[must_use]
    pub fn origin(&self) -> String {
        match &self.inner.backend {
            Backend::Folder(folder) => format!("file:{}", folder.display()),
            Backend::Git(git) => git.shown(),
        }
    }

    /// The label that stands for no label; none for a folder.
    #[must_use]
    pub fn default_label(&self) -> Option<String> {
        let published = self.published()?;
        self.inner
            .default_label
            .clone()
            .or_else(|| published.heads.default.clone())
    }

    /// Down while there is nothing to serve; everything else is told in the details.
    pub fn register_health(&self) {
        let source = self.clone();
        self.inner.context.health.register("source", move || {
            let (served, condition) = (source.served(None), source.condition());
            let why_not = source.why_not();
            async move {
                let Some(served) = served else {
                    return Err(why_not);
                };
                let mut details = serde_json::Map::new();
                details.insert("version".to_owned(), served.version.as_str().into());
                if let Some((since, reason)) = condition.away {
                    details.insert("away".to_owned(), format!("since {since}: {reason}").into());
                }
                if !condition.refused.is_empty() {
                    let refused = condition.refused.iter().map(ToString::to_string);
                    details.insert("refused".to_owned(), refused.collect::<Vec<_>>().into());
                }
                Ok(details)
            }
        });
    }

    fn why_not(&self) -> String {
        let condition = self.condition();
        if let Some(refused) = condition.refused.first() {
            return refused.to_string();
        }
        condition
            .away
            .map_or_else(|| "nothing to serve".to_owned(), |(_, reason)| reason)
    }
}

fn backend(settings: &SourceSettings, state: &Path) -> Result<Backend, SourceError> {
    match settings.url.scheme() {
        "file" => Ok(Backend::Folder(PathBuf::from(
            settings.url.rest().trim_start_matches("//"),
        ))),
        "git" => {
            let account = settings.password.clone().map(|password| {
                let user = settings.username.clone().unwrap_or_else(|| "git".to_owned());
                (user, password)
            });
            let clone = state.join("clone");
            let git = Git::new(&clone, settings.url.rest(), account, &settings.ssh_command)?;
            Ok(Backend::Git(Box::new(git.with_submodules(settings.submodules))))
        }
        other => Err(SourceError::Scheme(other.to_owned())),
    }
}

/// Runs what blocks where it may; a panic goes on.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
