//! `fleet dead-letters`: lists dead letters (records that could not be applied), publishes them again, or marks them as discarded.
//!
//! A dead-letter topic is append-only. The resolution of a dead letter is therefore another record on that topic: its header
//! `dlt-resolved` has the dead letter as `PARTITION/OFFSET`, `dlt-resolution` is `replayed` or `discarded`. Both records expire with the
//! topic's retention.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use sosohappy_bus::Bus;
use sosohappy_events::topic::DEAD_LETTER_SUFFIX;
use sosohappy_events::{Header, Outgoing, Record, Topic};

/// The interval at which a waiting reader is checked for the end of the topics.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The position of a dead letter: topic, partition and offset, such as `resign/0/17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterId {
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic.default_name(), self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let id = || {
            let mut parts = text.splitn(3, '/');
            Some(Self {
                topic: topic(parts.next()?).ok()?,
                partition: parts.next()?.parse().ok()?,
                offset: parts.next()?.parse().ok()?,
            })
        };
        id().ok_or_else(|| {
            format!("`{text}` is not the id of a dead letter: TOPIC/PARTITION/OFFSET, as `list` prints it")
        })
    }
}

/// Returns the topic with that default name.
pub fn topic(name: &str) -> Result<Topic, String> {
    let found = Topic::ALL.into_iter().find(|topic| topic.default_name() == name);
    found.ok_or_else(|| format!("`{name}` is not a topic of the fleet"))
}

/// Selects dead letters that meet all of these conditions.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// One of these; any dead letter if empty.
    pub ids: Vec<LetterId>,
    /// On one of these topics; on any topic if empty.
    pub topics: Vec<Topic>,
    /// The reason contains this text.
    pub reason: Option<String>,
    /// The consumer group that rejected it, or the service whose relay did, contains this text in its name.
    pub group: Option<String>,
    /// Rejected at or after this time.
    pub since: Option<Timestamp>,
}

impl Filter {
    fn topics(&self) -> Vec<Topic> {
        if self.ids.is_empty() && self.topics.is_empty() {
            return Topic::ALL.to_vec();
        }
        let named = self.ids.iter().map(|id| id.topic).chain(self.topics.iter().copied());
        named.collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn matches(&self, letter: &Letter) -> bool {
        let part_of = |part: &Option<String>, header| {
            part.as_ref()
                .is_none_or(|part| letter.record.header(header).is_some_and(|text| text.contains(part)))
        };
        (self.ids.is_empty() || self.ids.contains(&letter.id))
            && (self.topics.is_empty() || self.topics.contains(&letter.id.topic))
            && part_of(&self.reason, Header::DLT_REASON)
            && part_of(&self.group, Header::DLT_GROUP)
            && self.since.is_none_or(|since| letter.record.timestamp >= since)
    }
}

/// A dead letter without a resolution.
#[derive(Debug)]
pub struct Letter {
    pub id: LetterId,
    pub record: Record,
}

impl Letter {
    /// Returns the record as it was published originally. Fails if it cannot be restored: not UTF-8, or truncated.
    fn original(&self) -> anyhow::Result<Outgoing> {
        let text = |bytes: &[u8], what: &str| {
            let text = std::str::from_utf8(bytes)
                .with_context(|| format!("{} cannot be replayed: {what} is not UTF-8", self.id));
            text.map(str::to_owned)
        };
        ensure!(
            self.record.header(Header::DLT_VALUE_BYTES).is_none(),
            "{} cannot be replayed: its value was truncated to fit the dead-letter topic",
            self.id
        );
        let key = self.record.key.as_deref().map(|key| text(key, "its key")).transpose()?;
        let headers = self
            .record
            .headers
            .iter()
            .filter(|(name, _)| !name.starts_with("dlt-"))
            .map(|(name, value)| Ok((name.to_owned(), text(value, "a header")?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Outgoing {
            topic: self.id.topic.default_name().to_owned(),
            key,
            value: self.record.value.as_ref().map(|value| value.to_vec()),
            headers,
        })
    }
}

/// One line without key and value, which may be personal data.
impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = |name| self.record.header(name).unwrap_or("-");
        write!(
            f,
            "{}  {}  group {}  event {}  {}",
            self.id,
            self.record.timestamp,
            header(Header::DLT_GROUP),
            header(Header::EVENT_ID),
            header(Header::DLT_REASON),
        )
    }
}

/// The resolution of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// Published to its topic again. Consumers deduplicate by the event's id: those that have applied it skip it.
    Replayed,
    Discarded,
}

impl Resolution {
    fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
        }
    }
}

