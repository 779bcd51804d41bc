//! Timers: they end tokens and sessions, publish unfinished resignations again, make the looks of nicknames, and delete old codes and pictures.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_common::faults::Fault;
use sosohappy_store::{StoreError, Transient, retrying};

use crate::app::{App, later};
use crate::error::Error;
use crate::store::Transaction;
use crate::{connections, email_accounts, moderation, nicknames, resignations, sessions};

/// How late a timer may be.
const EVERY: Duration = Duration::from_millis(500);

/// Timers that are looked up at once.
const BATCH: u32 = 100;

/// Old codes and pictures only take up space.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(5);

/// Pictures of one round.
const PICTURES: u32 = 100;

/// How long a used code is kept after it expired: longer than the clocks of replicas differ, so that no replica finds a code both unused
/// and unexpired.
const CODES_KEPT: Duration = Duration::from_hours(1);

/// After the object store has failed to forget a picture.
const PICTURE_RETRY: Duration = Duration::from_mins(10);

pub fn spawn(app: &Arc<App>) {
    let lifecycle = &app.context.lifecycle;
    lifecycle.spawn("timers", {
        let app = app.clone();
        async move {
            while goes_on(&app, EVERY).await {
                for due in Due::ALL {
                    report(&app, due.kind(), fire_all(&app, due)).await;
                }
            }
            Ok(())
        }
    });
    lifecycle.spawn("nickname-looks", {
        let app = app.clone();
        async move {
            loop {
                report(&app, "nickname-looks", nicknames::make_looks(&app)).await;
                if !goes_on(&app, HOUSEKEEPING_EVERY).await {
                    return Ok(());
                }
            }
        }
    });
    lifecycle.spawn("housekeeping", {
        let app = app.clone();
        async move {
            while goes_on(&app, HOUSEKEEPING_EVERY).await {
                report(&app, "resignation-gauges", look_at_resignations(&app)).await;
                report(&app, "discarded-images", forget_images(&app)).await;
                report(&app, "authorize-codes", forget_codes(&app)).await;
                report(&app, "reserved-nicknames", forget_reservations(&app)).await;
                report(&app, "email-codes", email_accounts::forget_codes(&app)).await;
                report(&app, "muted-words", forget_muted_words(&app)).await;
                report(&app, "connection-log", connections::forget(&app)).await;
                report(&app, "reports", look_at_reports(&app)).await;
                report(&app, "tombstones", resignations::release_tombstones(&app)).await;
            }
            Ok(())
        }
    });
}

/// Waits for the next round; false when the service drains.
async fn goes_on(app: &App, every: Duration) -> bool {
    let draining = app.context.lifecycle.draining();
    tokio::time::timeout(every, draining.cancelled()).await.is_err()
}

/// Runs a round of a task. One that failed is tried again at the next one.
async fn report(app: &App, task: &'static str, round: impl Future<Output = Result<(), Error>>) {
    // There from the first round on, at nothing.
    let failures = app.metrics.task_failures.with_label_values(&[task]);
    let ended = if app.context.faults().has(Fault::FailingTask, task) {
        Err(Error::Store(StoreError::corrupt(
            "the fault switch fault.failing-task is on",
        )))
    } else {
        round.await
    };
    if let Err(error) = ended {
        failures.inc();
        tracing::warn!(task, error = &error as &dyn std::error::Error, "background task failed");
    }
}

#[derive(Debug, Clone, Copy)]
enum Due {
    AccessToken,
    RefreshToken,
    Resignation,
    Suspension,
}

impl Due {
    const ALL: [Self; 4] = [
        Self::AccessToken,
        Self::RefreshToken,
        Self::Resignation,
        Self::Suspension,
    ];

    fn kind(self) -> &'static str {
        match self {
            Self::AccessToken => sessions::ACCESS_TIMER,
            Self::RefreshToken => sessions::REFRESH_TIMER,
            Self::Resignation => resignations::TIMER,
            Self::Suspension => moderation::TIMER,
        }
    }

    /// Takes the timer after locking its row, in the order of all transactions, and does nothing when another replica was quicker.
    async fn fire(self, app: &App, tx: &mut dyn Transaction, key: &str) -> Result<(), TimerError> {
        match self {
            Self::AccessToken => sessions::expire(app, tx, parse(key)?).await?,
            Self::RefreshToken => sessions::run_out(app, tx, parse(key)?).await?,
            Self::Resignation => resignations::remind(app, tx, parse(key)?).await?,
            Self::Suspension => moderation::end_suspension(app, tx, &parse(key)?).await?,
        }
        Ok(())
    }
}

