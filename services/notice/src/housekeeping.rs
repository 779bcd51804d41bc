//! Deletes notices, devices and memory against repeated events when they are old enough, and reads the size of the push queue.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sosohappy_common::Context;
use sosohappy_common::lifecycle::Lifecycle;
use sosohappy_common::settings::Live;

use crate::metrics::NoticeMetrics;
use crate::settings::Settings;
use crate::store::{Horizons, Store};

const EVERY: Duration = Duration::from_mins(10);

/// How often the gauges of the push queue are set.
const COUNTED_EVERY: Duration = Duration::from_secs(15);

/// Longer than any topic keeps a record that could be read again.
const MEMORY: Duration = Duration::from_hours(30 * 24);

/// Names that were published this long ago are known.
const NAMED: Duration = Duration::from_hours(1);

/// Longer than the minute in which pushes are counted.
const WINDOWS: Duration = Duration::from_hours(1);

pub fn spawn(context: &Context, settings: Live<Settings>, store: Arc<dyn Store>, metrics: NoticeMetrics) {
    spawn_queue_gauges(context, store.clone(), metrics);
    let (clock, mut rounds) = (context.clock.clone(), context.lifecycle.rounds(EVERY));
    let lifecycle = context.lifecycle.clone();
    context.lifecycle.spawn("notice-housekeeping", async move {
        while rounds.next().await {
            let before = |age: Duration| clock.now().checked_sub(age).unwrap_or(Timestamp::MIN);
            let horizons = Horizons {
                notices: before(settings.get().inbox.retention),
                memory: before(MEMORY),
                windows: before(WINDOWS),
                devices: before(settings.get().push.device_retention),
                gone: gone(&lifecycle, before(NAMED)),
            };
            if let Err(error) = store.sweep(horizons).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "deleting old notices failed");
            }
        }
        Ok(())
    });
}

/// Returns the moment, or none of the past while this replica has not read the names that were published before it started.
fn gone(lifecycle: &Lifecycle, before: Timestamp) -> Timestamp {
    if lifecycle.readiness().waiting_for.is_empty() {
        before
    } else {
        Timestamp::MIN
    }
}

fn spawn_queue_gauges(context: &Context, store: Arc<dyn Store>, metrics: NoticeMetrics) {
    let (clock, mut rounds) = (context.clock.clone(), context.lifecycle.rounds(COUNTED_EVERY));
    context.lifecycle.spawn("push-queue-gauges", async move {
        while rounds.next().await {
            // A database that is unavailable does not hold up the shutdown.
            let Some(queue) = rounds.interruptible(store.push_queue()).await else {
                break;
            };
            match queue {
                Ok(queue) => metrics.queued(queue, clock.now()),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "counting waiting pushes failed"
                ),
            }
        }
        Ok(())
    });
}

#[cfg(test)]
mod tests {
    use sosohappy_common::Account;
    use sosohappy_common::clock::ManualClock;
    use sosohappy_events::EventId;
    use sosohappy_events::types::SessionId;
    use sosohappy_testkit::{Bed, EngineSet, eventually};

    use super::*;
    use crate::DEFAULTS;
    use crate::domain::{Content, Notice};
    use crate::store::{self, DeviceChange};

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn no_account_is_gone_until_the_names_are_read() {
        let (lifecycle, now) = (Lifecycle::new("test"), Timestamp::UNIX_EPOCH);
        let gate = lifecycle.gate("names");
        assert_eq!(gone(&lifecycle, now), Timestamp::MIN);
        gate.open();
        assert_eq!(gone(&lifecycle, now), now);
    }

    /// The notice and the device of 11 days ago: the retention of devices is longer. With the defaults all would stay.
    #[tokio::test]
    async fn what_is_past_the_retention_of_the_settings_is_deleted() {
        let bed = Bed::new(EngineSet::Embedded).await;
        let more = [("inbox.retention", "10d"), ("push.device-retention", "20d")];
        let settings = bed.settings::<Settings>("notice", DEFAULTS, &more).await;
        let clock = ManualClock::at(bed.context.clock.now());
        let mut context = bed.context("notice-service");
        context.clock = clock.clone();
        let store = store::open(&settings.get().inbox, &context).await.unwrap().store;
        let kim: Account = "kim@example.com+kakao".parse().unwrap();
        let notice = || Notice {
            event: EventId::new(&context),
            receiver: kim.clone(),
            occurred_at: context.clock.now(),
            authorized_at: None,
            content: Content::Like {
                liker: "lee@example.com+google".parse().unwrap(),
                known_as: "lee".to_owned(),
                date: 2_023_090_513_248_392,
            },
        };
        let device = |session, token: &str| DeviceChange {
            account: kim.clone(),
            session: Some(SessionId(session)),
            token: Some(token.to_owned()),
            at: context.clock.now(),
        };
        store.change(&device(1, "phone")).await.unwrap();
        clock.advance(10 * DAY);
        store.change(&device(2, "pad")).await.unwrap();
        let (old, now) = (notice(), context.clock.now());
        store.add(&old, now).await.unwrap();
        clock.advance(11 * DAY);
        let (new, now) = (notice(), context.clock.now());
        store.add(&new, now).await.unwrap();

        spawn(&context, settings, store.clone(), NoticeMetrics::new(&context.metrics));
        eventually("the old notice and device are deleted", async || {
            let notices = store.after(&kim, &[], 0, 10).await.unwrap().notices;
            let devices = store.of(&kim).await.unwrap();
            let notices: Vec<EventId> = notices.iter().map(|notice| notice.id).collect();
            let tokens: Vec<&str> = devices.iter().map(|device| device.token.as_str()).collect();
            (notices == [new.event] && tokens == ["pad"]).then_some(())
        })
        .await;
    }
}
