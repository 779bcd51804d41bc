//! The client of the config service, which has the HTTP API of Spring Cloud Config.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use reqwest::{Response, StatusCode};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::layers::Layer;
use super::secret_url::HttpUrl;
use super::sections::{ConfigClient, Credentials};
use super::sources::SettingsError;

/// One request to the config service.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The bus id of the instance that asks.
const INSTANCE: &str = "x-config-instance";
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The environment of Spring Cloud Config, without the fields that are not needed.
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

/// The sources of the config service, lowest first, and their unknown keys, which were left out.
#[derive(Debug, Clone, Default)]
pub(super) struct Remote {
    pub layers: Vec<Layer>,
    pub left_out: Vec<String>,
    pub version: Option<String>,
    /// The raw answer, for the saved copy; `None` when the config service was not asked.
    pub answer: Option<Bytes>,
    /// The request, and the entity tag with which to ask for changes.
    tag: Option<(HttpUrl, HeaderValue)>,
}

/// Why a start has no valid answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The config service is unavailable: a retry may succeed.
    Unavailable(SettingsError),
    /// The config service refused: a retry would get the same answer.
    Refused(SettingsError),
}

impl From<Failure> for SettingsError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(error) | Failure::Refused(error) => error,
        }
    }
}

enum Asked {
    Answered(Bytes, Option<HeaderValue>),
    /// The known answer is still valid.
    Unchanged,
    Unavailable(String),
    Refused(String),
}

/// Asks at start, for at most `config.wait`. While the config service is unavailable the saved copy of the last answer serves, if the
/// settings allow one; a refusal fails the start.
pub(super) async fn wait(
    service: &str,
    client: &ConfigClient,
    credentials: &Credentials,
) -> Result<Remote, SettingsError> {
    let error = match fetch(service, client, credentials, client.wait, &Remote::default(), None).await {
        Ok(remote) => return Ok(remote),
        Err(Failure::Refused(error)) => return Err(error),
        Err(Failure::Unavailable(error)) => error,
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
    tracing::warn!(%error, copy = %copy.display(), version = remote.version, "config service unavailable; starting from saved settings");
    // The copy itself is not written again.
    Ok(Remote { answer: None, ..remote })
}

/// Saves an answer for a start without the config service. It may hold secrets, so only the owner may read the file.
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

/// Asks for `<service>-config`, and retries until `wait` has elapsed. The answer `before` is not sent again if it is still valid. An instance
/// that sends its bus id may be a canary, which gets a new version before others.
pub(super) async fn fetch(
    service: &str,
    client: &ConfigClient,
    credentials: &Credentials,
    wait: Duration,
    before: &Remote,
    instance: Option<&str>,
) -> Result<Remote, Failure> {
    let Some(base) = &client.url else {
        return Ok(Remote::default());
    };
    let origin = format!("the config service at {base}");
    let unreadable = |reason: String| SettingsError::Unreadable {
        origin: origin.clone(),
        reason,
    };
    let refused = |reason: String| Failure::Refused(unreadable(reason));
    let mut url = base.clone();
    url.path_segments_mut()
        .map_err(|()| refused("not a URL of HTTP".to_owned()))?
        .pop_if_empty()
        .extend([format!("{service}-config"), client.profiles.join(",")]);
    let http = crate::tls::client_builder()
        .timeout(QUESTION_TIMEOUT)
        .build()
        .map_err(|error| refused(format!("no HTTP client: {error}")))?;
    let known = before.tag.as_ref().filter(|(asked, _)| **asked == *url);

    let deadline = tokio::time::Instant::now() + wait;
    let mut pause = FIRST_PAUSE;
    let mut waiting_told = false;
    loop {
        let reason = match ask(&http, &url, credentials, known.map(|(_, tag)| tag), instance).await {
            Asked::Answered(answer, tag) => {
                let remote = into_remote(answer).map_err(|error| refused(format!("not an environment: {error}")))?;
                let tag = tag.map(|tag| (url, tag));
                return Ok(Remote { tag, ..remote });
            }
            Asked::Unchanged => return Ok(before.clone()),
            Asked::Refused(reason) => return Err(refused(reason)),
            Asked::Unavailable(reason) => reason,
        };
        if tokio::time::Instant::now() + pause >= deadline {
            let reason = format!("no answer within {}s: {reason}", wait.as_secs_f32());
            return Err(Failure::Unavailable(unreadable(reason)));
        }
        if !std::mem::replace(&mut waiting_told, true) {
            tracing::info!(reason, "config service unavailable; retrying");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn ask(
    http: &reqwest::Client,
    url: &url::Url,
    credentials: &Credentials,
    known: Option<&HeaderValue>,
    instance: Option<&str>,
) -> Asked {
    let mut request = http
        .get(url.clone())
        .bearer_auth(credentials.service_token.expose_secret());
    if let Some(tag) = known {
        request = request.header(IF_NONE_MATCH, tag);
    }
    if let Some(instance) = instance {
        request = request.header(INSTANCE, instance);
    }
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Asked::Unavailable(root_cause(&error)),
    };
    match response.status() {
        StatusCode::OK => answer(response).await,
        StatusCode::NOT_MODIFIED if known.is_some() => Asked::Unchanged,
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Asked::Unavailable(format!("it answered {status}"))
        }
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Asked::Refused(format!(
            "it answered {status}: credentials.service-token is not its own"
        )),
        status @ StatusCode::NOT_FOUND => {
            Asked::Refused(format!("it answered {status}: it has nothing for {}", url.path()))
        }
        status => Asked::Refused(format!("it answered {status}")),
    }
}

async fn answer(response: Response) -> Asked {
    let tag = response.headers().get(ETAG).cloned();
    match response.bytes().await {
        Ok(body) => Asked::Answered(body, tag),
        Err(error) => Asked::Unavailable(root_cause(&error)),
    }
}

fn into_remote(answer: Bytes) -> Result<Remote, serde_json::Error> {
    let environment: Environment = serde_json::from_slice(&answer)?;
    let mut remote = Remote {
        version: environment.version,
        answer: Some(answer),
        ..Remote::default()
    };
    for source in environment.property_sources.into_iter().rev() {
        let (layer, left_out) = Layer::foreign(&format!("config service, {}", source.name), &source.source);
        remote.layers.push(layer);
        remote.left_out.extend(
            left_out
                .into_iter()
                .map(|key| format!("{key} (in config service, {})", source.name)),
        );
    }
    Ok(remote)
}

/// Returns the innermost cause: "connection refused" is more specific than "error sending request".
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
