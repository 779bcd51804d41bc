//! Somebody who has an account.

use jiff::Timestamp;
use sosohappy_common::{Account, Nickname};
use sosohappy_events::types::Role;
use sosohappy_media::ImageId;

use super::profile::Introduction;

/// Who somebody is at their provider.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub issuer: String,
    /// `None` for an account taken over from a fleet that did not keep it, until the next sign-in.
    pub subject: Option<String>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Whether the same person may be behind both: nothing known contradicts it.
    pub fn agrees_with(&self, shown: &Self) -> bool {
        let subject = self.subject.as_deref().or(shown.subject.as_deref());
        self.issuer == shown.issuer && subject == shown.subject.as_deref()
    }
}

#[derive(Debug, Clone)]
pub struct Person {
    pub account: Account,
    pub identity: Identity,
    pub nickname: Nickname,
    /// Whether the nickname was chosen; a fresh account bears a random one.
    pub profile_set: bool,
    pub introduction: Introduction,
    pub image: Option<ImageId>,
    pub role: Role,
    pub created_at: Timestamp,
    /// The time of the account's last event; the next one is later.
    pub changed_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(issuer: &str, subject: Option<&str>) -> Identity {
        Identity {
            issuer: issuer.to_owned(),
            subject: subject.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn a_known_subject_must_be_shown_again() {
        let known = identity("kakao", Some("7"));
        assert!(known.agrees_with(&identity("kakao", Some("7"))));
        assert!(!known.agrees_with(&identity("kakao", Some("8"))));
        assert!(!known.agrees_with(&identity("google", Some("7"))));
        assert!(!known.agrees_with(&identity("kakao", None)));
    }

    #[test]
    fn an_unknown_subject_is_taken_from_whoever_comes_first() {
        assert!(identity("kakao", None).agrees_with(&identity("kakao", Some("7"))));
    }
}
