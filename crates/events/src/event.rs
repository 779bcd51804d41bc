//! The trait of events, and the envelope around each of them.

use std::fmt;

use jiff::Timestamp;
use sha2::Digest as _;
use sosohappy_common::Context;
use sosohappy_common::clock::Clock;
use sosohappy_common::correlation::correlation;
use uuid::Uuid;

use crate::{Header, Malformed, Outgoing, Record, Topic};

/// The unique id of an event, by which consumers deduplicate.
///
/// A record without the header (from a Spring service) gets an id derived from topic, partition, offset and time stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct EventId(pub Uuid);

impl EventId {
    /// Creates an id (UUID version 7): ids sort by the millisecond of their creation.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        let mut random = [0; 10];
        context.entropy.fill(&mut random);
        let millis = u64::try_from(context.clock.now().as_millisecond()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// Returns the id of one of several records that one event is published as: always the same for the same name.
    #[must_use]
    pub fn of_part(self, name: &str) -> Self {
        let digest = sha2::Sha256::new()
            .chain_update(self.0.as_bytes())
            .chain_update(name)
            .finalize();
        Self::of_digest(&digest)
    }

    fn of_digest(digest: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// Derives the id of a record without the header. It includes the time stamp because a topic that was deleted and created again
    /// counts its offsets from zero.
    #[must_use]
    fn of_position(record: &Record) -> Self {
        let digest = sha2::Sha256::new()
            .chain_update(record.topic.default_name())
            .chain_update(record.partition.to_be_bytes())
            .chain_update(record.offset.to_be_bytes())
            .chain_update(record.timestamp.as_millisecond().to_be_bytes())
            .finalize();
        Self::of_digest(&digest)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for EventId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Why a record could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// A newer release wrote the record, with more changes than added fields. A replica of that release can read it.
    #[error("version {version} is newer than {known} and cannot be read: {reason}")]
    NewerVersion {
        version: u16,
        known: u16,
        reason: Malformed,
    },
    /// A newer release wrote the record, with a word that this one does not know: the name of a variant. A replica of that release can read it.
    #[error("written by a newer release and cannot be read: {0}")]
    UnknownWord(Malformed),
}

/// An event owns its topic, name, version, key and encoding.
///
/// A newer version may add fields and headers, which older decoders ignore; any other change holds up the replicas of the release
/// before, see [`Unreadable::NewerVersion`] and [`Unreadable::UnknownWord`].
pub trait Event: Sized + Send + Sync + 'static {
    const TOPIC: Topic;
    /// The `event-type` header, in the past tense.
    const TYPE: &'static str;
    const VERSION: u16 = 1;

    /// Returns the partition key: events of one key stay in order.
    fn key(&self) -> Option<String>;
    fn value(&self) -> Option<Vec<u8>>;
    /// Returns the headers of this type of event, which the legacy Spring services do not have.
    fn headers(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// Returns the `aggregate-id` header: the entity that the event is about.
    fn aggregate(&self) -> String;
    fn decode(record: &Record) -> Result<Self, Malformed>;
}

/// An event and the metadata of its record.
#[derive(Debug, Clone)]
pub struct Envelope<E> {
    pub event: E,
    pub meta: Meta,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    pub id: EventId,
    /// Of millisecond precision, as on the wire.
    pub occurred_at: Timestamp,
    /// When the access token was issued with which a person caused the event: a resignation of the person from then or later erases it, however
    /// long afterwards another service still took the token. `None` of an event that no person caused by a call, of an earlier release, and of a
    /// Spring service.
    pub authorized_at: Option<Timestamp>,
    pub correlation_id: Option<String>,
    pub traceparent: Option<String>,
    /// Whether the record has none of our headers: a legacy Spring service sent it.
    pub foreign: bool,
}

impl Meta {
    fn decode(record: &Record) -> Result<Self, Malformed> {
        let owned = |name| record.header(name).map(str::to_owned);
        let id = record.header(Header::EVENT_ID).and_then(|id| id.parse().ok());
        let occurred_at = match (&id, record.header(Header::OCCURRED_AT)) {
            (Some(_), Some(_)) => record.header_millis(Header::OCCURRED_AT)?.unwrap_or(record.timestamp),
            _ => record.timestamp,
        };
        Ok(Self {
            foreign: id.is_none(),
            id: id.unwrap_or_else(|| EventId::of_position(record)),
            occurred_at,
            authorized_at: record.header_millis(Header::AUTHORIZED_AT)?,
            correlation_id: owned(Header::CORRELATION_ID),
            traceparent: owned(Header::TRACEPARENT),
        })
    }
}

impl<E: Event> Envelope<E> {
    /// Creates the envelope of an event that occurs now, with the trace and correlation id of the current request or consumed event.
    #[must_use]
    pub fn new(event: E, context: &Context) -> Self {
        let correlation = correlation();
        let meta = Meta {
            id: EventId::new(context),
            occurred_at: now_in_millis(&*context.clock),
            authorized_at: None,
            correlation_id: correlation.as_ref().map(|current| current.id.as_ref().to_owned()),
            traceparent: correlation.and_then(|current| Some(current.traceparent?.as_ref().to_owned())),
            foreign: false,
        };
        Self { event, meta }
    }

    /// Notes when the access token was issued with which a person caused the event.
    #[must_use]
    pub fn authorized(mut self, at: Timestamp) -> Self {
        self.meta.authorized_at = Some(in_millis(at));
        self
    }

    #[must_use]
    pub fn to_outgoing(&self) -> Outgoing {
        let mut headers = vec![
            (Header::EVENT_ID.to_owned(), self.meta.id.to_string()),
            (Header::EVENT_TYPE.to_owned(), E::TYPE.to_owned()),
            (Header::EVENT_VERSION.to_owned(), E::VERSION.to_string()),
            (Header::AGGREGATE_ID.to_owned(), self.event.aggregate()),
            (
                Header::OCCURRED_AT.to_owned(),
                self.meta.occurred_at.as_millisecond().to_string(),
            ),
        ];
        let authorized_at = self.meta.authorized_at.map(|at| at.as_millisecond().to_string());
        let optional = [
            (Header::AUTHORIZED_AT, &authorized_at),
            (Header::CORRELATION_ID, &self.meta.correlation_id),
            (Header::TRACEPARENT, &self.meta.traceparent),
        ];
        headers.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))),
        );
        headers.extend(
            self.event
                .headers()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        Outgoing {
            topic: E::TOPIC.default_name().to_owned(),
            key: self.event.key(),
            value: self.event.value(),
            headers,
        }
    }

