//! Lookups that many callers make at the same time, by few statements: thousands of clients that connect again at once do not ask the store one by
//! one.
//!
//! A lookup waits for a statement that begins after it, together with all others that have come by then, and is answered from its result. So it
//! sees what was committed before it began, by whichever replica; nothing is remembered from one statement to the next, and nothing can be
//! stale. The first lookup of a quiet time is not delayed.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Two statements begin at least this long after each other.
const PACE: Duration = Duration::from_millis(50);

/// Keys of one statement.
const MOST_KEYS: usize = 500;

type Found<K, V, E> = Result<Arc<HashMap<K, V>>, Arc<E>>;

/// The result of a statement; each lookup that waits for it has a clone.
type Waiting<K, V, E> = Shared<BoxFuture<'static, Found<K, V, E>>>;

/// Clones share the lookups.
pub struct SharedReads<K, V, E>(Arc<Inner<K, V, E>>);

impl<K, V, E> Clone for SharedReads<K, V, E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V, E> Debug for SharedReads<K, V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReads").finish_non_exhaustive()
    }
}

/// The answer to a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup<V> {
    pub value: Option<V>,
    /// Another lookup has caused the statement.
    pub joined: bool,
}

type Read<K, V, E> = dyn Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, E>> + Send + Sync;

struct Inner<K, V, E> {
    read: Box<Read<K, V, E>>,
    /// The statement that has not begun yet.
    next: Mutex<Option<Next<K, V, E>>>,
    /// Held while a statement is due and while it runs: there is one at a time.
    pace: tokio::sync::Mutex<Interval>,
}

struct Next<K, V, E> {
    keys: Arc<Mutex<HashSet<K>>>,
    found: Waiting<K, V, E>,
}

impl<K, V, E> SharedReads<K, V, E>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// `read` answers many keys by one statement, and leaves out those that it does not find.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new<R>(read: R) -> Self
    where
        R: Fn(Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>, E>> + Send + Sync + 'static,
    {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(Arc::new(Inner {
            read: Box::new(read),
            next: Mutex::new(None),
            pace: tokio::sync::Mutex::new(pace),
        }))
    }

    /// Returns what the store has for a key now.
    pub async fn get(&self, key: &K) -> Result<Lookup<V>, Arc<E>> {
        let (found, joined) = self.join(key);
        let value = found.await?.get(key).cloned();
        Ok(Lookup { value, joined })
    }

    /// Adds a key to the statement that has not begun yet; under the lock, as its beginning is.
    fn join(&self, key: &K) -> (Waiting<K, V, E>, bool) {
        let mut next = self.0.next.lock();
        if let Some(next) = &*next {
            let mut keys = next.keys.lock();
            if keys.len() < MOST_KEYS {
                keys.insert(key.clone());
                return (next.found.clone(), true);
            }
        }
        // A full statement takes no more keys.
        let keys = Arc::new(Mutex::new(HashSet::from([key.clone()])));
        let (inner, own) = (self.0.clone(), keys.clone());
        let found = async move {
            let mut pace = inner.pace.lock().await;
            pace.tick().await;
            let keys = inner.begin(&own);
            let found = (inner.read)(keys).await;
            found.map(Arc::new).map_err(Arc::new)
        };
        let found = found.boxed().shared();
        *next = Some(Next {
            keys,
            found: found.clone(),
        });
        (found, false)
    }
}

impl<K: Eq + Hash, V, E> Inner<K, V, E> {
    /// Takes the keys of a statement: later ones wait for the next.
    fn begin(&self, keys: &Arc<Mutex<HashSet<K>>>) -> Vec<K> {
        let mut next = self.next.lock();
        if next.as_ref().is_some_and(|next| Arc::ptr_eq(&next.keys, keys)) {
            *next = None;
        }
        std::mem::take(&mut *keys.lock()).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A store of numbers that counts statements.
    #[derive(Debug, Default)]
    struct Numbers {
        stored: Mutex<HashMap<usize, usize>>,
        statements: AtomicUsize,
        is_broken: Mutex<bool>,
    }

    fn reads(store: &Arc<Numbers>) -> SharedReads<usize, usize, String> {
        let store = store.clone();
        SharedReads::new(move |keys| {
            let store = store.clone();
            async move {
                store.statements.fetch_add(1, Ordering::SeqCst);
                assert!(keys.len() <= MOST_KEYS, "{} keys", keys.len());
                let stored = store.stored.lock().clone();
                tokio::time::sleep(Duration::from_millis(5)).await;
                if *store.is_broken.lock() {
                    return Err("unavailable".to_owned());
                }
                let found = keys.iter().filter_map(|key| Some((*key, *stored.get(key)?)));
                Ok(found.collect())
            }
            .boxed()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn lookups_at_the_same_time_share_statements() {
        let store = Arc::new(Numbers::default());
        store.stored.lock().extend((0..1_200).map(|key| (key, key * 2)));
        let reads = reads(&store);
        let alone = reads.get(&7).await.unwrap();
        assert_eq!((alone.value, alone.joined), (Some(14), false));
        assert_eq!(store.statements.load(Ordering::SeqCst), 1);

        let lookups = (0..1_300).map(|key| {
            let reads = reads.clone();
            async move { (key, reads.get(&key).await.unwrap()) }
        });
        let mut joined = 0;
        for (key, lookup) in futures::future::join_all(lookups).await {
            assert_eq!(lookup.value, (key < 1_200).then_some(key * 2), "{key}");
            joined += usize::from(lookup.joined);
        }
        let statements = store.statements.load(Ordering::SeqCst) - 1;
        assert_eq!((statements, joined), (3, 1_297), "500 keys each");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_sees_what_was_stored_before_it() {
        let store = Arc::new(Numbers::default());
        let reads = reads(&store);
        for value in 0..100_u32 {
            // Its statement waits, runs or has ended when the value is stored.
            let earlier = tokio::spawn({
                let reads = reads.clone();
                async move { reads.get(&1).await }
            });
            tokio::time::sleep(Duration::from_millis(1) * (value % 70)).await;
            let value = usize::try_from(value).unwrap();
            store.stored.lock().insert(1, value);
            assert_eq!(reads.get(&1).await.unwrap().value, Some(value));
            earlier.await.unwrap().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lookup_that_is_dropped_holds_up_no_other() {
        let store = Arc::new(Numbers::default());
        store.stored.lock().insert(1, 1);
        let reads = reads(&store);
        for _ in 0..20 {
            let dropped = tokio::time::timeout(Duration::from_millis(3), reads.get(&1)).await;
            drop(dropped);
            assert_eq!(reads.get(&1).await.unwrap().value, Some(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_reaches_all_that_wait_and_no_later_one() {
        let store = Arc::new(Numbers::default());
        store.stored.lock().insert(1, 1);
        let reads = reads(&store);
        *store.is_broken.lock() = true;
        let (one, other) = tokio::join!(reads.get(&1), reads.get(&2));
        assert_eq!(one.unwrap_err().as_str(), "unavailable");
        assert_eq!(other.unwrap_err().as_str(), "unavailable");
        *store.is_broken.lock() = false;
        assert_eq!(reads.get(&1).await.unwrap().value, Some(1));
    }
}