fn parse<T: FromStr>(key: &str) -> Result<T, TimerError> {
    key.parse().map_err(|_| TimerError::InvalidKey)
}

/// Why a timer did not fire.
#[derive(Debug, thiserror::Error)]
enum TimerError {
    #[error("the key is invalid")]
    InvalidKey,
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<StoreError> for TimerError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl Transient for TimerError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_transient())
    }
}

/// Fires what is due, each in a transaction of its own: several would lock their rows in any order. One that fails for a
/// reason of its own is postponed, one whose key is invalid is quarantined, and the others fire. The first failure is
/// returned in the end.
async fn fire_all(app: &App, due: Due) -> Result<(), Error> {
    let draining = app.context.lifecycle.draining();
    let mut failed = None;
    loop {
        let timers = app.store.due_timers(due.kind(), app.now(), BATCH).await?;
        for timer in &timers {
            if draining.is_cancelled() {
                return Ok(());
            }
            let error = match retrying(|| fire_one(app, due, &timer.key)).await {
                Ok(()) => continue,
                Err(TimerError::InvalidKey) => {
                    app.store.quarantine_timer(due.kind(), &timer.key).await?;
                    StoreError::corrupt("a timer has an invalid key").into()
                }
                // Nothing else would fire now either.
                Err(TimerError::Failed(error)) if is_unavailable(&error) => return Err(error),
                Err(TimerError::Failed(error)) => {
                    let delay = timer.delay();
                    tracing::error!(
                        kind = due.kind(),
                        attempt = timer.attempts + 1,
                        error = &error as &dyn std::error::Error,
                        ?delay,
                        "timer failed; postponed"
                    );
                    let now = app.now();
                    app.store
                        .postpone_timer(due.kind(), &timer.key, now, later(now, delay))
                        .await?;
                    error
                }
            };
            failed.get_or_insert(error);
        }
        if timers.len() < BATCH as usize {
            return failed.map_or(Ok(()), Err);
        }
    }
}

/// Whether the database as a whole does not serve, rather than this timer.
fn is_unavailable(error: &Error) -> bool {
    matches!(
        error,
        Error::Store(StoreError::Unavailable(_) | StoreError::Retry(_) | StoreError::Settings(_))
    )
}

async fn fire_one(app: &App, due: Due, key: &str) -> Result<(), TimerError> {
    let mut tx = app.store.begin().await?;
    due.fire(app, tx.as_mut(), key).await?;
    Ok(app.commit(tx).await?)
}

async fn forget_reservations(app: &App) -> Result<(), Error> {
    Ok(app.store.forget_reservations(app.now()).await?)
}

async fn forget_muted_words(app: &App) -> Result<(), Error> {
    Ok(app.store.forget_muted_words(app.now()).await?)
}

async fn forget_codes(app: &App) -> Result<(), Error> {
    let expired_before = app.now().checked_sub(CODES_KEPT).unwrap_or(Timestamp::MIN);
    Ok(app.store.forget_codes(expired_before).await?)
}

/// Sets the gauges of open reports, and deletes reports that were resolved long ago.
async fn look_at_reports(app: &App) -> Result<(), Error> {
    let reports = app.store.open_reports(app.now()).await?;
    app.metrics.open_reports.set(reports.open);
    app.metrics.late_reports.set(reports.late);
    app.metrics.unknown_reports.set(reports.unknown);
    let kept = app.settings.get().moderation.report_retention;
    let resolved_before = app.now().checked_sub(kept).unwrap_or(Timestamp::MIN);
    Ok(app.store.forget_reports(resolved_before).await?)
}

async fn look_at_resignations(app: &App) -> Result<(), Error> {
    let unfinished = app.store.unfinished_resignations().await?;
    app.metrics.unfinished_resignations.set(unfinished.count);
    let age = unfinished
        .oldest
        .map_or(0.0, |oldest| app.now().duration_since(oldest).as_secs_f64());
    app.metrics.oldest_resignation.set(age);
    Ok(())
}

/// The object store forgets first: should the process die in between, it is asked again, which does no harm. A picture it cannot
/// forget now is tried again later, and keeps none behind it waiting.
async fn forget_images(app: &App) -> Result<(), Error> {
    let mut failed = None;
    for image in app.store.discarded_images(app.now(), PICTURES).await? {
        match app.images.delete(image).await {
            Ok(()) => app.store.forget_discarded_image(image).await?,
            Err(error) => {
                let due_at = later(app.now(), PICTURE_RETRY);
                app.store.postpone_discarded_image(image, due_at).await?;
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}
