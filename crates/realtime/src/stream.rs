//! Version 2 of the socket protocol (`docs/sockets.md`): typed frames with sequence numbers, and acknowledgements.
//!
//! The frames of a version 2 socket are read from the store, after the number that was written last, page by page at the speed of its
//! client. A record of the bus is a signal to look ([`crate::Hub::signal`]), or brings the stored frame with it, which is written if it has the next
//! number ([`crate::Hub::signal_with`]). So they come in the order of their numbers and without a gap, whichever replica stored them, and a record
//! that is delivered again shows nothing twice.

use axum::extract::ws::Utf8Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::OnShown;

/// Frames that [`crate::Protocol::page`] returns at most.
pub const PAGE: u32 = 64;

/// The version of the frames on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "u8")]
pub enum Version {
    /// The frames of the published app. A frame counts as shown when the client gave a sign of life after it.
    #[default]
    One,
    /// Typed frames with numbers. A frame counts as shown when the client acknowledged it.
    Two,
}

impl TryFrom<u8> for Version {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        match number {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            _ => Err("the version is 1 or 2"),
        }
    }
}

/// Where the numbered frames of a version 2 socket begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    /// The frames above this number are written.
    pub after: i64,
    /// The client has missed frames that are not written: it gets a `resync` frame first.
    pub resync: Option<Resync>,
}

/// Why the frames after `since` are not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resync {
    /// Some of them are no longer kept.
    Expired,
    /// There are too many.
    TooMany,
    /// No frame has had a number that high.
    Unknown,
}

/// Numbered frames, in the order of their numbers.
#[derive(Debug, Default)]
pub struct Page {
    pub frames: Vec<Numbered>,
    /// The next page begins after this number.
    pub until: i64,
    /// There may be a next page now.
    pub more: bool,
}

/// A frame of version 2 that the client acknowledges.
#[derive(Debug)]
pub struct Numbered {
    pub seq: i64,
    pub frame: Utf8Bytes,
    /// Of the first socket that shows it.
    pub on_shown: OnShown,
}

/// A frame from a client.
#[derive(Debug)]
pub struct Incoming {
    pub topic: String,
    /// The client's own name of the frame, which the answer carries.
    pub id: Option<String>,
    pub seq: Option<i64>,
    /// The W3C trace context of the client. What the frame causes is part of that trace. One that is no text is ignored, as an invalid one is.
    pub traceparent: Option<String>,
    pub data: Value,
}

/// Why a text is no frame of version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvalidFrame {
    /// It is no JSON object with a text `topic`: the socket is closed.
    NoFrame,
    /// `id` is no text, or `seq` no whole number of 64 bits: an `error` frame with the `id`, if that is a text, answers it.
    WrongType { id: Option<String> },
    /// A text in it has half a surrogate pair (`\ud83d`), which is no character: answered in the same way.
    UnpairedSurrogate { id: Option<String> },
}

/// A frame before the types of its fields are checked. Unknown fields are ignored.
#[derive(Deserialize)]
struct Fields {
    topic: String,
    #[serde(default)]
    id: Value,
    #[serde(default)]
    seq: Value,
    #[serde(default)]
    traceparent: Value,
    #[serde(default)]
    data: Value,
}

impl Incoming {
    /// Reads a frame. A field that is null is absent.
    ///
    /// # Errors
    /// For a text that is not a frame of version 2.
    pub fn parse(text: &str) -> Result<Self, InvalidFrame> {
        let Ok(fields) = sosohappy_common::json::object::<Fields>(text) else {
            return Err(
                match sosohappy_common::json::object::<Fields>(&replace_unpaired_surrogates(text)) {
                    Ok(fields) => InvalidFrame::UnpairedSurrogate {
                        id: fields.id.as_str().map(str::to_owned),
                    },
                    Err(_) => InvalidFrame::NoFrame,
                },
            );
        };
        let (id, is_text) = match fields.id {
            Value::Null => (None, true),
            Value::String(id) => (Some(id), true),
            _ => (None, false),
        };
        let seq = fields.seq.as_i64();
        if !is_text || (seq.is_none() && !fields.seq.is_null()) {
            return Err(InvalidFrame::WrongType { id });
        }
        let traceparent = match fields.traceparent {
            Value::String(traceparent) => Some(traceparent),
            _ => None,
        };
        Ok(Self {
            topic: fields.topic,
            id,
            seq,
            traceparent,
            data: fields.data,
        })
    }
}

