//! The layers of settings as trees of values, and the typed settings that they result in.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::flags::{self, Switch};
use super::keys;
use super::renamed::{self, Renamed};
use super::sections::Shared;
use super::sources::{SettingsError, Sources};
use crate::lenient::{self, Kind};

const SHARED: &str = include_str!("shared.toml");
/// The key of a defaults file that lists the keys whose changes take effect without a restart.
const LIVE: &str = "live";

/// One source of settings. Later layers override earlier ones key by key.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// The name in error messages: a file, `the environment`, a source of the config service.
    name: String,
    tree: Value,
    /// Whether other programs keep keys there too, so that unknown keys are allowed.
    foreign: bool,
    /// Old keys that this layer uses, and that are read as the new ones.
    renamed: Vec<Renamed>,
}

/// An old key that a layer still uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OldKey {
    pub renamed: Renamed,
    /// The name of the layer.
    pub source: String,
}

/// All layers of a service, lowest first.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    service: &'static str,
    stack: Vec<Layer>,
    live: Vec<String>,
}

/// The result of all layers.
#[derive(Debug)]
pub(super) struct Typed<S> {
    pub settings: S,
    /// The values by path, for comparisons.
    pub values: BTreeMap<String, Value>,
    /// Unknown keys of the config service, with their source.
    pub ignored: Vec<String>,
    pub old_keys: Vec<OldKey>,
    /// The flags, a section without a type of its own.
    pub flags: BTreeMap<String, Switch>,
}

impl Layer {
    fn new(name: &str, mut tree: Value, foreign: bool) -> Self {
        Self {
            name: name.to_owned(),
            renamed: renamed::apply(&mut tree),
            tree,
            foreign,
        }
    }

    fn toml(name: &str, text: &str) -> Result<Self, SettingsError> {
        let unreadable = |reason| SettingsError::Unreadable {
            origin: name.to_owned(),
            reason,
        };
        // Without the error's own text, which quotes the line: it may hold a secret.
        let tree = toml::from_str(text).map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| 1 + before.matches('\n').count());
            unreadable(format!("line {line}: {}", error.message()))
        })?;
        Ok(Self::new(name, tree, false))
    }

    /// Creates a layer from keys as paths, `server.port` or `config.profiles[0]`.
    fn flat(name: &str, entries: &BTreeMap<String, Value>) -> Result<Self, SettingsError> {
        for key in entries.keys() {
            keys::check(key).map_err(|error| SettingsError::Invalid {
                path: keys::shown(key).into_owned(),
                reason: format!("{error} (in {name})"),
            })?;
        }
        let tree = keys::nest(entries.iter().map(|(key, value)| (key.as_str(), value)));
        Ok(Self::new(name, tree, false))
    }

    /// Creates a layer from a source of the config service. Leaves out unknown keys, and returns them.
    pub(super) fn foreign(name: &str, entries: &Map<String, Value>) -> (Self, Vec<String>) {
        let (ours, others): (Vec<_>, Vec<_>) = entries.iter().partition(|(key, _)| keys::check(key).is_ok());
        let tree = keys::nest(ours.into_iter().map(|(key, value)| (key.as_str(), value)));
        let left_out = others.into_iter().map(|(key, _)| keys::shown(key).into_owned());
        (Self::new(name, tree, true), left_out.collect())
    }

    /// Creates the layer of the environment: `SOSOHAPPY_<SERVICE>__SECTION__KEY`, and the two credentials that all processes of a fleet
    /// share.
    fn environment(
        service: &str,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let name = "the environment";
        let own = format!("sosohappy_{service}__");
        let mut entries = BTreeMap::new();
        let mut shared = BTreeMap::new();
        for (variable, value) in variables {
            let Some(variable) = variable.to_str().map(str::to_lowercase) else {
                continue;
            };
            let (entries, key) = match variable.as_str() {
                "sosohappy_service_token" => (&mut shared, "credentials.service-token".to_owned()),
                "sosohappy_operator_token" => (&mut shared, "credentials.operator-token".to_owned()),
                variable => match variable.strip_prefix(&own) {
                    Some(path) => (&mut entries, path.replace("__", ".").replace('_', "-")),
                    None => continue,
                },
            };
            let value = value.into_string().map_err(|_| SettingsError::Invalid {
                path: keys::shown(&key).into_owned(),
                reason: format!("not UTF-8 (in {name})"),
            })?;
            entries.insert(key, Value::String(value));
        }
        // The service's own credential overrides the shared one.
        shared.append(&mut entries);
        Self::flat(name, &shared)
    }
}

