//! Persistence of versions: copies on disk, and entries in the audit record.

use std::sync::Arc;

use super::{Backend, RefusedVersion, Source, blocking};
use crate::domain::finding::Refused;
use crate::domain::snapshot::Snapshot;
use crate::state::record::{Action, Entry};

/// The actor in entries about versions of the source.
const SOURCE: &str = "source";

impl Source {
    /// Returns a version from the archive or from the clone.
    pub async fn version(&self, version: &str) -> Result<Option<Arc<Snapshot>>, String> {
        let (source, version) = (self.clone(), version.to_owned());
        blocking(move || {
            let inner = &source.inner;
            let found = inner.archive.find(&version).map_err(|error| error.to_string())?;
            let (version, contents) = match (found, &inner.backend) {
                (Some(version), _) => {
                    let contents = inner.archive.get(&version).map_err(|error| error.to_string())?;
                    (version, contents)
                }
                (None, Backend::Git(git)) => match git.find(&version).map_err(|error| error.to_string())? {
                    Some(commit) => {
                        let contents = git.read(&commit).map_err(|error| error.to_string())?;
                        (commit, Some(contents))
                    }
                    None => return Ok(None),
                },
                (None, Backend::Folder(_)) => return Ok(None),
            };
            let Some(contents) = contents else { return Ok(None) };
            let snapshot = Snapshot::new(version, contents).map_err(|refused| refused.to_string())?;
            Ok(Some(Arc::new(snapshot)))
        })
        .await
    }

    /// Saves a copy on disk and an entry in the record. A failure is logged and does not prevent publication.
    pub(super) async fn save(&self, snapshot: &Arc<Snapshot>) {
        let (source, snapshot) = (self.clone(), snapshot.clone());
        blocking(move || {
            let inner = &source.inner;
            let mut entry = Entry::new(inner.context.clock.now(), SOURCE, Action::Published).version(&snapshot.version);
            if let Backend::Git(git) = &inner.backend
                && let Some(about) = git.about(&snapshot.version)
            {
                entry = entry.detail(format!("{}: {}", about.author, about.subject));
            }
            if let Err(error) = inner.archive.put(&snapshot.version, &snapshot.contents()) {
                tracing::error!(%error, "saving version copy failed; serving it");
            }
            if let Err(error) = inner.record.add(&entry) {
                tracing::error!(%error, "recording version failed; serving it");
            }
        })
        .await;
    }

    /// Adds a version to the refused ones. It is checked again at each refresh, and counted, logged and recorded the first time.
    pub(super) async fn record_refusal(&self, version: &str, label: Option<&str>, refused: &Refused) {
        let is_known = {
            let mut status = self.inner.status.lock();
            let same = |before: &RefusedVersion| before.version == version && before.label.as_deref() == label;
            let is_known = status.refused.iter().any(same);
            status.refused.retain(|before| before.label.as_deref() != label);
            status.refused.push(RefusedVersion {
                version: version.to_owned(),
                label: label.map(ToOwned::to_owned),
                findings: refused.0.clone(),
            });
            is_known
        };
        if is_known {
            return;
        }
        self.inner.metrics.refused.inc();
        tracing::error!(version, label, reason = %refused, "version refused; serving last valid version");
        let mut entry = Entry::new(self.inner.context.clock.now(), SOURCE, Action::Refused).version(version);
        entry.label = label.map(ToOwned::to_owned);
        entry.findings.clone_from(&refused.0);
        let source = self.clone();
        blocking(move || {
            if let Err(error) = source.inner.record.add(&entry) {
                tracing::error!(%error, "recording refusal failed");
            }
        })
        .await;
    }
}
