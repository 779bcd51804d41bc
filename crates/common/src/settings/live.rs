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

use super::flags::Flags;
use super::layers::{Layers, OldKey, Typed};
use super::remote::{self, Remote};
use super::sections::Shared;
use super::sources::{SettingsError, Sources};

/// How long a refresh waits for the config service; a start waits for `config.wait`.
const REFRESH_WAIT: Duration = Duration::from_secs(5);

/// The most keys that are set while running: each is compared with all others.
const MAX_SET: usize = 1000;
/// The most keys in one log line.
const LOGGED_KEYS: usize = 20;

/// Settings that can be read at any time and change as a whole.
#[derive(Debug)]
pub struct Live<S> {
    inner: Arc<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    current: watch::Sender<Arc<S>>,
    /// Locked while the settings are swapped and while a part is added, so that no part misses a change. A refresh takes it while it holds
    /// [`Origin::state`], never the other way round.
    parts: Lock<Parts<S>>,
    /// `None` for settings that were created in code.
    origin: Option<Origin>,
}

/// Derives a value from settings again.
type Part<S> = Box<dyn Fn(&S) + Send + Sync>;

/// A value that is derived from settings, again at every change of them.
struct Parts<S>(Vec<Part<S>>);

impl<S> fmt::Debug for Parts<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} parts", self.0.len())
    }
}

struct Origin {
    sources: Sources,
    /// Locked during a refresh: one at a time.
    state: Mutex<State>,
    shared: Shared,
    flags: Flags,
    /// The values at the start of the service.
    started: BTreeMap<String, Value>,
}

/// The inputs of the current settings.
struct State {
    values: BTreeMap<String, Value>,
    /// Keys set while running, above all layers, until the next start. They were valid together when they were set.
    set: Map<String, Value>,
    /// The answer of the config service.
    remote: Remote,
    /// Unknown keys.
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

/// The result of a refresh, with keys as sorted paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refreshed {
    pub changed: Vec<String>,
    /// Keys whose values differ from those at the start, and take effect at the next start.
    pub needs_restart: Vec<String>,
    /// The version of the config service's answer; `None` without a config service.
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
    /// Creates settings in code, for tests and for parts of other settings. They have no layers to re-read.
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

    /// Returns the present settings.
    #[must_use]
    pub fn get(&self) -> Arc<S> {
        self.inner.current.borrow().clone()
    }

    /// Returns a receiver of changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<S>> {
        self.inner.current.subscribe()
    }

    /// Returns a section of the settings, which changes with them.
    #[must_use]
    pub fn part<P: Send + Sync + 'static>(&self, part: impl Fn(&S) -> P + Send + Sync + 'static) -> Live<P> {
        self.follow(move |settings, _| part(settings))
    }

    /// Derives a value from the settings, again at every change of them, with its former value.
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

    /// Returns the shared sections at the start; `None` for settings created in code.
    #[must_use]
    pub fn shared(&self) -> Option<&Shared> {
        self.inner.origin.as_ref().map(|origin| &origin.shared)
    }
}

impl<S: DeserializeOwned> Live<S> {
    /// Re-reads all layers. On an error nothing changes; otherwise the settings are swapped as a whole.
    ///
    /// # Errors
    /// Those of [`super::load`]; settings created in code cannot be re-read.
    pub async fn refresh(&self) -> Result<Refreshed, SettingsError> {
        self.set(Map::new()).await
    }

    /// Like [`Self::refresh`], with these keys above all layers from now on, until the next start or until they are set to null or an
    /// empty text. A key replaces earlier keys at its path, above it and below it; an unknown key is ignored.
    ///
    /// # Errors
    /// Those of a refresh; then these keys are not set. Keys set earlier that are invalid together with the layers of a refresh, for example
    /// because of a new version of the configuration, are discarded: otherwise every later refresh would fail.
    pub async fn set(&self, values: Map<String, Value>) -> Result<Refreshed, SettingsError> {
        self.set_as(None, values).await
    }

