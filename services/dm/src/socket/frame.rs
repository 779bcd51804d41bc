//! The frame of version 1: `{"sender","receiver","date","text"}`.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use sosohappy_common::json;

/// A message as a client sends it. Other fields of the frame are ignored.
#[derive(Deserialize)]
pub struct Frame {
    pub sender: String,
    pub receiver: String,
    #[serde(deserialize_with = "number")]
    pub date: i64,
    pub text: String,
}

impl Frame {
    /// None when it is not JSON, or not of this shape.
    pub fn parse(text: &str) -> Option<Self> {
        json::object(text).ok()
    }
}

/// An integer, or a text of one: clients differ in what their date is.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Number;

    impl Visitor<'_> for Number {
        type Value = i64;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a date of 16 digits")
        }

        fn visit_i64<E>(self, number: i64) -> Result<i64, E> {
            Ok(number)
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<i64, E> {
            i64::try_from(number).map_err(E::custom)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<i64, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_any(Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_write() {
        for text in [
            r#"{"sender":"a","receiver":"b","date":2023090513248392,"text":"안녕"}"#,
            r#"{"text":"안녕","date":"2023090513248392","receiver":"b","sender":"a","messageRoomId":"a,b"}"#,
        ] {
            let frame = Frame::parse(text).expect(text);
            assert_eq!((frame.sender.as_str(), frame.receiver.as_str()), ("a", "b"));
            assert_eq!((frame.date, frame.text.as_str()), (2_023_090_513_248_392, "안녕"));
        }
    }

    #[test]
    fn invalid_frames_are_refused() {
        for text in [
            "",
            "hello",
            "[]",
            "{}",
            r#"["a","b",2023090513248392,"x"]"#,
            r#"{"sender":"a","receiver":"b","date":20230905,"text":1}"#,
            r#"{"sender":"a","receiver":"b","date":1.5,"text":"x"}"#,
            r#"{"sender":"a","receiver":"b","date":18446744073709551615,"text":"x"}"#,
            r#"{"sender":"a","receiver":null,"date":1,"text":"x"}"#,
            r#"{"sender":"a","receiver":"b","date":"","text":"x"}"#,
            r#"{"sender":"a","receiver":"b","date":1,"text":"x"} and more"#,
        ] {
            assert!(Frame::parse(text).is_none(), "{text}");
        }
        let deep = "[".repeat(10_000);
        assert!(Frame::parse(&format!(r#"{{"sender":{deep}"#)).is_none());
    }
}
