//! Frames count as shown when a version 2 client acknowledged them, or after an old client gave a sign of life.
//!
//! Neither the queue of a socket nor a successful write says that a client got a frame: the connection of a phone that lost its network
//! takes both for minutes. The hub therefore reports a frame as shown when one of the sockets that it was queued on has answered a ping
//! that was written behind it, or has sent any frame later. Frames without such an answer stay unreported, and their senders push them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use axum::body::Bytes;
use parking_lot::Mutex;

/// Called once, when the first of the sockets that a frame was queued on has shown it. Never called for a frame that none has shown.
///
/// The call runs in the task of the socket: it must not block.
#[derive(Clone)]
pub struct OnShown(Arc<Listeners>);

struct Listeners {
    shown: Mutex<Option<Callback>>,
    written: Mutex<Option<Callback>>,
}

type Callback = Box<dyn FnOnce() + Send>;

impl OnShown {
    #[must_use]
    pub fn new(callback: impl FnOnce() + Send + 'static) -> Self {
        Self(Arc::new(Listeners {
            shown: Mutex::new(Some(Box::new(callback))),
            written: Mutex::default(),
        }))
    }

    /// Calls back as well when the frame is written to the first of the sockets. That says nothing about whether its client gets it.
    #[must_use]
    pub fn on_written(self, callback: impl FnOnce() + Send + 'static) -> Self {
        *self.0.written.lock() = Some(Box::new(callback));
        self
    }

    pub(crate) fn report(&self) {
        call(&self.0.shown);
    }

    fn report_written(&self) {
        call(&self.0.written);
    }
}

fn call(listener: &Mutex<Option<Callback>>) {
    let callback = listener.lock().take();
    if let Some(callback) = callback {
        callback();
    }
}

impl fmt::Debug for OnShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnShown(..)")
    }
}

/// Written frames of one socket that wait for a sign of life. A client that reads and never answers cannot collect more: the oldest
/// count as not shown.
const MOST_UNANSWERED: usize = 1024;

/// Pings of one socket, numbered by their payload, and the written frames that the answers confirm.
#[derive(Debug, Default)]
pub(crate) struct Confirmations {
    /// Each with the number of the first ping behind it.
    unanswered: VecDeque<(u64, OnShown)>,
    /// The number of the last ping that was written.
    pinged: u64,
    /// The highest number that was answered.
    ponged: u64,
    /// Frames of version 2, by their sequence numbers.
    unacknowledged: VecDeque<(i64, OnShown)>,
}

impl Confirmations {
    /// A frame is written.
    pub fn wrote(&mut self, on_shown: OnShown) {
        on_shown.report_written();
        if self.unanswered.len() >= MOST_UNANSWERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((self.pinged + 1, on_shown));
    }

    /// A frame of version 2 is written; numbers ascend.
    pub fn wrote_numbered(&mut self, seq: i64, on_shown: OnShown) {
        on_shown.report_written();
        if self.unacknowledged.len() >= MOST_UNANSWERED {
            self.unacknowledged.pop_front();
        }
        self.unacknowledged.push_back((seq, on_shown));
    }

    /// The client has shown every numbered frame up to this one.
    pub fn acknowledge(&mut self, seq: i64) {
        while let Some((_, on_shown)) = self.unacknowledged.pop_front_if(|(written, _)| *written <= seq) {
            on_shown.report();
        }
        if self.unacknowledged.is_empty() {
            // An idle socket holds no buffer.
            self.unacknowledged = VecDeque::new();
        }
    }

    /// Returns the payload of the next ping.
    pub fn ping(&mut self) -> Bytes {
        self.pinged += 1;
        Bytes::copy_from_slice(&self.pinged.to_be_bytes())
    }

    /// Returns whether a ping has to be written behind the frames: one at a time, so that a busy socket has one per round trip.
    pub fn needs_ping(&self) -> bool {
        let is_behind = self.unanswered.back().is_some_and(|(behind, _)| *behind > self.pinged);
        is_behind && self.pinged == self.ponged
    }

