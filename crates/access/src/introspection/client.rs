//! The client of auth in feed, dm and notice: calls have a short timeout, equal calls at one time are one, and a circuit breaker rejects
//! calls while auth does not answer.

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
use sosohappy_common::faults::{Fault, Faults};
use sosohappy_common::nickname::may_be_nickname;
use sosohappy_common::settings::{Access, Live};
use sosohappy_common::{Account, Context};
use sosohappy_events::Mixed;
use sosohappy_events::types::TokenDigest;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::breaker::Breaker;
use super::{
    IntrospectRequest, IntrospectResponse, LookupRequest, LookupResponse, MutedWordEntry, MutedWordsRequest,
    MutedWordsResponse,
};
use crate::metrics::AuthMetrics;
use crate::names::Profile;
use crate::{Bearer, Denied};

/// How long a negative answer is cached: a token that is issued meanwhile is refused for no longer.
const NEGATIVE: Duration = Duration::from_secs(1);

/// Negative answers in one cache.
const NEGATIVE_ENTRIES: u64 = 50_000;

/// Concurrent calls of one kind: a flood of unknown tokens, of unknown names, or of messages while heartbeats are missing must not flood
/// auth, and none of the kinds may use up the calls of another.
const CALLS_AT_ONCE: usize = 64;

/// How long an answer about a known token is cached: the shortest time between two questions about it.
const CONFIRMED: Duration = Duration::from_secs(1);

/// How long no questions about known tokens are sent to an auth without introspection.
const UNSUPPORTED: Duration = Duration::from_mins(1);

/// The shortest timeout of a call about the account of a nickname. Unlike a check of a token it is rare, and the caller's request fails without
/// an answer: under load an unknown name would be unavailable instead of unknown.
const NAMING: Duration = Duration::from_secs(3);

/// The answer of `GET /auth-service/checkDuplicateNickname` of a Spring auth, which names the account that has the nickname.
#[derive(Deserialize)]
struct NicknameBearer {
    email: Option<String>,
}

/// Calls auth for feed, dm and notice. Clones share breaker and caches.
#[derive(Clone)]
pub struct AuthClient(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    introspect: Call,
    /// Look-ups of nicknames and profiles of accounts.
    lookup: Call,
    /// Look-ups of the accounts of nicknames.
    bearers: Call,
    /// Look-ups about blocks.
    blocks: Call,
    muted_words: Call,
    vouch: Call,
    /// Answers of the last second, by caller and nickname.
    vouched: Cache<(Account, String), Option<Account>>,
    mixed: Mixed,
    credential: HeaderValue,
    settings: Live<Access>,
    breaker: Breaker,
    inactive: Cache<(Account, [u8; 32]), IntrospectResponse>,
    confirmed: Cache<(Account, [u8; 32]), Confirmation>,
    unsupported_until: Mutex<Option<Instant>>,
    accounts: Cache<String, Option<Account>>,
    /// Answers of calls in progress: removed as soon as every waiting caller has its answer.
    fresh_accounts: Cache<String, Option<Account>>,
    nicknames: Cache<Account, Option<String>>,
    /// Answers of the last second, by both accounts in their order.
    blocked: Cache<(Account, Account), Option<bool>>,
    metrics: AuthMetrics,
    faults: Faults,
}

/// The answer of auth about a token that this replica knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    Active,
    /// Expired or revoked.
    Inactive,
    /// Auth has no introspection: it is a Spring service.
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
    /// The timeout, if it is longer than `access.introspection-timeout`.
    patience: Duration,
}

impl Call {
    fn new(settings: &Access, path: &str) -> anyhow::Result<Self> {
        Ok(Self {
            url: settings.auth_url.join(path).context("access.auth-url")?,
            slots: Semaphore::new(CALLS_AT_ONCE),
            patience: Duration::ZERO,
        })
    }

    /// Like [`Call::new`], with a timeout of at least [`NAMING`].
    fn about_nicknames(settings: &Access, path: &str) -> anyhow::Result<Self> {
        Ok(Self {
            patience: NAMING,
            ..Self::new(settings, path)?
        })
    }
}

