//! Asks the config service, which speaks Spring Cloud Config's HTTP contract.

use std::time::Duration;

use reqwest::StatusCode;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::layers::Layer;
use super::{ConfigClient, Credentials, SettingsError};

/// One question to the config service.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The environment of Spring Cloud Config; what else is in it is not needed.
#[derive(Debug, Deserialize)]
struct Environment {
    #[serde(rename = "propertySources")]
    property_sources: Vec<PropertySource>,
}

#[derive(Debug, Deserialize)]
struct PropertySource {
    name: String,
    source: Map<String, Value>,
}

/// The sources of the config service, lowest first, and the keys that were left out of them.
#[derive(Debug, Default)]
pub(super) struct Remote {
    pub layers: Vec<Layer>,
    pub left_out: Vec<String>,
}

impl Remote {
    /// The same for the same keys and values, whatever their order; 0 for none. It has 48 bits, so that a gauge holds it whole.
    pub fn fingerprint(&self) -> u64 {
        if self.layers.is_empty() {
            return 0;
        }
        let mut digest = Sha256::new();
        for layer in &self.layers {
            for (key, value) in layer.leaves() {
                digest.update(format!("{key}={value}\n"));
            }
            digest.update("\n");
        }
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(&digest.finalize()[..6]);
        u64::from_be_bytes(bytes)
    }
}

enum Failure {
    /// Trying again may help.
    Passing(String),
    /// It answered, and will answer the same again.
    Lasting(String),
}

/// Asks for `<service>-config`, again and again until `wait` is over.
pub(super) async fn fetch(
    service: &str,
    client: &ConfigClient,
    credentials: &Credentials,
    wait: Duration,
) -> Result<Remote, SettingsError> {
    let Some(base) = &client.url else {
        return Ok(Remote::default());
    };
    let origin = format!("the config service at {base}");
    let unreadable = |reason: String| SettingsError::Unreadable {
        origin: origin.clone(),
        reason,
    };
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| unreadable("not a URL of HTTP".to_owned()))?
        .pop_if_empty()
        .extend([format!("{service}-config"), client.profiles.join(",")]);
    let http = reqwest::Client::builder()
        .timeout(QUESTION_TIMEOUT)
        .build()
        .map_err(|error| unreadable(format!("no HTTP client: {error}")))?;

    let deadline = tokio::time::Instant::now() + wait;
    let mut pause = FIRST_PAUSE;
    let mut waiting_told = false;
    loop {
        let reason = match ask(&http, &url, credentials).await {
            Ok(environment) => return Ok(environment.map(into_remote).unwrap_or_default()),
            Err(Failure::Lasting(reason)) => return Err(unreadable(reason)),
            Err(Failure::Passing(reason)) => reason,
        };
        if tokio::time::Instant::now() + pause >= deadline {
            return Err(unreadable(format!(
                "no answer within {}s: {reason}",
                wait.as_secs_f32()
            )));
        }
        if !std::mem::replace(&mut waiting_told, true) {
            tracing::info!(reason, "waiting for the config service");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// None when the config service has nothing for this service.
async fn ask(
    http: &reqwest::Client,
    url: &url::Url,
    credentials: &Credentials,
) -> Result<Option<Environment>, Failure> {
    let request = http
        .get(url.clone())
        .bearer_auth(credentials.service_token.expose_secret());
    let response = request
        .send()
        .await
        .map_err(|error| Failure::Passing(root_cause(&error)))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            return Err(Failure::Passing(format!("it answered {status}")));
        }
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            return Err(Failure::Lasting(format!(
                "it answered {status}: credentials.service-token is not its own"
            )));
        }
        status => return Err(Failure::Lasting(format!("it answered {status}"))),
    }
    let body = response
        .bytes()
        .await
        .map_err(|error| Failure::Passing(root_cause(&error)))?;
    let environment = serde_json::from_slice(&body);
    environment
        .map(Some)
        .map_err(|error| Failure::Lasting(format!("not an environment: {error}")))
}

fn into_remote(environment: Environment) -> Remote {
    let mut remote = Remote::default();
    for source in environment.property_sources.into_iter().rev() {
        let (layer, left_out) = Layer::foreign(format!("config service, {}", source.name), source.source);
        remote.layers.push(layer);
        remote.left_out.extend(
            left_out
                .into_iter()
                .map(|key| format!("{key} (in config service, {})", source.name)),
        );
    }
    remote
}

/// The innermost reason: "connection refused" says more than "error sending request".
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if error.is_timeout() {
        "it did not answer in time".to_owned()
    } else {
        cause.to_string()
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
