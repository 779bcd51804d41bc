//! What stays of versions: copies on disk, and lines in the record.

use std::sync::Arc;

use super::{Backend, RefusedVersion, Source, blocking};
use crate::domain::finding::Refused;
use crate::domain::snapshot::Snapshot;
use crate::state::record::{Action, Entry};

/// Who is told as the author of what the source brings.
const SOURCE: &str = "source";

impl Source {
    /// Any version that is kept, or that the clone has.
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

    /// A copy on disk and a line in the record. Failing to keep them does not keep a good version from being served.
    pub(super) async fn keep(&self, snapshot: &Arc<Snapshot>) {
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

    /// Tells once a version; it is looked into again at every look.
    pub(super) async fn refuse(&self, version: &str, label: Option<&str>, refused: &Refused) {
        let told = {
            let mut condition = self.inner.condition.lock();
            let same = |before: &RefusedVersion| before.version == version && before.label.as_deref() == label;
            let told = condition.refused.iter().any(same);
            condition.refused.retain(|before| before.label.as_deref() != label);
            condition.refused.push(RefusedVersion {
                version: version.to_owned(),
                label: label.map(ToOwned::to_owned),
                findings: refused.0.clone(),
            });
            told
        };
        if told {
            return;
        }
        self.inner.metrics.refused.inc();
        tracing::error!(version, label, reason = %refused, "version refused; serving last good version");
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
