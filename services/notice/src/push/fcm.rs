//! Firebase Cloud Messaging, HTTP v1: `projects.messages.send` with an OAuth 2.0 token of a service account.
//!
//! Errors: <https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode>. The token: RFC 7523 section 2.1.

use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sosohappy_common::Context;
use sosohappy_events::EventId;
use tokio::sync::Mutex;

use super::PushError;
use super::apns::{Headers, aps};
use super::http::{Answer, client};
use super::payload::bounded;
use crate::domain::PushMessage;
use crate::settings::FcmSettings;

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
/// The longest life that Google takes for the assertion.
const ASSERTION_LIFE: i64 = 3600;
/// A token is renewed this long before it expires.
const EARLY: Duration = Duration::from_mins(5);
/// FCM asks for at least a minute after 429 without `Retry-After`.
const QUOTA_PAUSE: Duration = Duration::from_mins(1);

/// The fields of a service account's key file that are needed.
#[derive(Deserialize)]
struct ServiceAccount {
    project_id: String,
    client_email: String,
    private_key: SecretString,
    private_key_id: Option<String>,
    token_uri: Url,
}

#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

#[derive(Deserialize)]
struct Grant {
    access_token: SecretString,
    expires_in: u64,
}

struct AccessToken {
    token: SecretString,
    renew_at: Timestamp,
}

pub struct Fcm {
    client: Client,
    token_client: Client,
    send_url: Url,
    account: ServiceAccount,
    key: EncodingKey,
    context: Context,
    /// The lock makes one request of many that find no token.
    token: Mutex<Option<AccessToken>>,
}

impl std::fmt::Debug for Fcm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fcm")
            .field("project", &self.account.project_id)
            .finish_non_exhaustive()
    }
}

impl Fcm {
    /// A request fails after `timeout`, its answer included.
    pub fn new(settings: &FcmSettings, timeout: Duration, context: &Context) -> anyhow::Result<Self> {
        // The parser's error could quote the key.
        let account: ServiceAccount = serde_json::from_str(settings.service_account.expose_secret())
            .ok()
            .context("push.fcm.service-account: not the JSON of a service account's key")?;
        let key = EncodingKey::from_rsa_pem(account.private_key.expose_secret().as_bytes())
            .ok()
            .context("push.fcm.service-account: private_key is no RSA key in PEM form")?;
        let send_url = settings
            .url
            .join(&format!("/v1/projects/{}/messages:send", account.project_id))
            .context("push.fcm.url")?;
        Ok(Self {
            client: client(&send_url, timeout)?,
            token_client: client(&account.token_uri, timeout)?,
            send_url,
            account,
            key,
            context: context.clone(),
            token: Mutex::new(None),
        })
    }

