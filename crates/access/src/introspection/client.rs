//! The client of feed, dm and notice: a call to auth is short, shared by those who ask the same, and not made at all while auth
//! does not answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use moka::future::Cache;
use parking_lot::Mutex;
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sosohappy_common::nickname::may_be_nickname;
use sosohappy_common::settings::{Access, Live};
use sosohappy_common::{Account, Context};
use sosohappy_events::Mixed;
use sosohappy_events::types::TokenDigest;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::breaker::Breaker;
use super::{IntrospectRequest, IntrospectResponse, LookupRequest, LookupResponse};
use crate::metrics::AuthMetrics;
use crate::{Bearer, Denied};

/// How long a "no" is believed: a token that is being issued right now shall not be shut out for longer.
const NEGATIVE: Duration = Duration::from_secs(1);

/// "No"s remembered.
const NEGATIVE_ENTRIES: u64 = 50_000;

/// Calls of a kind under way at once: a storm of unknown tokens, or of unknown names, must not become a storm on auth, and neither
/// must keep the other from asking.
const CALLS_AT_ONCE: usize = 64;

/// How long an answer about a known token is good for: it is asked about at most this often.
const CONFIRMED: Duration = Duration::from_secs(1);

/// How long an auth without introspection is not asked again about known tokens.
const UNSUPPORTED: Duration = Duration::from_mins(1);

/// How long a Spring auth may take to say whose a nickname is.
const VOUCHING: Duration = Duration::from_secs(3);

/// `GET /auth-service/checkDuplicateNickname` of a Spring auth, which names the bearer's account.
#[derive(Deserialize)]
struct NicknameBearer {
    email: Option<String>,
}

/// Speaks to auth for feed, dm and notice. Clones share breaker and caches.
#[derive(Clone)]
pub struct AuthClient(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    introspect: Call,
    lookup: Call,
    vouch: Call,
    /// Answers of this second, by who asked for which nickname.
    vouched: Cache<(Account, String), Option<Account>>,
    mixed: Mixed,
    credential: HeaderValue,
    settings: Live<Access>,
    breaker: Breaker,
    inactive: Cache<(Account, [u8; 32]), IntrospectResponse>,
    confirmed: Cache<(Account, [u8; 32]), Confirmation>,
    unsupported_until: Mutex<Option<Instant>>,
    accounts: Cache<String, Option<Account>>,
    /// Those of this moment: an answer goes to whoever waits for it and is then forgotten.
    fresh_accounts: Cache<String, Option<Account>>,
    nicknames: Cache<Account, Option<String>>,
    metrics: AuthMetrics,
}

/// What auth says about a token that this replica knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    Active,
    /// Expired or revoked.
    Inactive,
    /// Auth does not answer introspection: a Spring auth.
    Unsupported,
    Unavailable,
}

impl Confirmation {
    const fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
        }
    }
}

struct Call {
    url: Url,
    slots: Semaphore,
}

impl Call {
    fn new(settings: &Access, path: &str) -> anyhow::Result<Self> {
        Ok(Self {
            url: settings.auth_url.join(path).context("access.auth-url")?,
            slots: Semaphore::new(CALLS_AT_ONCE),
        })
    }
}

/// Why a call brought nothing. The parts that matter to an operator, none that name a person.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no answer in time")]
    Timeout,
    #[error("auth cannot be reached")]
    Transport(#[source] reqwest::Error),
    #[error("auth answered {0}")]
    Status(StatusCode),
    #[error("the answer is not what the contract says")]
    Answer,
}

impl AuthClient {
    /// Fails when `access.auth-url` is no base for a URL or the service token cannot be a header.
    pub fn new(settings: &Live<Access>, service_token: &SecretString, context: &Context) -> anyhow::Result<Self> {
        Self::in_fleet(settings, service_token, context, &Mixed::none())
    }