/// Why a call failed. Logged: it holds no personal data.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("no answer in time")]
    Timeout,
    #[error("connection to auth failed")]
    Transport(#[source] reqwest::Error),
    #[error("auth answered {0}")]
    Status(StatusCode),
    #[error("invalid answer")]
    Answer,
}

impl AuthClient {
    /// Creates the client of a fleet whose auth is ours.
    ///
    /// # Errors
    /// When `access.auth-url` is no base for a URL or the service token cannot be a header.
    pub fn new(settings: &Live<Access>, service_token: &SecretString, context: &Context) -> anyhow::Result<Self> {
        Self::in_fleet(settings, service_token, context, &Mixed::none())
    }

    /// Like [`AuthClient::new`], in a fleet whose auth may be a Spring service, which gets no calls that it does not know.
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
            bearers: Call::about_nicknames(&access, "/auth-service/lookup")?,
            blocks: Call::new(&access, "/auth-service/lookup")?,
            muted_words: Call::new(&access, "/auth-service/mutedWordsOf")?,
            vouch: Call::about_nicknames(&access, "/auth-service/checkDuplicateNickname")?,
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
            blocked: negative_cache(),
            metrics: AuthMetrics::new(&context.metrics),
            faults: context.faults(),
        })))
    }

    /// Asks whether a token of this digest is valid and this account's. Caches an inactive answer for a second; the caller keeps an
    /// active one.
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

    /// Asks a Spring auth, with the caller's own token, which account has the nickname. `None` when no account has it, or auth refuses
    /// the token.
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

    /// Asks about a token that this replica knows, at most once a second and token; concurrent callers share a call. While the breaker
    /// is open it neither calls nor caches.
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

    /// Returns whether one of the two accounts blocks the other, asked at most once a second and pair; concurrent callers share a call. `None`
    /// where that is not known: auth is unavailable, or a Spring service. While the breaker is open it neither calls nor caches.
    pub(crate) async fn is_blocked(&self, one: &Account, other: &Account) -> Option<bool> {
        let inner = &self.0;
        if self.is_spring() {
            return None;
        }
        let key = if one < other {
            (one.clone(), other.clone())
        } else {
            (other.clone(), one.clone())
        };
        if let Some(known) = inner.blocked.get(&key).await {
            return known;
        }
        if !inner.breaker.permits() {
            return None;
        }
        inner.blocked.get_with(key, inner.ask_about_block(one, other)).await
    }

    /// Returns the account that has the nickname; caches for a second that no account has it.
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

    /// Like [`AuthClient::lookup_nickname`], without the cache; concurrent callers share a call.
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

    /// Returns the muted words of the account; none where auth is Spring, which has no such call.
    pub(crate) async fn muted_words(&self, account: &Account) -> Result<Vec<MutedWordEntry>, Denied> {
        let inner = &self.0;
        if self.is_spring() {
            return Ok(Vec::new());
        }
        let request = MutedWordsRequest {
            account: account.as_str().to_owned(),
        };
        let answer = inner.call::<_, MutedWordsResponse>(&inner.muted_words, &request).await;
        let outcome = if answer.is_ok() { "answered" } else { "unavailable" };
        inner.metrics.muted_words.with_label_values(&[outcome]).inc();
        Ok(answer?.map_or_else(Vec::new, |answer| answer.words))
    }

    /// Returns the profile of the account as it is now; `None` for an unknown account, and where auth is Spring.
    pub async fn profile_of(&self, account: &Account) -> Result<Option<Profile>, Denied> {
        let request = LookupRequest {
            nickname: None,
            account: Some(account.as_str().to_owned()),
            other: None,
        };
        let answer = self.0.look_up(&self.0.lookup, &request).await?;
        Ok(answer.nickname.map(|nickname| Profile {
            nickname,
            introduction: answer.introduction,
        }))
    }

    /// Returns the nickname of the account; caches for a second that there is no such account.
    pub async fn lookup_account(&self, account: &Account) -> Result<Option<String>, Denied> {
        let cache = &self.0.nicknames;
        let request = LookupRequest {
            nickname: None,
            account: Some(account.as_str().to_owned()),
            other: None,
        };
        let nickname = cache
            .try_get_with_by_ref(account, async {
                let answer = self.0.look_up(&self.0.lookup, &request).await;
                answer.map(|answer| answer.nickname)
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

    async fn ask_about_block(&self, one: &Account, other: &Account) -> Option<bool> {
        let request = LookupRequest {
            nickname: None,
            account: Some(one.as_str().to_owned()),
            other: Some(other.as_str().to_owned()),
        };
        // Not among the look-ups of names, which are counted.
        let answer = self.call::<_, LookupResponse>(&self.blocks, &request).await;
        answer.ok()??.is_blocked
    }

    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        let request = LookupRequest {
            nickname: Some(nickname.to_owned()),
            account: None,
            other: None,
        };
        let answer = self.look_up(&self.bearers, &request).await?;
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
        let Ok(Ok(_slot)) = tokio::time::timeout(self.vouch.patience, self.vouch.slots.acquire()).await else {
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
        match tokio::time::timeout(self.vouch.patience, asked)
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

    async fn look_up(&self, call: &Call, request: &LookupRequest) -> Result<LookupResponse, Denied> {
        if !self.mixed.auth_answers_services() {
            return Ok(LookupResponse::default());
        }
        let answer = self.call(call, request).await;
        let answer = answer.map(Option::unwrap_or_default);
        let outcome = match &answer {
            Ok(LookupResponse {
                account: Some(_),
                nickname: Some(_),
                ..
            }) => "found",
            Ok(_) => "unknown",
            Err(_) => "unavailable",
        };
        self.metrics.lookups.with_label_values(&[outcome]).inc();
        answer
    }

    /// Returns `None` when auth does not know the call: a Spring auth has neither introspection nor look-ups.
    async fn call<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        call: &Call,
        request: &Q,
    ) -> Result<Option<A>, Denied> {
        if !self.breaker.permits() {
            self.metrics.rejected.inc();
            return Err(Denied::Unavailable);
        }
        // One deadline for the wait for a slot and the call together.
        let deadline = Instant::now() + self.settings.get().introspection_timeout.max(call.patience);
        // Waiting for a slot says nothing about auth, so the breaker does not count it as a failure.
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
                if matches!(error, CallError::Status(StatusCode::BAD_REQUEST)) {
                    // An auth of an earlier release does not know a field of the request, and answers other calls.
                    self.breaker.succeeded();
                } else {
                    self.breaker.failed();
                }
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    path = call.url.path(),
                    "auth unavailable"
                );
                Err(Denied::Unavailable)
            }
        }
    }

    /// Retries once when the connection broke: a pooled one may have been closed by an auth that was replaced. The calls are idempotent.
    async fn attempt<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        url: &Url,
        request: &Q,
    ) -> Result<Option<A>, CallError> {
        if self.faults.has(Fault::AuthAway, url.path()) {
            return std::future::pending().await;
        }
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
        let credential = if self.faults.has(Fault::WrongCredential, url.path()) {
            &HeaderValue::from_static("Bearer wrong")
        } else {
            &self.credential
        };
        let request = self
            .http
            .post(url.clone())
            .header(header::AUTHORIZATION, credential)
            .json(request);
        let answer = request.send().await.map_err(CallError::Transport)?;
        match answer.status() {
            StatusCode::OK => {}
            // The filter of a Spring auth refuses requests without an access token before it routes them.
            status @ (StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED)
                if !is_problem(answer.headers()) =>
            {
                tracing::warn!(
                    path = url.path(),
                    status = status.as_u16(),
                    "auth does not support this call; check access.auth-url"
                );
                return Ok(None);
            }
            other => return Err(CallError::Status(other)),
        }
        let body = answer.bytes().await.map_err(CallError::Transport)?;
        // The parser's error would quote the body in a log.
        serde_json::from_slice(&body).map(Some).map_err(|_| CallError::Answer)
    }
}

/// Returns whether our own auth refuses: an answer of a Spring auth has another content type.
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
