//! Settings that can be re-read while the service runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex as Lock;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, watch};

use super::layers::{Layers, OldKey, Typed, flatten};
use super::remote::{self, Remote};
use super::{SettingsError, Shared, Sources};

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
    /// Held while the settings are swapped, so that no part misses a change.
    parts: Lock<Parts<S>>,
    /// None for settings that were made in code.
    origin: Option<Origin>,
}

/// Makes something of settings anew.
type Part<S> = Box<dyn Fn(&S) + Send + Sync>;

/// What follows from settings, made anew with every change of them.
struct Parts<S>(Vec<Part<S>>);

impl<S> fmt::Debug for Parts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} parts", self.0.len())
    }
}

struct Origin {
    sources: Sources,
    /// Held for the length of a refresh: one at a time.
    state: Mutex<State>,
    shared: Shared,
    /// The values the service was started with.
    started: BTreeMap<String, Value>,
}

/// What is behind the current settings.
struct State {
    merged: Value,
    /// Keys set while running, over everything else, until the next start.
    set: Map<String, Value>,
    /// The config service's answer.
    remote: Remote,
    /// Keys that nobody knows here.
    ignored: Vec<String>,
    old_keys: Vec<OldKey>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Origin")
            .field("service", &self.sources.service)
            .finish_non_exhaustive()
    }
}

/// What a refresh has come to, keys as sorted paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refreshed {
    pub changed: Vec<String>,
    /// Those that are not as they were at start and take effect with the next one only.
    pub needs_restart: Vec<String>,
    /// What the config service's answer came from; none without a config service.
    pub version: Option<String>,
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
        Self::with(settings, None)
    }

    fn with(settings: S, origin: Option<Origin>) -> Self {
        Self {
            inner: Arc::new(Inner {
                current: watch::Sender::new(Arc::new(settings)),
                parts: Lock::new(Parts(Vec::new())),
                origin,
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

    /// A section of the settings, which changes with them.
    #[must_use]
    pub fn part<P: Send + Sync + 'static>(&self, part: impl Fn(&S) -> P + Send + Sync + 'static) -> Live<P> {
        self.follow(move |settings, _| part(settings))
    }

    /// What is made of the settings, and made anew with every change of them from what it was before.
    #[must_use]
    pub fn follow<P: Send + Sync + 'static>(
        &self,
        make: impl Fn(&S, Option<&P>) -> P + Send + Sync + 'static,
    ) -> Live<P> {
        let mut parts = self.inner.parts.lock();
        let part = Live::new(make(&self.get(), None));
        let follower = part.clone();
        parts.0.push(Box::new(move |settings| {
            follower.replace(make(settings, Some(&follower.get())));
        }));
        part
    }

    pub(crate) fn replace(&self, settings: S) {
        let parts = self.inner.parts.lock();
        let settings = Arc::new(settings);
        self.inner.current.send_replace(settings.clone());
        for part in &parts.0 {
            part(&settings);
        }
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
        self.set(Map::new()).await
    }

    /// As [`Self::refresh`], with these keys over all layers from now on, until the next start; a key that is not known
    /// here is ignored.
    ///
    /// # Errors
    /// As for a refresh; these keys are forgotten then.
    pub async fn set(&self, values: Map<String, Value>) -> Result<Refreshed, SettingsError> {
        let Some(origin) = &self.inner.origin else {
            return Err(SettingsError::Unreadable {
                origin: "code".to_owned(),
                reason: "these settings were not read from anywhere".to_owned(),
            });
        };
        let mut state = origin.state.lock().await;
        let mut set = state.set.clone();
        set.extend(values);
        let read = read(&origin.sources, When::Running(&set, &state.remote)).await?;
        let (before, after) = (flatten(&state.merged), flatten(&read.typed.merged));
        let refreshed = Refreshed {
            changed: differing(&before, &after),
            needs_restart: differing(&origin.started, &after)
                .into_iter()
                .filter(|key| !read.layers.is_live(key))
                .collect(),
            version: read.remote.version.clone(),
        };
        if !refreshed.changed.is_empty() {
            self.replace(read.typed.settings);
        }
        tell_ignored(origin.sources.service, &read.typed.ignored, &state.ignored);
        warn_of_old_keys(origin.sources.service, &read.typed.old_keys, &state.old_keys);
        *state = State {
            merged: read.typed.merged,
            set,
            remote: read.remote,
            ignored: read.typed.ignored,
            old_keys: read.typed.old_keys,
        };
        Ok(refreshed)
    }

    /// The log directives of this moment.
    async fn log_level(&self) -> Option<String> {
        let state = self.inner.origin.as_ref()?.state.lock().await;
        let level = state.merged.pointer("/log/level");
        level.and_then(Value::as_str).map(str::to_owned)
    }
}

/// Keys whose values are not the same in both.
fn differing(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<String> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = keys.into_iter().filter(|&key| before.get(key) != after.get(key));
    differing.cloned().collect()
}

pub(super) async fn load<S: DeserializeOwned>(sources: &Sources) -> Result<Live<S>, SettingsError> {
    let read = read::<S>(sources, When::Starting).await?;
    tell_ignored(sources.service, &read.typed.ignored, &[]);
    warn_of_old_keys(sources.service, &read.typed.old_keys, &[]);
    let origin = Origin {
        sources: sources.clone(),
        started: flatten(&read.typed.merged),
        state: Mutex::new(State {
            merged: read.typed.merged,
            set: Map::new(),
            remote: read.remote,
            ignored: read.typed.ignored,
            old_keys: read.typed.old_keys,
        }),
        shared: read.layers.shared()?,
    };
    Ok(Live::with(read.typed.settings, Some(origin)))
}

/// When layers are read: a start may wait for the config service, and go by its copy.
enum When<'a> {
    Starting,
    /// With these keys over everything else; the config service has given this answer before.
    Running(&'a Map<String, Value>, &'a Remote),
}

