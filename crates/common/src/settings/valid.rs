//! Readers that refuse nonsense: `#[serde(deserialize_with = "valid::at_least_one")]`.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{Deserialize, Deserializer, Error};

use crate::lenient::comma_list;

/// Shorter credentials can be guessed.
const CREDENTIAL_BYTES: usize = 16;

/// A limit of nothing shuts everybody out.
pub fn at_least_one<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: Deserialize<'de> + PartialOrd + From<u8>,
{
    let number = N::deserialize(deserializer)?;
    if number < N::from(1) {
        Err(D::Error::custom("must be at least 1"))
    } else {
        Ok(number)
    }
}

/// A share, 0 to 1.
pub fn ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(D::Error::custom("must be between 0 and 1"))
    }
}

/// A duration above zero, as `10s` or `2h 30m`.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = duration_or_zero(deserializer)?;
    if duration.is_zero() {
        Err(D::Error::custom("must be longer than nothing"))
    } else {
        Ok(duration)
    }
}

/// A duration that may be zero.
pub fn duration_or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    humantime_serde::deserialize(deserializer)
}

/// A credential that cannot be guessed by its length alone.
pub fn credential<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    let secret = SecretString::deserialize(deserializer)?;
    if secret.expose_secret().len() < CREDENTIAL_BYTES {
        return Err(D::Error::custom(format!(
            "must have at least {CREDENTIAL_BYTES} characters"
        )));
    }
    Ok(secret)
}

/// Log directives as in `RUST_LOG`.
pub fn log_directives<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    crate::telemetry::parse_directives(&text).map_err(D::Error::custom)?;
    Ok(text)
}

/// Networks as `10.0.0.0/8`, or single addresses.
pub fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = comma_list(deserializer)?;
    let networks = texts.iter().map(|text| {
        let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| D::Error::custom("a network such as 10.0.0.0/8, or an address, is expected"))
    });
    networks.collect()
}
