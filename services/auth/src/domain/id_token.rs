//! The claims of a provider's ID token (`OpenID` Connect Core 1.0, section 2), checked after its signature.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::provider::Provider;

/// Seconds by which a provider's clock may differ from ours.
const LEEWAY: i64 = 60;

/// Characters of a subject that the store can hold.
const SUBJECT_CHARS: usize = 255;

/// Hex digits of SHA-256.
const HASH_DIGITS: usize = 64;

/// Why an ID token proves nothing. Labels only: none holds a value of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdToken {
    #[error("missing")]
    Missing,
    #[error("malformed")]
    Malformed,
    #[error("algorithm not allowed")]
    Algorithm,
    #[error("critical extension not known")]
    Critical,
    #[error("unknown key")]
    UnknownKey,
    #[error("wrong signature")]
    Signature,
    #[error("wrong issuer")]
    Issuer,
    #[error("wrong audience")]
    Audience,
    #[error("expired")]
    Expired,
    #[error("issued in the future")]
    NotYetValid,
    #[error("nonce missing or wrong")]
    Nonce,
    #[error("wrong subject")]
    Subject,
}

/// Why the address of an ID token does not count as the person's. Labels only: none holds a value of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnverifiedAddress {
    #[error("the ID token has no address")]
    Missing,
    /// As in tokens of Kakao.
    #[error("the ID token does not say whether its address is verified, and trust-address of the provider is off")]
    Unsaid,
    #[error("the ID token says that its address is not verified")]
    Denied,
    #[error("the ID token has another address")]
    Other,
}

#[derive(Deserialize)]
pub struct IdTokenClaims {
    iss: String,
    #[serde(deserialize_with = "one_or_many")]
    aud: Vec<String>,
    sub: String,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
    email: Option<String>,
    /// Apple sends the text `"true"` as well as the truth value, Kakao nothing.
    #[serde(default, deserialize_with = "truth")]
    email_verified: Option<bool>,
}

/// The identity that an ID token proves.
#[derive(Clone, PartialEq, Eq)]
pub struct Proven {
    pub subject: String,
    /// The address, if the provider has verified it.
    pub verified_email: Result<String, UnverifiedAddress>,
}

impl std::fmt::Debug for Proven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proven").finish_non_exhaustive()
    }
}

/// Binds a token to the sign-in that shows it.
#[derive(Debug, Clone, Copy)]
pub enum Nonce<'e> {
    /// The raw nonce of the client.
    OfClient(Option<&'e str>),
    /// The provider has answered a single-use code with the token.
    NotNeeded,
}

/// Expectations that a token has to meet.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'e> {
    pub provider: Provider,
    pub audience: &'e [String],
    pub nonce: Nonce<'e>,
    /// Whether an address counts as verified where the token does not say whether it is.
    pub trusts_address: bool,
    pub now: Timestamp,
}

impl IdTokenClaims {
    pub fn check(self, expected: Expected<'_>) -> Result<Proven, InvalidIdToken> {
        if !expected.provider.issuers().contains(&self.iss.as_str()) {
            return Err(InvalidIdToken::Issuer);
        }
        // Each audience is ours: a token for another client beside us could come from that client.
        if self.aud.is_empty() || self.aud.iter().any(|audience| !expected.audience.contains(audience)) {
            return Err(InvalidIdToken::Audience);
        }
        let now = expected.now.as_second();
        if self.exp <= now.saturating_sub(LEEWAY) {
            return Err(InvalidIdToken::Expired);
        }
        let latest = now.saturating_add(LEEWAY);
        if self.iat > latest || self.nbf.is_some_and(|nbf| nbf > latest) {
            return Err(InvalidIdToken::NotYetValid);
        }
        match (&self.nonce, expected.nonce) {
            (_, Nonce::NotNeeded) => {}
            (Some(claimed), Nonce::OfClient(Some(raw))) if fits(expected.provider, claimed, raw) => {}
            _ => return Err(InvalidIdToken::Nonce),
        }
        if !(1..=SUBJECT_CHARS).contains(&self.sub.chars().count()) {
            return Err(InvalidIdToken::Subject);
        }
        let verified_email = match (self.email, self.email_verified) {
            (None, _) => Err(UnverifiedAddress::Missing),
            (Some(email), Some(true)) => Ok(email),
            (Some(_), Some(false)) => Err(UnverifiedAddress::Denied),
            (Some(email), None) if expected.trusts_address => Ok(email),
            (Some(_), None) => Err(UnverifiedAddress::Unsaid),
        };
        Ok(Proven {
            subject: self.sub,
            verified_email,
        })
    }
}

