//! Queue of frames for one socket's task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use parking_lot::Mutex;
use sosohappy_common::correlation::Correlation;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Close, Numbered, OnShown};

/// A bounded queue of frames, a ping that overtakes them, a signal that the store has numbered frames, and a closing. Holds no buffer while it is empty.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Queued>,
    ping: bool,
    signal: Option<Signal>,
    /// Of the newest signal that has one.
    cause: Option<Correlation>,
    /// Of the one signal that waits: of two the store has both frames.
    ready: Option<Ready>,
    closing: Option<Close>,
}

/// A frame, and the listener that is notified when it was shown.
#[derive(Debug, Clone)]
pub(crate) struct Queued {
    pub frame: Utf8Bytes,
    pub on_shown: Option<OnShown>,
}

/// A numbered frame that comes with the signal that it was stored.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    pub frame: Arc<Numbered>,
    made_at: Instant,
}

impl Ready {
    /// After it the account may no longer see the frame: the store is read.
    const VALID: Duration = Duration::from_secs(1);

    pub fn new(frame: Numbered) -> Self {
        Self {
            frame: Arc::new(frame),
            made_at: Instant::now(),
        }
    }

    pub fn is_valid(&self) -> bool {
        self.made_at.elapsed() <= Self::VALID
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    Queued,
    Full,
    Closing,
}

/// Why a socket asks the store for numbered frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Signal {
    /// A time has come: there is probably nothing new.
    Look,
    /// Frames were stored. So many reads of the account had begun then ([`crate::page_reads::PageReads::begun`]).
    Stored(u64),
}

#[derive(Debug, Clone)]
pub(crate) enum Next {
    Ping,
    Frame(Queued),
    /// With the request or event that caused it, and the frame that came with it.
    Signal(Signal, Option<Correlation>, Option<Ready>),
    Close(Close),
    Nothing,
}

impl Mailbox {
    pub fn push(&self, frame: Queued, limit: usize) -> Pushed {
        let mut state = self.state.lock();
        if state.closing.is_some() {
            return Pushed::Closing;
        }
        if state.frames.len() >= limit {
            return Pushed::Full;
        }
        state.frames.push_back(frame);
        drop(state);
        self.changed.notify_one();
        Pushed::Queued
    }

    pub fn ping(&self) {
        self.state.lock().ping = true;
        self.changed.notify_one();
    }

    /// The store may have numbered frames that were not written, of which `ready` is one.
    pub fn signal(&self, signal: Signal, cause: Option<Correlation>, ready: Option<Ready>) {
        {
            let mut state = self.state.lock();
            state.ready = ready.filter(|_| state.signal.is_none());
            state.signal = state.signal.max(Some(signal));
            state.cause = cause.or_else(|| state.cause.take());
        }
        self.changed.notify_one();
    }

