//! Which version is served to whom while a new one is on its way, kept so that no restart forgets it.
//!
//! The file is written before what it says is served, and what is served follows from the file alone. So a crash between any two lines leaves
//! one of these: no file, and the new version not served; or a file that says who gets which version, and goes on being true after the start.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::refresh::{Look, Outcome};
use super::{Source, blocking};
use crate::domain::canary::{Canary, Phase};
use crate::domain::snapshot::Snapshot;
use crate::state::record::{Action, Entry};

/// Beside the archive.
const FILE: &str = "canary.json";

/// What is on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    canary: Canary,
    /// Whether this replica leads it on.
    leads: bool,
}

/// A canary with the version before.
#[derive(Debug, Clone)]
pub(super) struct Held {
    canary: Canary,
    leads: bool,
    /// None when it can no longer be had: then the new version is served.
    from: Option<Arc<Snapshot>>,
}

/// Why no canary was started.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    #[error("a canary is running")]
    Running,
    #[error("no canary is running")]
    NotRunning,
    #[error("the new version is refused; GET /config-service/status says why")]
    Refused,
    #[error("the source is unavailable")]
    Away,
    #[error("nothing is served yet")]
    NotYet,
    #[error("no instance reports what it runs on; refresh without canary")]
    NoInstance,
    #[error("state: {0}")]
    State(String),
}

/// What a canary is made of but its versions.
pub type Plan = Box<dyn FnOnce(String, String) -> Canary + Send>;

/// A plan that waits for the next version that is found.
pub(super) struct Planned(Option<Plan>);

impl std::fmt::Debug for Planned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Planned").field(&self.0.is_some()).finish()
    }
}

impl Planned {
    pub(super) fn none() -> parking_lot::Mutex<Self> {
        parking_lot::Mutex::new(Self(None))
    }
}

impl Source {
    /// The canary that is running, or was the last one, and whether this replica leads it.
    #[must_use]
    pub fn canary(&self) -> Option<(Canary, bool)> {
        let held = self.inner.canary.read();
        held.as_ref().map(|held| (held.canary.clone(), held.leads))
    }

    #[must_use]
    pub fn is_canary_running(&self) -> bool {
        self.canary().is_some_and(|(canary, _)| canary.phase == Phase::Running)
    }

    /// The version that an instance gets when it names no label.
    #[must_use]
    pub fn served(&self, instance: Option<&str>) -> Option<Arc<Snapshot>> {
        let main = self.published()?.main.clone();
        let held = self.inner.canary.read();
        let from = held
            .as_ref()
            .filter(|held| held.canary.to == main.version && !held.canary.gets_new(instance))
            .and_then(|held| held.from.clone());
        Some(from.unwrap_or(main))
    }

    /// Starts a canary of the newest version. When it is served already, from the version before: instances that have it keep it while they
    /// are well.
    pub async fn start_canary(&self, plan: Plan) -> Result<Canary, CanaryError> {
        let _one = self.inner.starting.lock().await;
        if self.is_canary_running() {
            return Err(CanaryError::Running);
        }
        let back = self.canary().filter(|(canary, _)| canary.phase == Phase::RolledBack);
        self.inner.planned.lock().0 = Some(plan);
        let outcome = self.look(Look::Asked).await;
        let plan = self.inner.planned.lock().0.take();
        match (outcome, plan) {
            (Outcome::Refused, _) => return Err(CanaryError::Refused),
            (Outcome::Away, Some(_)) => return Err(CanaryError::Away),
            // The look has found a new version and started it.
            (_, None) => {}
            (_, Some(plan)) => {
                let to = self.published().ok_or(CanaryError::NotYet)?.main.version.clone();
                let from = match back {
                    Some((canary, _)) if canary.to == to => canary.from,
                    _ => self.before(&to).await?.unwrap_or_else(|| to.clone()),
                };
                self.put_canary(plan(from, to), true).await?;
            }
        }
        self.canary().map(|(canary, _)| canary).ok_or(CanaryError::NotYet)
    }

    /// Called with a new version before it is served.
    pub(super) async fn start_planned(&self, from: &str, to: &str) -> Result<(), CanaryError> {
        let plan = self.inner.planned.lock().0.take();
        match plan {
            Some(plan) => self.put_canary(plan(from.to_owned(), to.to_owned()), true).await,
            None => Ok(()),
        }
    }

    /// Keeps a new state of a canary, then lets it count.
    pub async fn put_canary(&self, canary: Canary, leads: bool) -> Result<(), CanaryError> {
        let known = self.inner.canary.read().clone();
        let from = match known.filter(|known| known.canary.from == canary.from) {
            Some(known) if known.from.is_some() => known.from,
            _ => self.version_before(&canary.from).await,
        };
        let (path, kept) = (self.canary_file(), Kept { canary, leads });
        let written = blocking(move || {
            let bytes = serde_json::to_vec(&kept).map_err(std::io::Error::other)?;
            crate::state::write_whole(&path, &bytes).map(|()| kept)
        });
        let Kept { canary, leads } = written.await.map_err(|error| CanaryError::State(error.to_string()))?;
        *self.inner.canary.write() = Some(Held { canary, leads, from });
        Ok(())
    }

    /// At the start: what was kept counts again.
    pub(super) async fn recover_canary(&self) {
        let path = self.canary_file();
        let read = blocking(move || std::fs::read(&path)).await;
        let kept: Kept = match read.map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(kept)) => kept,
            Ok(Err(error)) => {
                tracing::error!(%error, "saved canary corrupt; ignored");
                return;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                tracing::error!(%error, "reading saved canary failed; ignored");
                return;
            }
        };
        let from = self.version_before(&kept.canary.from).await;
        let Kept { canary, leads } = kept;
        tracing::info!(id = canary.id, phase = ?canary.phase, from = canary.from, to = canary.to, "saved canary read");
        *self.inner.canary.write() = Some(Held { canary, leads, from });
    }

    async fn version_before(&self, version: &str) -> Option<Arc<Snapshot>> {
        if let Some(published) = self.published()
            && published.main.version == version
        {
            return Some(published.main.clone());
        }
        match self.version(version).await {
            Ok(Some(snapshot)) => Some(snapshot),
            Ok(None) => {
                tracing::error!(version, "version before a canary lost; the new one is served");
                None
            }
            Err(error) => {
                tracing::error!(
                    version,
                    error,
                    "reading version before a canary failed; the new one is served"
                );
                None
            }
        }
    }

    /// The version that was published before this one.
    async fn before(&self, version: &str) -> Result<Option<String>, CanaryError> {
        let (record, version) = (self.inner.record.clone(), version.to_owned());
        let read = blocking(move || {
            let is_other = move |entry: &Entry| {
                entry.action == Action::Published && entry.version.as_ref().is_some_and(|of| *of != version)
            };
            record.newest(1, is_other)
        });
        let entries = read.await.map_err(|error| CanaryError::State(error.to_string()))?;
        Ok(entries.into_iter().next().and_then(|entry| entry.version))
    }

    fn canary_file(&self) -> PathBuf {
        self.inner.folder.join(FILE)
    }
}
