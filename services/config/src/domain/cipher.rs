//! The two forms of an encrypted value.
//!
//! Spring's form, source: Spring Security's `AesBytesEncryptor` as `Encryptors.text`/`delux` make it in CBC and Spring Cloud Config uses it:
//! hex of a random 16-byte IV followed by AES-256-CBC with PKCS#5 padding; the key is PBKDF2-HMAC-SHA1 of the password with 1,024 rounds
//! and 256 bits, the salt the bytes of hex `deadbeef` unless set. It does not detect tampering.
//!
//! Our form: URL-safe base64 without padding of a random 12-byte nonce, AES-256-GCM text and tag; the key is PBKDF2-HMAC-SHA256 of the
//! password, 100,000 rounds, the same salt.

use std::sync::OnceLock;

use aes::Aes256;
use aes_gcm::aead::Aead as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use sosohappy_common::clock::Entropy;

/// The prefix of an encrypted value.
pub const PREFIX: &str = "{cipher}";

const SPRING_ROUNDS: u32 = 1_024;
const GCM_ROUNDS: u32 = 100_000;
const IV_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;

/// The keys derived from one password.
#[derive(Clone)]
pub struct Cipher {
    spring_key: [u8; 32],
    password: SecretString,
    salt: Vec<u8>,
    /// Derived on first use: 100,000 rounds take tens of milliseconds.
    gcm_key: OnceLock<[u8; 32]>,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher(..)")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    #[error("encrypt.salt is not hex")]
    Salt,
    #[error("encryption key not found")]
    NoKey,
    #[error("invalid ciphertext for this key")]
    InvalidCiphertext,
}

impl Cipher {
    pub fn new(password: &SecretString, salt_hex: &str) -> Result<Self, CipherError> {
        let salt = hex::decode(salt_hex).map_err(|_| CipherError::Salt)?;
        let bytes = password.expose_secret().as_bytes();
        Ok(Self {
            spring_key: pbkdf2::pbkdf2_hmac_array::<sha1::Sha1, 32>(bytes, &salt, SPRING_ROUNDS),
            password: password.clone(),
            salt,
            gcm_key: OnceLock::new(),
        })
    }

