//! Calls of sign-in providers: Apple's token exchange and revocation, and Kakao's unlink.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::settings::{AppleSettings, KakaoSettings, Settings};

/// How long a provider may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer, in bytes.
const ANSWER_BYTES: usize = 64 * 1024;

/// How long a client secret is valid; Apple allows six months.
const SECRET_LIFETIME: Duration = Duration::from_mins(5);

/// Apple's `aud` of client secrets.
const APPLE_AUDIENCE: &str = "https://appleid.apple.com";

/// Kakao's error code for a person who is not linked to the app.
const NOT_LINKED: i64 = -101;

/// Characters of an error code of a provider that are kept.
const CODE_CHARS: usize = 40;

/// Why a provider did not do what it was asked for. Holds no value of the request.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    #[error("{0} is not set")]
    NotConfigured(&'static str),
    #[error("unavailable")]
    Unavailable(#[source] reqwest::Error),
    /// With the provider's error code: `invalid_grant` (RFC 6749, section 5.2), or Kakao's number.
    #[error("status {status}, error {code:?}")]
    Refused { status: http::StatusCode, code: String },
    #[error("invalid response")]
    InvalidResponse,
    #[error("the client secret cannot be signed")]
    Signature,
}

impl ProviderError {
    /// Whether the authorization code or token of the request is invalid, expired or revoked.
    pub fn is_invalid_grant(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "invalid_grant")
    }
}

/// Apple's answer to an authorization code.
#[derive(Deserialize)]
pub struct Exchanged {
    pub refresh_token: SecretString,
    pub id_token: String,
}

#[derive(Debug)]
pub struct Providers {
    http: reqwest::Client,
    apple: Option<Apple>,
    kakao: KakaoSettings,
}

struct Apple {
    settings: AppleSettings,
    key: EncodingKey,
}

impl std::fmt::Debug for Apple {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apple")
            .field("client_id", &self.settings.client_id)
            .finish_non_exhaustive()
    }
}

/// The claims of a client secret.
#[derive(Serialize)]
struct ClientSecret<'s> {
    iss: &'s str,
    sub: &'s str,
    aud: &'static str,
    iat: i64,
    exp: i64,
}

/// OAuth has a text, Kakao a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Refusal {
    OAuth { error: String },
    Kakao { code: i64 },
}