/// Apple's clients put the hash of the nonce into the request. Those of Google and Kakao put in what the app gives them, the nonce or
/// its hash. A claim that can be a hash is compared as one only: who has stolen the token reads the hash in it, but not the nonce.
fn fits(provider: Provider, claimed: &str, raw: &str) -> bool {
    if raw.is_empty() {
        return false;
    }
    let hashed = hex::encode(Sha256::digest(raw));
    let is_hash = claimed.as_bytes().ct_eq(hashed.as_bytes());
    let takes_raw = provider != Provider::Apple && !can_be_hash(claimed);
    let is_raw = claimed.as_bytes().ct_eq(raw.as_bytes()) & Choice::from(u8::from(takes_raw));
    (is_hash | is_raw).into()
}

/// Whether a text is 64 hex digits, as SHA-256 is written.
fn can_be_hash(text: &str) -> bool {
    text.len() == HASH_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Reads a text or a list of texts.
pub fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Audience::deserialize(deserializer)? {
        Audience::One(one) => vec![one],
        Audience::Many(many) => many,
    })
}

/// Reads `true` and `"true"` as true, any other value but null as false.
fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(value.map(|value| value == true || value == "true"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn claims() -> Value {
        json!({
            "iss": "https://accounts.google.com", "aud": "app", "sub": "7", "exp": NOW + 600, "iat": NOW,
            "nonce": "raw", "email": "kim@example.com", "email_verified": true,
        })
    }

    fn check_as(provider: Provider, claims: Value) -> Result<Proven, InvalidIdToken> {
        check_where(provider, claims, false)
    }

    fn check_where(provider: Provider, claims: Value, trusts_address: bool) -> Result<Proven, InvalidIdToken> {
        let claims: IdTokenClaims = serde_json::from_value(claims).map_err(|_| InvalidIdToken::Malformed)?;
        claims.check(Expected {
            provider,
            audience: &["app".to_owned(), "web".to_owned()],
            nonce: Nonce::OfClient(Some("raw")),
            trusts_address,
            now: Timestamp::from_second(NOW).unwrap(),
        })
    }

    fn check(changes: &Value) -> Result<Proven, InvalidIdToken> {
        let mut claims = claims();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        check_as(Provider::Google, claims)
    }

    #[test]
    fn valid_claims_prove_subject_and_verified_address() {
        let proven = check(&json!({})).unwrap();
        assert_eq!(proven.subject, "7");
        assert_eq!(proven.verified_email.as_deref(), Ok("kim@example.com"));
        assert!(check(&json!({"iss": "accounts.google.com"})).is_ok());
        assert!(check(&json!({"aud": ["app", "web"]})).is_ok());
        assert!(check(&json!({"exp": NOW - 59, "iat": NOW + 60})).is_ok());
    }

    #[test]
    fn an_address_counts_only_if_verified() {
        let of = |claims: &Value, trusts_address| {
            let proven = check_where(Provider::Google, claims.clone(), trusts_address).unwrap();
            proven.verified_email.map(|_| ())
        };
        let mut without = claims();
        without.as_object_mut().unwrap().remove("email_verified");
        let with = |verified: Value| {
            let mut claims = claims();
            claims["email_verified"] = verified;
            claims
        };
        for (claims, told, trusted) in [
            (with(json!(true)), Ok(()), Ok(())),
            (with(json!("true")), Ok(()), Ok(())),
            (
                with(json!(false)),
                Err(UnverifiedAddress::Denied),
                Err(UnverifiedAddress::Denied),
            ),
            (
                with(json!("false")),
                Err(UnverifiedAddress::Denied),
                Err(UnverifiedAddress::Denied),
            ),
            (
                with(json!(1)),
                Err(UnverifiedAddress::Denied),
                Err(UnverifiedAddress::Denied),
            ),
            (with(Value::Null), Err(UnverifiedAddress::Unsaid), Ok(())),
            (without, Err(UnverifiedAddress::Unsaid), Ok(())),
        ] {
            assert_eq!(of(&claims, false), told, "{claims}");
            assert_eq!(of(&claims, true), trusted, "{claims}");
        }
        let proven = check(&json!({"email": null})).unwrap();
        assert_eq!(proven.verified_email, Err(UnverifiedAddress::Missing));
    }

    #[test]
    fn wrong_claims_are_refused() {
        for (changes, reason) in [
            (json!({"iss": "https://appleid.apple.com"}), InvalidIdToken::Issuer),
            (json!({"iss": "https://accounts.google.com/"}), InvalidIdToken::Issuer),
            (json!({"aud": "other"}), InvalidIdToken::Audience),
            (json!({"aud": []}), InvalidIdToken::Audience),
            (json!({"aud": ["app", "other"]}), InvalidIdToken::Audience),
            (json!({"exp": NOW - 60}), InvalidIdToken::Expired),
            (json!({"iat": NOW + 61}), InvalidIdToken::NotYetValid),
            (json!({"nbf": NOW + 61}), InvalidIdToken::NotYetValid),
            (json!({"nonce": "other"}), InvalidIdToken::Nonce),
            (json!({"nonce": ""}), InvalidIdToken::Nonce),
            (json!({"nonce": null}), InvalidIdToken::Nonce),
            (json!({"sub": ""}), InvalidIdToken::Subject),
            (json!({"sub": "7".repeat(256)}), InvalidIdToken::Subject),
            (json!({"sub": null}), InvalidIdToken::Malformed),
            (json!({"exp": "tomorrow"}), InvalidIdToken::Malformed),
        ] {
            assert_eq!(check(&changes).unwrap_err(), reason, "{changes}");
        }
    }

    #[test]
    fn apple_takes_the_hash_of_the_nonce_only() {
        let of_apple = |nonce: &str| {
            let mut claims = claims();
            claims["iss"] = json!("https://account.apple.com");
            claims["nonce"] = json!(nonce);
            check_as(Provider::Apple, claims)
        };
        let hashed = hex::encode(Sha256::digest("raw"));
        assert!(of_apple(&hashed).is_ok());
        assert_eq!(of_apple("raw").unwrap_err(), InvalidIdToken::Nonce);
        assert!(check(&json!({"nonce": hashed})).is_ok(), "Google takes both");
    }

    #[test]
    fn a_claim_that_can_be_a_hash_is_no_raw_nonce() {
        let hashed = hex::encode(Sha256::digest("raw"));
        for provider in Provider::ALL {
            assert!(fits(provider, &hashed, "raw"), "{provider:?}");
            for stolen in [hashed.clone(), hashed.to_uppercase(), "0".repeat(64)] {
                assert!(!fits(provider, &stolen, &stolen), "{provider:?} {stolen}");
            }
        }
        for raw in ["0".repeat(63), "0".repeat(65), "g".repeat(64)] {
            for provider in [Provider::Google, Provider::Kakao] {
                assert!(fits(provider, &raw, &raw), "{provider:?} {raw}");
            }
        }
    }
}