impl Layers {
    /// Reads all layers but the config service.
    pub(super) fn at_hand(sources: &Sources) -> Result<Self, SettingsError> {
        let mut live = Vec::new();
        let mut defaults = Vec::new();
        for (name, text) in [("shared.toml", SHARED), ("settings.toml", sources.defaults)] {
            let mut layer = Layer::toml(name, text)?;
            if let Some(Value::Array(keys)) = layer.tree.as_object_mut().and_then(|tree| tree.remove(LIVE)) {
                live.extend(keys.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            defaults.push(layer);
        }
        let mut layers = Self {
            service: sources.service,
            stack: defaults,
            live,
        };
        if let Some(path) = &sources.file {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|error| SettingsError::Unreadable {
                origin: name.clone(),
                reason: error.to_string(),
            })?;
            layers.stack.push(Layer::toml(&name, &text)?);
        }
        let overrides = sources.overrides.iter().cloned();
        let overrides = overrides.map(|(key, value)| (key, Value::String(value))).collect();
        layers.stack.push(Layer::flat("the launcher", &overrides)?);
        if sources.environment {
            layers
                .stack
                .push(Layer::environment(sources.service, std::env::vars_os())?);
        }
        Ok(layers)
    }

    /// Inserts the sources of the config service (lowest first) below the environment.
    pub(super) fn insert_remote(&mut self, remote: Vec<Layer>, environment: bool) {
        let at = self.stack.len() - usize::from(environment);
        self.stack.splice(at..at, remote);
    }

    /// Adds keys above all layers; returns the unknown ones.
    pub(super) fn set(&mut self, entries: &Map<String, Value>) -> Vec<String> {
        let (layer, left_out) = Layer::foreign("values set while running", entries);
        self.stack.push(layer);
        left_out
    }

    /// Reads some sections. Ignores unknown keys: only the settings of a service define all keys.
    pub(super) fn shared(&self) -> Result<Shared, SettingsError> {
        self.sections()
    }

    pub(super) fn sections<S: DeserializeOwned>(&self) -> Result<S, SettingsError> {
        let (sections, _unknown) = lenient::from_settings(&self.merged());
        sections.map_err(|error| self.invalid_somewhere(&error))
    }

    /// Returns whether a change of this key takes effect without a restart.
    pub(super) fn is_live(&self, key: &str) -> bool {
        self.live.iter().any(|live| {
            key.strip_prefix(live.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Deserializes the merged layers, and finds unknown keys. One pass over all keys: other programs may keep thousands of them in the config
    /// service.
    pub(super) fn typed<S: DeserializeOwned>(&self) -> Result<Typed<S>, SettingsError> {
        let mut merged = self.merged();
        let section = merged.as_object_mut().and_then(|merged| merged.remove(flags::SECTION));
        let section = section.unwrap_or_else(|| Value::Object(Map::new()));
        let switches = flags::read_section(&section).map_err(|name| {
            let path = format!("{}.{name}", flags::SECTION);
            let owner = self.owners(&path).next();
            self.invalid(&path, &Kind::Wrong(flags::NotASwitch.to_string()), owner)
        })?;
        let (settings, unknown) = lenient::from_settings(&merged);
        let mut ignored = Vec::new();
        for path in &unknown {
            let owners: Vec<_> = self.owners(path).collect();
            // A key that no path reaches, such as `"a.b"` in a file, is an own key as well.
            let ours = owners.iter().copied().find(|owner| !owner.foreign);
            if ours.is_some() || owners.is_empty() {
                return Err(self.invalid(path, &Kind::Unknown, ours));
            }
            ignored.extend(
                owners
                    .iter()
                    .map(|owner| format!("{} (in {})", keys::shown(path), owner.name)),
            );
        }
        let settings = settings.map_err(|error| self.invalid_somewhere(&error))?;
        let mut values = flatten(&merged, &unknown.into_iter().collect());
        let section = Value::Object(Map::from_iter([(flags::SECTION.to_owned(), section)]));
        values.extend(flatten(&section, &HashSet::new()));
        Ok(Typed {
            settings,
            values,
            flags: switches,
            ignored,
            old_keys: self.old_keys(),
        })
    }

    fn old_keys(&self) -> Vec<OldKey> {
        let of_layer = |layer: &Layer| {
            let source = layer.name.clone();
            let renamed = layer.renamed.clone().into_iter();
            renamed.map(move |renamed| OldKey {
                renamed,
                source: source.clone(),
            })
        };
        self.stack.iter().flat_map(of_layer).collect()
    }

    fn merged(&self) -> Value {
        let mut merged = Value::Object(Map::new());
        for layer in &self.stack {
            keys::merge(&mut merged, &layer.tree);
        }
        merged
    }

    /// Returns the layers that have a value at this path, highest first. Items of a list belong to the layer that sets the list.
    fn owners<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Layer> {
        let owners = self.stack.iter().rev();
        let owners = owners.filter(|layer| lookup(&layer.tree, path).is_some());
        owners.take(if path.contains('[') { 1 } else { usize::MAX })
    }

    fn invalid_somewhere(&self, error: &lenient::Error) -> SettingsError {
        self.invalid(&error.path, &error.kind, self.owners(&error.path).next())
    }

    fn invalid(&self, path: &str, kind: &Kind, owner: Option<&Layer>) -> SettingsError {
        let reason = match (kind, owner) {
            (Kind::Missing, _) => format!("missing; set it in a file or as {}", self.variable(path)),
            (kind, Some(layer)) => {
                let renamed = layer.renamed.iter().find(|renamed| renamed.new == path);
                let given_as = renamed.map_or_else(String::new, |renamed| format!(", as {}", renamed.old));
                format!("{kind} (in {}{given_as})", layer.name)
            }
            (kind, None) => kind.to_string(),
        };
        SettingsError::Invalid {
            path: keys::shown(path).into_owned(),
            reason,
        }
    }

    /// Returns the environment variable of a key.
    fn variable(&self, path: &str) -> String {
        let screaming = |text: &str| text.to_uppercase().replace('-', "_");
        match path {
            "credentials.service-token" | "credentials.operator-token" => {
                format!("SOSOHAPPY_{}", screaming(path.trim_start_matches("credentials.")))
            }
            _ => format!(
                "SOSOHAPPY_{}__{}",
                screaming(self.service),
                screaming(path).replace('.', "__")
            ),
        }
    }
}

fn lookup<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    let list = path.split('[').next().unwrap_or_default();
    list.split('.').try_fold(tree, |node, key| node.as_object()?.get(key))
}

/// Collects the leaves by path, except those below the paths in `left_out`.
fn flatten(tree: &Value, left_out: &HashSet<String>) -> BTreeMap<String, Value> {
    fn walk(path: String, node: &Value, left_out: &HashSet<String>, leaves: &mut BTreeMap<String, Value>) {
        match node {
            _ if left_out.contains(&path) => {}
            Value::Object(fields) => {
                for (key, value) in fields {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    walk(path, value, left_out, leaves);
                }
            }
            leaf => drop(leaves.insert(path, leaf.clone())),
        }
    }
    let mut leaves = BTreeMap::new();
    walk(String::new(), tree, left_out, &mut leaves);
    leaves
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
