//! Heartbeats of auth's relay: whether this replica may be missing revocations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sosohappy_bus::consume::{Consumer, HandleError, spawn_reader};
use sosohappy_bus::{Bus, Start};
use sosohappy_common::Context;
use sosohappy_events::Envelope;
use sosohappy_events::types::RelayHeartbeat;
use tokio::time::{Instant, MissedTickBehavior};

use crate::metrics::HeartbeatMetrics;

/// The service whose relay publishes revocations.
const AUTH: &str = "auth-service";

/// Revocations may be missing when auth's relay had not published everything up to this long ago. Less than the two seconds within
/// which a revoked token is refused: asking auth takes time as well.
const MISSING_AFTER: Duration = Duration::from_millis(1_500);

/// How often the age metric is updated.
const MEASURE: Duration = Duration::from_millis(500);

/// Two clocks run apart by at most one part in this many.
const DRIFT: u32 = 1_000;

/// What the heartbeats of auth's relay say. Clones share it.
#[derive(Debug, Clone)]
pub struct Heartbeats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    /// Milliseconds since `started` until which this replica counts as up to date.
    current_until: AtomicU64,
    last: Mutex<Option<Last>>,
    metrics: HeartbeatMetrics,
}

/// The last heartbeat, and the relay's clock as far as it can be told from here.
#[derive(Debug)]
struct Last {
    relay: String,
    sent_ms: i64,
    heard: Instant,
    /// The relay's clock at `heard`, by the heartbeat that was delayed least.
    clock_ms: i64,
}

impl Last {
    /// The relay's clock now. It may be behind, never ahead by more than a heartbeat's delay.
    fn clock_ms(&self, now: Instant) -> i64 {
        let elapsed = now.duration_since(self.heard);
        let elapsed = elapsed.saturating_sub(elapsed / DRIFT);
        self.clock_ms
            .saturating_add(i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Heartbeats {
    pub(crate) fn new(context: &Context) -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            current_until: AtomicU64::new(0),
            last: Mutex::default(),
            metrics: HeartbeatMetrics::new(&context.metrics),
        }))
    }

    /// Starts the reader of `heartbeat`. Until the first one arrives, revocations may be missing.
    #[must_use]
    pub fn start(context: &Context, bus: &Arc<dyn Bus>) -> Self {
        let heartbeats = Self::new(context);
        spawn_reader::<RelayHeartbeat>(context, bus.clone(), Start::Latest, heartbeats.clone());
        let measured = heartbeats.clone();
        let draining = context.lifecycle.draining();
        context.lifecycle.spawn("heartbeat-age", async move {
            let mut ticks = tokio::time::interval(MEASURE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while draining.run_until_cancelled(ticks.tick()).await.is_some() {
                measured.measure();
            }
            Ok(())
        });
        heartbeats
    }

    /// As if a heartbeat had just arrived, and the next ones would for ever; or as if none had.
    #[cfg(test)]
    pub(crate) fn assume_current(&self, are_current: bool) {
        let until = if are_current { u64::MAX } else { 0 };
        self.0.current_until.store(until, Ordering::Relaxed);
    }

    /// Whether everything auth has revoked until a moment ago is known here.
    #[must_use]
    pub fn are_current(&self) -> bool {
        self.ticks(Instant::now()) < self.0.current_until.load(Ordering::Relaxed)
    }

    fn ticks(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.0.started).as_millis()).unwrap_or(u64::MAX)
    }

    fn measure(&self) {
        let heard = self.0.last.lock().as_ref().map(|last| last.heard);
        let age = heard.unwrap_or(self.0.started).elapsed();
        self.0.metrics.age.set(age.as_secs_f64());
    }

    /// Notes a heartbeat. How late it is follows from its content: one that waited for a broker says nothing about the present.
    fn hear(&self, heartbeat: &RelayHeartbeat, now: Instant) {
        let sent_ms = heartbeat.sent_at.as_millisecond();
        let mut last = self.0.last.lock();
        let expected_ms = last
            .as_ref()
            // Another relay has another clock, and a clock that went back begins anew.
            .filter(|last| last.relay == heartbeat.relay && last.sent_ms <= sent_ms)
            .map(|last| last.clock_ms(now));
        let clock_ms = expected_ms.map_or(sent_ms, |expected| expected.max(sent_ms));
        *last = Some(Last {
            relay: heartbeat.relay.clone(),
            sent_ms,
            heard: now,
            clock_ms,
        });
        let behind = clock_ms.saturating_sub(heartbeat.published_until.as_millisecond());
        let behind = Duration::from_millis(u64::try_from(behind).unwrap_or(0));
        let left = MISSING_AFTER.saturating_sub(behind);
        let until = self.ticks(now + left);
        self.0.current_until.store(until, Ordering::Relaxed);
    }
}

