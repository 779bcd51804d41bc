//! Work beside requests: unused pictures are deleted, those of suspended authors get new ids and counts follow, changes of categories are folded into their totals,
//! old resignations and expired idempotency keys deleted, held texts counted. Every replica does it; each step is safe to be done twice or at the
//! same time.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use sosohappy_bus::relay::RelayHandle;
use sosohappy_common::clock::Clock;
use sosohappy_common::settings::Live;
use sosohappy_common::{Context, WakeHandle};
use sosohappy_media::{ImageId, Images};
use sosohappy_store::StoreError;
use tokio::time::sleep;

use crate::copies::{self, Renewed};
use crate::domain::Day;
use crate::error::Error;
use crate::metrics::FeedMetrics;
use crate::settings::Settings;
use crate::store::{Renewal, StateChange, Store};

/// Interval of the search for garbage without a wake, such as that of a replica that died.
const LOOK_FOR_GARBAGE: Duration = Duration::from_secs(5);
const PICTURES_AT_ONCE: usize = 8;
const PICTURES_A_ROUND: u32 = 100;
/// When a picture is tried again that could not be deleted.
const AFTER_A_FAILURE: Duration = Duration::from_mins(1);

/// Interval of the search for pictures that need new ids, without a wake.
const LOOK_FOR_RENEWALS: Duration = Duration::from_secs(5);

const FOLD_EVERY: Duration = Duration::from_secs(2);
/// Changes folded in one transaction.
const FOLD_AT_ONCE: u32 = 200;

const FORGET_EVERY: Duration = Duration::from_hours(1);
/// Beyond the life of a token, for clocks that differ.
const FORGET_AFTER: Duration = Duration::from_hours(24);

/// How long the copy of reported content is kept at most: far longer than a report waits for its decision.
const REPORTED_KEPT: Duration = Duration::from_hours(180 * 24);

/// How long the post view keeps tombstones: longer than an event is late, unless an operator publishes a dead letter again.
const TOMBSTONES_KEPT: Duration = Duration::from_hours(24);

/// Interval of the tries to build the post view while another replica builds it, or the database is unavailable.
const BUILD_EVERY: Duration = Duration::from_secs(5);

/// Interval at which held posts and comments are counted.
const COUNT_HELD_EVERY: Duration = Duration::from_secs(5);

/// Wakes the task that deletes pictures; called after each commit that leaves a picture unused.
pub type GarbageHandle = WakeHandle;

pub fn spawn(
    context: &Context,
    store: &Arc<dyn Store>,
    images: &Images,
    metrics: &FeedMetrics,
    token_lifetime: Duration,
) -> GarbageHandle {
    let handle = GarbageHandle::default();
    let collector = Collector {
        store: store.clone(),
        images: images.clone(),
        clock: context.clock.clone(),
        deleted: metrics.images_deleted.clone(),
    };
    let (woken, draining) = (handle.clone(), context.lifecycle.draining());
    context.lifecycle.spawn("image-garbage", async move {
        loop {
            collector
                .collect()
                .await
                .unwrap_or_else(|error| failed("failed to delete unused pictures", &error));
            tokio::select! {
                () = draining.cancelled() => return Ok(()),
                () = woken.woken() => {}
                () = sleep(LOOK_FOR_GARBAGE) => {}
            }
        }
    });

    let (store_to_fold, clock_to_fold) = (store.clone(), context.clock.clone());
    spawn_periodic(context, "category-fold", FOLD_EVERY, move || {
        fold(store_to_fold.clone(), clock_to_fold.clone())
    });

    let (store_to_view, clock_to_view) = (store.clone(), context.clock.clone());
    let mut rounds = context.lifecycle.rounds(BUILD_EVERY);
    context.lifecycle.spawn("post-view-build", async move {
        while rounds.next().await {
            let built = rounds.interruptible(store_to_view.build_view(clock_to_view.now()));
            match built.await {
                None => break,
                Some(Err(error)) => failed("failed to build the post view; retrying", &error),
                Some(Ok(())) => match store_to_view.is_view_built().await {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => failed("failed to build the post view; retrying", &error),
                },
            }
        }
        Ok(())
    });

    let (store, clock) = (store.clone(), context.clock.clone());
    let keep = token_lifetime.saturating_add(FORGET_AFTER);
    spawn_periodic(context, "forget-expired", FORGET_EVERY, move || {
        forget_expired(store.clone(), clock.clone(), keep)
    });
    handle
}

