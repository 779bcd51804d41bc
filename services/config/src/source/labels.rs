//! Resolves a label, which is a branch, a tag, a commit or a folder, to files.

use std::sync::Arc;
use std::time::Duration;

use super::git::GitError;
use super::{Backend, Source, blocking};
use crate::domain::environment::{UnknownLabel, View};
use crate::domain::finding::Refused;
use crate::domain::snapshot::Snapshot;

/// Bytes of the files of all labels but the default one, held in memory.
const CACHED_BYTES: u64 = 128 * 1024 * 1024;
/// Cached resolutions of abbreviated commits; they change only with new objects.
const CACHED_NAMES: u64 = 10_000;
const NAME_LIFETIME: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error(transparent)]
    UnknownLabel(#[from] UnknownLabel),
    #[error("no version published yet")]
    NothingServed,
    /// The first request of a label whose commit failed the checks.
    #[error("label {label}: {findings}")]
    Refused { label: String, findings: Arc<LoadError> },
    #[error("reading the clone failed: {0}")]
    Clone(Arc<LoadError>),
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Snapshots of requested commits, and resolved commit names.
#[derive(Debug)]
pub(super) struct Cache {
    snapshots: moka::future::Cache<String, Arc<Snapshot>>,
    commits: moka::future::Cache<String, Option<String>>,
}

impl Cache {
    pub fn new() -> Self {
        let weight = |_: &String, snapshot: &Arc<Snapshot>| {
            let bytes: usize = snapshot.files.values().map(|file| file.bytes.len()).sum();
            u32::try_from(bytes.max(1)).unwrap_or(u32::MAX)
        };
        Self {
            snapshots: moka::future::Cache::builder()
                .max_capacity(CACHED_BYTES)
                .weigher(weight)
                .build(),
            commits: moka::future::Cache::builder()
                .max_capacity(CACHED_NAMES)
                .time_to_live(NAME_LIFETIME)
                .build(),
        }
    }

    /// Clears the resolutions: an abbreviated commit may name another one, or several, after a fetch.
    pub fn clear_names(&self) {
        self.commits.invalidate_all();
    }
}

impl Source {
    /// Returns the files for a label. The first row that applies decides; the instance matters for the default label only, which a canary may
    /// serve at another version.
    ///
    /// | label | files |
    /// | --- | --- |
    /// | none, or the default branch | the default version |
    /// | a branch or tag | its commit |
    /// | seven to forty hex digits that name a commit | that commit |
    /// | a folder of the default version | the default version, with the folder's files first |
    /// | any other | unknown label |
    pub async fn view(&self, label: Option<&str>, instance: Option<&str>) -> Result<View, ViewError> {
        let published = self.published().ok_or(ViewError::NothingServed)?;
        let served = self.served(instance).ok_or(ViewError::NothingServed)?;
        let search_paths: Arc<[String]> = self.inner.settings.get().search_paths.as_slice().into();
        let main = |folder| View {
            snapshot: served.clone(),
            folder,
            reference: None,
            search_paths: search_paths.clone(),
        };
        let Some(label) = label else {
            return Ok(main(None));
        };
        if let Backend::Git(_) = &self.inner.backend {
            if self.default_label().as_deref() == Some(label) {
                return Ok(main(None));
            }
            if let Some(commit) = published.heads.labels.get(label) {
                // From now on refreshes check new commits of this label before they are served.
                self.inner.used.lock().insert(label.to_owned());
                return self.view_of(label, commit, search_paths).await;
            }
            if is_commit(label)
                && let Some(commit) = self.commit(label).await?
            {
                return self.view_of(label, &commit, search_paths).await;
            }
        }
        if served.has_folder(label) {
            return Ok(main(Some(label.to_owned())));
        }
        Err(UnknownLabel(label.to_owned()).into())
    }

    async fn view_of(&self, label: &str, commit: &str, search_paths: Arc<[String]>) -> Result<View, ViewError> {
        let snapshot = self.snapshot_of(commit).await.map_err(|error| match &*error {
            LoadError::Refused(_) => ViewError::Refused {
                label: label.to_owned(),
                findings: error,
            },
            LoadError::Git(_) => ViewError::Clone(error),
        })?;
        Ok(View {
            snapshot,
            folder: None,
            reference: Some(label.to_owned()),
            search_paths,
        })
    }

    /// Returns the files at a commit. Concurrent requests share one load.
    pub(super) async fn snapshot_of(&self, commit: &str) -> Result<Arc<Snapshot>, Arc<LoadError>> {
        let load = self.load(commit.to_owned());
        self.inner.labels.snapshots.try_get_with(commit.to_owned(), load).await
    }

    async fn load(&self, commit: String) -> Result<Arc<Snapshot>, LoadError> {
        let source = self.clone();
        blocking(move || {
            let Backend::Git(git) = &source.inner.backend else {
                return Err(GitError::Damaged("a folder has no commits".to_owned()).into());
            };
            let contents = git.read(&commit).inspect_err(|error| source.note_damage(error))?;
            let snapshot = Snapshot::new(commit, contents)?;
            source.inner.checker.check(&snapshot)?;
            Ok(Arc::new(snapshot))
        })
        .await
    }

    /// Returns the full name of a commit in the clone.
    async fn commit(&self, hex: &str) -> Result<Option<String>, ViewError> {
        let (source, name) = (self.clone(), hex.to_owned());
        let find = blocking(move || match &source.inner.backend {
            Backend::Git(git) => git.find(&name).map_err(LoadError::from),
            Backend::Folder(_) => Ok(None),
        });
        let found = self.inner.labels.commits.try_get_with(hex.to_owned(), find).await;
        found.map_err(ViewError::Clone)
    }
}

fn is_commit(label: &str) -> bool {
    (7..=40).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_hexdigit())
}
