//! The account, `email+provider`: the key of a user inside the fleet and on the wire.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use unicode_normalization::UnicodeNormalization as _;

use crate::nickname::{fold, is_ignorable};

/// `email+provider`, for example `kim@example.com+kakao`. At most 255 bytes, never empty.
///
/// Its `Debug` form is shortened: an account holds an e-mail address and must not reach a log line.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Account(Arc<str>);

#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("an account is `email+provider`, 3 to 255 bytes without control characters")]
pub struct InvalidAccount;

impl Account {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the account of an address at a provider: trimmed, in NFC, the domain in lower case. An address with a blank, a control or an
    /// invisible character inside is invalid: the header `email` could not carry it, or people could not tell it from another.
    pub fn of_address(address: &str, provider: &str) -> Result<Self, InvalidAccount> {
        let address: String = address.trim().nfc().collect();
        if address.chars().any(|char| char.is_whitespace() || is_ignorable(char)) {
            return Err(InvalidAccount);
        }
        let address = match address.rsplit_once('@') {
            Some((local, domain)) => format!("{local}@{}", domain.to_lowercase()),
            None => address,
        };
        format!("{address}+{provider}").parse()
    }

    /// Returns the account as it would be without letter case: the same for all spellings of one address.
    #[must_use]
    pub fn folded(&self) -> Self {
        Self(canonical(self.as_str()).into())
    }

    /// Returns whether a text names this account: letter case, blanks around it and the composition of characters make no difference.
    #[must_use]
    pub fn is_named_by(&self, text: &str) -> bool {
        self.as_str() == text || canonical(self.as_str()) == canonical(text)
    }

    /// Returns the SHA-256 of [`Self::folded`]: no two accounts are made that share it.
    #[must_use]
    pub fn key(&self) -> [u8; 32] {
        Sha256::digest(canonical(self.as_str())).into()
    }

    /// Returns the account with all but the first character of the local part left out, `k…@example.com+kakao`: enough for an administrator to
    /// recognise an account that has no nickname yet.
    #[must_use]
    pub fn masked(&self) -> String {
        let text = self.as_str();
        let (local, rest) = match text.rfind('@') {
            Some(at) => text.split_at(at),
            None => text.split_at(text.rfind('+').unwrap_or(text.len())),
        };
        let first: String = local.chars().take(1).collect();
        format!("{first}…{rest}")
    }

    /// Returns the SHA-256 in hex, by which a resigned account is remembered without its address.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.as_str()))
    }
}

/// Returns a text that is the same for texts that only differ in letter case, in blanks around them, or in how their characters are
/// composed.
#[must_use]
pub fn canonical(text: &str) -> String {
    let composed: String = text.trim().nfc().collect();
    fold(&composed).nfc().collect()
}

impl TryFrom<String> for Account {
    type Error = InvalidAccount;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl std::str::FromStr for Account {
    type Err = InvalidAccount;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (email, provider) = text.rsplit_once('+').ok_or(InvalidAccount)?;
        let fits = text.len() <= 255 && !email.is_empty() && !provider.is_empty();
        if !fits || text.chars().any(char::is_control) {
            return Err(InvalidAccount);
        }
        Ok(Self(text.into()))
    }
}

impl From<Account> for String {
    fn from(account: Account) -> Self {
        account.0.as_ref().to_owned()
    }
}

impl AsRef<str> for Account {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Result<String, InvalidAccount> {
        Account::of_address(address, "kakao").map(|account| account.as_str().to_owned())
    }

    #[test]
    fn addresses_are_normalised() {
        assert_eq!(of(" Kim@Example.COM\u{a0}"), Ok("Kim@example.com+kakao".to_owned()));
        assert_eq!(of("e\u{301}@x.y"), Ok("é@x.y+kakao".to_owned()));
        for bad in [
            "",
            "  ",
            "a b@x.y",
            "a@x.y\r\nrole: admin",
            "a\u{200b}@x.y",
            "a\u{202e}@x.y",
            "a\0@x.y",
        ] {
            assert_eq!(of(bad), Err(InvalidAccount), "{bad:?}");
        }
    }

    #[test]
    fn a_masked_account_shows_domain_and_provider() {
        let masked = |text: &str| text.parse::<Account>().map(|account| account.masked());
        assert_eq!(masked("kim@example.com+kakao").as_deref(), Ok("k…@example.com+kakao"));
        assert_eq!(masked("김@x.y+apple").as_deref(), Ok("김…@x.y+apple"));
        assert_eq!(masked("kim+kakao").as_deref(), Ok("k…+kakao"));
    }

    #[test]
    fn spellings_of_one_address_have_one_key() {
        let key = |text: &str| text.parse::<Account>().map(|account| account.key());
        assert_eq!(key("Kim@Example.COM+kakao"), key("kim@example.com+kakao"));
        assert_eq!(key("E\u{301}@x.y+kakao"), key("é@x.y+kakao"));
        assert_ne!(key("kim@example.com+kakao"), key("kim@example.com+apple"));
        assert_ne!(key("kim@example.com+kakao"), key("kin@example.com+kakao"));
        let kim: Account = "Kim@example.com+kakao".parse().expect("an account");
        assert!(kim.is_named_by(" kim@EXAMPLE.com+kakao"));
        assert!(!kim.is_named_by("kin@example.com+kakao"));
    }
}
