//! The saved state of a canary, and the version that each instance is served while it runs.
//!
//! The state is written to disk before it takes effect, and the served version follows from it alone. A crash therefore leaves one of two states:
//! no file and the new version unserved, or a file that is valid after the start.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::refresh::{Outcome, RefreshReason};
use super::{Source, blocking};
use crate::domain::canary::{Canary, Phase};
use crate::domain::snapshot::Snapshot;
use crate::state::record::{Action, Entry};

/// The file in `state.folder`.
const FILE: &str = "canary.json";

/// The content of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedCanary {
    canary: Canary,
    /// Whether this replica is the leader.
    leads: bool,
}

/// A canary with the version before.
#[derive(Debug, Clone)]
pub(super) struct ActiveCanary {
    canary: Canary,
    leads: bool,
    /// None when the version before can no longer be read: then the new version is served.
    from: Option<Arc<Snapshot>>,
}

/// Errors of starting, stopping and saving a canary.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    #[error("a canary is running")]
    Running,
    #[error("no canary is running")]
    NotRunning,
    #[error("the new version is refused; GET /config-service/status says why")]
    Refused,
    #[error("the source is unavailable")]
    Unavailable,
    #[error("no version published yet")]
    NothingServed,
    #[error("no instance reports its version; refresh without canary")]
    NoInstance,
    #[error("state: {0}")]
    State(String),
}

/// Builds a canary from the version before and the new one.
pub type Plan = Box<dyn FnOnce(String, String) -> Canary + Send>;

/// A plan for the next new version that a refresh finds.
pub(super) struct PendingPlan(Option<Plan>);

impl std::fmt::Debug for PendingPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PendingPlan").field(&self.0.is_some()).finish()
    }
}

impl PendingPlan {
    pub(super) fn none() -> parking_lot::Mutex<Self> {
        parking_lot::Mutex::new(Self(None))
    }
}

impl Source {
    /// Returns the running canary, or the last one, and whether this replica leads it.
    #[must_use]
    pub fn canary(&self) -> Option<(Canary, bool)> {
        let active = self.inner.canary.read();
        active.as_ref().map(|active| (active.canary.clone(), active.leads))
    }

    #[must_use]
    pub fn is_canary_running(&self) -> bool {
        self.canary().is_some_and(|(canary, _)| canary.phase == Phase::Running)
    }

    /// Returns the version that an instance is served without a label.
    #[must_use]
    pub fn served(&self, instance: Option<&str>) -> Option<Arc<Snapshot>> {
        let main = self.published()?.main.clone();
        let active = self.inner.canary.read();
        // A canary of another version than the published one is over and has no effect.
        let from = active
            .as_ref()
            .filter(|active| active.canary.to == main.version && !active.canary.gets_new_version(instance))
            .and_then(|active| active.from.clone());
        Some(from.unwrap_or(main))
    }

    /// Starts a canary of the newest version.
    ///
    /// | the refresh finds | the canary |
    /// | --- | --- |
    /// | a new version | starts before that version is published, see [`Source::start_planned`] |
    /// | the version of the last, rolled-back canary | starts again from the same version before |
    /// | the version that is served | starts from the version published before it |
    /// | a refused version, or an unavailable source | does not start |
    pub async fn start_canary(&self, plan: Plan) -> Result<Canary, CanaryError> {
        // Held to the end: two requests at once would both find no running canary.
        let _starting = self.inner.starting.lock().await;
        if self.is_canary_running() {
            return Err(CanaryError::Running);
        }
        let rolled_back = self.canary().filter(|(canary, _)| canary.phase == Phase::RolledBack);
        // The refresh takes the plan when it finds a new version; otherwise it is still here afterwards.
        self.inner.planned.lock().0 = Some(plan);
        let outcome = self.refresh_for(RefreshReason::Requested).await;
        let plan = self.inner.planned.lock().0.take();
        match (outcome, plan) {
            (Outcome::Refused, _) => return Err(CanaryError::Refused),
            (Outcome::Unavailable, Some(_)) => return Err(CanaryError::Unavailable),
            // The refresh has taken the plan and started the canary.
            (_, None) => {}
            (_, Some(plan)) => {
                let to = self.published().ok_or(CanaryError::NothingServed)?.main.version.clone();
                let from = match rolled_back {
                    Some((canary, _)) if canary.to == to => canary.from,
                    _ => self.previous_version(&to).await?.unwrap_or_else(|| to.clone()),
                };
                self.put_canary(plan(from, to), true).await?;
            }
        }
        self.canary()
            .map(|(canary, _)| canary)
            .ok_or(CanaryError::NothingServed)
    }

    /// Starts the planned canary, if there is one. Called before a new version is published.
    pub(super) async fn start_planned(&self, from: &str, to: &str) -> Result<(), CanaryError> {
        let plan = self.inner.planned.lock().0.take();
        match plan {
            Some(plan) => self.put_canary(plan(from.to_owned(), to.to_owned()), true).await,
            None => Ok(()),
        }
    }

    /// Saves a new state of a canary, then applies it.
    pub async fn put_canary(&self, canary: Canary, leads: bool) -> Result<(), CanaryError> {
        let known = self.inner.canary.read().clone();
        let from = match known.filter(|known| known.canary.from == canary.from) {
            Some(known) if known.from.is_some() => known.from,
            _ => self.version_before(&canary.from).await,
        };
        let (path, saved) = (self.canary_file(), SavedCanary { canary, leads });
        let written = blocking(move || {
            let bytes = serde_json::to_vec(&saved).map_err(std::io::Error::other)?;
            crate::state::write_whole(&path, &bytes).map(|()| saved)
        });
        let SavedCanary { canary, leads } = written.await.map_err(|error| CanaryError::State(error.to_string()))?;
        *self.inner.canary.write() = Some(ActiveCanary { canary, leads, from });
        Ok(())
    }

    /// Applies the saved state at the start.
    pub(super) async fn recover_canary(&self) {
        let path = self.canary_file();
        let read = blocking(move || std::fs::read(&path)).await;
        let saved: SavedCanary = match read.map(|bytes| serde_json::from_slice(&bytes)) {
            Ok(Ok(saved)) => saved,
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
        let from = self.version_before(&saved.canary.from).await;
        let SavedCanary { canary, leads } = saved;
        tracing::info!(id = canary.id, phase = ?canary.phase, from = canary.from, to = canary.to, "saved canary read");
        *self.inner.canary.write() = Some(ActiveCanary { canary, leads, from });
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
                tracing::error!(version, "version before canary not found; serving new version");
                None
            }
            Err(error) => {
                tracing::error!(
                    version,
                    error,
                    "reading version before canary failed; serving new version"
                );
                None
            }
        }
    }

    /// Returns the version that was published before this one.
    async fn previous_version(&self, version: &str) -> Result<Option<String>, CanaryError> {
        let (record, version) = (self.inner.record.clone(), version.to_owned());
        let read = blocking(move || {
            let is_other = move |entry: &Entry| {
                entry.action == Action::Published && entry.version.as_ref().is_some_and(|other| *other != version)
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