/// Wakes the task of [`renew_images`].
pub type RenewalHandle = WakeHandle;

/// Takes what suspended accounts do out of the counts, and what restored ones do in. Gives the pictures of suspended authors new ids, and those of
/// hidden posts that were written to when they were hidden. Copies that are left by the end of the process are garbage once their reservation has expired.
pub fn renew_images(
    context: &Context,
    store: &Arc<dyn Store>,
    images: &Images,
    garbage: &GarbageHandle,
    relay: &RelayHandle,
    metrics: &FeedMetrics,
) -> RenewalHandle {
    let handle = RenewalHandle::default();
    let renewer = Renewer {
        store: store.clone(),
        images: images.clone(),
        clock: context.clock.clone(),
        garbage: garbage.clone(),
        relay: relay.clone(),
        contended: metrics.renewals_contended.clone(),
    };
    let (woken, draining) = (handle.clone(), context.lifecycle.draining());
    context.lifecycle.spawn("image-renewal", async move {
        while draining.run_until_cancelled(renewer.round()).await.is_some() {
            tokio::select! {
                () = draining.cancelled() => {}
                () = woken.woken() => {}
                () = sleep(LOOK_FOR_RENEWALS) => {}
            }
        }
        Ok(())
    });
    handle
}

/// Sets the gauges of held posts and comments.
pub fn count_held(context: &Context, store: &Arc<dyn Store>, metrics: &FeedMetrics, settings: &Live<Settings>) {
    let (store, clock) = (store.clone(), context.clock.clone());
    let (metrics, settings) = (metrics.clone(), settings.clone());
    spawn_periodic(context, "held-count", COUNT_HELD_EVERY, move || {
        set_held(store.clone(), clock.clone(), metrics.clone(), settings.clone())
    });
}

/// Spawns a task that does this work at once and then at each interval, until the service drains.
fn spawn_periodic<F>(context: &Context, name: &'static str, every: Duration, work: impl Fn() -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut rounds = context.lifecycle.rounds(every);
    context.lifecycle.spawn(name, async move {
        while rounds.next().await {
            work().await;
        }
        Ok(())
    });
}

