//! The Apple Push Notification service, with a provider token.
//!
//! <https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns> and
//! <https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns>.

use std::time::Duration;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::Mutex;
use reqwest::{Client, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sosohappy_common::Context;
use sosohappy_events::EventId;

use super::PushError;
use super::http::{Answer, client};
use super::payload::bounded;
use crate::domain::PushMessage;
use crate::settings::ApnsSettings;

/// APNs refuses tokens older than 60 minutes, and new ones more often than every 20 minutes.
const RENEW_AFTER: SignedDuration = SignedDuration::from_mins(45);
const RENEW_AT_MOST: SignedDuration = SignedDuration::from_mins(20);

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: i64,
}

#[derive(Clone)]
struct ProviderToken {
    token: SecretString,
    issued_at: Timestamp,
}

pub struct Apns {
    client: Client,
    url: Url,
    settings: ApnsSettings,
    key: EncodingKey,
    context: Context,
    token: Mutex<Option<ProviderToken>>,
}

impl std::fmt::Debug for Apns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apns")
            .field("topic", &self.settings.topic)
            .finish_non_exhaustive()
    }
}

impl Apns {
    /// A request fails after `timeout`, its answer included.
    pub fn new(settings: &ApnsSettings, timeout: Duration, context: &Context) -> anyhow::Result<Self> {
        let key = EncodingKey::from_ec_pem(settings.key.expose_secret().as_bytes())
            .ok()
            .context("push.apns.key: no P-256 key in PEM form")?;
        for (name, value) in [
            ("key-id", &settings.key_id),
            ("team-id", &settings.team_id),
            ("topic", &settings.topic),
        ] {
            anyhow::ensure!(!value.is_empty(), "push.apns.{name}: needed beside push.apns.key");
        }
        let url: Url = (*settings.url).clone();
        Ok(Self {
            client: client(&url, timeout)?,
            url,
            settings: settings.clone(),
            key,
            context: context.clone(),
            token: Mutex::new(None),
        })
    }

    pub async fn push(&self, device: &str, event: EventId, message: &PushMessage) -> Result<(), PushError> {
        let body = bounded(message, |message| payload(event, message));
        let token = self.token(None)?;
        let answer = self.send(&token, device, event, message, &body).await?;
        let reason = answer.json::<Reason>();
        if answer.status != StatusCode::FORBIDDEN || reason.reason != "ExpiredProviderToken" {
            return judge(&answer, &reason);
        }
        // Our clock may differ from Apple's: once with a new token, if the old one may be replaced already.
        let renewed = self.token(Some(&token))?;
        if renewed.issued_at == token.issued_at {
            return Err(PushError::Credential(reason.reason));
        }
        let answer = self.send(&renewed, device, event, message, &body).await?;
        judge(&answer, &answer.json())
    }

    async fn send(
        &self,
        token: &ProviderToken,
        device: &str,
        event: EventId,
        message: &PushMessage,
        body: &str,
    ) -> Result<Answer, PushError> {
        let url = self
            .url
            .join(&format!("/3/device/{device}"))
            .map_err(PushError::unavailable)?;
        let Headers {
            push_type,
            priority,
            collapse,
        } = Headers::of(event, message);
        let request = self
            .client
            .post(url)
            .bearer_auth(token.token.expose_secret())
            .header("apns-id", event.to_string())
            .header("apns-topic", &self.settings.topic)
            .header("apns-push-type", push_type)
            .header("apns-priority", priority)
            .header("apns-collapse-id", collapse)
            .body(body.to_owned());
        let response = request.send().await.map_err(PushError::unavailable)?;
        Ok(Answer::read(response, self.context.clock.now()).await)
    }

    /// Returns the current provider token; a new one where it is old, or was found expired and may be replaced.
    fn token(&self, expired: Option<&ProviderToken>) -> Result<ProviderToken, PushError> {
        let mut cached = self.token.lock();
        let now = self.context.clock.now();
        if let Some(known) = &*cached {
            let is_expired = expired.is_some_and(|expired| expired.issued_at == known.issued_at);
            let life = if is_expired { RENEW_AT_MOST } else { RENEW_AFTER };
            // A clock that was set back makes tokens from the future, which Apple does not take either.
            if now.duration_since(known.issued_at).abs() < life {
                return Ok(known.clone());
            }
        }
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.settings.key_id.clone());
        let claims = Claims {
            iss: &self.settings.team_id,
            iat: now.as_second(),
        };
        let token = jsonwebtoken::encode(&header, &claims, &self.key)
            .map_err(|_| PushError::Credential("the key does not sign".to_owned()))?;
        let token = ProviderToken {
            token: token.into(),
            issued_at: now,
        };
        *cached = Some(token.clone());
        Ok(token)
    }
}

#[derive(Deserialize, Default)]
struct Reason {
    #[serde(default)]
    reason: String,
    /// Of 410: milliseconds since the epoch, from when on the token is no longer valid.
    timestamp: Option<i64>,
}

fn judge(answer: &Answer, reason: &Reason) -> Result<(), PushError> {
    let refused = || format!("{} {}", answer.status.as_u16(), reason.reason);
    match (answer.status.as_u16(), reason.reason.as_str()) {
        (200, _) => Ok(()),
        (400, "BadDeviceToken") => Err(PushError::Gone { since: None }),
        (400, "DeviceTokenNotForTopic") => Err(PushError::ForeignToken),
        // The connection was idle, and is closed.
        (400, "IdleTimeout") => Err(answer.unavailable()),
        // Settings of ours that are wrong for every push.
        (400, "BadTopic" | "MissingTopic" | "TopicDisallowed" | "InvalidPushType") | (401 | 403, _) => {
            Err(PushError::Credential(refused()))
        }
        (410, _) => Err(PushError::Gone {
            since: reason
                .timestamp
                .and_then(|millis| Timestamp::from_millisecond(millis).ok()),
        }),
        (400 | 404 | 405 | 413, _) => Err(PushError::Refused(refused())),
        _ => Err(answer.unavailable()),
    }
}

/// The headers of APNs that depend on the message.
pub struct Headers {
    pub push_type: &'static str,
    pub priority: &'static str,
    pub collapse: String,
}

impl Headers {
    /// A push of the type `background` has priority 5, and neither alert, sound nor badge: the number on the icon is a push of its own.
    pub fn of(event: EventId, message: &PushMessage) -> Self {
        match message {
            PushMessage::Alert(text) => Self {
                push_type: "alert",
                priority: "10",
                collapse: text.collapse.clone().unwrap_or_else(|| event.to_string()),
            },
            PushMessage::Handled { .. } => Self {
                push_type: "background",
                priority: "5",
                collapse: event.to_string(),
            },
            PushMessage::Badge(_) => Self {
                push_type: "alert",
                priority: "5",
                collapse: "badge".to_owned(),
            },
        }
    }
}

/// Returns the `aps` dictionary.
pub fn aps(message: &PushMessage) -> Value {
    match message {
        PushMessage::Alert(text) => {
            let mut aps = json!({
                "alert": { "title": text.title, "body": text.body },
                "sound": "default",
                "thread-id": text.thread,
                "category": text.category,
                "interruption-level": "active",
            });
            if let Some(badge) = text.badge {
                aps["badge"] = json!(badge);
            }
            aps
        }
        PushMessage::Handled { .. } => json!({ "content-available": 1 }),
        PushMessage::Badge(badge) => json!({ "badge": badge }),
    }
}

fn payload(event: EventId, message: &PushMessage) -> Value {
    let mut payload = json!({ "aps": aps(message) });
    for (name, value) in message.data(event) {
        payload[name] = json!(value);
    }
    payload
}
