//! One sign-in on one device, and the rotation of its refresh tokens.

use std::time::Duration;

use jiff::Timestamp;
use sosohappy_common::Account;
use sosohappy_events::types::SessionId;

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

#[derive(Debug, Clone)]
pub struct Session {
    pub id: SessionId,
    pub account: Account,
    /// The time of the session's last event; the next one is later.
    pub stamped_at: Timestamp,
    pub refresh: Refresh,
    /// The refresh token before, and when the present one took its place.
    pub previous: Option<(RefreshId, Timestamp)>,
}

/// What a refresh token of a session turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presented {
    /// The living one: it is replaced.
    Living,
    /// The one before, shown again so soon that its answer must have been lost, or two requests crossed: the client gets the
    /// same successor again.
    Repeated,
    /// One that was replaced long ago. Two parties hold the session's tokens, and nobody can tell which is the thief.
    Reused,
    /// The session's last one has expired.
    Expired,
}

impl Session {
    pub fn judge(&self, shown: &RefreshId, now: Timestamp, grace: Duration) -> Presented {
        if self.refresh.expires_at <= now {
            return Presented::Expired;
        }
        if *shown == self.refresh.id {
            return Presented::Living;
        }
        match &self.previous {
            Some((previous, rotated_at)) if previous == shown && now <= *rotated_at + grace => Presented::Repeated,
            _ => Presented::Reused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            previous: Some((RefreshId("first".into()), start)),
        }
    }

    #[test]
    fn a_lost_reply_is_forgiven_for_a_while_and_only_once_back() {
        let session = session();
        let judge = |id: &str, after| session.judge(&RefreshId(id.into()), session.stamped_at + after, MINUTE);
        assert_eq!(judge("second", MINUTE), Presented::Living);
        assert_eq!(judge("second", 59 * MINUTE), Presented::Living);
        assert_eq!(judge("first", MINUTE), Presented::Repeated);
        assert_eq!(judge("first", MINUTE + Duration::from_millis(1)), Presented::Reused);
        assert_eq!(judge("zeroth", Duration::ZERO), Presented::Reused);
    }

    #[test]
    fn nothing_outlives_the_last_refresh_token() {
        let session = session();
        for id in ["second", "first", "zeroth"] {
            let judged = session.judge(&RefreshId(id.into()), session.refresh.expires_at, 120 * MINUTE);
            assert_eq!(judged, Presented::Expired, "{id}");
        }
    }
}
