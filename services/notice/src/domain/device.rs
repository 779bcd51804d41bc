//! A device of an account, and the language of its push texts.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sosohappy_common::Account;
use sosohappy_events::types::SessionId;
use utoipa::ToSchema;

/// The language of push texts. Devices that name none, as those of the published app, get Korean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    Ko,
    En,
}

impl Language {
    /// Returns the language for a BCP 47 tag: Korean for `ko` and its variants, English for any other.
    pub fn of_tag(tag: &str) -> Self {
        let primary = tag.split(['-', '_']).next().unwrap_or_default();
        if primary.eq_ignore_ascii_case("ko") {
            Self::Ko
        } else {
            Self::En
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ko => "ko",
            Self::En => "en",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    Ios,
    Android,
    Web,
}

impl Platform {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ios => "ios",
            Self::Android => "android",
            Self::Web => "web",
        }
    }

    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Ios, Self::Android, Self::Web]
            .into_iter()
            .find(|platform| platform.as_str() == name)
    }
}

/// A device that registers itself with the access token of its session.
#[derive(Clone)]
pub struct Registration {
    pub account: Account,
    pub session: SessionId,
    pub token: String,
    pub language: Language,
    pub platform: Platform,
    /// When the access token was issued, by auth's clock: a list of devices from after that which does not have the session says that it
    /// was closed.
    pub authorized_at: Timestamp,
    pub at: Timestamp,
}

/// A push token is as good as an address.
impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// A device to which pushes are sent.
#[derive(Clone, PartialEq, Eq)]
pub struct PushDevice {
    pub token: String,
    pub language: Language,
}

impl fmt::Debug for PushDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushDevice")
            .field("language", &self.language)
            .finish_non_exhaustive()
    }
}

/// A device as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnDevice {
    /// `None` for the one device that a Spring service published.
    pub session: Option<SessionId>,
    /// `None` for a device that never registered itself.
    pub platform: Option<Platform>,
    pub language: Language,
    /// When it registered, signed in or opened a socket. It may have opened others up to a day later.
    pub seen_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_follows_from_the_primary_subtag() {
        for (tag, language) in [
            ("ko", Language::Ko),
            ("KO-kr", Language::Ko),
            ("ko_KR", Language::Ko),
            ("en-US", Language::En),
            ("kok", Language::En),
            ("", Language::En),
        ] {
            assert_eq!(Language::of_tag(tag), language, "{tag}");
        }
    }
}