    /// As [`AuthClient::new`], in a fleet whose auth may be Spring: that is asked nothing it does not know.
    pub fn in_fleet(
        settings: &Live<Access>,
        service_token: &SecretString,
        context: &Context,
        mixed: &Mixed,
    ) -> anyhow::Result<Self> {
        let mut credential = HeaderValue::try_from(format!("Bearer {}", service_token.expose_secret()))
            .map_err(|_| anyhow::anyhow!("credentials.service-token cannot be sent as a header"))?;
        credential.set_sensitive(true);
        let http = sosohappy_common::tls::client_builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("the client for auth cannot be made")?;
        let access = settings.get();
        Ok(Self(Arc::new(Inner {
            http,
            introspect: Call::new(&access, "/auth-service/introspect")?,
            lookup: Call::new(&access, "/auth-service/lookup")?,
            vouch: Call::new(&access, "/auth-service/checkDuplicateNickname")?,
            vouched: negative_cache(),
            mixed: mixed.clone(),
            credential,
            settings: settings.clone(),
            breaker: Breaker::default(),
            inactive: negative_cache(),
            confirmed: Cache::builder()
                .max_capacity(NEGATIVE_ENTRIES)
                .time_to_live(CONFIRMED)
                .build(),
            unsupported_until: Mutex::default(),
            accounts: negative_cache(),
            fresh_accounts: negative_cache(),
            nicknames: negative_cache(),
            metrics: AuthMetrics::new(&context.metrics),
        })))
    }

    /// Whether a token of this digest is this account's and alive. An inactive answer is believed for a second; an active one is
    /// the caller's to remember.
    pub async fn introspect(&self, account: &Account, digest: &TokenDigest) -> Result<IntrospectResponse, Denied> {
        let inner = &self.0;
        let key = (account.clone(), digest.0);
        let answer = inner
            .inactive
            .try_get_with(key.clone(), async {
                let request = IntrospectRequest::new(account, digest);
                let answer = inner.call(&inner.introspect, &request).await;
                let answer = answer.map(|answer| answer.unwrap_or_else(IntrospectResponse::inactive));
                let outcome = match &answer {
                    Ok(answer) if answer.active => "active",
                    Ok(_) => "inactive",
                    Err(_) => "unavailable",
                };
                inner.metrics.introspections.with_label_values(&[outcome]).inc();
                answer
            })
            .await
            .map_err(|denied| *denied)?;
        if answer.active {
            inner.inactive.invalidate(&key).await;
        }
        Ok(answer)
    }

    /// Returns whether auth is Spring, which answers neither introspection nor look-ups.
    #[must_use]
    pub fn is_spring(&self) -> bool {
        !self.0.mixed.auth_answers_services()
    }

    /// Asks a Spring auth, with the caller's own token, whose nickname this is. None when no account has it, or auth refuses the token.
    pub(crate) async fn vouch(
        &self,
        caller: &Account,
        bearer: &Bearer,
        nickname: &str,
    ) -> Result<Option<Account>, Denied> {
        if !may_be_nickname(nickname) {
            return Ok(None);
        }
        let inner = &self.0;
        let key = (caller.clone(), nickname.to_owned());
        let answer = inner
            .vouched
            .try_get_with(key, inner.ask_to_vouch(caller, bearer, nickname));
        answer.await.map_err(|denied| *denied)
    }

    /// Asks again about a token this replica knows, at most once a second a token; those who ask at once share a call. While the
    /// breaker is open no call is made, and nothing is remembered.
    pub async fn confirm(&self, account: &Account, digest: &TokenDigest) -> Confirmation {
        let inner = &self.0;
        if self.is_spring() {
            return Confirmation::Unsupported;
        }
        if inner
            .unsupported_until
            .lock()
            .is_some_and(|until| Instant::now() < until)
        {
            return Confirmation::Unsupported;
        }
        let key = (account.clone(), digest.0);
        if let Some(known) = inner.confirmed.get(&key).await {
            return known;
        }
        if !inner.breaker.permits() {
            return Confirmation::Unavailable;
        }
        inner.confirmed.get_with(key, inner.ask_again(account, digest)).await
    }

