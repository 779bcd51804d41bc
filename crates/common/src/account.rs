//! The account, `email+provider`: the key of a person everywhere inside the fleet and on the wire.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

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

    /// SHA-256 in hex: what is remembered of somebody who resigned, without the address.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        hex::encode(Sha256::digest(self.as_str()))
    }
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
