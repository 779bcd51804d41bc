//! Names from the service's own directory through a bounded cache, then from auth; the consumers that feed the directory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use moka::future::Cache;
use sosohappy_bus::Bus;
use sosohappy_bus::consume::{Consumer, HandleError, spawn_consumer};
use sosohappy_common::lifecycle::Lifecycle;
use sosohappy_common::nickname::may_be_nickname;
use sosohappy_common::{Account, Context};
use sosohappy_events::types::{NicknameSet, RelationChanged};
use sosohappy_events::{Envelope, Event as _};
use sosohappy_store::{Directory, StoreError};

use crate::introspection::AuthClient;
use crate::{Caller, Denied, Names, Profile};

/// How long a name is cached: the time until a rename is seen by replicas other than the one that consumes it.
const CACHED: Duration = Duration::from_secs(2);

/// Entries of each of the two caches.
const CACHE_ENTRIES: u64 = 50_000;

/// Concurrent calls to auth for one list of accounts.
const LOOKUPS_AT_ONCE: usize = 8;

/// [`crate::Names`] over a [`Directory`]. Clones share the cache, which holds no negative answers: a new account is seen at once.
#[derive(Debug, Clone)]
pub struct DirectoryNames {
    directory: Arc<dyn Directory>,
    auth: AuthClient,
    lifecycle: Lifecycle,
    accounts: Cache<String, Account>,
    nicknames: Cache<Account, String>,
}

impl DirectoryNames {
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, auth: AuthClient, lifecycle: Lifecycle) -> Self {
        Self {
            directory,
            auth,
            lifecycle,
            accounts: Cache::builder()
                .max_capacity(CACHE_ENTRIES)
                .time_to_live(CACHED)
                .build(),
            nicknames: Cache::builder()
                .max_capacity(CACHE_ENTRIES)
                .time_to_live(CACHED)
                .build(),
        }
    }

    /// Returns the nicknames of the accounts that have one: from the directory, then from auth. While auth is unavailable the others are
    /// left out, so that a list is answered with gaps instead of an error.
    async fn name(&self, accounts: &[Account]) -> Result<HashMap<Account, String>, Denied> {
        let mut named = HashMap::with_capacity(accounts.len());
        let mut unknown = Vec::new();
        let nicknames = self
            .directory
            .nicknames_of(accounts)
            .await
            .map_err(|error| denied(&error))?;
        for (account, nickname) in accounts.iter().cloned().zip(nicknames) {
            match nickname {
                Some(nickname) => _ = named.insert(account, nickname),
                None => unknown.push(account),
            }
        }
        let mut answers = stream::iter(unknown)
            .map(async |account| {
                let answer = self.auth.lookup_account(&account).await;
                (account, answer)
            })
            .buffer_unordered(LOOKUPS_AT_ONCE);
        while let Some((account, answer)) = answers.next().await {
            if let Ok(Some(nickname)) = answer {
                named.insert(account, nickname);
            }
        }
        for (account, nickname) in &named {
            self.nicknames.insert(account.clone(), nickname.clone()).await;
        }
        Ok(named)
    }
}

#[async_trait]
impl Names for DirectoryNames {
    async fn account_of(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        if !may_be_nickname(nickname) {
            return Ok(None);
        }
        if let Some(account) = self.accounts.get(nickname).await {
            return Ok(Some(account));
        }
        // Asked first: the name may be read, as the last one, between the look-up and the answer.
        let is_catching_up = self.is_catching_up();
        let account = match self
            .directory
            .account_of(nickname)
            .await
            .map_err(|error| denied(&error))?
        {
            Some(account) => Some(account),
            None => self.auth.lookup_nickname(nickname).await?,
        };
        match &account {
            Some(account) => self.accounts.insert(nickname.to_owned(), account.clone()).await,
            None if is_catching_up => return Err(Denied::Unavailable),
            None => {}
        }
        Ok(account)
    }