    /// Like [`Self::set`], for an instance that sends its bus id to the config service, which may serve it a canary version.
    async fn set_as(&self, instance: Option<&str>, values: Map<String, Value>) -> Result<Refreshed, SettingsError> {
        let Some(origin) = &self.inner.origin else {
            return Err(SettingsError::Unreadable {
                origin: "code".to_owned(),
                reason: "these settings were not read from anywhere".to_owned(),
            });
        };
        let mut state = origin.state.lock().await;
        let is_plain_refresh = values.is_empty();
        // The numbers of both are bounded before each key is compared with all others.
        let mut set = if values.len() <= MAX_SET {
            replaced(state.set.clone(), values)
        } else {
            values
        };
        if set.len() > MAX_SET {
            return Err(SettingsError::Invalid {
                path: "values set while running".to_owned(),
                reason: format!("at most {MAX_SET} keys are expected"),
            });
        }
        let mut read = read(&origin.sources, When::Running(&set, &state.remote, instance)).await;
        if let Err(SettingsError::Invalid { path, reason }) = &read
            && is_plain_refresh
            && !set.is_empty()
        {
            let discarded = std::mem::take(&mut set);
            tracing::warn!(
                service = origin.sources.service,
                path,
                reason,
                keys = ?shown(discarded.keys()),
                "settings set while running discarded: invalid with the present configuration"
            );
            read = self::read(&origin.sources, When::Running(&set, &state.remote, instance)).await;
        }
        let read = read?;
        let refreshed = Refreshed {
            changed: differing(&state.values, &read.typed.values),
            needs_restart: differing(&origin.started, &read.typed.values)
                .into_iter()
                .filter(|key| !read.layers.is_live(key))
                .collect(),
            version: read.remote.version.clone(),
        };
        if !refreshed.changed.is_empty() {
            self.replace(read.typed.settings);
        }
        warn_of_unknown_keys(origin.sources.service, &read.typed.ignored, &state.ignored);
        warn_of_old_keys(origin.sources.service, &read.typed.old_keys, &state.old_keys);
        origin.flags.replace(read.typed.flags);
        *state = State {
            values: read.typed.values,
            set,
            remote: read.remote,
            ignored: read.typed.ignored,
            old_keys: read.typed.old_keys,
        };
        Ok(refreshed)
    }

    /// Returns the present log directives.
    async fn log_level(&self) -> Option<String> {
        let state = self.inner.origin.as_ref()?.state.lock().await;
        let level = state.values.get("log.level");
        level.and_then(Value::as_str).map(str::to_owned)
    }
}

/// Adds new keys to those set while running. The last value of a key, of a section around it, or of keys inside it counts. Null removes a
/// key, and so does an empty text, because Spring's message has no null.
fn replaced(mut set: Map<String, Value>, values: Map<String, Value>) -> Map<String, Value> {
    let is_within = |key: &str, section: &str| {
        key.strip_prefix(section)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    for (key, value) in values {
        set.retain(|other, _| !is_within(other, &key) && !is_within(&key, other));
        if !value.is_null() && value.as_str() != Some("") {
            set.insert(key, value);
        }
    }
    set
}

/// Returns the keys whose values differ.
fn differing(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<String> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = keys.into_iter().filter(|&key| before.get(key) != after.get(key));
    differing.cloned().collect()
}

pub(super) async fn load<S: DeserializeOwned>(sources: &Sources) -> Result<Live<S>, SettingsError> {
    let read = read::<S>(sources, When::Starting).await?;
    warn_of_unknown_keys(sources.service, &read.typed.ignored, &[]);
    warn_of_old_keys(sources.service, &read.typed.old_keys, &[]);
    let flags = Flags::default();
    flags.replace(read.typed.flags);
    let origin = Origin {
        flags,
        sources: sources.clone(),
        started: read.typed.values.clone(),
        state: Mutex::new(State {
            values: read.typed.values,
            set: Map::new(),
            remote: read.remote,
            ignored: read.typed.ignored,
            old_keys: read.typed.old_keys,
        }),
        shared: read.layers.shared()?,
    };
    Ok(Live::with(read.typed.settings, Some(origin)))
}

/// When layers are read: a start may wait for the config service, and use the saved copy of its answer.
enum When<'a> {
    Starting,
    /// With these keys above all layers, the former answer of the config service, and the bus id of this instance.
    Running(&'a Map<String, Value>, &'a Remote, Option<&'a str>),
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
        When::Running(_, before, instance) => {
            remote::fetch(
                sources.service,
                &shared.config,
                &shared.credentials,
                REFRESH_WAIT,
                before,
                instance,
            )
            .await?
        }
    };
    layers.insert_remote(remote.layers.clone(), sources.environment);
    let mut left_out = remote.left_out.clone();
    if let When::Running(set, ..) = when {
        left_out.extend(layers.set(set));
    }
    let mut typed = layers.typed()?;
    typed.ignored.extend(left_out);
    if let (Some(answer), Some(copy)) = (&remote.answer, &shared.config.copy) {
        // Only valid settings are saved for a later start. Failing to save them does not fail the refresh.
        if let Err(error) = remote::keep(copy, answer) {
            tracing::error!(%error, "saving settings copy failed");
        }
    }
    Ok(Read { layers, typed, remote })
}

