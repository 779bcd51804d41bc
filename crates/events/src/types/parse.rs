//! Parsers that several events share. Their errors never quote the record.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sosohappy_common::Account;
use sosohappy_common::nickname::{MAX_STORED_BYTES, may_be_nickname};

use crate::date::in_range;
use crate::{Event, Malformed, Record};

pub(super) fn account(text: &str, what: &str) -> Result<Account, Malformed> {
    text.parse()
        .map_err(|_| Malformed::new(format!("{what} is not an account")))
}

pub(super) fn key_account(record: &Record) -> Result<Account, Malformed> {
    account(record.key_text()?, "the key")
}

/// Reads an account from a header of ours.
pub(super) fn header_account(record: &Record, name: &str) -> Result<Option<Account>, Malformed> {
    record.header_as(name, |text| text.parse().ok())
}

/// Checks a nickname. Bounded here, so that it fits into the column of every store.
pub(super) fn nickname(text: &str, what: &str) -> Result<String, Malformed> {
    if !may_be_nickname(text) {
        return Err(Malformed::new(format!(
            "{what} is not a nickname of 1 to {MAX_STORED_BYTES} bytes"
        )));
    }
    Ok(text.to_owned())
}

pub(super) fn date(text: &str) -> Result<i64, Malformed> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let date = text
        .parse()
        .ok()
        .filter(|_| digits)
        .and_then(|date| in_range(date).ok());
    date.ok_or_else(|| Malformed::new("the date does not have 16 digits"))
}

pub(super) fn to_json(event: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(event).expect("the event is made of strings and numbers")
}

/// Reads the value as JSON, and checks that the key is the event's.
pub(super) fn from_json<E: Event + DeserializeOwned>(record: &Record) -> Result<E, Malformed> {
    let event: E = json(record)?;
    if event.key().as_deref() != Some(record.key_text()?) {
        return Err(Malformed::new("the key does not match the value"));
    }
    Ok(event)
}

pub(super) fn json<'a, T: Deserialize<'a>>(record: &'a Record) -> Result<T, Malformed> {
    sosohappy_common::json::object(record.value_text()?).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        // The text of the error may quote the value. It alone tells an unknown variant from other errors.
        if error.to_string().starts_with("unknown variant `") {
            return Malformed::unknown_word(format!("the value has an unknown word (at {line}:{column})"));
        }
        Malformed::new(format!(
            "the value is not the event's JSON ({:?} at {line}:{column})",
            error.classify()
        ))
    })
}