/// Returns a JSON text with U+FFFD in place of each escape of half a surrogate pair.
fn replace_unpaired_surrogates(text: &str) -> String {
    let (mut replaced, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        let (escape, after) = match (code_unit(escape), escape.get(6..).and_then(code_unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => escape.split_at(12),
            (Some(0xD800..=0xDFFF), _) => ("\\ufffd", &escape[6..]),
            // Of two characters: an escaped backslash begins no other escape.
            _ => escape.split_at(1 + escape.chars().nth(1).map_or(0, char::len_utf8)),
        };
        replaced.push_str(before);
        replaced.push_str(escape);
        rest = after;
    }
    replaced + rest
}

/// Returns the UTF-16 code unit of the escape `\uXXXX` that a text begins with.
fn code_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[derive(Serialize)]
struct Outgoing<'a> {
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    data: &'a Value,
}

/// Returns the text of a frame `{"topic","id","seq","data"}`.
///
/// # Panics
/// Never: strings, numbers and JSON values are JSON.
#[must_use]
pub fn frame(topic: &str, id: Option<&str>, seq: Option<i64>, data: &Value) -> String {
    let frame = Outgoing { topic, id, seq, data };
    serde_json::to_string(&frame).expect("strings, numbers and JSON values are JSON")
}

/// Returns the text of an `error` frame, with the `id` of the client's frame that it answers.
#[must_use]
pub fn error(id: Option<&str>, code: &str, reason: &str) -> String {
    frame("error", id, None, &json!({ "code": code, "reason": reason }))
}

impl Stream {
    /// Returns the stream of a client that has seen the frames up to `since`, where frames from `oldest` to `newest` are kept without
    /// a gap, and none if they are `None`. At most `most` are written; otherwise the client is asked to read the history, and the stream
    /// goes on after the newest.
    #[must_use]
    pub fn since(since: i64, kept: Option<(i64, i64)>, most: i64) -> Self {
        let resync = match kept {
            // A client that has seen none misses nothing as long as there was none.
            None if since == 0 => None,
            None => Some(Resync::Expired),
            Some((_, newest)) if since > newest => Some(Resync::Unknown),
            // `since=0` asks for all that is kept.
            Some((oldest, _)) if since != 0 && since < oldest - 1 => Some(Resync::Expired),
            Some((oldest, newest)) if newest - since.max(oldest - 1) > most => Some(Resync::TooMany),
            Some(_) => None,
        };
        let after = match resync {
            Some(_) => kept.map_or(0, |(_, newest)| newest),
            None => since,
        };
        Self { after, resync }
    }

    /// Returns the stream of a client that asks for new frames only.
    #[must_use]
    pub fn new_only(kept: Option<(i64, i64)>) -> Self {
        Self {
            after: kept.map_or(0, |(_, newest)| newest),
            resync: None,
        }
    }

