//! Asks the config service, which speaks Spring Cloud Config's HTTP contract.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use reqwest::StatusCode;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::layers::Layer;
use super::{ConfigClient, Credentials, SettingsError};

/// One question to the config service.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The environment of Spring Cloud Config; what else is in it is not needed.
#[derive(Debug, Deserialize)]
struct Environment {
    #[serde(default)]
    version: Option<String>,
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
    pub version: Option<String>,
    /// As it came, for a copy; none when it was not asked, or has nothing for this service.
    pub answer: Option<Bytes>,
}

enum Failure {
    /// Trying again may help.
    Passing(String),
    /// It answered, and will answer the same again.
    Lasting(String),
}

/// Asks at start, for as long as `config.wait` says; then goes by the copy of the last answer, where there may be one.
pub(super) async fn wait(
    service: &str,
    client: &ConfigClient,
    credentials: &Credentials,
) -> Result<Remote, SettingsError> {
    let error = match fetch(service, client, credentials, client.wait).await {
        Ok(remote) => return Ok(remote),
        Err(error) => error,
    };
    let Some(copy) = client.copy.as_deref().filter(|copy| copy.exists()) else {
        return Err(error);
    };
    let unreadable = |reason: String| SettingsError::Unreadable {
        origin: format!("config.copy, {}", copy.display()),
        reason,
    };
    let kept = std::fs::read(copy).map_err(|error| unreadable(error.to_string()))?;
    let remote = into_remote(kept.into()).map_err(|error| unreadable(format!("not an environment: {error}")))?;
    tracing::warn!(%error, copy = %copy.display(), version = remote.version, "starting from the last good copy");
    // What it came from stays as it is.
    Ok(Remote { answer: None, ..remote })
}

/// Keeps an answer for a start without the config service. It may hold secrets: for the owner's eyes only.
pub(super) fn keep(copy: &Path, answer: &[u8]) -> Result<(), SettingsError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let write = || -> std::io::Result<()> {
        if std::fs::read(copy).is_ok_and(|kept| kept == answer) {
            return Ok(());
        }
        if let Some(folder) = copy.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let new = copy.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(answer)?;
        file.sync_all()?;
        std::fs::rename(&new, copy)
    };
    write().map_err(|error| SettingsError::Unreadable {
        origin: format!("config.copy, {}", copy.display()),
        reason: format!("cannot be written: {error}"),
    })
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
            Ok(None) => return Ok(Remote::default()),
            Ok(Some(answer)) => {
                return into_remote(answer).map_err(|error| unreadable(format!("not an environment: {error}")));
            }
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
async fn ask(http: &reqwest::Client, url: &url::Url, credentials: &Credentials) -> Result<Option<Bytes>, Failure> {
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
    let body = response.bytes().await;
    body.map(Some).map_err(|error| Failure::Passing(root_cause(&error)))
}

fn into_remote(answer: Bytes) -> Result<Remote, serde_json::Error> {
    let environment: Environment = serde_json::from_slice(&answer)?;
    let mut remote = Remote {
        version: environment.version,
        answer: Some(answer),
        ..Remote::default()
    };
    for source in environment.property_sources.into_iter().rev() {
        let (layer, left_out) = Layer::foreign(format!("config service, {}", source.name), source.source);
        remote.layers.push(layer);
        remote.left_out.extend(
            left_out
                .into_iter()
                .map(|key| format!("{key} (in config service, {})", source.name)),
        );
    }
    Ok(remote)
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
