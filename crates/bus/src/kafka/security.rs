//! `events.security` in librdkafka's words.

use std::fs::File;
use std::path::Path;

use rdkafka::config::ClientConfig;
use secrecy::ExposeSecret as _;
use sosohappy_common::settings::{Login, Sasl, Security, Tls};

use crate::BusError;

/// Sets protocol, certificates and credentials.
///
/// # Errors
/// [`BusError::Settings`] for a file that cannot be read: librdkafka would name neither the setting nor, in all cases, the file.
pub(super) fn secure(config: &mut ClientConfig, security: &Security) -> Result<(), BusError> {
    config.set("security.protocol", security.protocol().name());
    if let Some(tls) = &security.tls {
        encrypt(config, tls)?;
    }
    if let Some(sasl) = &security.sasl {
        config.set("sasl.mechanism", sasl.mechanism().name());
        match sasl {
            Sasl::Plain(login) | Sasl::ScramSha256(login) | Sasl::ScramSha512(login) => log_in(config, login),
            // Tokens come from `generate_oauth_token` of the client's context.
            Sasl::OauthBearer(_) => {}
        }
    }
    Ok(())
}

fn encrypt(config: &mut ClientConfig, tls: &Tls) -> Result<(), BusError> {
    // The name in a broker's certificate is checked too, which is librdkafka's default since 2.0; said here so that it stays.
    config.set("ssl.endpoint.identification.algorithm", "https");
    if let Some(ca) = &tls.ca {
        config.set("ssl.ca.location", readable("ca", ca)?);
    }
    if let Some(client) = &tls.client {
        config
            .set(
                "ssl.certificate.location",
                readable("certificate", &client.certificate)?,
            )
            .set("ssl.key.location", readable("key", &client.key)?);
        if let Some(password) = &client.key_password {
            config.set("ssl.key.password", password.expose_secret());
        }
    }
    Ok(())
}

fn log_in(config: &mut ClientConfig, login: &Login) {
    config
        .set("sasl.username", &login.username)
        .set("sasl.password", login.password.expose_secret());
}

fn readable<'a>(key: &str, path: &'a Path) -> Result<&'a str, BusError> {
    let unusable = |reason: String| BusError::Settings(format!("security.{key}: {}: {reason}", path.display()));
    File::open(path).map_err(|error| unusable(error.to_string()))?;
    path.to_str().ok_or_else(|| unusable("not UTF-8".to_owned()))
}
