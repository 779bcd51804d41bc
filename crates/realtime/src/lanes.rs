//! Handles the items of one account in order, and those of different accounts at the same time: a flood for one account delays no other.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use sosohappy_common::correlation::{Correlation, correlation};
use sosohappy_common::lifecycle::Stage;
use sosohappy_common::{Account, Context};
use tokio::sync::Semaphore;
use tracing::{Instrument as _, Span};

/// Items of one account that wait. More are refused.
const MOST_WAITING: usize = 20_000;
/// Items that are handled at the same time, each of another account.
const AT_ONCE: usize = 32;

type Handler<T> = Box<dyn Fn(T) -> BoxFuture<'static, ()> + Send + Sync>;

/// A queue and, while it is not empty, a task for each account. Clones share them.
pub struct Lanes<T>(Arc<Inner<T>>);

struct Inner<T> {
    /// An account has an entry while its task runs.
    waiting: Mutex<HashMap<Account, VecDeque<Waiting<T>>>>,
    handle: Handler<T>,
    permits: Semaphore,
    context: Context,
}

/// An item with the span and the correlation of the record that it came with.
struct Waiting<T> {
    item: T,
    span: Span,
    correlation: Option<Correlation>,
}

impl<T> Clone for Lanes<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lanes(..)")
    }
}

impl<T: Send + 'static> Lanes<T> {
    #[must_use]
    pub fn new(context: &Context, handle: impl Fn(T) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            waiting: Mutex::default(),
            handle: Box::new(handle),
            permits: Semaphore::new(AT_ONCE),
            context: context.clone(),
        }))
    }

    /// Queues an item behind those of the account. Returns false when too many wait; the item is dropped then.
    ///
    /// The drain handles items that are queued before the consumers have ended. An item whose handling panics is lost, as a record whose consumer
    /// panics; the next one is handled all the same.
    #[must_use]
    pub fn push(&self, account: &Account, item: T) -> bool {
        let item = Waiting {
            item,
            span: Span::current(),
            correlation: correlation(),
        };
        {
            let mut waiting = self.0.waiting.lock();
            if let Some(lane) = waiting.get_mut(account) {
                let has_room = lane.len() < MOST_WAITING;
                if has_room {
                    lane.push_back(item);
                }
                return has_room;
            }
            waiting.insert(account.clone(), VecDeque::from([item]));
        }
        let (lanes, account) = (self.0.clone(), account.clone());
        let lifecycle = &self.0.context.lifecycle;
        lifecycle.spawn_at(Stage::Consuming, "lane", async move {
            while let Some(waiting) = lanes.next(&account) {
                lanes.handle(waiting).await;
            }
            Ok(())
        });
        true
    }
}

impl<T> Inner<T> {
    /// Takes the first item of an account; removes the account when none is left.
    fn next(&self, account: &Account) -> Option<Waiting<T>> {
        let mut waiting = self.waiting.lock();
        let first = waiting.get_mut(account)?.pop_front();
        if first.is_none() {
            waiting.remove(account);
        }
        first
    }

    async fn handle(&self, waiting: Waiting<T>) {
        let Waiting {
            item,
            span,
            correlation,
        } = waiting;
        // Fair: an account with many items waits behind each other account once an item. The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        // The panic hook logs a panic, in the span of the item.
        let handled = AssertUnwindSafe(async { (self.handle)(item).await }).catch_unwind();
        let handled = handled.map(drop).instrument(span);
        match correlation {
            Some(correlation) => correlation.scope(handled).await,
            None => handled.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn account(name: &str) -> Account {
        format!("{name}@example.com+kakao").parse().unwrap()
    }

    type Item = (&'static str, usize);

    /// Notes what was handled, in order; each item takes ten milliseconds.
    fn lanes(context: &Context) -> (Lanes<Item>, Arc<Mutex<Vec<Item>>>) {
        let handled = Arc::new(Mutex::new(Vec::new()));
        let lanes = Lanes::new(context, {
            let handled = handled.clone();
            move |item| {
                let handled = handled.clone();
                Box::pin(async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    handled.lock().push(item);
                })
            }
        });
        (lanes, handled)
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_for_one_account_delays_no_other_and_keeps_its_order() {
        let context = Context::system("notice-service", 0);
        let (lanes, handled) = lanes(&context);
        for number in 0..10_000 {
            assert!(lanes.push(&account("kim"), ("kim", number)));
        }
        let begun = tokio::time::Instant::now();
        for name in ["lee", "park"] {
            assert!(lanes.push(&account(name), (name, 0)));
        }
        while handled.lock().iter().filter(|(name, _)| *name != "kim").count() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
        assert!(handled.lock().len() < 20, "the flood waits");

        // A drain handles the rest.
        let dropped = context.lifecycle.shutdown(Duration::from_mins(10)).await;
        assert!(dropped.is_empty(), "{dropped:?}");
        let of_kim: Vec<usize> = handled
            .lock()
            .iter()
            .filter(|(name, _)| *name == "kim")
            .map(|(_, number)| *number)
            .collect();
        assert!(of_kim.into_iter().eq(0..10_000));
        assert!(lanes.0.waiting.lock().is_empty(), "an idle account costs nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_that_panics_holds_up_no_other() {
        let context = Context::system("notice-service", 0);
        let (sender, mut handled) = tokio::sync::mpsc::unbounded_channel();
        let lanes = Lanes::new(&context, move |number: usize| {
            assert_ne!(number, 1, "before its future");
            let sender = sender.clone();
            Box::pin(async move {
                assert_ne!(number, 3, "within its future");
                sender.send(number).unwrap();
            })
        });
        for number in 0..5 {
            assert!(lanes.push(&account("kim"), number));
        }
        for number in [0, 2, 4] {
            assert_eq!(handled.recv().await, Some(number));
        }
        let dropped = context.lifecycle.shutdown(Duration::from_mins(1)).await;
        assert!(dropped.is_empty(), "{dropped:?}");
        assert_eq!(context.lifecycle.failure(), None);
        assert!(lanes.0.waiting.lock().is_empty());
        assert_eq!(lanes.0.permits.available_permits(), AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_with_too_many_items_gets_no_more() {
        let context = Context::system("notice-service", 0);
        let (lanes, _handled) = lanes(&context);
        let mut taken = 0;
        while lanes.push(&account("kim"), ("kim", taken)) {
            taken += 1;
        }
        assert_eq!(taken, MOST_WAITING);
        assert!(lanes.push(&account("lee"), ("lee", 0)));
    }
}
