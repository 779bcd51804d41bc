//! Revoked sessions and accounts, read once per process from `expired`, `resign` and `accountState`.
//!
//! The authenticator asks before it admits a token, the socket hub before it registers a socket and whenever an account it
//! subscribed to changes. Every rule is idempotent and keeps the greatest `occurred-at`, so neither redelivery nor order matters.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hashbrown::HashMap;
use jiff::Timestamp;
use parking_lot::RwLock;
use sosohappy_bus::consume::{Consumer, HandleError, spawn_reader};
use sosohappy_bus::{Bus, Start};
use sosohappy_common::{Account, Context};
use sosohappy_events::Envelope;
use sosohappy_events::types::{AccountResigned, AccountStateChanged, SessionExpired, SessionId, State};

use crate::READ_AT_ONCE;

/// Clocks of producers, brokers and this replica may differ by this much.
const SKEW: Duration = Duration::from_mins(5);

/// Returns the moment before which no token was issued that can still be valid.
pub(crate) fn horizon(now: Timestamp, token_lifetime: Duration) -> Timestamp {
    now.checked_sub(token_lifetime.saturating_add(SKEW))
        .unwrap_or(Timestamp::MIN)
}

/// Revocations known to this replica. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Revocations(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Session to the latest moment it was closed at, in milliseconds since the epoch.
    sessions: RwLock<HashMap<u64, i64>>,
    accounts: RwLock<HashMap<Account, AccountRevocations>>,
    subscribers: RwLock<Vec<Subscriber>>,
}

type Subscriber = Box<dyn Fn(&Account) + Send + Sync>;

/// Revocations of all tokens of an account. Times in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct AccountRevocations {
    resigned_ms: Option<i64>,
    /// The latest state, true for suspended; of two states at the same moment the stricter.
    state: Option<(i64, bool)>,
}

impl AccountRevocations {
    /// Returns when all tokens of the account issued at that moment were revoked.
    fn revoked_ms(&self, issued_ms: i64) -> Option<i64> {
        let resigned = self.resigned_ms.filter(|at| issued_ms <= *at);
        let suspended = self.state.and_then(|(at, suspended)| suspended.then_some(at));
        resigned.max(suspended)
    }
}

impl Revocations {
    /// Starts the readers of `expired`, `resign` and `accountState`, the only ones of this process; readiness waits until they
    /// have caught up. Tokens live at most `token_lifetime`, so older records of the first two are not read.
    #[must_use]
    pub fn start(context: &Context, token_lifetime: Duration, bus: &Arc<dyn Bus>) -> Self {
        let revocations = Self::default();
        let horizon = Start::At(horizon(context.clock.now(), token_lifetime));
        spawn_reader::<SessionExpired>(context, bus.clone(), horizon, revocations.clone());
        spawn_reader::<AccountResigned>(context, bus.clone(), horizon, revocations.clone());
        // Compacted: the latest state of an account may be older than any token.
        spawn_reader::<AccountStateChanged>(context, bus.clone(), Start::Earliest, revocations.clone());
        revocations
    }

    /// Calls `subscriber` with the account after each revocation has taken effect. It must not block.
    pub fn subscribe(&self, subscriber: impl Fn(&Account) + Send + Sync + 'static) {
        self.0.subscribers.write().push(Box::new(subscriber));
    }

    /// Returns when a token of this session, issued at that moment, was revoked; `None` while it is valid.
    #[must_use]
    pub fn revoked_at(&self, account: &Account, session: SessionId, issued_at: Timestamp) -> Option<Timestamp> {
        let at = self.revoked_ms(account, session, issued_at.as_millisecond())?;
        Some(Timestamp::from_millisecond(at).unwrap_or(Timestamp::MAX))
    }

    pub(crate) fn revoked_ms(&self, account: &Account, session: SessionId, issued_ms: i64) -> Option<i64> {
        let closed = self.0.sessions.read().get(&session.0).copied();
        let closed = closed.filter(|at| issued_ms <= *at);
        let known = self.0.accounts.read().get(account).copied();
        closed.max(known.and_then(|account| account.revoked_ms(issued_ms)))
    }

    /// Whether all sessions of the account were revoked at that moment or later.
    #[must_use]
    pub fn is_account_revoked_since(&self, account: &Account, moment: Timestamp) -> bool {
        let known = self.0.accounts.read().get(account).copied();
        let revoked = known.and_then(|account| account.revoked_ms(moment.as_millisecond()));
        revoked.is_some_and(|at| at >= moment.as_millisecond())
    }

    /// Whether the account is suspended now: it neither sends nor receives anything.
    #[must_use]
    pub fn is_suspended(&self, account: &Account) -> bool {
        let known = self.0.accounts.read().get(account).copied();
        known
            .and_then(|account| account.state)
            .is_some_and(|(_, suspended)| suspended)
    }

    /// Revokes the session's tokens issued up to that moment. A token re-issued since stays valid.
    pub fn close_session(&self, account: &Account, session: SessionId, at: Timestamp) {
        let at = at.as_millisecond();
        {
            let mut sessions = self.0.sessions.write();
            let known = sessions.entry(session.0).or_insert(at);
            *known = at.max(*known);
        }
        self.publish(account);
    }

    /// Revokes all of the account's tokens issued up to that moment. A later sign-up stays valid.
    pub fn resign(&self, account: &Account, at: Timestamp) {
        self.change(account, |account| {
            account.resigned_ms = account.resigned_ms.max(Some(at.as_millisecond()));
        });
    }

    /// Suspends the account, or restores it; an older state than the known one changes nothing.
    pub fn set_state(&self, account: &Account, state: State, at: Timestamp) {
        self.change(account, |account| {
            account.state = account
                .state
                .max(Some((at.as_millisecond(), state == State::Suspended)));
        });
    }

