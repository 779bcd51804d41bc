//! `{cipher}` values in Spring's symmetric form.
//!
//! Source: Spring Security's `Encryptors.delux`/`AesBytesEncryptor` as Spring Cloud Config uses it: hex of a random
//! 16-byte IV followed by AES-256-CBC with PKCS#5 padding; the key is PBKDF2-HMAC-SHA1 of the password with 1,024 rounds and 256
//! bits, the salt the bytes of hex `deadbeef` unless set.

use aes::Aes256;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use sosohappy_common::clock::Entropy;

/// What marks a value as encrypted.
pub const PREFIX: &str = "{cipher}";

const ROUNDS: u32 = 1_024;
const IV_BYTES: usize = 16;

/// The fleet's symmetric key.
#[derive(Clone)]
pub struct Cipher {
    key: [u8; 32],
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher(..)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    #[error("the salt is not hex")]
    Salt,
    #[error("the value is not a cipher text of this key")]
    NotOurs,
}

impl Cipher {
    /// Derives the key; takes about a millisecond.
    pub fn new(password: &str, salt_hex: &str) -> Result<Self, CipherError> {
        let salt = hex::decode(salt_hex).map_err(|_| CipherError::Salt)?;
        let key = pbkdf2::pbkdf2_hmac_array::<sha1::Sha1, 32>(password.as_bytes(), &salt, ROUNDS);
        Ok(Self { key })
    }

    /// Lower-case hex of IV and cipher text, without the prefix.
    #[must_use]
    pub fn encrypt(&self, plain: &str, entropy: &dyn Entropy) -> String {
        let mut iv = [0; IV_BYTES];
        entropy.fill(&mut iv);
        self.encrypt_with(plain, iv)
    }

    fn encrypt_with(&self, plain: &str, iv: [u8; IV_BYTES]) -> String {
        let encryptor = cbc::Encryptor::<Aes256>::new(&self.key.into(), &iv.into());
        let text = encryptor.encrypt_padded_vec::<Pkcs7>(plain.as_bytes());
        hex::encode(iv) + &hex::encode(text)
    }

    /// Takes the hex with or without the prefix.
    pub fn decrypt(&self, value: &str) -> Result<String, CipherError> {
        let value = value.strip_prefix(PREFIX).unwrap_or(value).trim();
        let bytes = hex::decode(value).map_err(|_| CipherError::NotOurs)?;
        let (iv, text) = bytes.split_first_chunk::<IV_BYTES>().ok_or(CipherError::NotOurs)?;
        let decryptor = cbc::Decryptor::<Aes256>::new(&self.key.into(), &(*iv).into());
        let plain = decryptor
            .decrypt_padded_vec::<Pkcs7>(text)
            .map_err(|_| CipherError::NotOurs)?;
        String::from_utf8(plain).map_err(|_| CipherError::NotOurs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sosohappy_common::clock::SystemEntropy;

    use super::*;

    fn cipher() -> Cipher {
        Cipher::new("correct horse", "deadbeef").unwrap()
    }

    #[test]
    fn another_key_or_a_damaged_text_is_refused() {
        let text = cipher().encrypt("s3cret", &SystemEntropy);
        assert_eq!(cipher().decrypt(&format!("{PREFIX}{text}")), Ok("s3cret".to_owned()));
        assert_ne!(
            Cipher::new("other", "deadbeef").unwrap().decrypt(&text),
            Ok("s3cret".to_owned())
        );
        for broken in ["", "zz", "00", &text[..40], &text[2..]] {
            assert_eq!(cipher().decrypt(broken), Err(CipherError::NotOurs), "{broken}");
        }
        assert_eq!(Cipher::new("x", "not hex").unwrap_err(), CipherError::Salt);
    }

    proptest! {
        #[test]
        fn what_was_encrypted_is_read_again(plain in "\\PC{0,64}") {
            prop_assert_eq!(cipher().decrypt(&cipher().encrypt(&plain, &SystemEntropy)), Ok(plain));
        }
    }
}