    /// Returns a digest that distinguishes keys without revealing them.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let digest = Sha256::new().chain_update("fingerprint").chain_update(self.spring_key);
        digest.finalize().into()
    }

    /// Encrypts in Spring's form: lower-case hex of IV and ciphertext, without the prefix.
    #[must_use]
    pub fn encrypt(&self, plain: &str, entropy: &dyn Entropy) -> String {
        let mut iv = [0; IV_BYTES];
        entropy.fill(&mut iv);
        self.encrypt_with(plain, iv)
    }

    fn encrypt_with(&self, plain: &str, iv: [u8; IV_BYTES]) -> String {
        let encryptor = cbc::Encryptor::<Aes256>::new(&self.spring_key.into(), &iv.into());
        let text = encryptor.encrypt_padded_vec::<Pkcs7>(plain.as_bytes());
        hex::encode(iv) + &hex::encode(text)
    }

    /// Decrypts Spring's form.
    pub fn decrypt(&self, text: &str) -> Result<String, CipherError> {
        let bytes = hex::decode(text.trim()).map_err(|_| CipherError::InvalidCiphertext)?;
        let (iv, text) = bytes
            .split_first_chunk::<IV_BYTES>()
            .ok_or(CipherError::InvalidCiphertext)?;
        let decryptor = cbc::Decryptor::<Aes256>::new(&self.spring_key.into(), &(*iv).into());
        let plain = decryptor
            .decrypt_padded_vec::<Pkcs7>(text)
            .map_err(|_| CipherError::InvalidCiphertext)?;
        String::from_utf8(plain).map_err(|_| CipherError::InvalidCiphertext)
    }

    /// Encrypts in our form, without the prefix.
    pub fn seal(&self, plain: &str, entropy: &dyn Entropy) -> Result<String, CipherError> {
        let mut nonce = [0; NONCE_BYTES];
        entropy.fill(&mut nonce);
        let text = self.gcm().encrypt(&nonce.into(), plain.as_bytes());
        let text = text.map_err(|_| CipherError::InvalidCiphertext)?;
        Ok(URL_SAFE_NO_PAD.encode([&nonce[..], &text].concat()))
    }

    /// Decrypts our form.
    pub fn open(&self, text: &str) -> Result<String, CipherError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text.trim())
            .map_err(|_| CipherError::InvalidCiphertext)?;
        let (nonce, text) = bytes
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(CipherError::InvalidCiphertext)?;
        let plain = self.gcm().decrypt(&(*nonce).into(), text);
        String::from_utf8(plain.map_err(|_| CipherError::InvalidCiphertext)?)
            .map_err(|_| CipherError::InvalidCiphertext)
    }

    fn gcm(&self) -> Aes256Gcm {
        let key = self.gcm_key.get_or_init(|| {
            let password = self.password.expose_secret().as_bytes();
            pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, 32>(password, &self.salt, GCM_ROUNDS)
        });
        Aes256Gcm::new(&(*key).into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sosohappy_common::clock::SystemEntropy;

    use super::*;

    fn cipher() -> Cipher {
        Cipher::new(&"correct horse".into(), "deadbeef").unwrap()
    }

    #[test]
    fn another_key_or_a_corrupt_ciphertext_is_refused() {
        let text = cipher().encrypt("s3cret", &SystemEntropy);
        assert_eq!(cipher().decrypt(&text), Ok("s3cret".to_owned()));
        let other = Cipher::new(&"other".into(), "deadbeef").unwrap();
        assert_ne!(other.decrypt(&text), Ok("s3cret".to_owned()));
        for broken in ["", "zz", "00", &text[..40], &text[2..]] {
            assert_eq!(
                cipher().decrypt(broken),
                Err(CipherError::InvalidCiphertext),
                "{broken}"
            );
        }
        assert_eq!(Cipher::new(&"x".into(), "not hex").unwrap_err(), CipherError::Salt);
    }

    /// Made with Python's `hashlib.pbkdf2_hmac("sha1", b"correct horse", bytes.fromhex("deadbeef"), 1024, 32)` as KEY and
    /// `printf '행복 s3cret' | openssl enc -aes-256-cbc -K KEY -iv 000102030405060708090a0b0c0d0e0f | xxd -p`, the IV before it.
    #[test]
    fn springs_form_matches_openssl() {
        let text = "000102030405060708090a0b0c0d0e0f926680c4b976b8d58598592946fc1cfd";
        assert_eq!(cipher().decrypt(text), Ok("행복 s3cret".to_owned()));
        let iv = std::array::from_fn(|at| u8::try_from(at).unwrap());
        assert_eq!(cipher().encrypt_with("행복 s3cret", iv), text);
    }

    /// Made with Python's `hashlib.pbkdf2_hmac("sha256", b"correct horse", bytes.fromhex("deadbeef"), 100000, 32)` and
    /// `AESGCM(key).encrypt(bytes(range(12)), b"s3cret", None)` of its package `cryptography`, the nonce before it.
    #[test]
    fn our_form_matches_another_library() {
        assert_eq!(
            cipher().open("AAECAwQFBgcICQoLDzA2zTQBp48-H4U03yws6HjJzBkQ5Q"),
            Ok("s3cret".to_owned())
        );
    }

    #[test]
    fn our_form_detects_every_change() {
        let cipher = cipher();
        let text = cipher.seal("s3cret", &SystemEntropy).unwrap();
        assert_eq!(cipher.open(&text), Ok("s3cret".to_owned()));
        let other = Cipher::new(&"other".into(), "deadbeef").unwrap();
        assert_eq!(other.open(&text), Err(CipherError::InvalidCiphertext));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_ne!(cipher.open(&changed), Ok("s3cret".to_owned()), "{at}");
        }
    }

    proptest! {
        #[test]
        fn decrypting_returns_the_encrypted_text(plain in "\\PC{0,64}") {
            prop_assert_eq!(cipher().decrypt(&cipher().encrypt(&plain, &SystemEntropy)), Ok(plain.clone()));
        }
    }
}
