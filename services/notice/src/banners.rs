//! Removes the banners of handled notices from the devices that still show them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use sosohappy_common::correlation::correlation;
use sosohappy_common::{Account, WakeHandle};
use sosohappy_events::EventId;
use sosohappy_events::types::SessionId;
use sosohappy_store::StoreError;

use crate::domain::{Banner, PushContent, Target, WaitingPush};
use crate::store::Store;

/// Ids in one push: 50 of 37 bytes, of the 4096 that a payload has.
const MOST_IDS: usize = 50;

/// Withdraws banners; clones share the queue.
#[derive(Debug, Clone)]
pub struct Banners {
    pub store: Arc<dyn Store>,
    /// Wakes the push worker.
    pub pushes: WakeHandle,
}

impl Banners {
    /// Queues pushes that remove the banners of notices and messages which were read or withdrawn, from all devices but the one that read
    /// them, whose app removes its own; from all when it is not known. A banner is forgotten after its push is queued: a call after a crash in between queues the same push, under the same
    /// id.
    pub async fn withdraw_handled(
        &self,
        account: &Account,
        reader: Option<SessionId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let banners = self.store.banners(account).await?;
        if banners.is_empty() {
            return Ok(());
        }
        let events: Vec<EventId> = banners.iter().map(|banner| banner.event).collect();
        let handled: HashSet<EventId> = self.store.handled(account, &events).await?.into_iter().collect();
        let handled: Vec<Banner> = banners
            .into_iter()
            .filter(|banner| handled.contains(&banner.event))
            .collect();

        // Nothing shows them any more: a like that is given again is pushed again.
        let events: Vec<EventId> = handled.iter().map(|banner| banner.event).collect();
        if !events.is_empty() {
            self.store.forget_withdrawn(&events).await?;
        }

        let own = match reader {
            Some(reader) => self.store.token_of(account, reader).await?,
            None => None,
        };
        let mut by_event = BTreeMap::<EventId, Vec<&Banner>>::new();
        for banner in handled.iter().filter(|banner| Some(&banner.token) != own.as_ref()) {
            by_event.entry(banner.event).or_default().push(banner);
        }
        let by_event: Vec<_> = by_event.into_iter().collect();
        for part in by_event.chunks(MOST_IDS) {
            let push = push(account, part, now);
            self.store.queue(&push, now).await?;
        }
        self.store.remove_banners(account, &handled).await?;
        if !by_event.is_empty() {
            self.pushes.wake();
        }
        Ok(())
    }

    /// Forgets banners of a device: those that it does not show any more, and those that it removes after this answer.
    pub async fn shown_on(
        &self,
        account: &Account,
        token: &str,
        shown: &[EventId],
        handled: &[EventId],
    ) -> Result<(), StoreError> {
        let is_gone = |banner: &Banner| !shown.contains(&banner.event) || handled.contains(&banner.event);
        let banners = self.store.banners(account).await?;
        let gone: Vec<Banner> = banners
            .into_iter()
            .filter(|banner| banner.token == token && is_gone(banner))
            .collect();
        self.store.remove_banners(account, &gone).await
    }
}

fn push(account: &Account, banners: &[(EventId, Vec<&Banner>)], now: Timestamp) -> WaitingPush {
    const REMOVALS: EventId = EventId(uuid::Uuid::from_u128(0x7265_6d6f_7661_6c73));
    let events: Vec<EventId> = banners.iter().map(|(event, _)| *event).collect();
    let mut tokens: Vec<String> = banners
        .iter()
        .flat_map(|(_, banners)| banners.iter().map(|banner| banner.token.clone()))
        .collect();
    tokens.sort();
    tokens.dedup();
    // With the time: a notice that is given again has another banner to remove.
    let ids = banners.iter().map(|(event, banners)| {
        let latest = banners.iter().map(|banner| banner.occurred_at).max();
        format!("{event} {}", latest.unwrap_or_default().as_millisecond())
    });
    let ids: Vec<String> = ids.collect();
    WaitingPush {
        event: REMOVALS.of_part(&format!(
            "{}\u{1f}{}\u{1f}{}",
            account.as_str(),
            ids.join(","),
            tokens.join(",")
        )),
        target: Target::Account(account.clone()),
        actor: None,
        content: PushContent::Handled { events, tokens },
        occurred_at: now,
        authorized_at: None,
        queued_at: now,
        attempts: 0,
        sent: Vec::new(),
        cause: correlation(),
    }
}