#[async_trait]
impl Consumer<RelayHeartbeat> for Heartbeats {
    async fn handle(&self, Envelope { event, .. }: Envelope<RelayHeartbeat>) -> Result<(), HandleError> {
        if event.service == AUTH {
            self.hear(&event, Instant::now());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    struct Bench {
        heartbeats: Heartbeats,
        began: Instant,
    }

    fn bench() -> Bench {
        Bench {
            heartbeats: Heartbeats::new(&Context::system("feed-service", 0)),
            began: Instant::now(),
        }
    }

    impl Bench {
        /// A heartbeat sent now by a clock that is ahead, or behind, of this one.
        fn hear(&self, relay: &str, ahead_ms: i64, late_ms: i64) {
            let clock = i64::try_from(self.began.elapsed().as_millis()).unwrap() + 100 * HOUR_MS + ahead_ms;
            let sent_at = Timestamp::from_millisecond(clock - late_ms).unwrap();
            let heartbeat = RelayHeartbeat {
                service: AUTH.to_owned(),
                relay: relay.to_owned(),
                sent_at,
                published_until: sent_at,
            };
            self.heartbeats.hear(&heartbeat, Instant::now());
        }

        async fn pass(&self, millis: u64) {
            tokio::time::advance(Duration::from_millis(millis)).await;
        }

        fn are_current(&self) -> bool {
            self.heartbeats.are_current()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn revocations_may_be_missing_before_the_first_and_soon_after_the_last_heartbeat() {
        let bench = bench();
        assert!(!bench.are_current());
        for ahead_ms in [0, 30_000, -30_000] {
            bench.hear(&ahead_ms.to_string(), ahead_ms, 0);
            bench.pass(1_400).await;
            assert!(bench.are_current(), "whatever the clocks say");
            bench.pass(200).await;
            assert!(!bench.are_current());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_that_waited_for_the_broker_says_nothing_about_the_present() {
        let bench = bench();
        bench.hear("a", 0, 0);
        bench.pass(60_000).await;
        bench.hear("a", 0, 58_000);
        assert!(!bench.are_current());
        bench.hear("a", 0, 0);
        assert!(bench.are_current());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_and_another_relay_begin_anew() {
        let bench = bench();
        bench.hear("a", 11 * HOUR_MS, 0);
        bench.pass(500).await;
        bench.hear("a", 0, 0);
        assert!(bench.are_current(), "set back");
        bench.pass(500).await;
        bench.hear("a", HOUR_MS, 0);
        assert!(bench.are_current(), "set forward");
        bench.pass(500).await;
        bench.hear("b", -HOUR_MS, 0);
        assert!(bench.are_current(), "another replica leads");
    }

    #[tokio::test(start_paused = true)]
    async fn clocks_that_run_apart_slowly_stay_in_step() {
        let bench = bench();
        for beat in 0..200_000 {
            bench.hear("a", -beat / 4, 0);
            assert!(bench.are_current(), "beat {beat}");
            bench.pass(500).await;
        }
    }
}
