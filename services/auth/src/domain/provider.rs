//! Sign-in providers.

use sosohappy_common::Account;
use sosohappy_common::account::InvalidAccount;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    Apple,
    Google,
    Kakao,
}

impl Provider {
    pub const ALL: [Self; 3] = [Self::Apple, Self::Google, Self::Kakao];

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apple => "apple",
            Self::Google => "google",
            Self::Kakao => "kakao",
        }
    }

    /// The `iss` of the provider's own ID tokens.
    pub fn issuer(self) -> &'static str {
        match self {
            Self::Apple => "https://appleid.apple.com",
            Self::Google => "https://accounts.google.com",
            Self::Kakao => "https://kauth.kakao.com",
        }
    }

    /// Every `iss` that the provider documents. An identity is stored under [`Provider::issuer`].
    pub fn issuers(self) -> &'static [&'static str] {
        match self {
            Self::Apple => &["https://appleid.apple.com", "https://account.apple.com"],
            Self::Google => &["https://accounts.google.com", "accounts.google.com"],
            Self::Kakao => &["https://kauth.kakao.com"],
        }
    }

    pub fn of_issuer(issuer: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|provider| provider.issuer() == issuer)
    }

    /// Returns the provider that the account is named after.
    pub fn of_account(account: &Account) -> Option<Self> {
        account
            .as_str()
            .rsplit_once('+')
            .and_then(|(_, name)| Self::parse(name))
    }

    /// Returns the account of this address here: the same address at another provider is another account.
    pub fn account_of(self, email: &str) -> Result<Account, InvalidAccount> {
        Account::of_address(email, self.as_str())
    }
}
