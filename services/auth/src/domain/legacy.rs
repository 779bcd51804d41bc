//! Rows and tokens of the legacy Spring auth, read into the terms of this one.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use sosohappy_common::nickname::InvalidNickname;
use sosohappy_common::{Account, Nickname};
use sosohappy_events::types::{SessionId, TokenDigest};

use super::claims::{Claims, Kind};
use super::provider::Provider;
use super::session::RefreshId;

/// A token of the legacy Spring auth: a signature, a kind, an address and an end, and no id. The id and the session are those of its digest.
#[derive(Debug, Clone)]
pub struct LegacyToken {
    pub account: Account,
    pub digest: TokenDigest,
    pub expires_at: Timestamp,
}

impl LegacyToken {
    /// The session that an imported refresh token opens.
    pub fn session(&self) -> SessionId {
        SessionId::of_digest(&self.digest)
    }

    /// 32 hex digits, as of a token of this auth.
    pub fn refresh_id(&self) -> RefreshId {
        RefreshId(hex::encode(&self.digest.0[16..]))
    }

    /// The claims of a refresh token of this auth that stands for the same session.
    pub fn refresh_claims(self) -> Claims {
        Claims {
            sub: Kind::RefreshToken,
            iat: 0,
            exp: self.expires_at.as_second(),
            jti: self.refresh_id().0,
            sid: self.session(),
            email: self.account,
        }
    }
}

/// Why a legacy row has no account here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAccount {
    #[error("no address")]
    NoAddress,
    #[error("no provider, neither in the address nor beside it")]
    NoProvider,
    #[error("the provider is none of apple, google and kakao")]
    UnknownProvider,
    #[error("the address is no account: control characters, or more than 255 bytes")]
    Invalid,
}

/// Returns the account of a legacy address, `address+provider`; where the address has no provider, the one of the column `provider`
/// counts. Blanks around the address are no part of it; letter case is kept, as the app shows it with every call.
pub fn account_of(email: &str, provider: Option<&str>) -> Result<(Account, Provider), NoAccount> {
    let email = email.trim();
    let (address, provider) = match email.rsplit_once('+') {
        Some((address, suffix)) if Provider::parse(suffix).is_some() => (address, suffix),
        _ => {
            let provider = provider.map(str::trim).filter(|provider| !provider.is_empty());
            (email, provider.ok_or(NoAccount::NoProvider)?)
        }
    };
    let address = address.trim();
    if address.is_empty() {
        return Err(NoAccount::NoAddress);
    }
    let provider = Provider::parse(provider).ok_or(NoAccount::UnknownProvider)?;
    let account = format!("{address}+{}", provider.as_str());
    let account = account.parse().map_err(|_| NoAccount::Invalid)?;
    Ok((account, provider))
}

/// Returns the nickname and whether it was chosen: the legacy auth makes placeholders, which are longer. None where it cannot be borne here.
pub fn nickname_of(text: &str) -> Option<(Nickname, bool)> {
    match Nickname::choose(text.to_owned()) {
        Ok(nickname) => Some((nickname, true)),
        Err(InvalidNickname::Size) => {
            let nickname = Nickname::try_from(text.to_owned()).ok()?;
            Some((nickname, false))
        }
        Err(InvalidNickname::Form) => None,
    }
}

/// The nickname of an account that cannot bear its legacy one: the same each time the row is imported.
pub fn placeholder(account: &Account) -> Nickname {
    let digest = Sha256::digest(format!("imported\u{1f}{}", account.as_str()));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Nickname::placeholder(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(email: &str, provider: Option<&str>) -> Result<String, NoAccount> {
        account_of(email, provider).map(|(account, _)| account.as_str().to_owned())
    }

    #[test]
    fn an_address_without_its_provider_takes_that_of_the_column() {
        let kim = Ok("kim@example.com+kakao".to_owned());
        assert_eq!(account("kim@example.com+kakao", None), kim);
        assert_eq!(account(" kim@example.com +kakao ", Some("google")), kim);
        assert_eq!(account("kim@example.com", Some(" kakao")), kim);
        assert_eq!(
            account("kim+tag@example.com", Some("kakao")),
            Ok("kim+tag@example.com+kakao".to_owned())
        );
        assert_eq!(account("kim+tag@example.com", None), Err(NoAccount::NoProvider));
        assert_eq!(
            account("kim@example.com", Some("naver")),
            Err(NoAccount::UnknownProvider)
        );
        assert_eq!(account("  ", Some("kakao")), Err(NoAccount::NoAddress));
        assert_eq!(account("+kakao", None), Err(NoAccount::NoAddress));
        assert_eq!(account("a\nb+kakao", None), Err(NoAccount::Invalid));
    }

    #[test]
    fn a_long_nickname_was_not_chosen() {
        let chosen = |text: &str| nickname_of(text).map(|(_, chosen)| chosen);
        assert_eq!(chosen("소소한행복소소한행복"), Some(true));
        assert_eq!(chosen("3f0c7c50-1a2b-4c3d-8e9f-001122334455"), Some(false));
        for unfit in ["", " ", " kim", "a\u{200b}", "kim@example.com+kakao"] {
            assert_eq!(chosen(unfit), None, "{unfit:?}");
        }
    }

    #[test]
    fn a_placeholder_is_a_nickname_and_stays_the_same() {
        let kim: Account = "kim@example.com+kakao".parse().unwrap();
        let lee: Account = "lee@example.com+kakao".parse().unwrap();
        assert_eq!(placeholder(&kim), placeholder(&kim));
        assert_ne!(placeholder(&kim), placeholder(&lee));
        assert_eq!(
            nickname_of(placeholder(&kim).as_str()),
            Some((placeholder(&kim), false))
        );
    }
}