/// The next round tries again.
fn failed(what: &'static str, error: &StoreError) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}

async fn fold(store: Arc<dyn Store>, clock: Arc<dyn Clock>) {
    loop {
        match store.fold(FOLD_AT_ONCE, clock.now()).await {
            Ok(folded) if folded == FOLD_AT_ONCE as usize => {}
            Ok(_) => return,
            Err(error) => return failed("failed to fold category changes", &error),
        }
    }
}

/// `keep` is how long resignations are kept.
async fn forget_expired(store: Arc<dyn Store>, clock: Arc<dyn Clock>, keep: Duration) {
    let before = |kept: Duration| clock.now().checked_sub(kept).unwrap_or(Timestamp::MIN);
    let forgotten = store.forget_erasures(before(keep)).await;
    forgotten.unwrap_or_else(|error| failed("failed to delete old resignations", &error));
    let forgotten = store.forget_keys(clock.now()).await;
    forgotten.unwrap_or_else(|error| failed("failed to delete expired idempotency keys", &error));
    let forgotten = store.forget_reported(before(REPORTED_KEPT)).await;
    forgotten.unwrap_or_else(|error| failed("failed to delete copies of old reports", &error));
    let swept = store.sweep_view(before(TOMBSTONES_KEPT)).await;
    swept.unwrap_or_else(|error| failed("failed to delete old tombstones of the post view", &error));
    let forgotten = store.forget_recommended(Day::in_korea(clock.now())).await;
    forgotten.unwrap_or_else(|error| failed("failed to delete recommendations of earlier days", &error));
}

async fn set_held(store: Arc<dyn Store>, clock: Arc<dyn Clock>, metrics: FeedMetrics, settings: Live<Settings>) {
    let deadline = settings.get().review.deadline;
    let late_before = clock.now().checked_sub(deadline).unwrap_or(Timestamp::MIN);
    match store.held(late_before).await {
        Ok(held) => {
            metrics.held_waiting.set(held.waiting);
            metrics.held_late.set(held.late);
        }
        Err(error) => failed("failed to count held posts and comments", &error),
    }
}

#[derive(Debug)]
struct Renewer {
    store: Arc<dyn Store>,
    images: Images,
    clock: Arc<dyn Clock>,
    garbage: GarbageHandle,
    relay: RelayHandle,
    contended: prometheus::IntCounter,
}

impl Renewer {
    async fn round(&self) {
        self.recount().await;
        self.renew().await;
    }

    /// Makes the counts follow the states of accounts. An account that fails does not stop the others; the next round tries it again.
    async fn recount(&self) {
        let changes = self.store.uncounted().await.unwrap_or_else(|error| {
            failed("failed to read which accounts are to be counted", &error);
            Vec::new()
        });
        for change in changes {
            let counted = self.recount_account(&change).await;
            counted.unwrap_or_else(|error| failed("failed to count the posts of an account's marks; retrying", &error));
        }
    }

    async fn recount_account(&self, change: &StateChange) -> Result<(), StoreError> {
        if !self.store.lease_renewals().await? {
            return Ok(());
        }
        let recounted = self.store.recount(change, self.clock.now()).await;
        self.relay.wake();
        recounted
    }

    /// Renews what waits. An account that fails, or has a post that is written to at each try, does not stop the others; the next round tries it again.
    async fn renew(&self) {
        let renewals = self.store.renewals().await.unwrap_or_else(|error| {
            failed("failed to read which pictures need new ids", &error);
            Vec::new()
        });
        for renewal in renewals {
            if let Err(error) = self.renew_account(&renewal).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to give the pictures of an account new ids; retrying"
                );
            }
        }
    }

    async fn renew_account(&self, renewal: &Renewal) -> Result<(), Error> {
        let (store, clock) = (self.store.as_ref(), self.clock.as_ref());
        let mut after = None;
        let mut is_done = true;
        loop {
            let posts = store.known_pictures(&renewal.account, after).await?;
            let Some(last) = posts.last() else { break };
            after = Some(last.date.day());
            for post in &posts {
                // The replica that has it goes on; if it is killed, another one begins anew.
                if !store.lease_renewals().await? {
                    return Ok(());
                }
                if copies::renew(store, &self.images, clock, &renewal.account, *post).await? == Renewed::Contended {
                    is_done = false;
                    self.contended.inc();
                }
                self.garbage.wake();
            }
        }
        if is_done {
            store.end_renewal(renewal).await?;
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Collector {
    store: Arc<dyn Store>,
    images: Images,
    clock: Arc<dyn Clock>,
    deleted: prometheus::IntCounter,
}

impl Collector {
    /// First from the image store, then from the ledger: a crash between the two deletes once more what is not there.
    async fn collect(&self) -> Result<(), StoreError> {
        loop {
            let garbage = self.store.garbage(self.clock.now(), PICTURES_A_ROUND).await?;
            let full = garbage.len() == PICTURES_A_ROUND as usize;
            let tried: Vec<(ImageId, bool)> = stream::iter(garbage)
                .map(async |image| (image, self.delete(image).await))
                .buffer_unordered(PICTURES_AT_ONCE)
                .collect()
                .await;
            let (gone, left): (Vec<_>, Vec<_>) = tried.into_iter().partition(|(_, deleted)| *deleted);
            let ids = |list: Vec<(ImageId, bool)>| list.into_iter().map(|(image, _)| image).collect::<Vec<_>>();
            self.deleted.inc_by(gone.len() as u64);
            self.store.forget(&ids(gone)).await?;
            self.store
                .postpone(&ids(left), self.clock.now() + AFTER_A_FAILURE)
                .await?;
            if !full {
                return Ok(());
            }
        }
    }

    async fn delete(&self, image: ImageId) -> bool {
        match self.images.delete(image).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "deleting unreferenced image failed"
                );
                false
            }
        }
    }
}
