//! ID tokens of sign-in providers: their signatures, and the providers' public keys.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use sosohappy_common::clock::Clock;

use crate::domain::id_token::{Expected, IdTokenClaims, InvalidIdToken, Nonce, Proven};
use crate::domain::provider::Provider;
use crate::error::Error;
use crate::providers::read_body;
use crate::settings::{Proof, ProviderSettings, SignIn};

/// The longest ID token, in bytes.
const TOKEN_BYTES: usize = 16 * 1024;

/// The longest answer with a provider's keys, in bytes; they are about 3,000.
const ANSWER_BYTES: usize = 256 * 1024;

/// How long a provider may take to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Keys are fetched again when they are older than this.
const FRESH: Duration = Duration::from_hours(1);

/// An unknown `kid` fetches the keys at most this often: the header of a token is not signed, anybody can make one up.
const UNKNOWN_KID_INTERVAL: Duration = Duration::from_secs(30);

/// After a failure the provider is not asked for this long.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// Why a provider's keys could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("unavailable")]
    Unavailable(#[source] reqwest::Error),
    #[error("status {0}")]
    Status(http::StatusCode),
    #[error("answer longer than {ANSWER_BYTES} bytes")]
    TooLong,
    #[error("not a JSON Web Key Set")]
    Json,
    #[error("no usable key")]
    NoKeys,
}

/// Checks ID tokens of every provider.
#[derive(Debug)]
pub struct IdTokens {
    clock: Arc<dyn Clock>,
    providers: [(Provider, ProviderKeys); 3],
}

impl IdTokens {
    /// Returns an error where no HTTP client can be made.
    pub fn of(settings: &SignIn, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let http = sosohappy_common::tls::client_builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        for provider in Provider::ALL {
            if settings.proof_of(provider) == Proof::None {
                tracing::warn!(
                    provider = provider.as_str(),
                    "sign-in without proof: a client that knows an address and its provider id can sign in as that person"
                );
            }
        }
        let keys = |provider| {
            let own = settings.provider(provider);
            (provider, ProviderKeys::new(own, http.clone(), clock.clone()))
        };
        Ok(Self {
            clock: clock.clone(),
            providers: Provider::ALL.map(keys),
        })
    }

    /// Returns what a token proves.
    ///
    /// # Errors
    /// [`Error::InvalidIdToken`]; [`Error::ProviderUnavailable`] where no keys of the provider are known and it does not answer.
    pub async fn verify(&self, provider: Provider, token: Option<&str>, nonce: Option<&str>) -> Result<Proven, Error> {
        let settings = &self.keys_of(provider)?.settings;
        self.check(provider, token, &settings.audience, Nonce::OfClient(nonce))
            .await
    }

    /// Returns what a token proves that Apple has sent itself, in exchange for an authorization code of this client.
    ///
    /// # Errors
    /// As [`IdTokens::verify`].
    pub async fn verify_exchanged(&self, token: &str, client_id: &str) -> Result<Proven, Error> {
        let audience = [client_id.to_owned()];
        self.check(Provider::Apple, Some(token), &audience, Nonce::NotNeeded)
            .await
    }

    fn keys_of(&self, provider: Provider) -> Result<&ProviderKeys, Error> {
        let keys = self.providers.iter().find(|(of, _)| *of == provider);
        keys.map(|(_, keys)| keys).ok_or(Error::UnknownProvider)
    }

    async fn check(
        &self,
        provider: Provider,
        token: Option<&str>,
        audience: &[String],
        nonce: Nonce<'_>,
    ) -> Result<Proven, Error> {
        let token = token.filter(|token| !token.is_empty()).ok_or(InvalidIdToken::Missing)?;
        let keys = self.keys_of(provider)?;
        let claims: IdTokenClaims = self.read(provider, token).await?;
        let expected = Expected {
            provider,
            audience,
            nonce,
            trusts_address: keys.settings.trust_address,
            now: self.clock.now(),
        };
        Ok(claims.check(expected)?)
    }

    /// Returns the claims of a token that this provider has signed. The claims themselves are not checked.
    ///
    /// # Errors
    /// As [`IdTokens::verify`].
    pub async fn read<C: DeserializeOwned>(&self, provider: Provider, token: &str) -> Result<C, Error> {
        if token.len() > TOKEN_BYTES {
            return Err(InvalidIdToken::Malformed.into());
        }
        // jsonwebtoken knows no algorithm `none`: such a header cannot be read.
        let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidIdToken::Malformed)?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(InvalidIdToken::Algorithm.into());
        }
        // RFC 7515, section 4.1.11: a token with an extension that must be understood and is not is invalid; an empty list is invalid, too.
        if header.crit.is_some() {
            return Err(InvalidIdToken::Critical.into());
        }
        let kid = header.kid.ok_or(InvalidIdToken::UnknownKey)?;
        let keys = self.keys_of(provider)?;
        let key = keys.find(provider, &kid).await?;
        if key.algorithm != header.alg {
            return Err(InvalidIdToken::Algorithm.into());
        }
        // Callers check the claims, on the clock of the context.
        let mut validation = Validation::new(key.algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims = jsonwebtoken::decode::<C>(token, &key.key, &validation).map_err(|error| {
            if matches!(error.kind(), jsonwebtoken::errors::ErrorKind::InvalidSignature) {
                InvalidIdToken::Signature
            } else {
                InvalidIdToken::Malformed
            }
        })?;
        Ok(claims.claims)
    }
}