    /// Who bears this nickname; that nobody does is believed for a second.
    pub async fn lookup_nickname(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        if !may_be_nickname(nickname) {
            return Ok(None);
        }
        let cache = &self.0.accounts;
        let account = cache
            .try_get_with_by_ref(nickname, self.0.account_of(nickname))
            .await
            .map_err(|denied| *denied)?;
        if account.is_some() {
            cache.invalidate(nickname).await;
        }
        Ok(account)
    }

    /// Like [`AuthClient::lookup_nickname`], believing nothing that was said before; those who ask at once share a call.
    pub async fn lookup_nickname_now(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        if !may_be_nickname(nickname) {
            return Ok(None);
        }
        let cache = &self.0.fresh_accounts;
        let account = cache
            .try_get_with_by_ref(nickname, self.0.account_of(nickname))
            .await
            .map_err(|denied| *denied)?;
        cache.invalidate(nickname).await;
        Ok(account)
    }

    /// The present nickname; that there is no such account is believed for a second.
    pub async fn lookup_account(&self, account: &Account) -> Result<Option<String>, Denied> {
        let cache = &self.0.nicknames;
        let request = LookupRequest {
            nickname: None,
            account: Some(account.as_str().to_owned()),
        };
        let nickname = cache
            .try_get_with_by_ref(account, async {
                self.0.look_up(&request).await.map(|answer| answer.nickname)
            })
            .await
            .map_err(|denied| *denied)?;
        if nickname.is_some() {
            cache.invalidate(account).await;
        }
        Ok(nickname)
    }
}

