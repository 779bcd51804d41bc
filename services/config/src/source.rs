//! The configuration source: snapshots in memory, replaced as a whole when the source changes. Requests never touch a network, and read the
//! disk only for the first use of a label.

mod canary;
mod folder;
mod git;
mod labels;
mod persistence;
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
use self::canary::{ActiveCanary, PendingPlan};
pub use self::folder::{FolderError, read as read_folder};
use self::git::{Git, GitError, Heads};
pub use self::labels::ViewError;
use self::refresh::Refreshing;
pub use self::refresh::{Outcome, RefreshReason};
use crate::domain::check::Checker;
use crate::domain::finding::Finding;
use crate::domain::snapshot::Snapshot;
use crate::metrics::SourceMetrics;
use crate::settings::{Settings, SourceSettings};
use crate::state::archive::Archive;
use crate::state::record::Record;

/// Bytes of all files of a source.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;

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

/// The served configuration.
#[derive(Debug, Clone)]
pub struct Published {
    /// The newest valid version, served to requests without a label.
    pub main: Arc<Snapshot>,
    /// Empty for a folder. A branch whose newest commit was refused stays at the commit before.
    heads: Heads,
}

/// A version that failed the checks and is not served.
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

/// Availability of the source, and the refused versions.
#[derive(Debug, Clone, Default)]
pub struct SourceStatus {
    /// Since when the source is unavailable, and why.
    pub unavailable: Option<(jiff::Timestamp, String)>,
    /// By label; none for the default one. An entry stays until its label gets a valid version.
    pub refused: Vec<RefusedVersion>,
}

/// Clones share the published versions.
///
/// Lock order, where a method takes several: `starting`, `refreshing`, then one of the short ones (`published`, `canary`, `status`, …), none
/// of which is held across an `.await`. [`Source::served`] reads `published` before `canary`.
#[derive(Debug, Clone)]
pub struct Source {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    backend: Backend,
    default_label: Option<String>,
    settings: Live<SourceSettings>,
    /// Polling interval unless `source.poll` is set.
    default_poll: Duration,
    checker: Checker,
    context: Context,
    metrics: SourceMetrics,
    archive: Archive,
    record: Record,
    published: RwLock<Option<Arc<Published>>>,
    status: Mutex<SourceStatus>,
    /// Branches and tags at the last fetch, refused commits included.
    fetched: Mutex<BTreeMap<String, String>>,
    /// Labels that clients have requested: a new commit of one is checked before it is served.
    used: Mutex<BTreeSet<String>>,
    labels: labels::Cache,
    /// The served version has changed, and the refresh event has not been published yet.
    is_change_unpublished: AtomicBool,
    /// A version that waits for `busrefresh`, with `canary.hold`.
    waiting: Mutex<Option<String>>,
    canary: RwLock<Option<ActiveCanary>>,
    planned: Mutex<PendingPlan>,
    /// Held while a canary starts: one at a time.
    starting: tokio::sync::Mutex<()>,
    holds: Live<bool>,
    /// `state.folder`.
    folder: PathBuf,
    /// Objects were missing in the clone: the next refresh clones again.
    damaged: AtomicBool,
    refreshing: tokio::sync::Mutex<Refreshing>,
}

