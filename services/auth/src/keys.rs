//! The signing keys, and tokens made and read with them.

use std::collections::HashMap;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::Sha256;
use sosohappy_events::types::TokenDigest;

use crate::domain::claims::{Claims, Kind};
use crate::domain::legacy::{self, LegacyToken};
use crate::settings::SigningKey;

/// RFC 7518, section 3.2: a key is at least as long as the digest, which is 64 bytes for HS512.
pub const SECRET_BYTES: usize = 64;

/// Of an HMAC-SHA256.
pub const SEAL_BYTES: usize = 32;

/// Label for the derivation of sealing keys.
const SEALING: &[u8] = b"sosohappy/auth/seal";

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// The first key signs and seals, all verify.
pub struct Keyring {
    signing: (Header, EncodingKey),
    /// Derived from the signing keys, in the same order.
    sealing: Vec<Hmac<Sha256>>,
    verifying: HashMap<String, DecodingKey>,
    /// Of the legacy Spring auth, whose tokens name no key.
    legacy: Option<DecodingKey>,
    validation: Validation,
}

/// Claims of a token of the legacy Spring auth.
#[derive(Deserialize)]
struct LegacyClaims {
    sub: Kind,
    email: String,
    exp: i64,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring")
            .field("kids", &self.verifying.keys())
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// Those of the settings, and behind them the key that the replicas share through their database: it signs while the settings
    /// name none, and what it has signed stays good when they come to. Its name tells it from those of the settings.
    pub fn of(keys: &[SigningKey], stored: &[u8]) -> anyhow::Result<Self> {
        let keys = keys
            .iter()
            .map(|key| (key.kid.as_str(), key.secret.expose_secret().as_bytes()));
        Self::new(keys.chain([("stored", stored)]))
    }

