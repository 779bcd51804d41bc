//! Rate limits by key (an address, an account) in bounded memory.
//!
//! The algorithm is GCRA (crate `governor`): a key may use its quota of a minute in one burst, and it is replenished evenly, one
//! every 60/n seconds. Each replica counts for itself.

use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use moka::sync::Cache;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::clock::Clock;

/// A key that is idle for this long has its whole quota again, so that evicting it changes nothing.
const PERIOD: Duration = Duration::from_mins(1);

/// A setting: a number a minute, at least 1, or `off` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    Off,
    PerMinute(NonZeroU32),
}

impl Rate {
    /// # Panics
    /// When `times` is 0: such a limit would refuse every call, and `Off` is for no limit.
    #[must_use]
    pub const fn per_minute(times: u32) -> Self {
        Self::PerMinute(NonZeroU32::new(times).expect("a limit is at least 1"))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of at least 1, or \"off\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Rate, E> {
                match text.trim() {
                    "off" => Ok(Rate::Off),
                    number => number
                        .parse()
                        .map(Rate::PerMinute)
                        .map_err(|_| E::custom("a whole number of at least 1, or off, is expected")),
                }
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "integer", "minimum": 1, "maximum": u32::MAX}, {"const": "off"}]})
    }
}

/// A setting: how many at once, at least 1, or `off` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtOnce(pub Option<NonZeroU32>);

impl AtOnce {
    pub const OFF: Self = Self(None);
}

impl<'de> Deserialize<'de> for AtOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Rate::deserialize(deserializer)? {
            Rate::Off => None,
            Rate::PerMinute(number) => Some(number),
        }))
    }
}

impl JsonSchema for AtOnce {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AtOnce".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Rate::json_schema(generator)
    }
}

/// The key of a quota: small, and cheap to clone.
pub trait Key: Hash + Eq + Clone + Send + Sync + 'static {}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Key for K {}

/// The key has used its quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("rate limited for {retry_after:?}")]
pub struct Limited {
    /// Time until the next one is allowed.
    pub retry_after: Duration,
}

impl Limited {
    /// Returns the value of `Retry-After`: whole seconds, rounded up, at least 1.
    #[must_use]
    pub fn retry_after_seconds(&self) -> u32 {
        let seconds = u32::try_from(self.retry_after.as_secs()).unwrap_or(u32::MAX);
        let fraction = u32::from(self.retry_after.subsec_nanos() > 0);
        seconds.saturating_add(fraction).max(1)
    }
}

/// One limit for each of many keys. Clones share the counts.
///
/// The number of keys is bounded. When more keys than that are used within a minute (a client that rotates addresses), the cache
/// keeps those used most often and evicts the others, which have their whole quota again.
pub struct KeyedLimiter<K: Key> {
    rate: Rate,
    /// None while the rate is off.
    counts: Option<Arc<Counts<K>>>,
}

struct Counts<K: Key> {
    limiter: RateLimiter<K, Table<K>, Monotonic, NoOpMiddleware<Nanos>>,
    table: Table<K>,
    /// Time in which one of the quota is replenished.
    interval: Nanos,
}

impl<K: Key> fmt::Debug for KeyedLimiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the keys: they are personal data.
        f.debug_struct("KeyedLimiter")
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

impl<K: Key> Clone for KeyedLimiter<K> {
    fn clone(&self) -> Self {
        Self {
            rate: self.rate,
            counts: self.counts.clone(),
        }
    }
}

impl<K: Key> KeyedLimiter<K> {
    /// Makes a limiter that keeps counts of at most `most_keys` keys.
    #[must_use]
    pub fn new(rate: Rate, most_keys: u64, clock: &Arc<dyn Clock>) -> Self {
        let counts = match rate {
            Rate::Off => None,
            Rate::PerMinute(times) => {
                let quota = Quota::per_minute(times);
                let table = Table::new(most_keys);
                Some(Arc::new(Counts {
                    limiter: RateLimiter::new(quota, table.clone(), Monotonic(clock.clone())),
                    table,
                    interval: quota.replenish_interval().into(),
                }))
            }
        };
        Self { rate, counts }
    }

    /// Returns the limiter before, with its counts, if the rate is the same; otherwise a new one, in which every key has its
    /// whole quota. For settings that change while the service runs.
    #[must_use]
    pub fn renewed(before: Option<&Self>, rate: Rate, most_keys: u64, clock: &Arc<dyn Clock>) -> Self {
        match before {
            Some(before) if before.rate == rate => before.clone(),
            _ => Self::new(rate, most_keys, clock),
        }
    }

    /// Uses one of the key's quota, or refuses.
    pub fn check(&self, key: &K) -> Result<(), Limited> {
        let Some(counts) = &self.counts else { return Ok(()) };
        counts.limiter.check_key(key).map_err(|refused| Limited {
            retry_after: refused.wait_time_from(counts.limiter.clock().now()),
        })
    }

    /// Gives back one that [`KeyedLimiter::check`] used.
    pub fn refund(&self, key: &K) {
        let Some(counts) = &self.counts else { return };
        let interval = counts.interval.as_u64();
        let given_back = counts.table.measure_and_replace(key, |arrival| {
            let arrival = arrival.map_or(0, Nanos::as_u64);
            Ok::<_, std::convert::Infallible>(((), Nanos::new(arrival.saturating_sub(interval))))
        });
        let Ok(()) = given_back;
    }

