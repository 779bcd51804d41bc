//! Instants.

use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use serde::Deserialize as _;
use serde::de::{Deserializer, Error};

const SECONDS_OF_DAY: i32 = 24 * 60 * 60;

/// `#[serde(deserialize_with = "instant")]`: an instant of RFC 3339.
///
/// # Errors
/// When the value is another text, or an instant after [`Timestamp::MAX`]: its day is the last but one of the year 9999, so that each offset has it.
pub fn instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    parsed(&String::deserialize(deserializer)?)
}

/// `#[serde(default, deserialize_with = "optional_instant")]`: an [`instant`] that may be absent.
///
/// # Errors
/// As of [`instant`].
pub fn optional_instant<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.as_deref().map(parsed).transpose()
}

/// The parser takes offsets of 24 and 25 hours, too, which no clock has.
fn parsed<E: Error>(text: &str) -> Result<Timestamp, E> {
    let offset = Pieces::parse(text).ok().and_then(|pieces| pieces.to_numeric_offset());
    let has_offset = offset.is_some_and(|offset| offset.seconds().abs() < SECONDS_OF_DAY);
    let instant = text.parse::<Timestamp>().ok().filter(|_| has_offset);
    instant
        .ok_or_else(|| E::custom("an instant up to 9999-12-30T22:00:00Z is expected, for example 2026-11-30T10:00:00Z"))
}