/// A provider's public keys, fetched when they are needed.
#[derive(Debug)]
struct ProviderKeys {
    settings: ProviderSettings,
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    cached: Mutex<Cached>,
    /// Held while the keys are fetched, so that concurrent sign-ins share one call.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Cached {
    keys: Arc<[ProviderKey]>,
    /// On the monotonic clock, as `failed_at`.
    fetched_at: Option<Duration>,
    failed_at: Option<Duration>,
}

#[derive(Debug, Clone)]
struct ProviderKey {
    kid: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// Result of looking a `kid` up in the cache.
enum Lookup {
    Found(ProviderKey),
    /// To be fetched; the known key if it is only old.
    Fetch(Option<ProviderKey>),
    Unknown,
    Unavailable,
}

impl ProviderKeys {
    fn new(settings: &ProviderSettings, http: reqwest::Client, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings: settings.clone(),
            http,
            clock,
            cached: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
        }
    }

    async fn find(&self, provider: Provider, kid: &str) -> Result<ProviderKey, Error> {
        if let Lookup::Found(key) = self.look_up(kid) {
            return Ok(key);
        }
        let _fetching = self.fetching.lock().await;
        // Another sign-in may have fetched the keys while this one waited.
        let known = match self.look_up(kid) {
            Lookup::Found(key) => return Ok(key),
            Lookup::Unknown => return Err(InvalidIdToken::UnknownKey.into()),
            Lookup::Unavailable => return Err(Error::ProviderUnavailable),
            Lookup::Fetch(known) => known,
        };
        match self.fetch().await {
            Ok(keys) => {
                let found = keys.iter().find(|key| key.kid == kid).cloned();
                *self.cached.lock() = Cached {
                    keys,
                    fetched_at: Some(self.clock.monotonic()),
                    failed_at: None,
                };
                found.ok_or_else(|| InvalidIdToken::UnknownKey.into())
            }
            Err(error) => {
                tracing::warn!(
                    provider = provider.as_str(),
                    error = &error as &dyn std::error::Error,
                    "failed to fetch provider keys"
                );
                self.cached.lock().failed_at = Some(self.clock.monotonic());
                known.ok_or(Error::ProviderUnavailable)
            }
        }
    }

    /// | key | keys fetched | a failure just now | |
    /// | --- | --- | --- | --- |
    /// | known | within the hour | | found |
    /// | known | before | yes | found: accounts can sign in during an outage of the provider |
    /// | known | before | no | fetch, and use the known key if that fails |
    /// | unknown | within 30 s | | unknown |
    /// | unknown | before, or never | yes | unavailable |
    /// | unknown | before, or never | no | fetch |
    fn look_up(&self, kid: &str) -> Lookup {
        let cached = self.cached.lock();
        let now = self.clock.monotonic();
        let is_within = |at: Option<Duration>, time| at.is_some_and(|at| now.saturating_sub(at) < time);
        let failed = is_within(cached.failed_at, RETRY_INTERVAL);
        let known = cached.keys.iter().find(|key| key.kid == kid).cloned();
        match known {
            Some(key) if failed || is_within(cached.fetched_at, FRESH) => Lookup::Found(key),
            Some(key) => Lookup::Fetch(Some(key)),
            None if is_within(cached.fetched_at, UNKNOWN_KID_INTERVAL) => Lookup::Unknown,
            None if failed => Lookup::Unavailable,
            None => Lookup::Fetch(None),
        }
    }

    async fn fetch(&self) -> Result<Arc<[ProviderKey]>, FetchError> {
        let unavailable = |error: reqwest::Error| FetchError::Unavailable(error.without_url());
        let request = self.http.get((*self.settings.keys_url).clone());
        let response = request.send().await.map_err(unavailable)?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = read_body(response, ANSWER_BYTES)
            .await
            .map_err(unavailable)?
            .ok_or(FetchError::TooLong)?;
        let set: JwkSet = serde_json::from_slice(&body).map_err(|_| FetchError::Json)?;
        let keys: Arc<[_]> = set.keys.iter().filter_map(ProviderKey::of).collect();
        if keys.is_empty() {
            return Err(FetchError::NoKeys);
        }
        Ok(keys)
    }
}

impl ProviderKey {
    /// Returns an RSA key for RS256 or a P-256 key for ES256; none for a key of another kind or use.
    fn of(jwk: &Jwk) -> Option<Self> {
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            _ => return None,
        };
        let common = &jwk.common;
        let is_for_signatures = common
            .public_key_use
            .as_ref()
            .is_none_or(|of| *of == PublicKeyUse::Signature);
        let fits = common.key_algorithm.as_ref().is_none_or(|of| *of == named);
        if !is_for_signatures || !fits {
            return None;
        }
        Some(Self {
            kid: common.key_id.clone()?,
            algorithm,
            key: DecodingKey::from_jwk(jwk).ok()?,
        })
    }
}