    /// Returns the number of keys whose counts are kept, including those that are about to be evicted.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.counts.as_ref().map_or(0, |counts| {
            counts.table.0.run_pending_tasks();
            counts.table.0.entry_count()
        })
    }
}

/// The counts of governor in a bounded cache that evicts idle keys.
#[derive(Clone)]
struct Table<K: Key>(Cache<K, Arc<InMemoryState>>);

impl<K: Key> Table<K> {
    fn new(most_keys: u64) -> Self {
        Self(Cache::builder().max_capacity(most_keys).time_to_idle(PERIOD).build())
    }
}

impl<K: Key> StateStore for Table<K> {
    type Key = K;

    fn measure_and_replace<T, F, E>(&self, key: &K, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let state = self.0.get_with_by_ref(key, Arc::default);
        state.measure_and_replace(&NotKeyed::NonKey, f)
    }
}

/// The clock of the service behind governor's trait.
#[derive(Debug, Clone)]
struct Monotonic(Arc<dyn Clock>);

impl governor::clock::Clock for Monotonic {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.monotonic().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn stopped() -> Arc<ManualClock> {
        ManualClock::at(jiff::Timestamp::UNIX_EPOCH)
    }

    fn of(clock: &Arc<ManualClock>) -> Arc<dyn Clock> {
        clock.clone()
    }

    fn rate(text: &str) -> Result<Rate, String> {
        let text = de::value::StrDeserializer::<de::value::Error>::new(text);
        Rate::deserialize(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rate_is_a_number_or_off() {
        assert_eq!(rate("300"), Ok(Rate::per_minute(300)));
        assert_eq!(rate("off"), Ok(Rate::Off));
        for wrong in ["0", "-1", "1.5", "", "none", "4294967296"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_quota_is_used_at_once_and_comes_back_evenly() {
        let clock = stopped();
        let limiter = KeyedLimiter::new(Rate::per_minute(30), 100, &of(&clock));
        for _ in 0..30 {
            limiter.check(&"kim").expect("within the quota");
        }
        let refused = limiter.check(&"kim").expect_err("the quota is used");
        assert_eq!(refused.retry_after, Duration::from_secs(2));
        assert_eq!(limiter.check(&"lee"), Ok(()), "each key has its own");
        clock.advance(Duration::from_millis(1999));
        let refused = limiter.check(&"kim").expect_err("one comes back every two seconds");
        assert_eq!(refused.retry_after_seconds(), 1);
        clock.advance(Duration::from_millis(1));
        assert_eq!(limiter.check(&"kim"), Ok(()));
        assert!(limiter.check(&"kim").is_err());
    }

    #[test]
    fn a_refunded_call_can_be_made_again() {
        let clock = stopped();
        let limiter = KeyedLimiter::new(Rate::per_minute(2), 100, &of(&clock));
        limiter.check(&1).expect("the first");
        limiter.check(&1).expect("the second");
        limiter.refund(&1);
        limiter.check(&1).expect("it was given back");
        assert!(limiter.check(&1).is_err());
        limiter.refund(&2);
        for _ in 0..2 {
            limiter.check(&2).expect("within the quota");
        }
        assert!(limiter.check(&2).is_err(), "a refund never adds to a whole quota");
    }

    #[test]
    fn threads_together_get_exactly_the_quota() {
        let clock = stopped();
        let limiter = KeyedLimiter::new(Rate::per_minute(100), 100, &of(&clock));
        let passed: usize = std::thread::scope(|scope| {
            let threads = [(); 8].map(|()| scope.spawn(|| (0..100).filter(|_| limiter.check(&"kim").is_ok()).count()));
            threads.map(|thread| thread.join().expect("no panic")).iter().sum()
        });
        assert_eq!(passed, 100);
    }

    #[test]
    fn rotating_keys_are_bounded_and_leave_a_flood_limited() {
        let clock = stopped();
        let limiter = KeyedLimiter::new(Rate::per_minute(50), 1_000, &of(&clock));
        let flood = u64::MAX;
        while limiter.check(&flood).is_ok() {}
        for key in 0..100_000 {
            limiter.check(&key).expect("a key used once is within its quota");
            if key % 10 == 0 {
                assert!(limiter.check(&flood).is_err(), "forgotten after {key} others");
            }
        }
        assert!(limiter.keys() <= 1_000, "{}", limiter.keys());
    }

    #[test]
    fn a_changed_rate_starts_anew_and_the_same_rate_does_not() {
        let clock = stopped();
        let limiter = KeyedLimiter::new(Rate::per_minute(1), 100, &of(&clock));
        limiter.check(&1).expect("the first");
        let same = KeyedLimiter::renewed(Some(&limiter), Rate::per_minute(1), 100, &of(&clock));
        assert!(same.check(&1).is_err());
        let other = KeyedLimiter::renewed(Some(&limiter), Rate::per_minute(2), 100, &of(&clock));
        assert_eq!(other.check(&1), Ok(()));
        let off = KeyedLimiter::renewed(Some(&limiter), Rate::Off, 100, &of(&clock));
        for _ in 0..1_000 {
            assert_eq!(off.check(&1), Ok(()));
        }
    }
}
