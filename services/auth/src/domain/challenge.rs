//! Proof that the client that signs in is the one that asked for the code.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Hex SHA-512 of the verifier, which the app sends.
    Sha512,
    /// RFC 7636, section 4.2: unpadded base64url SHA-256.
    S256,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha512 => "SHA512",
            Self::S256 => "S256",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        [Self::Sha512, Self::S256]
            .into_iter()
            .find(|method| method.as_str() == name)
    }
}

/// The challenge of a request for a code; the sign-in shows its verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    pub method: Method,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChallenge {
    #[error("codeChallengeMethod is SHA512 or S256")]
    Method,
    #[error("codeChallenge is the SHA-512 of the verifier in 64 to 128 hex digits")]
    Sha512,
    #[error("codeChallenge is the SHA-256 of the verifier in 43 characters of unpadded base64url")]
    S256,
}

/// The legacy Spring services wrote the digest as a number padded to this many hex digits: zeros at the front beyond them are missing.
const NUMBER_WIDTH: usize = 64;

impl Challenge {
    pub fn parse(text: &str, method: Option<&str>) -> Result<Self, InvalidChallenge> {
        let method = match method {
            None | Some("") => Method::Sha512,
            Some(name) => Method::parse(name).ok_or(InvalidChallenge::Method)?,
        };
        match method {
            Method::Sha512 => {
                let fits =
                    (NUMBER_WIDTH..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let text = text.to_ascii_lowercase();
                if fits {
                    Ok(Self { method, text })
                } else {
                    Err(InvalidChallenge::Sha512)
                }
            }
            Method::S256 => {
                let fits = URL_SAFE_NO_PAD.decode(text).is_ok_and(|digest| digest.len() == 32);
                let text = text.to_owned();
                if fits {
                    Ok(Self { method, text })
                } else {
                    Err(InvalidChallenge::S256)
                }
            }
        }
    }

    /// Whether this verifier is the one the challenge was made of.
    pub fn is_answered_by(&self, verifier: &str) -> bool {
        match self.method {
            Method::Sha512 => {
                let plain = hex::encode(Sha512::digest(verifier));
                let number = as_number(&plain);
                same(&self.text, &plain) | same(&self.text, number)
            }
            Method::S256 => same(&self.text, &URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))),
        }
    }
}

/// The same digits without the zeros at the front, but at least [`NUMBER_WIDTH`] of them.
fn as_number(hex: &str) -> &str {
    let zeros = hex.len() - hex.trim_start_matches('0').len();
    &hex[zeros.min(hex.len() - NUMBER_WIDTH)..]
}

fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its SHA-512 begins with two zero digits.
    fn verifier_with_leading_zeros() -> (String, String) {
        (0..)
            .map(|number| format!("verifier-{number}"))
            .map(|verifier| (hex::encode(Sha512::digest(&verifier)), verifier))
            .find_map(|(digest, verifier)| digest.starts_with("00").then_some((verifier, digest)))
            .expect("one in 256 has them")
    }

    #[test]
    fn the_apps_hex_digest_is_answered_by_its_verifier_only() {
        let digest = hex::encode(Sha512::digest("abcdefghijklmnopqrst"));
        let challenge = Challenge::parse(&digest, None).unwrap();
        assert!(challenge.is_answered_by("abcdefghijklmnopqrst"));
        assert!(!challenge.is_answered_by("abcdefghijklmnopqrsu"));
        assert!(!challenge.is_answered_by(""));
        assert!(!challenge.is_answered_by(&digest));
    }

    #[test]
    fn zeros_at_the_front_may_be_there_or_not() {
        let (verifier, digest) = verifier_with_leading_zeros();
        for text in [digest.as_str(), digest.trim_start_matches('0')] {
            assert!(
                Challenge::parse(text, None).unwrap().is_answered_by(&verifier),
                "{text}"
            );
        }
        assert!(
            !Challenge::parse(&digest[1..], None).unwrap().is_answered_by(&verifier),
            "neither form"
        );
    }

    #[test]
    fn a_number_keeps_its_width() {
        let hex = format!("{}1{}", "0".repeat(90), "f".repeat(37));
        assert_eq!(as_number(&hex).len(), NUMBER_WIDTH);
        assert_eq!(as_number(&"a".repeat(128)).len(), 128);
    }

    #[test]
    fn s256_is_rfc_7636() {
        // Appendix B of the RFC.
        let challenge = Challenge::parse("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", Some("S256")).unwrap();
        assert!(challenge.is_answered_by("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        assert!(!challenge.is_answered_by("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXK"));
    }

    #[test]
    fn challenges_that_are_no_digest_are_refused() {
        let digest = "a".repeat(128);
        for text in ["", "abc", &"g".repeat(128), &"a".repeat(129), &"a".repeat(63), "가"] {
            assert_eq!(Challenge::parse(text, None), Err(InvalidChallenge::Sha512), "{text}");
        }
        assert_eq!(Challenge::parse(&digest, Some("S256")), Err(InvalidChallenge::S256));
        assert_eq!(Challenge::parse(&digest, Some("plain")), Err(InvalidChallenge::Method));
    }
}