    /// Returns the frame that tells the client to read the history; `seq` is the number after which the stream goes on.
    pub(crate) fn greeting(&self) -> Option<String> {
        let reason = self.resync?;
        Some(frame("resync", None, Some(self.after), &json!({ "reason": reason })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_that_is_no_text_is_ignored() {
        let frame = |traceparent: Value| {
            let text = json!({ "topic": "ack", "seq": 1, "traceparent": traceparent }).to_string();
            Incoming::parse(&text).expect("a frame").traceparent
        };
        for other in [json!(1), json!(1.5), json!(true), json!([]), json!({}), Value::Null] {
            assert_eq!(frame(other.clone()), None, "{other}");
        }
        assert_eq!(frame(json!("00-a-b-01")).as_deref(), Some("00-a-b-01"));
    }

    #[test]
    fn a_stream_resumes_completely_or_says_resync() {
        let kept = Some((11, 20));
        for (since, kept, after, resync) in [
            (20, kept, 20, None),
            (15, kept, 15, None),
            (10, kept, 10, None),
            (9, kept, 20, Some(Resync::Expired)),
            (21, kept, 20, Some(Resync::Unknown)),
            (0, kept, 0, None),
            (0, Some((11, 200)), 200, Some(Resync::TooMany)),
            (99, Some((11, 200)), 200, Some(Resync::TooMany)),
            (100, Some((11, 200)), 100, None),
            (0, None, 0, None),
            (7, None, 0, Some(Resync::Expired)),
        ] {
            assert_eq!(
                Stream::since(since, kept, 100),
                Stream { after, resync },
                "{since} {kept:?}"
            );
        }
        assert_eq!(Stream::new_only(kept).after, 20);
        let greeting = Stream::since(9, kept, 100).greeting();
        assert_eq!(
            greeting.as_deref(),
            Some(r#"{"topic":"resync","seq":20,"data":{"reason":"expired"}}"#)
        );
    }

    #[test]
    fn frames_are_read_and_written() {
        let text = r#"{"topic":"message","id":"7","data":{"text":"안녕"},"later":[1]}"#;
        let incoming = Incoming::parse(text).expect("a frame");
        assert_eq!(
            (incoming.topic.as_str(), incoming.id.as_deref()),
            ("message", Some("7"))
        );
        assert_eq!(incoming.data, json!({ "text": "안녕" }));
        for text in [
            "",
            "[]",
            "{}",
            r#"{"topic":7}"#,
            r#"{"topic":null,"id":"7"}"#,
            "ping",
            r#"["message","7",null,null,{}]"#,
            r#" ["message","\ud83d",null,null,{}]"#,
        ] {
            assert_eq!(Incoming::parse(text).err(), Some(InvalidFrame::NoFrame), "{text}");
        }
        for (text, id) in [
            (r#"{"topic":"ack","seq":"x"}"#, None),
            (r#"{"topic":"ack","seq":1.5,"id":"7"}"#, Some("7")),
            (r#"{"topic":"ack","seq":9223372036854775808}"#, None),
            (r#"{"topic":"message","id":7,"seq":1}"#, None),
            (r#"{"topic":"message","id":["7"]}"#, None),
        ] {
            let id = id.map(str::to_owned);
            let expected = Some(InvalidFrame::WrongType { id });
            assert_eq!(Incoming::parse(text).err(), expected, "{text}");
        }
        for (text, id) in [
            (r#"{"topic":"message","id":"7","data":{"text":"\ud83d"}}"#, Some("7")),
            (r#"{"data":{"text":"\uDE00\uD83D안"},"topic":"message"}"#, None),
            (r#"{"topic":"\ud83d\n\ude00","id":"\ud83d\ude00"}"#, Some("😀")),
            (r#"{"topic":"a","id":"\\ud83d","data":"\\\ud83d"}"#, Some("\\ud83d")),
        ] {
            let id = id.map(str::to_owned);
            let expected = Some(InvalidFrame::UnpairedSurrogate { id });
            assert_eq!(Incoming::parse(text).err(), expected, "{text}");
        }
        for text in [
            r#"{"topic":"a","data":"\ud83d"#,
            r#"{"topic":"a","data":"\ud83"}"#,
            r#""\ud83d""#,
            "\\",
            "\\안",
        ] {
            assert_eq!(Incoming::parse(text).err(), Some(InvalidFrame::NoFrame), "{text}");
        }
        let absent = Incoming::parse(r#"{"topic":"ack","id":null,"seq":null}"#).expect("a frame");
        assert_eq!((absent.id, absent.seq), (None, None));
        assert_eq!(
            frame("like", Some("a"), Some(3), &json!({ "liker": "kim" })),
            r#"{"topic":"like","id":"a","seq":3,"data":{"liker":"kim"}}"#
        );
        assert_eq!(
            error(None, "unknown-topic", "no"),
            r#"{"topic":"error","data":{"code":"unknown-topic","reason":"no"}}"#
        );
    }
}
