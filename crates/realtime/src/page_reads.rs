//! Reads of numbered frames, shared by the sockets of one account at this replica.
//!
//! A record signals all of them at once. The first socket reads the store, and the others share its read: one, however many sockets. A socket never
//! gets the result of a read that began before its signal, because that read may have missed what was stored: sockets with a later signal share
//! the next read, which begins after the running one.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use sosohappy_common::Problem;

use crate::Page;

type Outcome = Result<Arc<Page>, Problem>;

/// A read for the sockets that hold it. Each of them drives it: a socket whose client is slow delays none of the others.
pub(crate) type Read = Shared<BoxFuture<'static, Outcome>>;

/// Clones share the reads.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageReads(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The number of the newest read.
    made: u64,
    /// How many reads have begun.
    begun: u64,
    running: Option<Known>,
    /// Made, and not begun: more sockets may join it.
    next: Option<Known>,
}

#[derive(Debug)]
struct Known {
    number: u64,
    after: i64,
    /// Which of the reads that have begun it is; 0 of one that has not.
    begun: u64,
    /// Only the sockets that wait keep a read and its frames.
    read: WeakShared<BoxFuture<'static, Outcome>>,
}

impl Known {
    fn of(known: Option<&Self>, after: i64) -> Option<Read> {
        known.filter(|known| known.after == after)?.read.upgrade()
    }
}

impl State {
    fn begin(&mut self, number: u64) {
        self.begun += 1;
        if let Some(mut next) = self.next.take_if(|next| next.number == number) {
            next.begun = self.begun;
            self.running = Some(next);
        }
    }
}

impl PageReads {
    /// Returns how many reads have begun: a signal that is given now needs a later one.
    pub fn begun(&self) -> u64 {
        self.0.lock().begun
    }

    /// Returns a read of the frames after a number that is not among the first `begun` ones: the running one, or the one that begins next, made of
    /// `read` unless another socket has made it.
    pub fn get<F>(&self, after: i64, begun: u64, read: impl FnOnce() -> F) -> Read
    where
        F: Future<Output = Result<Page, Problem>> + Send + 'static,
    {
        let mut state = self.0.lock();
        let later = state.running.as_ref().filter(|running| running.begun > begun);
        // One that has failed is not what a socket that tries again waits for.
        let later = Known::of(later, after).filter(|read| !matches!(read.peek(), Some(Err(_))));
        if let Some(running) = later {
            return running;
        }
        if let Some(next) = Known::of(state.next.as_ref(), after) {
            return next;
        }
        let running = Known::of(state.running.as_ref(), after);
        state.made += 1;
        let (number, reads, read) = (state.made, self.0.clone(), read());
        let made = async move {
            if let Some(running) = running {
                // Its outcome is for those that have joined it.
                let _ = running.await;
            }
            reads.lock().begin(number);
            read.await.map(Arc::new)
        };
        let made = made.boxed().shared();
        state.next = made.downgrade().map(|read| Known {
            number,
            after,
            begun: 0,
            read,
        });
        made
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::future::join_all;

    use super::*;

    #[derive(Debug, Default)]
    struct Numbers {
        newest: AtomicI64,
        reads: AtomicUsize,
    }

    async fn page(store: Arc<Numbers>) -> Result<Page, Problem> {
        store.reads.fetch_add(1, Ordering::SeqCst);
        let until = store.newest.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(Page {
            until,
            ..Page::default()
        })
    }

    /// Waits for a read of the frames after 0 that begins after a signal of now.
    async fn wait(reads: PageReads, store: Arc<Numbers>) -> i64 {
        let page = reads.get(0, reads.begun(), || page(store)).await;
        page.expect("a page").until
    }

    #[tokio::test(start_paused = true)]
    async fn sockets_with_one_signal_share_a_read() {
        let (store, reads) = (Arc::new(Numbers::default()), PageReads::default());
        for signal in 1..=3 {
            let begun = reads.begun();
            let mut first = reads.get(0, begun, || page(store.clone()));
            assert!(futures::poll!(&mut first).is_pending(), "it reads");
            let others = (1..10).map(|_| reads.get(0, begun, || page(store.clone())));
            assert!(join_all(others).await.iter().all(Result::is_ok));
            assert!(first.await.is_ok());
            assert_eq!(store.reads.load(Ordering::SeqCst), signal);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sockets_whose_signals_come_during_a_read_share_the_next() {
        let (store, reads) = (Arc::new(Numbers::default()), PageReads::default());
        let sockets = (0..10).map(|_| wait(reads.clone(), store.clone()));
        join_all(sockets).await;
        assert_eq!(store.reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_has_failed_is_not_shared_by_those_that_try_again() {
        let (store, reads) = (Arc::new(Numbers::default()), PageReads::default());
        let failing = reads.get(0, 0, || async { Err(Problem::unavailable()) });
        assert!(failing.clone().await.is_err());
        let again = reads.get(0, 0, || page(store.clone())).await;
        assert!(again.is_ok());
        drop(failing);
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_sees_what_was_stored_before_it() {
        let (store, reads) = (Arc::new(Numbers::default()), PageReads::default());
        for value in 1..100_u32 {
            // It waits, runs or has ended when the value is stored.
            let earlier = tokio::spawn(wait(reads.clone(), store.clone()));
            tokio::time::sleep(Duration::from_millis(1) * (value % 70)).await;
            let value = i64::from(value);
            store.newest.store(value, Ordering::SeqCst);
            assert_eq!(wait(reads.clone(), store.clone()).await, value);
            earlier.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_stalls_or_ends_holds_up_no_other() {
        let (store, reads) = (Arc::new(Numbers::default()), PageReads::default());
        drop(reads.get(0, 0, || page(store.clone())));
        let mut stalled = reads.get(0, 0, || page(store.clone()));
        assert!(futures::poll!(&mut stalled).is_pending());
        for number in 2..5 {
            let read = reads.get(0, reads.begun(), || page(store.clone()));
            let read = tokio::time::timeout(Duration::from_secs(1), read).await;
            assert!(read.is_ok_and(|page| page.is_ok()));
            assert_eq!(store.reads.load(Ordering::SeqCst), number);
        }
        drop(stalled);
    }
}
