//! Where configuration lives: a snapshot in memory, swapped whole when the source changes. No request touches the disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use sosohappy_common::Context;
use sosohappy_common::settings::SecretUrl;

use crate::domain::snapshot::{BadFile, Snapshot};

/// More than this in one folder is not configuration.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("source.url: {0} is not supported; file:<folder> is")]
    Scheme(String),
    #[error("{path}: {error}")]
    Read { path: String, error: std::io::Error },
    #[error("the source holds more than {MOST_BYTES} bytes")]
    TooLarge,
    #[error(transparent)]
    BadFile(#[from] BadFile),
}

/// A folder of configuration files. Clones share the snapshot.
#[derive(Debug, Clone)]
pub struct Source {
    folder: Arc<Path>,
    snapshot: Arc<RwLock<Arc<Snapshot>>>,
}

impl Source {
    /// Reads the folder once; a folder that does not exist is made, and empty.
    pub async fn open(url: &SecretUrl) -> Result<Self, SourceError> {
        if url.scheme() != "file" {
            return Err(SourceError::Scheme(url.scheme().to_owned()));
        }
        let folder: Arc<Path> = Path::new(url.rest().trim_start_matches("//")).into();
        let read = |error| SourceError::Read {
            path: folder.display().to_string(),
            error,
        };
        tokio::fs::create_dir_all(&folder).await.map_err(read)?;
        let snapshot = load(folder.clone()).await?;
        Ok(Self {
            folder,
            snapshot: Arc::new(RwLock::new(Arc::new(snapshot))),
        })
    }

    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.read().clone()
    }

    /// What names of property sources begin with.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("file:{}", self.folder.display())
    }

    /// Looks for changes every so often. A change that does not parse is refused as a whole: the last good snapshot
    /// stays, and a log line names the file and the reason.
    pub fn spawn_watch(&self, context: &Context, every: Duration) {
        let source = self.clone();
        let draining = context.lifecycle.draining();
        context.lifecycle.spawn("config-source", async move {
            let mut refused = None;
            while draining.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
                match load(source.folder.clone()).await {
                    Ok(fresh) => {
                        refused = None;
                        if fresh.version != source.snapshot().version {
                            tracing::info!(version = fresh.version, "configuration changed");
                            *source.snapshot.write() = Arc::new(fresh);
                        }
                    }
                    Err(error) => {
                        let error = error.to_string();
                        if refused.as_ref() != Some(&error) {
                            tracing::error!(error, "configuration refused, the last good version stays");
                            refused = Some(error);
                        }
                    }
                }
            }
            Ok(())
        });
    }
}

async fn load(folder: Arc<Path>) -> Result<Snapshot, SourceError> {
    tokio::task::spawn_blocking(move || Ok(Snapshot::new(read_folder(&folder)?)?))
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

/// Every file below the folder, hidden ones left out; links are not followed out of it.
fn read_folder(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, SourceError> {
    let mut contents = BTreeMap::new();
    let mut total = 0;
    let mut waiting = vec![(PathBuf::from(folder), String::new())];
    while let Some((path, prefix)) = waiting.pop() {
        let read = |error| SourceError::Read {
            path: path.display().to_string(),
            error,
        };
        for entry in std::fs::read_dir(&path).map_err(read)? {
            let entry = entry.map_err(read)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            let kind = entry.file_type().map_err(read)?;
            if kind.is_dir() {
                waiting.push((entry.path(), format!("{prefix}{name}/")));
            } else if kind.is_file() || links_inside(&entry.path(), folder) {
                total += entry.metadata().map_err(read)?.len();
                if total > MOST_BYTES {
                    return Err(SourceError::TooLarge);
                }
                contents.insert(format!("{prefix}{name}"), std::fs::read(entry.path()).map_err(read)?);
            }
        }
    }
    Ok(contents)
}

/// A mounted ConfigMap is made of links to files beside it.
fn links_inside(link: &Path, folder: &Path) -> bool {
    match (link.canonicalize(), folder.canonicalize()) {
        (Ok(target), Ok(folder)) => target.is_file() && target.starts_with(folder),
        _ => false,
    }
}
