//! One sign-in on one device, and the rotation of its refresh tokens.

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_common::http::ClientAddress;
use sosohappy_events::types::SessionId;

use super::person::Identity;

/// The `jti` of a refresh token: 32 hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshId(pub String);

/// The living refresh token of a session. It is not kept itself: signing these again gives the very same token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    pub id: RefreshId,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

/// How a session was opened. Empty where an older release has opened it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    pub opened_at: Option<Timestamp>,
    /// With which identity; unlinking it closes the session.
    pub identity: Option<Identity>,
    /// The client's name of itself.
    pub device: Option<String>,
    /// The class of the address that it was last used from.
    pub place: Option<String>,
    /// The address that it is opened from, for the connection log; not stored with the session.
    pub client: Option<ClientAddress>,
}

#[derive(Debug, Clone)]
pub struct Session {
    pub id: SessionId,
    pub account: Account,
    /// The time of the session's last event; the next one is later.
    pub stamped_at: Timestamp,
    pub refresh: Refresh,
    pub origin: Origin,
    /// The refresh token before, and when the present one took its place.
    pub previous: Option<(RefreshId, Timestamp)>,
}

/// State of a refresh token that is presented to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// The living one: it is replaced.
    Living,
    /// The one before, whose successor was not used yet: the reply was lost, two requests crossed, or a second refresher (the app's
    /// notification extension) holds it. The client gets the same successor again, however long that takes.
    Repeated,
    /// An older one: its successor was used. Two parties hold the session's tokens, and which one has stolen them is unknown.
    Reused,
    /// The session's last one has expired.
    Expired,
}

impl Session {
    /// Whether the session was opened with that identity. An older release has not written with which: it may have been this one.
    pub fn may_be_opened_with(&self, identity: &Identity) -> bool {
        self.origin.identity.as_ref().is_none_or(|opened| opened == identity)
    }

    pub fn judge(&self, shown: &RefreshId, now: Timestamp) -> Presented {
        if self.refresh.expires_at <= now {
            return Presented::Expired;
        }
        if *shown == self.refresh.id {
            return Presented::Living;
        }
        match &self.previous {
            Some((previous, _)) if previous == shown => Presented::Repeated,
            _ => Presented::Reused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    const MINUTE: Duration = Duration::from_mins(1);

    fn session() -> Session {
        let start = Timestamp::from_second(1_700_000_000).unwrap();
        Session {
            id: SessionId(7),
            account: "kim@example.com+kakao".parse().unwrap(),
            stamped_at: start,
            refresh: Refresh {
                id: RefreshId("second".into()),
                issued_at: start,
                expires_at: start + 60 * MINUTE,
            },
            origin: Origin::default(),
            previous: Some((RefreshId("first".into()), start)),
        }
    }

    #[test]
    fn a_lost_reply_is_forgiven_while_the_successor_is_unused() {
        let session = session();
        let judge = |id: &str, after| session.judge(&RefreshId(id.into()), session.stamped_at + after);
        assert_eq!(judge("second", MINUTE), Presented::Living);
        assert_eq!(judge("second", 59 * MINUTE), Presented::Living);
        assert_eq!(judge("first", MINUTE), Presented::Repeated);
        assert_eq!(judge("first", 59 * MINUTE), Presented::Repeated);
        assert_eq!(judge("zeroth", Duration::ZERO), Presented::Reused);
    }

    #[test]
    fn nothing_outlives_the_last_refresh_token() {
        let session = session();
        for id in ["second", "first", "zeroth"] {
            let judged = session.judge(&RefreshId(id.into()), session.refresh.expires_at);
            assert_eq!(judged, Presented::Expired, "{id}");
        }
    }
}
