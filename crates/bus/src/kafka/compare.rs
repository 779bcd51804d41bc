//! Comparison of the declared topics with those of a broker: existing, different, and created topics.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::admin::{AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::producer::Producer as _;
use sosohappy_common::Context;
use sosohappy_common::settings::Events;

use super::{ASK, Inner, Kafka, blocking, unavailable};
use crate::BusError;
use crate::declared::{Declared, declared};
use crate::names::Names;

/// A declared topic and its state on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    pub topic: Declared,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It was not there, and is now.
    Made,
    /// It is not there, and nothing was to be made.
    Missing,
    /// As declared.
    Same,
    /// Differs from the declaration; left unchanged, since it may be intended.
    Differs(Vec<Difference>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `partitions`, or a setting of the topic.
    pub what: String,
    pub declared: String,
    pub found: String,
}

/// `retention.ms is 1, declared is 2`
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, declared is {}", self.what, self.found, self.declared)
    }
}

/// Compares every topic of the fleet with those of the broker of `events.url` and, unless `dry_run`, makes those that are
/// missing. Idempotent, and safe beside services that make the same topics.
pub async fn compare(settings: &Events, context: &Context, dry_run: bool) -> Result<Vec<Comparison>, BusError> {
    if settings.url.scheme() != "kafka" {
        return Err(BusError::Settings(
            "topics are kept by Kafka alone: kafka:<host:port>[,…]".to_owned(),
        ));
    }
    let kafka = Kafka::open(settings, Names::new(settings)?, context).await?;
    let partitions = kafka.inner.partitions().await?;
    let (there, missing): (Vec<_>, Vec<_>) = declared(settings)?
        .into_iter()
        .partition(|topic| partitions.contains_key(&topic.name));
    let mut found = kafka.inner.settings_of(&there).await?;
    let mut compared: Vec<_> = there
        .into_iter()
        .map(|topic| {
            let settings = found.remove(&topic.name).unwrap_or_default();
            let state = state(&topic, partitions[&topic.name], &settings);
            Comparison { topic, state }
        })
        .collect();
    if !dry_run && !missing.is_empty() {
        kafka.inner.create(&missing).await?;
    }
    let state = if dry_run { State::Missing } else { State::Made };
    compared.extend(missing.into_iter().map(|topic| Comparison {
        topic,
        state: state.clone(),
    }));
    compared.sort_by(|one, other| one.topic.name.cmp(&other.topic.name));
    Ok(compared)
}

fn state(topic: &Declared, partitions: i32, found: &BTreeMap<String, String>) -> State {
    let settings = topic
        .settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone(), found.get(*key).cloned()));
    let differences: Vec<_> = std::iter::once((
        "partitions".to_owned(),
        topic.partitions.to_string(),
        Some(partitions.to_string()),
    ))
    .chain(settings)
    .filter(|(_, declared, found)| found.as_ref() != Some(declared))
    .map(|(what, declared, found)| Difference {
        what,
        declared,
        found: found.unwrap_or_else(|| "unknown".to_owned()),
    })
    .collect();
    if differences.is_empty() {
        State::Same
    } else {
        State::Differs(differences)
    }
}

impl Inner {
    /// The number of partitions of every topic there is.
    async fn partitions(&self) -> Result<BTreeMap<String, i32>, BusError> {
        let producer = self.producer.current();
        blocking(move || {
            let metadata = producer.client().fetch_metadata(None, ASK).map_err(unavailable)?;
            metadata
                .topics()
                .iter()
                .filter(|topic| topic.error().is_none())
                .map(|topic| {
                    let partitions = i32::try_from(topic.partitions().len()).map_err(unavailable)?;
                    Ok((topic.name().to_owned(), partitions))
                })
                .collect()
        })
        .await
    }

    /// The settings of each of these topics.
    async fn settings_of(&self, topics: &[Declared]) -> Result<BTreeMap<String, BTreeMap<String, String>>, BusError> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let admin = self.settings.admin()?;
        let asked: Vec<_> = topics
            .iter()
            .map(|topic| ResourceSpecifier::Topic(&topic.name))
            .collect();
        let options = AdminOptions::new().request_timeout(Some(ASK));
        let answers = admin.describe_configs(&asked, &options).await.map_err(unavailable)?;
        answers
            .into_iter()
            .map(|answer| match answer {
                Ok(ConfigResource {
                    specifier: OwnedResourceSpecifier::Topic(name),
                    entries,
                }) => {
                    let known = entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
                    Ok((name, known.collect()))
                }
                Ok(other) => Err(unavailable(format!(
                    "topics requested, but the broker described {:?}",
                    other.specifier
                ))),
                Err(code) => Err(unavailable(format!("the settings of topics cannot be read: {code}"))),
            })
            .collect()
    }
}
