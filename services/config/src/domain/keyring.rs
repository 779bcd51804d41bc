//! The encryption keys by alias, and the prefixes that select one.
//!
//! Source: Spring Cloud Config's `EnvironmentPrefixHelper`: a text may begin with `{name:value}` pairs, of which `{key:alias}` selects a key;
//! `{plain}` ends the pairs, for a plain text that begins with a brace. `{alg:gcm}` is an addition that selects our form.

use std::collections::BTreeMap;

use secrecy::SecretString;
use sosohappy_common::clock::Entropy;

use super::cipher::{Cipher, CipherError, PREFIX};
use crate::settings::CipherForm;

const PLAIN: &str = "{plain}";

#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    default: Option<Cipher>,
    by_alias: BTreeMap<String, Cipher>,
}

/// The prefixes of a text, and the text after them.
#[derive(Debug, PartialEq, Eq)]
struct Prefixed<'a> {
    key: Option<&'a str>,
    form: Option<CipherForm>,
    text: &'a str,
}

impl KeyRing {
    pub fn new(
        default: Option<&SecretString>,
        keys: &BTreeMap<String, SecretString>,
        salt_hex: &str,
    ) -> Result<Self, CipherError> {
        let by_alias = keys
            .iter()
            .map(|(alias, key)| Ok((alias.clone(), Cipher::new(key, salt_hex)?)));
        Ok(Self {
            default: default.map(|key| Cipher::new(key, salt_hex)).transpose()?,
            by_alias: by_alias.collect::<Result<_, _>>()?,
        })
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.default.is_none() && self.by_alias.is_empty()
    }

    /// Returns a text that distinguishes key rings without revealing keys: digests of the derived keys.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let named = self.by_alias.iter().map(|(alias, cipher)| (Some(alias), cipher));
        let keys = self.default.iter().map(|cipher| (None, cipher)).chain(named);
        let keys: Vec<_> = keys
            .map(|(alias, cipher)| (alias, hex::encode(cipher.fingerprint())))
            .collect();
        format!("{keys:?}")
    }

    /// Decrypts a text with or without `{cipher}`.
    pub fn decrypt(&self, text: &str) -> Result<String, CipherError> {
        let text = text.trim();
        let prefixed = Prefixed::read(text.strip_prefix(PREFIX).unwrap_or(text));
        let cipher = self.key(prefixed.key)?;
        match prefixed.form {
            Some(CipherForm::Gcm) => cipher.open(prefixed.text),
            _ => cipher.decrypt(prefixed.text),
        }
    }

    /// Encrypts a text. The result begins with the pairs that [`KeyRing::decrypt`] needs, without `{cipher}`. `{alg:gcm}` or `{alg:spring}` before
    /// the text selects the form.
    pub fn encrypt(&self, text: &str, form: CipherForm, entropy: &dyn Entropy) -> Result<String, CipherError> {
        let prefixed = Prefixed::read(text);
        let cipher = self.key(prefixed.key)?;
        let key = prefixed
            .key
            .map_or_else(String::new, |alias| format!("{{key:{alias}}}"));
        Ok(match prefixed.form.unwrap_or(form) {
            CipherForm::Spring => key + &cipher.encrypt(prefixed.text, entropy),
            CipherForm::Gcm => key + "{alg:gcm}" + &cipher.seal(prefixed.text, entropy)?,
        })
    }

    fn key(&self, alias: Option<&str>) -> Result<&Cipher, CipherError> {
        let cipher = match alias {
            Some(alias) => self.by_alias.get(alias),
            None => self.default.as_ref(),
        };
        cipher.ok_or(CipherError::NoKey)
    }

    #[cfg(test)]
    pub fn of_one(password: &str) -> Self {
        Self::new(Some(&password.into()), &BTreeMap::new(), "deadbeef").unwrap()
    }
}

