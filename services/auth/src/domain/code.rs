//! Authorize codes that cost no row: a code holds its challenge and its expiry, sealed by an HMAC of auth.
//!
//! The text is unpadded base64url of `expires_at` (milliseconds, 8 bytes), `id` (16 random bytes), the challenge's method (1 byte)
//! and text, and the seal (32 bytes). Only the ids of used codes are stored.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::challenge::{Challenge, Method};
use crate::keys::{Keyring, SEAL_BYTES};

/// Identifies a used code.
pub type CodeId = [u8; 16];

/// The longest text of a code: a challenge of 128 digits.
const MOST_CHARS: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Code {
    pub id: CodeId,
    pub challenge: Challenge,
    /// To the millisecond.
    pub expires_at: Timestamp,
}

impl Code {
    /// Returns the sealed text of the code.
    pub fn seal(&self, keys: &Keyring) -> String {
        let mut bytes = self.expires_at.as_millisecond().to_be_bytes().to_vec();
        bytes.extend(self.id);
        bytes.push(match self.challenge.method {
            Method::Sha512 => 0,
            Method::S256 => 1,
        });
        bytes.extend(self.challenge.text.as_bytes());
        let seal = keys.seal(&bytes);
        bytes.extend(seal);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a text of [`Code::seal`] that any key of the ring has sealed; none for everything else.
    pub fn open(text: &str, keys: &Keyring) -> Option<Self> {
        if text.len() > MOST_CHARS {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (bytes, seal) = bytes.split_last_chunk::<SEAL_BYTES>()?;
        if !keys.has_sealed(bytes, seal) {
            return None;
        }
        let (expires_at, rest) = bytes.split_first_chunk()?;
        let (id, rest) = rest.split_first_chunk()?;
        let (method, challenge) = rest.split_first()?;
        Some(Self {
            id: *id,
            challenge: Challenge {
                method: match method {
                    0 => Method::Sha512,
                    1 => Method::S256,
                    _ => return None,
                },
                text: String::from_utf8(challenge.to_vec()).ok()?,
            },
            expires_at: Timestamp::from_millisecond(i64::from_be_bytes(*expires_at)).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SECRET_BYTES;
    use crate::settings::SigningKey;

    fn keys(secrets: &[&str]) -> Keyring {
        let keys: Vec<_> = secrets
            .iter()
            .map(|kid| SigningKey {
                kid: (*kid).to_owned(),
                secret: kid.repeat(SECRET_BYTES).into(),
            })
            .collect();
        Keyring::of(&keys, &[7; SECRET_BYTES]).unwrap()
    }

    fn code() -> Code {
        Code {
            id: [9; 16],
            challenge: Challenge::parse(&"0a".repeat(64), None).unwrap(),
            expires_at: Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
        }
    }

    #[test]
    fn a_code_is_read_as_it_was_sealed() {
        let keys = keys(&["a"]);
        let text = code().seal(&keys);
        assert!(text.len() <= MOST_CHARS, "{}", text.len());
        assert_eq!(Code::open(&text, &keys), Some(code()));
        let short = Code {
            challenge: Challenge::parse("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", Some("S256")).unwrap(),
            ..code()
        };
        assert_eq!(Code::open(&short.seal(&keys), &keys), Some(short));
    }

    #[test]
    fn a_code_is_good_while_its_key_is_in_the_ring() {
        let text = code().seal(&keys(&["a"]));
        assert_eq!(Code::open(&text, &keys(&["b", "a"])), Some(code()));
        assert_eq!(Code::open(&text, &keys(&["b"])), None);
    }

    #[test]
    fn nothing_that_was_changed_is_a_code() {
        let keys = keys(&["a"]);
        let text = code().seal(&keys);
        for index in 0..text.len() {
            for other in ["A", "B", "_"] {
                let mut changed = text.clone();
                changed.replace_range(index..=index, other);
                assert!(
                    changed == text || Code::open(&changed, &keys).is_none(),
                    "{index}: {changed}"
                );
            }
        }
        for wrong in [
            "",
            "made-up",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}="),
            &"A".repeat(100_000),
        ] {
            assert_eq!(Code::open(wrong, &keys), None, "{wrong}");
        }
    }
}
