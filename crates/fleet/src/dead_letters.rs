//! `fleet dead-letters`: lists the records that could not be applied, publishes them again, or marks them as discarded.
//!
//! A dead-letter topic is append-only. What became of a letter is therefore a record of its own on that topic, the resolution: its
//! header `dlt-resolved` names the letter as `PARTITION/OFFSET`, `dlt-resolution` says `replayed` or `discarded`. Letter and resolution
//! leave with the topic's retention.

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

/// How often a reader that waits is asked whether it has caught up.
const ASK: Duration = Duration::from_millis(5);

/// Where a dead letter lies: `resign/0/17`.
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
        id().ok_or_else(|| format!("`{text}` is no dead letter: TOPIC/PARTITION/OFFSET, as `list` prints it"))
    }
}

/// Returns the topic of that default name.
pub fn topic(name: &str) -> Result<Topic, String> {
    let found = Topic::ALL.into_iter().find(|topic| topic.default_name() == name);
    found.ok_or_else(|| format!("`{name}` is no topic of the fleet"))
}

/// Which dead letters are meant; all that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Any of these; every letter when empty.
    pub ids: Vec<LetterId>,
    /// On any of these topics; on every topic when empty.
    pub topics: Vec<Topic>,
    /// A part of the reason.
    pub reason: Option<String>,
    /// The consumer group that rejected it, or the service whose relay did, or a part of its name.
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
    /// Returns the record as it was published first, or why it cannot be published again.
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
            .map(|(name, value)| Ok((name.clone(), text(value, "a header")?)))
            .collect::<anyhow::Result<_>>()?;
        Ok(Outgoing {
            topic: self.id.topic.default_name().to_owned(),
            key,
            value: self.record.value.as_ref().map(|value| value.to_vec()),
            headers,
        })
    }
}

/// One line, without key and value: they may be personal data.
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

/// What becomes of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Published to its topic again. Consumers know the event by its id, so those that had applied it change nothing.
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
    let (mut letters, mut resolved) = (Vec::new(), BTreeSet::new());
    while !reader.caught_up() {
        let record = tokio::select! {
            record = reader.next() => record?,
            () = tokio::time::sleep(ASK) => continue,
        };
        let id = |partition, offset| LetterId {
            topic: record.topic,
            partition,
            offset,
        };
        match record
            .header(Header::DLT_RESOLVED)
            .and_then(|place| place.split_once('/'))
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

/// Resolves these letters one by one and reports each before the next is begun.
///
/// A crash between publishing and the resolution leaves the letter listed; replaying it once more is harmless, see [`Resolution::Replayed`].
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

/// What the command line asks for.
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

/// Runs one command and prints what it did.
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
                bail!("{id} is not there, or has been resolved");
            };
            print!("{}", shown(letter));
        }
        Command::Resolve {
            filter,
            resolution,
            dry_run,
        } => {
            let letters = find(&bus, &filter).await?;
            let missing = filter
                .ids
                .iter()
                .find(|id| letters.iter().all(|letter| letter.id != **id));
            if let Some(id) = missing {
                bail!("{id} is not there, has been resolved, or does not match");
            }
            if resolution == Resolution::Replayed {
                // Nothing is published when one of them cannot be.
                letters.iter().try_for_each(|letter| letter.original().map(drop))?;
            }
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