impl<'a> Prefixed<'a> {
    fn read(text: &'a str) -> Self {
        let mut read = Self {
            key: None,
            form: None,
            text,
        };
        loop {
            if let Some(rest) = read.text.strip_prefix(PLAIN) {
                read.text = rest;
                return read;
            }
            let pair = read.text.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            let Some((pair, rest)) = pair else { return read };
            match pair.split_once(':') {
                Some(("key", alias)) => read.key = Some(alias),
                Some(("alg", "gcm")) => read.form = Some(CipherForm::Gcm),
                Some(("alg", "spring")) => read.form = Some(CipherForm::Spring),
                // Spring's pairs, which select nothing here.
                Some(("name" | "profiles", _)) => {}
                _ => return read,
            }
            read.text = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_common::clock::SystemEntropy;

    use super::*;

    fn ring() -> KeyRing {
        let keys = BTreeMap::from([("2026".to_owned(), "another key".into())]);
        KeyRing::new(Some(&"a key".into()), &keys, "deadbeef").unwrap()
    }

    #[test]
    fn prefixes_select_key_and_form() {
        let ring = ring();
        for (text, form, begins, plain) in [
            ("s3cret", CipherForm::Spring, "", "s3cret"),
            ("s3cret", CipherForm::Gcm, "{alg:gcm}", "s3cret"),
            ("{key:2026}s3cret", CipherForm::Spring, "{key:2026}", "s3cret"),
            (
                "{key:2026}{alg:gcm}s3cret",
                CipherForm::Spring,
                "{key:2026}{alg:gcm}",
                "s3cret",
            ),
            (
                "{name:feed}{profiles:prod}{plain}{key:x}",
                CipherForm::Spring,
                "",
                "{key:x}",
            ),
            ("{\"json\":1}", CipherForm::Spring, "", "{\"json\":1}"),
        ] {
            let encrypted = ring.encrypt(text, form, &SystemEntropy).unwrap();
            assert!(encrypted.starts_with(begins), "{encrypted}");
            assert!(!encrypted.contains(plain), "{encrypted}");
            assert_eq!(
                ring.decrypt(&format!("{{cipher}}{encrypted}")).as_deref(),
                Ok(plain),
                "{text}"
            );
            assert_eq!(ring.decrypt(&encrypted).as_deref(), Ok(plain), "{text}");
        }
    }

    /// Shared by all cases: deriving the key of our form takes tens of milliseconds.
    static RING: std::sync::LazyLock<KeyRing> = std::sync::LazyLock::new(ring);

    proptest::proptest! {
        #[test]
        fn any_text_after_plain_is_encrypted_unchanged(text in "\\PC{0,24}|(\\{(key|alg|name|plain|cipher):?[a-z]{0,3}\\}){0,3}[a-z]{0,3}", gcm in proptest::bool::ANY) {
            let form = if gcm { CipherForm::Gcm } else { CipherForm::Spring };
            let ring = &*RING;
            let encrypted = ring.encrypt(&format!("{{plain}}{text}"), form, &SystemEntropy).unwrap();
            proptest::prop_assert_eq!(ring.decrypt(&encrypted), Ok(text.clone()));
            if !text.starts_with('{') {
                let encrypted = ring.encrypt(&text, form, &SystemEntropy).unwrap();
                proptest::prop_assert_eq!(ring.decrypt(&encrypted), Ok(text));
            }
        }
    }

    #[test]
    fn an_unknown_alias_does_not_select_another_key() {
        assert_eq!(
            ring().encrypt("{key:2020}x", CipherForm::Spring, &SystemEntropy),
            Err(CipherError::NoKey)
        );
        let encrypted = ring()
            .encrypt("{key:2026}x", CipherForm::Spring, &SystemEntropy)
            .unwrap();
        let without = KeyRing::of_one("a key");
        assert_eq!(without.decrypt(&encrypted), Err(CipherError::NoKey));
        let wrong = encrypted.replace("{key:2026}", "");
        assert_ne!(ring().decrypt(&wrong).as_deref(), Ok("x"));
        assert_eq!(KeyRing::default().decrypt(&wrong), Err(CipherError::NoKey));
    }
}