impl Source {
    /// Opens the saved state and, for a folder, reads the source. A repository is fetched by [`Source::spawn_watch`], so that config starts
    /// while it is unavailable.
    pub async fn open(live: &Live<Settings>, context: &Context, checker: Checker) -> Result<Self, SourceError> {
        let settings = live.get();
        let folder = PathBuf::from(&settings.state.folder);
        let state = |error: &dyn std::error::Error| SourceError::State(error.to_string());
        let backend = backend(&settings.source, &folder)?;
        // A canary rolls back to the version before the newest.
        let versions = settings.state.versions.max(2);
        let state_folder = folder.clone();
        let opened = blocking(move || {
            let archive = Archive::open(folder.join("versions"), versions).map_err(|error| state(&error))?;
            let record = Record::open(folder.join("record.jsonl")).map_err(|error| state(&error))?;
            Ok::<_, SourceError>((archive, record))
        });
        let (archive, record) = opened.await?;
        let default_poll = match backend {
            Backend::Folder(_) => Duration::from_secs(1),
            Backend::Git(_) => Duration::from_secs(30),
        };
        let source = Self {
            inner: Arc::new(Inner {
                backend,
                default_label: settings.source.default_label.clone(),
                settings: live.part(|settings| settings.source.clone()),
                default_poll,
                checker,
                context: context.clone(),
                metrics: SourceMetrics::new(&context.metrics),
                archive,
                record,
                published: RwLock::new(None),
                status: Mutex::default(),
                fetched: Mutex::default(),
                used: Mutex::default(),
                labels: labels::Cache::new(),
                waiting: Mutex::default(),
                canary: RwLock::new(None),
                planned: PendingPlan::none(),
                starting: tokio::sync::Mutex::default(),
                holds: live.part(|settings| settings.canary.hold),
                folder: state_folder,
                damaged: AtomicBool::new(false),
                is_change_unpublished: AtomicBool::new(false),
                refreshing: tokio::sync::Mutex::default(),
            }),
        };
        source.recover().await?;
        source.recover_canary().await;
        if let Backend::Folder(folder) = &source.inner.backend {
            if source.published().is_none() {
                // A new installation: an existing folder shows where files belong.
                tokio::fs::create_dir_all(folder)
                    .await
                    .map_err(|error| SourceError::Unusable(format!("{}: {error}", folder.display())))?;
            }
            let recovered = source.published().is_some();
            let outcome = source.refresh().await;
            // Changed while this service was stopped: instances have not received an event.
            let is_change = recovered && outcome == Outcome::Changed;
            source
                .inner
                .is_change_unpublished
                .store(is_change, std::sync::atomic::Ordering::Relaxed);
            if source.published().is_none() {
                return Err(SourceError::Unusable(source.failure()));
            }
        }
        Ok(source)
    }

    /// Returns the published versions; none until a repository has been read for the first time.
    #[must_use]
    pub fn published(&self) -> Option<Arc<Published>> {
        self.inner.published.read().clone()
    }

    /// Returns the availability of the source and the refused versions.
    #[must_use]
    pub fn status(&self) -> SourceStatus {
        self.inner.status.lock().clone()
    }

    #[must_use]
    pub fn record(&self) -> &Record {
        &self.inner.record
    }

    #[must_use]
    pub fn checker(&self) -> &Checker {
        &self.inner.checker
    }

    /// Returns whether a branch was at this commit at the last fetch; always true for a folder, which has no branches.
    #[must_use]
    pub fn stands_at(&self, branch: &str, commit: &str) -> bool {
        let Backend::Git(_) = &self.inner.backend else {
            return true;
        };
        self.inner.fetched.lock().get(branch).is_some_and(|head| head == commit)
    }

    /// Returns the version that is not served until `busrefresh`.
    #[must_use]
    pub fn waiting(&self) -> Option<String> {
        self.inner.waiting.lock().clone()
    }

    /// Returns the beginning of the names of property sources, without credentials.
    #[must_use]
    pub fn origin(&self) -> String {
        match &self.inner.backend {
            Backend::Folder(folder) => format!("file:{}", folder.display()),
            Backend::Git(git) => git.public_url(),
        }
    }

    /// Returns the label of requests that name none; none for a folder.
    #[must_use]
    pub fn default_label(&self) -> Option<String> {
        let published = self.published()?;
        self.inner
            .default_label
            .clone()
            .or_else(|| published.heads.default.clone())
    }

    /// Registers the health check: down while nothing is served. Unavailability and refused versions are details.
    pub fn register_health(&self) {
        // Weak: the context of the source holds its checks.
        let inner = Arc::downgrade(&self.inner);
        self.inner.context.health.register("source", move || {
            let source = inner.upgrade().map(|inner| Self { inner });
            async move {
                let source = source.ok_or("the source is closed")?;
                let status = source.status();
                let Some(served) = source.served(None) else {
                    return Err(source.failure());
                };
                let mut details = serde_json::Map::new();
                details.insert("version".to_owned(), served.version.as_str().into());
                if let Some((since, reason)) = status.unavailable {
                    details.insert("away".to_owned(), format!("since {since}: {reason}").into());
                }
                if !status.refused.is_empty() {
                    let refused = status.refused.iter().map(ToString::to_string);
                    details.insert("refused".to_owned(), refused.collect::<Vec<_>>().into());
                }
                Ok(details)
            }
        });
    }

    fn failure(&self) -> String {
        let status = self.status();
        if let Some(refused) = status.refused.first() {
            return refused.to_string();
        }
        status
            .unavailable
            .map_or_else(|| "no version published yet".to_owned(), |(_, reason)| reason)
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

/// Runs blocking work on the blocking pool and propagates its panics.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