/// Logs unknown keys, again only when they change: Spring services may keep theirs in the same files.
fn warn_of_unknown_keys(service: &str, ignored: &[String], known: &[String]) {
    if !ignored.is_empty() && ignored != known {
        let keys = shown(ignored);
        tracing::warn!(service, count = ignored.len(), ?keys, "unknown settings ignored");
    }
}

/// Returns the first of many keys, for one log line.
fn shown<'a>(keys: impl IntoIterator<Item = &'a String>) -> Vec<&'a String> {
    keys.into_iter().take(LOGGED_KEYS).collect()
}

/// Logs each old key that is still used, once until it is removed.
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

/// Re-reads the settings of a service for the actuator and for bus refreshes. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Refresher {
    target: Arc<OnceLock<Box<dyn Target>>>,
    /// The instance whose bus id is sent to the config service.
    instance: Option<Arc<str>>,
    on_log_level: Arc<OnceLock<fn(&str)>>,
}

#[async_trait]
trait Target: fmt::Debug + Send + Sync {
    async fn set(&self, instance: Option<&str>, values: Map<String, Value>) -> Result<Refreshed, SettingsError>;
    async fn log_level(&self) -> Option<String>;
    async fn version(&self) -> Option<String>;
    fn flags(&self) -> Flags;
}

#[async_trait]
impl<S: DeserializeOwned + fmt::Debug + Send + Sync> Target for Live<S> {
    async fn set(&self, instance: Option<&str>, values: Map<String, Value>) -> Result<Refreshed, SettingsError> {
        self.set_as(instance, values).await
    }

    async fn log_level(&self) -> Option<String> {
        Live::log_level(self).await
    }

    async fn version(&self) -> Option<String> {
        self.inner.origin.as_ref()?.state.lock().await.remote.version.clone()
    }

    fn flags(&self) -> Flags {
        let origin = self.inner.origin.as_ref();
        origin.map_or_else(Flags::default, |origin| origin.flags.clone())
    }
}

impl Refresher {
    /// Creates the refresher of this instance.
    pub(crate) fn of(instance: Arc<str>) -> Self {
        Self {
            instance: Some(instance),
            ..Self::default()
        }
    }

    /// Attaches the settings to refresh. Later calls are ignored.
    pub fn attach<S>(&self, settings: &Live<S>)
    where
        S: DeserializeOwned + fmt::Debug + Send + Sync + 'static,
    {
        self.target.get_or_init(|| Box::new(settings.clone()));
    }

    /// Attaches the function that applies a changed `log.level`. Later calls are ignored.
    pub(crate) fn on_log_level(&self, apply: fn(&str)) {
        self.on_log_level.get_or_init(|| apply);
    }

    /// Re-reads the settings; `None` before settings are attached.
    pub async fn refresh(&self) -> Option<Result<Refreshed, SettingsError>> {
        self.set(Map::new()).await
    }

    /// Re-reads the settings with these keys above all layers, see [`Live::set`]; `None` before settings are attached.
    pub async fn set(&self, values: Map<String, Value>) -> Option<Result<Refreshed, SettingsError>> {
        let target = self.target.get()?;
        let refreshed = target.set(self.instance.as_deref(), values).await;
        match &refreshed {
            Ok(Refreshed { changed, .. }) if changed.is_empty() => {}
            Ok(Refreshed {
                changed, needs_restart, ..
            }) => {
                if changed.iter().any(|key| key == "log.level")
                    && let (Some(apply), Some(level)) = (self.on_log_level.get(), target.log_level().await)
                {
                    apply(&level);
                }
                tracing::info!(?changed, ?needs_restart, "settings refreshed");
            }
            Err(error) => tracing::error!(%error, "settings refresh failed; previous settings stay in effect"),
        }
        Some(refreshed)
    }

    /// Returns the flags under `flags.*`, which follow every refresh; all are off before settings are attached.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.target.get().map_or_else(Flags::default, |target| target.flags())
    }

    /// Returns the version of the config service's answer in the present settings.
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
