//! Settings that can be re-read while the service runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Mutex, watch};

use super::layers::{Layers, Typed, flatten};
use super::{SettingsError, Shared, Sources, remote};
use crate::metrics::{Metrics, SettingsMetrics};

/// How long a refresh waits for the config service; at start it is `config.wait`.
const REFRESH_WAIT: Duration = Duration::from_secs(5);

/// Settings that can be read at any time and change as a whole.
#[derive(Debug)]
pub struct Live<S> {
    inner: Arc<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    current: watch::Sender<Arc<S>>,
    /// None for settings that were made in code.
    origin: Option<Origin>,
}

struct Origin {
    sources: Sources,
    /// The values behind the current settings. Held for the length of a refresh: one at a time.
    merged: Mutex<Value>,
    /// The values the process has started with, as leaves by path.
    started: BTreeMap<String, Value>,
    /// Of what the config service answered at start.
    fingerprint: u64,
    shared: Shared,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("service", &self.sources.service)
            .finish_non_exhaustive()
    }
}

/// What a refresh has changed, as sorted key paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refreshed {
    pub changed: Vec<String>,
    /// Those of the changed ones that take effect with the next start only.
    pub needs_restart: Vec<String>,
    /// How many keys, whenever they changed, wait for the next start.
    pub waiting: usize,
    /// Of what the config service answered; the same in every replica that was answered the same. 0 without one.
    pub fingerprint: u64,
}

impl<S> Clone for Live<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<S> Live<S> {
    /// Settings made in code: tests, and parts of others. There is nothing to re-read them from.
    pub fn new(settings: S) -> Self {
        Self {
            inner: Arc::new(Inner {
                current: watch::Sender::new(Arc::new(settings)),
                origin: None,
            }),
        }
    }

    /// The settings of this moment.
    #[must_use]
    pub fn get(&self) -> Arc<S> {
        self.inner.current.borrow().clone()
    }

    /// Tells of every change.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<S>> {
        self.inner.current.subscribe()
    }

    /// The shared sections as they were at start; none for settings made in code.
    #[must_use]
    pub fn shared(&self) -> Option<&Shared> {
        self.inner.origin.as_ref().map(|origin| &origin.shared)
    }
}

impl<S: DeserializeOwned> Live<S> {
    /// Re-reads all layers. On an error nothing changes; otherwise the settings are swapped as a whole.
    ///
    /// # Errors
    /// What [`super::load`] answers; settings made in code cannot be re-read.
    pub async fn refresh(&self) -> Result<Refreshed, SettingsError> {
        let Some(origin) = &self.inner.origin else {
            return Err(SettingsError::Unreadable {
                origin: "code".to_owned(),
                reason: "these settings were not read from anywhere".to_owned(),
            });
        };
        let mut merged = origin.merged.lock().await;
        let (layers, typed, fingerprint) = read(&origin.sources, Some(REFRESH_WAIT)).await?;
        let after = flatten(&typed.merged);
        let changed = differing(&flatten(&merged), &after);
        let needs_restart = changed.iter().filter(|key| !layers.is_live(key)).cloned().collect();
        let waiting = differing(&origin.started, &after)
            .iter()
            .filter(|key| !layers.is_live(key))
            .count();
        if !changed.is_empty() {
            self.inner.current.send_replace(Arc::new(typed.settings));
            *merged = typed.merged;
        }
        Ok(Refreshed {
            changed,
            needs_restart,
            waiting,
            fingerprint,
        })
    }

    /// The log directives of this moment.
    async fn log_level(&self) -> Option<String> {
        let merged = self.inner.origin.as_ref()?.merged.lock().await;
        merged.pointer("/log/level").and_then(Value::as_str).map(str::to_owned)
    }
}

/// The keys whose values are not the same on both sides, sorted.
fn differing(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<String> {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|&key| before.get(key) != after.get(key))
        .cloned()
        .collect()
}

pub(super) async fn load<S: DeserializeOwned>(sources: &Sources) -> Result<Live<S>, SettingsError> {
    let (layers, typed, fingerprint) = read::<S>(sources, None).await?;
    let origin = Origin {
        sources: sources.clone(),
        started: flatten(&typed.merged),
        fingerprint,
        merged: Mutex::new(typed.merged),
        shared: layers.shared()?,
    };
    let current = watch::Sender::new(Arc::new(typed.settings));
    Ok(Live {
        inner: Arc::new(Inner {
            current,
            origin: Some(origin),
        }),
    })
}

/// Reads all layers, and takes the fingerprint of the config service's; `wait` over `config.wait`.
async fn read<S: DeserializeOwned>(
    sources: &Sources,
    wait: Option<Duration>,
) -> Result<(Layers, Typed<S>, u64), SettingsError> {
    let mut layers = Layers::at_hand(sources)?;
    let shared = layers.shared()?;
    let wait = wait.unwrap_or(shared.config.wait);
    let remote = remote::fetch(sources.service, &shared.config, &shared.credentials, wait).await?;
    let fingerprint = remote.fingerprint();
    layers.insert_remote(remote.layers, sources.environment);
    let mut typed = layers.typed()?;
    typed.ignored.extend(remote.left_out);
    if !typed.ignored.is_empty() {
        // Spring's own keys live beside ours in the same files.
        tracing::warn!(service = sources.service, keys = ?typed.ignored, "unknown settings are ignored");
    }
    Ok((layers, typed, fingerprint))
}

/// Re-reads the settings of a service for whoever asks: the actuator, a bus refresh. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Refresher {
    target: Arc<OnceLock<(Box<dyn Target>, SettingsMetrics)>>,
}

#[async_trait]
trait Target: fmt::Debug + Send + Sync {
    async fn refresh(&self) -> Result<Refreshed, SettingsError>;
}

#[async_trait]
impl<S: DeserializeOwned + fmt::Debug + Send + Sync> Target for Live<S> {
    async fn refresh(&self) -> Result<Refreshed, SettingsError> {
        let refreshed = Live::refresh(self).await?;
        if refreshed.changed.iter().any(|key| key == "log.level")
            && let (Some(levels), Some(level)) = (crate::telemetry::levels(), self.log_level().await)
        {
            levels.set(&level).map_err(|error| SettingsError::Invalid {
                path: "log.level".to_owned(),
                reason: error.to_string(),
            })?;
        }
        Ok(refreshed)
    }
}

impl Refresher {
    /// Says which settings are meant, and where they are counted. The first one stays.
    pub fn attach<S>(&self, settings: &Live<S>, metrics: &Metrics)
    where
        S: DeserializeOwned + fmt::Debug + Send + Sync + 'static,
    {
        self.target.get_or_init(|| {
            let metrics = SettingsMetrics::register(metrics);
            metrics.runs_on(settings.inner.origin.as_ref().map_or(0, |origin| origin.fingerprint), 0);
            (Box::new(settings.clone()), metrics)
        });
    }

    /// Re-reads the settings; none when nothing is attached.
    pub async fn refresh(&self) -> Option<Result<Refreshed, SettingsError>> {
        let (target, metrics) = self.target.get()?;
        let refreshed = target.refresh().await;
        match &refreshed {
            Ok(Refreshed {
                changed,
                needs_restart,
                waiting,
                fingerprint,
            }) => {
                metrics.read_again(!changed.is_empty());
                metrics.runs_on(*fingerprint, *waiting);
                tracing::info!(?changed, ?needs_restart, "settings were read again");
            }
            Err(error) => {
                metrics.failed();
                tracing::error!(%error, "settings stay as they were");
            }
        }
        Some(refreshed)
    }
}