    async fn account_of_fresh(&self, nickname: &str) -> Result<Option<Account>, Denied> {
        let account = self.auth.lookup_nickname_now(nickname).await?;
        match &account {
            Some(account) => self.accounts.insert(nickname.to_owned(), account.clone()).await,
            None => self.accounts.invalidate(nickname).await,
        }
        Ok(account)
    }

    /// Asks a Spring auth with the caller's own token, because it publishes names at some sign-ins only. Stores a confirmed nickname in
    /// the directory; caches no other answer.
    async fn account_of_caller(&self, caller: &Caller, nickname: &str) -> Result<Option<Account>, Denied> {
        let Some(bearer) = &caller.bearer else {
            return self.account_of_fresh(nickname).await;
        };
        let account = self.auth.vouch(&caller.account, bearer, nickname).await?;
        if account.as_ref() == Some(&caller.account) {
            // Dated by the token: a rename since then is newer, and stays.
            self.directory
                .set_nickname(&caller.account, Some(nickname), caller.issued_at)
                .await
                .map_err(|error| denied(&error))?;
            self.nicknames.invalidate(&caller.account).await;
            self.accounts.insert(nickname.to_owned(), caller.account.clone()).await;
        }
        Ok(account)
    }

    async fn profile_of(&self, account: &Account) -> Result<Option<Profile>, Denied> {
        self.auth.profile_of(account).await
    }

    /// Until the gate of the names' consumer is open.
    fn is_catching_up(&self) -> bool {
        let gate = NicknameSet::TOPIC.consumer_name();
        self.lifecycle.readiness().waiting_for.contains(&gate)
    }

    async fn nicknames_of(&self, accounts: &[Account]) -> Result<Vec<Option<String>>, Denied> {
        let mut named = HashMap::with_capacity(accounts.len());
        let mut missing = HashSet::new();
        for account in accounts {
            if named.contains_key(account) || missing.contains(account) {
                continue;
            }
            match self.nicknames.get(account).await {
                Some(nickname) => _ = named.insert(account.clone(), nickname),
                None => _ = missing.insert(account.clone()),
            }
        }
        if !missing.is_empty() {
            let missing: Vec<Account> = missing.into_iter().collect();
            named.extend(self.name(&missing).await?);
        }
        Ok(accounts.iter().map(|account| named.get(account).cloned()).collect())
    }
}

fn denied(error: &StoreError) -> Denied {
    tracing::error!(
        error = error as &dyn std::error::Error,
        kind = error.kind(),
        "failed to read directory"
    );
    match error {
        StoreError::Unavailable(_) | StoreError::Retry(_) | StoreError::Settings(_) => Denied::Unavailable,
        StoreError::Conflict(_) | StoreError::Invalid(_) | StoreError::Corrupt(_) => Denied::Internal,
    }
}

/// Starts the consumers of `emailAndNickname` and `relation` into the directory; they invalidate the cache.
pub fn spawn_directory_consumers(context: &Context, bus: &Arc<dyn Bus>, names: &DirectoryNames) {
    spawn_consumer::<NicknameSet>(context, bus.clone(), NicknameConsumer(names.clone()));
    spawn_consumer::<RelationChanged>(context, bus.clone(), RelationConsumer(names.directory.clone()));
}

struct NicknameConsumer(DirectoryNames);

#[async_trait]
impl Consumer<NicknameSet> for NicknameConsumer {
    async fn handle(&self, Envelope { event, meta }: Envelope<NicknameSet>) -> Result<(), HandleError> {
        let names = &self.0;
        let nickname = event.nickname.as_deref();
        names
            .directory
            .set_nickname(&event.account, nickname, meta.occurred_at)
            .await?;
        names.nicknames.invalidate(&event.account).await;
        if let Some(nickname) = nickname {
            names.accounts.invalidate(nickname).await;
        }
        Ok(())
    }
}

struct RelationConsumer(Arc<dyn Directory>);

#[async_trait]
impl Consumer<RelationChanged> for RelationConsumer {
    async fn handle(&self, Envelope { event, meta }: Envelope<RelationChanged>) -> Result<(), HandleError> {
        Ok(self
            .0
            .set_relation(event.relation, &event.account, &event.other, meta.occurred_at)
            .await?)
    }
}
