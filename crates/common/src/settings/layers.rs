//! The layers as trees of values, one over the other, and the typed settings they come to.

use config::{Config, FileFormat};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::renamed::{self, Renamed};
use super::{SettingsError, Shared, Sources};
use crate::lenient::{self, Empty, Kind};

const SHARED: &str = include_str!("shared.toml");
/// The highest index a list may be given by, `words[1000]`: the list is made as long as its highest index says.
const MOST_ITEMS: usize = 1000;
/// The key of a defaults file that lists what takes effect while running.
const LIVE: &str = "live";

/// One source of settings.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// For error messages: a file, `the environment`, a source of the config service.
    name: String,
    tree: Value,
    /// Whether others keep their keys there too, so that unknown ones are no mistake.
    foreign: bool,
    /// Old keys that were given, and are read as the new ones.
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

/// What the layers come to.
#[derive(Debug)]
pub(super) struct Typed<S> {
    pub settings: S,
    pub merged: Value,
    /// Unknown keys of the config service, with the source that has them.
    pub ignored: Vec<String>,
    pub old_keys: Vec<OldKey>,
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
        let unreadable = |error| unreadable(name, &error);
        let source = config::File::from_str(text, FileFormat::Toml);
        let config = Config::builder().add_source(source).build().map_err(unreadable)?;
        Ok(Self::new(name, to_tree(config, name)?, false))
    }

    /// Keys as paths, `server.port` or `config.profiles[0]`.
    pub(super) fn flat<V: Into<config::Value>>(
        name: &str,
        entries: impl IntoIterator<Item = (String, V)>,
    ) -> Result<Self, SettingsError> {
        let mut builder = Config::builder();
        for (key, value) in entries {
            if !is_bounded(&key) {
                return Err(SettingsError::Invalid {
                    path: key,
                    reason: format!("an index is 0 to {MOST_ITEMS} (in {name})"),
                });
            }
            builder = builder
                .set_override(&key, value)
                .map_err(|error| SettingsError::Invalid {
                    path: key,
                    reason: format!("not a key (in {name}): {error}"),
                })?;
        }
        let config = builder.build().map_err(|error| unreadable(name, &error))?;
        Ok(Self::new(name, to_tree(config, name)?, false))
    }

    /// A source of the config service. Keys that are no paths of ours are left out and answered.
    pub(super) fn foreign(name: &str, entries: Map<String, Value>) -> (Self, Vec<String>) {
        let mut builder = Config::builder();
        let mut left_out = Vec::new();
        for (key, value) in entries {
            match builder.clone().set_override(&key, to_config(value)) {
                Ok(more) if is_bounded(&key) => builder = more,
                Ok(_) | Err(_) => left_out.push(key),
            }
        }
        let tree = builder.build().ok().and_then(|config| to_tree(config, name).ok());
        let tree = tree.unwrap_or_else(|| Value::Object(Map::new()));
        (Self::new(name, tree, true), left_out)
    }

    /// `SOSOHAPPY_<SERVICE>__SECTION__KEY`, and the two credentials every process of a fleet shares.
    fn environment(service: &str, variables: Option<&config::Map<String, String>>) -> Result<Self, SettingsError> {
        use config::Source as _;

        let name = "the environment";
        let collect = |prefix: &str, prefix_separator: &str, separator: &str| {
            let source = config::Environment::with_prefix(prefix)
                .prefix_separator(prefix_separator)
                .separator(separator)
                .source(variables.cloned());
            source.collect().map_err(|error| unreadable(name, &error))
        };
        let shared = collect("SOSOHAPPY", "_", "__")?;
        let mut entries: Vec<(String, config::Value)> = Vec::new();
        for key in ["service_token", "operator_token"] {
            if let Some(value) = shared.get(key) {
                entries.push((format!("credentials.{}", key.replace('_', "-")), value.clone()));
            }
        }
        let own = collect(&format!("SOSOHAPPY_{service}"), "__", "__")?;
        entries.extend(own.into_iter().map(|(key, value)| (key.replace('_', "-"), value)));
        Self::flat(name, entries)
    }
}