    fn change(&self, account: &Account, change: impl FnOnce(&mut AccountRevocations)) {
        change(self.0.accounts.write().entry(account.clone()).or_default());
        self.publish(account);
    }

    /// Calls the subscribers. The caller holds no lock on the state: subscribers read it.
    fn publish(&self, account: &Account) {
        for subscriber in self.0.subscribers.read().iter() {
            subscriber(account);
        }
    }

    /// Removes revocations that cover only tokens issued before `horizon_ms`, which have expired. States stay: a compacted topic may deliver an
    /// older one again at any time.
    pub(crate) fn sweep(&self, horizon_ms: i64) {
        {
            let mut sessions = self.0.sessions.write();
            sessions.retain(|_, at| *at >= horizon_ms);
            // A day of many sign-outs is not held for ever.
            if sessions.len() < sessions.capacity() / 4 {
                let room = sessions.len() * 2;
                sessions.shrink_to(room);
            }
        }
        self.0.accounts.write().retain(|_, account| {
            account.resigned_ms = account.resigned_ms.filter(|at| *at >= horizon_ms);
            *account != AccountRevocations::default()
        });
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("sessions", &self.sessions.read().len())
            .field("accounts", &self.accounts.read().len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Consumer<SessionExpired> for Revocations {
    const MOST_AT_ONCE: usize = READ_AT_ONCE;

    async fn handle(&self, Envelope { event, meta }: Envelope<SessionExpired>) -> Result<(), HandleError> {
        // A Spring service names no session; its tokens and sockets end by their own expiry.
        if let Some(session) = event.session {
            self.close_session(&event.account, session, meta.occurred_at);
        }
        Ok(())
    }
}

#[async_trait]
impl Consumer<AccountResigned> for Revocations {
    const MOST_AT_ONCE: usize = READ_AT_ONCE;

    async fn handle(&self, Envelope { event, meta }: Envelope<AccountResigned>) -> Result<(), HandleError> {
        self.resign(&event.account, meta.occurred_at);
        Ok(())
    }
}

#[async_trait]
impl Consumer<AccountStateChanged> for Revocations {
    const MOST_AT_ONCE: usize = READ_AT_ONCE;

    async fn handle(&self, Envelope { event, meta }: Envelope<AccountStateChanged>) -> Result<(), HandleError> {
        self.set_state(&event.account, event.state, meta.occurred_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn kim() -> Account {
        "kim@example.com+kakao".parse().unwrap()
    }

    #[test]
    fn only_older_tokens_are_revoked() {
        let revocations = Revocations::default();
        let revoked = |session, issued| revocations.revoked_at(&kim(), SessionId(session), at(issued));
        revocations.close_session(&kim(), SessionId(1), at(200));
        assert_eq!(revoked(1, 200), Some(at(200)));
        assert_eq!(revoked(1, 201), None, "re-issued since");
        assert_eq!(revoked(2, 100), None, "another session");
        revocations.resign(&kim(), at(150));
        assert_eq!(revoked(2, 100), Some(at(150)));
        assert_eq!(revoked(2, 151), None, "signed up again");
        assert!(revocations.is_account_revoked_since(&kim(), at(150)));
        assert!(!revocations.is_account_revoked_since(&kim(), at(151)));
    }

    #[test]
    fn the_latest_revocation_counts_in_any_order() {
        for (first, second) in [(100, 200), (200, 100)] {
            let revocations = Revocations::default();
            let revoked = |session, issued| revocations.revoked_at(&kim(), SessionId(session), at(issued));
            revocations.close_session(&kim(), SessionId(1), at(first));
            revocations.close_session(&kim(), SessionId(1), at(second));
            assert_eq!((revoked(1, 150), revoked(1, 201)), (Some(at(200)), None));
            revocations.resign(&kim(), at(first));
            revocations.resign(&kim(), at(second));
            assert_eq!((revoked(2, 150), revoked(2, 201)), (Some(at(200)), None));
        }
    }

    #[test]
    fn an_older_state_does_not_replace_a_newer_one_even_after_a_sweep() {
        let revocations = Revocations::default();
        revocations.set_state(&kim(), State::Restored, at(200));
        revocations.sweep(at(10_000).as_millisecond());
        revocations.set_state(&kim(), State::Suspended, at(100));
        assert_eq!(revocations.revoked_at(&kim(), SessionId(1), at(50)), None);
        revocations.set_state(&kim(), State::Suspended, at(300));
        assert_eq!(
            revocations.revoked_at(&kim(), SessionId(1), at(400)),
            Some(at(300)),
            "also for tokens issued since"
        );
        assert!(revocations.is_suspended(&kim()));
        revocations.set_state(&kim(), State::Restored, at(400));
        assert!(!revocations.is_suspended(&kim()));
        revocations.resign(&kim(), at(500));
        assert!(!revocations.is_suspended(&kim()), "a resignation is no suspension");
    }

    #[test]
    fn subscribers_see_the_revocation_they_are_called_for() {
        let revocations = Revocations::default();
        let seen = Arc::new(AtomicUsize::new(0));
        let (asked, counted) = (revocations.clone(), seen.clone());
        revocations.subscribe(move |account| {
            if asked.revoked_at(account, SessionId(1), at(100)).is_some() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        revocations.close_session(&kim(), SessionId(2), at(200));
        assert_eq!(seen.load(Ordering::Relaxed), 0);
        revocations.close_session(&kim(), SessionId(1), at(200));
        revocations.resign(&kim(), at(200));
        assert_eq!(seen.load(Ordering::Relaxed), 2);
    }
}