    fn new<'k>(keys: impl IntoIterator<Item = (&'k str, &'k [u8])>) -> anyhow::Result<Self> {
        let mut signing = None;
        let mut sealing = Vec::new();
        let mut verifying = HashMap::new();
        for (kid, secret) in keys {
            ensure!(
                secret.len() >= SECRET_BYTES,
                "tokens.keys: the secret of {kid:?} is shorter than {SECRET_BYTES} bytes"
            );
            if verifying
                .insert(kid.to_owned(), DecodingKey::from_secret(secret))
                .is_some()
            {
                bail!("tokens.keys: {kid:?} is there twice");
            }
            // Separate keys: a seal never passes for a signature, nor a signature for a seal.
            let derived = mac(secret).chain_update(SEALING).finalize().into_bytes();
            sealing.push(mac(&derived));
            signing.get_or_insert_with(|| {
                let header = Header {
                    kid: Some(kid.to_owned()),
                    ..Header::new(Algorithm::HS512)
                };
                (header, EncodingKey::from_secret(secret))
            });
        }
        let Some(signing) = signing else {
            bail!("there is no signing key")
        };
        // Expiry is checked by the service's own clock and by the store.
        let mut validation = Validation::new(Algorithm::HS512);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        Ok(Self {
            signing,
            sealing,
            verifying,
            legacy: None,
            validation,
        })
    }

    /// Adds `tokens.legacy-key`; empty, there is none.
    pub fn with_legacy(mut self, secret: &SecretString) -> anyhow::Result<Self> {
        let text = secret.expose_secret();
        self.legacy = match text.strip_prefix("base64:") {
            _ if text.is_empty() => None,
            None => Some(DecodingKey::from_secret(text.as_bytes())),
            Some(text) => {
                let bytes = STANDARD.decode(text).ok().filter(|bytes| !bytes.is_empty());
                let bytes = bytes.context("tokens.legacy-key: what follows base64: is no Base64")?;
                Some(DecodingKey::from_secret(&bytes))
            }
        };
        Ok(self)
    }

    pub fn knows_legacy_tokens(&self) -> bool {
        self.legacy.is_some()
    }

    /// Reads a token of that kind which the legacy Spring auth has signed. Whether its account was taken over, and its session still
    /// lives, is for the store to say.
    pub fn read_legacy(&self, token: &str, kind: Kind) -> Option<LegacyToken> {
        let key = self.legacy.as_ref()?;
        // One that names a key is not of the legacy auth.
        if jsonwebtoken::decode_header(token).ok()?.kid.is_some() {
            return None;
        }
        let claims = jsonwebtoken::decode::<LegacyClaims>(token, key, &self.validation)
            .ok()?
            .claims;
        let (account, _) = legacy::account_of(&claims.email, None).ok()?;
        (claims.sub == kind).then_some(LegacyToken {
            account,
            digest: TokenDigest::of(token),
            expires_at: Timestamp::from_second(claims.exp).ok()?,
        })
    }

    /// The same claims give the same token for as long as the key stays in front.
    pub fn sign(&self, claims: &Claims) -> String {
        let (header, key) = &self.signing;
        jsonwebtoken::encode(header, claims, key).expect("plain claims and a symmetric key always make a token")
    }

    /// Seals bytes with the first key.
    pub fn seal(&self, bytes: &[u8]) -> [u8; SEAL_BYTES] {
        let key = self.sealing.first().expect("a key ring is not empty");
        key.clone().chain_update(bytes).finalize().into_bytes().into()
    }

    /// Returns whether one of the keys has sealed these bytes. Compares in constant time.
    pub fn has_sealed(&self, bytes: &[u8], seal: &[u8; SEAL_BYTES]) -> bool {
        let mut keys = self.sealing.iter();
        keys.any(|key| key.clone().chain_update(bytes).verify_slice(seal).is_ok())
    }

    /// The claims of a token of that kind that one of the keys has signed; whether it still lives is for the store to say.
    pub fn read(&self, token: &str, kind: Kind) -> Option<Claims> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        let key = self.verifying.get(&header.kid?)?;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &self.validation)
            .ok()?
            .claims;
        (claims.sub == kind).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use sosohappy_events::types::SessionId;

    use super::*;

    fn claims() -> Claims {
        let account = "kim@example.com+kakao".parse().unwrap();
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        Claims::access(&account, SessionId(0xabc), "00".repeat(16), at, at)
    }

    const STORED: [u8; SECRET_BYTES] = [7; SECRET_BYTES];

    fn keyring(keys: &[SigningKey]) -> Keyring {
        Keyring::of(keys, &STORED).unwrap()
    }

    fn secret(letter: &str) -> SigningKey {
        SigningKey {
            kid: letter.to_owned(),
            secret: letter.repeat(SECRET_BYTES).into(),
        }
    }

    #[test]
    fn a_token_is_what_was_signed_and_of_its_kind_only() {
        let keys = keyring(&[secret("a")]);
        let token = keys.sign(&claims());
        assert_eq!(keys.read(&token, Kind::AccessToken), Some(claims()));
        assert_eq!(keys.read(&token, Kind::RefreshToken), None);
        assert_eq!(keys.sign(&claims()), token, "the same claims give the same token");
    }

    #[test]
    fn an_old_key_verifies_until_it_is_taken_away() {
        let old = keyring(&[secret("a")]);
        let token = old.sign(&claims());
        let rotated = keyring(&[secret("b"), secret("a")]);
        assert_eq!(rotated.read(&token, Kind::AccessToken), Some(claims()));
        assert_ne!(rotated.sign(&claims()), token);
        let gone = keyring(&[secret("b")]);
        assert_eq!(gone.read(&token, Kind::AccessToken), None);
    }

    #[test]
    fn the_stored_key_signs_alone_and_verifies_beside_others() {
        let stored = keyring(&[]);
        let token = stored.sign(&claims());
        let beside = keyring(&[secret("a")]);
        assert_eq!(beside.read(&token, Kind::AccessToken), Some(claims()));
        assert_eq!(stored.read(&beside.sign(&claims()), Kind::AccessToken), None);
    }

    fn legacy_token(algorithm: Algorithm, kid: Option<&str>, claims: &serde_json::Value, secret: &str) -> String {
        let header = Header {
            kid: kid.map(str::to_owned),
            ..Header::new(algorithm)
        };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[test]
    fn a_legacy_token_is_read_with_the_legacy_key_only() {
        let claims = serde_json::json!({"sub": "RefreshToken", "email": "kim@example.com+kakao", "exp": 1_900_000_000});
        let token = legacy_token(Algorithm::HS512, None, &claims, "spring");
        let none = keyring(&[secret("a")]);
        assert!(none.read_legacy(&token, Kind::RefreshToken).is_none());

        let keys = keyring(&[secret("a")]).with_legacy(&"spring".into()).unwrap();
        let read = keys.read_legacy(&token, Kind::RefreshToken).unwrap();
        assert_eq!(read.account.as_str(), "kim@example.com+kakao");
        assert_eq!(read.expires_at.as_second(), 1_900_000_000);
        assert!(keys.read_legacy(&token, Kind::AccessToken).is_none());
        assert!(keys.read(&token, Kind::RefreshToken).is_none());
        let encoded = keyring(&[]).with_legacy(&"base64:c3ByaW5n".into()).unwrap();
        assert!(encoded.read_legacy(&token, Kind::RefreshToken).is_some());

        let forged = [
            legacy_token(Algorithm::HS512, None, &claims, "summer"),
            legacy_token(Algorithm::HS256, None, &claims, "spring"),
            legacy_token(Algorithm::HS512, Some("a"), &claims, "spring"),
            keys.sign(&super::tests::claims()),
            String::new(),
        ];
        for token in forged {
            assert!(keys.read_legacy(&token, Kind::RefreshToken).is_none(), "{token}");
        }
        let hidden = keyring(&[])
            .with_legacy(&"base64:hush!".into())
            .unwrap_err()
            .to_string();
        assert!(!hidden.contains("hush"), "{hidden}");
    }

    #[test]
    fn nothing_forged_is_read() {
        let keys = keyring(&[secret("a")]);
        let other = Keyring::new([("a", "b".repeat(SECRET_BYTES).as_bytes())]).unwrap();
        let weaker = Header {
            kid: Some("a".to_owned()),
            ..Header::new(Algorithm::HS256)
        };
        let key = EncodingKey::from_secret("a".repeat(SECRET_BYTES).as_bytes());
        let none = "eyJhbGciOiJub25lIiwia2lkIjoiYSJ9.e30.";
        let forged = [
            other.sign(&claims()),
            jsonwebtoken::encode(&weaker, &claims(), &key).unwrap(),
            none.into(),
            String::new(),
        ];
        for token in forged {
            assert_eq!(keys.read(&token, Kind::AccessToken), None, "{token}");
        }
    }

    #[test]
    fn weak_doubled_and_missing_keys_are_refused_without_showing_them() {
        let short = SigningKey {
            kid: "a".to_owned(),
            secret: "hush".into(),
        };
        let error = Keyring::of(&[short], &STORED).unwrap_err().to_string();
        assert!(error.contains("\"a\"") && !error.contains("hush"), "{error}");
        assert!(Keyring::of(&[secret("a"), secret("a")], &STORED).is_err());
        assert!(Keyring::of(&[secret("stored")], &STORED).is_err());
        assert!(Keyring::of(&[], b"short").is_err());
    }
}