impl Layers {
    /// Everything but the config service.
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
        layers
            .stack
            .push(Layer::flat("the launcher", sources.overrides.iter().cloned())?);
        if sources.environment {
            layers.stack.push(Layer::environment(sources.service, None)?);
        }
        Ok(layers)
    }

    /// Puts the sources of the config service (lowest first) under the environment.
    pub(super) fn insert_remote(&mut self, remote: Vec<Layer>, environment: bool) {
        let at = self.stack.len() - usize::from(environment);
        self.stack.splice(at..at, remote);
    }

    /// Puts keys over all layers; those that are no paths of ours are answered.
    pub(super) fn set(&mut self, entries: Map<String, Value>) -> Vec<String> {
        let (layer, left_out) = Layer::foreign("set while running", entries);
        self.stack.push(layer);
        left_out
    }

    pub(super) fn shared(&self) -> Result<Shared, SettingsError> {
        self.sections()
    }

    pub(super) fn sections<S: DeserializeOwned>(&self) -> Result<S, SettingsError> {
        let merged = self.merged();
        lenient::from_tree(&merged, Empty::Nothing).map_err(|error| self.invalid(error))
    }

    /// Whether a change of this key takes effect without a restart.
    pub(super) fn is_live(&self, key: &str) -> bool {
        self.live.iter().any(|live| {
            key.strip_prefix(live.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    pub(super) fn typed<S: DeserializeOwned>(&mut self) -> Result<Typed<S>, SettingsError> {
        let mut ignored = Vec::new();
        loop {
            let merged = self.merged();
            let error = match lenient::from_tree(&merged, Empty::Nothing) {
                Ok(settings) => {
                    return Ok(Typed {
                        settings,
                        merged,
                        ignored,
                        old_keys: self.old_keys(),
                    });
                }
                Err(error) => error,
            };
            let owner = self
                .stack
                .iter_mut()
                .rev()
                .find(|layer| lookup(&layer.tree, &error.path).is_some());
            match owner {
                Some(layer) if layer.foreign && error.kind == Kind::Unknown => {
                    if !remove(&mut layer.tree, &error.path) {
                        return Err(self.invalid(error));
                    }
                    ignored.push(format!("{} (in {})", error.path, layer.name));
                }
                _ => return Err(self.invalid(error)),
            }
        }
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
            merge(&mut merged, &layer.tree);
        }
        merged
    }

    fn invalid(&self, error: lenient::Error) -> SettingsError {
        let owner = self
            .stack
            .iter()
            .rev()
            .find(|layer| lookup(&layer.tree, &error.path).is_some());
        let reason = match (&error.kind, owner) {
            (Kind::Missing, _) => format!("missing; set it in a file or as {}", self.variable(&error.path)),
            (kind, Some(layer)) => {
                let renamed = layer.renamed.iter().find(|renamed| renamed.new == error.path);
                let given_as = renamed.map_or_else(String::new, |renamed| format!(", as {}", renamed.old));
                format!("{kind} (in {}{given_as})", layer.name)
            }
            (kind, None) => kind.to_string(),
        };
        SettingsError::Invalid {
            path: error.path,
            reason,
        }
    }

    /// The environment variable of a key.
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

/// Groups are merged key by key; anything else, lists included, is replaced as a whole.
pub(super) fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over.clone(),
    }
}

fn lookup<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    // An item of a list belongs to whoever set the list.
    let keys = path.split('[').next().unwrap_or_default();
    keys.split('.').try_fold(tree, |node, key| node.as_object()?.get(key))
}

/// False when there is nothing at this path. A key of an item of a list is one: `keys[0].id`.
fn remove(tree: &mut Value, path: &str) -> bool {
    let Some((parent, last)) = path.rsplit_once('.') else {
        return tree.as_object_mut().is_some_and(|map| map.remove(path).is_some());
    };
    let parent = parent.split('.').try_fold(tree, |node, part| {
        let mut steps = part.split('[');
        let node = node.as_object_mut()?.get_mut(steps.next()?)?;
        steps.try_fold(node, |node, index| {
            // What could be a list was given as its only item.
            let Value::Array(items) = node else { return Some(node) };
            items.get_mut(index.trim_end_matches(']').parse::<usize>().ok()?)
        })
    });
    parent
        .and_then(Value::as_object_mut)
        .is_some_and(|map| map.remove(last).is_some())
}

/// Whether every index of a path is one that a list may have.
fn is_bounded(path: &str) -> bool {
    path.split('[').skip(1).all(|rest| {
        let index = rest.split(']').next().unwrap_or_default().trim();
        index.parse::<usize>().is_ok_and(|index| index <= MOST_ITEMS)
    })
}

/// Leaves by path, for comparing.
pub(super) fn flatten(tree: &Value) -> std::collections::BTreeMap<String, Value> {
    fn walk(prefix: &str, node: &Value, leaves: &mut std::collections::BTreeMap<String, Value>) {
        match node {
            Value::Object(map) => {
                for (key, value) in map {
                    let path = if prefix.is_empty() {
                        key.clone()
                    } else {
                        format!("{prefix}.{key}")
                    };
                    walk(&path, value, leaves);
                }
            }
            leaf => {
                leaves.insert(prefix.to_owned(), leaf.clone());
            }
        }
    }
    let mut leaves = std::collections::BTreeMap::new();
    walk("", tree, &mut leaves);
    leaves
}

fn to_tree(config: Config, name: &str) -> Result<Value, SettingsError> {
    config.try_deserialize().map_err(|error| unreadable(name, &error))
}

fn to_config(value: Value) -> config::Value {
    let kind = match value {
        Value::Null => config::ValueKind::Nil,
        Value::Bool(yes) => yes.into(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => whole.into(),
            (None, Some(float)) => float.into(),
            (None, None) => number.to_string().into(),
        },
        Value::String(text) => text.into(),
        Value::Array(items) => config::ValueKind::Array(items.into_iter().map(to_config).collect()),
        Value::Object(map) => {
            config::ValueKind::Table(map.into_iter().map(|(key, value)| (key, to_config(value))).collect())
        }
    };
    config::Value::new(None, kind)
}

fn unreadable(origin: &str, error: &config::ConfigError) -> SettingsError {
    SettingsError::Unreadable {
        origin: origin.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
