//! Tokens for `OAUTHBEARER`, by the client-credentials grant (RFC 6749, section 4.4).
//!
//! librdkafka asks for a token on the thread that polls a client, which must not wait for HTTP. So a task keeps one at hand.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use jiff::Timestamp;
use parking_lot::Mutex;
use rdkafka::client::OAuthToken;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use sosohappy_common::clock::Clock;
use sosohappy_common::settings::OauthClient;
use tokio_util::task::AbortOnDropHandle;

use crate::BusError;

/// How long the endpoint may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The life of a token whose answer does not say: RFC 6749 only recommends that it does.
const UNKNOWN_LIFETIME: Duration = Duration::from_mins(5);

/// librdkafka asks anew after 80 % of a token's life; by then the next one is here.
const REFRESH_AFTER_PERCENT: u32 = 60;

/// Between two questions, however short the life of a token is said to be.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Token {
    value: String,
    expires_at: Timestamp,
}

#[derive(Debug, Default)]
struct Cache {
    token: Option<Token>,
    /// Why there is no newer one.
    last_error: Option<String>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The present token of one principal, kept fresh until it is dropped.
#[derive(Debug)]
pub(super) struct Tokens {
    principal: String,
    clock: Arc<dyn Clock>,
    cache: Arc<Mutex<Cache>>,
    _refresh: AbortOnDropHandle<()>,
}

/// An answer of a token endpoint (RFC 6749, section 5.1); other fields are ignored.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

/// Asks the endpoint.
struct Endpoint {
    http: reqwest::Client,
    settings: OauthClient,
    clock: Arc<dyn Clock>,
}

impl Tokens {
    /// Fetches the first token and starts to refresh it. An endpoint that is unavailable is no error: clients connect once it answers.
    pub(super) async fn start(settings: &OauthClient, clock: Arc<dyn Clock>) -> Result<Self, BusError> {
        let endpoint = Endpoint {
            http: http(settings)?,
            settings: settings.clone(),
            clock: clock.clone(),
        };
        let cache = Arc::new(Mutex::new(Cache::default()));
        let first = endpoint.fetch_into(&cache).await;
        let refresh = tokio::spawn(refresh(endpoint, cache.clone(), first));
        Ok(Self {
            principal: settings.client_id.clone(),
            clock,
            cache,
            _refresh: AbortOnDropHandle::new(refresh),
        })
    }

    /// Returns the present token, or why there is none.
    pub(super) fn current(&self) -> Result<OAuthToken, String> {
        let cache = self.cache.lock();
        let valid = cache.token.as_ref().filter(|token| token.expires_at > self.clock.now());
        let Some(token) = valid else {
            return Err(cache
                .last_error
                .clone()
                .unwrap_or_else(|| "the token has expired".to_owned()));
        };
        Ok(OAuthToken {
            token: token.value.clone(),
            principal_name: self.principal.clone(),
            lifetime_ms: token.expires_at.as_millisecond(),
        })
    }
}

fn http(settings: &OauthClient) -> Result<reqwest::Client, BusError> {
    let mut builder = sosohappy_common::tls::client_builder().timeout(TIMEOUT);
    if let Some(path) = &settings.ca {
        let unusable = |reason: String| BusError::Settings(format!("security.oauth.ca: {}: {reason}", path.display()));
        let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(error.to_string()))?;
        builder = builder.tls_certs_merge(authorities);
    }
    builder
        .build()
        .map_err(|error| BusError::Settings(format!("security.oauth: {error}")))
}

/// Fetches the next token before the present one ends; after a failure again, ever less often.
async fn refresh(endpoint: Endpoint, cache: Arc<Mutex<Cache>>, mut last: Result<Duration, String>) {
    let retries = ExponentialBuilder::default()
        .with_jitter()
        .with_max_delay(Duration::from_secs(30))
        .without_max_times();
    let mut delays = retries.build();
    loop {
        let wait = match last {
            Ok(lifetime) => {
                delays = retries.build();
                (lifetime * REFRESH_AFTER_PERCENT / 100).max(SHORTEST_WAIT)
            }
            Err(error) => {
                tracing::warn!(error, "fetching an OAuth token failed; retrying");
                delays.next().unwrap_or(TIMEOUT)
            }
        };
        tokio::time::sleep(wait).await;
        last = endpoint.fetch_into(&cache).await;
    }
}

impl Endpoint {
    /// Fetches a token into the cache, which keeps the one it has on a failure. Returns its lifetime.
    async fn fetch_into(&self, cache: &Mutex<Cache>) -> Result<Duration, String> {
        let asked_at = self.clock.now();
        let fetched = self.fetch().await.map_err(|error| chain(&error));
        let mut cache = cache.lock();
        match fetched {
            Ok(answer) => {
                let lifetime = answer.expires_in.map_or(UNKNOWN_LIFETIME, Duration::from_secs);
                let expires_at = asked_at.checked_add(lifetime).map_err(|error| error.to_string())?;
                *cache = Cache {
                    token: Some(Token {
                        value: answer.access_token,
                        expires_at,
                    }),
                    last_error: None,
                };
                Ok(lifetime)
            }
            Err(error) => {
                cache.last_error = Some(error.clone());
                Err(error)
            }
        }
    }

    async fn fetch(&self) -> Result<Answer, reqwest::Error> {
        let mut form = vec![("grant_type", "client_credentials")];
        form.extend(self.settings.scope.as_deref().map(|scope| ("scope", scope)));
        let secret = self.settings.client_secret.expose_secret();
        self.http
            .post((*self.settings.token_url).clone())
            .basic_auth(&self.settings.client_id, Some(secret))
            .form(&form)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await
    }
}

/// The error with its causes. The address is left out: it may hold credentials.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.status().map_or_else(
        || "the token endpoint is unavailable".to_owned(),
        |status| format!("the token endpoint answered {status}"),
    );
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