impl Inner {
    async fn ask_again(&self, account: &Account, digest: &TokenDigest) -> Confirmation {
        let request = IntrospectRequest::new(account, digest);
        let confirmation = match self.call::<_, IntrospectResponse>(&self.introspect, &request).await {
            Ok(Some(answer)) if answer.active => Confirmation::Active,
            Ok(Some(_)) => Confirmation::Inactive,
            Ok(None) => {
                *self.unsupported_until.lock() = Some(Instant::now() + UNSUPPORTED);
                Confirmation::Unsupported
            }
            Err(_) => Confirmation::Unavailable,
        };
        self.metrics
            .confirmations
            .with_label_values(&[confirmation.label()])
            .inc();
        confirmation
    }

    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        let answer = self
            .look_up(&LookupRequest {
                nickname: Some(nickname.to_owned()),
                account: None,
            })
            .await?;
        match answer.account.map(|account| account.parse()).transpose() {
            Ok(account) => Ok(account),
            Err(error) => {
                tracing::error!(%error, "auth lookup response invalid: not an account");
                Err(Denied::Unavailable)
            }
        }
    }

    async fn ask_to_vouch(&self, caller: &Account, bearer: &Bearer, nickname: &str) -> Result<Option<Account>, Denied> {
        if !self.breaker.permits() {
            self.metrics.rejected.inc();
            return Err(Denied::Unavailable);
        }
        let Ok(Ok(_slot)) = tokio::time::timeout(VOUCHING, self.vouch.slots.acquire()).await else {
            self.metrics.rejected.inc();
            return Err(Denied::Unavailable);
        };
        let asked = async {
            let request = self
                .http
                .get(self.vouch.url.clone())
                .query(&[("nickname", nickname)])
                .bearer_auth(bearer.expose())
                .header("email", caller.as_str());
            let answer = request.send().await.map_err(CallError::Transport)?;
            match answer.status() {
                StatusCode::OK => {}
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => return Ok(None),
                other => return Err(CallError::Status(other)),
            }
            let body = answer.bytes().await.map_err(CallError::Transport)?;
            let bearer: NicknameBearer = serde_json::from_slice(&body).map_err(|_| CallError::Answer)?;
            Ok(bearer.email.and_then(|email| email.parse().ok()))
        };
        match tokio::time::timeout(VOUCHING, asked)
            .await
            .unwrap_or(Err(CallError::Timeout))
        {
            Ok(account) => {
                self.breaker.succeeded();
                Ok(account)
            }
            Err(error) => {
                self.breaker.failed();
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    path = self.vouch.url.path(),
                    "auth unavailable"
                );
                Err(Denied::Unavailable)
            }
        }
    }

    async fn look_up(&self, request: &LookupRequest) -> Result<LookupResponse, Denied> {
        if !self.mixed.auth_answers_services() {
            return Ok(LookupResponse {
                account: None,
                nickname: None,
            });
        }
        let answer = self.call(&self.lookup, request).await;
        let answer = answer.map(|answer| {
            answer.unwrap_or(LookupResponse {
                account: None,
                nickname: None,
            })
        });
        let outcome = match &answer {
            Ok(LookupResponse {
                account: Some(_),
                nickname: Some(_),
            }) => "found",
            Ok(_) => "unknown",
            Err(_) => "unavailable",
        };
        self.metrics.lookups.with_label_values(&[outcome]).inc();
        answer
    }

    /// `None` when auth does not know the question: a Spring auth has neither call, and then the topics are all there is.
    async fn call<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        call: &Call,
        request: &Q,
    ) -> Result<Option<A>, Denied> {
        if !self.breaker.permits() {
            self.metrics.rejected.inc();
            return Err(Denied::Unavailable);
        }
        // One deadline for both: the wait for a slot and the call.
        let deadline = Instant::now() + self.settings.get().introspection_timeout;
        // A full house says nothing of auth, so it is no failure to the breaker.
        let Ok(Ok(_slot)) = timeout_at(deadline, call.slots.acquire()).await else {
            self.metrics.rejected.inc();
            return Err(Denied::Unavailable);
        };
        let timer = self.metrics.seconds.start_timer();
        let answer = match timeout_at(deadline, self.attempt(&call.url, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout),
        };
        timer.observe_duration();
        match answer {
            Ok(answer) => {
                self.breaker.succeeded();
                Ok(answer)
            }
            Err(error) => {
                self.breaker.failed();
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    path = call.url.path(),
                    "auth unavailable"
                );
                Err(Denied::Unavailable)
            }
        }
    }

    /// Asks once more when the connection broke: a pooled one may have been closed by an auth that was replaced. Nothing is
    /// changed by asking twice.
    async fn attempt<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        url: &Url,
        request: &Q,
    ) -> Result<Option<A>, CallError> {
        match self.ask(url, request).await {
            Err(CallError::Transport(error)) if !error.is_connect() => self.ask(url, request).await,
            answer => answer,
        }
    }

    async fn ask<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        url: &Url,
        request: &Q,
    ) -> Result<Option<A>, CallError> {
        let request = self
            .http
            .post(url.clone())
            .header(header::AUTHORIZATION, &self.credential)
            .json(request);
        let answer = request.send().await.map_err(CallError::Transport)?;
        match answer.status() {
            StatusCode::OK => {}
            // Spring's filter refuses what has no token of a person before anybody looks at the path.
            status @ (StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED)
                if !is_problem(answer.headers()) =>
            {
                tracing::warn!(
                    path = url.path(),
                    status = status.as_u16(),
                    "auth does not know this call; is access.auth-url right?"
                );
                return Ok(None);
            }
            other => return Err(CallError::Status(other)),
        }
        let body = answer.bytes().await.map_err(CallError::Transport)?;
        // The parser's message would quote the body.
        serde_json::from_slice(&body).map(Some).map_err(|_| CallError::Answer)
    }
}

/// Whether it is our own auth that refuses: an answer of the legacy Spring service has another shape.
fn is_problem(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem+json"))
}

fn negative_cache<K, V>() -> Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(NEGATIVE_ENTRIES)
        .time_to_live(NEGATIVE)
        .build()
}

impl fmt::Debug for AuthClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthClient")
            .field("breaker", &self.0.breaker)
            .finish_non_exhaustive()
    }
}
