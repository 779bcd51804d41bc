//! E-mail accounts: addresses, passwords, and the codes that prove that an address is one's own.

use secrecy::{ExposeSecret as _, SecretString};
use sosohappy_common::Account;
use sosohappy_common::account::canonical;
use sosohappy_common::clock::Entropy;
use unicode_normalization::UnicodeNormalization as _;

use super::person::Identity;

/// The name of this way in, beside those of the sign-in providers: parameter `provider`, the end of the account, and the issuer of the identity.
pub const PROVIDER: &str = "email";

/// Characters of a code: letters and digits that are not mistaken for each other, 5 bits each.
const CODE_ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";
const CODE_CHARS: usize = 8;

/// Label of the seal of a code.
const CODE_PURPOSE: &[u8] = b"sosohappy/auth/email-code";

/// Characters of a new password: NIST SP 800-63B, section 3.1.1.2.
const MIN_PASSWORD_CHARS: usize = 8;
const MAX_PASSWORD_CHARS: usize = 128;

/// Bytes of any password that is hashed.
const MAX_PASSWORD_BYTES: usize = 4 * MAX_PASSWORD_CHARS;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("email: an e-mail address such as kim@example.com")]
pub struct InvalidAddress;

/// An address that mail can be sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub account: Account,
}

impl Address {
    pub fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let account = Account::of_address(text, PROVIDER).map_err(|_| InvalidAddress)?;
        let address = Self { account };
        let is_deliverable = address.text().parse::<lettre::Address>().is_ok();
        if is_deliverable {
            Ok(address)
        } else {
            Err(InvalidAddress)
        }
    }

    /// Returns the address of a queued mail.
    pub fn of(account: Account) -> Self {
        Self { account }
    }

    pub fn text(&self) -> &str {
        let account = self.account.as_str();
        account
            .strip_suffix(PROVIDER)
            .and_then(|rest| rest.strip_suffix('+'))
            .unwrap_or(account)
    }

    /// Returns the identity of the owner of this address, the same in any letter case.
    pub fn identity(&self) -> Identity {
        Identity {
            issuer: PROVIDER.to_owned(),
            subject: Some(canonical(self.text())),
        }
    }
}

/// A code as a person has typed it, without blanks and hyphens and in upper case.
pub struct EmailCode(SecretString);

impl EmailCode {
    pub fn random(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; CODE_CHARS];
        entropy.fill(&mut bytes);
        let chars = bytes.map(|byte| char::from(CODE_ALPHABET[usize::from(byte % 32)]));
        Self(chars.iter().collect::<String>().into())
    }

    /// Reads what a person has typed; a text that is no code is one that matches none.
    pub fn typed(text: &str) -> Self {
        let chars = text.chars().filter(|char| !char.is_whitespace() && *char != '-');
        Self(chars.take(CODE_CHARS + 1).collect::<String>().to_uppercase().into())
    }

    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Returns the bytes whose seal is stored: a code counts for one address.
    pub fn bytes_for(&self, address: &Address) -> Vec<u8> {
        [CODE_PURPOSE, &address.account.key(), self.expose().as_bytes()].concat()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPassword {
    #[error("password: {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters")]
    Length,
    #[error("password: a common or easily guessed one")]
    Common,
}

/// A password in NFC, so that every keyboard types the same one.
#[derive(Clone)]
pub struct Password(SecretString);

impl Password {
    /// Reads a password that is compared with a stored one.
    pub fn shown(text: &str) -> Result<Self, InvalidPassword> {
        if text.len() > MAX_PASSWORD_BYTES {
            return Err(InvalidPassword::Length);
        }
        Ok(Self(text.nfc().collect::<String>().into()))
    }

    /// Reads a password that is to be stored for an address.
    pub fn chosen(text: &str, address: &Address) -> Result<Self, InvalidPassword> {
        let password = Self::shown(text)?;
        let chars = password.expose().chars().count();
        if !(MIN_PASSWORD_CHARS..=MAX_PASSWORD_CHARS).contains(&chars) {
            return Err(InvalidPassword::Length);
        }
        // zxcvbn compares with 30,000 common passwords, with names and words, and with the address itself.
        let address = address.text();
        let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        let known = [address, local, domain, "sosohappy", "소소해피", "소소한행복"];
        if zxcvbn::zxcvbn(password.expose(), &known).score() < zxcvbn::Score::Two {
            return Err(InvalidPassword::Common);
        }
        Ok(password)
    }

    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_common::clock::SystemEntropy;

    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn an_address_is_one_that_mail_can_be_sent_to() {
        let kim = address(" Kim@Example.COM ");
        assert_eq!(kim.account.as_str(), "Kim@example.com+email");
        assert_eq!(kim.text(), "Kim@example.com");
        assert!(kim.identity() == address("kim@example.com").identity());
        for wrong in [
            "",
            "kim",
            "@example.com",
            "kim@",
            "kim@example.com\r\nBcc: lee@example.com",
            "kim@example.com, lee@example.com",
            "<kim@example.com>",
            &format!("{}@example.com", "k".repeat(300)),
        ] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let code = EmailCode::random(&SystemEntropy);
        assert_eq!(code.expose().len(), CODE_CHARS);
        let typed = format!(" {}-{} ", code.expose()[..4].to_lowercase(), &code.expose()[4..]);
        assert_eq!(EmailCode::typed(&typed).expose(), code.expose());
        assert_ne!(EmailCode::typed(&format!("{}A", code.expose())).expose(), code.expose());
        let (kim, lee) = (address("kim@example.com"), address("lee@example.com"));
        assert_ne!(code.bytes_for(&kim), code.bytes_for(&lee));
    }

    #[test]
    fn weak_passwords_are_refused() {
        let kim = address("kimminsoo@example.com");
        let refused = |text: &str| Password::chosen(text, &kim).err();
        assert_eq!(refused("short7!"), Some(InvalidPassword::Length));
        assert_eq!(refused(&"aB3$한 ".repeat(22)), Some(InvalidPassword::Length));
        assert_eq!(refused(&"a".repeat(1_000_000)), Some(InvalidPassword::Length));
        for common in [
            "password",
            "Password1",
            "p@ssw0rd",
            "12345678",
            "qwertyuiop",
            "iloveyou",
            "aaaaaaaaaaaa",
            "kimminsoo",
            "kimminsoo@example.com",
            "sosohappy1",
            "abcdefgh",
        ] {
            assert_eq!(refused(common), Some(InvalidPassword::Common), "{common}");
        }
        for good in ["plain battery horse moon", "오늘도 소소한 행복을 찾아서", "x7#Kq9!mZ2"] {
            assert_eq!(refused(good), None, "{good}");
        }
    }

    #[test]
    fn a_password_is_the_same_in_either_composition() {
        let (nfc, nfd) = ("행복한하루되세요", "행복한하루되세요".nfd().collect::<String>());
        assert_ne!(nfc, nfd);
        assert_eq!(
            Password::shown(nfc).unwrap().expose(),
            Password::shown(&nfd).unwrap().expose()
        );
    }
}
