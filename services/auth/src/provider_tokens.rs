//! Refresh tokens of sign-in providers and payloads of external calls at rest: AES-256-GCM, bound to the account or call, under keys that rotate.

use std::collections::BTreeMap;

use aes_gcm::aead::{Aead as _, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use anyhow::{bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use sosohappy_common::clock::Entropy;

use crate::settings::SigningKey;

/// The name of the key that the replicas share through their database.
const STORED: &str = "stored";

/// Label for the derivation of the encryption keys.
const PURPOSE: &[u8] = b"sosohappy/auth/provider-token";

const VERSION: &str = "v1";
const NONCE_BYTES: usize = 12;

/// The fewest bytes of a secret.
const SECRET_BYTES: usize = 32;

/// The first key seals, all open.
pub struct ProviderTokens {
    sealing: String,
    keys: BTreeMap<String, Aes256Gcm>,
}

impl std::fmt::Debug for ProviderTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProviderTokens")
            .field("kids", &self.keys.keys())
            .finish_non_exhaustive()
    }
}

impl ProviderTokens {
    /// Takes the keys of `tokens.provider-keys`, and behind them the key that was made up at the first start.
    pub fn of(keys: &[SigningKey], stored: &[u8]) -> anyhow::Result<Self> {
        let given = keys
            .iter()
            .map(|key| (key.kid.as_str(), key.secret.expose_secret().as_bytes()));
        let mut sealing = None;
        let mut ciphers = BTreeMap::new();
        for (kid, secret) in given.chain([(STORED, stored)]) {
            ensure!(
                secret.len() >= SECRET_BYTES && !kid.contains(':'),
                "tokens.provider-keys: {kid:?} needs a secret of at least {SECRET_BYTES} bytes and a kid without a colon"
            );
            let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(secret).expect("HMAC takes any key");
            mac.update(PURPOSE);
            let cipher = Aes256Gcm::new(&mac.finalize().into_bytes());
            if ciphers.insert(kid.to_owned(), cipher).is_some() {
                bail!("tokens.provider-keys: {kid:?} is there twice");
            }
            sealing.get_or_insert_with(|| kid.to_owned());
        }
        Ok(Self {
            sealing: sealing.unwrap_or_default(),
            keys: ciphers,
        })
    }

    /// Returns `v1:<kid>:<base64 of nonce and ciphertext>`.
    pub fn seal(&self, bound_to: &str, token: &str, entropy: &dyn Entropy) -> String {
        let mut nonce = [0; NONCE_BYTES];
        entropy.fill(&mut nonce);
        let payload = Payload {
            msg: token.as_bytes(),
            aad: bound_to.as_bytes(),
        };
        let sealed = self.keys[&self.sealing]
            .encrypt(&nonce.into(), payload)
            .expect("a token is far shorter than the cipher's limit");
        let bytes = [nonce.as_slice(), &sealed].concat();
        format!("{VERSION}:{}:{}", self.sealing, STANDARD_NO_PAD.encode(bytes))
    }

    /// Returns the token; none where the key is unknown or the text is bound to something else.
    pub fn open(&self, bound_to: &str, sealed: &str) -> Option<SecretString> {
        let (version, rest) = sealed.split_once(':')?;
        let (kid, text) = rest.split_once(':')?;
        let bytes = STANDARD_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload {
            msg: sealed,
            aad: bound_to.as_bytes(),
        };
        let cipher = self.keys.get(kid).filter(|_| version == VERSION)?;
        let plain = cipher.decrypt(&(*nonce).into(), payload).ok()?;
        String::from_utf8(plain).ok().map(SecretString::from)
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_common::clock::SystemEntropy;

    use super::*;

    const STORED_KEY: [u8; 64] = [7; 64];

    fn key(kid: &str) -> SigningKey {
        SigningKey {
            kid: kid.to_owned(),
            secret: kid.repeat(64).into(),
        }
    }

    #[test]
    fn a_sealed_token_opens_for_its_account_under_any_kept_key() {
        let kim = "kim@example.com+apple";
        let old = ProviderTokens::of(&[key("a")], &STORED_KEY).unwrap();
        let sealed = old.seal(kim, "r.apple", &SystemEntropy);
        assert!(sealed.starts_with("v1:a:") && !sealed.contains("apple"), "{sealed}");
        let rotated = ProviderTokens::of(&[key("b"), key("a")], &STORED_KEY).unwrap();
        let opened = rotated.open(kim, &sealed).map(|token| token.expose_secret().to_owned());
        assert_eq!(opened.as_deref(), Some("r.apple"));
        assert!(rotated.open("lee@example.com+apple", &sealed).is_none());
        assert!(
            ProviderTokens::of(&[], &STORED_KEY)
                .unwrap()
                .open(kim, &sealed)
                .is_none()
        );
    }

    #[test]
    fn weak_and_doubled_keys_are_refused() {
        let short = SigningKey {
            kid: "a".to_owned(),
            secret: "hush".into(),
        };
        let error = ProviderTokens::of(&[short], &STORED_KEY).unwrap_err().to_string();
        assert!(!error.contains("hush"), "{error}");
        assert!(ProviderTokens::of(&[key("a"), key("a")], &STORED_KEY).is_err());
        assert!(ProviderTokens::of(&[key("stored")], &STORED_KEY).is_err());
    }
}
