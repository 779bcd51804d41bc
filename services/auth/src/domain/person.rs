//! A person with an account.

use jiff::Timestamp;
use sosohappy_common::text::is_portable;
use sosohappy_common::{Account, Nickname};
use sosohappy_events::types::Role;
use sosohappy_media::ImageId;

use super::profile::Introduction;
use super::provider::Provider;

/// Characters of a subject that the store can hold.
const SUBJECT_CHARS: usize = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("providerId: 1 to 255 characters, none of which is U+0000")]
pub struct InvalidSubject;

/// Identity of a person at a sign-in provider.
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
    /// Checks a subject that a request names.
    pub fn known(provider: Provider, subject: &str) -> Result<Self, InvalidSubject> {
        if !(1..=SUBJECT_CHARS).contains(&subject.chars().count()) || !is_portable(subject) {
            return Err(InvalidSubject);
        }
        Ok(Self {
            issuer: provider.issuer().to_owned(),
            subject: Some(subject.to_owned()),
        })
    }

    /// Whether the same person may be behind both: nothing known contradicts it.
    pub fn agrees_with(&self, shown: &Self) -> bool {
        let subject = self.subject.as_deref().or(shown.subject.as_deref());
        self.issuer == shown.issuer && subject == shown.subject.as_deref()
    }
}

/// An identity whose subject is known, with which an account may be entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedIdentity {
    pub identity: Identity,
    /// `None` for that of the account's own row where an older release has written it.
    pub linked_at: Option<Timestamp>,
}

impl LinkedIdentity {
    /// Returns every identity of a person: that of the account's own row first, then those that are linked.
    pub fn all_of(person: &Person, mut linked: Vec<Self>) -> Vec<Self> {
        let own = &person.identity;
        if own.subject.is_some() && !linked.iter().any(|linked| linked.identity == *own) {
            linked.push(Self {
                identity: own.clone(),
                linked_at: None,
            });
        }
        linked.sort_by_key(|linked| (linked.identity != *own, linked.linked_at));
        linked
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
    /// Whether there is a [`Suspension`](super::moderation::Suspension) of the account.
    pub is_suspended: bool,
    /// Whether introduction and photo are hidden by moderation.
    pub is_profile_hidden: bool,
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
    fn a_subject_that_a_request_names_is_bounded() {
        let known = |subject: &str| Identity::known(Provider::Kakao, subject).is_ok();
        assert!(known("7") && known(&"7".repeat(255)));
        assert!(!known("") && !known(&"7".repeat(256)) && !known("7\0"));
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
    fn an_unknown_subject_belongs_to_the_first_client_with_it() {
        assert!(identity("kakao", None).agrees_with(&identity("kakao", Some("7"))));
    }
}