    /// Returns whether the pong answers a ping of ours for the first time; then the frames before that ping are shown. A client may answer
    /// the latest of several pings only (RFC 6455 section 5.5.3).
    pub fn pong(&mut self, payload: &[u8]) -> bool {
        let Ok(number) = <[u8; 8]>::try_from(payload).map(u64::from_be_bytes) else {
            return false;
        };
        if number <= self.ponged || number > self.pinged {
            return false;
        }
        self.ponged = number;
        while let Some((_, on_shown)) = self.unanswered.pop_front_if(|(behind, _)| *behind <= number) {
            on_shown.report();
        }
        if self.unanswered.is_empty() {
            // An idle socket holds no buffer.
            self.unanswered = VecDeque::new();
        }
        true
    }

    /// A frame of the client that is no answer to a ping: everything written so far is shown.
    pub fn sign_of_life(&mut self) {
        for (_, on_shown) in std::mem::take(&mut self.unanswered) {
            on_shown.report();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn counting(count: &Arc<AtomicUsize>) -> OnShown {
        let count = count.clone();
        OnShown::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        })
    }

    #[test]
    fn a_pong_confirms_what_was_written_before_its_ping() {
        let shown = Arc::new(AtomicUsize::new(0));
        let count = || shown.load(Ordering::Relaxed);
        let mut confirmations = Confirmations::default();
        let early = confirmations.ping();
        confirmations.wrote(counting(&shown));
        assert!(!confirmations.needs_ping(), "one is on its way");
        assert!(confirmations.pong(&early));
        assert_eq!(count(), 0, "that ping was written before the frame");
        assert!(confirmations.needs_ping());
        let behind = confirmations.ping();
        confirmations.wrote(counting(&shown));
        assert!(confirmations.pong(&behind));
        assert_eq!(count(), 1);
        assert!(!confirmations.pong(&behind), "answered already");
        for odd in [&b""[..], b"12345678", &99_u64.to_be_bytes(), &[0; 8]] {
            assert!(!confirmations.pong(odd), "{odd:?}");
        }
        assert_eq!(count(), 1);
        confirmations.sign_of_life();
        assert_eq!(count(), 2);
    }

    #[test]
    fn only_an_acknowledgement_confirms_a_numbered_frame() {
        let shown = Arc::new(AtomicUsize::new(0));
        let mut confirmations = Confirmations::default();
        for seq in [3, 5, 8] {
            confirmations.wrote_numbered(seq, counting(&shown));
        }
        assert!(!confirmations.needs_ping());
        let ping = confirmations.ping();
        confirmations.pong(&ping);
        confirmations.sign_of_life();
        confirmations.acknowledge(2);
        assert_eq!(shown.load(Ordering::Relaxed), 0);
        confirmations.acknowledge(5);
        confirmations.acknowledge(4);
        assert_eq!(shown.load(Ordering::Relaxed), 2);
        confirmations.acknowledge(i64::MAX);
        assert_eq!(shown.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn the_first_of_several_sockets_reports() {
        let (shown, written) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let on_shown = counting(&shown).on_written({
            let written = written.clone();
            move || {
                written.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (mut one, mut other) = (Confirmations::default(), Confirmations::default());
        one.wrote(on_shown.clone());
        other.wrote(on_shown);
        assert_eq!((written.load(Ordering::Relaxed), shown.load(Ordering::Relaxed)), (1, 0));
        one.sign_of_life();
        other.sign_of_life();
        assert_eq!(shown.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_client_that_never_answers_collects_a_bounded_number() {
        let shown = Arc::new(AtomicUsize::new(0));
        let mut confirmations = Confirmations::default();
        for _ in 0..MOST_UNANSWERED + 10 {
            confirmations.wrote(counting(&shown));
        }
        confirmations.sign_of_life();
        assert_eq!(shown.load(Ordering::Relaxed), MOST_UNANSWERED);
    }
}
