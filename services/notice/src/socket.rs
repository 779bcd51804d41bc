//! The socket of `connect-notice`: notices go out. Version 1 expects nothing from the client, version 2 acknowledgements.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::FutureExt as _;
use sosohappy_access::{Caller, Denied, Names};
use sosohappy_common::{Account, NicknameKey, Problem};
use sosohappy_realtime::stream::{self, Incoming};
use sosohappy_realtime::{Close, Origin, Page, Protocol, SharedReads, Stream, Version};
use sosohappy_store::{Directory, StoreError};

use crate::domain::{Mute, muted_post};
use crate::error::Error;
use crate::metrics::{Look, NoticeMetrics};
use crate::names::present_names;
use crate::seen::SeenDevices;
use crate::shown::ShownReports;
use crate::store::{Store, StoredNotice};

/// Notices that a client may have missed to get them on its socket. A client that missed more pages through `findNotice`.
const MOST_MISSED: i64 = 1_000;

#[derive(Debug)]
pub struct NoticeProtocol {
    pub store: Arc<dyn Store>,
    pub directory: Arc<dyn Directory>,
    pub names: Arc<dyn Names>,
    pub shown: ShownReports,
    pub seen: SeenDevices,
    pub resuming: Resuming,
}

/// What clients that connect again are answered with. When a replica has left, or a network comes back, they come by the thousand, and most have
/// missed nothing: the lookups of those that come at the same time are one statement.
#[derive(Debug, Clone)]
pub struct Resuming {
    newest: SharedReads<Account, i64, StoreError>,
    nicknames: SharedReads<Account, NicknameKey, Denied>,
    metrics: NoticeMetrics,
}

impl Resuming {
    pub fn new(store: &Arc<dyn Store>, names: &Arc<dyn Names>, metrics: &NoticeMetrics) -> Self {
        let (store, names) = (store.clone(), names.clone());
        Self {
            newest: SharedReads::new(move |accounts| {
                let store = store.clone();
                async move { store.newest(&accounts).await }.boxed()
            }),
            nicknames: SharedReads::new(move |accounts| {
                let names = names.clone();
                async move { keys_of(&*names, accounts).await }.boxed()
            }),
            metrics: metrics.clone(),
        }
    }

    /// Returns the highest number in the inbox, as it is now.
    async fn newest(&self, account: &Account) -> Result<Option<i64>, Problem> {
        let found = self.newest.get(account).await;
        let lookup = found.map_err(|error| Problem::from(&*error))?;
        self.metrics.resume_lookup(lookup.joined);
        Ok(lookup.value)
    }

    async fn nickname(&self, account: &Account) -> Option<NicknameKey> {
        // Where it fails, the handshake looks it up by itself.
        let lookup = self.nicknames.get(account).await.ok()?;
        self.metrics.resume_lookup(lookup.joined);
        lookup.value
    }
}

async fn keys_of(names: &dyn Names, accounts: Vec<Account>) -> Result<HashMap<Account, NicknameKey>, Denied> {
    let nicknames = names.nicknames_of(&accounts).await?;
    let pairs = accounts.into_iter().zip(nicknames);
    Ok(pairs
        .filter_map(|(account, nickname)| Some((account, NicknameKey::of(&nickname?))))
        .collect())
}

impl Protocol for NoticeProtocol {
    fn opened(&self, caller: &Caller, version: Version) {
        self.seen.note(caller);
        if version == Version::One {
            self.shown.opened(caller);
        }
    }

    async fn begin(&self, caller: &Caller, since: Option<i64>) -> Result<Option<Stream>, Problem> {
        let newest = self.resuming.newest(&caller.account).await?;
        Ok(Some(match since {
            // Nothing was missed, whatever is kept.
            Some(since) if since == newest.unwrap_or(0) => Stream {
                after: since,
                resync: None,
            },
            Some(since) => {
                let kept = self.store.kept(&caller.account).await.map_err(Error::from)?;
                Stream::since(since, kept, MOST_MISSED)
            }
            None => Stream::new_only(newest.map(|newest| (newest, newest))),
        }))
    }

    async fn look(&self, caller: &Caller, after: i64) -> Result<Page, Problem> {
        // Notices that were stored between `begin` and the registration in the hub gave no signal, nor did those whose record was read before.
        let newest = self.resuming.newest(&caller.account).await?;
        if newest.is_none_or(|newest| newest <= after) {
            self.resuming.metrics.look(Look::NothingNew);
            return Ok(Page {
                until: after,
                ..Page::default()
            });
        }
        self.resuming.metrics.look(Look::Read);
        self.page(caller, after).await
    }

    async fn knows_nickname(&self, caller: &Caller, nickname: &str) -> bool {
        !self.names.is_catching_up() && self.resuming.nickname(&caller.account).await == Some(NicknameKey::of(nickname))
    }

    async fn page(&self, caller: &Caller, after: i64) -> Result<Page, Problem> {
        Ok(self.notices_after(&caller.account, after).await?)
    }

    /// Some clients of version 1 keep a connection alive by text; there is nothing to answer.
    async fn frame(&self, _caller: &Caller, origin: Origin<'_>, text: &str) -> Result<Option<String>, Close> {
        match origin.version() {
            Version::One => Ok(None),
            Version::Two => {
                let frame = Incoming::parse(text).map_err(|_| Close::BadFrame)?;
                let reason = "this socket takes `ack` frames only";
                Ok(Some(stream::error(frame.id.as_deref(), "unknown-topic", reason)))
            }
        }
    }
}

impl NoticeProtocol {
    async fn notices_after(&self, account: &Account, after: i64) -> Result<Page, Error> {
        let (hidden, stored, mutes) = tokio::try_join!(
            self.directory.blocked_with(account),
            self.store.preferences(account),
            self.store.mutes(account),
        )?;
        let following = self.store.after(account, &hidden, after, stream::PAGE).await?;
        let preferences = stored.preferences;
        let mutes: HashSet<Mute> = mutes.into_iter().collect();
        let is_wanted = |notice: &StoredNotice| {
            let mute = muted_post(&notice.topic, &notice.data);
            preferences.shows(&notice.topic) && mute.is_none_or(|mute| !mutes.contains(&mute))
        };
        let actors = following.notices.iter().filter_map(|notice| notice.actor.clone());
        let names = present_names(&*self.names, actors.collect()).await?;
        let wanted = following.notices.iter().filter(|notice| is_wanted(notice));
        let frames = wanted.filter_map(|notice| {
            let name = notice.actor.as_ref().and_then(|actor| names.get(actor));
            self.shown.numbered(notice, name.map(String::as_str))
        });
        Ok(Page {
            frames: frames.collect(),
            until: following.until.unwrap_or(after),
            more: following.more,
        })
    }
}
