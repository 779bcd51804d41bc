//! The state that the handlers share.

use std::sync::Arc;

use jiff::Timestamp;
use sosohappy_access::{Caller, Identity, MutedWordLists, Names, Revocations};
use sosohappy_bus::relay::RelayHandle;
use sosohappy_common::settings::Live;
use sosohappy_common::{Account, Context, Nickname};
use sosohappy_events::Mixed;
use sosohappy_media::{ImageId, Images};

use crate::domain::phrases::Phrases;
use crate::domain::{Cursors, Day, Writer};
use crate::error::Error;
use crate::housekeeping::GarbageHandle;
use crate::metrics::FeedMetrics;
use crate::settings::Settings;
use crate::store::{Marked, Store};

#[derive(Debug, Clone)]
pub struct App {
    pub settings: Live<Settings>,
    pub mixed: Mixed,
    pub context: Context,
    pub store: Arc<dyn Store>,
    pub images: Images,
    pub names: Arc<dyn Names>,
    pub muted_words: MutedWordLists,
    pub revocations: Revocations,
    pub identity: Identity,
    pub relay: RelayHandle,
    pub garbage: GarbageHandle,
    pub metrics: FeedMetrics,
    pub cursors: Cursors,
    pub phrases: Arc<Phrases>,
}

impl App {
    pub fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    /// Returns the author's post of a day, for a like or a bookmark.
    pub fn marked<'a>(&self, author: &'a Account, day: Day) -> Marked<'a> {
        Marked {
            author,
            day,
            is_suspended: self.revocations.is_suspended(author),
        }
    }

    /// The latest day whose posts others see.
    pub fn today(&self) -> Day {
        Day::first_today(self.now())
    }

    /// Returns the picture that had this id in the legacy feed, if the viewer may see its post, the author is not suspended and the time for such
    /// ids is not over.
    pub async fn legacy_image(&self, viewer: &Account, id: i64) -> Result<Option<ImageId>, Error> {
        let kept = self.settings.get().imported.image_ids;
        if kept.is_zero() {
            return Ok(None);
        }
        let since = self.now().checked_sub(kept).unwrap_or(Timestamp::MIN);
        let found = self.store.legacy_image(viewer, id, since, self.today()).await?;
        Ok(found
            .filter(|(author, _)| !self.revocations.is_suspended(author))
            .map(|(_, image)| image))
    }

    /// Returns the account that has this nickname now, unless it is suspended: what it wrote is not shown, and it makes no calls.
    pub async fn account_of(&self, nickname: &Nickname) -> Result<Option<Account>, Error> {
        let account = self.names.account_of(nickname.as_str()).await?;
        Ok(account.filter(|account| !self.revocations.is_suspended(account)))
    }

    /// Returns present nicknames in the order of `accounts`; none of an account that is resigned or suspended.
    pub async fn nicknames_of(&self, accounts: &[Account]) -> Result<Vec<Option<String>>, Error> {
        let names = self.names.nicknames_of(accounts).await?;
        let shown = accounts.iter().zip(names);
        Ok(shown
            .map(|(account, name)| name.filter(|_| !self.revocations.is_suspended(account)))
            .collect())
    }
}

/// Returns the caller as the writer of new data.
pub fn writer(caller: Caller) -> Writer {
    Writer {
        account: caller.account,
        authorized_at: caller.issued_at,
    }
}