    /// The first reason stays. Frames that wait are written before a gentle closing and dropped before any other.
    pub fn close(&self, reason: Close) {
        let mut state = self.state.lock();
        if state.closing.is_none() {
            state.closing = Some(reason);
            if !reason.is_gentle() {
                state.frames = VecDeque::new();
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    pub fn take(&self) -> Next {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.ping) && state.closing.is_none() {
            return Next::Ping;
        }
        if let Some(frame) = state.frames.pop_front() {
            if state.frames.is_empty() {
                state.frames = VecDeque::new();
            }
            return Next::Frame(frame);
        }
        if let Some(signal) = state.signal.take()
            && state.closing.is_none()
        {
            return Next::Signal(signal, state.cause.take(), state.ready.take());
        }
        state.closing.map_or(Next::Nothing, Next::Close)
    }

    /// Resolves when something was put in since the last call; the one caller is the socket's task. Safe to cancel.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(mailbox: &Mailbox, text: &'static str) -> Pushed {
        let queued = Queued {
            frame: Utf8Bytes::from_static(text),
            on_shown: None,
        };
        mailbox.push(queued, 2)
    }

    fn taken(mailbox: &Mailbox) -> String {
        match mailbox.take() {
            Next::Ping => "ping".to_owned(),
            Next::Frame(queued) => queued.frame.to_string(),
            Next::Signal(Signal::Stored(_), _, Some(ready)) => format!("frame {}", ready.frame.seq),
            Next::Signal(Signal::Stored(begun), cause, None) => cause.map_or_else(
                || format!("stored after {begun}"),
                |cause| format!("stored by {}", cause.id),
            ),
            Next::Signal(Signal::Look, ..) => "look".to_owned(),
            Next::Close(reason) => reason.label().to_owned(),
            Next::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn keeps_order_and_bound() {
        let mailbox = Mailbox::default();
        assert_eq!(push(&mailbox, "a"), Pushed::Queued);
        assert_eq!(push(&mailbox, "b"), Pushed::Queued);
        assert_eq!(push(&mailbox, "c"), Pushed::Full);
        assert_eq!(taken(&mailbox), "a");
        assert_eq!(taken(&mailbox), "b");
        assert_eq!(taken(&mailbox), "nothing");
    }

    #[test]
    fn a_restart_sends_waiting_frames_first() {
        let mailbox = Mailbox::default();
        push(&mailbox, "a");
        mailbox.close(Close::Restart);
        mailbox.close(Close::Policy);
        assert_eq!(push(&mailbox, "b"), Pushed::Closing);
        assert_eq!(taken(&mailbox), "a");
        assert_eq!(taken(&mailbox), "restart");
    }

    #[test]
    fn any_other_closing_drops_them() {
        let mailbox = Mailbox::default();
        push(&mailbox, "a");
        mailbox.close(Close::Policy);
        assert_eq!(taken(&mailbox), "policy");
    }

    #[tokio::test]
    async fn changes_before_the_wait_are_returned() {
        let mailbox = Mailbox::default();
        mailbox.signal(Signal::Look, None, None);
        mailbox.ping();
        mailbox.changed().await;
        assert_eq!(taken(&mailbox), "ping");
        assert_eq!(taken(&mailbox), "look");
        assert_eq!(taken(&mailbox), "nothing");
    }

    #[test]
    fn a_look_does_not_replace_the_signal_of_a_stored_frame() {
        let (look, stored) = (Signal::Look, Signal::Stored(7));
        for signals in [[stored, look], [look, stored], [stored, Signal::Stored(5)]] {
            let mailbox = Mailbox::default();
            for signal in signals {
                mailbox.signal(signal, None, None);
            }
            assert_eq!(taken(&mailbox), "stored after 7");
            assert_eq!(taken(&mailbox), "nothing");
        }
    }

    #[test]
    fn a_signal_has_the_newest_cause() {
        let cause = |id: &str| Correlation {
            id: id.into(),
            traceparent: None,
        };
        let mailbox = Mailbox::default();
        mailbox.signal(Signal::Stored(0), Some(cause("r-1")), None);
        mailbox.signal(Signal::Stored(0), Some(cause("r-2")), None);
        mailbox.signal(Signal::Look, None, None);
        assert_eq!(taken(&mailbox), "stored by r-2");
        mailbox.signal(Signal::Stored(0), None, None);
        assert_eq!(taken(&mailbox), "stored after 0");
    }

    fn ready(seq: i64) -> Ready {
        Ready::new(Numbered {
            seq,
            frame: Utf8Bytes::from_static("a"),
            on_shown: OnShown::new(|| ()),
        })
    }

    #[tokio::test]
    async fn of_two_signals_the_store_has_both_frames() {
        let (mailbox, stored) = (Mailbox::default(), Signal::Stored(0));
        for seq in [1, 2] {
            mailbox.signal(stored, None, Some(ready(seq)));
            assert_eq!(taken(&mailbox), format!("frame {seq}"));
        }
        for (first, second) in [(Some(3), Some(4)), (Some(5), None), (None, Some(6))] {
            for seq in [first, second] {
                mailbox.signal(stored, None, seq.map(ready));
            }
            assert_eq!(taken(&mailbox), "stored after 0", "{first:?} {second:?}");
            assert_eq!(taken(&mailbox), "nothing");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_is_valid_for_a_second() {
        let ready = ready(1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(ready.is_valid());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!ready.is_valid());
    }
}
