//! Records: a key, a value and headers, all plain bytes.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Headers, Topic};

/// Names of the headers on every record that we publish. A Spring service sends none.
#[derive(Debug, Clone, Copy)]
pub struct Header;

impl Header {
    pub const EVENT_ID: &'static str = "event-id";
    pub const EVENT_TYPE: &'static str = "event-type";
    pub const EVENT_VERSION: &'static str = "event-version";
    pub const AGGREGATE_ID: &'static str = "aggregate-id";
    pub const CORRELATION_ID: &'static str = "correlation-id";
    pub const TRACEPARENT: &'static str = "traceparent";
    /// Milliseconds since the epoch.
    pub const OCCURRED_AT: &'static str = "occurred-at";
    /// Milliseconds since the epoch, by auth's clock; only on records of what a person did.
    pub const AUTHORIZED_AT: &'static str = "authorized-at";

    /// On dead letters only: the reason, the consumer group, and the position of the record.
    pub const DLT_REASON: &'static str = "dlt-reason";
    pub const DLT_GROUP: &'static str = "dlt-group";
    pub const DLT_PARTITION: &'static str = "dlt-partition";
    pub const DLT_OFFSET: &'static str = "dlt-offset";
    /// The number of bytes of the value before it was cut to fit the dead-letter topic.
    pub const DLT_VALUE_BYTES: &'static str = "dlt-value-bytes";

    /// On the resolution of a dead letter: the letter as `PARTITION/OFFSET`, and `replayed` or `discarded`.
    pub const DLT_RESOLVED: &'static str = "dlt-resolved";
    pub const DLT_RESOLUTION: &'static str = "dlt-resolution";
}

/// The most bytes of key, value and headers of one record: the default limit of a broker. Dead letters may have
/// [`MAX_DEAD_LETTER_BYTES`], because they carry a record of full size and the reason.
pub const MAX_RECORD_BYTES: usize = 1_000_000;

pub const MAX_DEAD_LETTER_BYTES: usize = 2_000_000;

/// A record whose bytes are invalid for its topic. Consumers dead-letter it without a retry.
///
/// The text never quotes the record: it is logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Malformed {
    reason: String,
    has_unknown_word: bool,
}

impl Malformed {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            reason: what.into(),
            has_unknown_word: false,
        }
    }

    /// Of a value with a word in the place of one that this release knows, for example `pinned` for the change of a post.
    pub(crate) fn unknown_word(what: impl Into<String>) -> Self {
        Self {
            reason: what.into(),
            has_unknown_word: true,
        }
    }

    pub(crate) fn has_unknown_word(&self) -> bool {
        self.has_unknown_word
    }
}

/// A record to publish; the content of an outbox row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// [`Topic::default_name`]; the bus maps it to the wire name.
    pub topic: String,
    pub key: Option<String>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
}

/// A consumed record.
#[derive(Debug, Clone)]
pub struct Record {
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Headers,
    /// The time stamp of the broker or the producer.
    pub timestamp: Timestamp,
}

impl Record {
    /// Returns the bytes of key, value and headers.
    #[must_use]
    pub fn size(&self) -> usize {
        let [key, value] = [&self.key, &self.value].map(|part| part.as_ref().map_or(0, Bytes::len));
        key + value + self.headers.size()
    }

    /// Returns the last header of that name, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.headers.get(name)?).ok()
    }

    /// Reads a header that is a time in milliseconds since the epoch.
    pub fn header_millis(&self, name: &str) -> Result<Option<Timestamp>, Malformed> {
        self.header_as(name, |text| Timestamp::from_millisecond(text.parse().ok()?).ok())
    }

    /// Parses a header; `None` where there is no such header.
    pub(crate) fn header_as<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Malformed> {
        let Some(text) = self.header(name) else { return Ok(None) };
        parse(text)
            .map(Some)
            .ok_or_else(|| Malformed::new(format!("the header `{name}` is wrong")))
    }

    pub fn key_text(&self) -> Result<&str, Malformed> {
        let key = self.key.as_deref().ok_or_else(|| Malformed::new("the key is null"))?;
        std::str::from_utf8(key).map_err(|_| Malformed::new("the key is not UTF-8"))
    }

    pub fn value_text(&self) -> Result<&str, Malformed> {
        let value = self
            .value
            .as_deref()
            .ok_or_else(|| Malformed::new("the value is null"))?;
        std::str::from_utf8(value).map_err(|_| Malformed::new("the value is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record_of;

    #[test]
    fn the_last_header_of_a_name_counts() {
        let mut record = record_of(&Outgoing {
            topic: "notice".into(),
            key: None,
            value: None,
            headers: vec![],
        });
        for value in [&b"one"[..], b"two"] {
            record.headers.push("name", value);
        }
        assert_eq!(record.header("name"), Some("two"));
        assert_eq!(record.header("Name"), None);
        record.headers.push("name", b"\xff");
        assert_eq!(record.header("name"), None);
        assert!(record.key_text().is_err() && record.value_text().is_err());
    }
}
