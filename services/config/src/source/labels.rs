//! Which files answer for a label: a branch, a tag, a commit, or a folder.

use std::sync::Arc;
use std::time::Duration;

use super::git::GitError;
use super::{Backend, Source, blocking};
use crate::domain::environment::{UnknownLabel, View};
use crate::domain::finding::Refused;
use crate::domain::snapshot::Snapshot;

/// Bytes of files of all labels but the main one, held in memory.
const CACHED_BYTES: u64 = 128 * 1024 * 1024;
/// Answers on which commit a hex names; they change only when objects come.
const CACHED_NAMES: u64 = 10_000;
const NAME_LIFETIME: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error(transparent)]
    UnknownLabel(#[from] UnknownLabel),
    #[error("the source has not been reached yet")]
    NotYet,
    /// A label was asked for the first time, and what it stands at is not to be served.
    #[error("label {label}: {findings}")]
    Refused { label: String, findings: Arc<LoadError> },
    #[error("the clone cannot be read: {0}")]
    Clone(Arc<LoadError>),
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Commits that were asked for by label.
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

    /// What hex names may be another thing after a fetch.
    pub fn forget_names(&self) {
        self.commits.invalidate_all();
    }
}

impl Source {
    /// The files for a label, or those for none, which may be another version for this instance.
    pub async fn view(&self, label: Option<&str>, instance: Option<&str>) -> Result<View, ViewError> {
        let published = self.published().ok_or(ViewError::NotYet)?;
        let served = self.served(instance).ok_or(ViewError::NotYet)?;
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

    /// The files at a commit, parsed and checked once for all who ask.
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

    /// The whole name of a commit that is in the clone.
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