    /// Decodes a record of this version, of an older one, or of a newer one that only added fields.
    pub fn decode(record: &Record) -> Result<Self, Unreadable> {
        if let Some(kind) = record.header(Header::EVENT_TYPE)
            && kind != E::TYPE
        {
            return Err(Malformed::new(format!("the header `event-type` is not {}", E::TYPE)).into());
        }
        let version: Option<u16> = record.header_as(Header::EVENT_VERSION, |text| text.parse().ok())?;
        Self::decode_fields(record).map_err(|reason| match version {
            Some(version) if version > E::VERSION => Unreadable::NewerVersion {
                version,
                known: E::VERSION,
                reason,
            },
            // A record without a version is of a legacy Spring service, which has no later release.
            Some(_) if reason.has_unknown_word() => Unreadable::UnknownWord(reason),
            _ => reason.into(),
        })
    }

    fn decode_fields(record: &Record) -> Result<Self, Malformed> {
        Ok(Self {
            meta: Meta::decode(record)?,
            event: E::decode(record)?,
        })
    }
}

fn now_in_millis(clock: &dyn Clock) -> Timestamp {
    in_millis(clock.now())
}

/// Returns the time in whole milliseconds, as on the wire: an event equals itself after a round trip.
fn in_millis(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use sosohappy_common::clock::ManualClock;
    use sosohappy_common::correlation::Correlation;

    use super::*;
    use crate::Headers;
    use crate::testing::record_of;
    use crate::types::{AccountResigned, AccountStateChanged};

    fn context() -> Context {
        let clock = ManualClock::at(Timestamp::from_millisecond(1_700_000_000_123).unwrap());
        Context {
            clock,
            ..Context::system("test", 0)
        }
    }

    fn resigned() -> AccountResigned {
        AccountResigned {
            account: "kim@example.com+kakao".parse().unwrap(),
            nickname: "별이".into(),
        }
    }

    #[tokio::test]
    async fn metadata_survives_a_round_trip() {
        let correlation = Correlation {
            id: "request-1".into(),
            traceparent: Some(Arc::from("00-aa-bb-01")),
        };
        let sent = correlation.scope(async { Envelope::new(resigned(), &context()) }).await;
        assert_eq!(sent.meta.correlation_id.as_deref(), Some("request-1"));
        let at = Timestamp::from_microsecond(1_700_000_000_007_008).unwrap();
        for sent in [sent.clone(), sent.authorized(at)] {
            let read = Envelope::<AccountResigned>::decode(&record_of(&sent.to_outgoing())).unwrap();
            assert_eq!((read.event, read.meta), (sent.event, sent.meta));
        }
    }

    #[test]
    fn ids_are_uuids_of_version_7_with_the_time_of_the_clock() {
        let id = EventId::new(&context()).0;
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_timestamp().unwrap().to_unix(), (1_700_000_000, 123_000_000));
    }

    #[test]
    fn a_foreign_record_has_a_stable_and_unique_id() {
        let mut record = record_of(&Envelope::new(resigned(), &context()).to_outgoing());
        record.headers = Headers::default();
        let first = Envelope::<AccountResigned>::decode(&record).unwrap().meta;
        assert!(first.foreign);
        assert_eq!(first.occurred_at, record.timestamp);
        assert_eq!(Envelope::<AccountResigned>::decode(&record).unwrap().meta, first);
        let mut ids = HashSet::from([first.id]);
        let others = [
            Record {
                offset: record.offset + 1,
                ..record.clone()
            },
            Record {
                partition: record.partition + 1,
                ..record.clone()
            },
            Record {
                topic: Topic::Erased,
                ..record.clone()
            },
            Record {
                timestamp: Timestamp::UNIX_EPOCH,
                ..record.clone()
            },
        ];
        for other in others {
            assert!(ids.insert(EventId::of_position(&other)), "{other:?}");
        }
    }

    #[test]
    fn a_newer_version_is_read_when_only_fields_were_added() {
        let sent = Envelope::new(resigned(), &context());
        let mut record = record_of(&sent.to_outgoing());
        for (header, value) in [(Header::EVENT_VERSION, "2"), ("added-in-version-2", "yes")] {
            record.headers.push(header, value.as_bytes());
        }
        assert_eq!(Envelope::<AccountResigned>::decode(&record).unwrap().event, sent.event);

        record.key = None;
        let unreadable = Envelope::<AccountResigned>::decode(&record).unwrap_err();
        assert!(
            matches!(
                unreadable,
                Unreadable::NewerVersion {
                    version: 2,
                    known: 1,
                    ..
                }
            ),
            "{unreadable}"
        );
        record.headers.push(Header::EVENT_VERSION, b"1");
        let malformed = Envelope::<AccountResigned>::decode(&record).unwrap_err();
        assert!(matches!(malformed, Unreadable::Malformed(_)), "{malformed}");
    }

    #[test]
    fn a_json_event_ignores_fields_of_a_newer_version() {
        let state = AccountStateChanged {
            account: "kim@example.com+kakao".parse().unwrap(),
            state: crate::types::State::Suspended,
        };
        let sent = Envelope::new(state, &context());
        let mut record = record_of(&sent.to_outgoing());
        let mut value: serde_json::Value = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
        value["addedInVersion2"] = serde_json::json!({"reason": "spam"});
        record.value = Some(value.to_string().into());
        record.headers.push(Header::EVENT_VERSION, b"2");
        assert_eq!(
            Envelope::<AccountStateChanged>::decode(&record).unwrap().event,
            sent.event
        );
    }

    #[test]
    fn a_header_that_does_not_parse_or_another_type_is_malformed() {
        let sent = Envelope::new(resigned(), &context()).to_outgoing();
        for (header, value) in [
            (Header::EVENT_VERSION, "one"),
            (Header::EVENT_TYPE, "Erased"),
            (Header::OCCURRED_AT, "noon"),
        ] {
            let mut record = record_of(&sent);
            record.headers.push(header, value.as_bytes());
            assert!(
                Envelope::<AccountResigned>::decode(&record).is_err(),
                "{header}: {value}"
            );
        }
    }
}
