//! Validating deserializers: `#[serde(deserialize_with = "valid::at_least_one")]`. Errors never quote the value: it may be a secret that was
//! given to the wrong key.
//!
//! Numbers and durations are bounded so that no arithmetic on them overflows: sums of durations and instants, permits of semaphores, columns
//! of databases.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{Deserialize, Deserializer, Error};
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::Service;
use crate::lenient::comma_list;

/// The fewest characters of a credential: shorter ones can be guessed.
const CREDENTIAL_BYTES: usize = 16;

/// The longest duration: 100 years.
pub const MAX_DURATION: Duration = Duration::from_hours(100 * 8_766);

/// The greatest number of bytes, pixels, rows: a tebibyte.
pub const MAX_SIZE: u64 = 1 << 40;

/// The greatest value of a 32-bit count.
pub const MAX_COUNT: u64 = i32::MAX as u64;

/// The most connections of one pool, whose memory is allocated at start.
pub const MAX_CONNECTIONS: u32 = 10_000;

/// Reads a size or a count, from 1 to [`MAX_SIZE`] or, in 32 bits, to [`MAX_COUNT`].
pub fn at_least_one<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: Deserialize<'de> + Copy + TryInto<u64>,
{
    let number = N::deserialize(deserializer)?;
    let max = if size_of::<N>() > 4 { MAX_SIZE } else { MAX_COUNT };
    match number.try_into() {
        Ok(0) | Err(_) => Err(D::Error::custom("must be at least 1")),
        Ok(size) if size > max => Err(D::Error::custom(format!("must be at most {max}"))),
        Ok(_) => Ok(number),
    }
}

/// Reads a size or a count, from 0 to [`MAX_SIZE`].
pub fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let size = usize::deserialize(deserializer)?;
    if u64::try_from(size).is_ok_and(|size| size <= MAX_SIZE) {
        Ok(size)
    } else {
        Err(D::Error::custom(format!("must be at most {MAX_SIZE}")))
    }
}

/// Reads the connections of a pool, from 1 to [`MAX_CONNECTIONS`].
pub fn connections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let connections = at_least_one(deserializer)?;
    if connections > MAX_CONNECTIONS {
        return Err(D::Error::custom(format!("must be at most {MAX_CONNECTIONS}")));
    }
    Ok(connections)
}

/// Reads a share, 0 to 1.
pub fn ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(D::Error::custom("must be between 0 and 1"))
    }
}

/// Reads a duration above zero, as `10s` or `2h 30m`.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = duration_or_zero(deserializer)?;
    if duration.is_zero() {
        Err(D::Error::custom("must be longer than nothing"))
    } else {
        Ok(duration)
    }
}

/// Reads a duration from zero to [`MAX_DURATION`].
pub fn duration_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = humantime::parse_duration(&text).map_err(|error| match error {
        humantime::DurationError::NumberOverflow => D::Error::custom(TOO_LONG),
        _ => D::Error::custom("a duration, 10s or 2h 30m, is expected"),
    })?;
    if duration > MAX_DURATION {
        return Err(D::Error::custom(TOO_LONG));
    }
    Ok(duration)
}

const TOO_LONG: &str = "must be at most 100 years";

/// Reads a duration above zero, or an empty value; with `#[serde(default)]` it may be absent.
pub fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(transparent)]
    struct Present(#[serde(deserialize_with = "duration")] Duration);

    Ok(Option::<Present>::deserialize(deserializer)?.map(|Present(duration)| duration))
}

/// Reads a credential, and refuses one that is too short.
pub fn credential<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    let secret = SecretString::deserialize(deserializer)?;
    if secret.expose_secret().len() < CREDENTIAL_BYTES {
        return Err(D::Error::custom(format!(
            "must have at least {CREDENTIAL_BYTES} characters"
        )));
    }
    Ok(secret)
}

/// Reads log directives as in `RUST_LOG`.
pub fn log_directives<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_log_directives(&text).map_err(D::Error::custom)?;
    Ok(text)
}

/// Reads networks as `10.0.0.0/8`, or single addresses.
pub fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = comma_list(deserializer)?;
    let networks = texts.iter().map(|text| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| D::Error::custom("a network such as 10.0.0.0/8, or an address, is expected"))
    });
    networks.collect()
}

/// Reads names of services, as a list or joined by commas.
pub fn services<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Service>, D::Error> {
    let names = comma_list(deserializer)?;
    let services = names.iter().map(|name| {
        let service = Service::ALL.into_iter().find(|service| service.short_name() == name);
        service.ok_or_else(|| D::Error::custom("services are expected: config, auth, feed, dm, notice"))
    });
    services.collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("log levels are expected, for example info,sosohappy_feed=debug: off, error, warn, info, debug or trace")]
pub struct InvalidDirectives;

/// Parses `level` and `target=level`, joined by commas. Stricter than the filter itself, which reads a misspelt level as a target, and then
/// hides all others.
pub fn parse_log_directives(text: &str) -> Result<Targets, InvalidDirectives> {
    let mut targets = Targets::new();
    for directive in text.split(',') {
        let (target, level) = match directive.rsplit_once('=') {
            Some((target, level)) => (Some(target.trim()), level.trim()),
            None => (None, directive.trim()),
        };
        // An empty level would be `error`.
        if level.is_empty() || !target.is_none_or(is_target) {
            return Err(InvalidDirectives);
        }
        let level: LevelFilter = level.parse().map_err(|_| InvalidDirectives)?;
        targets = match target {
            Some(target) => targets.with_target(target, level),
            None => targets.with_default(level),
        };
    }
    Ok(targets)
}

/// Returns whether it can be a target: the path of a module. Spans and fields (`[span{field}]`) are not.
pub(crate) fn is_target(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-' | b'.');
    !text.is_empty() && text.bytes().all(is_part)
}
