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
use tokio::time::Instant;

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

/// The state of auth's relay as its heartbeats report it. Clones share it.
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

/// The last heartbeat, and an estimate of the relay's clock.
#[derive(Debug)]
struct Last {
    relay: String,
    sent_ms: i64,
    received: Instant,
    /// The relay's clock at `received`, by the heartbeat that was delayed least.
    clock_ms: i64,
}

impl Last {
    /// Returns an estimate of the relay's clock. It may be behind, never ahead by more than a heartbeat's delay.
    fn clock_ms(&self, now: Instant) -> i64 {
        let elapsed = now.duration_since(self.received);
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
        let (measured, mut rounds) = (heartbeats.clone(), context.lifecycle.rounds(MEASURE));
        context.lifecycle.spawn("heartbeat-age", async move {
            while rounds.next().await {
                measured.measure();
            }
            Ok(())
        });
        heartbeats
    }

    /// Acts as if heartbeats arrived from now on for ever, or as if none had arrived.
    #[cfg(test)]
    pub(crate) fn assume_current(&self, are_current: bool) {
        let until = if are_current { u64::MAX } else { 0 };
        self.0.current_until.store(until, Ordering::Relaxed);
    }

    /// Returns whether this replica knows every revocation that auth made until a moment ago.
    #[must_use]
    pub fn are_current(&self) -> bool {
        self.ticks(Instant::now()) < self.0.current_until.load(Ordering::Relaxed)
    }

    fn ticks(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.0.started).as_millis()).unwrap_or(u64::MAX)
    }

    fn measure(&self) {
        let received = self.0.last.lock().as_ref().map(|last| last.received);
        let age = received.unwrap_or(self.0.started).elapsed();
        self.0.metrics.age.set(age.as_secs_f64());
    }

    /// Records a heartbeat. Its delay follows from its content: one that waited for a broker proves nothing about the present.
    fn receive(&self, heartbeat: &RelayHeartbeat, now: Instant) {
        let sent_ms = heartbeat.sent_at.as_millisecond();
        let mut last = self.0.last.lock();
        let expected_ms = last
            .as_ref()
            // The estimate begins anew for another relay, which has another clock, and for a clock that was set back.
            .filter(|last| last.relay == heartbeat.relay && last.sent_ms <= sent_ms)
            .map(|last| last.clock_ms(now));
        let clock_ms = expected_ms.map_or(sent_ms, |expected| expected.max(sent_ms));
        *last = Some(Last {
            relay: heartbeat.relay.clone(),
            sent_ms,
            received: now,
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
            self.receive(&event, Instant::now());
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
        fn receive(&self, relay: &str, ahead_ms: i64, late_ms: i64) {
            let clock = i64::try_from(self.began.elapsed().as_millis()).unwrap() + 100 * HOUR_MS + ahead_ms;
            let sent_at = Timestamp::from_millisecond(clock - late_ms).unwrap();
            let heartbeat = RelayHeartbeat {
                service: AUTH.to_owned(),
                relay: relay.to_owned(),
                sent_at,
                published_until: sent_at,
            };
            self.heartbeats.receive(&heartbeat, Instant::now());
        }

        async fn pass(&self, millis: u64) {
            tokio::time::advance(Duration::from_millis(millis)).await;
        }

        fn are_current(&self) -> bool {
            self.heartbeats.are_current()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_replica_is_current_only_soon_after_a_heartbeat() {
        let bench = bench();
        assert!(!bench.are_current());
        for ahead_ms in [0, 30_000, -30_000] {
            bench.receive(&ahead_ms.to_string(), ahead_ms, 0);
            bench.pass(1_400).await;
            assert!(bench.are_current(), "whatever the skew of the clocks");
            bench.pass(200).await;
            assert!(!bench.are_current());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_heartbeat_does_not_make_a_replica_current() {
        let bench = bench();
        bench.receive("a", 0, 0);
        bench.pass(60_000).await;
        bench.receive("a", 0, 58_000);
        assert!(!bench.are_current());
        bench.receive("a", 0, 0);
        assert!(bench.are_current());
    }

    #[tokio::test(start_paused = true)]
    async fn the_estimate_begins_anew_for_a_set_clock_and_another_relay() {
        let bench = bench();
        bench.receive("a", 11 * HOUR_MS, 0);
        bench.pass(500).await;
        bench.receive("a", 0, 0);
        assert!(bench.are_current(), "set back");
        bench.pass(500).await;
        bench.receive("a", HOUR_MS, 0);
        assert!(bench.are_current(), "set forward");
        bench.pass(500).await;
        bench.receive("b", -HOUR_MS, 0);
        assert!(bench.are_current(), "another replica leads");
        // The clock of the relay before was ahead by less than the time since.
        bench.receive("c", 1_400, 0);
        bench.pass(2_000).await;
        bench.receive("d", 0, 0);
        bench.pass(1_000).await;
        assert!(
            bench.are_current(),
            "for the whole time after a heartbeat of the next relay"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn slow_clock_drift_is_tolerated() {
        let bench = bench();
        for beat in 0..200_000 {
            bench.receive("a", -beat / 4, 0);
            assert!(bench.are_current(), "beat {beat}");
            bench.pass(500).await;
        }
    }
}