impl Providers {
    /// Returns an error where Apple's key is set and invalid, or what it needs beside it is missing.
    pub fn of(settings: &Settings) -> anyhow::Result<Self> {
        let http = sosohappy_common::tls::client_builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            apple: Apple::of(&settings.apple)?,
            kakao: settings.kakao.clone(),
        })
    }

    /// Returns the client id of the app at Apple; none where codes are not exchanged.
    pub fn apple_client(&self) -> Option<&str> {
        self.apple.as_ref().map(|apple| apple.settings.client_id.as_str())
    }

    pub fn unlinks_kakao(&self) -> bool {
        !self.kakao.admin_key.expose_secret().is_empty()
    }

    /// Exchanges an authorization code for a refresh token (<https://developer.apple.com/documentation/signinwithapplerestapi/generate-and-validate-tokens>).
    pub async fn exchange_apple(&self, code: &SecretString, now: Timestamp) -> Result<Exchanged, ProviderError> {
        let apple = self.apple()?;
        let secret = apple.client_secret(now)?;
        let request = self.http.post((*apple.settings.token_url).clone()).form(&[
            ("client_id", apple.settings.client_id.as_str()),
            ("client_secret", &secret),
            ("code", code.expose_secret()),
            ("grant_type", "authorization_code"),
        ]);
        let body = send(request).await?;
        let exchanged: Exchanged = serde_json::from_slice(&body).map_err(|_| ProviderError::InvalidResponse)?;
        if exchanged.refresh_token.expose_secret().is_empty() {
            return Err(ProviderError::InvalidResponse);
        }
        Ok(exchanged)
    }

    /// Revokes a refresh token (<https://developer.apple.com/documentation/signinwithapplerestapi/revoke-tokens>). Apple answers 200 for one
    /// that is revoked already.
    pub async fn revoke_apple(&self, token: &SecretString, now: Timestamp) -> Result<(), ProviderError> {
        let apple = self.apple()?;
        let secret = apple.client_secret(now)?;
        let request = self.http.post((*apple.settings.revoke_url).clone()).form(&[
            ("client_id", apple.settings.client_id.as_str()),
            ("client_secret", &secret),
            ("token", token.expose_secret()),
            ("token_type_hint", "refresh_token"),
        ]);
        match send(request).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_invalid_grant() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Unlinks a person from the app (<https://developers.kakao.com/docs/latest/en/kakaologin/rest-api#unlink>). One who is not linked counts as
    /// unlinked.
    pub async fn unlink_kakao(&self, subject: &SecretString) -> Result<(), ProviderError> {
        if !self.unlinks_kakao() {
            return Err(ProviderError::NotConfigured("kakao.admin-key"));
        }
        let authorization = format!("KakaoAK {}", self.kakao.admin_key.expose_secret());
        let request = self
            .http
            .post((*self.kakao.unlink_url).clone())
            .header(http::header::AUTHORIZATION, authorization)
            .form(&[("target_id_type", "user_id"), ("target_id", subject.expose_secret())]);
        match send(request).await {
            Ok(_) => Ok(()),
            Err(ProviderError::Refused { code, .. }) if code == NOT_LINKED.to_string() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn apple(&self) -> Result<&Apple, ProviderError> {
        self.apple
            .as_ref()
            .ok_or(ProviderError::NotConfigured("apple.private-key"))
    }
}

impl Apple {
    fn of(settings: &AppleSettings) -> anyhow::Result<Option<Self>> {
        if settings.private_key.expose_secret().is_empty() {
            return Ok(None);
        }
        let key = EncodingKey::from_ec_pem(settings.private_key.expose_secret().as_bytes())
            .ok()
            .context("apple.private-key: no P-256 key in PEM form")?;
        for (name, value) in [
            ("client-id", &settings.client_id),
            ("team-id", &settings.team_id),
            ("key-id", &settings.key_id),
        ] {
            ensure!(!value.is_empty(), "apple.{name}: required beside apple.private-key");
        }
        Ok(Some(Self {
            settings: settings.clone(),
            key,
        }))
    }

    /// Returns a client secret: a JWT signed with ES256
    /// (<https://developer.apple.com/documentation/accountorganizationaldatasharing/creating-a-client-secret>).
    fn client_secret(&self, now: Timestamp) -> Result<String, ProviderError> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.settings.key_id.clone());
        let claims = ClientSecret {
            iss: &self.settings.team_id,
            sub: &self.settings.client_id,
            aud: APPLE_AUDIENCE,
            iat: now.as_second(),
            exp: now.as_second().saturating_add(SECRET_LIFETIME.as_secs().cast_signed()),
        };
        jsonwebtoken::encode(&header, &claims, &self.key).map_err(|_| ProviderError::Signature)
    }
}

async fn send(request: RequestBuilder) -> Result<Vec<u8>, ProviderError> {
    let unavailable = |error: reqwest::Error| ProviderError::Unavailable(error.without_url());
    let response = request.send().await.map_err(unavailable)?;
    let status = response.status();
    let body = read_body(response, ANSWER_BYTES)
        .await
        .map_err(unavailable)?
        .ok_or(ProviderError::InvalidResponse)?;
    if status == http::StatusCode::OK {
        return Ok(body);
    }
    let code = match serde_json::from_slice(&body) {
        Ok(Refusal::OAuth { error }) => error.chars().take(CODE_CHARS).collect(),
        Ok(Refusal::Kakao { code }) => code.to_string(),
        Err(_) => String::new(),
    };
    Err(ProviderError::Refused { status, code })
}

/// Reads the body of a response; none where it is longer than `most` bytes.
pub async fn read_body(mut response: reqwest::Response, most: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}
