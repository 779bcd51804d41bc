//! Sessions and accounts that ended a moment ago.
//!
//! A handshake that was let in just before the event arrived enters the hub just after it; without a memory of the event its
//! socket would stay until the token's expiry.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_access::Caller;
use sosohappy_common::Account;
use sosohappy_events::types::SessionId;
use tokio::time::Instant;

use crate::Close;

/// Longer than a handshake takes, and than the token registry can be behind the reader that closes sockets.
const REMEMBERED: Duration = Duration::from_mins(2);

/// All of an account's sessions, or one.
type Key = (Account, Option<SessionId>);

#[derive(Debug, Default)]
pub(crate) struct Endings {
    by_key: HashMap<Key, Ending>,
    order: VecDeque<(Instant, Key)>,
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    /// Tokens issued up to here are over.
    issued_until: Timestamp,
    reason: Close,
    noted: Instant,
}

impl Endings {
    /// `noted` is now, and never goes back.
    pub fn note(
        &mut self,
        account: &Account,
        session: Option<SessionId>,
        issued_until: Timestamp,
        reason: Close,
        noted: Instant,
    ) {
        self.forget(noted);
        let key = (account.clone(), session);
        self.order.push_back((noted, key.clone()));
        let ending = self.by_key.entry(key).or_insert(Ending {
            issued_until,
            reason,
            noted,
        });
        ending.noted = noted;
        if ending.issued_until < issued_until {
            ending.issued_until = issued_until;
            ending.reason = reason;
        }
    }

    /// Why this caller may not have a socket, if so.
    pub fn reason(&self, caller: &Caller) -> Option<Close> {
        let of_session = self.by_key.get(&(caller.account.clone(), Some(caller.session)));
        let of_account = self.by_key.get(&(caller.account.clone(), None));
        let over = [of_session, of_account]
            .into_iter()
            .flatten()
            .find(|ending| caller.issued_at <= ending.issued_until);
        over.map(|ending| ending.reason)
    }

    /// Whether all sessions of the account ended at that moment or later.
    pub fn ended_since(&self, account: &Account, moment: Timestamp) -> bool {
        let ending = self.by_key.get(&(account.clone(), None));
        ending.is_some_and(|ending| ending.issued_until >= moment)
    }

    fn forget(&mut self, now: Instant) {
        while self
            .order
            .front()
            .is_some_and(|(noted, _)| now.duration_since(*noted) > REMEMBERED)
        {
            let Some((noted, key)) = self.order.pop_front() else {
                break;
            };
            // A key noted again since then is still young.
            if self.by_key.get(&key).is_some_and(|ending| ending.noted == noted) {
                self.by_key.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sosohappy_events::types::Role;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn caller(session: u64, issued: i64) -> Caller {
        Caller {
            account: "kim@example.com+kakao".parse().unwrap(),
            session: SessionId(session),
            role: Role::User,
            issued_at: at(issued),
            expires_at: at(issued + 3600),
        }
    }

    #[test]
    fn only_older_tokens_are_over() {
        let mut endings = Endings::default();
        let (kim, now) = (caller(1, 100).account, Instant::now());
        endings.note(&kim, Some(SessionId(1)), at(200), Close::Policy, now);
        assert_eq!(endings.reason(&caller(1, 200)), Some(Close::Policy));
        assert_eq!(endings.reason(&caller(1, 201)), None, "re-issued since");
        assert_eq!(endings.reason(&caller(2, 100)), None, "another session");
        endings.note(&kim, None, at(150), Close::Policy, now);
        assert_eq!(endings.reason(&caller(2, 100)), Some(Close::Policy));
        assert!(endings.ended_since(&kim, at(150)) && !endings.ended_since(&kim, at(151)));
    }

    #[test]
    fn forgets_after_a_while_but_not_what_was_noted_again() {
        let mut endings = Endings::default();
        let (kim, now) = (caller(1, 100).account, Instant::now());
        endings.note(&kim, Some(SessionId(1)), at(200), Close::Policy, now);
        endings.note(&kim, Some(SessionId(2)), at(200), Close::Policy, now);
        endings.note(&kim, Some(SessionId(2)), at(100), Close::Policy, now + REMEMBERED / 2);
        endings.note(
            &kim,
            Some(SessionId(3)),
            at(200),
            Close::Policy,
            now + REMEMBERED + Duration::from_secs(1),
        );
        assert_eq!(endings.reason(&caller(1, 100)), None);
        assert_eq!(endings.reason(&caller(2, 200)), Some(Close::Policy));
        assert_eq!(endings.by_key.len(), 2);
        assert_eq!(endings.order.len(), 2);
    }
}
