//! State that handlers, consumers and timers share.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use sosohappy_access::Caller;
use sosohappy_bus::relay::RelayHandle;
use sosohappy_common::nickname::may_be_nickname;
use sosohappy_common::rate::KeyedLimiter;
use sosohappy_common::settings::Live;
use sosohappy_common::{Account, Context};
use sosohappy_events::types::{Role, SessionId};
use sosohappy_events::{Envelope, Event, EventId, Mixed};
use sosohappy_media::Images;
use tokio::sync::Notify;

use crate::domain::hash::AccountHasher;
use crate::domain::person::Person;
use crate::domain::profile::Introduction;
use crate::error::Error;
use crate::id_tokens::IdTokens;
use crate::keys::Keyring;
use crate::ledger::Ledger;
use crate::mailer::Mailer;
use crate::metrics::Metrics;
use crate::passwords::Passwords;
use crate::provider_tokens::ProviderTokens;
use crate::providers::Providers;
use crate::settings::Settings;
use crate::store::external_calls::{ExternalCall, Kind};
use crate::store::{Store, Transaction};

#[derive(Debug)]
pub struct App {
    pub context: Context,
    pub settings: Live<Settings>,
    pub mixed: Mixed,
    pub store: Arc<dyn Store>,
    pub images: Images,
    pub keyring: Keyring,
    pub id_tokens: IdTokens,
    pub provider_tokens: ProviderTokens,
    pub mailer: Mailer,
    pub passwords: Passwords,
    pub hasher: AccountHasher,
    pub providers: Providers,
    /// Notified when a call was enqueued and committed.
    pub external_calls: Notify,
    /// None without `resignation.ledger`.
    pub ledger: Option<Ledger>,
    pub relay: RelayHandle,
    pub metrics: Metrics,
    pub failed_sign_ins: Live<KeyedLimiter<Account>>,
    pub failed_sign_ins_of_all: Live<KeyedLimiter<()>>,
    pub email_codes: Live<KeyedLimiter<Account>>,
    pub reissues: Live<KeyedLimiter<SessionId>>,
    pub reports: Live<KeyedLimiter<Account>>,
}

/// A call of another system that a change owes.
pub struct OwedCall {
    pub kind: Kind,
    /// Stored encrypted.
    pub payload: SecretString,
    /// The resignation that waits for it.
    pub resignation: Option<EventId>,
    /// None where it is retried until it succeeds.
    pub expires_at: Option<Timestamp>,
}

impl App {
    /// In milliseconds, as tables and events have it.
    pub fn now(&self) -> Timestamp {
        let now = self.context.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// Returns who bears this nickname, in any spelling.
    pub async fn bearer_of(&self, nickname: &str) -> Result<Option<Person>, Error> {
        if may_be_nickname(nickname) {
            Ok(self.store.person_named(nickname).await?)
        } else {
            Ok(None)
        }
    }

    /// Returns who bears this nickname, in any spelling, unless one of the two blocks the other: to both, the other is unknown then.
    pub async fn visible_bearer_of(&self, caller: &Account, nickname: &str) -> Result<Option<Person>, Error> {
        let Some(person) = self.bearer_of(nickname).await? else {
            return Ok(None);
        };
        let is_hidden = person.account != *caller && self.store.is_blocked(caller, &person.account).await?;
        Ok(Some(person).filter(|_| !is_hidden))
    }

    /// Returns who bears this nickname as the caller may see them: without introduction and photo while moderation hides them or the account is
    /// suspended. The person and moderators, who decide about them, see both.
    pub async fn profile_of(&self, caller: &Caller, nickname: &str) -> Result<Option<Person>, Error> {
        let mut person = self.visible_bearer_of(&caller.account, nickname).await?;
        if let Some(person) = &mut person
            && (person.is_profile_hidden || person.is_suspended)
            && person.account != caller.account
            && caller.role < Role::Moderator
        {
            person.introduction = Introduction::default();
            person.image = None;
        }
        Ok(person)
    }

    /// Writes an event that happened at that time into the transaction that makes it true.
    pub async fn enqueue<E: Event>(&self, tx: &mut dyn Transaction, event: E, at: Timestamp) -> Result<(), Error> {
        let mut envelope = Envelope::new(event, &self.context);
        envelope.meta.occurred_at = at;
        Ok(tx.enqueue(&envelope.to_outgoing(), self.now()).await?)
    }

    /// Writes a call of another system into the transaction that makes it due. [`Self::external_calls`] is notified after the commit.
    pub async fn enqueue_call(&self, tx: &mut dyn Transaction, owed: &OwedCall) -> Result<(), Error> {
        let entropy = self.context.entropy.as_ref();
        let id = entropy.uuid();
        let now = self.now();
        let sealed = self
            .provider_tokens
            .seal(&id.to_string(), owed.payload.expose_secret(), entropy);
        Ok(tx
            .insert_call(&ExternalCall {
                id,
                kind: owed.kind,
                resignation: owed.resignation,
                sealed,
                created_at: now,
                expires_at: owed.expires_at,
                due_at: now,
                attempts: 0,
            })
            .await?)
    }

    /// Commits, and wakes the relay for the enqueued events.
    pub async fn commit(&self, tx: Box<dyn Transaction>) -> Result<(), Error> {
        tx.commit().await?;
        self.relay.wake();
        Ok(())
    }
}

/// That long after, or the end of time.
pub fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}
