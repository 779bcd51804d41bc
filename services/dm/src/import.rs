//! Messages of the legacy Spring dm, taken over by `fleet import spring` from another collection, or where they are.

use std::sync::Arc;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use sosohappy_common::settings::Live;
use sosohappy_common::{Account, Context};
use sosohappy_events::Mixed;
use sosohappy_store::{Directory, StoreError, patiently};

use crate::domain::{Message, MessageDate, MessageId, MessageText, Party};
use crate::settings::Settings;
use crate::store::{self, Store};

/// Nicknames that are written at the same time.
const AT_ONCE: usize = 16;

/// Accounts whose nicknames are asked for at once.
const BATCH: usize = 500;

/// A document of the legacy collection `message`, whose people could be identified.
#[derive(Debug, Clone)]
pub struct LegacyMessage {
    /// Its `ObjectId`, 24 hex digits.
    pub id: String,
    pub sender: Account,
    pub receiver: Account,
    /// As the document has them.
    pub sender_nickname: String,
    pub receiver_nickname: String,
    pub date: i64,
    pub text: String,
}

/// The result of importing a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Unchanged,
    Created,
    /// The date is none.
    NoSuchDate,
    /// One of the two has resigned since it was written.
    Resigned,
}

/// Dm's store, opened for the import.
#[derive(Debug)]
pub struct Importer {
    pub(crate) store: Arc<dyn Store>,
    directory: Arc<dyn Directory>,
}

impl Importer {
    /// Opens what the settings of dm name.
    pub async fn open(settings: &Settings, context: &Context) -> anyhow::Result<Self> {
        let mixed = Mixed::new(Live::new(settings.fleet.clone()));
        let opened = store::open(settings, &mixed, context)
            .await
            .context("dm: messages.url")?;
        Ok(Self {
            store: opened.store,
            directory: opened.directory,
        })
    }

    /// Sets nicknames in dm's directory where they are not known, which otherwise learns them from events only.
    pub async fn set_names(&self, names: &[(Account, String)], at: Timestamp) -> Result<(), StoreError> {
        for batch in names.chunks(BATCH) {
            patiently(|| self.set_batch(batch, at)).await?;
        }
        Ok(())
    }

    async fn set_batch(&self, names: &[(Account, String)], at: Timestamp) -> Result<(), StoreError> {
        let accounts: Vec<Account> = names.iter().map(|(account, _)| account.clone()).collect();
        let known = self.directory.nicknames_of(&accounts).await?;
        let news = names
            .iter()
            .zip(known)
            .filter(|((_, name), known)| known.as_ref() != Some(name));
        stream::iter(news)
            .map(async |((account, name), _)| self.directory.set_nickname(account, Some(name), at).await)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    /// Takes messages over; what is there already stays. A dry run returns what would be done. The outcomes are in the order of the
    /// messages.
    pub async fn apply(&self, messages: &[LegacyMessage], dry_run: bool) -> Result<Vec<Outcome>, StoreError> {
        patiently(|| self.apply_once(messages, dry_run)).await
    }

    async fn apply_once(&self, messages: &[LegacyMessage], dry_run: bool) -> Result<Vec<Outcome>, StoreError> {
        let ids: Vec<MessageId> = messages
            .iter()
            .map(|message| MessageId::stored(message.id.clone()))
            .collect();
        let owned = self.store.owned(&ids).await?;
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut new = Vec::new();
        for (message, id) in messages.iter().zip(ids) {
            let Ok(date) = MessageDate::try_from(message.date) else {
                outcomes.push(Outcome::NoSuchDate);
                continue;
            };
            if owned.contains(&id) {
                outcomes.push(Outcome::Unchanged);
                continue;
            }
            outcomes.push(Outcome::Created);
            new.push(Message {
                id,
                sender: Party {
                    account: message.sender.clone(),
                    nickname: message.sender_nickname.clone(),
                },
                receiver: Party {
                    account: message.receiver.clone(),
                    nickname: message.receiver_nickname.clone(),
                },
                date,
                text: MessageText::stored(message.text.clone()),
            });
        }
        let refused = self.store.take_over(&new, dry_run).await?;
        for (message, outcome) in messages.iter().zip(&mut outcomes) {
            if refused.iter().any(|id| id.as_str() == message.id) {
                *outcome = Outcome::Resigned;
            }
        }
        Ok(outcomes)
    }
}
