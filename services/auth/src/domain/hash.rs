//! The trace a resigned account leaves: a keyed hash, worth nothing without the key.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use sosohappy_common::Account;

/// Turns accounts into hashes that say whether two resignations are of one account, and nothing else.
#[derive(Clone)]
pub struct AccountHasher(Hmac<Sha256>);

impl AccountHasher {
    pub fn new(key: &[u8]) -> Self {
        Self(Hmac::new_from_slice(key).expect("HMAC takes a key of any length"))
    }

    pub fn hash(&self, account: &Account) -> [u8; 32] {
        self.0
            .clone()
            .chain_update(account.as_str())
            .finalize()
            .into_bytes()
            .into()
    }
}

impl AccountHasher {
    /// Returns the keyed hash of a text that is not an account's.
    pub fn hash_note(&self, text: &str) -> [u8; 32] {
        // No account contains a control character.
        let hash = self.0.clone().chain_update("note\0").chain_update(text);
        hash.finalize().into_bytes().into()
    }
}

impl std::fmt::Debug for AccountHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AccountHasher(..)")
    }
}