struct Read<S> {
    layers: Layers,
    typed: Typed<S>,
    remote: Remote,
}

/// Reads all layers.
async fn read<S: DeserializeOwned>(sources: &Sources, when: When<'_>) -> Result<Read<S>, SettingsError> {
    let mut layers = Layers::at_hand(sources)?;
    let shared = layers.shared()?;
    let remote = match when {
        When::Starting => remote::wait(sources.service, &shared.config, &shared.credentials).await?,
        When::Running(_, before) => {
            remote::fetch(
                sources.service,
                &shared.config,
                &shared.credentials,
                REFRESH_WAIT,
                before,
            )
            .await?
        }
    };
    layers.insert_remote(remote.layers.clone(), sources.environment);
    let mut left_out = remote.left_out.clone();
    if let When::Running(set, _) = when {
        left_out.extend(layers.set(set.clone()));
    }
    let mut typed = layers.typed()?;
    typed.ignored.extend(left_out);
    if let (Some(answer), Some(copy)) = (&remote.answer, &shared.config.copy) {
        // Only what was found valid is worth starting from. Failing to keep it is no reason not to take it.
        if let Err(error) = remote::keep(copy, answer) {
            tracing::error!(%error, "there will be no copy to start from");
        }
    }
    Ok(Read { layers, typed, remote })
}

/// Tells, once until they are others, which keys nobody knows here: Spring's own live beside ours in the same files.
fn tell_ignored(service: &str, ignored: &[String], before: &[String]) {
    if !ignored.is_empty() && ignored != before {
        tracing::warn!(service, keys = ?ignored, "unknown settings are ignored");
    }
}

/// Logs each renamed key that is still given by its old name, once until it is taken away.
fn warn_of_old_keys(service: &str, old_keys: &[OldKey], known: &[OldKey]) {
    for old_key in old_keys.iter().filter(|old_key| !known.contains(old_key)) {
        let OldKey { renamed, source } = old_key;
        tracing::warn!(
            service,
            key = renamed.old,
            new_key = renamed.new,
            source,
            "settings key renamed; the next release ignores the old key"
        );
    }
}

/// Re-reads the settings of a service for whoever asks: the actuator, a bus refresh. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Refresher {
    target: Arc<OnceLock<Box<dyn Target>>>,
}

#[async_trait]
trait Target: fmt::Debug + Send + Sync {
    async fn set(&self, values: Map<String, Value>) -> Result<Refreshed, SettingsError>;
    async fn version(&self) -> Option<String>;
}

#[async_trait]
impl<S: DeserializeOwned + fmt::Debug + Send + Sync> Target for Live<S> {
    async fn set(&self, values: Map<String, Value>) -> Result<Refreshed, SettingsError> {
        let refreshed = Live::set(self, values).await?;
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

    async fn version(&self) -> Option<String> {
        self.inner.origin.as_ref()?.state.lock().await.remote.version.clone()
    }
}

impl Refresher {
    /// Says which settings are meant. The first one stays.
    pub fn attach<S>(&self, settings: &Live<S>)
    where
        S: DeserializeOwned + fmt::Debug + Send + Sync + 'static,
    {
        self.target.get_or_init(|| Box::new(settings.clone()));
    }

    /// Re-reads the settings; none when nothing is attached.
    pub async fn refresh(&self) -> Option<Result<Refreshed, SettingsError>> {
        self.set(Map::new()).await
    }

    /// Re-reads the settings with these keys over all layers, see [`Live::set`]; none when nothing is attached.
    pub async fn set(&self, values: Map<String, Value>) -> Option<Result<Refreshed, SettingsError>> {
        let refreshed = self.target.get()?.set(values).await;
        match &refreshed {
            Ok(Refreshed { changed, .. }) if changed.is_empty() => {}
            Ok(Refreshed {
                changed, needs_restart, ..
            }) => {
                tracing::info!(?changed, ?needs_restart, "settings were read again");
            }
            Err(error) => tracing::error!(%error, "settings stay as they were"),
        }
        Some(refreshed)
    }

    /// The version of the config service's answer that the settings are of.
    pub async fn version(&self) -> Option<String> {
        self.target.get()?.version().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_the_whole() {
        let whole = Live::new((1, "a"));
        let number = whole.part(|whole| whole.0);
        let numbers = number.follow(|number, before: Option<&Vec<i32>>| {
            let before = before.cloned().unwrap_or_default();
            [before, vec![*number]].concat()
        });
        whole.replace((2, "b"));
        whole.replace((3, "b"));
        assert_eq!((*number.get(), &*numbers.get()), (3, &vec![1, 2, 3]));
    }
}
