//! Notifications of sign-in providers about their accounts, checked after the signature.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::id_token::{InvalidIdToken, one_or_many};
use super::person::Identity;
use super::provider::Provider;

/// Seconds by which a provider's clock may differ from ours.
const LEEWAY: i64 = 60;

/// An event whose time has whole seconds counts from its end on: a session of the same second was open before it.
const LAST_NANOSECOND: i32 = 999_999_999;

/// Characters of the id of a notification.
const ID_CHARS: usize = 255;

/// Why a notification is refused. Labels only: none holds a value of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNotification {
    #[error("malformed")]
    Malformed,
    #[error("wrong issuer")]
    Issuer,
    #[error("wrong audience")]
    Audience,
    #[error("issued in the future")]
    NotYetValid,
    #[error("wrong credential")]
    Credential,
    #[error("wrong app id")]
    App,
    #[error("token: {0}")]
    Token(InvalidIdToken),
}

/// A change at the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The person's account there is deleted: it proves no identity any more.
    Deleted,
    /// The person no longer lets this app use the account, or the provider has revoked its sessions.
    Revoked,
    /// A change that no account here depends on: addresses, profiles, links, and unknown changes.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Unique at the provider; none where it gives no id.
    pub id: Option<String>,
    pub identity: Identity,
    pub change: Change,
    /// None where the provider does not say.
    pub happened_at: Option<Timestamp>,
}

/// The claims that Apple and Kakao have in common (RFC 8417, section 2.2).
#[derive(Deserialize)]
pub struct Claims {
    iss: String,
    #[serde(deserialize_with = "one_or_many")]
    aud: Vec<String>,
    iat: i64,
    jti: String,
    /// Kakao's subject; Apple has it in the event.
    sub: Option<String>,
    /// Seconds.
    toe: Option<i64>,
    events: Value,
}

impl Claims {
    fn check(&self, provider: Provider, audience: &[String], now: Timestamp) -> Result<(), InvalidNotification> {
        if !provider.issuers().contains(&self.iss.as_str()) {
            return Err(InvalidNotification::Issuer);
        }
        if self.aud.is_empty() || self.aud.iter().any(|aud| !audience.contains(aud)) {
            return Err(InvalidNotification::Audience);
        }
        if self.iat > now.as_second().saturating_add(LEEWAY) {
            return Err(InvalidNotification::NotYetValid);
        }
        if !(1..=ID_CHARS).contains(&self.jti.chars().count()) {
            return Err(InvalidNotification::Malformed);
        }
        Ok(())
    }
}

/// The event of Apple (<https://developer.apple.com/documentation/sign_in_with_apple/processing_changes_for_sign_in_with_apple_accounts>).
#[derive(Deserialize)]
struct AppleEvent {
    #[serde(rename = "type")]
    kind: String,
    sub: String,
    /// Milliseconds.
    event_time: Option<i64>,
}

/// Reads Apple's notification. `events` is an object as text.
pub fn of_apple(claims: Claims, audience: &[String], now: Timestamp) -> Result<Notification, InvalidNotification> {
    claims.check(Provider::Apple, audience, now)?;
    let event: Result<AppleEvent, _> = match &claims.events {
        Value::String(text) => serde_json::from_str(text),
        other => AppleEvent::deserialize(other),
    };
    let event = event.map_err(|_| InvalidNotification::Malformed)?;
    Ok(Notification {
        id: Some(claims.jti),
        identity: identity(Provider::Apple, &event.sub)?,
        change: match event.kind.as_str() {
            // Documents of Apple have both.
            "account-delete" | "account-deleted" => Change::Deleted,
            "consent-revoked" => Change::Revoked,
            _ => Change::Other,
        },
        happened_at: event.event_time.and_then(|time| Timestamp::from_millisecond(time).ok()),
    })
}

/// Reads Kakao's security event token: one event by its URI (<https://developers.kakao.com/docs/latest/en/kakaologin/callback>).
pub fn of_kakao(claims: Claims, audience: &[String], now: Timestamp) -> Result<Notification, InvalidNotification> {
    claims.check(Provider::Kakao, audience, now)?;
    let events: &Map<String, Value> = claims.events.as_object().ok_or(InvalidNotification::Malformed)?;
    let (uri, event) = events.iter().next().ok_or(InvalidNotification::Malformed)?;
    let subject = claims.sub.as_deref().or_else(|| event["subject"]["sub"].as_str());
    let (_, kind) = uri.rsplit_once('/').ok_or(InvalidNotification::Malformed)?;
    Ok(Notification {
        identity: identity(Provider::Kakao, subject.ok_or(InvalidNotification::Malformed)?)?,
        change: match kind {
            "account-purged" => Change::Deleted,
            "user-unlinked"
            | "token-revoked"
            | "tokens-revoked"
            | "session-revoked"
            | "sessions-revoked"
            | "credential-change"
            | "account-credential-change-required"
            | "account-disabled" => Change::Revoked,
            _ => Change::Other,
        },
        happened_at: claims
            .toe
            .and_then(|second| Timestamp::new(second, LAST_NANOSECOND).ok()),
        id: Some(claims.jti),
    })
}