    pub async fn push(&self, device: &str, event: EventId, sent: &PushMessage) -> Result<(), PushError> {
        let body = bounded(sent, |sent| message(device, event, sent));
        let token = self.token(None).await?;
        let answer = self.send(&token, &body).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Self::judge(&answer);
        }
        // The token may have been revoked before its time: once with a new one.
        let token = self.token(Some(&token)).await?;
        let answer = self.send(&token, &body).await?;
        Self::judge(&answer)
    }

    async fn send(&self, token: &SecretString, body: &str) -> Result<Answer, PushError> {
        let request = self
            .client
            .post(self.send_url.clone())
            .bearer_auth(token.expose_secret())
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body.to_owned());
        let response = request.send().await.map_err(PushError::unavailable)?;
        Ok(Answer::read(response, self.context.clock.now()).await)
    }

    /// Returns the cached token, unless it is about to expire or is the one that was rejected.
    async fn token(&self, rejected: Option<&SecretString>) -> Result<SecretString, PushError> {
        let mut cached = self.token.lock().await;
        let now = self.context.clock.now();
        if let Some(known) = &*cached
            && known.renew_at > now
            && rejected.is_none_or(|rejected| rejected.expose_secret() != known.token.expose_secret())
        {
            return Ok(known.token.clone());
        }
        *cached = None;
        let grant = self.request_token(now).await?;
        let life = Duration::from_secs(grant.expires_in).saturating_sub(EARLY);
        let token = grant.access_token.clone();
        *cached = Some(AccessToken {
            token: grant.access_token,
            renew_at: now.checked_add(life).unwrap_or(now),
        });
        Ok(token)
    }

    async fn request_token(&self, now: Timestamp) -> Result<Grant, PushError> {
        let claims = Assertion {
            iss: &self.account.client_email,
            scope: SCOPE,
            aud: self.account.token_uri.as_str(),
            iat: now.as_second(),
            exp: now.as_second() + ASSERTION_LIFE,
        };
        let mut header = Header::new(Algorithm::RS256);
        header.kid.clone_from(&self.account.private_key_id);
        let assertion = jsonwebtoken::encode(&header, &claims, &self.key)
            .map_err(|_| PushError::Credential("the service account's key does not sign".to_owned()))?;
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", assertion.as_str()),
        ];
        let request = self.token_client.post(self.account.token_uri.clone()).form(&form);
        let response = request.send().await.map_err(PushError::unavailable)?;
        let answer = Answer::read(response, now).await;
        match answer.status {
            StatusCode::OK => serde_json::from_slice(&answer.body)
                .map_err(|_| PushError::unavailable(anyhow::anyhow!("the answer of the token endpoint is no token"))),
            // `invalid_grant`, `invalid_client`: the key was deleted, or our clock is wrong.
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(PushError::Credential(
                format!("the token endpoint answered {}", answer.status),
            )),
            _ => Err(answer.unavailable()),
        }
    }

    fn judge(answer: &Answer) -> Result<(), PushError> {
        if answer.status.is_success() {
            return Ok(());
        }
        let problem: Problem = answer.json();
        let code = problem.code();
        match (answer.status.as_u16(), code) {
            (_, "UNREGISTERED") => Err(PushError::Gone { since: None }),
            (_, "SENDER_ID_MISMATCH") => Err(PushError::ForeignToken),
            // Also THIRD_PARTY_AUTH_ERROR: FCM's own credential at APNs.
            (401 | 403, _) => Err(PushError::Credential(format!("{} {code}", answer.status))),
            (400, _) if problem.is_about("message.token") || problem.is_about("message.fid") => {
                Err(PushError::Gone { since: None })
            }
            (400 | 413, _) => Err(PushError::Refused(format!("{} {code}", answer.status))),
            (429, _) => Err(PushError::Unavailable {
                retry_after: answer.retry_after.or(Some(QUOTA_PAUSE)),
                source: anyhow::anyhow!("quota exceeded"),
            }),
            _ => Err(answer.unavailable()),
        }
    }
}

#[derive(Deserialize, Default)]
struct Problem {
    #[serde(default)]
    error: ProblemBody,
}

#[derive(Deserialize, Default)]
struct ProblemBody {
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Detail {
    error_code: Option<String>,
    #[serde(default)]
    field_violations: Vec<Violation>,
}

#[derive(Deserialize)]
struct Violation {
    #[serde(default)]
    field: String,
}

impl Problem {
    fn code(&self) -> &str {
        let mut codes = self.error.details.iter().rev();
        codes
            .find_map(|detail| detail.error_code.as_deref())
            .unwrap_or_default()
    }

    fn is_about(&self, field: &str) -> bool {
        let violations = self.error.details.iter().flat_map(|detail| &detail.field_violations);
        violations.into_iter().any(|violation| violation.field == field)
    }
}

/// Returns the field of a message that names the device: a Firebase installation id has 22 characters of base64url, and a registration token is
/// longer.
fn target_field(device: &str) -> &'static str {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if device.len() == 22 && device.bytes().all(is_base64url) {
        "fid"
    } else {
        "token"
    }
}

fn message(device: &str, event: EventId, sent: &PushMessage) -> Value {
    let Headers {
        push_type,
        priority,
        collapse,
    } = Headers::of(event, sent);
    let mut aps = aps(sent);
    let mut message = json!({ target_field(device): device });
    if let PushMessage::Alert(text) = sent {
        // FCM makes the alert of APNs from the notification.
        if let Value::Object(fields) = &mut aps {
            fields.remove("alert");
        }
        message["notification"] = json!({ "title": text.title, "body": text.body });
        message["android"] = json!({ "notification": { "tag": collapse } });
        if let Some(badge) = text.badge {
            message["android"]["notification"]["notification_count"] = json!(badge);
        }
    }
    let data = sent.data(event);
    if !data.is_empty() {
        let data = data.into_iter().map(|(name, value)| (name.to_owned(), json!(value)));
        message["data"] = Value::Object(data.collect());
    }
    message["apns"] = json!({
        "headers": {
            "apns-id": event.to_string(),
            "apns-push-type": push_type,
            "apns-priority": priority,
            "apns-collapse-id": collapse,
        },
        "payload": { "aps": aps },
    });
    json!({ "message": message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_id_is_distinguished_from_a_registration_token() {
        assert_eq!(target_field("cKx1_8bTQ-WcVb0n4rW2aZ"), "fid");
        assert_eq!(
            target_field("cKx1_8bTQ-WcVb0n4rW2aZ:APA91bHun4MxP5egoKMwt2KZFBaFUH"),
            "token"
        );
        assert_eq!(target_field("fcm-registration:token"), "token");
    }
}
