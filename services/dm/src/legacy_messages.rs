//! Messages that the legacy Spring services left, or that a Spring replica beside ours writes: they name people by nickname only. Each is
//! given to the accounts that bear these names, so that it is in their history and is erased with a resignation. A message that names an
//! unknown person stays as it is until that name arrives.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_access::Names;
use sosohappy_common::{Account, Context};
use sosohappy_store::{Directory, StoreError};

use crate::domain::{Claim, MessageId, Unclaimed};
use crate::store::Store;

/// A message is hidden for at most this long after it was written and both of its people are known, and the time of a pass.
const EVERY: Duration = Duration::from_secs(20);

/// Messages that are younger than this when a pass begins are looked at by the next one too: a Spring replica makes ids by a clock
/// of its own, and what it writes may be seen late.
const YOUNG: Duration = Duration::from_hours(1);

const PAGE: u32 = 500;

/// When more names than this have arrived, one pass over all messages is cheaper than one for each.
const MOST_PEOPLE: usize = 16;

/// `directory` brings names as they arrive; `names` also asks auth.
pub fn spawn(context: &Context, store: Arc<dyn Store>, names: Arc<dyn Names>, directory: Arc<dyn Directory>) {
    let (clock, lifecycle) = (context.clock.clone(), context.lifecycle.clone());
    let mut rounds = context.lifecycle.rounds(EVERY);
    let mut claimer = Claimer::new(store, names, directory);
    context.lifecycle.spawn("legacy-messages", async move {
        // Before, the directory is not filled, and every name would be asked of auth.
        if rounds.interruptible(lifecycle.ready()).await.is_none() {
            return Ok(());
        }
        while rounds.next().await {
            if let Some(Err(error)) = rounds.interruptible(claimer.round(clock.now())).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "claiming legacy messages failed; retrying"
                );
            }
        }
        Ok(())
    });
}

/// Claims messages in rounds.
pub struct Claimer {
    store: Arc<dyn Store>,
    names: Arc<dyn Names>,
    directory: Arc<dyn Directory>,
    /// Nicknames in messages that could not be claimed.
    unknown: BTreeSet<String>,
    /// The last message that the pass has looked at.
    after: MessageId,
    /// When the pass under way began.
    began: Option<Timestamp>,
}

impl Claimer {
    /// Begins with a pass over all messages.
    pub fn new(store: Arc<dyn Store>, names: Arc<dyn Names>, directory: Arc<dyn Directory>) -> Self {
        Self {
            store,
            names,
            directory,
            unknown: BTreeSet::new(),
            after: first_id(Timestamp::UNIX_EPOCH),
            began: None,
        }
    }

    /// Claims the messages of people whose names have arrived since the last round, and what was written since then. After an error
    /// the next round goes on where this one has stopped.
    pub async fn round(&mut self, now: Timestamp) -> Result<(), StoreError> {
        let arrived = self.arrived().await?;
        if arrived.len() > MOST_PEOPLE {
            (self.after, self.began) = (first_id(Timestamp::UNIX_EPOCH), None);
        } else {
            for nickname in &arrived {
                self.pass(Some(nickname), first_id(Timestamp::UNIX_EPOCH)).await?;
            }
        }
        // Only now: after an error they arrive once more.
        self.unknown.retain(|nickname| !arrived.contains(nickname));

        let began = *self.began.get_or_insert(now);
        self.pass(None, self.after.clone()).await?;
        self.after = first_id(began.checked_sub(YOUNG).unwrap_or(Timestamp::UNIX_EPOCH));
        self.began = None;
        Ok(())
    }

    /// Returns which of the unknown names have a bearer by now.
    async fn arrived(&self) -> Result<BTreeSet<String>, StoreError> {
        let mut arrived = BTreeSet::new();
        for nickname in &self.unknown {
            if self.directory.account_of(nickname).await?.is_some() {
                arrived.insert(nickname.clone());
            }
        }
        Ok(arrived)
    }

    /// Claims messages with ids after this one, of one person or of all, as far as both of their people are known.
    async fn pass(&mut self, of: Option<&str>, mut after: MessageId) -> Result<(), StoreError> {
        let mut known = HashMap::new();
        loop {
            let page = self.store.unclaimed(&after, of, PAGE).await?;
            let Some(last) = page.last else { return Ok(()) };
            let mut claims = Vec::new();
            for Unclaimed { id, sender, receiver } in page.messages {
                // Both are looked up, so that each is among the unknown if it is.
                let sender = self.account_of(sender, &mut known).await;
                let receiver = self.account_of(receiver, &mut known).await;
                if let (Some(sender), Some(receiver)) = (sender, receiver) {
                    claims.push(Claim { id, sender, receiver });
                }
            }
            self.store.claim(&claims).await?;
            if of.is_none() {
                self.after = last.clone();
            }
            after = last;
            if !page.is_full {
                // What a busy Spring replica has written meanwhile is for the next round: this one would not end, and names that arrive
                // are looked at between rounds only.
                return Ok(());
            }
        }
    }

    /// A name that auth cannot be asked for now is unknown: it arrives when the directory has it.
    async fn account_of(&mut self, nickname: String, known: &mut HashMap<String, Option<Account>>) -> Option<Account> {
        if let Some(account) = known.get(&nickname) {
            return account.clone();
        }
        let account = self.names.account_of(&nickname).await.ok().flatten();
        if account.is_none() {
            self.unknown.insert(nickname.clone());
        }
        known.insert(nickname, account.clone());
        account
    }
}

/// Before all ids that were made since then: they begin with the second, in hex.
fn first_id(since: Timestamp) -> MessageId {
    MessageId::stored(format!("{:08x}{:016x}", since.as_second().max(0), 0))
}
