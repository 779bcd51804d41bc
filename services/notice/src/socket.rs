//! The socket of `connect-notice`: notices go out. Version 1 expects nothing from the client, version 2 acknowledgements.

use std::collections::HashSet;
use std::sync::Arc;

use sosohappy_access::{Caller, Names};
use sosohappy_common::{Account, Problem};
use sosohappy_realtime::stream::{self, Incoming};
use sosohappy_realtime::{Close, Numbered, Origin, Page, Protocol, Stream, Version};
use sosohappy_store::Directory;

use crate::domain::{Mute, muted_post};
use crate::error::Error;
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
}

impl Protocol for NoticeProtocol {
    fn opened(&self, caller: &Caller) {
        self.seen.note(caller);
    }

    async fn begin(&self, caller: &Caller, since: Option<i64>) -> Result<Option<Stream>, Problem> {
        let kept = self.store.kept(&caller.account).await.map_err(Error::from)?;
        Ok(Some(match since {
            Some(since) => Stream::since(since, kept, MOST_MISSED),
            None => Stream::new_only(kept),
        }))
    }

    async fn page(&self, caller: &Caller, after: i64) -> Result<Page, Problem> {
        Ok(self.notices_after(&caller.account, after).await?)
    }

    /// Some clients of version 1 keep a connection alive by text; there is nothing to answer.
    async fn frame(&self, _caller: &Caller, origin: Origin<'_>, text: &str) -> Result<Option<String>, Close> {
        match origin.version() {
            Version::One => Ok(None),
            Version::Two => {
                let frame = Incoming::parse(text).ok_or(Close::BadFrame)?;
                let reason = "this socket takes `ack` frames only";
                Ok(Some(stream::error(frame.id.as_deref(), "unknown-topic", reason)))
            }
        }
    }
}

impl NoticeProtocol {
    async fn notices_after(&self, account: &Account, after: i64) -> Result<Page, Error> {
        let hidden = self.directory.blocked_with(account).await?;
        let following = self.store.after(account, &hidden, after, stream::PAGE).await?;
        let preferences = self.store.preferences(account).await?.preferences;
        let mutes: HashSet<Mute> = self.store.mutes(account).await?.into_iter().collect();
        let is_wanted = |notice: &StoredNotice| {
            let mute = muted_post(&notice.topic, &notice.data);
            preferences.shows(&notice.topic) && mute.is_none_or(|mute| !mutes.contains(&mute))
        };
        let actors = following.notices.iter().filter_map(|notice| notice.actor.clone());
        let names = present_names(&*self.names, actors.collect()).await?;
        let wanted = following.notices.iter().filter(|notice| is_wanted(notice));
        let frames = wanted.filter_map(|notice| {
            let name = notice.actor.as_ref().and_then(|actor| names.get(actor));
            self.numbered(notice, name.map(String::as_str))
        });
        Ok(Page {
            frames: frames.collect(),
            until: following.until.unwrap_or(after),
            more: following.more,
        })
    }

    /// Returns the frame of a notice, whose acknowledgement settles its push.
    fn numbered(&self, notice: &StoredNotice, actor: Option<&str>) -> Option<Numbered> {
        let data = notice.shown_data(actor)?;
        Some(Numbered {
            seq: notice.seq,
            frame: stream::frame(&notice.topic, Some(&notice.id.to_string()), Some(notice.seq), &data),
            on_shown: self.shown.queued(notice.id, notice.occurred_at),
        })
    }
}