/// Returns the dead letters that match and have no resolution, oldest first within each topic.
pub async fn find(bus: &Arc<dyn Bus>, filter: &Filter) -> anyhow::Result<Vec<Letter>> {
    let mut reader = bus.read_dead_letters(&filter.topics()).await?;
    // A resolution follows its dead letter on the topic: resolved ones are removed after all records are read.
    let (mut letters, mut resolved) = (Vec::new(), BTreeSet::new());
    while !reader.caught_up() {
        let record = tokio::select! {
            record = reader.next() => record?,
            () = tokio::time::sleep(POLL_INTERVAL) => continue,
        };
        let id = |partition, offset| LetterId {
            topic: record.topic,
            partition,
            offset,
        };
        match record
            .header(Header::DLT_RESOLVED)
            .and_then(|position| position.split_once('/'))
        {
            Some((partition, offset)) => {
                if let (Ok(partition), Ok(offset)) = (partition.parse(), offset.parse()) {
                    resolved.insert(id(partition, offset));
                }
            }
            None => letters.push(Letter {
                id: id(record.partition, record.offset),
                record,
            }),
        }
    }
    letters.retain(|letter| !resolved.contains(&letter.id) && filter.matches(letter));
    letters.sort_by_key(|letter| letter.id);
    Ok(letters)
}

/// Checks the dead letters that were found for a resolution, before anything is published. Fails if one of the filter's ids is not among
/// them, or if one is to be replayed and cannot be restored.
pub fn check(letters: &[Letter], filter: &Filter, resolution: Resolution) -> anyhow::Result<()> {
    let missing = filter
        .ids
        .iter()
        .find(|id| letters.iter().all(|letter| letter.id != **id));
    if let Some(id) = missing {
        bail!("{id} does not exist, has been resolved, or does not match");
    }
    match resolution {
        Resolution::Replayed => letters.iter().try_for_each(|letter| letter.original().map(drop)),
        Resolution::Discarded => Ok(()),
    }
}

/// Resolves these dead letters one by one. Reports each before it starts the next.
///
/// After a crash between the publishing and the resolution the dead letter is still listed. Replaying it again is safe, see
/// [`Resolution::Replayed`].
pub async fn resolve(
    bus: &Arc<dyn Bus>,
    letters: &[Letter],
    resolution: Resolution,
    mut report: impl FnMut(&Letter),
) -> anyhow::Result<()> {
    for letter in letters {
        if resolution == Resolution::Replayed {
            bus.publish(&[letter.original()?]).await?;
        }
        let LetterId {
            topic,
            partition,
            offset,
        } = letter.id;
        let resolved = Outgoing {
            topic: format!("{}{DEAD_LETTER_SUFFIX}", topic.default_name()),
            key: Some(letter.id.to_string()),
            value: None,
            headers: vec![
                (Header::DLT_RESOLVED.to_owned(), format!("{partition}/{offset}")),
                (Header::DLT_RESOLUTION.to_owned(), resolution.as_str().to_owned()),
            ],
        };
        bus.publish(&[resolved]).await?;
        report(letter);
    }
    Ok(())
}

/// A command of `fleet dead-letters`.
#[derive(Debug)]
pub enum Command {
    List(Filter),
    /// Prints key, headers and value, which may be personal data.
    Show(LetterId),
    Resolve {
        filter: Filter,
        resolution: Resolution,
        dry_run: bool,
    },
}

/// Runs a command and prints its results.
pub async fn run(bus: Arc<dyn Bus>, command: Command) -> anyhow::Result<()> {
    match command {
        Command::List(filter) => {
            let letters = find(&bus, &filter).await?;
            for letter in &letters {
                println!("{letter}");
            }
            println!("{} dead letters", letters.len());
        }
        Command::Show(id) => {
            let filter = Filter {
                ids: vec![id],
                ..Filter::default()
            };
            let letters = find(&bus, &filter).await?;
            let [letter] = &letters[..] else {
                bail!("{id} does not exist, or has been resolved");
            };
            print!("{}", shown(letter));
        }
        Command::Resolve {
            filter,
            resolution,
            dry_run,
        } => {
            let letters = find(&bus, &filter).await?;
            check(&letters, &filter, resolution)?;
            if dry_run {
                for letter in &letters {
                    println!("would be {}: {letter}", resolution.as_str());
                }
                println!("{} dead letters; nothing was changed", letters.len());
                return Ok(());
            }
            resolve(&bus, &letters, resolution, |letter| {
                println!("{}: {letter}", resolution.as_str());
            })
            .await?;
            println!("{} dead letters {}", letters.len(), resolution.as_str());
        }
    }
    Ok(())
}

/// Returns a dead letter with key, headers and value as text.
fn shown(letter: &Letter) -> String {
    let lossy = |bytes: Option<&[u8]>| {
        bytes.map_or_else(
            || "null".to_owned(),
            |bytes| String::from_utf8_lossy(bytes).into_owned(),
        )
    };
    let mut lines = vec![
        letter.to_string(),
        format!("key: {}", lossy(letter.record.key.as_deref())),
    ];
    let headers = letter.record.headers.iter();
    lines.extend(headers.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))));
    lines.push(format!("\n{}\n", lossy(letter.record.value.as_deref())));
    lines.join("\n")
}