/// Returns what Kakao's unlink webhook reports, by its `referrer_type`.
pub fn of_kakao_unlink(user_id: &str, referrer_type: &str) -> Result<Notification, InvalidNotification> {
    Ok(Notification {
        id: None,
        identity: identity(Provider::Kakao, user_id)?,
        change: match referrer_type {
            "ACCOUNT_DELETE" | "FORCED_ACCOUNT_DELETE" => Change::Deleted,
            _ => Change::Revoked,
        },
        happened_at: None,
    })
}

fn identity(provider: Provider, subject: &str) -> Result<Identity, InvalidNotification> {
    Identity::known(provider, subject).map_err(|_| InvalidNotification::Malformed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn read(provider: Provider, claims: Value) -> Result<Notification, InvalidNotification> {
        let claims: Claims = serde_json::from_value(claims).map_err(|_| InvalidNotification::Malformed)?;
        let (audience, now) = (["app".to_owned()], Timestamp::from_second(NOW).unwrap());
        match provider {
            Provider::Apple => of_apple(claims, &audience, now),
            _ => of_kakao(claims, &audience, now),
        }
    }

    fn apple(events: &Value) -> Value {
        json!({"iss": "https://appleid.apple.com", "aud": "app", "iat": NOW, "jti": "n1", "events": events})
    }

    #[test]
    fn apples_events_are_an_object_as_text() {
        for (kind, change) in [
            ("account-delete", Change::Deleted),
            ("consent-revoked", Change::Revoked),
            ("email-disabled", Change::Other),
            ("email-enabled", Change::Other),
            ("a-new-kind", Change::Other),
        ] {
            let event =
                json!({"type": kind, "sub": "kim", "event_time": NOW * 1000, "email": "x@privaterelay.appleid.com"});
            for events in [json!(event.to_string()), event] {
                let notification = read(Provider::Apple, apple(&events)).unwrap();
                assert_eq!(notification.change, change, "{kind}");
                assert_eq!(notification.happened_at, Timestamp::from_second(NOW).ok());
                assert_eq!(notification.id.as_deref(), Some("n1"));
            }
        }
    }

    #[test]
    fn kakaos_events_are_named_by_their_uri() {
        let event = |kind: &str| {
            let uri = format!("https://schemas.openid.net/secevent/oauth/event-type/{kind}");
            let subject = json!({"subject": {"subject_type": "iss-sub", "iss": "https://kauth.kakao.com", "sub": "7"}});
            json!({"iss": "https://kauth.kakao.com", "aud": "app", "iat": NOW, "jti": "n1", "toe": NOW, "events": {uri: subject}})
        };
        let unlinked = read(Provider::Kakao, event("user-unlinked")).unwrap();
        assert_eq!(unlinked.change, Change::Revoked);
        assert!(unlinked.happened_at.unwrap() > Timestamp::from_millisecond(NOW * 1000 + 999).unwrap());
        assert_eq!(
            read(Provider::Kakao, event("tokens-revoked")).unwrap().change,
            Change::Revoked
        );
        assert_eq!(
            read(Provider::Kakao, event("account-purged")).unwrap().change,
            Change::Deleted
        );
        assert_eq!(
            read(Provider::Kakao, event("user-linked")).unwrap().change,
            Change::Other
        );
        let mut by_claim = event("account-purged");
        by_claim["sub"] = json!("8");
        assert_eq!(
            read(Provider::Kakao, by_claim).unwrap().identity.subject.as_deref(),
            Some("8")
        );
        let mut none = event("account-purged");
        none["events"] = json!({});
        assert_eq!(read(Provider::Kakao, none).unwrap_err(), InvalidNotification::Malformed);
    }

    #[test]
    fn wrong_claims_are_refused() {
        let event = json!({"type": "consent-revoked", "sub": "kim"});
        for (name, value, reason) in [
            ("iss", json!("https://kauth.kakao.com"), InvalidNotification::Issuer),
            ("aud", json!("other"), InvalidNotification::Audience),
            ("aud", json!(["app", "other"]), InvalidNotification::Audience),
            ("iat", json!(NOW + 61), InvalidNotification::NotYetValid),
            ("jti", json!(""), InvalidNotification::Malformed),
            ("jti", json!("7".repeat(256)), InvalidNotification::Malformed),
            ("events", json!("{"), InvalidNotification::Malformed),
            ("events", Value::Null, InvalidNotification::Malformed),
            (
                "events",
                json!({"type": "consent-revoked", "sub": ""}),
                InvalidNotification::Malformed,
            ),
        ] {
            let mut claims = apple(&event);
            claims[name] = value.clone();
            assert_eq!(read(Provider::Apple, claims).unwrap_err(), reason, "{name}: {value}");
        }
    }

    #[test]
    fn a_deleted_account_at_kakao_is_more_than_an_unlinked_one() {
        let change = |kind| of_kakao_unlink("7", kind).unwrap().change;
        assert_eq!(change("ACCOUNT_DELETE"), Change::Deleted);
        assert_eq!(change("FORCED_ACCOUNT_DELETE"), Change::Deleted);
        assert_eq!(change("UNLINK_FROM_APPS"), Change::Revoked);
        assert!(of_kakao_unlink("", "ACCOUNT_DELETE").is_err());
    }
}
